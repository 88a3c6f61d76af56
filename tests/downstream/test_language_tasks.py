"""The stage `valm.language_tasks`: perplexity, last words, classes, and what is refused."""

import json
import types

import numpy as np
import pytest

from tests.small import run_stage
from vlpnb.data.description import FolderData
from vlpnb.data.labelled import read_labelled
from vlpnb.downstream.language_tasks import classifications, foretold, lambada, read_passages
from vlpnb.errors import UserError
from vlpnb.valm.language_tasks import LANGUAGE_TASKS, LanguageTasksConfig


class Knows:
    """A scorer to which each word costs two nats and an end one; "sure" is the word that it knows to follow."""

    rows_of = None

    def __call__(self, prompts, answers, pictures=None):
        liked = np.array([0.0] + [2.0] * (len(answers) - 1))  # it likes to say any answer but the first
        found = np.array([[float(answer in prompt.split()) for answer in answers] for prompt in prompts])
        return found + liked

    def nats(self, texts):
        return [np.array([2.0] * len(text.split()) + [1.0]) for text in texts]

    def follows(self, texts, words):
        return [[word == "sure", word.startswith("s")] for word in words]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Inputs of the stage, with a scorer in the place of a model's."""
    monkeypatch.setattr("vlpnb.valm.language_tasks.open_scorer", lambda folder, setting, device: Knows())
    texts, glue = tmp_path / "texts", tmp_path / "glue"
    (glue / "SST-2").mkdir(parents=True)
    texts.mkdir()
    (texts / "wiki.raw").write_text("one two three\n\n = Title = \nfour five\n")
    (texts / "lambada.jsonl").write_text(
        "".join(json.dumps({"text": t}) + "\n" for t in ("I am sure", "It is so"))
    )
    (texts / "news.csv").write_text(
        '"1","A title","of the world \\ here"\n"4","Chips, again","technology rose"\n'
    )
    (glue / "SST-2" / "dev.tsv").write_text(
        "sentence\tlabel\na positive film\t1\na negative thing\t0\nno words\t0\n"
    )
    found = {}
    for name, folder in (("knowledge", texts), ("glue_data", glue)):
        found[name] = tmp_path / name
        found[name].mkdir()
        FolderData(folder, folder).save(found[name], name)
    return {
        "texts": found["knowledge"],
        "glue_data": found["glue_data"],
        "corpus": tmp_path,
        "model": tmp_path,
    }


@pytest.fixture
def no_corpus(monkeypatch):
    monkeypatch.setattr(
        "vlpnb.valm.language_tasks.load_corpus", lambda folder: types.SimpleNamespace(splits=())
    )


def test_everything_that_is_asked_is_answered_and_kept(folders, tmp_path, no_corpus):
    config = LanguageTasksConfig(
        folder="texts", files={"wikitext": "wiki.raw"}, lambada="lambada.jsonl", classify=("sentiment", "news"),
        classes={"news": "news.csv"},
    )  # fmt: skip
    metrics = run_stage(LANGUAGE_TASKS, config, tmp_path / "made", **folders)
    assert metrics["wikitext_tokens"] == 3 + 3 + 2 + 3
    assert metrics["wikitext_perplexity"] == pytest.approx(np.exp((2 * 8 + 3) / 11))
    assert (
        metrics["wikitext_perplexity_low"]
        <= metrics["wikitext_perplexity"]
        <= metrics["wikitext_perplexity_high"]
    )
    assert (metrics["lambada_word"], metrics["lambada_piece"]) == (0.5, 1.0)
    assert metrics["sentiment_accuracy"] == pytest.approx(1 / 3)  # it says "positive" always
    assert metrics["sentiment_calibrated"] == 1.0
    assert metrics["sentiment_majority"] == pytest.approx(2 / 3)
    assert metrics["news_calibrated"] == 1.0
    kept = json.loads((tmp_path / "made" / "language.json").read_text())
    assert kept["texts"]["wikitext"]["tokens"] == [4, 4, 3]
    assert len(kept["classified"]["news"]["answers"]) == 2


def test_the_interval_is_over_lines():
    found, costs = foretold(Knows(), ["a b c d e f g h", "", "i"])
    assert [len(c) for c in costs] == [9, 1, 2]
    assert found["perplexity_low"] == pytest.approx(np.exp(1))  # a sample of the empty line alone
    assert found["perplexity_high"] <= np.exp(17 / 9) + 1e-9


def test_lambada_is_read_as_lines_of_json_or_text(tmp_path):
    path = tmp_path / "test.txt"
    path.write_text("It is so\n\nHe was sure\n")
    assert read_passages(path) == ["It is so", "He was sure"]
    assert lambada(Knows(), read_passages(path))["pieces_of_a_word"] == 2
    (tmp_path / "bad.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"bad\.jsonl:1: field 'text' is missing"):
        read_passages(tmp_path / "bad.jsonl")


def test_long_texts_are_cut_and_classes_checked(folders, tmp_path):
    config = LanguageTasksConfig(folder="x", classify=("news",), classes={"news": "news.csv"}, words=2)
    (task,) = classifications(config, tmp_path / "texts", None)
    assert [q.prompt for q in task.questions] == ["input: A title type:", "input: Chips, again type:"]
    path = tmp_path / "texts" / "news.csv"
    path.write_text('"5","A title","text"\n')
    with pytest.raises(UserError, match=r"news\.csv:1: the class is '5'; expected rows .* classes 1 to 4"):
        read_labelled(path, 4)


def test_what_is_not_named_is_said(folders, tmp_path, no_corpus):
    with pytest.raises(ValueError, match="name the folder of"):
        LanguageTasksConfig(lambada="lambada.jsonl")
    with pytest.raises(ValueError, match="name the file of 'news'"):
        LanguageTasksConfig(classify=("news",))
    with pytest.raises(UserError, match="nothing is asked"):
        run_stage(LANGUAGE_TASKS, LanguageTasksConfig(), tmp_path / "made", **folders)
