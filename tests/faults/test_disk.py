"""A disk that fills up while a file is written, and folders that are none: the old file stays, the message names it."""

import errno
import json
import os

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from vlpnb.config import Config
from vlpnb.data.store import mapped, write_store
from vlpnb.errors import UserError
from vlpnb.files import PatientFile, write_json, write_text
from vlpnb.stage import Run, Stage
from vlpnb.stage.profiles import Profile
from vlpnb.train.checkpoint import save_checkpoint
from vlpnb.train.optim import adamw
from vlpnb.world.writers.disk import write as _write


class Filling:
    """A raw file on a disk with room for so many bytes."""

    def __init__(self, raw, room: int):
        self.raw, self.room = raw, room

    def write(self, data) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self.raw.write(data[: self.room])
        self.room -= done
        return done

    def __getattr__(self, name):
        return getattr(self.raw, name)


@pytest.fixture
def fill(monkeypatch):
    """Give the files of `PatientFile` so many bytes of room; all other atomic writers fail when they flush."""
    original = PatientFile.__init__

    def fill(room: int) -> None:
        def start(self, path):
            original(self, path)
            self.raw = Filling(self.raw, room)

        def full(_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(PatientFile, "__init__", start)
        monkeypatch.setattr(os, "fsync", full)

    return fill


def store(path, value):
    with write_store(path, "keys") as file:
        file.create_dataset("keys", (5000,), "int64")[:] = value


def checkpoint(path, value):
    model = nn.Linear(50, 50)
    nn.init.constant_(model.weight, value)
    save_checkpoint(path.parent, model, adamw(model, 0.1), step=int(value), seed=0)


WRITERS = {
    "store.hdf5": (store, lambda path: float(mapped(path, "keys")[0])),
    "checkpoint.pt": (checkpoint, lambda path: float(torch.load(path, weights_only=True)["step"])),
    "text.txt": (
        lambda path, value: write_text(path, str(value)),
        lambda path: float(path.read_text()),
    ),
    "data.json": (write_json, lambda path: float(json.loads(path.read_text()))),
}


@pytest.mark.parametrize("room", [0, 100, 3000])
@pytest.mark.parametrize("name", WRITERS)
def test_the_old_file_stays_and_the_next_attempt_succeeds(tmp_path, fill, monkeypatch, name, room):
    path, (write, read) = tmp_path / name, WRITERS[name]
    write(path, 1.0)
    fill(room)
    with pytest.raises(
        UserError, match=rf"{name}: cannot be written .*No space left.*make room.*run the same command"
    ):
        write(path, 2.0)
    assert read(path) == 1.0
    assert os.listdir(tmp_path) == [name]
    monkeypatch.undo()
    write(path, 3.0)
    assert read(path) == 3.0


def test_a_patient_file_holds_what_h5py_writes(tmp_path):
    """Bytes that went through it are a file like any other."""
    values = np.random.default_rng(0).integers(0, 9, (300, 70))
    with write_store(tmp_path / "a.hdf5", "x") as file:
        file.create_dataset("chunked", data=values, chunks=(64, 64), compression="gzip")
        file["plain"] = values
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert np.array_equal(file["chunked"], values)
        assert np.array_equal(file["plain"], values)


def test_the_world_names_the_file_too(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"captions\.json: cannot be written .*No space left"):
        _write(tmp_path / "captions.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def run(root, function):
    return Run(root, "r", Profile("p"), (Stage("s", Config, function),), device="cpu", say=lambda line: None)


@pytest.mark.parametrize(
    "said", ["I/O error: No space left on device (os error 28)", "[Errno 122] Disk quota exceeded"]
)
def test_any_library_that_finds_the_disk_full(tmp_path, said):
    """Weights are written by Rust, tokenizers too: their errors have kinds of their own."""

    def fails(context):
        raise RuntimeError(said)

    with pytest.raises(
        UserError, match=r"s-[0-9a-f]{8}: cannot be written .*finished work is kept"
    ) as caught:
        run(tmp_path, fails).stage("s")
    assert "in stage 's'" in caught.value.__notes__[0]
    assert run(tmp_path, lambda context: {"x": 1.0}).stage("s").metrics == {"x": 1.0}


def test_a_file_where_a_folder_is_needed(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match=r"runs/r/s-\w+: cannot be made .*VLPNB_DATA"):
        run(tmp_path / "runs", lambda context: {}).stage("s")


def test_a_folder_that_is_not_writable(tmp_path, monkeypatch):
    """Simulated, because nothing is unwritable for root."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"runs/r/s-\w+: not writable; choose another place with VLPNB_DATA"):
        run(tmp_path / "runs", lambda context: {}).stage("s")
