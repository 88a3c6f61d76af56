"""Blocks of a token stream: golden counts, alignment of labels, workers."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlpnb.data.store import write_store
from vlpnb.errors import UserError
from vlpnb.text.packing import BlockDataset, block_starts, line_spans, trimmed


@pytest.mark.parametrize(("n", "legacy", "full"), [(4422, 34, 35), (25310, 199, 200), (1260, 8, 10)])
def test_golden_block_counts(n, legacy, full):
    assert len(block_starts(n, legacy=True)) == legacy
    starts = block_starts(n)
    assert len(starts) == full
    assert starts[-1] + 126 <= n


def test_short_streams_and_excluded_ranges():
    assert len(block_starts(125)) == len(block_starts(100, legacy=True)) == 0
    assert block_starts(50, 10, exclude=(15, 20)).tolist() == [0, 20, 30, 40]
    assert block_starts(50, 10, exclude=(19, 21)).tolist() == [0, 30, 40]


LINES = np.array([0, 3, 3, 18, 25])  # lines of 3, 0, 15 and 7 tokens


def test_lines_are_cut_and_padded(stores):
    data = BlockDataset(*stores, block=10, cls_id=2, sep_id=3, lines=LINES, pad_id=1)
    assert len(data) == 3
    batch = data.batch([2, 0, 1])
    assert batch["ids"].tolist() == [
        [2, *range(118, 125), 3, 1, 1, 1],
        [2, 100, 101, 102, 3, *[1] * 7],
        [2, *range(103, 113), 3],
    ]
    assert batch["labels"].tolist() == [
        [-100, *range(18, 25), *[-100] * 4],
        [-100, 0, 1, 2, *[-100] * 8],
        [-100, *range(3, 13), -100],
    ]
    assert batch["mask"].sum(1).tolist() == [9, 5, 12]
    assert torch.equal(batch["mask"], batch["ids"] != 1)
    assert "mask" not in BlockDataset(*stores, block=10, cls_id=2, sep_id=3).batch([0])
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy.batch([1])["labels"], batch["labels"][2:])


def test_excluded_lines_and_none_at_all(stores):
    starts, lengths = line_spans(LINES, 10, exclude=(2, 3))
    assert (starts.tolist(), lengths.tolist()) == ([3, 18], [10, 7])
    assert line_spans(LINES, 10, exclude=(13, 18))[0].tolist() == [
        0,
        3,
        18,
    ]  # of a cut line what is left counts
    with pytest.raises(UserError, match="gives no line; use more text"):
        BlockDataset(np.zeros(0, np.int64), block=10, cls_id=2, sep_id=3, lines=np.array([0, 0]))


def test_a_batch_is_trimmed_to_its_longest_line(stores):
    data = BlockDataset(*stores, block=10, cls_id=2, sep_id=3, lines=LINES, pad_id=1)
    made = trimmed(data.batch([0, 2]))
    assert {name: list(value.shape) for name, value in made.items()} == {
        "ids": [2, 9], "labels": [2, 9], "mask": [2, 9],
    }  # fmt: skip
    assert trimmed({name: value[:0] for name, value in made.items()})["ids"].shape == (0, 1)
    blocks = BlockDataset(*stores, block=10, cls_id=2, sep_id=3).batch([0, 1])
    assert torch.equal(trimmed(blocks)["ids"], blocks["ids"])


@pytest.fixture
def stores(tmp_path):
    with write_store(tmp_path / "t.hdf5", "corpus") as file:
        file["tokens"] = np.arange(100, 125, dtype=np.uint16)
    with write_store(tmp_path / "v.hdf5", "vokens") as file:
        file["vokens"] = np.arange(25, dtype=np.int32)
    return tmp_path / "t.hdf5", tmp_path / "v.hdf5"


def test_token_and_label_share_a_position(stores):
    data = BlockDataset(*stores, block=10, cls_id=2, sep_id=3)
    assert len(data) == 2
    item = data[1]
    assert item["ids"].tolist() == [2, *range(110, 120), 3]
    assert item["labels"].tolist() == [-100, *range(10, 20), -100]
    batch = data.batch([1, 0, 1])
    assert batch["ids"].dtype == torch.int64
    assert batch["ids"].shape == batch["labels"].shape == (3, 12)
    assert torch.equal(batch["ids"][0], item["ids"])
    assert "labels" not in BlockDataset(stores[0], block=10, cls_id=2, sep_id=3)[0]


def test_same_from_arrays_and_after_pickling(stores):
    data = BlockDataset(*stores, block=10, cls_id=2, sep_id=3)
    arrays = BlockDataset(np.arange(100, 125), np.arange(25), block=10, cls_id=2, sep_id=3)
    copy = pickle.loads(pickle.dumps(data))
    for name in ("ids", "labels"):
        assert torch.equal(data.batch([0, 1])[name], arrays.batch([0, 1])[name])
        assert torch.equal(data.batch([0, 1])[name], copy.batch([0, 1])[name])


def test_refusals(stores):
    with pytest.raises(UserError, match="one label per token"):
        BlockDataset(stores[0], np.arange(24), block=10, cls_id=2, sep_id=3)
    with pytest.raises(UserError, match="no block of 126"):
        BlockDataset(stores[0], cls_id=2, sep_id=3)


RANGES = st.none() | st.tuples(st.integers(0, 400), st.integers(1, 200)).map(lambda r: (r[0], r[0] + r[1]))


@given(n=st.integers(0, 500), block=st.integers(1, 60), exclude=RANGES)
def test_blocks_tile_what_is_kept(n, block, exclude):
    starts = block_starts(n, block, exclude=exclude).tolist()
    first, end = exclude or (0, 0)
    expected = [
        s for s in range(0, n - block + 1, block) if not any(first <= t < end for t in range(s, s + block))
    ]
    assert starts == expected
    legacy = block_starts(n, block, legacy=True, exclude=exclude).tolist()
    assert legacy == starts[: len(legacy)]
    assert len(block_starts(n, block)) - len(block_starts(n, block, legacy=True)) in (0, 1, 2)


@given(n=st.integers(1, 300), block=st.integers(1, 60), legacy=st.booleans(), exclude=RANGES, data=st.data())
def test_every_label_stays_with_its_token(n, block, legacy, exclude, data):
    """Labels name their token's place: a shift by one anywhere would show."""
    places = np.arange(n)
    if not len(block_starts(n, block, legacy, exclude)):
        return
    blocks = BlockDataset(
        places + 1000, places, cls_id=2, sep_id=3, block=block, legacy=legacy, exclude=exclude
    )
    rows = data.draw(st.lists(st.integers(0, len(blocks) - 1), min_size=1, max_size=5))
    found = blocks.batch(rows)
    assert found["ids"].shape == found["labels"].shape == (len(rows), block + 2)
    body, labels = found["ids"][:, 1:-1], found["labels"][:, 1:-1]
    assert torch.equal(body, labels + 1000)
    assert labels[:, 0].tolist() == blocks.starts[rows].tolist()
    assert (labels.diff(dim=1) == 1).all()
    assert (found["ids"][:, [0, -1]] == torch.tensor([2, 3])).all()
    assert (found["labels"][:, [0, -1]] == -100).all()
