"""Hashes of whole files: read once, known again, kept beside the data or elsewhere."""

import hashlib
import json
import os
import time

import pytest

from vlpnb import hashes


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read."""
    seen = []
    read = hashes.content_hash
    monkeypatch.setattr(hashes, "content_hash", lambda path: seen.append(path.name) or read(path))
    return seen


@pytest.fixture
def folder(tmp_path):
    """Twelve files that nobody has touched for a while."""
    folder = tmp_path / "data" / "pictures"
    (folder / "more").mkdir(parents=True)
    for i in range(12):
        (folder / ("more" if i % 2 else "") / f"{i}.png").write_bytes(bytes([i]) * 100)
    time.sleep(0.06)
    return folder


def forget():
    """As a new process."""
    hashes._memory.clear()


def test_each_file_is_read_once_by_all_processes(folder, reads):
    first = hashes.describe(folder)
    assert first.endswith("(12 files)")
    assert len(reads) == 12
    forget()
    assert hashes.describe(folder) == first
    assert len(reads) == 12
    assert hashes.hash_files(folder, ["0.png"]) == {"0.png": hashlib.sha256(bytes(100)).hexdigest()}


def test_what_changed_is_read_again_even_with_its_old_size_and_time(folder, reads):
    before = hashes.describe(folder)
    reads.clear()
    path = folder / "more" / "3.png"
    status = path.stat()
    path.write_bytes(b"x" * 100)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    forget()
    assert hashes.describe(folder) != before
    assert reads == ["3.png"]


def test_a_file_that_has_just_been_written_is_not_trusted_to_stay(folder, reads):
    path = folder / "0.png"
    for value in (b"a", b"b"):  # within one tick of the clock a second change may leave no trace
        path.write_bytes(value * 100)
        assert hashes.hash_files(folder, ["0.png"])["0.png"] == hashlib.sha256(value * 100).hexdigest()
    hashes.hash_files(folder, ["0.png"])
    assert reads == ["0.png"] * 3


def test_the_place_and_the_times_say_nothing(folder, tmp_path):
    before = hashes.describe(folder)
    folder.parent.rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "pictures"
    os.utime(moved / "0.png", (1, 1))
    assert hashes.describe(moved) == before


def test_links_are_followed_and_loops_end(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "all").symlink_to(folder)
    (folder / "loop").symlink_to(folder)
    (folder / ".hidden.png").write_bytes(b"x")
    assert len(hashes.files_below(linked)) == 12
    assert hashes.describe(linked / "nothing") == "absent"


def test_a_damaged_memory_is_read_as_none(folder, reads):
    before = hashes.describe(folder)
    for text in ("{", "[]", '{"0.png": 3}'):
        (folder.parent / ".vlpnb" / "pictures.json").write_text(text)
        forget()
        assert hashes.describe(folder) == before


def test_where_nothing_may_be_written_hashes_are_kept_elsewhere(folder, tmp_path, reads, monkeypatch):
    monkeypatch.setattr(hashes, "may_write", lambda place: place == tmp_path / "runs")
    monkeypatch.setattr(type(folder), "mkdir", _no_mkdir_below(folder, type(folder).mkdir))
    before = hashes.describe(folder)
    assert not (folder.parent / ".vlpnb").exists()
    assert hashes.describe(folder) == before
    assert len(reads) == 12  # this process knows it
    forget()
    with hashes.kept_in(tmp_path / "runs"):
        for _ in range(2):
            assert hashes.describe(folder) == before
            forget()
    assert len(reads) == 24
    (kept,) = (tmp_path / "runs").glob("*.json")
    assert len(json.loads(kept.read_text())) == 12


def _no_mkdir_below(folder, mkdir):
    def guarded(path, *args, **kwargs):
        if folder.parent in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return mkdir(path, *args, **kwargs)

    return guarded


def test_much_to_read_is_said(folder, monkeypatch):
    monkeypatch.setattr(hashes, "WORTH_A_LINE", 1000)
    lines = []
    with hashes.kept_in(folder.parent, lines.append):
        hashes.describe(folder)
        hashes.describe(folder)
    assert len(lines) == 1
    assert "12 files" in lines[0]
