"""What VaLM learns from: losses by hand, what is hidden, and that no picture tells the word that is asked for."""

import pytest
import torch
from torch.nn import functional as F

from tests.valm.small import B, K, T, V, close, images, model, some_hidden, words
from vlpnb.errors import UserError
from vlpnb.nn.losses import IGNORE
from vlpnb.text.masking import mask_tokens
from vlpnb.valm.objectives import hide_images, query_ids

MASK = 3


def special(ids):
    return ids < 4


def targets():
    found = words(5)
    found[0, 7:] = 1  # padding
    found[1, 2] = IGNORE
    return found


def test_the_loss_of_next_words_is_the_cross_entropy_of_targets_that_count():
    lm = model()
    loss = lm(words(), targets(), images())["next"]
    scores = lm.logits(words(), images())
    counted = targets().masked_fill(targets() == 1, IGNORE)
    close(
        loss,
        F.cross_entropy(scores.flatten(0, 1), counted.flatten(), ignore_index=IGNORE, reduction="sum"),
        1e-8,
    )
    log_probs = lm.log_probs(words(), targets(), images())
    close(log_probs.sum(), -loss, 1e-8)
    assert log_probs[counted == IGNORE].eq(0).all()
    assert log_probs[counted != IGNORE].lt(0).all()


def test_no_target_at_all_costs_nothing():
    lm = model()
    nothing = torch.full((B, T), IGNORE)
    assert lm(words(), nothing, images())["next"] == 0
    assert lm.log_probs(words(), nothing, images()).eq(0).all()


def test_both_losses_are_two_passes_with_shared_weights():
    lm = model(mlm_head=True)
    masked, labels = mask_tokens(words(), special(words()), MASK, V, torch.Generator().manual_seed(0), 0.5)
    both = lm(words(), targets(), images(), masked_ids=masked, labels=labels, masked_images=images(6))
    close(both["next"], lm(words(), targets(), images())["next"])
    only = lm(masked_ids=masked, labels=labels, masked_images=images(6))
    assert set(only) == {"masked"}
    close(both["masked"], only["masked"])
    hidden = lm.model(masked, images(6), causal=False).last
    scores = lm.masked_words.logits(hidden, lm.model.word_weight)
    close(
        only["masked"],
        F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum"),
        1e-8,
    )


def test_rows_of_distinct_vectors_serve_both_passes():
    lm = model(mlm_head=True)
    vectors = images(rows=1, length=1, count=6)[0, 0]
    rows, other = (torch.randint(0, 6, (B, T, K), generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    masked, labels = mask_tokens(words(), special(words()), MASK, V, torch.Generator().manual_seed(0), 0.5)
    one = lm(words(), targets(), vectors, rows=rows, masked_ids=masked, labels=labels, masked_rows=other)
    two = lm(
        words(), targets(), vectors[rows], masked_ids=masked, labels=labels, masked_images=vectors[other]
    )
    for name, loss in two.items():
        close(one[name], loss, 1e-8)


def test_what_cannot_be_learned_is_refused():
    with pytest.raises(UserError, match="nothing to learn from"):
        model()(words())
    with pytest.raises(UserError, match="no head for masked words"):
        model()(masked_ids=words(), labels=words())


def test_pictures_are_hidden_one_by_one_or_all_of_a_place():
    generator = torch.Generator().manual_seed(0)
    some = hide_images((100, 50, 4), 0.2, 0.0, generator)
    assert some.float().mean() == pytest.approx(0.8, abs=0.01)
    places = hide_images((100, 50, 4), 0.0, 0.3, generator)
    assert torch.equal(places.any(-1), places.all(-1))
    assert places.any(-1).float().mean() == pytest.approx(0.7, abs=0.02)
    assert hide_images((2, 3, 4)).all()


def test_a_masked_word_keeps_a_picture_where_that_is_asked_for():
    spared = torch.rand(100, 50, generator=torch.Generator().manual_seed(1)) < 0.3
    seen = hide_images((100, 50, 2), 0.9, 0.9, torch.Generator().manual_seed(0), spared=spared)
    assert seen[spared].any(-1).all()
    assert seen[~spared].any(-1).float().mean() < 0.1


@pytest.mark.parametrize("how", ["delete", "word"])
def test_a_masked_word_has_no_part_in_what_is_asked(how):
    gold = words(rows=4)
    masked, labels = mask_tokens(gold, special(gold), MASK, V, torch.Generator().manual_seed(2), 0.5)
    hidden = masked == MASK
    assert hidden.any()
    assert (labels[hidden] != IGNORE).all()
    other = torch.where(hidden, 4 + (gold + 7) % (V - 4), gold)  # other words at the masked places
    again, _ = mask_tokens(other, special(other), MASK, V, torch.Generator().manual_seed(2), 0.5)
    asked, index = query_ids(masked, MASK, how, word_id=9)
    asked_again, index_again = query_ids(again, MASK, how, word_id=9)
    assert torch.equal(index, index_again)
    for one, two, row in zip(asked, asked_again, masked, strict=True):
        assert torch.equal(one, two)
        assert MASK not in one
        assert len(one) == (int((row != MASK).sum()) if how == "delete" else T)


def test_places_that_were_left_out_ask_with_the_last_word_before_them():
    ids = torch.tensor([[MASK, 7, MASK, MASK, 8]])
    asked, index = query_ids(ids, MASK)
    assert [row.tolist() for row in asked] == [[7, 8]]
    assert index.tolist() == [[-1, 0, 0, 0, 1]]
    with pytest.raises(UserError, match="neutral word"):
        query_ids(ids, MASK, "word")


def test_hiding_pictures_in_training_has_an_effect_on_the_loss():
    lm = model()
    assert lm(words(), targets(), images())["next"] != lm(words(), targets(), images(), some_hidden())["next"]
