"""`vlpnb run` on two notebooks of part 1 at `smoke`, killed in the middle of their stages and continued.

The runner, the kernel and all processes below get SIGKILL at once, as when a machine loses its power: in the training
that notebook 10 runs itself, and in one of those that notebook 15 gives to workers. The run goes on with the notebook
that was under way (`--from`), and leaves the files that the undisturbed run of `tests/notebooks` did. (Every stage
alone is killed in `test_stages.py`; the results before and between are copied from the undisturbed run.)
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.resume.attempts import content
from vlpnb.course import open_run
from vlpnb.course.runner import read_status
from vlpnb.course.watch import descendants
from vlpnb.files import read_back
from vlpnb.stage.folder import MANIFEST

PART = ("10", "15")
KILLED = ("vokenization.matching", "vokenization.pretraining")
CHECKPOINTS = {name: {"checkpoint_seconds": 0} for name in KILLED}
PATIENCE = 1200  # seconds, on a busy machine; some 100 on an idle core, and 60 for the undisturbed run

pytestmark = [
    pytest.mark.notebook,
    pytest.mark.slow,
    pytest.mark.timeout(PATIENCE),
    pytest.mark.skipif(torch.cuda.is_available(), reason="bit-identical results are promised on a CPU"),
    pytest.mark.skipif(
        not Path("/proc/self/task").is_dir(), reason="finds a runner's kernel in Linux's /proc"
    ),
]


@pytest.fixture
def start(tmp_path):
    """Start `vlpnb run` of the part, from one notebook on."""
    command = [
        sys.executable,
        "-m",
        "vlpnb",
        "run",
        *PART,
        "--profile",
        "smoke",
        "--run",
        "killed",
        "--no-site",
    ]
    for name, fields in CHECKPOINTS.items():
        command += [part for field, value in fields.items() for part in ("--set", f"{name}.{field}={value}")]
    started = []

    def start(first: str) -> subprocess.Popen:
        with open(tmp_path / "log.txt", "ab") as log:
            process = subprocess.Popen(
                [*command, "--from", first], env={**os.environ, "VLPNB_DATA": str(tmp_path)},
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        kill(process)


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to a runner that still runs and to all processes below it; returns when they have ended."""
    family = [process.pid, *descendants(process.pid)] if process.poll() is None else []
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    while any(_lives(pid) for pid in family):
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def moments(run, seconds) -> list[tuple[Path, float]]:
    """The folders to be killed in, one of either kind, and after how many seconds of their work."""
    results, dice = run.config("vokenization.results"), random.Random(16)
    matching = [run.plan("vokenization.matching").folder]
    trained = [
        run.plan("vokenization.pretraining", supervision=supervision, seed=seed).folder
        for supervision in results.supervisions
        for seed in results.seeds
    ]
    chosen = [
        dice.choice([folder for folder in kind if seconds(folder) > 0.2]) for kind in (matching, trained)
    ]
    return [(folder, dice.uniform(0.1, 0.7) * seconds(folder)) for folder in chosen]


def told(folder: Path, outside: Path) -> dict:
    """What a stage left, byte for byte, without what two runs in different places do not agree on.

    That is the place itself, in lists of paths and so in the sizes of these; the identity of a token file, which names
    its text by path and time; and how often checkpoints were written, which was asked to differ.
    """
    found = content(folder)
    manifest = found["manifest.json"]
    manifest["config"].pop("checkpoint_seconds", None)
    manifest["files"] = sorted(manifest["files"])
    here = str(outside).encode()
    for name, value in found.items():
        if name.endswith(".hdf5"):
            found[name] = _opened(folder / name)
        elif isinstance(value, bytes):
            value = re.sub(rb'"checkpoint_seconds": [\d.]+', b"", value)
            found[name] = value.replace(here, b"RUN")
    return found


def _opened(path: Path) -> dict:
    with h5py.File(path) as file:
        about = {name: np.asarray(value).tolist() for name, value in file.attrs.items() if name != "identity"}
        parts: dict[str, object] = {"": about}
        file.visititems(lambda name, item: parts.update({name: _array(item)}))
    return parts


def _array(item: h5py.Dataset | h5py.Group) -> tuple:
    if isinstance(item, h5py.Group):
        return ("group",)
    values = item[()].tolist() if item.dtype.hasobject else item[()].tobytes()
    return item.dtype.str, item.shape, item.chunks, item.compression, values


def stage_folders(run, *kinds: str) -> list[Path]:
    """The folders of a run's finished stages, or of those kinds of them."""
    found = [path.parent for path in sorted(run.folder.glob(f"*-*/{MANIFEST}"))]
    return [folder for folder in found if not kinds or folder.name.rpartition("-")[0] in kinds]


def test_a_run_killed_in_its_notebooks_leaves_what_an_undisturbed_run_leaves(smoke_run, start, tmp_path):
    assert [smoke_run.notebook(number).problem for number in PART] == [""] * len(PART)
    run = open_run("smoke", "killed", CHECKPOINTS, root=tmp_path)
    copy = open_run("smoke", "undisturbed", root=tmp_path)
    reference = copy.folder
    with smoke_run.alone():
        shutil.copytree(smoke_run.run.folder, reference)
    undisturbed = stage_folders(copy)
    for folder in undisturbed:
        if folder.name.rpartition("-")[0] not in KILLED:
            shutil.copytree(folder, run.folder / folder.name)

    first, inside = PART[0], 0
    for folder, moment in moments(
        run, lambda folder: read_back(reference / folder.name / MANIFEST)["seconds"]
    ):
        process = start(first)
        while not (folder / "log.txt").is_file():
            assert process.poll() is None, (tmp_path / "log.txt").read_text()[-3000:]
            time.sleep(0.005)
        time.sleep(moment)
        kill(process)
        inside += not (folder / MANIFEST).is_file()
        ended = {item.notebook[:2] for item in read_status(run.folder)}
        first = next(number for number in PART if number not in ended)
    assert inside >= 1, "no kill fell into a stage's work"
    assert start(first).wait() == 0, (tmp_path / "log.txt").read_text()[-3000:]

    outcomes = read_status(run.folder)
    assert [(item.notebook[:2], item.problem) for item in outcomes] == [(number, "") for number in PART]
    assert {folder.name for folder in stage_folders(run)} == {folder.name for folder in undisturbed}
    killed = stage_folders(run, *KILLED)
    assert len(killed) > len(KILLED)
    for folder in killed:
        found, expected = told(folder, run.folder), told(reference / folder.name, smoke_run.run.folder)
        assert sorted(found) == sorted(expected), folder.name
        assert [name for name in expected if found[name] != expected[name]] == [], folder.name
