"""A store of vectors says what it holds, and is refused where that is not so."""

import json
import pickle
from dataclasses import asdict

import h5py
import numpy as np
import pytest
import torch

from vlpnb.errors import UserError
from vlpnb.retrieval.store import ABOUT, CAPTIONS, IDS, STORE, VectorStore, write_store


def unit(count: int, width: int = 6, kind=np.float32, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(kind)


def names(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


@pytest.fixture
def folder(tmp_path):
    values = np.arange(20, dtype=np.float32).reshape(5, 4)
    captions = [("a red car .", "one\ncar"), ("a dog .",), (), ("ein Hündchen",), ("a cat .",)]
    write_store(
        tmp_path, unit(5), names(5), "towers", "ab" * 32, values=values, captions=captions, paths=names(5)
    )
    return tmp_path


def edit(folder, **changes) -> None:
    about = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps(about | changes))


def test_what_was_written_is_read(folder):
    store = VectorStore(folder)
    assert len(store) == 5
    assert store.ids == names(5)
    assert (store.vectors == unit(5)).all()
    assert store.value_width == 4
    assert store.rows(["p3", "p0"]).tolist() == [3, 0]
    assert store.rows_or_none(["p3", "other"]).tolist() == [3, -1]
    assert store.captions(0) == ("a red car .", "one\ncar")
    assert store.captions(2) == ()
    assert store.paths == names(5)
    about = asdict(store.meta)
    assert len(about.pop("hash")) == 64
    assert about == {
        "encoder": "towers", "encoder_hash": "ab" * 32, "width": 6, "count": 5, "dtype": "float32",
        "normalised": True, "metric": "ip", "value_name": "features", "value_width": 4,
    }  # fmt: skip
    store.verify()


def test_rows_are_gathered_in_any_shape_and_nothing_is_zeros(folder):
    store = VectorStore(folder)
    found = store.gather(torch.tensor([[0, -1], [4, 4]], dtype=torch.int32))
    assert found.tolist() == [[[0, 1, 2, 3], [0, 0, 0, 0]], [[16, 17, 18, 19]] * 2]
    assert torch.equal(store.gather(np.array([2]), "vectors")[0], torch.from_numpy(unit(5)[2]))
    assert store.gather(np.empty((0, 3), np.int32)).shape == (0, 3, 4)
    for wrong in (5, -2):
        with pytest.raises(IndexError, match=f"row {wrong} of a store of 5"):
            store.gather(torch.tensor([0, wrong]))


def test_half_precision_without_values_reads_the_vectors(tmp_path):
    store = write_store(tmp_path, unit(3, kind=np.float16), names(3))
    assert store.meta.dtype == "float16"
    assert store.value_width == 6
    assert torch.equal(store.gather(np.arange(3)), torch.from_numpy(unit(3, kind=np.float16)).float())
    assert store.captions(1) == ()
    assert store.paths is None


def test_a_store_goes_to_other_processes_as_its_place(folder):
    store = VectorStore(folder)
    store.gather(np.arange(5))
    assert (pickle.loads(pickle.dumps(store)).gather(np.arange(5)) == store.gather(np.arange(5))).all()
    assert len(pickle.dumps(store)) < 2000


def test_unknown_pictures_are_counted_and_named(folder):
    with pytest.raises(UserError, match="2 of 3 pictures are not in the store: x, y"):
        VectorStore(folder).rows(["x", "p1", "y"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"count": 4}, r"vectors are float32 \[5, 6\].*says float32 \[4, 6\]"),
        ({"width": 7}, r"vectors are float32 \[5, 6\].*says float32 \[5, 7\]"),
        ({"value_width": 3}, r"values are float32 \[5, 4\].*says float32 \[5, 3\]"),
        ({"dtype": "float16"}, r"says float16"),
        ({"normalised": False}, "metric ip with normalised false"),
        ({"metric": "cosine"}, "metric: found 'cosine'; expected ip or l2"),
        ({"width": "6"}, "width: found '6'; expected"),
        ({"count": -1}, "count: found -1; expected"),
        ({"encoder": 3}, "encoder: expected text"),
    ],
)
def test_a_store_that_disagrees_with_its_description_is_refused(folder, change, says):
    edit(folder, **change)
    with pytest.raises(UserError, match=says):
        VectorStore(folder)


def test_rows_that_are_not_unit_are_refused_with_an_inner_product(tmp_path):
    long = unit(5) * 3
    with pytest.raises(UserError, match=r"row 0 has the length 3\.000; expected length 1"):
        write_store(tmp_path, long, names(5))
    write_store(tmp_path, long, names(5), normalised=False)
    with pytest.raises(UserError, match="metric ip with normalised false"):
        VectorStore(tmp_path)
    assert len(VectorStore(tmp_path, raw=True)) == 5
    edit(tmp_path, normalised=True)  # a description that lies
    with pytest.raises(UserError, match="expected length 1"):
        VectorStore(tmp_path)
    assert len(write_store(tmp_path / "l2", long, names(5), normalised=False, metric="l2")) == 5
    assert len(VectorStore(tmp_path / "l2")) == 5


def test_an_empty_store_and_ids_that_come_twice_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no picture to retrieve"):
        write_store(tmp_path, unit(0), [])
    with pytest.raises(UserError, match="two pictures are called 'a'"):
        write_store(tmp_path, unit(3), ["b", "a", "a"])
    assert not (tmp_path / STORE).exists()


def test_files_of_another_store_are_refused(folder):
    (folder / IDS).write_text("p0\np1\n")
    with pytest.raises(UserError, match="2 lines for 5 vectors"):
        VectorStore(folder).ids  # noqa: B018
    (folder / IDS).write_text("p0\np1\np1\np3\np4\n")
    with pytest.raises(UserError, match="'p1' comes twice"):
        VectorStore(folder).rows(["p1"])
    (folder / CAPTIONS).write_text('["a"]\n')
    with pytest.raises(UserError, match="1 lines for 5 pictures"):
        VectorStore(folder).captions(0)
    (folder / CAPTIONS).write_text('["a"]\n' * 4 + "[3]\n")
    with pytest.raises(UserError, match=f"{CAPTIONS}:5: expected text"):
        VectorStore(folder).captions(0)


def test_what_is_not_finite_or_was_changed_is_found(folder):
    with h5py.File(folder / STORE, "r+") as file:
        file["values"][2, 1] = 7.5
    with pytest.raises(UserError, match="its content has the hash"):
        VectorStore(folder).verify()
    with h5py.File(folder / STORE, "r+") as file:
        file["vectors"][2, 1] = np.nan
    with pytest.raises(UserError, match="row 2 has a number that is not finite"):
        VectorStore(folder)


def test_a_store_cut_short_or_absent_is_named(folder, tmp_path):
    (folder / STORE).write_bytes((folder / STORE).read_bytes()[:700])
    with pytest.raises(UserError, match="not a complete HDF5 file"):
        VectorStore(folder)
    with pytest.raises(UserError, match=ABOUT):
        VectorStore(tmp_path / "nowhere")


def test_a_store_of_other_towers_is_refused_by_name(folder):
    store = VectorStore(folder)
    store.check_encoder("towers", "ab" * 32, 6)
    with pytest.raises(
        UserError, match=r"made by towers \(abababababab, width 6\).*come from clip \(cdcdcdcd"
    ):
        store.check_encoder("clip", "cd" * 32, 6)
    with pytest.raises(UserError, match="width 512"):
        store.check_encoder("towers", "ab" * 32, 512)
