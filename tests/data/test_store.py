"""HDF5 stores: complete or absent, checked when opened."""

import h5py
import numpy as np
import pytest

from vlpnb.data.store import attributes, mapped, open_checked, write_store
from vlpnb.errors import UserError


def test_round_trip_with_attributes(tmp_path):
    path = tmp_path / "deep" / "x.hdf5"
    about = {"hash": "ab", "sets": ["a", "b"], "limit": None, "rows": 3, "more": {"x": 1}}
    with write_store(path, "keys", about) as file:
        file["keys"] = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = attributes(path)
    assert {name: found[name] for name in about} == about
    assert (found["producer"], found["schema"]) == ("keys", 1)
    with open_checked(path, ["keys"], "keys") as file:
        assert file["keys"].shape == (3, 2)
    assert [p.name for p in path.parent.iterdir()] == ["x.hdf5"]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.hdf5"
    with write_store(path, "keys") as file:
        file["keys"] = np.ones(3)

    def dies():
        with write_store(path, "keys") as file:
            file["keys"] = np.zeros(99)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dies()
    assert [p.name for p in tmp_path.iterdir()] == ["x.hdf5"]
    assert mapped(path, "keys").sum() == 3


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="cannot be written"),
        write_store(tmp_path / "file" / "x.hdf5", "keys"),
    ):
        pass


def test_full_disk(monkeypatch, tmp_path):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with (
        pytest.raises(UserError, match=r"x\.hdf5: cannot be written .*No space left"),
        write_store(tmp_path / "x.hdf5", "keys") as file,
    ):
        file["keys"] = np.ones(3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all" * 50, None])
def test_truncated_and_foreign_files(tmp_path, content):
    path = tmp_path / "x.hdf5"
    with write_store(path, "keys") as file:
        file["keys"] = np.ones((500, 20))
    path.write_bytes(path.read_bytes()[:20_000] if content is None else content)
    with pytest.raises(UserError, match=r"x\.hdf5 \([\d,]+ bytes\) is not a complete HDF5 file"):
        open_checked(path, ["keys"])


def test_wrong_kind(tmp_path):
    path = tmp_path / "x.hdf5"
    with write_store(path, "vokens") as file:
        file["vokens"] = np.ones(3)
        file.create_group("keys")
    with pytest.raises(UserError, match=r"no dataset 'keys'; found keys, vokens"):
        open_checked(path, ["keys"])
    with pytest.raises(UserError, match="written by 'vokens', expected a store of 'keys'"):
        open_checked(path, producer="keys")
    with pytest.raises(UserError, match="does not exist"):
        open_checked(tmp_path / "y.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = 99
    with pytest.raises(UserError, match="schema 99"):
        open_checked(path)


def test_mapped_or_not(tmp_path):
    path = tmp_path / "x.hdf5"
    values = np.arange(3000, dtype=np.int32)
    with write_store(path, "x") as file:
        file["plain"] = values
        file.create_dataset("chunked", data=values, chunks=(100,), compression="gzip")
        file["empty"] = values[:0]
        file["foreign"] = values.astype(">i4")
    assert isinstance(mapped(path, "plain"), np.memmap)
    for name in ("plain", "chunked", "foreign"):
        assert np.array_equal(mapped(path, name)[100:200], values[100:200])
    assert len(mapped(path, "empty")) == 0
