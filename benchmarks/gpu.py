"""How much of a GPU the two heavy stages use, and how long the paper's corpora would take on it.

Utilisation is the arithmetic that a stage must do (matrix products only, as it is usually counted) over the rate of
a large bfloat16 matrix product measured in the same run. Everything here also runs on a CPU at toy size, which is
how the tests check it.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import inputs, pretraining
from benchmarks.measure import Row, in_turn, synchronise
from vlpnb.nn.transformer import TransformerConfig
from vlpnb.train.optim import adamw
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM
from vlpnb.vokenization.vokeniser import Vokeniser

CORPORA = {"wiki103": 111e6, "Wikipedia": 2_889e6}  # word pieces (the paper's table of corpora)
TITAN_V = 7_500.0  # vokens a second per Titan V that the original's README implies


@dataclass(frozen=True)
class Size:
    """BERT base, with the paper's vocabularies."""

    shape: inputs.Shape = (12, 768, 12, 3072)
    words: int = 30_522
    vokens: int = 50_000
    batch: int = 64
    block: int = 128
    corpus: int = 262_144  # word pieces that are vokenised
    matmul: int = 8192  # side of the square matrices
    rounds: int = 3


def encoder_flops(shape: inputs.Shape, block: float) -> float:
    """Operations of one token's forward pass through an encoder, in a sequence of `block` tokens.

    Two per weight of the four projections and the feed-forward layer, and 4·T·D for scores and mixing.
    """
    layers, hidden, _, ffn = shape
    return layers * (2 * (4 * hidden**2 + 2 * hidden * ffn) + 4 * block * hidden)


def step_flops(size: Size, masked: float = 0.15) -> float:
    """Operations per token of a training step: three times the forward pass; the word head at masked tokens only."""
    hidden = size.shape[1]
    heads = 2 * hidden * (hidden + size.vokens) + masked * 2 * hidden * (hidden + size.words)
    return 3 * (encoder_flops(size.shape, size.block) + heads)


def vokenise_flops(size: Size, length: float, joint: int = 64, middle: int = 256) -> float:
    """Operations per token of vokenising: encoder, the projection of four layers, and the search."""
    projection = 2 * (min(4, size.shape[0]) * size.shape[1] * middle + middle * joint)
    return encoder_flops(size.shape, length) + projection + 2 * joint * size.vokens


def hours(tokens: float, tokens_per_second: float) -> float:
    """Hours that so many tokens take."""
    return tokens / tokens_per_second / 3600


def seconds_of(function, rounds: int, device: str) -> float:
    """Median seconds of a call after a warm-up."""
    function()
    synchronise(device)
    return in_turn(function, lambda: None, rounds, device)[0]


def matmul_rate(size: Size, device: str) -> float:
    """Operations per second of a large bfloat16 matrix product."""
    a, b = (torch.randn(size.matmul, size.matmul, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size.matmul**3 / seconds_of(lambda: a @ b, size.rounds, device)


def step_rate(size: Size, device: str) -> float:
    """Tokens per second of whole training steps (forward, backward, clip, AdamW) in bfloat16 autocast."""
    layers, hidden, heads, ffn = size.shape
    config = TransformerConfig(size.words, hidden, layers, heads, ffn)
    model = VisuallySupervisedLM(config, size.vokens).to(device).train()
    optimiser = adamw(model, 1e-4)
    like = pretraining.Size(size.shape, size.words, size.vokens, block=size.block)
    data = pretraining.batch_of(like, size.batch, device)
    counts = {name: (data[f"{name}_labels"] != -100).sum() for name in ("mlm", "voken")}

    def step() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            losses = model(**data)
        sum(value / counts[name] for name, value in losses.items()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return size.batch * size.block / seconds_of(step, size.rounds, device)


def vokenise_rate(size: Size, words, device: str, autocast: bool) -> tuple[float, float]:
    """Tokens per second of vokenising, and the mean length of the sentences with their special tokens."""
    sentences = inputs.sentences(words, size.corpus)
    language, _ = inputs.language_models(size.shape, words)
    keys = inputs.unit_rows(size.vokens, 64, 3)
    vokenise = Vokeniser(inputs.matcher(language).to(device), keys, token_budget=32_768)

    def whole() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=autocast):
            vokenise(sentences)

    tokens = sum(map(len, sentences))
    return tokens / seconds_of(whole, size.rounds, device), tokens / len(sentences) + 2


def share(name: str, flops: float, rate: float, peak: float, note: str = "") -> Row:
    """A row of utilisation: achieved beside measured peak, ratio = their share."""
    achieved = flops * rate / 1e12
    return Row(f"{name}, utilisation", achieved, peak / 1e12, achieved * 1e12 / peak, "TFLOP/s", None, note)


def projections(rate: float) -> list[Row]:
    """Rows of what a rate of vokenising means: the largest corpus in an hour, and hours for the paper's corpora."""
    peer = "beside one Titan V by the original's README: another machine"
    hour = Row(
        "vokenised in an hour", rate * 0.0036, TITAN_V * 0.0036, rate / TITAN_V, "M tokens", None, peer
    )
    return [hour] + [
        Row(
            f"vokenise {name} ({tokens / 1e6:,.0f} M)",
            hours(tokens, rate),
            hours(tokens, TITAN_V),
            rate / TITAN_V,
            "h",
            None,
            peer,
        )
        for name, tokens in CORPORA.items()
    ]


def run(size: Size = Size(), device: str = "cuda") -> list[Row]:
    """Utilisation of the step and of vokenising (float32, the conforming mode, and bfloat16), and projections."""
    with tempfile.TemporaryDirectory() as folder:
        words = inputs.tokenizer(Path(folder))
    peak = matmul_rate(size, device)
    rows = [
        share(
            "PRETRAINING step",
            step_flops(size),
            step_rate(size, device),
            peak,
            "bfloat16, optimiser included",
        )
    ]
    for name, autocast in (("float32", False), ("bfloat16", True)):
        rate, length = vokenise_rate(size, words, device, autocast)
        rows.append(share(f"vokenise, {name}", vokenise_flops(size, length), rate, peak))
        if not autocast:
            rows += projections(rate)
    return rows
