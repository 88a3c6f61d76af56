"""The stage `iglue`: made of the world in all five layouts, read from a folder, and what is left out of either."""

import base64
import gzip
import io
import json
import pickle
import shutil
from collections import Counter, defaultdict

import pytest
from PIL import Image

from tests.small import run_stage
from vlpnb.config import parse_config
from vlpnb.data.images import open_rgb
from vlpnb.errors import UserError
from vlpnb.foundations.iglue import IGLUE, IglueConfig, load_iglue
from vlpnb.stage.profiles import load_profile
from vlpnb.world.languages import sentence_plan
from vlpnb.world.writers import WorldConfig, load_scenes, write_world
from vlpnb.world.writers.iglue import IglueSizes, write_iglue

LANGUAGES = ("en", "de", "fr", "id", "zh")
SIZES = IglueSizes(xvnli=120, curtains=30, xgqa=120, marvl=80, tested=48, wit=24)
WORLD = {
    "train": 80, "valid": 30, "test": 30, "universe": 30, "image_size": 48, "languages": ("en",), "captions": 1,
    "corpus_train": 200, "corpus_valid": 100, "corpus_test": 100, "glue_train": 8, "glue_dev": 8, "squad_train": 1,
    "squad_dev": 1, "swag_train": 4, "swag_dev": 4, "questions": 0.1, "statements": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("iglue") / "world"
    write_world(WorldConfig(**WORLD), folder)
    return folder


@pytest.fixture(scope="module")
def made(world):
    folder = world.parent / "iglue"
    metrics = run_stage(IGLUE, IglueConfig(sizes=SIZES), folder, world=world)
    return load_iglue(folder), metrics, folder


def content(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_the_world_has_all_five_sets_in_five_languages(made):
    data, metrics, folder = made
    assert data.tasks == ("xvnli", "xgqa", "marvl", "xflickrco", "wit")
    for task in data.tasks:
        assert data.languages(task) == LANGUAGES
        assert data.translated(task) == LANGUAGES[1:]
        assert set(data.valid_languages(task)) == (set(LANGUAGES) if task == "xgqa" else {"en"})
        assert data.rows(task, "train")
        assert data.rows(task, "valid")
        assert metrics[f"{task}_pictures"] == len(data.pictures([task]))
    assert metrics["evaluated_rows"] == 0
    assert metrics["xvnli_train_rows"] == 120
    assert metrics["empty_sentences"] == 2
    assert metrics["unmatched_addresses"] == 2  # of 72: one to train on, one that all five languages test
    missing = (folder / "missing.txt").read_text().splitlines()
    assert len(missing) == metrics["missing_rows"] == 1 + 5
    assert all(line.startswith("wit ") for line in missing)
    assert set(data.answers()) >= {"yes", "no"}


def test_test_sets_are_translations_of_each_other_row_by_row(made):
    data = made[0]
    text = {"xvnli": "hypothesis", "xgqa": "question", "marvl": "sentence"}
    answer = {"xvnli": "label", "xgqa": "answer", "marvl": "label"}
    pictures = {"xvnli": ("image_id",), "xgqa": ("image_id",), "marvl": ("left", "right")}
    for task, said in text.items():
        rows = {language: data.rows(task, "test", language) for language in LANGUAGES}
        for language in LANGUAGES[1:]:
            assert len(rows[language]) == len(rows["en"]) >= 40
            pairs = list(zip(rows["en"], rows[language], strict=True))
            for english, other in pairs:
                assert getattr(english, answer[task]) == getattr(other, answer[task])
                assert [getattr(english, p) for p in pictures[task]] == [
                    getattr(other, p) for p in pictures[task]
                ]
                assert getattr(english, said) != getattr(other, said)
            # one English sentence has one translation
            spoken = defaultdict(set)
            for english, other in pairs:
                spoken[getattr(english, said)].add(getattr(other, said))
            assert {len(found) for found in spoken.values()} == {1}


def test_text_alone_is_at_chance_in_every_language_and_split(made):
    """The best function of the text, which knows the test set by heart, is right as often as a coin of its answers."""
    data = made[0]
    for language in LANGUAGES:
        rows = [r for r in data.xvnli("test", language) if r.label]
        assert best_of_text([(r.hypothesis, r.label) for r in rows]) == pytest.approx(1 / 3)
        rows = data.xvnli("test", language, translated=True) if language != "en" else data.xvnli("train")
        assert best_of_text([(r.hypothesis, r.label) for r in rows if r.label]) == pytest.approx(1 / 3)
        pairs = data.marvl("test", language)
        assert best_of_text([(r.sentence, r.label) for r in pairs]) == 0.5
        questions = data.xgqa("test", language)
        assert best_of_text([(r.question, r.answer) for r in questions if r.answer in ("yes", "no")]) == 0.5
        by_text = defaultdict(Counter)
        for row in questions:
            by_text[row.question][row.answer] += 1
        assert all(len(c) > 1 and len(set(c.values())) == 1 for c in by_text.values())


def best_of_text(rows):
    counts = defaultdict(Counter)
    for text, answer in rows:
        counts[text][answer] += 1
    return sum(max(c.values()) for c in counts.values()) / len(rows)


def test_few_shot_sets_grow_and_show_no_picture_of_another_set(made):
    data = made[0]
    others = set(data.evaluated())
    for task in ("xvnli", "xgqa", "marvl", "xflickrco"):
        others |= {i for row in data.rows(task, "train") for i in pictures(row)}
        before = []
        for shots in data.shots(task, "de"):
            rows = data.rows(task, "train", "de", shots=shots)
            if "x" not in shots:
                assert rows[: len(before)] == before
                before = rows
                assert rows
            assert not others & {i for row in rows for i in pictures(row)}
            english = {i for row in rows for i in pictures(row)}
            assert english == {
                i for row in data.rows(task, "train", "zh", shots=shots) for i in pictures(row)
            }
    assert data.shots("marvl", "de") == ("1", "2", "4", "10", "10x2")
    assert len(data.marvl("train", "fr", shots=1)) == 4
    assert data.shots("xflickrco", "de")[-1] == "100x5"
    assert data.shots("wit", "de") == ()


def pictures(row):
    return (row.left, row.right) if hasattr(row, "left") else (row.image_id,)


def test_a_curtain_hides_things_whole_and_changes_nothing_beside_it(made, world):
    data = made[0]
    scenes = load_scenes(world)
    curtained = [i for i in data.pictures(["xvnli"]) if i.endswith("_curtain")]
    assert len(curtained) > 20
    for name in curtained:
        scene = scenes[name.removesuffix("_curtain")]
        whole = open_rgb(world / f"images/{scene.split}/{scene.image_id}.png")
        hidden = open_rgb(data.image_path(name))
        same = [whole.getpixel((x, 40)) == hidden.getpixel((x, 40)) for x in range(48)]
        edge = same.index(not same[0])
        assert same[edge:] == [not same[0]] * len(same[edge:])
        assert 0.2 < same.count(False) / 48 < 0.7
        for thing in scene.things:
            left, _, right, _ = thing.box
            columns = same[round(left * 48) : max(round(right * 48), round(left * 48) + 1)]
            assert len(set(columns)) == 1


@pytest.mark.slow
def test_writing_again_writes_the_same_bytes_and_leaves_the_world_alone(made, world, tmp_path):
    before = content(world)
    write_iglue(SIZES, world, tmp_path / "again")
    assert content(world) == before
    again = content(tmp_path / "again")
    there = content(made[2])
    assert {name: there[name] for name in again} == again
    victim = next(name for name in again if name.endswith("_curtain.png"))
    (tmp_path / "again" / victim).unlink()
    (tmp_path / "again/gqa/annotations/train.json").unlink()
    write_iglue(SIZES, world, tmp_path / "again")
    assert content(tmp_path / "again") == again


@pytest.mark.slow
def test_forms_and_kinds_can_be_chosen(world, tmp_path):
    sizes = {
        "question_forms": ["exists"],
        "statement_kinds": ["left"],
        "statement_pairs": 4,
        "xgqa": 40,
        "marvl": 16,
        "tested": 12,
        "wit": 2,
    }
    config = parse_config(IglueConfig, {"sizes": sizes, "xvnli": None, "wit": None})
    run_stage(IGLUE, config, tmp_path, world=world)
    data = load_iglue(tmp_path)
    assert data.tasks == ("xgqa", "marvl", "xflickrco")
    assert all(row.question.startswith("Is there a") for row in data.xgqa("train"))
    assert all(row.sentence.endswith("in the left picture.") for row in data.marvl("train"))
    assert Counter(Counter(row.sentence for row in data.marvl("train")).values()) == {8: 2}
    assert set(Counter(row.sentence for row in data.marvl("test")).values()) == {4}
    with pytest.raises(UserError, match=r"question_forms.0.*expected one of exists"):
        parse_config(IglueConfig, {"sizes": {"question_forms": ["colours"]}})
    with pytest.raises(UserError, match="none of xvnli, xgqa"):
        parse_config(IglueConfig, dict.fromkeys(("xvnli", "xgqa", "marvl", "xflickrco", "wit")))
    assert "colour of" in sentence_plan.QUESTION_FORMS


def test_what_is_not_there_is_named(made):
    data = made[0]
    for ask, message in (
        (lambda: data.xvnli("test", "dr"), "xvnli is not tested in 'dr'.*there are en, de, fr, id, zh"),
        (lambda: data.xvnli("train", "de"), "no split 'train' in 'de', but in English"),
        (
            lambda: data.xvnli("train", "de", shots=7),
            "no training file of 7 shots in 'de'; there are 1, 5, 10",
        ),
        (lambda: data.wit("train", "de", shots=7), "no training file of 7 shots in 'de'; there are none"),
        (lambda: data.xvnli("dev"), "split 'dev'.*expected train, valid, test"),
        (lambda: data.xvnli("test", "de", shots=1), "shots are of the split train"),
        (lambda: data.rows("xvnlo", "test"), "no task 'xvnlo'.*did you mean 'xvnli'"),
        (lambda: data.image_path("nothing"), "no row has a picture 'nothing'"),
    ):
        with pytest.raises(UserError, match=message):
            ask()


# a folder of real data


@pytest.fixture
def real(tmp_path):
    """A folder with rows in the benchmark's layouts and photographs as Flickr8k names them; two are missing."""
    root = tmp_path / "data"
    for name in ("11_ab", "12_cd", "13_ef", "14_gh"):
        path = root / f"flickr8k/images/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path)
    row = {"gold_label": "neutral", "sentence1": "A man.", "sentence2": "A person.", "pairID": "x"}

    def write(path, rows):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("".join(json.dumps(r) + "\n" for r in rows))

    for language in ("en", "es"):
        rows = [{**row, "pairID": f"t{i}", "Flikr30kID": i} for i in (11, 99)]
        write(f"iglue/XVNLI/annotations/{language}/test.jsonl", rows)
    table = "".join(f"{i},{i}.jpg#0,{i}.jpg,A person.,neutral,why\n" for i in (11, 12, 98))
    (root / "dev.csv").write_text(",pairID,Flickr30kID,hypothesis,gold_label,explanation\n" + table)
    (root / "test.csv").write_text(
        ",pairID,Flickr30kID,hypothesis,gold_label,explanation\n0,p,13.jpg,A.,neutral,y\n"
    )
    captions = [{"sentences": ["A."], "id": "14", "img_path": "14.jpg"}, {"sentences": ["B."], "id": 5}]
    write("iglue/xFlickrCO/annotations/ja/test.jsonl", captions)
    section = {
        "root": str(root), "xgqa": None, "marvl": None, "wit": None,
        "xvnli": {
            "train": "dev.csv", "valid": "test.csv", "test": "iglue/XVNLI/annotations/{language}/test.jsonl",
            "few_shot": "", "translated": "", "pictures": ["flickr8k/images/{id}_*.jpg"],
        },
        "xflickrco": {
            "train": "", "valid": "", "test": "iglue/xFlickrCO/annotations/{language}/test.jsonl",
            "few_shot": "", "translated": "", "pictures": ["flickr8k/images/{id}_*.jpg"],
        },
    }  # fmt: skip
    return root, section


def test_a_folder_is_read_with_photographs_under_flickr8ks_names(real, tmp_path):
    _, section = real
    metrics = run_stage(IGLUE, parse_config(IglueConfig, section), tmp_path / "stage")
    data = load_iglue(tmp_path / "stage")
    assert data.languages("xvnli") == ("en", "es")
    assert data.languages("xflickrco") == ("ja",)
    # 11 is evaluated, 98 is missing
    assert [row.image_id for row in data.xvnli("train")] == ["12_cd"]
    assert [row.image_id for row in data.xvnli("valid")] == ["13_ef"]
    assert [row.image_id for row in data.xvnli("test", "es", everything=True)] == ["11_ab", "99"]
    assert data.image_path("14_gh").name == "14_gh.jpg"
    assert data.evaluated() == {"11_ab", "13_ef", "14_gh"}
    assert not data.evaluated() & {row.image_id for row in data.xvnli("train")}
    assert (metrics["missing_rows"], metrics["evaluated_rows"], metrics["xvnli_train_rows"]) == (4, 1, 1)
    assert "xflickrco_train_rows" not in metrics
    listed = (tmp_path / "stage/missing.txt").read_text().splitlines()
    assert listed == [
        "xvnli train en 98.jpg#0 98",
        "xvnli test en t99 99",
        "xvnli test es t99 99",
        "xflickrco test ja COCO_val2014_000000000005 COCO_val2014_000000000005",
    ]
    assert (tmp_path / "stage/evaluated.txt").read_text() == "xvnli 11.jpg#0 11_ab\n"


def test_photographs_that_are_evaluated_elsewhere_are_not_trained_on(real, tmp_path):
    root, section = real
    (root / "retrieval.txt").write_text("12_" + "a" * 10 + ".jpg\n")
    table = "".join(f"{i},{i}.jpg#0,{i}.jpg,A person.,neutral,why\n" for i in (12, 15))
    (root / "dev.csv").write_text(",pairID,Flickr30kID,hypothesis,gold_label,explanation\n" + table)
    for name in (f"12_{'b' * 10}", "15_cd"):
        Image.new("RGB", (8, 8)).save(root / f"flickr8k/images/{name}.jpg")
    (root / "flickr8k/images/12_cd.jpg").unlink()
    config = parse_config(IglueConfig, {**section, "exclude": ["retrieval.txt"]})
    metrics = run_stage(IGLUE, config, tmp_path / "stage")
    assert [row.image_id for row in load_iglue(tmp_path / "stage").xvnli("train")] == ["15_cd"]
    assert metrics["evaluated_rows"] == 1
    assert "retrieval.txt" in IGLUE.content(config)
    with pytest.raises(UserError, match=r"gone\.txt does not exist"):
        run_stage(IGLUE, parse_config(IglueConfig, {**section, "exclude": ["gone.txt"]}), tmp_path / "b")


def png(colour):
    data = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(data, "PNG")
    return data.getvalue()


def test_pictures_of_addresses_come_from_pixel_files_and_from_rows(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    rows = [{"image_url": f"u{i}", "caption_reference_description": f"c{i}"} for i in range(5)]
    rows[3]["image_content"] = base64.b64encode(png("blue")).decode()
    (root / "test_ja.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    pixels = {"u0": png("red"), "u1": b"no picture", "u9": png("red")}
    lines = "".join(f"{url}\t{base64.b64encode(data).decode()}\tm\n" for url, data in pixels.items())
    (root / "part.csv.gz").write_bytes(gzip.compress(lines.encode()))
    wit = {"train": "", "valid": "", "test": "test_{language}.jsonl", "translated": "", "pixels": "part*.gz"}
    section = {"root": str(root), **dict.fromkeys(("xvnli", "xgqa", "marvl", "xflickrco")), "wit": wit}
    metrics = run_stage(IGLUE, parse_config(IglueConfig, section), tmp_path / "stage")
    data = load_iglue(tmp_path / "stage")
    assert [row.sentences for row in data.wit("test", "ja")] == [("c0", "c0"), ("c3",)]
    red, blue = (open_rgb(data.image_path(row.image_id)).getpixel((0, 0)) for row in data.wit("test", "ja"))
    assert (red, blue) == ((255, 0, 0), (0, 0, 255))
    assert (metrics["unmatched_addresses"], metrics["missing_rows"]) == (3, 3)
    assert (tmp_path / "stage/unmatched.txt").read_text().split() == ["u1", "u2", "u4"]
    wrong = parse_config(IglueConfig, {**section, "wit": {**wit, "pixels": "nothing*"}})
    with pytest.raises(UserError, match=r"is called nothing\*, and the pictures of 5 addresses are wanted"):
        run_stage(IGLUE, wrong, tmp_path / "other")


def test_pickled_questions_need_trust_and_say_what_the_json_beside_them_says(tmp_path):
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "images/n1.jpg")
    item = {"image_id": "n1", "labels": [1], "scores": [1.0], "question_id": "q", "question": "Rot?"}
    (root / "few_de_1.pkl").write_bytes(pickle.dumps([item], protocol=3))
    (root / "answers.json").write_text(json.dumps({"no": 0, "yes": 1}))
    question = {"q": {"question": "Rot?", "imageId": "n1", "answer": "yes"}}
    (root / "few_de_2.json").write_text(json.dumps(question))
    (root / "test_de.json").write_text(json.dumps({"t": question["q"]}))
    xgqa = {
        "train": "", "valid": "", "test": "test_{language}.json", "few_shot": "few_{language}_{shots}.pkl",
        "translated": "", "answers": "answers.json", "pictures": ["images/{id}.jpg"],
    }  # fmt: skip
    section = {"root": str(root), **dict.fromkeys(("xvnli", "wit", "marvl", "xflickrco")), "xgqa": xgqa}
    with pytest.raises(UserError, match="this file is a pickle"):
        run_stage(IGLUE, parse_config(IglueConfig, section), tmp_path / "a")
    trusting = {**section, "xgqa": {**xgqa, "trusted": True}}
    run_stage(IGLUE, parse_config(IglueConfig, trusting), tmp_path / "b")
    plain = {**section, "xgqa": {**xgqa, "few_shot": "few_{language}_{shots}.json"}}
    run_stage(IGLUE, parse_config(IglueConfig, plain), tmp_path / "c")
    pickled, listed = load_iglue(tmp_path / "b"), load_iglue(tmp_path / "c")
    assert pickled.answers() == ("no", "yes")
    assert pickled.rows("xgqa", "train", "de", shots=1, everything=True) == listed.rows(
        "xgqa", "train", "de", shots=2, everything=True
    )
    assert pickled.xgqa("train", "de", shots=1) == []  # its picture is tested


def test_the_folder_may_move(real, tmp_path):
    root, section = real
    run_stage(IGLUE, parse_config(IglueConfig, section), tmp_path / "run" / "stage")
    shutil.move(root, tmp_path / "elsewhere")
    config = parse_config(IglueConfig, {**section, "root": str(tmp_path / "elsewhere")})
    IGLUE.reused(config, tmp_path / "run" / "stage")
    assert load_iglue(tmp_path / "run" / "stage").image_path("12_cd").is_file()
    assert IGLUE.content(config) == IGLUE.content(
        parse_config(IglueConfig, {**section, "root": str(tmp_path / "elsewhere")})
    )
    names = set(IGLUE.content(config))
    assert names == {
        "dev.csv",
        "test.csv",
        "flickr8k/images",
        "iglue/XVNLI/annotations/en/test.jsonl",
        "iglue/XVNLI/annotations/es/test.jsonl",
        "iglue/xFlickrCO/annotations/ja/test.jsonl",
    }


@pytest.mark.slow
def test_no_real_photograph_is_both_trained_on_and_evaluated(shared_data, tmp_path):
    """The profile `photos` on the sample: e-SNLI-VE trains and validates XVNLI, and Flickr8k has the photographs."""
    section = {**load_profile("photos").stages["iglue"], "root": str(shared_data)}
    config = parse_config(IglueConfig, section)
    metrics = run_stage(IGLUE, config, tmp_path / "stage")
    data = load_iglue(tmp_path / "stage")
    assert data.tasks == ("xvnli", "xflickrco")
    trained = {row.image_id for row in data.xvnli("train")}
    assert not trained & data.evaluated()
    official = (shared_data / "flickr8k/Flickr_8k.testImages.txt").read_text().split()
    assert not trained & {name.removesuffix(".jpg") for name in official}
    assert len(trained) > 100
    for task, count in (("xvnli", 294), ("xflickrco", 239)):
        for language in data.languages(task):
            rows = data.rows(task, "test", language)
            assert len(rows) == count
            assert {row.image_id for row in rows} <= data.evaluated()
    assert len(data.languages("xflickrco")) == 8
    assert metrics["xvnli_train_rows"] + metrics["evaluated_rows"] == 3182
    assert metrics["xvnli_valid_rows"] == 4144
    assert all(data.image_path(name).is_file() for name in trained)


def test_a_set_without_pictures_and_an_absent_file_are_said(real, tmp_path):
    _, section = real
    nowhere = {**section["xvnli"], "pictures": ["nowhere/{id}.jpg"]}
    with pytest.raises(
        UserError, match="of 3 rows of xvnli train en none has its picture by the patterns nowhere"
    ):
        run_stage(IGLUE, parse_config(IglueConfig, {**section, "xvnli": nowhere}), tmp_path / "a")
    absent = {**section["xvnli"], "train": "gone.csv"}
    with pytest.raises(UserError, match=r"gone\.csv does not exist"):
        run_stage(IGLUE, parse_config(IglueConfig, {**section, "xvnli": absent}), tmp_path / "b")
    with pytest.raises(UserError, match=r"at/all does not exist"):
        run_stage(IGLUE, parse_config(IglueConfig, {**section, "root": "/nowhere/at/all"}), tmp_path / "c")
