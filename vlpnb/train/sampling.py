"""Which examples an update sees: pure functions of (seed, update number).

A position in the data is then just the number of updates done: a resumed run needs no sampler state, a
prefetching thread cannot change the order, and every process knows the whole update and takes its own rows.
(The original never told its sampler the epoch and so repeated one permutation for ever: quirk VOK-03.)
"""

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch


def seed_of(*numbers: int) -> int:
    """One well-mixed 63-bit seed from several non-negative numbers, such as (run seed, update, rank)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class Update:
    """The data of one optimiser step on one process.

    `micro`: this process's micro-batches, keyword arguments of the model's forward. `counts`: for every loss
    the number of its targets in the *whole* update (all processes, all micro-batches), which the loss sums
    are divided by. `tokens`: tokens of the whole update, for the throughput.
    """

    micro: list[Mapping[str, torch.Tensor]]
    counts: Mapping[str, int]
    tokens: int = 0


class EpochSampler:
    """Batches of example numbers, a new order each epoch.

    `lengths` (one per example) makes batches of similar length: the shuffled order is cut into windows of
    `window` batches, each window is sorted by length and cut into batches, and the batches are shuffled
    again.
    """

    def __init__(
        self,
        size: int,
        batch: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        lengths: np.ndarray | None = None,
        window: int = 16,
    ):
        if size < 1 or (drop_last and size < batch):
            raise ValueError(f"{size} examples do not fill one batch of {batch}")
        self.size, self.batch, self.seed, self.shuffle = size, batch, seed, shuffle
        self.lengths, self.window = lengths, window
        self.per_epoch = size // batch if drop_last else -(-size // batch)
        self._batches = lru_cache(maxsize=2)(self._epoch)

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(self.size) if self.shuffle else np.arange(self.size)
        if self.lengths is not None:
            span = self.batch * self.window
            windows = [order[i : i + span] for i in range(0, self.size, span)]
            order = np.concatenate([w[np.argsort(self.lengths[w], kind="stable")] for w in windows])
        batches = [order[i * self.batch : (i + 1) * self.batch] for i in range(self.per_epoch)]
        if self.lengths is not None and self.shuffle:
            batches = [batches[i] for i in random.permutation(len(batches))]
        return batches

    def __call__(self, update: int) -> np.ndarray:
        """Example numbers of the given update (0-based, counted over all epochs)."""
        epoch, position = divmod(update, self.per_epoch)
        return self._batches(epoch)[position]


def evenly(total: int, times: int) -> list[int]:
    """`times` of the numbers 1 … total, evenly spaced, the last one `total`."""
    return sorted({math.ceil(total * i / times) for i in range(1, times + 1)})


def share(rows: np.ndarray | torch.Tensor, rank: int, world_size: int, micro_batches: int = 1) -> list:
    """The rows of one process, cut into micro-batches of nearly equal size.

    Empty ones are kept: ranks must agree on the number of backward passes.
    """
    mine = rows[rank::world_size]
    return [mine[i::micro_batches] for i in range(micro_batches)]


def share_pairs(rows: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """The positions in an even batch that one process takes: whole pairs (b, b + B/2), partners together."""
    first = np.arange(len(rows) // 2)[rank::world_size]
    return np.concatenate([first, first + len(rows) // 2])


def updates(batches: Callable[[int], Update], first: int, last: int, ahead: bool) -> Iterator[Update]:
    """`batches(first), …, batches(last-1)`; `ahead`: a thread prepares the next while this one is used."""
    if not ahead:
        yield from map(batches, range(first, last))
        return
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(batches, first) if first < last else None
        for step in range(first, last):
            update = pending.result()
            if step + 1 < last:
                pending = pool.submit(batches, step + 1)
            yield update
