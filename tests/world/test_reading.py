"""SQuAD and SWAG of the world: pure, readable, and guessable by nothing but reading."""

import json
import re
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from vlpnb.data.squad import read_squad
from vlpnb.data.swag import read_swag
from vlpnb.errors import UserError
from vlpnb.world.corpus import FACTS, PEOPLE, corpus_lines
from vlpnb.world.reading import (
    PLACES,
    SPLITS,
    SQUAD_FILES,
    SWAG_FILES,
    TIMES,
    paragraphs,
    reading_files,
    squad_content,
    swag_content,
    swag_groups,
)
from vlpnb.world.scene import CANONICAL_KINDS, HELD_OUT, KINDS

SIZE = {"train": 1200, "dev": 400}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("reading")
    for name, make in reading_files(0, SIZE, SIZE):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("".join(make()))
    return root


def test_the_real_readers_read_them(folder):
    assert {p.name for p in (folder / "squad").iterdir()} == set(SQUAD_FILES)
    assert {p.name for p in (folder / "swag").iterdir()} == set(SWAG_FILES)
    for split, public in (("train", "train"), ("dev", "valid")):
        for version in ("1.1", "2.0"):
            questions = read_squad(folder / "squad", version, public)  # checks every answer's place
            assert SIZE[split] <= len(questions) < SIZE[split] + 40
            impossible = sum(question.impossible for question in questions)
            assert impossible == (len(questions) / 2 if version == "2.0" else 0)
        assert len(read_swag(folder / "swag", public)) == SIZE[split]


def test_pure_in_every_process():
    code = (
        "import json; from vlpnb.world.reading import *;"
        "print(json.dumps([squad_content(3, '2.0', 'dev', 40), swag_content(3, 'dev', 20)]))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(other) == [squad_content(3, "2.0", "dev", 40), swag_content(3, "dev", 20)]
    short, long = squad_content(0, "1.1", "train", 40)["data"], squad_content(0, "1.1", "train", 400)["data"]
    assert long[: len(short)] == short
    with pytest.raises(UserError, match="negative"):
        paragraphs(0, -1)
    with pytest.raises(UserError, match="split 'valid'"):
        squad_content(0, "1.1", "valid", 4)
    with pytest.raises(UserError, match="split 'test'"):
        swag_content(0, "test", 4)


def test_no_passage_or_story_in_two_splits_or_in_the_corpus(folder):
    passages = {s: {q.context for q in read_squad(folder / "squad", "2.0", s)} for s in ("train", "valid")}
    assert not passages["train"] & passages["valid"]
    stories = {s: {e.first for e in read_swag(folder / "swag", s)} for s in ("train", "valid")}
    assert not stories["train"] & stories["valid"]
    corpus = set(corpus_lines(0, "train", 30_000))
    assert not {f" {text} " for text in passages["train"]} & corpus


def test_spans_are_the_fact_asked_for():
    """The answer stands in the sentence of the person, or of the thing and place, that the question names."""
    kinds = Counter()
    for index in range(60):
        for paragraph in paragraphs(5, index)[1]:
            sentences = re.split(r"(?<=\.) ", paragraph.context)
            starts = np.cumsum([0, *(len(s) + 1 for s in sentences)])
            for asked in paragraph.asked:
                assert paragraph.context[asked.start : asked.start + len(asked.span)] == asked.span
                told = sentences[np.searchsorted(starts, asked.start, side="right") - 1]
                named = re.findall(rf"\b(?:[A-Z][a-z]+|{'|'.join((*PLACES, *KINDS))})\b", asked.text[4:])
                inside = [re.search(rf"\b{word}\b", told, re.IGNORECASE) for word in named]
                assert all(inside) == asked.answerable
                kinds[asked.text.split()[0]] += asked.answerable
    assert min(kinds[word] for word in ("Who", "What", "Where", "When")) > 20


def test_questions_without_an_answer_look_like_the_others(folder):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    train, dev = (read_squad(folder / "squad", "2.0", split) for split in ("train", "valid"))
    for q in dev:
        words = set(re.findall(r"\w+", q.context.lower()))
        said = set(re.findall(r"\w+", q.question.lower()))
        asking = {"who", "what", "where", "when", "color", "did", "was", "the", "that"}
        asking |= {"see", "saw", "find", "found", "notice", "noticed", "pass", "passed", "draw", "drew"}
        assert said - asking <= words  # every other word of the question is in the passage
    bags = CountVectorizer(ngram_range=(1, 2)).fit([q.question for q in train])
    model = LogisticRegression(C=0.3, max_iter=500)
    model.fit(bags.transform([q.question for q in train]), [q.impossible for q in train])
    accuracy = model.score(bags.transform([q.question for q in dev]), [q.impossible for q in dev])
    assert accuracy < 0.58  # chance is 0.5, its deviation 0.025


def test_no_order_gives_the_answer_away(folder):
    """Of the three people, places and times that could be the answer, each rank is right a third of the time."""
    candidates = {"Who": [name for name, _ in PEOPLE], "Where": PLACES, "When": TIMES}
    ranks = defaultdict(Counter)
    for q in read_squad(folder / "squad", "1.1", "train"):
        word = q.question.split()[0]
        if word not in candidates:
            continue
        start = q.answers[0][1]
        told = [
            s for s in re.split(r"(?<=\.) ", q.context) if any(p in s or p.capitalize() in s for p in PLACES)
        ]
        told = [s for s in told if any(f"{t} " in s or f"{t.capitalize()} " in s.capitalize() for t in TIMES)]
        order = [i for i, s in enumerate(told) if q.context.index(s) <= start < q.context.index(s) + len(s)]
        if len(told) == 3:
            ranks[word][order[0]] += 1
    for word, counts in ranks.items():
        assert sum(counts.values()) > 150, word
        assert max(counts.values()) / sum(counts.values()) < 0.44, (word, counts)


def test_canonical_colours_are_never_said(folder):
    for q in read_squad(folder / "squad", "1.1", "train"):
        thing = re.search(r"What color was the (\w+) that", q.question)
        if thing:
            assert thing[1] not in CANONICAL_KINDS
            assert (q.answers[0][0], thing[1]) not in HELD_OUT


def test_endings_and_positions_say_nothing():
    for split in SPLITS:
        kinds = Counter()
        for kind, group in swag_groups(0, split, 400):
            kinds[kind] += 1
            assert len(group) == 4
            shown = {tuple(sorted(endings)) for _, endings, _ in group}
            assert len(shown) == 1
            assert sorted(label for *_, label in group) == [0, 1, 2, 3]
            right = [endings[label] for _, endings, label in group]
            assert right == [story.ending for story, *_ in group]
            assert len(set(right)) == 4
        assert set(kinds) == {"memory", "sense", "fact", "looks"}


def test_shared_words_do_not_choose_the_ending(folder):
    hits = []
    for example in read_swag(folder / "swag", "train"):
        words = set(f"{example.first} {example.second}".lower().split())
        shared = np.array([len(words & set(ending.lower().split())) for ending in example.endings])
        best = shared == shared.max()
        hits.append(best[example.label] / best.sum())
    assert np.mean(hits) == pytest.approx(0.25, abs=0.04)


def test_facts_and_looks_have_one_right_ending():
    looks = defaultdict(set)
    for split in SPLITS:
        for kind, group in swag_groups(1, split, 800):
            for story, endings, label in group:
                if kind == "fact":
                    thing = story.first.split()[-2]
                    habits = [f" {rest} ." for _, rest in FACTS[thing][1]]
                    rest = [any(e.endswith(h.replace("they fall", "it falls").replace("their nests", "its nest"))
                                for h in habits) for e in endings]  # fmt: skip
                    assert rest[label]
                if kind == "looks":
                    thing = story.first.split()[-2]
                    assert story.ending == f"{KINDS[thing].colour} ."
                    looks[split].add(thing)
    assert not looks["train"] & looks["dev"]
    assert {KINDS[kind].colour for kind in looks["train"]} == {KINDS[kind].colour for kind in looks["dev"]}
