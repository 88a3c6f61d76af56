"""The engine killed before every operation on files: a result is there or it is not, and the next attempt makes it."""

import json

import pytest

from tests.kills import attempt, killed_everywhere
from tests.resume import driver
from tests.resume.attempts import content
from vlpnb.config import Config
from vlpnb.files import write_text
from vlpnb.stage import Request, Run, Stage
from vlpnb.stage.folder import MANIFEST
from vlpnb.stage.profiles import Profile

MADE: list[str] = []  # what the stages of this process made, in order


def parts(context):
    """Three files, one after the other, and a sum; what is there is not made again."""
    for i in range(3):
        path = context.folder / "parts" / f"{i}.txt"
        path.parent.mkdir(exist_ok=True)
        if not path.is_file():
            MADE.append(path.name)
            write_text(path, f"{i}\n")
            write_text(context.folder / "checkpoint.txt", str(i))
    return {"parts": 3.0}


def total(context):
    """The sum of the input's files."""
    MADE.append("total")
    found = sum(int(path.read_text()) for path in (context.inputs["parts"] / "parts").iterdir())
    write_text(context.folder / "sum.txt", f"{found}\n")
    return {"total": float(found)}


PARTS = Stage("parts", Config, parts)
TOTAL = Stage("total", Config, total, inputs=lambda config: {"parts": Request("parts")})


def make(folder):
    return Run(folder, "r", Profile("toy"), (PARTS, TOTAL), device="cpu", say=lambda line: None).stage(
        "total"
    )


def results(folder):
    return {path.parent.name: content(path.parent) for path in (folder / "r").glob(f"*/{MANIFEST}")}


@pytest.fixture(autouse=True)
def _loud(monkeypatch):
    """Kills before the engine's own notes too: locks, the clock, the log."""
    monkeypatch.setattr(driver, "QUIET", set())


@pytest.mark.slow
def test_killed_before_every_operation_on_files(tmp_path):
    for event, folder in killed_everywhere(make, tmp_path):
        there = {path.name for path in folder.glob("r/parts-*/parts/*.txt")}
        finished = {name.partition("-")[0]: text for name, text in results(folder).items()}
        MADE.clear()
        assert make(folder).metrics == {"total": 3.0}, event
        expected = [] if "parts" in finished else sorted({"0.txt", "1.txt", "2.txt"} - there)
        assert expected + ([] if "total" in finished else ["total"]) == MADE, event
        assert results(folder) == results(tmp_path / "whole"), event
        MADE.clear()
        assert make(folder).reused
        assert MADE == []


@pytest.mark.slow
def test_a_damaged_result_is_replaced_whatever_happens_on_the_way(tmp_path):
    def spoil_and_make(folder):
        if not list(folder.glob("r/total-*")):
            make(folder)
            [path] = folder.glob("r/total-*/sum.txt")
            path.write_text("4 and more\n")
        make(folder)

    made_first = len(attempt(make, tmp_path / "first").events)
    for event, folder in killed_everywhere(spoil_and_make, tmp_path, made_first):
        made = make(folder)
        assert (made.folder / "sum.txt").read_text() == "3\n", event
        assert content(made.folder) == content(make(tmp_path / "whole").folder), event


@pytest.mark.parametrize("limit", [1, 3, 300])
def test_a_full_disk_is_named_and_the_next_attempt_succeeds(tmp_path, limit):
    assert attempt(make, tmp_path / "whole").end == "finished"
    found = attempt(make, tmp_path / "run", limit=limit)
    assert found.end.startswith("UserError: "), found.end
    assert "make room" in found.end
    assert "File too large" in found.end
    assert not list(tmp_path.glob(f"run/r/total-*/{MANIFEST}"))
    make(tmp_path / "run")
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    manifest = json.loads(next((tmp_path / "run").glob(f"r/total-*/{MANIFEST}")).read_text())
    assert manifest["metrics"] == {"total": 3.0}
