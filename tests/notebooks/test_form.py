"""The form of every notebook: stripped, canonical, parametrised, sectioned, with exercises that can be checked."""

import ast
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import papermill
import pytest

from vlpnb.course.explorer import NEEDED, NOTEBOOK

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# 00 is the way in, and 91 looks into finished runs: no exercises there
TAUGHT = [path for path in NOTEBOOKS if path.name[:2] not in ("00", "91")]


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tagged(notebook: dict, tag: str) -> list[str]:
    return [source(c) for c in notebook["cells"] if tag in c["metadata"].get("tags", [])]


PARTS_SHOWN = {f"part-{part}" for part in NEEDED}  # sections of the explorer
TAGS = {
    "code": {"parameters", "exercise", "skip-execution", "solution", "check", "workbook", *PARTS_SHOWN},
    "markdown": {"workbook", *PARTS_SHOWN},
    "raw": set(),
}


def executed(notebook: dict) -> list[str]:
    """Sources of the code cells that "restart and run all" executes; stubs of exercises are skipped."""
    return [
        source(c)
        for c in notebook["cells"]
        if c["cell_type"] == "code" and "skip-execution" not in c["metadata"].get("tags", [])
    ]


def calls(cell: str) -> list[tuple[str, ast.Call]]:
    """Every call of a cell with its dotted name."""
    return [(ast.unparse(n.func), n) for n in ast.walk(ast.parse(cell)) if isinstance(n, ast.Call)]


def shell_uses(notebook: dict) -> list[str]:
    """Calls that start other programs or magics."""
    forbidden = {"os.system", "os.popen"}
    found = [name for cell in executed(notebook) for name, _ in calls(cell)]
    return [name for name in found if name in forbidden or name.startswith(("subprocess.", "get_ipython"))]


def undefined_names(notebook: dict) -> list[str]:
    """Names that a run from top to bottom would miss, by ruff's (pyflakes') rules F821 and F823."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821,F823"]
    found = subprocess.run(
        [*command, "--output-format", "json", "--stdin-filename", "notebook.py", "-"],
        input="\n\n".join(executed(notebook)),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return [problem["message"] for problem in json.loads(found.stdout)]


def defined_names(text: str) -> set[str]:
    """Functions, classes and constants at the top level of a source."""
    names = set()
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names |= {t.id for t in targets if isinstance(t, ast.Name) and t.id.isupper()}
    return {name for name in names if not name.startswith("_")}


PACKAGE = set().union(
    *(defined_names(path.read_text(encoding="utf-8")) for path in (ROOT / "vlpnb").rglob("*.py"))
)


def redefined_names(notebook: dict, package: frozenset[str] | set[str] = frozenset()) -> list[str]:
    """Names of the package that a cell defines without comparing with it there (an assert) or in an exercise."""
    found = []
    for cell in notebook["cells"]:
        text = source(cell)
        if cell["cell_type"] == "code" and not {"exercise", "solution"} & set(
            cell["metadata"].get("tags", [])
        ):
            names = defined_names(text) & (package or PACKAGE)
            derives = any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text)))
            found += [] if derives else sorted(names)
    return found


def figures_without_alt(notebook: dict) -> list[str]:
    """Cells whose figure is not shown by `show` or `show_pictures` with a text that is not empty."""
    found = []
    for cell in executed(notebook):
        used = calls(cell)
        shown = [call for name, call in used if name in ("show", "show_pictures")]
        for call in shown:
            alt = [k.value for k in call.keywords if k.arg == "alt"] + call.args[1:2] * (
                call.func.id == "show"
            )
            if not alt or (isinstance(alt[0], ast.Constant) and not str(alt[0].value or "").strip()):
                found.append(f"no alt text: {ast.unparse(call)}")
        made = [
            n for n, _ in used if n in ("plt.figure", "plt.subplots", "plt.plot", "plt.imshow", "plt.show")
        ]
        if made and (not shown or "plt.show" in made):
            found.append(f"not shown by vlpnb.course.plotting.show: {cell[:60]!r}")
    return found


def made(*cells: str, tags: tuple[str, ...] = ()) -> dict:
    """A notebook of these code cells."""
    return {
        "cells": [{"cell_type": "code", "metadata": {"tags": list(tags)}, "source": [text]} for text in cells]
    }


def test_the_lint_finds_what_it_looks_for():
    assert undefined_names(made("print(late)", "late = 1")) == ["Undefined name `late`"]
    assert undefined_names(made("early = 1", "print(early)")) == []
    assert undefined_names(made("def stub(): ...", tags=("skip-execution",))) == []
    assert shell_uses(made("import os", "os.system('pip')")) == ["os.system"]
    assert redefined_names(made("def attention(q): ..."), {"attention"}) == ["attention"]
    assert redefined_names(made("def attention(q): ...\nassert attention(1)"), {"attention"}) == []
    assert redefined_names(made("def attention(q): ...", tags=("solution",)), {"attention"}) == []
    for bad in (
        "show(fig)",
        "show(fig, ' ')",
        "show_pictures(p, t)",
        "show_pictures(p, alt='')",
        "plt.plot(x)",
    ):
        assert figures_without_alt(made(bad)), bad
    for good in ("fig, ax = plt.subplots()\nshow(fig, told)", "show_pictures(p, t, alt=f'{n} pictures')"):
        assert figures_without_alt(made(good)) == []


def test_all_five_parts_are_there_as_a_whole():
    numbers = {path.name[:2] for path in NOTEBOOKS}
    assert numbers >= {"00", "01", "02", "10", "11", "12", "13", "14", "15", "16", "20", "21", "22"}
    assert numbers >= {"30", "31", "32", "40", "41", "42", "50", "51", "52", "90"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestForm:
    def test_is_stripped_and_canonical(self, path):
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        assert "widgets" not in notebook["metadata"]
        for cell in notebook["cells"]:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None
        assert len(text) < 250_000
        ids = [cell["id"] for cell in notebook["cells"]]
        assert len(set(ids)) == len(ids)

    def test_has_one_parameters_cell_of_annotated_scalars(self, path):
        (cell,) = tagged(load(path), "parameters")
        statements = ast.parse(cell).body
        assert 1 <= len(statements) <= 6
        assert all(isinstance(s, ast.AnnAssign) for s in statements), "every parameter is annotated"

    def test_papermill_called_directly_understands_the_parameters(self, path):
        (cell,) = tagged(load(path), "parameters")
        declared = {s.target.id: (s.annotation.id, ast.literal_eval(s.value)) for s in ast.parse(cell).body}
        understood = papermill.inspect_notebook(str(path))
        assert {
            name: (found["inferred_type_name"], ast.literal_eval(found["default"]))
            for name, found in understood.items()
        } == declared

    def test_opens_with_a_title_and_at_a_glance(self, path):
        cells = load(path)["cells"]
        assert cells[0]["cell_type"] == "markdown"
        assert source(cells[0]).startswith("# ")
        assert any("## At a glance" in source(c) for c in cells[:3])

    def test_cells_are_short_and_every_one_parses(self, path):
        code = [source(c) for c in load(path)["cells"] if c["cell_type"] == "code"]
        assert 5 <= len(code) <= 50
        for cell in code:
            assert cell.strip(), "no empty cells"
            assert len(cell.splitlines()) <= 40, f"{len(cell.splitlines())} lines: {cell[:80]!r}"
            assert not re.search(r"^\s*[!%]|pip install", cell, flags=re.M), cell
            ast.parse(cell)

    def test_tags_and_metadata_are_known_ones(self, path):
        notebook = load(path)
        assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
        assert (notebook["nbformat"], notebook["nbformat_minor"]) >= (4, 5), "cells have ids since 4.5"
        for cell in notebook["cells"]:
            assert set(cell["metadata"]) <= {"tags"}, cell["metadata"]
            tags = set(cell["metadata"].get("tags", []))
            assert tags <= TAGS[cell["cell_type"]], cell["metadata"]
            assert "workbook" not in tags or path.name == NOTEBOOK, "only the explorer is a web app, too"

    def test_runs_nothing_outside_python(self, path):
        assert shell_uses(load(path)) == []

    def test_every_name_is_defined_before_it_is_used(self, path):
        assert undefined_names(load(path)) == []

    def test_defines_nothing_that_the_package_defines(self, path):
        assert redefined_names(load(path)) == []

    def test_every_figure_is_shown_with_alt_text(self, path):
        assert figures_without_alt(load(path)) == []

    def test_headings_do_not_skip_levels(self, path):
        levels = [
            len(m[1])
            for c in load(path)["cells"]
            if c["cell_type"] == "markdown"
            for m in re.finditer(r"^(#{1,6}) ", re.sub(r"```.*?```", "", source(c), flags=re.S), flags=re.M)
        ]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))

    def test_markdown_images_have_alt_text(self, path):
        for cell in load(path)["cells"]:
            if cell["cell_type"] == "markdown":
                assert not re.search(r"!\[\s*\]\(", source(cell))
                assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", source(cell)))


@pytest.mark.parametrize("path", TAUGHT, ids=lambda p: p.stem)
def test_has_three_exercises_with_stub_solution_and_check(path):
    notebook = load(path)
    stubs = tagged(notebook, "exercise")
    assert len(stubs) >= 3
    assert len(tagged(notebook, "solution")) == len(stubs)
    assert len(tagged(notebook, "check")) == len(stubs)
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "exercise" in tags:
            assert "skip-execution" in tags
    order = [
        tag
        for cell in notebook["cells"]
        for tag in ("exercise", "solution", "check")
        if tag in cell["metadata"].get("tags", [])
    ]
    assert order == ["exercise", "solution", "check"] * len(stubs)
