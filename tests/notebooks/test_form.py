"""The form of every notebook: stripped, canonical, parametrised, sectioned, with exercises that can be checked."""

import ast
import itertools
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# 00 is the way in, and those from 90 on look into finished runs: no exercises there
TAUGHT = [path for path in NOTEBOOKS if path.name[:2] != "00" and path.name[0] != "9"]


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tagged(notebook: dict, tag: str) -> list[str]:
    return [source(c) for c in notebook["cells"] if tag in c["metadata"].get("tags", [])]


def test_the_whole_of_part_one_is_there():
    numbers = {path.name[:2] for path in NOTEBOOKS}
    assert numbers >= {"00", "01", "02", "10", "11", "12", "13", "14", "15", "16"}


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
def test_has_two_exercises_with_stub_solution_and_check(path):
    notebook = load(path)
    stubs = tagged(notebook, "exercise")
    assert len(stubs) >= 2
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
