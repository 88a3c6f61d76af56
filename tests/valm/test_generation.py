"""Writing with kept keys and values is reading the whole text again, pictures and all."""

import pytest
import torch

from tests.valm.small import D, V, close, model, use, words
from vlpnb.errors import UserError
from vlpnb.nn.beam import beam
from vlpnb.valm.generation import Writer

STEPS = 64
TABLE = torch.randn(V, 3, D, generator=torch.Generator().manual_seed(8)).double() * 3


def find(ids, real):
    """Three pictures a word, which hang on the word and the one before it; of some words the last is hidden."""
    before = torch.cat([ids[:, :1], ids[:, :-1]], dim=1)
    seen = torch.ones(*ids.shape, 3, dtype=torch.bool)
    seen[..., 2] = ids % 3 != 0
    return TABLE[ids] + 0.5 * TABLE[before], seen & real[..., None]


def prompts():
    ids = words(rows=3, length=5)
    ids[1, 3:] = 1  # padding
    return ids


@pytest.mark.parametrize(
    ("size", "guidance"),
    [
        ({}, 0.7),
        ({"projection": "gated", "positions": "learned"}, 0.0),
        ({"stack": 1, "fusion": (0, 1)}, 0.0),
    ],
)
def test_cached_writing_is_full_reading_for_64_words(size, guidance):
    lm = model(**size)
    kept, again = (
        Writer(lm, find, guidance=guidance, keep=keep).write(
            prompts(), STEPS, stop=False, draw=True, generator=torch.Generator().manual_seed(0)
        )
        for keep in (True, False)
    )
    assert torch.equal(kept.ids, again.ids)
    close(kept.scores, again.scores, 1e-8)
    assert len(kept.ids.unique()) > 3  # not one word for ever


def test_every_word_is_the_likeliest_by_the_model_itself():
    lm = use(model(), "reference")
    drawn = Writer(lm, find).write(prompts(), 8, stop=False)
    text = torch.cat([prompts()[:1], drawn.ids[:1]], dim=1)  # the first prompt has no padding
    images, seen = find(text, torch.ones_like(text, dtype=torch.bool))
    scores = lm.logits(text, images, seen)
    assert scores[:, 4:-1].argmax(-1).tolist() == drawn.ids[:1].tolist()


def test_pictures_change_what_is_written():
    lm = model()
    assert not torch.equal(
        Writer(lm, find).write(prompts(), 12, stop=False).ids, Writer(lm).write(prompts(), 12, stop=False).ids
    )


@pytest.mark.parametrize("keep", [True, False])
def test_beams_and_samples_keep_their_pictures(keep):
    writer = Writer(model(), find, keep=keep)
    with torch.no_grad():
        found = beam(writer.step(prompts()), 3, 6, 2)
    ids = found.texts[0][0].ids
    drawn = writer.write(prompts(), 6, draw=True, samples=2, generator=torch.Generator().manual_seed(0))
    assert drawn.ids.shape == (6, 6)
    text = torch.cat([prompts()[0], torch.tensor(ids)])[None]
    log_probs = writer.lm.logits(text, *find(text, text >= 0)).log_softmax(-1)[0, 4:-1]
    close(log_probs.gather(1, torch.tensor(ids)[:, None]).sum(), torch.tensor(found.texts[0][0].score), 1e-4)


def test_beams_are_the_same_with_and_without_kept_keys():
    lm = model()
    with torch.no_grad():
        kept, again = (beam(Writer(lm, find, keep=k).step(prompts()), 3, 6, 2).texts for k in (True, False))
    assert [[t.ids for t in one] for one in kept] == [[t.ids for t in one] for one in again]


def test_a_text_stops_at_its_end():
    lm = model()
    with torch.no_grad():
        lm.model.word_weight[2] = lm.model.word_weight[4:].abs().sum(0)
    drawn = Writer(lm).write(prompts(), 5)
    for row in drawn.ids.tolist():
        if 2 in row:
            assert set(row[row.index(2) + 1 :]) <= {1}


def test_what_cannot_be_written_is_refused():
    with pytest.raises(UserError, match="do not fit into the 80"):
        Writer(model()).write(prompts(), 77)
    with pytest.raises(UserError, match="a prompt without any word"):
        Writer(model()).step(torch.ones(1, 3, dtype=torch.long))
    with pytest.raises(UserError, match="by pictures"):
        Writer(model(), guidance=1.0)
    with pytest.raises(UserError, match='expected scope = "own"'):
        Writer(model(stack=1, scope="past"), find).write(prompts(), 3)
