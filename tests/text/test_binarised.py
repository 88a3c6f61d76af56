"""fairseq's binary files: read, written, and refused where the two do not belong together."""

import hashlib
import json
import pickle
import struct

import numpy as np
import pytest

from vlpnb.errors import UserError
from vlpnb.text.binarised import Binarised, write_binarised
from vlpnb.text.blocks import LanguageBlocks

LINES = [np.array([7, 8, 2]), np.array([2]), np.array([9, 65_535, 5, 2])]


@pytest.fixture(scope="module")
def recorded(shared_data):
    """The numbers that another reader found in the files of the sample data."""
    path = shared_data.parent / "golden" / "valm" / "binarised.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return json.loads(path.read_text())


def test_what_was_written_is_read(tmp_path):
    assert write_binarised(tmp_path / "train", LINES, 1 << 16) == 8
    found = Binarised(tmp_path / "train.bin")
    assert (len(found), found.dtype, found.in_order) == (3, np.uint16, True)
    assert [found.line(i).tolist() for i in range(3)] == [line.tolist() for line in LINES]
    assert found.offsets.tolist() == [0, 3, 4, 8]
    again = pickle.loads(pickle.dumps(found))
    assert again.line(2).tolist() == LINES[2].tolist()


def test_a_large_vocabulary_gets_wider_ids(tmp_path):
    write_binarised(tmp_path / "train", [np.array([70_000, 2])], 100_000)
    assert Binarised(tmp_path / "train").line(0).tolist() == [70_000, 2]


def test_the_bytes_are_those_of_the_layout(tmp_path):
    write_binarised(tmp_path / "x", [np.array([258, 2]), np.array([3])], 300)
    assert (tmp_path / "x.bin").read_bytes() == bytes([2, 1, 2, 0, 3, 0])
    expected = b"MMIDIDX\0\0" + struct.pack("<QBQ2i2q", 1, 8, 2, 2, 1, 0, 4)
    assert (tmp_path / "x.idx").read_bytes() == expected


def test_lines_in_another_order_are_followed(tmp_path):
    (tmp_path / "x.bin").write_bytes(np.array([5, 6, 7], "<u2").tobytes())
    (tmp_path / "x.idx").write_bytes(b"MMIDIDX\0\0" + struct.pack("<QBQ2i2q", 1, 8, 2, 2, 1, 2, 0))
    found = Binarised(tmp_path / "x")
    assert [found.line(i).tolist() for i in range(2)] == [[6, 7], [5]]
    with pytest.raises(UserError, match="lines do not follow each other"):
        _ = found.offsets


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda bin_, idx: bin_.write_bytes(bin_.read_bytes()[:-2]), "cut short"),
        (lambda bin_, idx: idx.write_bytes(idx.read_bytes()[:-1]), r"expected 62 for 3 lines"),
        (lambda bin_, idx: idx.write_bytes(b"TNTIDX" + idx.read_bytes()[6:]), "it is no .idx"),
        (lambda bin_, idx: idx.write_bytes(idx.read_bytes()[:17] + b"\7" + idx.read_bytes()[18:]), "id type 7"),
        (lambda bin_, idx: bin_.unlink(), r"train\.bin does not exist"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_each_other_are_refused(tmp_path, damage, message):
    write_binarised(tmp_path / "train", LINES, 1 << 16)
    damage(tmp_path / "train.bin", tmp_path / "train.idx")
    with pytest.raises(UserError, match=message):
        Binarised(tmp_path / "train")


def test_an_id_beyond_the_vocabulary_leaves_no_corpus(tmp_path):
    with pytest.raises(UserError, match="line 1 has ids 2 to 50; expected ids below the vocabulary's 50"):
        write_binarised(tmp_path / "x", [np.array([1]), np.array([2, 50])], 50)
    assert not list(tmp_path.glob("x*"))


def test_the_corpora_of_the_release_are_read_as_recorded(shared_data, recorded):
    folders = {"wikitext-103-fairseq/test", "wikitext-103-fairseq/valid", "lambada/fairseq/test"}
    assert folders <= recorded.keys()
    for name in folders:
        about, found = recorded[name], Binarised(shared_data / "text" / name)
        tokens = found.tokens
        assert (len(found), len(tokens), int(tokens.sum(dtype=np.int64))) == (
            about["lines"], about["tokens"], about["sum"]
        )  # fmt: skip
        assert hashlib.sha256(tokens.astype("<u2").tobytes()).hexdigest() == about["sha256_uint16"]
        assert (found.lengths.max(), found.lengths.min()) == (about["longest_line"], about["shortest_line"])
        for number, ids in about["picked_lines"].items():
            assert found.line(int(number))[:40].tolist() == ids


def test_packing_and_lines_of_the_release_are_as_recorded(shared_data, recorded):
    about = recorded["packing"]
    path = shared_data / "text" / about["file"]
    packed = LanguageBlocks(path, block=about["block"], end_id=2, pad_id=1)
    assert (len(packed), int(packed.lengths[-1])) == (about["blocks"], about["last_block_length"])
    for number, item in about["items"].items():
        found = packed[int(number)]
        assert (found["ids"].tolist(), found["targets"].tolist()) == (item["input"], item["target"])
    lines = LanguageBlocks(path, block=512, end_id=2, pad_id=1, lines=True)
    for number, item in recorded["packing"]["one_line_per_sample"].items():
        found = lines[int(number)]
        assert (found["ids"].tolist(), found["targets"].tolist()) == (item["input"], item["target"])
