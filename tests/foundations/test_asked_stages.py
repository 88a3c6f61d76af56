"""The stages `sentences`, `questions` and `pairs`: on the world, in every format, with what is missing."""

import json
import shutil

import pytest
from PIL import Image

from tests.small import run_stage
from vlpnb.config import parse_config
from vlpnb.course import open_run
from vlpnb.data.asked import PictureNames
from vlpnb.data.asked_data import load_pairs, load_questions, load_sentences
from vlpnb.data.description import CaptionData, CaptionFiles
from vlpnb.data.lxmert import normalise_answer
from vlpnb.errors import UserError
from vlpnb.foundations.pairs import PAIRS, PairsConfig
from vlpnb.foundations.questions import QUESTIONS, QuestionsConfig
from vlpnb.foundations.sentences import SENTENCES, SentencesConfig
from vlpnb.world.knowledge import ATTRIBUTES
from vlpnb.world.scene import KINDS

SPLITS = ("train", "valid", "test")


def questions_of(small_world, folder, **sections):
    config = parse_config(QuestionsConfig, {"root": str(small_world.world), **sections})
    metrics = run_stage(QUESTIONS, config, folder)
    return load_questions(folder), metrics


def test_the_world_has_sentences_of_four_sources(small_world):
    data = load_sentences(small_world.sentences)
    table = data.table()
    for split in data.splits:
        images = data.read(split)
        assert {source for image in images for source in image.sentences} == {"mscoco", "vg", "vqa", "gqa"}
        assert all(image.image_id.startswith(f"world_{split}_") for image in images)
        assert all(path.is_file() for path in data.images(split).values())
        assert data.images(split).keys() == {image.image_id for image in images}
        for image in images:
            assert set(image.labels) == set(image.sentences) & {"vqa", "gqa"}
            for source, labels in image.labels.items():
                assert len(labels) == len(image.sentences[source])
                assert all(table.prune(label) for label in labels)
    assert list(table.answers) == sorted(set(table.answers))
    assert all(answer == normalise_answer(answer) for answer in table.answers)
    assert table.restricted(["gqa"]).answers != table.answers


def test_region_phrases_never_say_a_canonical_colour(small_world):
    canonical = {f"{kind.colour} {name}" for name, kind in KINDS.items() if kind.colour is not None}
    phrases = {
        p for image in load_sentences(small_world.sentences).read("train") for p in image.sentences["vg"]
    }
    assert canonical
    assert "colour" in ATTRIBUTES
    assert not canonical & phrases
    assert any(len(phrase.split()) == 2 for phrase in phrases)


def test_some_sources_are_kept(small_world, tmp_path):
    run_stage(SENTENCES, SentencesConfig(sources=("mscoco", "vqa")), tmp_path, world=small_world.world)
    images = load_sentences(tmp_path).read("valid")
    assert {s for image in images for s in image.sentences} == {"mscoco", "vqa"}
    assert {s for image in images for s in image.labels} == {"vqa"}


def test_captions_are_sentences_too(small_world, tmp_path):
    world, folder = small_world.world, tmp_path / "captions"
    folder.mkdir()
    files = {split: (world / f"annotations/captions_{split}.json",) for split in SPLITS}
    CaptionData(world, CaptionFiles("coco", files, str(world / "images/{split}"))).save(folder)
    metrics = run_stage(
        SENTENCES, SentencesConfig(format="captions"), tmp_path / "sentences", captions=folder
    )
    data = load_sentences(tmp_path / "sentences")
    assert (data.splits, data.table()) == (SPLITS, None)
    assert metrics["train_questions"] == 0
    original = load_sentences(small_world.sentences).read("train")
    assert [(i.image_id, i.sentences["captions"]) for i in data.read("train")] == [
        (i.image_id, i.sentences["mscoco"]) for i in original
    ]
    assert data.images("train").keys() == {i.image_id for i in original}


def test_missing_pictures_leave_their_sentences_questions_and_pairs_out_and_are_listed(small_world, tmp_path):
    world = tmp_path / "world"
    shutil.copytree(small_world.world, world)
    whole = load_questions(small_world.questions)
    victim = whole.read("vqa", "train")[0].image_id
    (world / f"images/train/{victim}.png").unlink()
    sentences = run_stage(SENTENCES, SentencesConfig(), tmp_path / "s", world=world)
    questions = run_stage(QUESTIONS, QuestionsConfig(), tmp_path / "q", world=world)
    assert sentences["missing_images"] == 1
    assert (tmp_path / "s/missing.txt").read_text() == f"train {victim}\n"
    assert victim not in {image.image_id for image in load_sentences(tmp_path / "s").read("train")}
    data = load_questions(tmp_path / "q")
    lost = [q for t in ("vqa", "gqa") for q in whole.read(t, "train") if q.image_id == victim]
    assert questions["missing_questions"] == len(lost)
    listed = (tmp_path / "q/missing.txt").read_text().splitlines()
    assert listed[0] == f"vqa train {lost[0].question_id} {victim}"
    assert data.annotated("vqa", "train") == whole.read("vqa", "train")
    assert victim not in {q.image_id for q in data.read("vqa", "train")} | data.images("vqa", "train").keys()
    pair = load_pairs(small_world.pairs).read("valid")[0]
    (world / f"nlvr2/images/valid/{pair.right}.png").unlink()
    metrics = run_stage(PAIRS, PairsConfig(), tmp_path / "p", world=world)
    assert metrics["missing_pairs"] == 1
    assert (tmp_path / "p/missing.txt").read_text() == f"valid {pair.identifier}\n"
    assert pair not in load_pairs(tmp_path / "p").read("valid")
    shutil.rmtree(world / "images/train")
    for stage, config, message in (
        (SENTENCES, SentencesConfig(), "none of the 60 pictures of split 'train' exists"),
        (QUESTIONS, QuestionsConfig(), "questions of split 'train' none has its picture"),
    ):
        with pytest.raises(UserError, match=message):
            run_stage(stage, config, tmp_path / "again", world=world)


def test_official_files_and_lxmerts_say_the_same(small_world, tmp_path):
    official = load_questions(small_world.questions)
    own = {
        task: {
            "format": "lxmert",
            "questions": {split: f"lxmert/{task}/{split}.json" for split in SPLITS},
            "answers": f"lxmert/{task}/trainval_label2ans.json",
        }
        for task in ("vqa", "gqa")
    }
    data, _ = questions_of(small_world, tmp_path / "q", **own)
    for task in ("vqa", "gqa"):
        assert data.answers(task) == official.answers(task)
        for split in SPLITS:
            pairs = list(zip(data.read(task, split), official.read(task, split), strict=True))
            assert pairs
            for ours, theirs in pairs:
                for name in ("question_id", "image_id", "sentence", "targets", "answer_type"):
                    assert getattr(ours, name) == getattr(theirs, name)
    config = PairsConfig(format="lxmert", statements={s: f"lxmert/nlvr2/{s}.json" for s in SPLITS})
    run_stage(PAIRS, config, tmp_path / "p", world=small_world.world)
    for split in SPLITS:
        assert load_pairs(tmp_path / "p").read(split) == load_pairs(small_world.pairs).read(split)


def test_answers_of_the_training_split_by_how_often_they_are_right(small_world, tmp_path):
    every, _ = questions_of(small_world, tmp_path / "a", vqa={"answers": ""}, gqa=None)
    some, metrics = questions_of(small_world, tmp_path / "b", vqa={"answers": "", "min_answers": 3}, gqa=None)
    train = every.read("vqa", "train")
    best = [max(q.targets, key=q.targets.get) for q in train]
    assert every.answers("vqa") == tuple(sorted(set(best)))
    assert set(some.answers("vqa")) == {answer for answer in best if best.count(answer) >= 3}
    outside = [q for q in train if not set(some.answers("vqa")) & q.targets.keys()]
    assert metrics["vqa_train_outside"] == len(outside) > 0
    assert some.read("vqa", "train") == train  # they stay
    listed = [line for line in (tmp_path / "b/outside.txt").read_text().splitlines() if " train " in line]
    assert len(listed) == len(outside)
    with pytest.raises(UserError, match=r"0 answers occur 1000 times.*min_answers"):
        questions_of(small_world, tmp_path / "c", vqa={"answers": "", "min_answers": 1000}, gqa=None)
    with pytest.raises(UserError, match="no questions of task 'gqa'; there are vqa"):
        some.read("gqa", "train")
    with pytest.raises(UserError, match="no questions for split 'dev'; there are train, valid, test"):
        some.read("vqa", "dev")


def test_a_share_of_the_training_pictures_is_held_out(small_world, tmp_path):
    files = {split: f"lxmert/vqa/{split}.json" for split in ("train", "test")}
    section = {"vqa": {"format": "lxmert", "questions": files, "hold_out": 0.25}, "gqa": None}
    data, _ = questions_of(small_world, tmp_path / "q", **section)
    train, valid = (data.read("vqa", split) for split in ("train", "valid"))
    whole = load_questions(small_world.questions).read("vqa", "train")
    assert sorted(q.question_id for q in train + valid) == sorted(q.question_id for q in whole)
    assert not {q.image_id for q in train} & {q.image_id for q in valid}
    assert 0.1 < len(data.images("vqa", "valid")) / len({q.image_id for q in whole}) < 0.5
    only = {"train": "nlvr2/train.json"}
    run_stage(PAIRS, PairsConfig(statements=only, hold_out=0.3), tmp_path / "p", world=small_world.world)
    with pytest.raises(UserError, match=r"vqa\.hold_out: `questions` has a file for the split 'valid'"):
        parse_config(QuestionsConfig, {"vqa": {"hold_out": 0.1}})
    with pytest.raises(UserError, match="`statements` has a file for the split 'valid'"):
        parse_config(PairsConfig, {"hold_out": 0.1})
    pairs = load_pairs(tmp_path / "p")
    sets = [{p.identifier.split("-")[1] for p in pairs.read(split)} for split in ("train", "valid")]
    assert sets[0]
    assert sets[1]
    assert not sets[0] & sets[1]


def test_without_pictures_every_question_counts(small_world, tmp_path):
    names = "COCO_train2014_{:012d}"
    data, metrics = questions_of(small_world, tmp_path, vqa={"images": "", "image_names": names}, gqa=None)
    assert metrics["missing_questions"] == 0
    first = data.read("vqa", "train")[0]
    assert first.image_id == f"COCO_train2014_{first.question_id // 1000:012d}"
    assert data.images("vqa", "train") == {}


def easy_vqa(root):
    for split in ("train", "test"):
        (root / split / "images").mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (64, 64)).save(root / split / f"images/{i}.png")
        rows = [["what colour is it?", "red" if i % 2 else "blue", i] for i in range(6)]
        (root / split / "questions.json").write_text(json.dumps(rows))


def test_easy_vqa(tmp_path):
    easy_vqa(tmp_path / "easy")
    files = {"train": "easy/train", "test": "easy/test"}
    section = {"format": "easy_vqa", "questions": files, "answers": "", "hold_out": 0.4}
    config = parse_config(QuestionsConfig, {"root": str(tmp_path), "vqa": section, "gqa": None})
    run_stage(QUESTIONS, config, tmp_path / "q")
    data = load_questions(tmp_path / "q")
    assert data.answers("vqa") == ("blue", "red")
    assert data.splits("vqa") == ("train", "test", "valid")
    images = {split: data.images("vqa", split) for split in data.splits("vqa")}
    assert images["test"]["test_3"] == tmp_path / "easy/test/images/3.png"
    assert len(images["train"]) + len(images["valid"]) == 6
    assert not images["train"].keys() & images["valid"].keys()
    for text, message in (
        ('[["q", "a"]]', r"questions\.json: \[0\]: 2 values, expected question, answer"),
        ('[["q", "a", "b"]]', r"\[0\]\[2\]: found 'b', expected the number of a picture"),
    ):
        (tmp_path / "easy/train/questions.json").write_text(text)
        with pytest.raises(UserError, match=message):
            data.read("vqa", "train")


def nlvr(root):
    (root / "nlvr/dev/images/0").mkdir(parents=True)
    lines = []
    for sentence in range(8):
        picture = Image.new("RGB", (400, 100), (128, 128, 128))
        for box in range(3):
            picture.paste((80 * box, sentence, 0), (150 * box, 0, 150 * box + 100, 100))
        picture.save(root / f"nlvr/dev/images/0/dev-{sentence}-1-0.png")
        row = {
            "sentence": "A box is black",
            "label": str(sentence % 2 == 0).lower(),
            "identifier": f"{sentence}-1",
        }
        lines.append(json.dumps(row | {"directory": "0"}))
    (root / "nlvr/dev/dev.json").write_text("\n".join(lines) + "\n")


def test_nlvr_gives_two_of_its_three_boxes(tmp_path):
    nlvr(tmp_path)
    section = {"root": str(tmp_path), "format": "nlvr", "statements": {"train": "nlvr/dev/dev.json"}}
    run_stage(PAIRS, parse_config(PairsConfig, section | {"boxes": (0, 2), "hold_out": 0.3}), tmp_path / "p")
    data = load_pairs(tmp_path / "p")
    pairs = data.read("train") + data.read("valid")
    assert sorted(p.identifier for p in pairs) == [f"dev-{i}-1-0" for i in range(8)]
    for pair in pairs:
        number = int(pair.identifier.split("-")[1])
        assert pair.label == (number % 2 == 0)
        paths = data.images("train") | data.images("valid")
        for side, box in ((pair.left, 0), (pair.right, 2)):
            with Image.open(paths[side]) as picture:
                assert picture.size == (100, 100)
                assert picture.getcolors() == [(100 * 100, (80 * box, number, 0))]
    Image.new("RGB", (300, 100)).save(tmp_path / "nlvr/dev/images/0/dev-3-1-0.png")
    metrics = run_stage(PAIRS, parse_config(PairsConfig, section), tmp_path / "again")
    assert metrics["missing_pairs"] == 1
    assert "dev-3-1-0.png: a picture of 300 × 100 pixels" in (tmp_path / "again/broken.txt").read_text()
    with pytest.raises(UserError, match="two different ones of 0, 1 and 2"):
        parse_config(PairsConfig, {"boxes": (1, 1)})
    for line, message in (
        ('{"identifier": "1", "label": "true"}', "identifier '1', expected the form sentence-number"),
        (
            '{"identifier": "1-1", "label": "maybe", "directory": "0"}',
            "label 'maybe', expected true or false",
        ),
    ):
        (tmp_path / "nlvr/dev/dev.json").write_text(line + "\n")
        with pytest.raises(UserError, match=rf"dev\.json:1: {message}"):
            data.read("train")


def test_a_run_on_the_world_makes_the_three_stages(small_world, tmp_path):
    opened = open_run(
        "smoke", settings={"data": {"root": str(small_world.world)}}, root=tmp_path, device="cpu"
    )
    for name in ("sentences", "questions", "pairs"):
        assert opened.stage(name).metrics
    plan = opened.plan("questions").digest
    path = small_world.world / "vqa/v2_world_train_annotations.json"
    content = path.read_text()
    path.write_text(content.replace('"yes"', '"yes!"', 1))
    again = open_run(
        "smoke", settings={"data": {"root": str(small_world.world)}}, root=tmp_path, device="cpu"
    )
    try:
        assert again.plan("questions").digest != plan
        assert again.plan("sentences").digest == opened.plan("sentences").digest
    finally:
        path.write_text(content)


@pytest.mark.slow
def test_real_questions_and_statements(shared_data, tmp_path):
    opened = open_run("photos", settings={"data": {"root": str(shared_data)}}, root=tmp_path, device="cpu")
    questions, pairs = opened.stage("questions").metrics, opened.stage("pairs").metrics
    assert questions["vqa_train_questions"] + questions["vqa_valid_questions"] == 7754
    assert questions["vqa_train_images"] + questions["vqa_valid_images"] == 800
    assert (questions["vqa_test_questions"], questions["vqa_answers"]) == (1957, 13)
    assert (questions["vqa_test_outside"], questions["missing_questions"]) == (0, 0)
    named = set((shared_data / "easy_vqa/answers.txt").read_text().split())
    assert set(load_questions(opened.stage("questions").folder).answers("vqa")) == named
    assert pairs["train_pairs"] + pairs["valid_pairs"] == 989
    assert pairs["test_pairs"] == 400
    assert pairs["missing_pairs"] == 0
    assert max(pairs["test_true"], 1 - pairs["test_true"]) == pytest.approx(0.513, abs=0.001)


def test_gqas_testdev_in_lxmerts_form(shared_data, tmp_path):
    section = {
        "format": "lxmert",
        "questions": {"valid": "iglue/gqa/annotations/testdev.json"},
        "images": "",
        "answers": "lxmert/gqa/trainval_label2ans.json",
    }
    config = parse_config(QuestionsConfig, {"root": str(shared_data), "gqa": section, "vqa": None})
    metrics = run_stage(QUESTIONS, config, tmp_path)
    assert (metrics["gqa_valid_questions"], metrics["gqa_answers"]) == (4000, 1842)
    assert metrics["gqa_valid_outside"] == len((tmp_path / "outside.txt").read_text().splitlines())


def test_nlvr2s_own_layout_with_folders_of_training_pictures_and_a_test_set_without_labels(tmp_path):
    row = {"identifier": "train-1-2-0", "sentence": "s", "label": "True", "directory": 39}
    (tmp_path / "train.json").write_text(json.dumps(row))
    hidden = {"identifier": "test2-5-0-0", "sentence": "s"}
    (tmp_path / "test2.json").write_text(json.dumps(hidden))
    places = [f"images/train/39/train-1-2-img{side}.png" for side in (0, 1)]
    places += [f"images/hidden/test2-5-0-img{side}.png" for side in (0, 1)]
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / place)
    section = {"statements": {"train": "train.json", "hidden": "test2.json"}, "images": "images/{split}"}
    metrics = run_stage(PAIRS, parse_config(PairsConfig, {"root": str(tmp_path), **section}), tmp_path / "p")
    data = load_pairs(tmp_path / "p")
    assert list(data.images("train").values()) + list(data.images("hidden").values()) == [
        tmp_path / place for place in places
    ]
    assert (data.read("train")[0].label, data.read("hidden")[0].label) == (True, None)
    assert metrics["train_true"] == 1
    assert metrics["hidden_true"] != metrics["hidden_true"]  # nan: nobody says


def test_numbers_that_two_pictures_end_with_are_refused(tmp_path):
    for name in ("a_001.png", "b_001.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(
        UserError, match=r"'a_001' and 'b_001' both end with number 1; say with `image_names`"
    ):
        PictureNames(tmp_path).numbered()


@pytest.mark.parametrize(
    ("pattern", "number"),
    [("COCO_{:012d}", "x9"), ("COCO_{year}", 9), ("COCO_{", 9), ("COCO", 9), ("COCO_{:d}", "²")],
)
def test_names_that_a_pattern_cannot_make_are_refused(tmp_path, pattern, number):
    with pytest.raises(UserError, match=r"picture '?(x9|9|²)'? has no name by the pattern 'COCO"):
        PictureNames(None, pattern).numbered()(number)
    assert PictureNames(None, "COCO_{:04d}").numbered()("9") == "COCO_0009"
    assert PictureNames(tmp_path).numbered()("²") == "²"  # a digit, but no number


def test_a_list_of_answers_without_a_choice_is_refused(tmp_path):
    rows = [{"question_id": 1, "img_id": "a", "sent": "?", "label": {"x": 1}}]
    (tmp_path / "q.json").write_text(json.dumps(rows))
    (tmp_path / "a.json").write_text("[]")
    section = {"format": "lxmert", "questions": {"train": "q.json"}, "images": "", "answers": "a.json"}
    config = parse_config(QuestionsConfig, {"root": str(tmp_path), "vqa": section, "gqa": None})
    with pytest.raises(UserError, match=r"a\.json: 0 answers; expected 2 at least"):
        run_stage(QUESTIONS, config, tmp_path / "out")


def test_two_questions_with_one_id_and_no_task_at_all_are_refused(tmp_path):
    rows = [{"question_id": 1, "img_id": "a", "sent": "?", "label": {"x": 1}}] * 2
    (tmp_path / "q.json").write_text(json.dumps(rows))
    section = {"format": "lxmert", "questions": {"train": "q.json"}, "images": "", "answers": ""}
    config = parse_config(QuestionsConfig, {"root": str(tmp_path), "vqa": section, "gqa": None})
    with pytest.raises(UserError, match="two questions have the id 1; expected one"):
        run_stage(QUESTIONS, config, tmp_path / "out")
    nothing = parse_config(QuestionsConfig, {"root": "/", "vqa": None, "gqa": None})
    with pytest.raises(UserError, match="neither `vqa` nor `gqa` is there"):
        run_stage(QUESTIONS, nothing, tmp_path / "o")


def test_a_killed_crop_goes_on_where_it_stopped(tmp_path):
    nlvr(tmp_path)
    section = {"root": str(tmp_path), "format": "nlvr", "statements": {"train": "nlvr/dev/dev.json"}}
    run_stage(PAIRS, parse_config(PairsConfig, section), tmp_path / "p")
    pictures = sorted((tmp_path / "p/pictures").iterdir())
    whole = {path: path.read_bytes() for path in pictures}
    for path in pictures[5:]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in pictures[:4]}
    run_stage(PAIRS, parse_config(PairsConfig, section), tmp_path / "p")
    assert {path: path.read_bytes() for path in (tmp_path / "p/pictures").iterdir()} == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
