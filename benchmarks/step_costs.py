"""What a training step of a small model waits for: arithmetic, memory, and calls; `vlpnb plan` reckons hours with it.

Steps of several models are counted (`vlpnb.train.counting`) and timed: forward, backward, clip, optimiser. Three
numbers explain their seconds: seconds = operations / F + bytes moved / B + calls · c, by least squares of the relative
error. Beside each stands what the machine does at its best, with nothing else to do: a large matrix product by the
library that is used there, the sum of two arrays that fit no cache, and the call of one small operation. The ratio of
the first is the utilisation.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn

from benchmarks.measure import Row
from vlpnb.lxmert.heads import AnsweringModel
from vlpnb.lxmert.model import LxmertConfig
from vlpnb.nn.language_model import new_masked_lm
from vlpnb.nn.onednn import quick_products
from vlpnb.nn.transformer import TransformerConfig
from vlpnb.train.counting import Step, asked, count, filled, pieces
from vlpnb.train.optim import new_optimiser


@dataclass(frozen=True)
class Size:
    """Models of the laptop profile's sizes, and one step of a larger one."""

    words: int = 600
    # layers, hidden, batch, words: two of everyday, one all calls, a narrow one that is all memory, one all arithmetic
    texts: tuple[tuple[int, int, int, int], ...] = (
        (2, 128, 32, 600),
        (4, 128, 64, 600),
        (6, 64, 1, 600),
        (3, 64, 192, 600),
        (2, 384, 48, 600),
    )
    questions: int = 128
    matmul: int = 1024
    numbers: int = 1 << 24
    rounds: int = 8


def steps(size: Size) -> list[Step]:
    """The steps that are timed."""

    def text(layers: int, hidden: int, rows: int, words: int) -> Step:
        shape = TransformerConfig(
            words, hidden, layers, hidden // 64, 4 * hidden, dropout=0.0, attention_dropout=0.0
        )

        def batch(count: int) -> dict[str, torch.Tensor]:
            ids = pieces(count, 32, words)
            return {"ids": ids, "mlm_labels": asked(ids, 0.15)}

        return Step(lambda: new_masked_lm(shape), batch, rows, rows, 1)

    def questions(rows: int) -> dict[str, torch.Tensor]:
        seen = {"features": torch.zeros(rows, 10, 256), "boxes": torch.zeros(rows, 10, 4)}
        mask = filled(rows, 16, 10)
        return {"ids": pieces(rows, 16, size.words), "mask": mask, **seen, "targets": torch.zeros(rows, 70)}

    pairs = LxmertConfig(
        vocab_size=size.words, hidden=64, heads=4, ffn=256, text_layers=1, visual_layers=1, cross_layers=1,
        feature_width=256, dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    return [
        *(text(*each) for each in size.texts),
        Step(lambda: AnsweringModel(pairs, 70, "best"), questions, size.questions, size.questions, 1),
    ]  # fmt: skip


def best_of(function: Callable[[], object], rounds: int, times: int = 1) -> float:
    """The least seconds of a call, after a warm-up: what else the machine does only adds to them."""
    function()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(times):
            function()
        found.append((time.perf_counter() - start) / times)
    return min(found)


def seconds_of(step: Step, rounds: int) -> float:
    """Of a whole update, really done."""
    model = step.make().train()
    optimiser, batch = new_optimiser(step.optimiser, model, 1e-4), step.batch(step.rows)

    def update() -> None:
        sum(model(**batch).values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return best_of(update, rounds)


def explain(costs: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, float]:
    """Seconds per operation, byte and call, and the greatest relative error of the steps that they explain."""
    found, _ = nnls(costs / seconds[:, None], np.ones(len(seconds)))
    return found, float(np.abs(costs @ found / seconds - 1).max())


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """Three rows; of a GPU none, whose utilisation is `gpu.py`'s matter."""
    if "cuda" in device:
        return []
    torch.manual_seed(0)
    each = steps(size)
    seconds = np.array([seconds_of(step, size.rounds) for step in each])
    counted = [count(step) for step in each]
    costs = np.array([[cost.flops, cost.moved, cost.calls] for cost in counted], float)
    (operation, byte, call), error = explain(costs, seconds)
    linear, x = nn.Linear(size.matmul, size.matmul, bias=False), torch.randn(size.matmul, size.matmul)
    a, b, little = torch.randn(size.numbers), torch.randn(size.numbers), torch.randn(8)
    with torch.no_grad(), quick_products(x):
        product = 2 * size.matmul**3 / best_of(lambda: linear(x), size.rounds)
        moving = 12 * size.numbers / best_of(lambda: a + b, size.rounds)
        alone = best_of(lambda: little + little, size.rounds, 200)
    note = f"together they explain {len(each)} steps to {error:.0%}; beside the machine's best"
    least = 1e-12  # what explains nothing costs nothing: then no rate can be told
    rates = [(1 / max(operation, least) / 1e9, product / 1e9), (1 / max(byte, least) / 1e9, moving / 1e9)]
    rows = [
        Row(f"training step, {name}", ours, best, ours / best, unit, None, note)
        for name, unit, (ours, best) in zip(
            ("operations", "bytes moved"), ("GFLOP/s", "GB/s"), rates, strict=True
        )
    ]
    call = max(call, 1e-9)
    return [*rows, Row("training step, calls", call * 1e6, alone * 1e6, alone / call, "µs", None, note)]
