"""`vlpnb run` through papermill: its process group killed in the middle of a notebook, then started twice at once."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from tests.resume.attempts import SETTINGS, content
from vlpnb.course import open_run
from vlpnb.course.runner import read_status

PARAMETERS = 'profile: str = "laptop"\nrun_name: str = "laptop"\nsettings: str = ""\ndevices: int = 1'
CELLS = (
    "from vlpnb.course import open_run\nrun = open_run(profile, run_name, settings)",
    'run.stage("vision").metrics',
    'print("accuracy", run.stage("vision").metrics["kind_accuracy"])',
)
CHOSEN = {"world": SETTINGS["world"], "vision": {"batch": 4, "epochs": 8, "checkpoint_seconds": 0}}
FLAGS = [f"{stage}.{field}={value}" for stage, fields in CHOSEN.items() for field, value in fields.items()]

pytestmark = [pytest.mark.notebook, pytest.mark.slow]


@pytest.fixture
def start(tmp_path):
    """Start `vlpnb run` on a notebook that makes the vision stage, in a process group of its own."""
    new = nbformat.v4
    first = new.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    path = tmp_path / "10_train.ipynb"
    nbformat.write(new.new_notebook(cells=[first, *map(new.new_code_cell, CELLS)]), path)
    command = [
        sys.executable,
        "-m",
        "vlpnb",
        "run",
        str(path),
        "--profile",
        "smoke",
        "--run",
        "k",
        "--no-site",
    ]
    command += [part for flag in FLAGS for part in ("--set", flag.replace("'", '"').replace(" ", ""))]
    started = []

    def start() -> subprocess.Popen:
        process = subprocess.Popen(
            command, env={**os.environ, "VLPNB_DATA": str(tmp_path)}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_killed_in_a_notebook_and_run_again_twice_at_once(start, tmp_path):
    run = open_run("smoke", "k", CHOSEN, root=tmp_path, device="cpu")
    folder = run.plan("vision").folder
    killed = start()
    while not (folder / "checkpoint.pt").is_file():
        assert killed.poll() is None, killed.communicate()[0]
        assert not (folder / "manifest.json").is_file(), "the work was over before the kill"
        time.sleep(0.01)
    time.sleep(random.Random(0).uniform(0, 0.1))
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (folder / "manifest.json").is_file()
    assert read_status(run.folder) == []

    both = [start(), start()]
    texts = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert [(item.notebook, item.problem) for item in read_status(run.folder)] == [("10_train.ipynb", "")]
    # One of the two waits for the other and says for whom, and its notebook then finds the stage finished.
    held = [re.findall(r"\[k\] waiting: notebooks is held by process (\d+)", text) for text in texts]
    assert sorted(map(bool, held)) == [False, True], texts
    waited = held.index(max(held))
    assert set(held[waited]) == {str(both[1 - waited].pid)}
    # None at all where the killed runner's kernel, which notices within a second, got to the end of the stage.
    assert sum("[vision] started" in text for text in texts) <= 1

    made = {
        "world": {},
        "captions": {"sets": None},
        "vision": {},
    }  # vision reads the splits of the captions alone
    found = {name: content(run.plan(name, **values).folder) for name, values in made.items()}
    run.folder.rename(tmp_path / "runs" / "killed")
    for name, values in made.items():
        assert found[name] == content(run.stage(name, **values).folder) != {}
