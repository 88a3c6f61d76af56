"""`vlpnb verify SYSTEM FOLDER`: our code held against recorded numbers of another implementation.

How a system adds its part: it is named in `SYSTEMS`, and its module `vlpnb/<system>/original/verify.py` has a tuple
`CHECKS` of functions. A check takes the `RecordedFolder`, computes with our code what the folder records, and yields
a `Case` for each entry that it can hold ours against:

    def towers(folder: RecordedFolder) -> Iterator[Case]:
        model, recorded = _model(folder), folder.tensors("towers.safetensors")
        yield recorded.case("text", model.text(recorded["text_ids"]), Tolerance(2e-5))

Sizes, seeds, options and numbers of cases come from the folder; where it states tolerances in its README alone, they
are constants of the module. Whatever a folder holds and no check reads, files and entries, is reported, and the folder
does not hold; a check says with `Entries.leave_out` what is about other programs, and with `Entries.skip` what takes
another program that is not installed here: that is told, and the rest may hold. A check that breaks is a defect of
ours: its traceback is shown, the others run, and the folder does not hold.
"""

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from vlpnb.data.agreement import Agreement, compare
from vlpnb.data.recorded import RecordedFolder
from vlpnb.errors import UserError, did_you_mean

SYSTEMS = ("vokenization", "lxmert", "vlp", "valm", "cclm")
SHOWN = 5  # entries of a kind that a file's lines name


@dataclass
class Verdict:
    """What became of one file: its comparisons, and the entries that none read."""

    file: str
    found: list[Agreement] = field(default_factory=list)
    unread: list[str] | None = field(default_factory=list)
    """None where no check knows the file."""
    skipped: list[str] = field(default_factory=list)
    """What could not be computed here, and why."""

    @property
    def holds(self) -> bool:
        return self.unread == [] and not any(one.beyond for one in self.found)

    @property
    def values(self) -> int:
        return sum(one.values for one in self.found)


@dataclass
class Verification:
    """What became of a folder, file by file, and the tracebacks of checks that broke, by their names."""

    verdicts: list[Verdict]
    broken: dict[str, str]

    @property
    def holds(self) -> bool:
        """Something was compared, all of it agrees, and nothing was passed over."""
        compared = any(verdict.values for verdict in self.verdicts)
        return compared and not self.broken and all(verdict.holds for verdict in self.verdicts)


def verify(system: str, folder: str | Path) -> Verification:
    """Run the checks of a system on a folder.

    Raises:
        UserError: no such system or folder, or something in it is missing or damaged.
    """
    if system not in SYSTEMS:
        raise UserError(
            f"no recorded tensors are known of a system {system!r}{did_you_mean(system, SYSTEMS)}"
        )
    checks = import_module(f"vlpnb.{system}.original.verify").CHECKS
    recorded = RecordedFolder(folder)
    files: dict[str, Verdict] = {}
    broken = {}
    for check in checks:
        try:
            for case in check(recorded):
                files.setdefault(case.file, Verdict(case.file)).found.append(compare(case))
        except UserError:
            raise
        except Exception:  # our code may fail in any way; that is one of the answers
            broken[check.__name__] = traceback.format_exc()
    for file, names in recorded.files().items():
        files.setdefault(file, Verdict(file)).unread = names
    for file, told in recorded.skipped().items():
        files[file].skipped = told
    return Verification([files[file] for file in sorted(files)], broken)


def lines(result: Verification, each: bool = False) -> Iterator[str]:
    """One line a file (with `each`, one an entry), and below it what does not hold."""
    width = max((len(verdict.file) for verdict in result.verdicts), default=0)
    for verdict in result.verdicts:
        mark = "✓" if verdict.holds else "✗"
        if verdict.unread is None:
            yield f"{mark} {verdict.file:<{width}}  not compared: nothing here knows this file"
            continue
        worst = max(verdict.found, key=lambda one: one.share, default=None)
        yield f"{mark} {verdict.file:<{width}}  {_summary(verdict, worst)}"
        if each:
            for one in verdict.found:
                values = _count(one.values, "value")
                yield f"    {'✗' if one.beyond else '✓'} {one.case.name}: {values}, {_distance(one)}"
        beyond = [one for one in verdict.found if one.beyond]
        for one in beyond[:SHOWN]:
            yield f"    beyond at {one.first} ({one.beyond:,} of {one.values:,})"
        if len(beyond) > SHOWN:
            yield f"    and {len(beyond) - SHOWN} more entries"
        for told in verdict.skipped:
            yield f"    skipped: {told}"
        if verdict.unread:
            more = f" … ({len(verdict.unread)})" if len(verdict.unread) > SHOWN else ""
            yield f"    not compared: {', '.join(verdict.unread[:SHOWN])}{more}"
    for name, text in result.broken.items():
        yield f"✗ the check '{name}' broke, which is a defect here or an input that it cannot have:\n{text}"
    failing = sum(not verdict.holds for verdict in result.verdicts) + len(result.broken)
    if failing:
        yield f"{failing} of {len(result.verdicts) + len(result.broken)} do not hold"
    elif not result.holds:
        yield "nothing was compared"
    else:
        total = sum(verdict.values for verdict in result.verdicts)
        skipped = any(verdict.skipped for verdict in result.verdicts)
        but = ", but for what was skipped" if skipped else ""
        yield f"all hold: {total:,} values in {len(result.verdicts)} files{but}"


def _summary(verdict: Verdict, worst: Agreement | None) -> str:
    if worst is None:
        return "read as input"
    where = f" ({worst.case.name})" if worst.share else ""
    return f"{_count(verdict.values, 'value')} in {_count(len(verdict.found), 'place')}, {_distance(worst)}{where}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)


def _distance(one: Agreement) -> str:
    if not one.allowed and not one.difference:
        return "different" if one.beyond else "equal"
    return f"largest difference {one.difference:.2g}, tolerance {one.allowed:.2g}"
