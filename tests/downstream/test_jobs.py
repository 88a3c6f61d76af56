"""The runner of jobs: dealt out to processes, in order, none done twice, and killed at every moment."""

import pytest

from tests import tiny_lm
from tests.kills import attempt, files, killed_everywhere
from vlpnb.downstream import finetuning
from vlpnb.downstream.finetuning import Job
from vlpnb.files import write_text
from vlpnb.stage.folder import remove_leftovers


def jobs_of(names, done):
    """Jobs that take two steps with a checkpoint between, and keep a model of two files; done hears of every step."""

    def job(name):
        def run(folder, work):
            checkpoint = work / "checkpoint"
            for step in (1, 2):
                if not checkpoint.is_file() or int(checkpoint.read_text()) < step:
                    done.append(f"{name}{step}")
                    write_text(checkpoint, str(step))
            (work / "model").mkdir(exist_ok=True)
            for part in ("weights", "config"):
                write_text(work / "model" / part, f"{part} of {name}")
            write_text(folder / "predictions", name)
            return [{"name": name, "diverged": "" if name < "c" else "lost"}]

        return Job(f"runs/{name}", run)

    return [job(name) for name in names]


def run(context, names, done):
    return finetuning.run_jobs(context, jobs_of(names, done), lambda result: result["name"], "all.json")


def test_jobs_are_dealt_out_and_the_results_are_in_order(tmp_path, monkeypatch):
    """Two processes one after the other; a seed given twice is one job, and what is done is not done again."""
    monkeypatch.setattr(finetuning, "barrier", lambda processes: None)
    names, by, said = ("a", "b", "c", "a"), {}, []
    for rank in (1, 0):
        context = tiny_lm.context(None, tmp_path / "two", {}, said)
        context.rank, context.world_size, by[rank] = rank, 2, []
        if rank == 1:  # process 0 has not done its own yet
            with pytest.raises(FileNotFoundError):
                run(context, names, by[rank])
            assert not (tmp_path / "two" / "all.json").exists()
        else:
            found = run(context, names, by[rank])
    assert by == {1: ["b1", "b2"], 0: ["a1", "a2", "c1", "c2"]}
    told = sorted(line.split("] ")[1] for line in said if "%" not in line)
    assert told == ["a", "a", "b", "c   DIVERGED: lost"]
    alone: list = []
    one = tiny_lm.context(None, tmp_path / "one", {})
    assert run(one, names, alone) == found
    assert alone == ["a1", "a2", "b1", "b2", "c1", "c2"]
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert not list(tmp_path.rglob("work"))
    run(one, names, alone)
    assert len(alone) == 6


@pytest.mark.slow
def test_killed_before_every_operation_on_files(tmp_path):
    """What is left at last is what an undisturbed run leaves, and no step is done again whose checkpoint is there."""

    def work(folder):
        run(tiny_lm.context(None, folder, {}), "ac", [])

    whole = tmp_path / "kills" / "whole"
    for event, folder in killed_everywhere(work, tmp_path / "kills"):
        finished = [path.parent.name for path in folder.glob("runs/*/result.json")]
        begun = [path for path in folder.glob("runs/*/*/checkpoint") if path.parent.name == "work"]
        steps = {path.parents[1].name: int(path.read_text()) for path in begun}
        done: list[str] = []
        remove_leftovers(folder)  # as the engine does
        run(tiny_lm.context(None, folder, {}), "ac", done)
        expected = [f"{name}{step}" for name in "ac" for step in (1, 2) if name not in finished]
        assert done == [each for each in expected if int(each[1]) > steps.get(each[0], 0)], event
        assert files(folder) == files(whole), event
        assert not list(folder.rglob("work")), event


def test_a_full_disk_publishes_nothing(tmp_path):
    """Not of the job whose files did not fit, and not of the whole."""

    def work(folder):
        run(tiny_lm.context(None, folder, {}), "ab", [])

    whole = tmp_path / "whole"
    assert attempt(work, whole).end == "finished"
    for limit in (3, (whole / "runs" / "a" / "result.json").stat().st_size - 1):
        folder = tmp_path / str(limit)
        assert "File too large" in attempt(work, folder, limit=limit).end
        assert not list(folder.rglob("*.json"))
        work(folder)
        assert files(folder) == files(whole)
