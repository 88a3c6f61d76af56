"""Stages that train small models, read finished ones or deal out shards, under `torchrun` with two processes (gloo).

Their artefacts are those of one process to the byte: no sum runs across processes here. Fine-tuning deals out whole
trainings, `regions` deals out shards of pictures, the others run on process 0. (Where a sum does run across
processes, in `matching` and `pretraining`, only losses to a tolerance are promised: tests/parity/test_invariance.py and
test_torchrun.py.)
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

DEALT_OUT = {
    "vokenization.glue", "vokenization.squad", "vokenization.swag", "lxmert.vqa", "lxmert.gqa", "lxmert.nlvr2",
    "vlp.captioning", "vlp.vqa",
}  # fmt: skip
CUT = {"regions", "picture_vectors", "valm.queries", "patches"}
ON_ONE = {
    "language",
    "vokenization.benchmark",
    "vokenization.results",
    "lxmert.results",
    "vlp.results",
    "towers",
}
FINE_TUNING = {"epochs": 1, "batch": 8, "seeds": [1, 2], "keep_models": True, "checkpoint_seconds": 60}
CHOSEN = merge(
    SETTINGS,
    {
        "vokenization.glue": {"tasks": ["RTE", "MNLI"], **FINE_TUNING},
        "vokenization.squad": {"versions": ["1.1", "2.0"], **FINE_TUNING},
        "vokenization.swag": FINE_TUNING,
        "vokenization.results": {
            "supervisions": ["vokens", "term"],
            "seeds": [95],
            "squad": True,
            "swag": True,
        },
        **{
            name: {"seeds": [1, 2], "epochs": 1, "checkpoint_seconds": 60}
            for name in ("lxmert.vqa", "lxmert.gqa", "lxmert.nlvr2", "vlp.captioning", "vlp.vqa")
        },
        "lxmert.results": {"models": ["blind", "pretrained"]},
        "vlp.results": {"models": ["blind", "pretrained"]},
    },
)
PATIENCE = 300  # seconds, on a busy machine; some thirty on two idle cores

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE)]


def test_two_processes_make_what_one_makes(tmp_path):
    run = open_run("smoke", "r", CHOSEN, root=tmp_path, device="cpu")
    for name in (
        "regions",
        "vokenization.benchmark",
        "vokenization.results",
        "lxmert.results",
        "vlp.results",
        "valm.queries",
        "patches",
    ):
        run.stage(name)
    folders = [path for name in sorted(DEALT_OUT | CUT | ON_ONE) for path in run.folder.glob(f"{name}-*")]
    assert len(folders) == 2 * len(DEALT_OUT) + len(CUT) + len(ON_ONE)  # two kinds of each
    expected = {folder.name: content(folder) for folder in folders}
    for folder in folders:
        folder.rename(tmp_path / folder.name)

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [
        str(Path(__file__).with_name("several.py")),
        "language,regions,vokenization.benchmark,vokenization.results,lxmert.results,vlp.results,valm.queries,"
        "patches",
    ]
    command += ["--profile", "smoke", "--run-name", "r", "--set", json.dumps(CHOSEN)]
    done = subprocess.run(
        command, env={**os.environ, "VLPNB_DATA": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}, text=True,
        timeout=PATIENCE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert done.stdout.count("] started in") == len(folders), done.stdout
    for folder in folders:
        found = content(folder)
        assert sorted(found) == sorted(expected[folder.name])
        other = [name for name, value in found.items() if value != expected[folder.name][name]]
        assert [
            name for name in other if str(found[name]) != str(expected[folder.name][name])
        ] == []  # NaN is NaN
        stage = folder.name.split("-")[0]
        shared = read_back(folder / "manifest.json")["world_size"] == 2
        assert shared == (stage in DEALT_OUT | CUT)
        if stage in DEALT_OUT:  # process 1 had its part, and process 0 told of all
            jobs, theirs, told = (
                len(list(folder.rglob("result.json"))),
                *((folder / name).read_text().count(" seed ") for name in ("log.1.txt", "log.txt")),
            )
            assert 0 < theirs < told
            assert told == jobs + (2 if stage == "vokenization.glue" else 0)  # MNLI has two results
            assert len(list(folder.rglob("model/model.safetensors"))) == jobs
