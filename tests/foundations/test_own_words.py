"""Which tokenizer a pre-training has: one that is named, the run's, or one learned from what is trained on."""

from types import SimpleNamespace

import pytest

from vlpnb.foundations.own_words import open_tokenizer
from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import train_wordpiece

LINES = ["the cat is red", "a green dog"] * 5


@pytest.fixture
def context(tmp_path):
    (tmp_path / "language").mkdir()
    train_wordpiece(LINES[:1], 100, tmp_path / "language" / "model")
    (tmp_path / "stage").mkdir()
    config = SimpleNamespace(tokenizer="", vocab_size=200)
    return StageContext(config, tmp_path / "stage", {"language": tmp_path / "language"}, "cpu")


def test_words_of_ones_own_are_learned_once_and_only_where_they_are_asked_for(context):
    def lines():
        asked.append(True)
        yield from LINES

    asked = []
    run = open_tokenizer(context, "captions", lines())
    assert not asked
    assert not (context.folder / "tokenizer").exists()
    context.config.tokenizer = "captions"
    own = open_tokenizer(context, "captions", lines())
    assert "green" in own.get_vocab()
    assert "green" not in run.get_vocab()
    assert open_tokenizer(context, "captions", iter(())).get_vocab() == own.get_vocab()
    assert len(asked) == 1


def test_a_named_tokenizer_is_opened(context):
    context.config.tokenizer = str(context.inputs["language"] / "model")
    named = open_tokenizer(context, "captions", ())
    context.config.tokenizer = ""
    assert named.get_vocab() == open_tokenizer(context, "captions", ()).get_vocab()
