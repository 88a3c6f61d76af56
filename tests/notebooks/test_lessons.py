"""How a lesson reads: what it imports and when, how much of it draws, names that keep their meaning, guesses first."""

import ast
import re
from collections import defaultdict

import pytest

from tests.notebooks.test_form import NOTEBOOKS, TAUGHT, calls, executed, load, made, source
from vlpnb.course import charts, picture_charts, pipeline, plotting

MOST_IMPORTS = 10  # of the package's names in a set-up cell
MOST_DRAWING = 0.2  # of a notebook's lines
# the stages that train; `probes` and `squad`, `swag` belong to no notebook's own cell
TRAINING = {"language", "vision"} | {
    f"vokenization.{name}" for name in ("matching", "pretraining", "glue", "squad", "swag", "probes")
}
# one-cell names of a derive-and-check cell, and of the words for a picture
SCRATCH = {"by_hand", "package", "alt", "told"}
OWN = {"show", "draw", "show_pictures", "show_rows", "picture_grid"} | {
    name
    for module in (charts, picture_charts)
    for name, value in vars(module).items()
    if callable(value) and value.__module__ == module.__name__ and not name.startswith("_")
}


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


def drawing_lines(cell: str) -> set[int]:
    """Numbers of the lines that draw: calls of the drawing helpers or matplotlib, and what is assigned for them."""
    tree = ast.parse(cell)
    held = {"plt", "fig", "ax", "axes", "axis"} | SCRATCH - {"by_hand", "package"}
    found: set[int] = set()

    def draws(statement: ast.stmt) -> bool:
        body = [inner for field in ("body", "orelse") for inner in getattr(statement, field, [])]
        if body:
            drawn = [draws(inner) for inner in body]
            if all(drawn):
                found.update(range(statement.lineno, body[0].lineno))
                return True
            return False
        if isinstance(statement, ast.Import | ast.ImportFrom):
            drawn = "matplotlib" in ast.unparse(statement) or bool({a.name for a in statement.names} & OWN)
        else:
            drawn = bool(names_in(statement) & (OWN | held))
        if drawn:
            found.update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
        return drawn

    for statement in tree.body:
        draws(statement)
    return found


def drawing_share(notebook: dict) -> float:
    """Share of a notebook's lines of code that draw; blank lines, comments and parameters do not count."""
    all_lines = drawn = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", []):
            lines = source(cell).split("\n")
            code = {i for i, line in enumerate(lines, 1) if line.strip() and not line.strip().startswith("#")}
            all_lines += len(code)
            drawn += len(code & drawing_lines(source(cell)))
    return drawn / all_lines


def training_calls(cell: str) -> list[str]:
    """Calls of `run.stage` and `run.grid`, as text, that may train."""
    return [
        ast.unparse(call)
        for name, call in calls(cell)
        if name in ("run.stage", "run.grid")
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and call.args[0].value in TRAINING
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

    assert drawing_lines("fig, ax = plt.subplots()\nx = 1\nfor y in z:\n    ax.plot(y)") == {1, 3, 4}
    mixed = "x = 1\ndraw(\n    bars(x, y='a'))\nfor y in z:\n    a = y\n    show(y)"
    assert drawing_lines(mixed) == {2, 3, 6}
    assert drawing_share(lesson("## 1", "x = 1\n# nothing\n\ny = 2\nz = 3\ndraw(x)")) == 0.25

    glance = "# T\n\n| Writes | stage `vision` |"
    trains = "v = run.stage('vision')"
    assert unguessed(lesson(glance, trains)) == ["run.stage('vision')"]
    assert unguessed(lesson(glance, "**Write down your guess**: x", trains, "## later", trains)) == []
    assert unguessed(lesson(glance, "**Write down your guess**: x", "y = 1", trains)) == [
        "run.stage('vision')"
    ]
    assert unguessed(lesson("# T\n\n| Writes | nothing |", trains)) == []
    assert setup_imports(made("import numpy\nfrom vlpnb.text import a, b", "from vlpnb.nn import c")) == [
        "a",
        "b",
    ]


def test_the_stages_that_train_are_stages_and_none_is_forgotten():
    names = {stage.name for stage in pipeline.STAGES}
    assert names >= TRAINING
    tested = set().union(*(written_stages(load(path)) for path in NOTEBOOKS)) & TRAINING
    assert tested >= {"vision", "vokenization.matching", "vokenization.pretraining", "vokenization.glue"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestLessons:
    def test_the_set_up_imports_few_names(self, path):
        found = setup_imports(load(path))
        assert len(found) <= MOST_IMPORTS, found

    def test_at_most_a_fifth_of_the_lines_draws(self, path):
        assert drawing_share(load(path)) <= MOST_DRAWING

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
