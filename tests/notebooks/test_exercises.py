"""The exercises as they stand in the notebooks: every solution passes its check, every stub is told apart."""

import ast
import json
import re
from pathlib import Path

import matplotlib
import pytest

from vlpnb.course.checks import Wrong

NOTEBOOKS = [  # 00 is the way in, and 91 looks into finished runs: no exercises there
    p for p in sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb")) if "01" <= p.name[:2] < "91"
]
HEADING = re.compile(r"^### Exercise (\d\d)\.(\d+) \((easy|medium|hard|open), (\d+) minutes\)$", flags=re.M)


def cells(path: Path) -> list[tuple[set[str], str]]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [(set(c["metadata"].get("tags", [])), "".join(c["source"])) for c in notebook["cells"]]


def imports(path: Path) -> dict:
    """The names that a notebook imports, as its cells would see them."""
    matplotlib.use("Agg")
    names: dict = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            body = [
                s
                for s in ast.parse("".join(cell["source"])).body
                if isinstance(s, ast.Import | ast.ImportFrom)
            ]
            exec(compile(ast.Module(body, []), path.name, "exec"), names)
    return names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestExercises:
    def test_every_solution_passes_its_check_and_every_stub_fails(self, path, capsys):
        names = imports(path)
        done = 0
        for tags, source in cells(path):
            if "exercise" in tags:
                stub = source
            elif "solution" in tags:
                solution = source
            elif "check" in tags:
                exec(stub, names)
                with pytest.raises(Wrong, match="nothing came back yet"):
                    exec(source, names)
                exec(solution, names)
                exec(source, names)
                done += 1
        assert done >= 3
        assert capsys.readouterr().out.count("Correct: ") == done

    def test_headings_give_number_difficulty_and_minutes(self, path):
        text = "\n".join(source for _, source in cells(path))
        found = HEADING.findall(text)
        assert len(found) == len(re.findall(r"^### Exercise", text, flags=re.M)), "a heading lacks a part"
        assert [f"{number}.{k}" for number, k, *_ in found] == [
            f"{path.name[:2]}.{k}" for k in range(1, len(found) + 1)
        ]
        levels = [level for _, _, level, _ in found]
        assert levels.index("open") == len(levels) - 1, "one open exercise, the last"
        assert any(level == "easy" and int(minutes) <= 10 for _, _, level, minutes in found), "no warm-up"

    def test_stub_and_solution_have_the_same_signature(self, path):
        pairs = [source for tags, source in cells(path) if tags & {"exercise", "solution"}]
        for stub, solution in zip(pairs[::2], pairs[1::2], strict=True):
            (wanted,), (given,) = ast.parse(stub).body, ast.parse(solution).body[-1:]
            assert (wanted.name, ast.dump(wanted.args)) == (given.name, ast.dump(given.args))
            assert ast.get_docstring(wanted), "a stub says what to return"
