"""The stage `iglue`: made of the world in all five layouts, read from a folder, and what is left out of either."""

from collections import Counter, defaultdict

import pytest

from tests.small import run_stage
from vlpnb.config import parse_config
from vlpnb.data.images import open_rgb
from vlpnb.errors import UserError
from vlpnb.foundations.iglue import IGLUE, IglueConfig, load_iglue
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
