"""`vlpnb export`: corpus → vokens → the original project's files → our stages again, through the command line."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.resume.attempts import SETTINGS
from vlpnb.course import open_run
from vlpnb.course.cli import main
from vlpnb.data.store import mapped
from vlpnb.text.corpora import TokenCorpus
from vlpnb.vokenization.keys import load_keys
from vlpnb.vokenization.original.files import voken_ids
from vlpnb.vokenization.visual_lm import load_snapshot

SPLITS = ("train", "valid")


def command(capsys, *arguments: str) -> list[str]:
    """The lines that `vlpnb …` prints, but for those of the stages."""
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--profile", "smoke"])
    said = capsys.readouterr()
    assert end.value.code == 0, said
    return [line for line in said.out.splitlines() if not line.startswith("[")]


@pytest.mark.slow
def test_files_of_a_run_go_out_and_come_back(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VLPNB_DATA", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings = {name: SETTINGS[name] for name in SETTINGS if name != "vokenization.results"}
    files = tmp_path / "files"
    made = {}
    for stage in ("corpus", "vokenization.vokens", "vokenization.keys", "vokenization.pretraining"):
        given = ["--run", "ours", "--set", json.dumps(settings)]
        made[stage] = command(
            capsys, "export", stage, str(files / "keys" if stage == "vokenization.keys" else files), *given
        )
    ours = open_run("smoke", "ours", settings)
    folder = {stage: ours.find(stage).folder for stage in made}
    vokens = [f"{split}.raw.tok.universe.16" for split in SPLITS]
    assert made["vokenization.vokens"] == [str(files / f"{name}.hdf5") for name in vokens]
    assert made["corpus"] == [str(files / f"{split}.raw.tok.hdf5") for split in SPLITS]

    # what the original project would read
    for split, name in zip(SPLITS, vokens, strict=True):
        corpus = TokenCorpus(folder["corpus"] / f"{split}.hdf5")
        with (
            h5py.File(files / f"{split}.raw.tok.hdf5") as tokens,
            h5py.File(files / f"{name}.hdf5") as labels,
        ):
            assert tokens["tokens"].dtype == labels["vokens"].dtype == np.int32
            assert len(tokens["tokens"]) == len(labels["vokens"]) == len(corpus)
        rows = (files / f"{split}.raw.tok").read_text().splitlines()
        assert [[int(i) for i in row.split()] for row in rows] == [
            corpus.tokens[a:b].tolist() for a, b in zip(corpus.lines[:-1], corpus.lines[1:], strict=True)
        ]

    # what our stages read of it
    copied, keys = load_keys(files / "keys"), load_keys(folder["vokenization.keys"])
    assert copied.names == keys.names == voken_ids(files / f"{vokens[0]}.ids")
    assert np.array_equal(copied.vectors, keys.vectors)
    originals = {
        "corpus": {f"original.{s}": str(files / f"{s}.raw.tok") for s in SPLITS}
        | {"tokenizer": str(folder["corpus"] / "tokenizer")},
        "vokenization.vokens": {
            f"original.{s}": f"{files / name}.hdf5" for s, name in zip(SPLITS, vokens, strict=True)
        },
        "vokenization.pretraining": SETTINGS["vokenization.pretraining"],
    }
    given = ["--run", "theirs", "--set", json.dumps(originals)]
    lines = command(capsys, "stage", "vokenization.pretraining", *given)
    assert not list((tmp_path / "runs" / "theirs").glob("matching*")), "made from the files alone"
    theirs = open_run("smoke", "theirs", originals)
    assert lines[0] == str(theirs.find("vokenization.pretraining").folder)
    for split in SPLITS:
        a, b = (TokenCorpus(run.find("corpus").folder / f"{split}.hdf5") for run in (ours, theirs))
        for name in ("tokens", "lines", "sentences"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), (split, name)
        stores = [run.find("vokenization.vokens").folder / f"{split}.hdf5" for run in (ours, theirs)]
        assert np.array_equal(*(mapped(store, "vokens") for store in stores))
        assert voken_ids(stores[0].with_suffix(".ids")) == voken_ids(stores[1].with_suffix(".ids"))

    # the same files train the same model, and its checkpoints come back as they were
    assert len(made["vokenization.pretraining"]) == SETTINGS["vokenization.pretraining"]["snapshots"]
    for path, own, other in zip(
        made["vokenization.pretraining"],
        sorted(folder["vokenization.pretraining"].glob("snapshot-*")),
        sorted(theirs.find("vokenization.pretraining").folder.glob("snapshot-*")),
        strict=True,
    ):
        states = [load_snapshot(each).state_dict() for each in (path, own, other)]
        for name, value in states[0].items():
            assert torch.equal(value, states[1][name]), name
            assert torch.equal(value, states[2][name]), name

    # the two numbers of each checkpoint, the last ones the run's own
    numbers = [
        json.loads((Path(path) / "eval_results.json").read_text())
        for path in made["vokenization.pretraining"]
    ]
    assert all(set(found) == {"perplexity", "voken_loss"} for found in numbers)
    assert len({found["perplexity"] for found in numbers}) == len(numbers)
    metrics = ours.find("vokenization.pretraining").metrics
    assert numbers[-1] == {name: metrics[name] for name in numbers[-1]}
