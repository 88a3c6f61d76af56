"""The student edition: no solutions, nothing else lost, nobody's answers overwritten."""

import json

import nbformat
import pytest

from vlpnb.course import notebooks_folder, open_run
from vlpnb.course.cli import main
from vlpnb.course.runner import run_notebooks
from vlpnb.course.student import student_edition, write_student_edition
from vlpnb.errors import UserError


def cell(source, *tags, kind="code"):
    return {
        "cell_type": kind,
        "id": source[:6],
        "metadata": {"tags": list(tags)} if tags else {},
        "source": source,
    }


def tagged(notebook, tag):
    return [c for c in notebook["cells"] if tag in c["metadata"].get("tags", [])]


def test_every_notebook_loses_its_solutions_and_nothing_else(tmp_path):
    paths = write_student_edition(notebooks_folder(), tmp_path)
    assert len(paths) == len(list(notebooks_folder().glob("*.ipynb"))) >= 10
    for path in paths:
        shipped = json.loads((notebooks_folder() / path.name).read_text(encoding="utf-8"))
        student = json.loads(path.read_text(encoding="utf-8"))
        removed = {c["id"] for c in shipped["cells"]} - {c["id"] for c in student["cells"]}
        assert removed == {c["id"] for c in tagged(shipped, "solution")}
        stubs = tagged(student, "exercise")
        assert len(stubs) == len(tagged(student, "check")) == len(removed)
        assert not tagged(student, "skip-execution")
        for check in tagged(student, "check"):
            assert "raises-exception" in check["metadata"]["tags"]
        assert [c["source"] for c in student["cells"]] == [
            c["source"] for c in shipped["cells"] if c["id"] not in removed
        ]


def test_cells_that_need_an_answer_do_not_stop_the_others():
    notebook = {
        "cells": [
            cell("x = 1"),
            cell("def f(a):\n    ...", "exercise", "skip-execution"),
            cell("def f(a):\n    return a", "solution"),
            cell("check(f)", "check"),
            cell("y = f(2)"),
            cell("z = 3"),
        ]
    }
    before = json.dumps(notebook)
    made = student_edition(notebook)
    assert json.dumps(notebook) == before
    assert [c["metadata"].get("tags", []) for c in made["cells"]] == [
        [],
        ["exercise"],
        ["check", "raises-exception"],
        ["raises-exception"],
        [],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True], ids=["unsolved", "and broken"])
def test_unsolved_exercises_do_not_fail_a_run_and_other_errors_do(tmp_path, broken):
    new = nbformat.v4
    stub, solution = "def f(a):\n    ...", "def f(a):\n    return a"
    sources = ["profile: str = ''\nrun_name: str = ''\nsettings: str = ''\ndevices: int = 1", stub, solution]
    check = "assert f(2) == 2, 'replace the stub'"
    sources += [check, "f(2) + 1", "1 / 0" if broken else "print('the end')"]
    tags = [["parameters"], ["exercise", "skip-execution"], ["solution"], ["check"], [], []]
    cells = [
        new.new_code_cell(source, metadata={"tags": own} if own else {})
        for source, own in zip(sources, tags, strict=True)
    ]
    (tmp_path / "shipped").mkdir()
    nbformat.write(new.new_notebook(cells=cells), tmp_path / "shipped" / "10_a.ipynb")
    paths = write_student_edition(tmp_path / "shipped", tmp_path / "mine")
    run = open_run("smoke", "s", root=tmp_path)
    (outcome,) = run_notebooks(run, paths)
    executed = nbformat.read(run.folder / "notebooks" / "10_a.ipynb", 4)
    failed = [o.ename for c in executed.cells if c.cell_type == "code" for o in c.outputs if "ename" in o]
    assert failed[:2] == ["AssertionError", "TypeError"], "their messages stay to be read"
    if broken:
        assert "ZeroDivisionError" in outcome.problem
    else:
        assert outcome.problem == ""
        assert len(executed.cells) == len(cells), "no banner of an error, no solution, parameters added"
        assert any("the end" in o.get("text", "") for c in executed.cells for o in c.get("outputs", []))


def test_answers_are_never_overwritten(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["student", str(tmp_path / "class")])
    assert ended.value.code in (0, None)
    assert "without solutions" in capsys.readouterr().out
    answered = sorted((tmp_path / "class").glob("*.ipynb"))[3]
    write_student_edition(notebooks_folder(), tmp_path / "class")  # the same again is no harm
    answered.write_text("{}")
    with pytest.raises(UserError, match="perhaps by answers"):
        write_student_edition(notebooks_folder(), tmp_path / "class")
    assert answered.read_text() == "{}"


def test_the_notebooks_own_folder_is_refused():
    with pytest.raises(UserError, match="differs"):
        write_student_edition(notebooks_folder(), notebooks_folder())


def test_a_folder_without_notebooks_is_named(tmp_path):
    with pytest.raises(UserError, match="no notebooks here"):
        write_student_edition(tmp_path, tmp_path / "out")
