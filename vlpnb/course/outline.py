"""The course's outline: its parts, and which notebook needs which.

A notebook says in "At a glance" which stages it reads and writes. From that, and from what each stage needs, follows
which notebooks it comes after: the runner's `--jobs` and the map on the index page both read it here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import nbformat

from vlpnb.stage import Run

# first digit of a notebook's number → the part it belongs to (design: the product)
PARTS: dict[str, str] = {
    "0": "Foundations",
    "1": "Vokenization",
    "2": "LXMERT",
    "3": "VLP",
    "4": "VaLM",
    "5": "CCLM",
    "9": "Across the systems",
}
STATEMENT = re.compile(r"^(?:\|\s*|\*\*)(Reads|Writes)\b(.*)$", flags=re.M)


@dataclass(frozen=True)
class Stated:
    """The stages that a notebook says it reads and writes; `said` is False where it says neither."""

    reads: frozenset[str]
    writes: frozenset[str]
    said: bool = True


def stated(notebook: nbformat.NotebookNode, stages: Mapping) -> Stated:
    """What a notebook's "At a glance" says of the stages it reads and writes.

    Args:
        notebook: with lines such as ``| Reads | stages `matching`, `keys` |``.
        stages: the names that count; other words between backticks are files and fields.
    """
    found: dict[str, set[str]] = {"Reads": set(), "Writes": set()}
    said = False
    for cell in notebook.cells[:3]:
        if cell.cell_type != "markdown":
            continue
        for match in STATEMENT.finditer(cell.source):
            said = True
            # "**Reads:** nothing. **Writes:** the stage `vision`." is one line
            read, _, written = match[2].partition("**Writes")
            found[match[1]].update(name for name in re.findall(r"`([\w.]+)`", read) if name in stages)
            found["Writes"].update(name for name in re.findall(r"`([\w.]+)`", written) if name in stages)
    return Stated(frozenset(found["Reads"]), frozenset(found["Writes"]), said)


def needed_stages(run: Run, names: frozenset[str]) -> frozenset[str]:
    """The stages themselves and all that they need, directly or not, as the run is configured."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [request.stage for request in run.stages[name].inputs(run.config(name)).values()]
    return frozenset(found)


def prerequisites(run: Run, notebooks: Sequence[nbformat.NotebookNode]) -> list[frozenset[int]]:
    """For each notebook the places of those before it that make something it needs."""
    statements = [stated(notebook, run.stages) for notebook in notebooks]
    needs = [needed_stages(run, one.reads | one.writes) for one in statements]
    return [frozenset(j for j in range(i) if statements[j].writes & needs[i]) for i in range(len(statements))]


def direct(needs: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """The prerequisites without those that another prerequisite already implies."""
    return [frozenset(j for j in before if not any(j in needs[k] for k in before)) for before in needs]
