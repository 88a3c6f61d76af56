"""The runner on toy notebooks: success, failure, a killed kernel, and what is refused before anything starts."""

import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec

from vlpnb.course import watch
from vlpnb.course.kernel import ThisPython
from vlpnb.course.runner import (
    END,
    find_notebooks,
    parse_duration,
    read_status,
    run_notebooks,
    starting_from,
)
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.stage import Run
from vlpnb.stage.profiles import Profile

PARAMETERS = 'profile: str = "laptop"\nrun_name: str = "laptop"\nsettings: str = ""\ndevices: int = 1'
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def course(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()

    def course(parameters=PARAMETERS, text="# Toy", **notebooks):
        paths = []
        for name, cells in notebooks.items():
            new = nbformat.v4
            first = new.new_code_cell(parameters, metadata={"tags": ["parameters"]})
            book = new.new_notebook(
                cells=[new.new_markdown_cell(text), first, *map(new.new_code_cell, cells)]
            )
            paths.append(folder / f"{name.lstrip('n')}.ipynb")
            nbformat.write(book, paths[-1])
        return paths

    return course


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "data" / "runs", "toy", Profile("smoke"), (), device="cpu")


def test_executes_with_parameters_and_strips_what_is_not_ours(course, run, capfd):
    lines = []
    code = "import os, vlpnb; print('got', profile, run_name, devices, os.environ['VLPNB_DATA'])"
    paths = course(n10_good=[code])
    outcomes = run_notebooks(run, paths, say=lines.append)
    assert [(item.notebook, item.problem) for item in outcomes] == [("10_good.ipynb", "")]
    book = nbformat.read(run.folder / "notebooks" / "10_good.ipynb", as_version=4)
    text = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", []))
    assert f"got smoke toy 1 {run.root.parent}" in text
    assert END not in str(book)
    assert "    got smoke toy" in capfd.readouterr().out
    assert any("10_good" in line and "done in" in line for line in lines)
    assert read_status(run.folder) == outcomes


def test_stops_at_the_first_failure_and_says_where(course, run):
    lines = []
    raising = "from vlpnb.errors import UserError\nraise UserError('field x: found 1')"
    paths = course(n10_bad=["1/1", raising], n11_never=["1"])
    outcomes = run_notebooks(run, paths, say=lines.append)
    assert len(outcomes) == 1
    assert "UserError: field x: found 1" in outcomes[0].problem
    assert "Traceback" not in outcomes[0].problem
    assert (run.folder / "notebooks" / "10_bad.ipynb").is_file()
    assert any("again to continue" in line for line in lines)


def test_a_check_without_words_is_told_by_itself(course, run):
    (outcome,) = run_notebooks(run, course(n10_bad=["x = 1\nassert x == 2"]), say=lambda line: None)
    assert "AssertionError: this check of the notebook fails: assert x == 2\n" in outcome.problem


@pytest.mark.slow
def test_a_killed_kernel_is_a_failure(course, run):
    paths = course(n10_killed=["x = 1", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"])
    (outcome,) = run_notebooks(run, paths, say=lambda line: None)
    assert "the kernel was killed" in outcome.problem
    assert "os.kill" in outcome.problem
    assert "memory" in outcome.problem


def test_unknown_parameters_are_refused_before_anything_starts(course, run):
    good, bad = course(n10_a=["1"]) + course("profile: str = ''\nrun_nam: str = ''", n11_b=["1"])
    with pytest.raises(UserError, match=r"11_b\.ipynb.*'run_name'; did you mean 'run_nam'"):
        run_notebooks(run, [good, bad], say=print)
    with pytest.raises(UserError, match="'epoch'"):
        run_notebooks(run, [good], {"epoch": 3}, say=print)
    assert not run.folder.exists()


def test_finds_notebooks_by_number_name_and_path(course, tmp_path):
    paths = course(n10_a=["1"], n11_b=["1"])
    assert find_notebooks(tmp_path / "notebooks", ["11", "10_a"]) == paths[::-1]
    assert find_notebooks(tmp_path / "notebooks", [str(paths[0])]) == paths[:1]
    with pytest.raises(UserError, match="'12' not found"):
        find_notebooks(tmp_path / "notebooks", ["12"])


RESUMING = """
import os, sys, threading, time
from pathlib import Path
sys.path.insert(0, {toys!r})
from toy_stages import STAGES
from vlpnb.stage.profiles import Profile
from vlpnb.stage import Run
run = Run(Path(os.environ["VLPNB_DATA"]) / "runs", run_name, Profile("smoke"), STAGES, device="cpu")
flag = run.folder / "killed-once"
def kill():
    while not any(f.read_text() > "1" for f in run.folder.glob("count-*/checkpoint.txt")):
        time.sleep(0.01)
    flag.touch()
    os.kill(os.getpid(), 9)
if not flag.exists():
    threading.Thread(target=kill, daemon=True).start()
print("resumed at", run.stage("count", steps=9, pause=0.2).metrics["resumed_at"])
"""


@pytest.mark.slow
def test_a_kernel_killed_in_a_stage_is_named_and_the_next_run_continues_it(course, tmp_path, monkeypatch):
    toys = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(toys)
    from toy_stages import STAGES

    run = Run(tmp_path / "data" / "runs", "toy", Profile("smoke"), STAGES, device="cpu")
    paths = course(n10_stage=[RESUMING.format(toys=toys)])
    (killed,) = run_notebooks(run, paths, say=lambda line: None)
    assert killed.kind == "killed"
    assert "Unfinished, and continued by the next attempt: count-" in killed.problem
    (again,) = run_notebooks(run, paths, say=lambda line: None)
    assert (again.problem, again.kind) == ("", "")
    text = (run.folder / "notebooks" / "10_stage.ipynb").read_text()
    resumed = float(text.partition("resumed at ")[2][:3])
    assert resumed >= 2, "the second attempt began where the first was killed"


def test_a_stage_that_a_notebook_leaves_unfinished_is_a_failure(course, tmp_path, monkeypatch):
    toys = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(toys)
    from toy_stages import STAGES

    run = Run(tmp_path / "data" / "runs", "toy", Profile("smoke"), STAGES, device="cpu")
    hiding = RESUMING.format(toys=toys).partition("flag =")[0]
    hiding += "try:\n    run.stage('count', way='fail')\nexcept ValueError:\n    pass"
    (outcome,) = run_notebooks(run, course(n10_hides=[hiding]), say=lambda line: None)
    assert outcome.kind == "failed"
    assert "not all stages that it began did" in outcome.problem
    assert "count-" in outcome.problem


HOLDING = """
import subprocess, sys, time
from pathlib import Path
held = bytearray(b"x") * 300_000_000
code = "import time; held = bytearray(b'x') * 200_000_000; print('held', flush=True); time.sleep(300)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
Path({held!r}).touch()
while not Path({seen!r}).exists():
    time.sleep(0.05)
child.kill()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_the_most_memory_of_a_kernel_and_its_children_is_recorded(course, run, tmp_path, monkeypatch):
    held, seen, look = tmp_path / "held", tmp_path / "seen", watch.Watch.look

    def looked(self):
        all_is_held = held.exists()
        found = look(self)
        if all_is_held:  # however late a busy machine comes to look
            seen.touch()
        return found

    monkeypatch.setattr(watch.Watch, "look", looked)
    holding = HOLDING.format(held=str(held), seen=str(seen))
    small, large = run_notebooks(run, course(n10_small=["1"], n11_large=[holding]), say=lambda line: None)
    assert 0 < small.peak_rss_bytes < 300e6
    assert 500e6 < large.peak_rss_bytes - small.peak_rss_bytes < 650e6
    assert read_status(run.folder) == [small, large]


def test_a_status_of_before_peaks_were_recorded_is_read(run):
    status = [{"notebook": "10_a.ipynb", "seconds": 1.5, "problem": "", "kind": ""}]
    (run.folder / "notebooks").mkdir(parents=True)
    write_json(run.folder / "notebooks" / "status.json", status)
    assert [(item.notebook, item.peak_rss_bytes) for item in read_status(run.folder)] == [("10_a.ipynb", 0)]


@pytest.mark.slow
def test_what_a_kernel_says_that_cannot_start_is_in_the_problem(course, run, monkeypatch):
    argv = [sys.executable, "-c", "raise SystemExit('nothing to import here')"]
    monkeypatch.setattr(ThisPython, "kernel_spec", KernelSpec(argv=argv, language="python"))
    (outcome,) = run_notebooks(run, course(n10_dead=["1"]), say=lambda line: None)
    assert outcome.kind == "killed"
    assert outcome.problem.startswith("10_dead.ipynb: the kernel was killed or ended itself (exit code 1)")
    assert "\n  | nothing to import here" in outcome.problem


@pytest.mark.slow
def test_the_systems_out_of_memory_kill_is_told_from_others(course, run, tmp_path, monkeypatch):
    counter = tmp_path / "vmstat"
    counter.write_text("nr_free_pages 7\noom_kill 3\n")
    monkeypatch.setattr(watch, "VMSTAT", counter)
    code = f"open({str(counter)!r}, 'w').write('oom_kill 4\\n')\nimport os\nos.kill(os.getpid(), 9)"
    (outcome,) = run_notebooks(run, course(n10_large=[code]), say=lambda line: None)
    assert outcome.kind == "killed"
    assert "the kernel was killed because the machine ran out of memory" in outcome.problem
    assert "take a smaller profile" in outcome.problem


@pytest.mark.slow
def test_an_allocation_that_fails_is_a_want_of_memory(course, run):
    code = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 33, -1))\nbytearray(1 << 34)"
    (outcome,) = run_notebooks(run, course(n10_large=[code]), say=lambda line: None)
    assert outcome.kind == "memory"
    assert "MemoryError" in outcome.problem
    assert "Memory ran out" in outcome.problem


@pytest.mark.slow
def test_a_budget_stops_the_notebook_under_way_and_starts_no_other(course, run):
    lines = []
    paths = course(n10_long=["import time", "time.sleep(200)"], n11_never=["1"])
    outcomes = run_notebooks(run, paths, say=lines.append, budget=12)
    assert [(item.notebook, item.kind) for item in outcomes] == [("10_long.ipynb", "budget")]
    assert outcomes[0].seconds < 100
    assert "Not started within the budget: 11_never" in lines
    assert read_status(run.folder) == outcomes


@pytest.mark.slow
def test_independent_notebooks_run_side_by_side(course, run, tmp_path):
    glance = "# Toy\n\n## At a glance\n\n**Reads:** nothing. **Writes:** nothing."
    meet = (
        "import time\nfrom pathlib import Path\nPath({mine!r}).touch()\n"
        "while not Path({other!r}).exists():\n    time.sleep(0.05)"
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    cells = {"n10_a": [meet.format(mine=a, other=b)], "n11_b": [meet.format(mine=b, other=a)]}
    outcomes = run_notebooks(run, course(text=glance, **cells), say=lambda line: None, jobs=2)
    assert [item.problem for item in outcomes] == ["", ""]
    with pytest.raises(UserError, match=r"12_c\.ipynb.*--jobs 1"):
        run_notebooks(run, course(n12_c=["1"]), jobs=2)


def test_durations_and_starting_points():
    assert [parse_duration(text) for text in ("2h", "90m", "1h30m", "45s", "1.5h")] == [
        *(7200, 5400, 5400),
        *(45, 5400),
    ]
    for wrong in ("", "2", "0h", "h", "2 days", "1.2.3h"):
        with pytest.raises(UserError, match="such as 2h"):
            parse_duration(wrong)
    paths = [Path("10_a.ipynb"), Path("11_b.ipynb"), Path("13_c.ipynb")]
    assert starting_from(paths, "11") == paths[1:]
    with pytest.raises(UserError, match="--from 12"):
        starting_from(paths, "12")
