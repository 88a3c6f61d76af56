"""Asking a model: answers of one piece and of more, nats of texts, words that follow, texts that are too long."""

import numpy as np
import pytest
import torch

from vlpnb.downstream.scoring import LanguageScorer
from vlpnb.errors import UserError
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.text.vocabulary import open_vocabulary
from vlpnb.valm.config import size_config
from vlpnb.valm.objectives import ValmLM

VECTORS = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
LONG = "elephant"  # several pieces in this vocabulary


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    train_wordpiece(["the cat is red .", "a dog is blue .", "green things run", "eleph ant"] * 9, 60, folder)
    return open_vocabulary(folder)


def see(ids, given):
    """The rows that are given, or else row 0."""
    shape = (*ids.shape, 2)
    rows = torch.zeros(shape, dtype=torch.int64) if given is None else given[:, None, :2].expand(shape)
    return {"images": VECTORS, "rows": rows}


@pytest.fixture(scope="module")
def scorer(words):
    config = size_config(
        "tiny", vocab_size=words.size, max_positions=16, image_width=8, dropout=0.0, pad_id=words.pad_id,
        eos_id=words.end_id, mask_id=words.mask_id,
    )  # fmt: skip
    torch.manual_seed(0)
    lm = ValmLM(config)
    return LanguageScorer(lm, words, see, lambda names: np.array([int(n) for n in names]), batch=3)


def by_hand(scorer, prompt: str, answer: str) -> float:
    """The mean log-probability of an answer's pieces, piece by piece."""
    words = scorer.words
    ids = [words.end_id, *words.encode([prompt])[0].tolist()]
    found = []
    for piece in words.encode([answer])[0].tolist():
        row = torch.tensor([ids])
        logits = scorer.model.logits(row, **see(row, None))[0, -1]
        found.append(float(logits.log_softmax(-1)[piece].detach()))
        ids.append(piece)
    return float(np.mean(found))


def test_answers_of_several_pieces_have_their_mean(scorer):
    answers = ["red", LONG, "blue", "eleph"]
    assert len(scorer.words.encode([LONG])[0]) > 1
    prompts = ["the cat is", "a dog", "things run . the dog is"]
    scores = scorer(prompts, answers)
    expected = [[by_hand(scorer, prompt, answer) for answer in answers] for prompt in prompts]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_each_prompt_may_have_answers_of_its_own(scorer):
    prompts = ["the cat is", "a dog is"]
    shared = scorer(prompts, ["red", "blue", "green"])
    own = scorer(prompts, [["red", "green"], ["blue", "red"]])
    np.testing.assert_allclose(own, [shared[0, [0, 2]], shared[1, [1, 0]]], atol=1e-5)


def test_prompts_see_the_pictures_that_they_are_given(scorer):
    prompts, answers = ["the cat is", "a dog is", "the cat is"], ["red", LONG]
    plain, given = scorer(prompts, answers), scorer(prompts, answers, [["0", "0"], ["1", "2"], ["3"]])
    np.testing.assert_allclose(given[0], plain[0], atol=1e-5)
    assert np.abs(given[1:] - plain[1:]).min() > 1e-4


def test_nats_are_of_every_token_and_the_end(scorer):
    text = "the cat is red ."
    (nats,) = scorer.nats([text])
    ids = scorer.words.encode([text])[0].tolist()
    row = torch.tensor([[scorer.words.end_id, *ids]])
    logs = scorer.model.logits(row, **see(row, None))[0].log_softmax(-1).detach()
    expected = [-float(logs[i, piece]) for i, piece in enumerate([*ids, scorer.words.end_id])]
    np.testing.assert_allclose(nats, expected, atol=1e-5)


def test_long_texts_are_read_in_parts_and_none_is_skipped(scorer):
    texts = ["the cat is red . " * 12, "a dog", ""]
    nats = scorer.nats(texts)
    assert [len(each) for each in nats] == [len(ids) + 1 for ids in scorer.words.encode(texts)]


def test_a_word_follows_where_each_of_its_pieces_is_the_likeliest(scorer):
    text = "the cat is"
    ids = [scorer.words.end_id, *scorer.words.encode([text])[0].tolist()]
    row = torch.tensor([ids])
    best = int(scorer.model.logits(row, **see(row, None))[0, -1].argmax())
    likely = scorer.words.tokenizer.convert_ids_to_tokens(best)
    rest = next(word for word in ("red", "blue", "run") if word != likely)
    assert scorer.follows([text], [rest])[0] == [False]
    if not likely.startswith(("#", "[")):
        assert scorer.follows([text], [likely])[0] == [True]


def test_a_prompt_that_is_too_long_is_named(scorer):
    with pytest.raises(
        UserError, match=r"22 tokens with its answer, and the model reads at most 16.*cat cat"
    ):
        scorer(["cat " * 21], ["red"])


def test_the_company_of_a_prompt_changes_nothing(scorer):
    prompts = ["the cat is", "a dog is red . the dog is", "things"]
    together = scorer(prompts, ["red", LONG])
    alone = np.concatenate([scorer([prompt], ["red", LONG]) for prompt in prompts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
