"""`make bench`: run every benchmark, print the table, write `results/<device>.json`.

python -m benchmarks [--device cuda] [--only search masking] [--no-write]
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here needs the network

import torch
import transformers

from benchmarks import (
    cclm_negatives,
    cclm_reranking,
    cclm_words,
    gpu,
    image_keys,
    lxmert_forward,
    lxmert_optimiser,
    lxmert_step,
    masking,
    matching,
    memory,
    pretraining,
    region_shards,
    regions,
    search,
    step_costs,
    text_states,
    tokenising,
    valm_fusion,
    valm_update,
    vlp_beam,
    vlp_packed,
    vokenising,
)
from benchmarks.measure import Row, hardware, slug, versions

RESULTS = Path(__file__).parent / "results"
BENCHES: dict[str, Callable[..., list[Row]]] = {
    module.__name__.rpartition(".")[2]: module.run
    for module in (
        tokenising,
        text_states,
        image_keys,
        matching,
        vokenising,
        search,
        pretraining,
        masking,
        regions,
        region_shards,
        memory,
        lxmert_forward,
        lxmert_optimiser,
        lxmert_step,
        vlp_beam,
        vlp_packed,
        valm_fusion,
        valm_update,
        cclm_reranking,
        cclm_negatives,
        cclm_words,
        step_costs,
    )
}


def line(row: Row) -> str:
    """A row of the table."""
    goal = "" if row.target is None else f"{'met' if row.met else 'MISSED'} (≥ {row.target:g})"
    return f"{row.name:<54}{row.ours:>11.4g}{row.peer:>11.4g} {row.unit:<9}{row.ratio:>7.2f} {goal:<15}{row.note}"


def report(rows: Iterable[Row], device: str) -> dict[str, object]:
    """What the results file holds."""
    kept = []
    for row in rows:
        fields = {"name": row.name, "ours": row.ours, "peer": row.peer, "ratio": row.ratio}
        rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in fields.items()}
        kept.append({**rounded, "unit": row.unit, "target": row.target, "note": row.note})
    return {"hardware": hardware(device), "versions": versions(), "rows": kept}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for. A result that differs from its peer's raises; a missed target is only printed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Hot paths beside their peers.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", choices=[*BENCHES, "gpu"], help="just these")
    parser.add_argument("--no-write", action="store_true", help="leave the results file as it is")
    chosen = parser.parse_args(arguments)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)

    benches = BENCHES | ({"gpu": gpu.run} if "cuda" in chosen.device else {})
    benches = {name: bench for name, bench in benches.items() if chosen.only is None or name in chosen.only}
    print(f"{slug(chosen.device)}, {torch.get_num_threads()} threads; medians, ours and peer timed in turn")
    print(f"{'what':<54}{'ours':>11}{'peer':>11} {'unit':<9}{'ratio':>7} {'target':<15}note")
    rows: list[Row] = []
    for bench in benches.values():
        for row in bench(device=chosen.device):
            rows.append(row)
            print(line(row), flush=True)
    if chosen.only is None and not chosen.no_write:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{slug(chosen.device)}.json"
        text = json.dumps(report(rows, chosen.device), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
