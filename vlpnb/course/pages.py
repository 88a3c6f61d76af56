"""The pages beside the notebooks: glossary, papers, and the code that both point to; and the map of the course.

Their content is data: `glossary.yaml`, `papers/*.yaml`, the package's docstring, and what notebooks say they read.
"""

import importlib
import inspect
import math
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

import vlpnb
from vlpnb.course import CHECKOUT
from vlpnb.course.outline import PARTS
from vlpnb.errors import UserError, did_you_mean

HERE = Path(__file__).parent
GLOSSARY = HERE / "glossary.yaml"
PAPERS = HERE / "papers"
NOT_RUN = "not run here"
STATUSES = {
    "confirmed": ("✓", "a second source quotes this number"),
    "read": ("¶", "looked up in the paper"),
    "counted": ("Σ", "not printed there: counted from its sizes, and tested here"),
    "unverified": ("?", "recalled and not looked up: do not cite from here"),
    "elsewhere": ("°", "published by others about models of this kind, not in the paper"),
}


@dataclass(frozen=True)
class GlossaryTerm:
    """One entry of the glossary."""

    term: str
    definition: str
    symbols: tuple[str, ...]
    notebook: str

    @property
    def anchor(self) -> str:
        """Its id on the glossary page."""
        return "term-" + re.sub(r"[^a-z0-9]+", "-", self.term.lower()).strip("-")


def docstring_terms() -> dict[str, str]:
    """The terms that the package's docstring defines."""
    text = (inspect.getdoc(vlpnb) or "").split("-----\n", 1)[1].split("\n\n")[0]
    entries = re.findall(r"^(\S[^\n]*?)  +(.*(?:\n  .*)*)", text, flags=re.M)
    return {term: " ".join(definition.split()) for term, definition in entries}


def read_glossary(path: Path = GLOSSARY) -> list[GlossaryTerm]:
    """The glossary in alphabetical order.

    Raises:
        UserError: names a term that is defined nowhere, or twice.
    """
    said = docstring_terms()
    terms = []
    for term, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        if ("definition" in entry) == (term in said):
            where = "twice: here and in vlpnb/__init__.py" if term in said else "nowhere"
            raise UserError(f"{path}: {term!r} is defined {where}")
        definition = entry.get("definition") or said[term]
        terms.append(
            GlossaryTerm(term, " ".join(definition.split()), tuple(entry["symbols"]), entry["notebook"])
        )
    return sorted(terms, key=lambda one: one.term.lower())


@cache
def read_papers() -> dict[str, dict[str, Any]]:
    """File name → the content of each paper's file, in the order of the parts of the course.

    A table's `status` is that of its figures without one.
    """
    read = {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(PAPERS.glob("*.yaml"))
    }
    parts = [*PARTS.values()]
    found = dict(sorted(read.items(), key=lambda item: parts.index(item[1]["title"])))
    for table in (table for paper in found.values() for table in paper["tables"]):
        for cell in (cell for row in table["rows"] for cell in row["cells"]):
            if "paper" in cell and "status" in table:
                cell.setdefault("status", table["status"])
    return found


def paper_figures() -> dict[str, tuple[float, str]]:
    """Metric of a run → the paper's figure in the metric's unit, and its setting with how sure we are of it."""
    found: dict[str, tuple[float, str]] = {}
    for paper in read_papers().values():
        for table in paper["tables"]:
            for row in table["rows"]:
                for cell in row["cells"]:
                    if "metric" in cell and isinstance(cell.get("paper"), int | float):
                        sure = cell["status"] in ("confirmed", "read", "counted")
                        doubt = "" if sure else f", {cell['status']}"
                        figure = float(cell["paper"]) / cell.get("scale", 1)
                        found.setdefault(cell["metric"], (figure, row["label"] + doubt))
    return found


@dataclass(frozen=True)
class Figure:
    """What a cell of a paper's table says: one number, or several as EM/F1, and how sure we are (`STATUSES`)."""

    values: tuple[float, ...]
    status: str

    @property
    def mean(self) -> float:
        """The number, or the mean of several."""
        return sum(self.values) / len(self.values)


def paper_rows(paper: str, table: str) -> dict[str, dict[str, Figure]]:
    """A table of numbers from `papers/<paper>.yaml`: label of the row → column → figure, in the table's order.

    Columns of which the paper says nothing in a row are left out of it.

    Raises:
        UserError: no such paper or table, or a cell that holds something else than numbers.
    """
    papers = read_papers()
    if paper not in papers:
        raise UserError(f"paper {paper!r}: no such file in {PAPERS}{did_you_mean(paper, papers)}")
    tables = {each["name"]: each for each in papers[paper]["tables"]}
    if table not in tables:
        raise UserError(f"{PAPERS / paper}.yaml: no table {table!r}{did_you_mean(table, tables)}")
    rows: dict[str, dict[str, Figure]] = {}
    for row in tables[table]["rows"]:
        rows[row["label"]] = {}
        for column, cell in zip(tables[table]["columns"], row["cells"], strict=True):
            if "paper" not in cell:
                continue
            try:
                values = tuple(float(text) for text in str(cell["paper"]).split("/"))
            except ValueError:
                raise UserError(
                    f"{PAPERS / paper}.yaml: {table}, {row['label']}, {column}: found "
                    f"{cell['paper']!r}, expected a number, or numbers with / between them"
                ) from None
            rows[row["label"]][column] = Figure(values, cell["status"])
    return rows


def resolve(symbol: str) -> Any:
    """The object of a dotted name.

    Raises:
        UserError: no module or attribute of that name.
    """
    parts = symbol.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        try:
            for name in parts[end:]:
                found = getattr(found, name)
        except AttributeError:
            break
        return found
    raise UserError(f"{symbol}: no such name in the package")


@dataclass(frozen=True)
class Code:
    """A symbol with its source, for the page of code."""

    symbol: str
    file: str
    line: int
    source: str


def read_code(symbols: Sequence[str]) -> list[Code]:
    """The source of each symbol, in alphabetical order."""
    found = []
    for symbol in sorted(set(symbols)):
        thing = inspect.unwrap(resolve(symbol))  # not a decorator's wrapper
        lines, number = inspect.getsourcelines(thing)
        file = Path(inspect.getsourcefile(thing) or "")
        shown = file.relative_to(CHECKOUT) if file.is_relative_to(CHECKOUT) else Path(file.name)
        found.append(Code(symbol, shown.as_posix(), max(number, 1), textwrap.dedent("".join(lines)).rstrip()))
    return found


def number(value: float) -> str:
    """A metric as a table shows it."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def ours(cell: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """The run's number beside a paper's, with its spread where there is one; `NOT_RUN` without it.

    A metric of the page may say `seed*`: the mean and the deviation over all seeds of the run.
    """
    name = cell.get("metric", "")
    parts = [re.escape(part) for part in name.split("seed*")]
    found = [value for key, value in metrics.items() if re.fullmatch(r"seed\d+".join(parts), key)]
    if not found:
        return NOT_RUN
    scale = cell.get("scale", 1)
    spread = metrics.get(f"{name}_std")
    if len(found) > 1:
        spread = statistics.stdev(found)
    text = number(scale * statistics.fmean(found)) + (
        f" ± {number(scale * spread)}" if spread is not None and math.isfinite(spread) else ""
    )
    return f"{text} {cell.get('unit', '')}".strip()


@dataclass
class Node:
    """A notebook on the map of the course, in a drawing `MAP_WIDTH` wide: the middle of its box, and its width."""

    number: str
    title: str
    href: str
    x: float
    y: float
    width: float
    needs: list["Node"] = field(default_factory=list)
    leads: list["Node"] = field(default_factory=list)
    arrows: list[str] = field(default_factory=list)  # SVG paths from what it needs

    @property
    def lines(self) -> list[str]:
        """Number and title as they stand in the box, on two lines at most."""
        characters = max(8, int((self.width - 10) / CHARACTER))
        return textwrap.wrap(f"{self.number} · {self.title}", characters, max_lines=2, placeholder=" …")


MAP_WIDTH, BOX, ROW = 960, (220, 40), 68
CHARACTER = 7.2  # mean width of a letter of the map's font
LANE = 28  # width of the gap in a row of boxes through which an arrow passes


def draw_map(titles: Sequence[str], hrefs: Sequence[str], needs: Sequence[frozenset[int]]) -> list[Node]:
    """Notebooks in rows, each below all that it needs; no arrow passes behind a box.

    Args:
        titles: of the notebooks, such as `13 · Vokenise`.
        hrefs: of their pages.
        needs: for each the places of those it directly needs, all before it.
    """
    level: list[int] = []
    for before in needs:
        level.append(1 + max((level[j] for j in before), default=-1))
    # a row holds notebooks i, and lanes (j, row) for the arrows of notebook j that end further down
    rows: list[list[Any]] = [
        [i for i, own in enumerate(level) if own == row] for row in range(max(level) + 1)
    ]
    for i, before in enumerate(needs):
        for j in before:
            for row in range(level[j] + 1, level[i]):
                if (j, row) not in rows[row]:
                    rows[row].append((j, row))
    lanes = max(sum(isinstance(item, tuple) for item in row) for row in rows)
    width = min(BOX[0], (MAP_WIDTH - LANE * lanes) / max(map(level.count, level)) - 12)
    x: dict[Any, float] = {}

    def above(item: Any) -> float:
        """Where its arrows come from, on average."""
        if isinstance(item, tuple):
            j, row = item
            return x[(j, row - 1) if row - 1 > level[j] else j]
        places = [x[_last(j, level[item], level)] for j in needs[item]]
        return sum(places) / len(places) if places else 0.0

    for row in rows:
        row.sort(key=above)
        sizes = [LANE if isinstance(item, tuple) else width for item in row]
        gap = (MAP_WIDTH - sum(sizes)) / (len(row) + 1)
        for place, item in enumerate(row):
            x[item] = gap * (place + 1) + sum(sizes[:place]) + sizes[place] / 2
    nodes = []
    for i, title in enumerate(titles):
        first, _, rest = title.partition(" · ")
        nodes.append(Node(first, rest or title, hrefs[i], x[i], _middle(level[i]), width))
    for i, before in enumerate(needs):
        for j in sorted(before):
            nodes[i].needs.append(nodes[j])
            nodes[j].leads.append(nodes[i])
            passed = [x[j], *(x[(j, row)] for row in range(level[j] + 1, level[i])), x[i]]
            nodes[i].arrows.append(_arrow(passed, level[j]))
    return nodes


def _last(j: int, row: int, level: Sequence[int]) -> Any:
    """What stands for notebook j in the row above `row`: itself, or its lane there."""
    return j if level[j] == row - 1 else (j, row - 1)


def _middle(row: int) -> float:
    return ROW * row + BOX[1] / 2 + 4


def _arrow(places: Sequence[float], row: int) -> str:
    """The path of an arrow through these places of consecutive rows: bent between rows, straight through a row."""
    path = f"M{places[0]:.1f} {_middle(row) + BOX[1] / 2:.1f}"
    for step, (start, end) in enumerate(pairwise(places), row):
        top, bottom = _middle(step) + BOX[1] / 2, _middle(step + 1) - BOX[1] / 2
        last = step - row == len(places) - 2
        bottom -= 2 if last else 0  # room for the tip
        path += f" C{start:.1f} {top + 16:.1f} {end:.1f} {bottom - 16:.1f} {end:.1f} {bottom:.1f}"
        path += "" if last else f" V{bottom + BOX[1]:.1f}"
    return path
