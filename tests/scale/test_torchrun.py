"""`torchrun … -m vlpnb stage NAME` with two processes (gloo), of which one is killed twice.

(Sharded work with processes that die at any moment is in `tests/data/test_shards.py`.)

The corpus stages come out of it as one undisturbed process makes them, to the byte; the training that follows has
the same losses; stages that are not distributed run on one process while the other waits.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.resume.attempts import SETTINGS, content
from vlpnb.config import merge
from vlpnb.course import open_run
from vlpnb.files import read_back

SHARDED = ("features", "vokenization.keys", "corpus", "vokenization.vokens")
DEATHS = {  # one an attempt, in this order: the rank, and the files whose second one it does not live to publish
    "features": (1, r"features-\w+/checkpoint-\w+/"),
    "corpus": (0, r"corpus-\w+/checkpoint-\w+/"),
}
CHOSEN = merge(
    SETTINGS,
    {
        "features": {"shard": 4},
        "vokenization.keys": {"shard": 2},
        "vokenization.pretraining": {"dropout": 0.0},
    },
)
PATIENCE = 900  # seconds, on a busy machine; some forty on two idle cores

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE)]


def test_killed_workers_are_restarted_and_nothing_of_it_is_seen(tmp_path):
    run = open_run("smoke", "r", CHOSEN, root=tmp_path, device="cpu")
    undisturbed = run.stage("vokenization.pretraining")
    folders = {name: run.find(name).folder for name in SHARDED}
    expected = {name: content(folder) for name, folder in folders.items()}
    for folder in (*folders.values(), undisturbed.folder):
        folder.rename(tmp_path / folder.name)

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [f"--max-restarts={len(DEATHS)}", str(Path(__file__).with_name("dying.py"))]
    command += [
        "stage",
        "vokenization.probes",
        "--profile",
        "smoke",
        "--run-name",
        "r",
        "--set",
        json.dumps(CHOSEN),
    ]
    variables = {
        "VLPNB_DATA": str(tmp_path),
        "VLPNB_DEATHS": json.dumps(list(DEATHS.values())),
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        command, env={**os.environ, **variables}, text=True, timeout=PATIENCE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert done.stdout.count(" dies at ") == len(DEATHS), done.stdout
    for name, folder in folders.items():
        started = done.stdout.count(f"[{name}] started in {folder.name}")
        assert started == (2 if name in DEATHS else 1), name
        found = content(folder)
        assert sorted(found) == sorted(expected[name])
        assert [file for file in found if found[file] != expected[name][file]] == [], name

    together = run.find("vokenization.pretraining")
    for name in ("perplexity", "voken_loss", "voken_top5"):
        assert together.metrics[name] == pytest.approx(undisturbed.metrics[name], rel=1e-4)
    finished = {name: result for name in run.stages if (result := run.find(name)) is not None}
    processes = {
        name: read_back(result.folder / "manifest.json")["world_size"] for name, result in finished.items()
    }
    assert {name for name, count in processes.items() if count == 2} == {*SHARDED, "vokenization.pretraining"}
    assert processes["vokenization.probes"] == 1
