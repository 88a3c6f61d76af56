"""One stage on two nodes: two torchruns that meet at an address, as on two machines (here both are this one).

A process of one node dies on the way; both nodes start their processes again. The result is that of one process.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.resume.attempts import SETTINGS, content
from vlpnb.course import open_run
from vlpnb.files import read_back

NODES = 2
DEATH = (1, r"corpus-\w+/checkpoint-\w+/")  # rank 1, at the second shard of the corpus that it would publish
STAGES = ("corpus", "vokenization.vokens")
PATIENCE = 600  # seconds, on a busy machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE)]


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_two_nodes_meet_lose_a_process_and_agree_with_one_process(tmp_path):
    run = open_run("smoke", "r", SETTINGS, root=tmp_path, device="cpu")
    run.stage("vokenization.vokens")
    folders = {name: run.find(name).folder for name in STAGES}
    expected = {name: content(folder) for name, folder in folders.items()}
    for name, folder in folders.items():
        folder.rename(tmp_path / name)

    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(NODES), "--nproc-per-node", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-id", "test", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    command += ["--local-addr", "127.0.0.1", "--max-restarts", "1"]
    command += [
        str(Path(__file__).with_name("dying.py")),
        "stage",
        "vokenization.vokens",
        "--profile",
        "smoke",
    ]
    command += ["--run-name", "r", "--set", json.dumps(SETTINGS)]
    variables = {
        "VLPNB_DATA": str(tmp_path),
        "VLPNB_DEATHS": json.dumps([DEATH]),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    logs = [tmp_path / f"node{i}.log" for i in range(NODES)]
    nodes = []
    try:
        for log in logs:
            with log.open("w") as out:
                started = subprocess.Popen(
                    command, env={**os.environ, **variables}, stdout=out, stderr=out, start_new_session=True
                )
            nodes.append(started)
        codes = [node.wait(PATIENCE - 60) for node in nodes]
    finally:
        for node in nodes:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
    said = "".join(log.read_text() for log in logs)
    assert codes == [0] * NODES, said[-5000:]
    assert said.count("process 1 dies at ") == 1, said
    for name, folder in folders.items():
        found = content(folder)
        assert sorted(found) == sorted(expected[name])
        assert [file for file in found if found[file] != expected[name][file]] == [], name
        assert read_back(folder / "manifest.json")["world_size"] == NODES, name
