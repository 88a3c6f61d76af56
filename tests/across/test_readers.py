"""Every system as a reader of words: gaps, the next word, pieces; company and padding change nothing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.lxmert.small import CONFIG as LXMERT
from tests.vlp.small import CONFIG as VLP
from vlpnb.across import readers
from vlpnb.across.readers import MASK, NextWordReader, open_reader
from vlpnb.cclm.config import size_config as cclm_config
from vlpnb.cclm.model import Cclm
from vlpnb.errors import UserError
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.original.weights import save_model as save_lxmert
from vlpnb.nn.language_model import language_model_config
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.text.unigram import train_unigram
from vlpnb.vlp.heads import SLOT, VlpForGeneration
from vlpnb.vlp.original.weights import save_model as save_vlp
from vlpnb.vlp.start import special_ids
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, save_snapshot

LINES = ["the frog is green .", "a red car near the yellow banana", "plas tic things are small"] * 9
ITEMS = [
    {
        "prompt": f"the frog is {MASK} .",
        "answer": "green",
        "candidates": ["green", "red", "plastic"],
        "kind": "frog",
    },
    {
        "prompt": f"a {MASK} car near the small yellow banana .",
        "answer": "red",
        "candidates": ["green", "red", "yellow"],
        "kind": "banana",
    },
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    return train_wordpiece(LINES, 150, folder)


@pytest.fixture(scope="module")
def opened(tokenizer, tmp_path_factory):
    """The masked systems but CCLM, as stages leave them."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    lm = VisuallySupervisedLM(language_model_config("micro", tokenizer))
    save_snapshot(root / "vokenization" / "snapshot-0000001", lm, tokenizer)
    lxmert = LxmertForPretraining(replace(LXMERT, vocab_size=len(tokenizer), max_positions=40))
    save_lxmert(root / "lxmert" / "model", lxmert, tokenizer)
    config = replace(VLP, vocab_size=len(tokenizer), text_length=20, **special_ids(tokenizer))
    save_vlp(root / "vlp" / "model", VlpForGeneration(config), tokenizer)
    return {name: open_reader(name, root / name) for name in ("vokenization", "lxmert", "vlp")}


@pytest.fixture(scope="module")
def cclm(tmp_path_factory):
    pieces = train_unigram([line.replace(" .", "") for line in LINES], 70, tmp_path_factory.mktemp("pieces"))
    torch.manual_seed(0)
    shape = cclm_config(
        "tiny",
        vocab_size=len(pieces),
        pad_id=1,
        mask_id=len(pieces) - 1,
        vision="patches",
        image_width=6,
        dropout=0.0,
    )
    views = torch.randn(1, 5, shape.hidden, generator=torch.Generator().manual_seed(1))
    scorer = SimpleNamespace(model=Cclm(shape).eval(), gallery=lambda names: SimpleNamespace(views=views))
    guesser = readers._cclm_guesser
    return readers.MaskedReader(
        scorer.model, pieces, (guesser(scorer),), lambda name: guesser(scorer, name), cleaned=True
    )


@pytest.mark.parametrize("system", ["vokenization", "lxmert", "vlp", "cclm"])
def test_what_a_model_says_does_not_depend_on_the_other_prompts(opened, cclm, system):
    reader = cclm if system == "cclm" else opened[system]
    together, alone = reader.scores(ITEMS), np.concatenate([reader.scores([item]) for item in ITEMS])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert together.shape == (2, 3)
    assert (together < 0).all()
    assert reader.vectors(ITEMS).keys() == {"frog", "banana"}


def test_vlp_guesses_from_the_gap_s_own_column(opened, tokenizer):
    reader = opened["vlp"]
    ids = torch.tensor([tokenizer("the frog is [MASK] .")["input_ids"]])[:, 1:]  # the prefix has a [CLS]
    place = ids[0].tolist().index(tokenizer.mask_token_id)
    model = reader.model
    with torch.no_grad():
        out = model.backbone(
            torch.zeros(1, 0, VLP.feature_width), torch.zeros(1, 0, 6 + VLP.classes), ids,
            torch.tensor([ids.shape[1] - 1]), torch.tensor([False]),
        ).last  # fmt: skip
        logs = model.word_scores(out[0, 2 + place], SLOT["bi"]).log_softmax(-1)
    expected = [float(logs[tokenizer.convert_tokens_to_ids(word)]) for word in ("green", "red")]
    np.testing.assert_allclose(reader.scores(ITEMS[:1])[0, :2], expected, atol=1e-4)


def test_a_picture_changes_what_cclm_says_and_two_are_averaged(cclm):
    blind, seen = cclm.scores(ITEMS), cclm.beside(["a"]).scores(ITEMS)
    assert not np.allclose(blind, seen)
    np.testing.assert_allclose(cclm.beside(["a", "b"]).scores(ITEMS), seen, atol=1e-6)


def test_a_model_of_text_alone_takes_no_picture(opened):
    with pytest.raises(UserError, match="reads text alone"):
        opened["vokenization"].beside(["a"])


def test_pieces_tell_whole_words_from_spelt_and_unknown_ones(opened):
    reader = opened["lxmert"]
    assert reader.pieces("green") == 1
    assert reader.pieces("plastic") > 1
    assert reader.pieces("日") == 0


def test_cleaning_takes_punctuation_and_leaves_the_gap():
    assert readers._cleaned(f"The frog's is {MASK} .") == f"the frog s is {MASK}"
    assert readers._cleaned(f"{MASK}, of the frog!").startswith(MASK)


def test_the_next_word_is_asked_with_what_stands_before_the_gap():
    assert readers._before_and_answers(ITEMS[0]) == ("the frog is", ["green", "red", "plastic"])
    size = {
        "prompt": f"the car is {MASK} than the frog .",
        "candidates": ["bigger", "smaller"],
        "kind": "car",
        "other": "frog",
    }
    assert readers._before_and_answers(size) == (
        "the car is",
        ["bigger than the frog .", "smaller than the frog ."],
    )


class FakeScorer:
    """Scores answers by their length, and keeps what it was asked."""

    rows_of = staticmethod(lambda names: [7] * len(names))
    model = None

    def __init__(self):
        self.asked = []

    def __call__(self, prompts, answers, pictures=None):
        self.asked.append((list(prompts), pictures))
        return -np.array([[float(len(answer)) for answer in each] for each in answers])


def test_items_of_different_size_are_asked_together_and_pictures_go_along():
    scorer = FakeScorer()
    items = [ITEMS[0], {**ITEMS[1], "candidates": ["red", "green"]}]
    found = NextWordReader(scorer).scores(items)
    assert np.isnan(found[1, 2])
    assert found[0].tolist() == [-5, -3, -7]
    assert all(pictures is None for _, pictures in scorer.asked)
    other = FakeScorer()
    NextWordReader(scorer, None, lambda: other).beside(["p", "q"]).scores(items[:1])
    assert other.asked == [(["the frog is"], [("p", "q")])]
    with pytest.raises(UserError, match="text alone"):
        NextWordReader(scorer).beside(["p"])
