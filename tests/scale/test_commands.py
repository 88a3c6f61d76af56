"""The SLURM example, the README's lines and what `devices` starts are commands that torchrun and `vlpnb` understand."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
from torch.distributed.run import get_args_parser

from vlpnb.course import open_run
from vlpnb.course.cli import app
from vlpnb.course.pipeline import STAGES
from vlpnb.stage.profiles import profile_names
from vlpnb.stage.torchrun import launch

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "vlpnb" / "course" / "slurm" / "stage.sbatch"
JOB = {"SLURM_JOB_NODELIST": "n[1-4]", "SLURM_JOB_NUM_NODES": "4", "SLURM_JOB_ID": "77"}


def submitted(tmp_path: Path, *arguments: str) -> list[str]:
    """The command that the script hands to srun, as bash expands it."""
    for name, body in {
        "scontrol": 'test "$1 $2 $3" = "show hostnames n[1-4]" && printf "n1\\nn2\\nn3\\nn4\\n"',
        "srun": 'printf "%s\\n" "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", SCRIPT, *arguments], env={**JOB, "PATH": f"{tmp_path}:/usr/bin:/bin"}, cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def understood(words: list[str]):
    """torchrun's own reading of its command line, and `vlpnb`'s of the rest, whose names must exist."""
    launched = get_args_parser().parse_args(words)
    assert launched.module
    assert launched.training_script == "vlpnb"
    command = typer.main.get_command(app)
    name, *rest = launched.training_script_args
    assert name == "stage"
    parsed = command.commands["stage"].make_context("stage", list(rest)).params
    assert parsed["name"] in {stage.name for stage in STAGES}
    assert parsed["profile"] in profile_names()
    return launched, parsed


@pytest.mark.parametrize(
    ("arguments", "stage"),
    [
        ((), "vokenization.pretraining"),
        (
            ("vokenization.vokens", "--data", "/d", "--set", "vokenization.keys.batch=8"),
            "vokenization.vokens",
        ),
    ],
)
def test_the_script_starts_a_stage_on_every_node(tmp_path, arguments, stage):
    words = submitted(tmp_path, *arguments)
    start = next(i for i, word in enumerate(words) if word.endswith("torchrun"))
    launched, parsed = understood(words[start + 1 :])
    assert (launched.nnodes, launched.rdzv_id, launched.rdzv_endpoint) == ("4", "77", "n1:29500")
    assert launched.rdzv_backend == "c10d"
    assert launched.max_restarts > 0
    assert parsed["name"] == stage
    assert list(parsed["settings"] or ()) == (["vokenization.keys.batch=8"] if arguments else [])
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", SCRIPT.read_text(), flags=re.M))
    assert options["ntasks-per-node"] == "1"  # of torchrun, which starts the processes
    assert options["gpus-per-node"] == launched.nproc_per_node


def test_the_readme_starts_stages_as_torchrun_does():
    lines = re.findall(r"^torchrun (.+)$", (ROOT / "README.md").read_text(), flags=re.M)
    assert len(lines) >= 2
    for line in lines:
        understood(shlex.split(line.split(" #")[0]))
    assert SCRIPT.relative_to(ROOT).as_posix() in (ROOT / "README.md").read_text()


def test_devices_of_a_run_start_the_same_entry(tmp_path, monkeypatch):
    """What `open_run(…, devices=2)` starts keeps the stage's configuration and the run's settings."""
    commands = []

    def popen(command, **rest):
        commands.append(command)
        raise InterruptedError

    monkeypatch.setattr("vlpnb.stage.torchrun.subprocess.Popen", popen)
    settings = {
        "vokenization.pretraining": {"size": "micro"},
        "vokenization.glue": {"tasks": ["RTE", "MNLI"]},
    }
    run = open_run("smoke", "mine", settings, root=tmp_path, device="cpu", devices=2)
    plan = run.plan("corpus", max_train_tokens=50)
    with pytest.raises(InterruptedError):
        launch(run, plan)
    words = commands[0]
    launched, parsed = understood(words[words.index("torch.distributed.run") + 1 :])
    assert launched.nproc_per_node == "2"
    assert (parsed["name"], parsed["run"], parsed["profile"]) == ("corpus", "mine", "smoke")
    there = open_run(parsed["profile"], parsed["run"], parsed["settings"], root=tmp_path, device="cpu")
    assert there.plan("corpus", **json.loads(parsed["overrides"])).folder == plan.folder
    assert there.plan("vokenization.pretraining").folder == run.plan("vokenization.pretraining").folder
