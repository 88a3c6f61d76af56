"""The tables of `vlpnb plan`: one row a stage for a terminal, one row a paper for a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from vlpnb.course.plan import SYSTEMS, Machine, Planned
from vlpnb.machine import duration

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
NAMES = {"vokenization": "Vokenization", "lxmert": "LXMERT", "vlp": "VLP", "valm": "VaLM", "cclm": "CCLM"}


def amount(value: float, unit: str = "") -> str:
    """Three digits and a prefix: 1.23 T, 45.6 G."""
    size = 0
    while value >= 999.5 and size < len(PREFIXES) - 1:
        value, size = value / 1000, size + 1
    shown = f"{value:.0f}" if value >= 99.95 or value == int(value) else f"{value:.3g}"
    return f"{shown} {PREFIXES[size]}{unit}".strip()


def hours(value: float) -> str:
    """An amount of time in the unit that suits it."""
    return duration(value * 3600) if value < 48 else f"{value / 24:,.1f} d"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> list[str]:
    """Aligned columns, the first ones to the left."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def variants(row: Planned) -> str:
    """How often, and of what a single one is."""
    said = row.variants[0] if len(row.variants) == 1 else ""
    return f"× {len(row.variants)}" if len(row.variants) > 1 else said[:24]


def whole(plan: Sequence[Planned], on: Machine, profile: str, sets: Sequence[Mapping[str, Any]]) -> str:
    """A row for each stage, what is not counted, totals, and the data sets to fetch."""
    counted = [row for row in plan if row.cost is not None]
    numbers = list(counted[0].hours) if counted else [1]
    devices = [f"{n} GPU{'s' * (n > 1)}" if on.gpu else "2 cores" for n in numbers]
    kind = ["in"] if on.gpu else []
    header = ["stage", "variant", "parameters", "updates", "op/update", "op in all", *kind]
    header += ["at a time", "memory", "most", "disk", *devices]
    rows = [
        [
            row.stage, variants(row), amount(row.cost.parameters),
            f"{row.updates:,.0f}" + ("" if row.trains else " passes"), amount(row.cost.flops), amount(row.flops),
            *([row.precision] if on.gpu else []), f"{row.micro_batch:,}", amount(row.peak, "B"),
            f"{row.largest:,}" if row.largest else "none fits", amount(row.disk * len(row.variants), "B"),
            *(hours(value) for value in row.hours.values()),
        ]
        for row in counted
    ]  # fmt: skip
    total = [sum(row.hours[n] for row in counted) for n in numbers]
    disk = sum(row.disk * len(row.variants) for row in counted)
    flops = amount(sum(row.flops for row in counted))
    rows.append([
        "in all", *[""] * 4, flops, *([""] if on.gpu else []), *[""] * 3, amount(disk, "B"), *map(hours, total)
    ])  # fmt: skip
    lines = [
        f"Profile {profile} on {on.name}: {on.said}",
        "",
        *table(header, rows),
        "",
        "op: operations of matrix products · at a time: rows of a batch on a process; memory: of its tensors then;",
        "most: rows that fit · disk: models and tables; while it trains a checkpoint too, "
        f"{amount(max((row.checkpoint for row in counted), default=0), 'B')} at most.",
        "Hours are those of the steps; of GPUs without reading, evaluation and talk between them.",
        "",
    ]
    reasons: dict[str, list[str]] = {}
    for row in plan:
        if row.cost is None:
            reasons.setdefault(row.why, []).append(row.stage)
    lines += [f"not counted: {', '.join(dict.fromkeys(names))}: {why}" for why, names in reasons.items()]
    if sets:
        lines += ["", "Data sets of the papers:", ""]
        lines += table(
            ["name", "size", "what", "licence"],
            [[s["name"], size_of(s), s["what"].split(":")[0], s["licence"]] for s in sets],
            4,
        )  # fmt: skip
        known = [s["megabytes"] for s in sets if s["megabytes"] is not None]
        lines.append(f"{amount(sum(known) * 1e6, 'B')} to fetch, beside those whose size is not known")
    else:
        lines += [
            "",
            "No data set is to be fetched: the run draws its own world, or reads a folder of yours.",
        ]
    return "\n".join(lines)


def size_of(entry: Mapping[str, Any]) -> str:
    """Of a data set."""
    return "?" if entry["megabytes"] is None else amount(entry["megabytes"] * 1e6, "B")


def short(plan: Sequence[Planned], on: Machine, profile: str) -> str:
    """A row for each system's pre-training, and one for all that it needs: a table of a page."""
    numbers = list(next(row.hours for row in plan if row.cost is not None))
    numbers = [numbers[0], numbers[-1]] if len(numbers) > 1 else numbers
    header = [
        "pre-training",
        "parameters",
        "updates",
        "operations",
        "in",
        "memory of a process",
        "rows at a time",
    ]
    header += [f"{n} GPU{'s' * (n > 1)}" if on.gpu else "2 cores" for n in numbers]
    header += ["all stages, " + header[-1]]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for system in SYSTEMS:
        mine = [row for row in plan if row.system == system and row.cost is not None]
        main = [row for row in mine if row.stage.endswith(".pretraining")]
        if not main:
            continue
        row = max(main, key=lambda one: one.cost.flops * one.updates)
        last = sum(one.hours[numbers[-1]] for one in mine)
        cells = [
            NAMES[system], amount(row.cost.parameters), f"{row.updates:,.0f}", amount(row.cost.flops * row.updates),
            row.precision, amount(row.peak, "B"), f"{row.micro_batch:,} of {row.largest:,}",
            *(hours(row.hours[n] / len(row.variants)) for n in numbers), hours(last),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
