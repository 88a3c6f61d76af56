"""How a lesson reads: what it imports and when, how much of it draws, names that keep their meaning, guesses first."""

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import pytest

from tests.notebooks.test_form import NOTEBOOKS, TAUGHT, calls, executed, load, made, source
from vlpnb.course import charts, picture_charts, pipeline, plotting

MOST_IMPORTS = 10  # of the package's names in a set-up cell
MOST_DRAWING = 0.2  # of a notebook's lines
# the stages that train; `probes` and `squad`, `swag` belong to no notebook's own cell
TRAINING = {
    *("language", "vision", "detector", "towers"),
    *(f"vokenization.{name}" for name in ("matching", "pretraining", "glue", "squad", "swag", "probes")),
    *(f"lxmert.{name}" for name in ("pretraining", "vqa", "gqa", "nlvr2")),
    *(f"vlp.{name}" for name in ("pretraining", "captioning", "scst", "vqa")),
    "valm.pretraining",
    *(f"cclm.{name}" for name in ("pretraining", "retrieval", "xvnli", "xgqa", "marvl")),
}
# one-cell names of a derive-and-check cell, and of the words for a picture
SCRATCH = {"by_hand", "package", "alt", "told"}
OWN = {"show", "draw", "show_pictures", "show_rows", "picture_grid"} | {
    name
    for module in (charts, picture_charts)
    for name, value in vars(module).items()
    if callable(value) and value.__module__ == module.__name__ and not name.startswith("_")
}


DRAWING = OWN | {"plt", "fig", "ax", "alt", "told"}


def names_in(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def bound(node: ast.AST) -> set[str]:
    """Names that a statement assigns at the top level; loop variables and what is inside functions do not count."""
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            found.add(child.name)
        elif isinstance(child, ast.For):
            found |= bound(ast.Module([ast.Expr(child.iter), *child.body, *child.orelse], []))
        elif isinstance(child, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            found |= {n.target.id for n in ast.walk(child) if isinstance(n, ast.NamedExpr)}
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            found.add(child.id)
        else:
            found |= bound(child)
    return found


def sections(notebook: dict) -> list[tuple[str, list[str]]]:
    """Headings of level 2 with the code cells below each that a run executes, exercises left out."""
    found: list[tuple[str, list[str]]] = [("set-up", [])]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            found += [(title, []) for title in re.findall(r"^## (.*)$", source(cell), flags=re.M)]
        elif not {"exercise", "solution", "check"} & set(cell["metadata"].get("tags", [])):
            found[-1][1].append(source(cell))
    return found


def rebound(notebook: dict) -> dict[str, list[str]]:
    """Name → the sections that assign it, where these are several.

    A name of `SCRATCH` may be assigned again by a cell that uses it, and by no other cell.
    """
    where: dict[str, list[str]] = defaultdict(list)
    for title, cells in sections(notebook):
        for name in set().union(*(bound(ast.parse(cell)) for cell in cells)):
            where[name].append(title)
    scratch = {
        name
        for name in SCRATCH
        if all(
            name in bound(ast.parse(cell))
            for _, cells in sections(notebook)
            for cell in cells
            if any(isinstance(n, ast.Name) and n.id == name for n in _top_level(ast.parse(cell)))
        )
    }
    return {name: titles for name, titles in where.items() if len(titles) > 1 and name not in scratch}


def _top_level(node: ast.AST) -> list[ast.AST]:
    found = [node]
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef):
            found += _top_level(child)
    return found


@dataclass
class Statement:
    """A statement of a cell: a simple one, or the head of a compound one with what is inside."""

    node: ast.stmt
    lines: set[int]
    inside: list["Statement"]
    draws: bool = False

    @cached_property
    def loads(self) -> set[str]:
        return {n.id for n in self._names() if isinstance(n.ctx, ast.Load)}

    @cached_property
    def stores(self) -> set[str]:
        return {n.id for n in self._names() if isinstance(n.ctx, ast.Store)}

    def _names(self) -> list[ast.Name]:
        if not self.inside:
            own: list[ast.AST] = [self.node]
        else:
            blocks = ("body", "orelse", "handlers", "finalbody")
            values = [value for name, value in ast.iter_fields(self.node) if name not in blocks]
            own = [n for v in values for n in (v if isinstance(v, list) else [v]) if isinstance(n, ast.AST)]
        return [n for one in own for n in ast.walk(one) if isinstance(n, ast.Name)]


def statements(cell: str) -> list[Statement]:
    """All statements of a cell, each with the numbers of its own lines of code; inner ones come first."""
    code = {i for i, t in enumerate(cell.split("\n"), 1) if t.strip() and not t.strip().startswith("#")}

    def read(node: ast.stmt) -> list[Statement]:
        inner = [s for block in ("body", "orelse", "finalbody") for s in getattr(node, block, [])]
        inner += [s for handler in getattr(node, "handlers", []) for s in handler.body]
        below = [read(child) for child in inner]
        lines = code & set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        lines -= {line for child in below for one in child for line in one.lines}
        return [
            *(one for child in below for one in child),
            Statement(node, lines, [child[-1] for child in below]),
        ]

    return [one for node in ast.parse(cell).body for one in read(node)]


def drawing_share(notebook: dict) -> float:
    """Share of a notebook's lines of code that draw; blank lines, comments and parameters do not count.

    A statement draws if it uses the drawing helpers or matplotlib, if all inside it draws, or if it only assigns
    what nothing but drawing uses.
    """
    found = [
        statement
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
        for statement in statements(source(cell))
    ]
    for one in found:
        imported = {alias.name for alias in one.node.names} if isinstance(one.node, ast.ImportFrom) else set()
        one.draws = bool((one.loads | one.stores | imported) & DRAWING)
    changed = True
    while changed:
        changed = False
        for one in found:
            if one.inside:
                draws = all(inner.draws for inner in one.inside)
            else:
                users = [u.draws for u in found if u is not one and u.loads & one.stores]
                only = isinstance(one.node, ast.Assign | ast.AugAssign | ast.AnnAssign) and bool(users)
                draws = one.draws or (only and all(users))
            changed, one.draws = changed or draws != one.draws, draws
    return sum(len(one.lines) for one in found if one.draws) / sum(len(one.lines) for one in found)


def words_per_line(notebook: dict) -> float:
    """Words of text for each line of code; imports, comments and lone brackets are no lines."""
    words = sum(len(source(c).split()) for c in notebook["cells"] if c["cell_type"] == "markdown")
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    cells = [source(c) for c in code if "parameters" not in c["metadata"].get("tags", [])]
    lines = [line for cell in cells for line in cell.split("\n") if line.strip()]
    return words / sum(not re.match(r"\s*(#|import |from \S+ import |[\])}]+$)", line) for line in lines)


def training_calls(cell: str) -> list[str]:
    """Calls of `run.stage` and `run.grid`, as text, that may train; `updates=0` asks for what there is before."""
    return [
        ast.unparse(call)
        for name, call in calls(cell)
        if name in ("run.stage", "run.grid")
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and call.args[0].value in TRAINING
        and "updates=0" not in map(ast.unparse, call.keywords)
    ]


def written_stages(notebook: dict) -> set[str]:
    """Stages that the row "Writes" of "At a glance" names."""
    row = next(
        (r for c in notebook["cells"][:3] for r in source(c).split("\n") if r.startswith("| Writes |")), ""
    )
    return set(re.findall(r"`([\w.]+)`", row))


def unguessed(notebook: dict) -> list[str]:
    """Cells that train, with no "Write down your guess" in the text right above them.

    A notebook trains what it writes; the same call further down only reads it again.
    """
    found, known, above = [], set(), ""
    written = written_stages(notebook) & TRAINING
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            above = source(cell)
            continue
        new = [
            c for c in training_calls(source(cell)) if any(f"'{w}'" in c for w in written) and c not in known
        ]
        if new and "Write down your guess" not in above:
            found += new
        known |= set(new)
        above = ""
    return found


def setup_imports(notebook: dict) -> list[str]:
    """Names of the package that the first cell after the parameters imports."""
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    setup = next(c for c in code if "parameters" not in c["metadata"].get("tags", []))
    found = [node for node in ast.walk(ast.parse(source(setup))) if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in found if (node.module or "").startswith("vlpnb") for alias in node.names]


def lesson(*cells: str) -> dict:
    """A notebook of code cells; a text that begins with `#` and a space is a markdown cell."""
    notebook = made(*cells)
    for cell in notebook["cells"]:
        if source(cell).startswith(("# ", "## ", "**")):
            cell["cell_type"] = "markdown"
    return notebook


def test_the_lint_finds_what_it_looks_for():
    assert rebound(lesson("## 1", "x = 1", "## 2", "x = 2")) == {"x": ["1", "2"]}
    assert rebound(lesson("## 1", "x = 1", "x += 1", "## 2", "for x in y:\n    print(x)")) == {}
    assert rebound(lesson("## 1", "def f():\n    x = 1", "## 2", "def g():\n    x = 1")) == {}
    assert rebound(lesson("## 1", "with a as b: ...", "## 2", "b = [x for x in c]")) == {"b": ["1", "2"]}
    assert rebound(lesson("## 1", "by_hand = 1", "## 2", "by_hand = 2\nassert by_hand")) == {}
    assert rebound(lesson("## 1", "by_hand = 1", "## 2", "by_hand = 2", "print(by_hand)")) != {}

    assert drawing_share(made("x = 1\n# nothing\n\ny = 2\nprint(x, y)\ndraw(x)")) == 1 / 4
    plotted = "x = 1\nfig, ax = plt.subplots()\nfor y in z:\n    ax.plot(x)\nz = f()\nprint(z)"
    assert drawing_share(made(plotted)) == 4 / 6
    assert drawing_share(made("a = f()\nb = a + 1", "draw(\n    bars(b)\n)", "print(1)")) == 5 / 6
    assert drawing_share(made("if a:\n    b = 1\n    show(b)\nelse:\n    print(2)")) == 2 / 5

    spoken = lesson("## One two three", "import a\n# no line\nb = f(\n    1\n)")
    assert words_per_line(spoken) == 4 / 2

    glance = "# T\n\n| Writes | stage `vision` |"
    trains = "v = run.stage('vision')"
    assert unguessed(lesson(glance, trains)) == ["run.stage('vision')"]
    assert unguessed(lesson(glance, "**Write down your guess**: x", trains, "## later", trains)) == []
    assert unguessed(lesson(glance, "**Write down your guess**: x", "y = 1", trains)) == [
        "run.stage('vision')"
    ]
    assert unguessed(lesson("# T\n\n| Writes | nothing |", trains)) == []
    assert unguessed(lesson(glance, "v = run.stage('vision', updates=0)")) == []
    assert unguessed(lesson(glance, "v = run.stage('vision', updates=10)")) != []
    assert setup_imports(made("import numpy\nfrom vlpnb.text import a, b", "from vlpnb.nn import c")) == [
        "a",
        "b",
    ]


def test_the_stages_that_train_are_stages_and_none_is_forgotten():
    names = {stage.name for stage in pipeline.STAGES}
    assert names >= TRAINING
    tested = set().union(*(written_stages(load(path)) for path in NOTEBOOKS)) & TRAINING
    assert tested >= {"vision", "vokenization.matching", "vokenization.pretraining", "vokenization.glue"}
    assert tested >= {"detector", "lxmert.pretraining", "vlp.pretraining", "vlp.scst"}
    assert tested >= {"towers", "valm.pretraining"}
    assert tested >= {f"cclm.{name}" for name in ("pretraining", "retrieval", "xvnli", "xgqa", "marvl")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestLessons:
    def test_the_set_up_imports_few_names(self, path):
        found = setup_imports(load(path))
        assert len(found) <= MOST_IMPORTS, found

    def test_at_most_a_fifth_of_the_lines_draws(self, path):
        assert drawing_share(load(path)) <= MOST_DRAWING

    def test_text_and_code_are_in_balance(self, path):
        assert 5 <= words_per_line(load(path)) <= 12

    def test_figures_are_drawn_by_the_course(self, path):
        for cell in executed(load(path)):
            assert "matplotlib" not in cell
            assert not names_in(ast.parse(cell)) & {"plt", "fig", "ax"}

    def test_a_name_keeps_its_meaning(self, path):
        assert rebound(load(path)) == {}

    def test_a_guess_comes_before_training(self, path):
        assert unguessed(load(path)) == []

    def test_what_needs_the_world_is_said_once(self, path):
        cells = executed(load(path))
        uses = [name for cell in cells for name, _ in calls(cell) if name == "ground_truth"]
        assert len(uses) <= 1
        for cell in cells:
            assert ".scenes is not None" not in cell, "ground_truth(dataset) says it once"
            assert not re.search(r"^if not truth|^if world", cell, flags=re.M)


@pytest.mark.parametrize("path", TAUGHT, ids=lambda p: p.stem)
def test_a_lesson_has_a_readable_number_of_cells(path):
    code = [cell for cell in load(path)["cells"] if cell["cell_type"] == "code"]
    assert 25 <= len(code) <= 45


def test_the_look_of_the_course_is_one():
    assert set(OWN) >= {"bars", "curves", "heat", "points", "histogram", "picture", "show_rows"}
    assert callable(plotting.show_pictures)
