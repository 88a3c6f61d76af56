"""`vlpnb plan`: what a run would take, stage by stage, without running it.

Every stage that a system's table of results needs is looked up with its configuration. Its training step (`steps/`) is
counted on fake tensors (`train.counting`); how much data there is says `plan.yaml`.

Hours are operations over what a device achieves: on a GPU its rate times a utilisation, measured (`benchmarks/results`)
or stated; on a CPU, where small models wait for memory and for calls rather than for arithmetic, the sum of three times
that a benchmark measured (`benchmarks/step_costs.py`). On a CPU reading and evaluation are in them, by the share that
they usually have; on GPUs they are not, nor is talk between devices.
"""

import inspect
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from vlpnb.config import merge
from vlpnb.course import CHECKOUT
from vlpnb.course.steps import STEPS
from vlpnb.data.catalog import DATASETS
from vlpnb.errors import UserError, did_you_mean
from vlpnb.stage import Run
from vlpnb.stage.plan import label
from vlpnb.train.counting import Cost, Step, count, shapes

HERE = Path(__file__).parent
SYSTEMS = ("vokenization", "lxmert", "vlp", "valm", "cclm")
BESIDE = {"vlp": ("vlp.scst",)}  # what no table of results needs, and the paper has
RESULTS = CHECKOUT / "benchmarks" / "results"
STATED = 0.35  # utilisation of a GPU in bfloat16 where none was measured
SLOWER, BUSIER = 1 / 16, 2  # float32 beside it: its rate, where nobody tells, and its utilisation
USABLE = 0.9  # share of a card's memory; the rest is the driver's, and holes
WEIGHT, STATE = 4, 12  # bytes of a parameter in a model, and in a checkpoint, with the optimiser's two means
AROUND = 1.15  # reading and evaluation beside the steps: the median over the stages of a laptop run
CPU_ROWS = {"operations": "GFLOP/s", "bytes moved": "GB/s", "calls": "µs"}


@dataclass(frozen=True)
class Machine:
    """What a run would be done on."""

    name: str
    devices: int
    memory: float
    """Bytes of a device."""
    gpu: bool
    flops: float
    """Operations per second that a device achieves, in bfloat16 where that is trained in …"""
    exact: float
    """… and in float32."""
    bandwidth: float = math.inf
    """Bytes per second; of a CPU."""
    call: float = 0.0
    """Seconds of an operation's call; of a CPU."""
    around: float = 1.0
    """A stage's time over that of its steps; of a CPU."""
    said: str = ""
    """Where these come from, in words."""

    def seconds(self, cost: Cost, precision: str = "bfloat16") -> float:
        """Of an update on one device."""
        rate = self.flops if precision == "bfloat16" else self.exact
        return self.around * (cost.flops / rate + cost.moved / self.bandwidth + cost.calls * self.call)


def cards() -> dict[str, dict[str, Any]]:
    """The well-known cards."""
    return yaml.safe_load((HERE / "cards.yaml").read_text(encoding="utf-8"))


def machine(
    card: str | None = None,
    gpus: int | None = None,
    memory: float | None = None,
    rate: float | None = None,
    utilisation: float | None = None,
    float32: float | None = None,
) -> Machine:
    """The machine that is asked for; without anything two CPU cores as they were measured.

    Args:
        memory: GB of a device.
        rate: TFLOP/s of a device, dense, in bfloat16.
        utilisation: share of it that a training achieves.
        float32: TFLOP/s in float32, which some papers train in.

    Raises:
        UserError: an unknown card, or a GPU without its rate or memory.
    """
    if card is None and gpus is None and rate is None:
        return _cpu(memory)
    about: dict[str, Any] = {}
    if card is not None:
        known = cards()
        name = next((name for name in known if name.lower() == card.lower()), None)
        if name is None:
            raise UserError(f"--card {card}: unknown{did_you_mean(card, known)}; or give --memory and --rate")
        card, about = name, known[name]
    rate, memory = rate or about.get("rate"), memory or about.get("memory")
    if rate is None or memory is None:
        raise UserError(
            f"a GPU's {'rate' if rate is None else 'memory'} is missing: give --memory GB and --rate TFLOP/s, or "
            "--card NAME"
        )
    said = "stated"
    if utilisation is None:
        measured = _measured(RESULTS / f"{about.get('file', '')}.json")
        if measured is not None:
            utilisation, said = measured / rate, "measured"
    utilisation = utilisation or STATED
    name, exact = card or f"GPU of {memory:g} GB", float32 or about.get("float32") or rate * SLOWER
    busy = min(1.0, BUSIER * utilisation)
    return Machine(
        name, gpus or 1, memory * 1e9, True, rate * 1e12 * utilisation, exact * 1e12 * busy,
        said=f"{rate:g} TFLOP/s in bfloat16 at a utilisation of {utilisation:.0%} ({said}), {exact:g} in float32 at "
        f"{busy:.0%}",
    )  # fmt: skip


def _rows(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []


def _measured(path: Path) -> float | None:
    """TFLOP/s that training steps achieved on a card (`make bench-gpu`): the median of the systems."""
    found = [row["ours"] for row in _rows(path) if row["name"].endswith("step, utilisation")]
    return statistics.median(found) if found else None


def _cpu(memory: float | None) -> Machine:
    path = RESULTS / "cpu-2-cores.json"
    rows = {row["name"]: row["ours"] for row in _rows(path)}
    found = [rows.get(f"training step, {name}") for name in CPU_ROWS]
    if None in found:
        raise UserError(
            f"{path}: has no rows 'training step, …' to plan for a CPU with; run `python -m benchmarks`, or name a "
            "card with --card"
        )
    flops, bandwidth, call = found
    return Machine(
        "2 CPU cores", 1, (memory or 8) * 1e9, False, flops * 1e9, flops * 1e9, bandwidth * 1e9, call * 1e-6,
        AROUND,
        f"{flops:g} GFLOP/s, {bandwidth:g} GB/s and {call:g} µs a call (measured)",
    )  # fmt: skip


def sizes(profile: str, like: str | None = None) -> dict[str, dict[str, Any]]:
    """What the data of a profile is known to have, by stage.

    Args:
        like: the profile whose data it is, for one of one's own.

    Raises:
        UserError: a profile whose data nobody knows.
    """
    known = yaml.safe_load((HERE / "plan.yaml").read_text(encoding="utf-8"))
    additions = known.pop("additions")
    del known["else"]
    first, *more = (like or profile).split("+")
    if first not in known:
        raise UserError(
            f"profile {first}: how much data it has is not known{did_you_mean(first, known)}; name the profile whose "
            "data it is with --like"
        )
    found = known[first]
    for name in more:
        found = merge(found, additions.get(name, {}))
    return found


def known_systems(names: Sequence[str]) -> list[str]:
    """Names of systems; none: all. UserError for an unknown one."""
    for name in names:
        if name not in SYSTEMS:
            raise UserError(f"no system is called {name!r}{did_you_mean(name, SYSTEMS)}")
    return list(dict.fromkeys(names)) or list(SYSTEMS)


def data_sets(profile: str, systems: Sequence[str]) -> list[dict[str, Any]]:
    """The public data sets of the papers of these systems; none for a profile that draws its world or has a folder."""
    if profile.split("+")[0] != "paper":
        return []
    return [
        {"name": entry.name, "what": entry.what, "licence": entry.licence, "megabytes": entry.megabytes}
        for entry in DATASETS.values()
        if set(systems) & set(entry.systems)
    ]


@dataclass(frozen=True)
class Planned:
    """A stage of a run, as often as it occurs with the same cost."""

    stage: str
    system: str
    variants: tuple[str, ...]
    why: str = ""
    """Why it is not counted."""
    updates: float = 0.0
    """Of one of them."""
    rows: int = 0
    trains: bool = True
    precision: str = "float32"
    cost: Cost | None = None
    micro_batch: int = 0
    largest: int = 0
    """Rows at a time that fit; 0: not even one."""
    peak: float = 0.0
    """Bytes on a process."""
    disk: float = 0.0
    """Bytes of one of them."""
    checkpoint: float = 0.0
    """Bytes of its checkpoint, which goes when it is done."""
    hours: Mapping[int, float] = field(default_factory=dict)
    """Devices → hours of all of them."""

    @property
    def flops(self) -> float:
        """Of all of them."""
        return self.cost.flops * self.updates * len(self.variants) if self.cost else 0.0


def needed(run: Run, systems: Sequence[str]) -> list[tuple[str, str, Any]]:
    """(system, stage, configuration) of all that the systems' results need, inputs first, each once."""
    found: dict[str, tuple[str, str, Any]] = {}

    def add(system: str, name: str, overrides: Mapping[str, Any]) -> None:
        config = run.config(name, **overrides)
        key = f"{name} {config.model_dump_json()}"
        if key in found:
            return
        for request in run.stages[name].inputs(config).values():
            add(system, request.stage, request.overrides)
        found[key] = (system, name, config)

    for system in systems:
        for name in (*BESIDE.get(system, ()), f"{system}.results"):
            add(system, name, {})
    return list(found.values())


def devices_of(most: int) -> list[int]:
    """1, 2, 4 … and the number itself."""
    return sorted({*(2**i for i in range(most.bit_length()) if 2**i <= most), most})


def make_plan(
    run: Run, systems: Sequence[str], data: Mapping[str, Mapping[str, Any]], on: Machine,
    say: Callable[[str], None] = lambda line: None,
) -> list[Planned]:  # fmt: skip
    """Every stage that the systems need, counted.

    Raises:
        UserError: a stage's numbers in `plan.yaml` are not those that its function takes.
    """
    reasons = yaml.safe_load((HERE / "plan.yaml").read_text(encoding="utf-8"))["else"]
    rows: dict[Any, Planned] = {}
    counted: dict[Any, Cost] = {}
    for system, name, config in needed(run, systems):
        variant = label(run.stages[name], config)
        step = step_of(run, name, config, data, reasons)
        if isinstance(step, str):
            key, row = (name, step), Planned(name, system, (), step)
        else:
            if step.jobs is None and run.stages[name].distributed:  # a process has its share of an update
                mine = math.ceil(step.rows / on.devices)
                step = replace(step, micro_batch=max(1, min(step.micro_batch, mine)))
            key = (name, step.updates, step.models, step.jobs, step.kept, shapes(step))
            if key not in counted:
                say(f"counting {name} {variant}".strip())
                counted[key] = count(step, on.gpu)
            row = _planned(name, system, step, counted[key], on, run.stages[name].distributed)
        rows[key] = replace(row, variants=(*(rows[key].variants if key in rows else ()), variant))
    return [
        replace(row, hours={n: hours * len(row.variants) for n, hours in row.hours.items()})
        for row in rows.values()
    ]


def step_of(
    run: Run,
    name: str,
    config: Any,
    data: Mapping[str, Mapping[str, Any]],
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> Step | str:
    """The training step, or the forward pass, of a stage; or why there is none.

    Raises:
        UserError: its numbers in `plan.yaml` are not those that its function takes.
    """
    if name not in STEPS:
        return reasons.get(name, "nothing is known of its work")
    if name not in data:
        return "how much data it has is not known"
    function, given = STEPS[name], data[name]
    parameters = inspect.signature(function).parameters.values()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    asked = {p.name: p.default is p.empty for p in parameters if p.kind is p.KEYWORD_ONLY}
    wrong = [key for key, must in asked.items() if must and key not in given]
    wrong += [] if open_ended else [key for key in given if key not in asked]
    if wrong:
        raise UserError(
            f"plan.yaml: {name}: {', '.join(wrong)} missing or unknown; expected {', '.join(asked)}"
        )
    whole = {key: int(n) if isinstance(n, float) and "length" not in key else n for key, n in given.items()}
    return function(config, run.config, **whole)


def _planned(name: str, system: str, step: Step, cost: Cost, on: Machine, distributed: bool) -> Planned:
    shared = step.jobs is None
    extra = cost.trained * 4 if on.devices > 1 and shared and distributed else 0  # DDP's buckets
    rows = min(step.micro_batch, step.rows)
    room = USABLE * on.memory - extra
    fits = rows + math.floor((room - cost.passes) / cost.a_row)
    if cost.peak > max(room, cost.passes):  # the optimiser alone needs more
        fits = 0
    alone = on.seconds(cost, step.precision) * step.updates / 3600
    hours = {}
    for n in devices_of(on.devices):
        most = step.rows if shared and step.optimiser else step.jobs or n
        hours[n] = alone / (min(n, most) if distributed else 1)
    return Planned(
        name, system, (), "", step.updates, step.rows, step.optimiser is not None, step.precision, cost, rows,
        max(0, fits), cost.peak + extra,
        step.models * WEIGHT * cost.parameters + step.kept,
        STATE * cost.trained if step.optimiser else 0.0, hours,
    )  # fmt: skip


def to_json(plan: Sequence[Planned], on: Machine, profile: str, data: Sequence[Mapping[str, Any]]) -> str:
    """All of it, for programs."""
    rows = [{**asdict(row), "flops": row.flops} for row in plan]
    about = {"profile": profile, "machine": asdict(on), "stages": rows, "data": data}
    return json.dumps(_finite(about), indent=1, ensure_ascii=False)


def _finite(value: Any) -> Any:
    """Without infinities, which JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
