"""Masked batches of a corpus: whole batches at once beside example by example.

The peer cuts each block from the stream, frames it and decides token by token what is masked, in plain Python, from
the same random numbers, so that both must make the same batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Row, agree, compare
from vlpnb.nn.losses import IGNORE
from vlpnb.text.masking import mask_tokens
from vlpnb.text.packing import BlockDataset

CLS, SEP, MASK, WORDS = 2, 3, 4, 30_522


@dataclass(frozen=True)
class Size:
    blocks: int = 256  # the paper's update
    rounds: int = 5


def ours(data: BlockDataset, rows: np.ndarray, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Masked ids and labels, [B, block + 2] each."""
    ids = data.batch(rows)["ids"]
    special = torch.zeros_like(ids, dtype=torch.bool)
    special[:, [0, -1]] = True
    return mask_tokens(ids, special, MASK, WORDS, torch.Generator().manual_seed(seed))


def peer(data: BlockDataset, rows: np.ndarray, seed: int = 0, rate: float = 0.15) -> tuple[Tensor, Tensor]:
    """Masked ids and labels, [B, block + 2] each."""
    generator, shape = torch.Generator().manual_seed(seed), (len(rows), data.block + 2)
    draws = torch.rand(shape, generator=generator).tolist()
    others = torch.randint(WORDS, shape, generator=generator).tolist()
    inputs, labels = [], []
    for row, draw, other in zip(rows, draws, others, strict=True):
        start = data.starts[row]
        ids = [CLS, *(int(i) for i in data.tokens[start : start + data.block]), SEP]
        masked, label = list(ids), [IGNORE] * len(ids)
        for i in range(1, len(ids) - 1):
            if draw[i] < rate:
                label[i] = ids[i]
                if draw[i] < 0.8 * rate:
                    masked[i] = MASK
                elif draw[i] < 0.9 * rate:
                    masked[i] = other[i]
        inputs.append(masked)
        labels.append(label)
    return torch.tensor(inputs), torch.tensor(labels)


def same_batch(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> None:
    """Every id and every label equal."""
    for name, a, b in zip(("ids", "labels"), first, second, strict=True):
        agree(a.shape == b.shape and bool((a == b).all()), f"masked {name} differ")


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """One row; batches are built on the host whatever the device."""
    random = np.random.default_rng(0)
    stream = random.integers(5, WORDS, 126 * 4 * size.blocks).astype(np.uint16)
    data = BlockDataset(stream, cls_id=CLS, sep_id=SEP)
    rows = random.permutation(len(data))[: size.blocks]
    name = f"masked batch, {size.blocks} blocks of 126"
    return [
        compare(
            name,
            lambda: ours(data, rows),
            lambda: peer(data, rows),
            same_batch,
            rounds=size.rounds,
            target=5.0,
        )
    ]
