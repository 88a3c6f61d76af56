"""`make bench-gpu`: what a GPU makes of all five systems, in one JSON file that can be sent back.

python -m benchmarks.gpu_report [--device cuda:0] [--rate TFLOP/s] [--out FILE]      # needs a GPU, some ten minutes
python -m benchmarks.gpu_report --device cpu --smoke [--out FILE]                   # tries the program; no figures

Of each system the pre-training step at its paper's size in bfloat16 (forward, backward, clipping, optimiser): rows and
tokens a second, operations, their share of the GPU's rate, memory; and its losses in bfloat16 beside float32. Then
search, captions with a beam, re-ranking and vokenising, as `python -m benchmarks` has them. A part that fails is told
in the file, and the others are measured all the same.

Operations are those of matrix products, counted while a step runs (`torch.utils.flop_counter`). They are divided by the
rate that is given, else by the published one (`vlpnb/course/cards.yaml`), else by that of a large product of bfloat16
matrices, which is measured here.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here needs the network

import torch
import transformers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import cclm_reranking, gpu, gpu_steps, search, vlp_beam
from benchmarks.gpu_steps import Batch, Step
from benchmarks.measure import Row, hardware, peak_memory, reset_peak, slug, synchronise, versions
from vlpnb.course.plan import cards
from vlpnb.files import write_json
from vlpnb.train.optim import new_optimiser

RESULTS = Path(__file__).parent / "results"
NO_GPU, FAILED = 2, 1  # exit codes
FEW = {
    "shape": (2, 32, 2, 64),
    "words": 60,
    "vokens": 90,
    "batch": 2,
    "block": 16,
    "corpus": 300,
    "matmul": 64,
}


def parts(smoke: bool) -> dict[str, Callable[[str], list[Row]]]:
    """What is measured besides the steps: name → rows of a device."""
    if not smoke:
        return {
            "search": lambda device: search.run(search.Size(), device),
            "decoding": lambda device: vlp_beam.run(
                replace(vlp_beam.Size(), pictures=64, regions=(100,)), device
            ),
            "reranking": lambda device: cclm_reranking.run(
                replace(cclm_reranking.Size(), pictures=64, captions=320, k=16), device
            ),
            "vokenising": lambda device: gpu.run(gpu.Size(), device)[
                1:
            ],  # its step is measured with the others
        }
    shape = replace(cclm_reranking.SHAPE, hidden=32, heads=2, ffn=64, text_layers=1)
    return {
        "search": lambda device: search.run(search.Size((500,), (20,), cells=4, rounds=1), device),
        "decoding": lambda device: vlp_beam.run(
            vlp_beam.Size(gpu_steps.TOY_VLP, pictures=2, regions=(5,), width=3, steps=6, rounds=1), device
        ),
        "reranking": lambda device: cclm_reranking.run(
            cclm_reranking.Size(
                shape, (1,), pictures=3, patches=4, captions=5, words=6, padded=12, k=2, rounds=1
            ),
            device,
        ),
        "vokenising": lambda device: gpu.run(gpu.Size(**FEW, rounds=1), device)[1:],
    }


def losses_of(model: nn.Module, batch: Batch, device: str, half: bool) -> dict[str, float]:
    """The losses without dropout."""
    torch.manual_seed(0)  # of what a loss draws
    with torch.no_grad(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
        return {name: float(loss) for name, loss in model.eval()(**batch).items()}


def agreement(model: nn.Module, batch: Batch, device: str) -> dict[str, dict[str, float]]:
    """Each loss in both precisions and their relative difference."""
    exact, half = (losses_of(model, batch, device, half) for half in (False, True))
    return {
        name: {
            "float32": value, "bfloat16": half[name],
            "difference": abs(half[name] - value) / abs(value) if value else abs(half[name]),
        }
        for name, value in exact.items()
    }  # fmt: skip


def measure(step: Step, rows: int, device: str, rounds: int, rate: float) -> dict[str, Any]:
    """The figures of a system; `rate`: operations a second of the device."""
    torch.manual_seed(0)
    model = step.model().to(device)
    batch = {name: value.to(device) for name, value in step.batch(rows).items()}
    told: dict[str, Any] = {
        "what": step.what,
        "rows": rows,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    told["losses"] = agreement(model, batch, device)
    optimiser = new_optimiser(step.optimiser, model.train(), 1e-5, clip=1.0)

    def update() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            losses = model(**batch)
        (sum(losses.values()) / rows).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    with FlopCounterMode(display=False) as counter:
        update()
    reset_peak(device)
    times = []
    for _ in range(rounds + 1):  # the first of them is still warming up
        synchronise(device)
        start = time.perf_counter()
        update()
        synchronise(device)
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times[1:])
    achieved = counter.get_total_flops() / seconds
    return told | {
        "seconds": seconds, "samples_per_second": rows / seconds, "tokens_per_second": rows * step.tokens / seconds,
        "tflop_of_a_step": counter.get_total_flops() / 1e12, "tflops": achieved / 1e12, "utilisation": achieved / rate,
        "peak_memory_mb": peak_memory(device),
    }  # fmt: skip


def fitting(step: Step, device: str, rounds: int, rate: float) -> dict[str, Any]:
    """`measure` with half the rows as often as the memory is too small."""
    rows = step.rows
    while True:
        try:
            return measure(step, rows, device, rounds, rate)
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
        rows //= 2
        gc.collect()
        torch.cuda.empty_cache()


def rounded(value: Any) -> Any:
    """Four digits of every float inside."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def published(name: str) -> float | None:
    """The rate of a known card in TFLOP/s, by what its results file is called."""
    return next((card["rate"] for card in cards().values() if card["file"] == name), None)


def report(device: str, smoke: bool, given: float | None, say: Callable[[str], None]) -> dict[str, Any]:
    """What the file holds: hardware, versions, rates, `systems`, `rows`, and `failures`, part → what went wrong."""
    rounds = 1 if smoke else 5
    size = gpu.Size(**FEW, rounds=1) if smoke else gpu.Size()
    measured, known = gpu.matmul_rate(size, device), published(slug(device))
    rate = (given or known or measured / 1e12) * 1e12
    systems, rows, failures = {}, [], {}
    for step in gpu_steps.TOY if smoke else gpu_steps.PAPER:
        gc.collect()
        torch.cuda.empty_cache() if "cuda" in device else None
        try:
            found = systems[step.system] = fitting(step, device, rounds, rate)
        except Exception as error:  # whatever it is, the other parts are worth having
            failures[step.system] = f"{type(error).__name__}: {error}"
            say(f"{step.system}: FAILED, {failures[step.system]}")
            continue
        name = f"{step.system} pre-training step, utilisation"
        rows.append(Row(name, found["tflops"], rate / 1e12, found["utilisation"], "TFLOP/s", None, step.what))
        say(
            f"{step.system}: {found['samples_per_second']:,.1f} rows and {found['tokens_per_second']:,.0f} tokens a"
            f" second, {found['tflops']:.1f} TFLOP/s ({found['utilisation']:.0%}), "
            f"{found['peak_memory_mb'] / 1e3:.1f} GB"
        )
    for name, part in parts(smoke).items():
        try:
            rows += part(device)
            say(f"{name}: measured")
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
            say(f"{name}: FAILED, {failures[name]}")
    return {
        "made_by": "make bench-gpu", "smoke": smoke, "hardware": hardware(device), "versions": versions(),
        "rates": {"given_tflops": given, "published_tflops": known, "measured_tflops": measured / 1e12},
        "systems": systems, "rows": [asdict(row) for row in rows], "failures": failures,
    }  # fmt: skip


def with_other_rows(found: dict[str, Any], path: Path) -> dict[str, Any]:
    """The rows of the file that is there already, but for those measured anew (`make bench` writes such files too)."""
    if not path.is_file():
        return found
    names = {row["name"] for row in found["rows"]}
    before = json.loads(path.read_text(encoding="utf-8")).get("rows", [])
    return found | {"rows": [row for row in before if row["name"] not in names] + found["rows"]}


def refusal(device: str, smoke: bool) -> str:
    """Why nothing is measured, in a line; "" where it is."""
    if "cuda" not in device:
        if smoke:
            return ""
        return (
            f"--device {device}: the papers' sizes need a GPU; add --smoke to try the program with toy sizes"
        )
    if torch.cuda.is_available():
        return ""
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return (
        f"no GPU: PyTorch {torch.__version__}, built {built}, finds none; nothing was measured. Run this where "
        "`nvidia-smi` lists one, or try the program with --device cpu --smoke"
    )


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """0 when all was measured, 1 when a part failed, 2 when there is no GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_report", description="All five systems on a GPU."
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, …; cpu with --smoke")
    parser.add_argument("--smoke", action="store_true", help="toy sizes, which say nothing about a machine")
    parser.add_argument(
        "--rate",
        type=float,
        help="published TFLOP/s in bfloat16, dense; known of common cards",
    )
    parser.add_argument("--out", type=Path, help="the file; else benchmarks/results/<card>.json")
    chosen = parser.parse_args(arguments)
    if reason := refusal(chosen.device, chosen.smoke):
        print(reason, file=sys.stderr)
        return NO_GPU
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    path = chosen.out or (None if chosen.smoke else RESULTS / f"{slug(chosen.device)}.json")
    found = rounded(report(chosen.device, chosen.smoke, chosen.rate, say))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, with_other_rows(found, path))
        say(f"written: {path}\nThank you for sending it: benchmarks/README.md says where to.")
    return FAILED if found["failures"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
