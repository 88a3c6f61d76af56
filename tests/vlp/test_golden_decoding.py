"""Greedy, beam search and roll-outs of the original code, word by word: all of it with its weights, a copy without.

The whole record is read where it lies beside the repository. The copy here holds, of the same beam searches, the
likeliest words after each text that they visit, so that they are repeated without a model.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tests.vlp.record_decoding import FILE, options, recorded_model
from vlpnb.nn.beam import Beams, beam
from vlpnb.nn.decoding import Step, greedy
from vlpnb.vlp.generating import VlpDecoder, log_probs_of

SHARED = Path(os.environ.get("VLPNB_SHARED_GOLDEN", Path(__file__).parents[3] / "shared/golden")) / "vlp"


def same(found: Beams, recorded: dict[str, Tensor], name: str, chosen: list[float]) -> None:
    """All words, back pointers and totals of a search, and what it chose."""
    assert torch.equal(found.words.int(), recorded[f"{name}.wids"].int())
    assert torch.equal(found.parents.int(), recorded[f"{name}.ptrs"].int())
    assert torch.equal(found.ids.int(), recorded[f"{name}.ids"].int())
    # A float32 near the penalty of −10,000 ends in thousandths.
    torch.testing.assert_close(found.totals, recorded[f"{name}.scores"], atol=1e-4, rtol=3e-7)
    assert [texts[0].score for texts in found.texts] == pytest.approx(chosen, abs=1e-4)


def recorded_step(tensors: dict[str, Tensor], vocabulary: int) -> Step:
    """A step function over the recorded next words; what is not recorded shares the rest of the probability."""
    texts = [tuple(w for w in text if w >= 0) for text in tensors["texts"].tolist()]
    best, words = tensors["log_probs"], tensors["words"].long()
    rest = ((1 - best.exp().sum(1)).clamp(min=1e-12) / (vocabulary - words.shape[1])).log()
    scores = rest[:, None].repeat(1, vocabulary).scatter(1, words, best)
    known = dict(zip(texts, scores, strict=True))
    rows = [text for text in texts if len(text) == 1]

    def step(words: Tensor | None, parents: Tensor | None) -> Tensor:
        nonlocal rows
        if words is not None:
            rows = [(*rows[p], w) for p, w in zip(parents.tolist(), words.tolist(), strict=True)]
        return torch.stack([known[row] for row in rows])

    return step


with safe_open(FILE, "pt") as copied:
    ABOUT = json.loads(copied.metadata()["about"])


@pytest.mark.parametrize("name", ABOUT["runs"])
def test_searches_repeat_those_of_the_original(name):
    tensors, run = load_file(FILE), ABOUT["runs"][name]
    told = {key: run[key] for key in ("length_bonus", "min_length", "no_repeat", "ignore")}
    given = run["width"], ABOUT["steps"], ABOUT["sep"]
    found = beam(recorded_step(tensors, ABOUT["vocabulary"]), *given, stop_early=False, **told)
    same(found, tensors, name, run["chosen"])
    early = beam(recorded_step(tensors, ABOUT["vocabulary"]), *given, trace=True, **told)
    assert early.texts == found.texts


def test_the_copy_is_small_and_has_every_kind_of_search():
    assert FILE.stat().st_size <= 250_000
    runs = ABOUT["runs"].values()
    assert len(runs) == 12
    for field in ("length_bonus", "min_length", "no_repeat", "ignore"):
        assert any(run[field] for run in runs)
        assert any(not run[field] for run in runs)


@pytest.fixture(scope="module")
def record() -> Path:
    if not (SHARED / "decoding.safetensors").is_file():
        pytest.skip(f"recorded numbers of VLP not found at {SHARED}")
    return SHARED


@pytest.mark.slow
@torch.no_grad()
def test_the_model_writes_what_the_original_wrote(record):
    told = json.loads((record / "decoding.json").read_text())
    numbers = load_file(record / "decoding.safetensors")
    model = recorded_model(record)
    decoder = VlpDecoder(model, steps=told["steps"])
    prefix, sep = decoder.see(numbers["feat"], numbers["vis_pe"]), model.config.sep_id
    drawn = greedy(decoder.step(prefix), told["steps"], sep, stop=False)
    assert torch.equal(drawn.ids.int(), numbers["greedy.ids"])
    torch.testing.assert_close(drawn.scores, numbers["greedy.max_logits"], atol=5e-5, rtol=0)
    for name, run in told["runs"].items():
        if name != "greedy":
            step = decoder.step(prefix)
            found = beam(step, run["beam"], told["steps"], sep, stop_early=False, **options(run))
            same(found, numbers, name, run["chosen_score"])
            quick = decoder.captions(prefix, width=run["beam"], **options(run))
            assert [caption.ids for caption in quick] == [texts[0].ids for texts in found.texts]


@pytest.mark.parametrize("mode", ["decoding_mask", "faithful"])
def test_rolled_out_words_have_the_recorded_log_probabilities(record, mode):
    """With the reference's own mask and segments, as the original does (VLP-01), and with those of decoding."""
    numbers = load_file(record / "decoding.safetensors")
    scst = load_file(record / "scst.safetensors")
    model = recorded_model(record)
    steps, text = scst["sample_raw"].shape[1], model.config.prefix
    ways = {}
    if mode == "faithful":
        ways = {
            "mask": scst["ref_mask"][..., text:].bool(),
            "segments": scst["ref_segments"][:, text:].long(),
        }
    decoder = VlpDecoder(model, steps=steps)
    prefix = decoder.see(numbers["feat"], numbers["vis_pe"])
    found = log_probs_of(model, prefix, scst["sample_raw"].long(), **ways)
    torch.testing.assert_close(found, scst[f"{mode}.log_probs"], atol=5e-5, rtol=0)
    with torch.no_grad():
        raw = greedy(decoder.step(prefix, **ways), steps, model.config.sep_id, stop=False).ids
    assert torch.equal(raw.int(), scst[f"{mode}.greedy_raw"])
