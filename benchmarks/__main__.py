"""`make bench`: time each hot path and its peer in turn, check that they agree, print the ratio of the medians.

Absolute times of shared machines say little; the ratio of two things timed in turn in one process says more.
"""

import statistics
import time
from collections.abc import Callable

import torch

from vlpnb.nn.losses import linear_cross_entropy
from vlpnb.retrieval.exact import top_k
from vlpnb.retrieval.faiss_index import top_k as faiss_top_k
from vlpnb.text.masking import mask_tokens


def ratio(
    ours: Callable[[], object], peer: Callable[[], object], rounds: int = 3
) -> tuple[float, float, float]:
    """Median seconds of ours and of the peer, timed in turn after a warm-up, and peer / ours."""
    times: tuple[list[float], list[float]] = ([], [])
    for call in range(rounds + 1):
        for function, kept in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            function()
            if call:
                kept.append(time.perf_counter() - start)
    first, second = map(statistics.median, times)
    return first, second, second / first


def search() -> tuple[str, float, float, float]:
    """Exact search of 1,024 queries in 50,000 keys of width 64: torch in chunks beside faiss flat."""
    unit = torch.nn.functional.normalize
    queries, keys = unit(torch.randn(1024, 64), dim=1), unit(torch.randn(50_000, 64), dim=1)
    assert (top_k(queries, keys)[1] == faiss_top_k(queries, keys)[1]).float().mean() > 0.999
    return "search, 50k keys", *ratio(lambda: top_k(queries, keys), lambda: faiss_top_k(queries, keys))


def loss_memory() -> tuple[str, float, float, float]:
    """Cross-entropy over 30,522 words with its gradient: at the masked 15 % of positions beside all of them."""
    hidden, weight = torch.randn(512, 128), (torch.randn(30_522, 128) * 0.02).requires_grad_()
    bias = torch.zeros(30_522)
    target = torch.full((512,), -100)
    masked = torch.randperm(512)[:77]
    target[masked] = torch.randint(30_522, (77,))

    def ours() -> torch.Tensor:
        loss = linear_cross_entropy(hidden[masked], weight, bias, target[masked])
        loss.backward()
        return loss

    def peer() -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(hidden @ weight.T + bias, target)
        loss.backward()
        return loss

    torch.testing.assert_close(ours(), peer())
    return "word loss, masked positions", *ratio(ours, peer)


def masking() -> tuple[str, float, float, float]:
    """Masking 256 blocks of 128 tokens: vectorised beside token by token in Python."""
    ids = torch.randint(5, 30_522, (256, 128))
    special = torch.zeros_like(ids, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)

    def peer() -> None:
        for row in ids.tolist():
            draws = torch.rand(len(row), 2, generator=generator).tolist()
            [103 if a < 0.15 and b < 0.8 else t for t, (a, b) in zip(row, draws, strict=True)]

    return "masking", *ratio(lambda: mask_tokens(ids, special, 103, 30_522, generator), peer)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, CPU; medians of 3, timed in turn")
    print(f"{'what':<30}{'ours s':>10}{'peer s':>10}{'peer / ours':>14}")
    for bench in (search, loss_memory, masking):
        name, ours, peer, gain = bench()
        print(f"{name:<30}{ours:>10.4f}{peer:>10.4f}{gain:>13.2f}x")
