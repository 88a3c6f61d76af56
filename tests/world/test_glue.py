"""The GLUE-shaped suite: layout of the real files, balance, and no leak between splits."""

from collections import Counter, defaultdict

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from vlpnb.data.glue import GLUE_TASKS, read_glue
from vlpnb.world.glue import TASKS, Example, glue_examples, glue_files
from vlpnb.world.scene import CANONICAL_KINDS, COLOURS, KINDS

SIZES = {"train": 400, "dev": 160, "test": 80}
PAIRS = ("MRPC", "QQP", "MNLI", "MNLI-MM", "QNLI", "RTE", "WNLI")


@pytest.fixture(scope="module")
def suite() -> dict[str, dict[str, list[Example]]]:
    return {task: glue_examples(task, 0, SIZES) for task in (*TASKS, "MNLI-MM")}


def accuracy(train: list[Example], test: list[Example], text) -> float:
    words = CountVectorizer(ngram_range=(1, 2), binary=True, token_pattern=r"\w+")
    model = LogisticRegression(max_iter=300)
    model.fit(words.fit_transform(map(text, train)), [e.label for e in train])
    return model.score(words.transform(map(text, test)), [e.label for e in test])


def test_a_reader_of_the_real_files_reads_these(tmp_path):
    for task in TASKS:
        (tmp_path / task).mkdir()
        for name, content in glue_files(task, 0, 48, 24, 24):
            (tmp_path / task / name).write_text(content, encoding="utf-8")
    for name, task in GLUE_TASKS.items():
        for split, size in (("train", 48), ("valid", 24), ("test", 24)):
            found = read_glue(tmp_path, name, split)
            assert len(found) >= size
            assert (found.labels is None) == (split == "test")
            if task.labels is not None and split != "test":
                assert set(found.labels) == set(range(len(task.labels)))


@pytest.mark.parametrize("task", TASKS)
def test_columns_are_those_of_the_real_files(task, shared_data):
    compared = 0
    for name, content in glue_files(task, 0, 24, 12, 12):
        real = shared_data / "glue" / task / name
        if not real.is_file():
            continue  # the sample lacks some test files
        with open(real, encoding="utf-8") as file:
            header = file.readline().rstrip("\n")
            row = file.readline().rstrip("\n")
        lines = content.splitlines()
        if not (task == "CoLA" and name != "test.tsv"):  # CoLA has no header
            assert lines[0] == header
        assert {line.count("\t") for line in lines} == {row.count("\t")}
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("task", [*TASKS, "MNLI-MM"])
def test_sizes_balance_and_disjoint_splits(suite, task):
    pairs = {split: {(e.first, e.second) for e in found} for split, found in suite[task].items()}
    assert not pairs["train"] & pairs["dev"]
    assert not pairs["dev"] & pairs["test"]
    for split, size in SIZES.items():
        assert size <= len(suite[task][split]) <= size + 8
        assert len(pairs[split]) == len(suite[task][split])
        if task != "STS-B":
            assert len(set(Counter(e.label for e in suite[task][split]).values())) == 1


@pytest.mark.parametrize("task", PAIRS)
def test_one_sentence_of_a_pair_tells_nothing(suite, task):
    """Every second sentence has every label equally often, so any function of it is exactly at chance."""
    sides = [lambda e: e.second]
    if task in ("MRPC", "QQP", "QNLI", "WNLI"):
        sides.append(lambda e: e.first)
    labels = {e.label for e in suite[task]["dev"]}
    for side in sides:
        counts = defaultdict(Counter)
        for example in suite[task]["dev"]:
            counts[side(example)][example.label] += 1
        assert all(len(set(c.values())) == 1 and len(c) == len(labels) for c in counts.values())
        assert accuracy(suite[task]["train"], suite[task]["dev"], side) == pytest.approx(1 / len(labels))


@pytest.mark.parametrize("task", ["MNLI", "RTE"])
def test_a_premise_alone_tells_little(suite, task):
    chance = 1 / len({e.label for e in suite[task]["dev"]})
    assert accuracy(suite[task]["train"], suite[task]["dev"], lambda e: e.first) < chance + 0.15


@pytest.mark.parametrize(("task", "least"), [("SST-2", 0.7), ("CoLA", 0.55)])
def test_single_sentences_can_be_learnt(suite, task, least):
    assert accuracy(suite[task]["train"], suite[task]["dev"], lambda e: e.first) > least


def test_similarity_scores_use_the_whole_range(suite):
    scores = [float(e.label) for e in suite["STS-B"]["train"]]
    assert min(scores) < 1
    assert max(scores) == 5
    assert 1.5 < sum(scores) / len(scores) < 3.5
    same = [e for e in suite["STS-B"]["train"] if e.label == "5.000"]
    assert sum(e.first != e.second for e in same) > len(same) / 2


def test_knowledge_asks_for_other_kinds_in_dev_than_in_train():
    found = glue_examples("MNLI", 0, {"train": 1500, "dev": 900})
    named = {
        split: {
            kind
            for e in examples
            if e.genre == "knowledge"
            for kind in CANONICAL_KINDS
            if e.first.endswith(f" {kind}.")
        }
        for split, examples in found.items()
    }
    assert len(named["train"]) == len(named["dev"]) == len(CANONICAL_KINDS) // 2
    assert not named["train"] & named["dev"]
    assert {KINDS[k].colour for k in named["train"]} == {KINDS[k].colour for k in named["dev"]}
    share = sum(e.genre == "knowledge" for e in found["train"]) / len(found["train"])
    assert 0.05 < share < 0.3


def test_knowledge_is_right():
    for e in glue_examples("MNLI", 1, {"dev": 900})["dev"]:
        if e.genre != "knowledge":
            continue
        kind = e.first.split()[-1].rstrip(".")
        said = next((c for c in COLOURS if c in e.first.split()), KINDS[kind].colour)
        asked = e.second.split()[-1].rstrip(".")
        expected = "neutral" if said is None else "entailment" if said == asked else "contradiction"
        assert e.label == expected


def test_no_sentence_states_a_canonical_colour(suite):
    stated = {f" {KINDS[name].colour} {name}" for name in CANONICAL_KINDS}
    for splits in suite.values():
        for example in (e for found in splits.values() for e in found):
            text = f"{example.first} {example.second}".lower()
            assert not any(phrase in text for phrase in stated), text


def test_mismatched_genres_are_new(suite):
    genres = {task: {e.genre for e in suite[task]["dev"]} for task in ("MNLI", "MNLI-MM")}
    assert not genres["MNLI"] & genres["MNLI-MM"]


def test_equal_in_every_call():
    assert glue_examples("QQP", 3, SIZES) == glue_examples("QQP", 3, SIZES)
    assert glue_examples("QQP", 3, SIZES) != glue_examples("QQP", 4, SIZES)
