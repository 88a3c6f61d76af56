"""The state of a text tower at every token of many chunks: in batches by length, beside one chunk after the other.

The peer is what VaLM's release does: each chunk alone, padded to 77 positions. A GPU waits for it most of the time. A
CPU is busy either way and gains what is not padded and what a call costs, so that the goal of ten is missed there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.measure import Row, agree, compare
from vlpnb.foundations.tower_pair import batch_positions
from vlpnb.nn.dual_encoder import DualEncoder, DualEncoderConfig
from vlpnb.nn.text_states import token_states

SMALL = DualEncoderConfig(vocab_size=2000, hidden=96, layers=2, heads=4, ffn=384, feature_width=384, width=64)
CLIP_SIZED = DualEncoderConfig(vocab_size=49408, hidden=768, layers=12, heads=12, ffn=3072, width=768)


@dataclass(frozen=True)
class Size:
    """The course's tower at `laptop`, and one of RN50x16's size, which takes its time on a CPU."""

    towers: tuple[tuple[str, DualEncoderConfig, int], ...] = (
        ("small", SMALL, 2048),
        ("CLIP", CLIP_SIZED, 512),
    )
    on_cpu: tuple[str, ...] = ("small",)
    rounds: int = 3


def chunks_of(count: int, vocab_size: int, longest: int) -> list[np.ndarray]:
    """Different chunks, as long as those that the release cuts out of WikiText: 34 tokens in the mean, 30 in half."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.gamma(2.2, 15.5, count).astype(int) + 1, 1, longest)
    return [random.integers(4, vocab_size, n) for n in lengths]


def ours(model: DualEncoder, chunks: Sequence[np.ndarray], device: str) -> list[np.ndarray]:
    """The states of each chunk."""
    c = model.config
    return token_states(
        lambda ids: model.token_states(ids.to(device)), chunks, start=c.start_id, end=c.end_id, pad=c.pad_id,
        longest=c.longest, positions=batch_positions(device, c.hidden),
    )  # fmt: skip


@torch.no_grad()
def peer(model: DualEncoder, chunks: Sequence[np.ndarray], device: str) -> list[np.ndarray]:
    """The states of each chunk."""
    c, found = model.config, []
    for chunk in chunks:
        ids = torch.full((1, c.longest + 2), c.pad_id)
        ids[0, : len(chunk) + 2] = torch.tensor([c.start_id, *chunk, c.end_id])
        found.append(model.token_states(ids.to(device))[0, : len(chunk) + 2].cpu().numpy())
    return found


def positions_of(chunks: Sequence[np.ndarray], longest: int) -> float:
    """How many times as many positions the peer reads."""
    return (longest + 2) * len(chunks) / sum(len(chunk) + 2 for chunk in chunks)


def same_states(first: list[np.ndarray], second: list[np.ndarray]) -> str:
    """Equal to 1e-5."""
    gap = max(float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True))
    agree(gap <= 1e-5, f"states differ by up to {gap:.1e}")
    return f"differ by {gap:.0e} at most"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """A row for each tower; a large one only where there is a GPU."""
    rows = []
    for name, config, count in size.towers:
        if device == "cpu" and name not in size.on_cpu:
            continue
        torch.manual_seed(0)
        model = DualEncoder(config).eval().to(device)
        chunks = chunks_of(count, config.vocab_size, config.longest)
        more = positions_of(chunks, config.longest)

        def same(first: list[np.ndarray], second: list[np.ndarray], more: float = more) -> str:
            return f"{same_states(first, second)}; the peer reads {more:.1f} times as many positions"

        rows.append(
            compare(
                f"states at every token, {name} tower, {count:,} chunks",
                lambda model=model, chunks=chunks: ours(model, chunks, device),
                lambda model=model, chunks=chunks: peer(model, chunks, device),
                same,
                rounds=size.rounds,
                device=device,
                target=10,
            )
        )
    return rows
