"""HDF5 stores that are held, lead elsewhere, or hold what is no number."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from vlpnb.data.store import DamagedStore, attributes, check_finite, mapped, open_checked, write_store
from vlpnb.errors import UserError
from vlpnb.foundations.feature_store import FeatureStore
from vlpnb.retrieval import exact, faiss_index
from vlpnb.text.corpora import write_corpus
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vokenization.keys import load_keys

HOLDER = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def hold(monkeypatch):
    """Another program holds a store open for writing."""
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    running = []

    def start(path):
        command = [sys.executable, "-c", HOLDER, str(path)]
        environment = {k: v for k, v in os.environ.items() if k != "HDF5_USE_FILE_LOCKING"}
        held = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        running.append(held)
        assert held.stdout.readline().strip() == "held"

    yield start
    for held in running:
        held.communicate("")


def store(path, kind="keys", **arrays):
    with write_store(path, kind) as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def test_a_store_that_another_program_holds_is_not_called_damaged(tmp_path, hold):
    path = store(tmp_path / "x.hdf5", keys=np.ones((2, 3)))
    hold(path)
    for read in (open_checked, attributes, lambda path: mapped(path, "keys")):
        with pytest.raises(UserError, match=r"another program holds this store open") as caught:
            read(path)
        assert "delete" not in str(caught.value)
        assert not isinstance(caught.value, DamagedStore)


def test_shards_that_another_program_holds_are_not_deleted(tmp_path, hold):
    """Tokenising continues after the shards that are there; one that is looked at elsewhere is not a broken one."""
    tokenizer = train_wordpiece(["a dog runs ."], 40, tmp_path / "words")
    (tmp_path / "a.raw").write_text("a dog runs .\n" * 9)
    target = tmp_path / "c.hdf5"
    with pytest.raises(ZeroDivisionError):
        write_corpus(tmp_path / "a.raw", target, tokenizer, "none", shard_bytes=40, progress=lambda *_: 1 / 0)
    (shard,) = (tmp_path / "checkpoint-c").glob("*.hdf5")
    hold(shard)
    before = shard.read_bytes()
    with pytest.raises(UserError, match="another program holds"):
        write_corpus(tmp_path / "a.raw", target, tokenizer, "none", shard_bytes=40)
    assert shard.read_bytes() == before


def test_what_is_damaged_may_be_deleted_and_what_may_not_be_read_not(tmp_path):
    path = store(tmp_path / "x.hdf5", keys=np.ones((200, 30)))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DamagedStore, match="delete it and run the stage"):
        open_checked(path)
    with pytest.raises(UserError, match="is a folder; expected an HDF5 file"):
        open_checked(tmp_path)


def external(file, secret):
    file.create_dataset("keys", (16,), "u1", external=[(str(secret), 0, 16)])


def external_link(file, secret):
    file["keys"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/keys")


def soft_link(file, secret):
    file["real"] = np.arange(3)
    file["keys"] = h5py.SoftLink("/real")


def virtual(file, secret):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "keys", (3,))
    file.create_virtual_dataset("keys", layout)


def deep(file, secret):
    external(file.create_group("a/b"), secret)
    file["keys"] = np.arange(3)
    file["a/again"] = file["a"]  # a group inside itself


@pytest.mark.parametrize("make", [external, external_link, soft_link, virtual, deep])
def test_a_store_that_leads_to_other_files_is_refused(tmp_path, make):
    secret = tmp_path / "secret.txt"
    secret.write_text("0123456789abcdef")
    with h5py.File(secret.with_suffix(".h5"), "w") as file:
        file["keys"] = np.zeros(3, np.float32)
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        make(file, secret)
    for read in (open_checked, lambda path: open_checked(path, ["keys"]), lambda path: mapped(path, "keys")):
        with pytest.raises(UserError, match="leads to another place"):
            read(tmp_path / "x.hdf5")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_the_row_that_is_no_number_is_named(wrong, kind):
    rows = np.zeros((9000, 2, 3), kind)
    assert check_finite(rows, "x") is rows
    rows[8500, 1, 2] = wrong
    with pytest.raises(UserError, match=r"x: row 8,500 has a number that is not finite"):
        check_finite(rows, "x")
    assert len(check_finite(rows[:0], "x")) == 0


def test_unit_rows_have_length_one():
    rows = np.eye(5, dtype=np.float16)
    assert check_finite(rows, "x", unit=True) is rows
    rows[3] *= 2
    with pytest.raises(UserError, match=r"x: row 3 has the length 2\.000; expected length 1"):
        check_finite(rows, "x", unit=True)


@pytest.mark.parametrize(("row", "message"), [([np.nan, 0], "not finite"), ([0.5, 0], r"the length 0\.500")])
def test_keys_are_checked_when_they_are_opened(tmp_path, row, message):
    with write_store(tmp_path / "universe.hdf5", "keys", {"source": "matcher"}) as file:
        file["keys"] = np.array([[1, 0], row], np.float32)
    for suffix in ("ids", "path"):
        (tmp_path / f"universe.{suffix}").write_text("a\nb\n")
    with pytest.raises(UserError, match=rf"universe\.hdf5: row 1 has .*{message}"):
        load_keys(tmp_path)


def test_features_are_checked_when_they_are_read(tmp_path):
    arrays = {"views": np.zeros((2, 1, 4), np.float16), "states": np.zeros((6, 5), np.float16)}
    arrays["views"][1] = np.nan
    arrays["states"][4, 2] = np.inf
    whole = {"tokens": np.zeros(6, np.int32), "offsets": np.array([0, 3, 6]), "owner": np.array([0, 1])}
    with write_store(tmp_path / "train.hdf5", "features", {"prefix": 1, "suffix": 1}) as file:
        for name, array in {**arrays, **whole}.items():
            file[name] = array
    (tmp_path / "train.ids").write_text("a\nb\n")
    found = FeatureStore(tmp_path, "train")
    assert found.pictures(np.array([0])).shape == (1, 1, 4)
    assert found.captions(np.array([0]))[0].shape == (1, 3, 5)
    for read in (found.pictures, found.captions, lambda rows: found.pictures(rows, np.array([0]))):
        with pytest.raises(UserError, match=r"train\.hdf5, (views|states) read: row .* not finite"):
            read(np.array([1]))


@pytest.mark.parametrize("top_k", [exact.top_k, faiss_index.top_k])
@pytest.mark.parametrize("k", [1, 3])
def test_a_key_that_is_no_number_is_nobodys_neighbour(top_k, k):
    queries, keys = torch.eye(5), torch.eye(5)[torch.arange(40) % 5].clone()
    top_k(queries, keys, k)
    keys[17, 2] = torch.nan
    with pytest.raises(UserError, match="key 17 of 40 holds a NaN"):
        top_k(queries, keys, k)
    keys[17, 2], queries[3, 0] = 0, torch.nan
    with pytest.raises(UserError, match="query 3 of 5 holds a NaN"):
        top_k(queries, keys, k)
