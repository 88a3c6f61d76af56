"""Processes that have to meet: under a host name that nobody resolves, and at an address where nobody answers."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vlpnb.stage.torchrun import torchrun

TOYS = str(Path(__file__).parents[1] / "course")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([TOYS, os.environ.get("PYTHONPATH", "")])}
UNKNOWN = ["unshare", "--uts", "sh", "-c", 'hostname node-not-in-dns-17 && exec "$@"', "sh"]
TOGETHER = """
import sys
from vlpnb.stage.profiles import Profile
from vlpnb.stage import Run
run = Run(sys.argv[1], "r", Profile("toy"), "toy_stages:STAGES", device="cpu")
print(run.stage("together").metrics)
"""
ALONE = """
from datetime import timedelta
from vlpnb.stage import torchrun
torchrun.MEETING = timedelta(seconds=2)
torchrun.agree(True, "cpu")
"""


def may_rename_the_machine() -> bool:
    """Whether this process may have a host name of its own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNKNOWN, "true"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not may_rename_the_machine(), reason="needs the right to a host name of its own")
def test_processes_of_one_machine_meet_though_nobody_resolves_its_name(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(TOGETHER)
    done = subprocess.run(
        [*UNKNOWN, *torchrun(2), str(program), str(tmp_path)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'processes': 2.0") == 2


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"], ids=["nobody comes", "nobody is there"])
def test_a_meeting_that_does_not_come_about_is_an_error_that_names_the_address(rank):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])  # of the loopback, where nobody listens from now on
    place = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        env={**ENVIRONMENT, **place, **address}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (
        f"UserError: process {rank} of 2 did not meet the others at 127.0.0.1:{port} within 2 s"
        in done.stderr
    )
    assert "--rdzv-endpoint" in done.stderr
