"""A finished result is checked when it is used again: what is damaged is named, moved aside and made again."""

import json
import re
import shutil

import pytest

from tests.stage.toys import toy_run
from vlpnb import hashes
from vlpnb.errors import UserError


@pytest.fixture
def lines():
    return []


@pytest.fixture
def make(tmp_path, lines):
    """Opens the run of the toys as a new process would."""

    def make(**settings):
        hashes._memory.clear()
        return toy_run(tmp_path, lines, **settings)

    return make


def flip(path, at=-1):
    """Change one byte, and neither size nor name."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def holds(folder):
    """Every file that is neither hidden nor a log, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and not path.name.startswith("log.")
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("snapshot-2/weights.bin", "snapshot-2/weights.bin does not hold what was written"),
        ("snapshot-0/weights.bin", "snapshot-0/weights.bin does not hold what was written"),
        ("pictures/17.png", r"pictures/\* does not hold what was written"),
        ("manifest.json", "manifest.json does not hold what was written"),
    ],
)
def test_one_flipped_byte_is_named_and_the_result_is_made_again(make, lines, name, words):
    made = make().stage("model")
    before = holds(made.folder)
    flip(made.folder / name, -200 if name == "manifest.json" else -1)
    damaged = holds(made.folder)
    again = make().stage("model")
    assert not again.reused
    (line,) = [line for line in lines if "is damaged" in line]
    assert re.search(rf"\({words}\): moved to {made.folder.name}\.damaged-1, made", line)
    assert holds(made.folder.with_name(f"{made.folder.name}.damaged-1")) == damaged
    assert {n: c for n, c in holds(again.folder).items() if n != "manifest.json"} == {
        n: c for n, c in before.items() if n != "manifest.json"
    }
    assert make().stage("model").reused
    assert [result.name for result in make().results()] == ["model"]  # what lies aside is no result


def test_a_metric_that_was_edited_is_no_result(make, lines):
    made = make().stage("model")
    path = made.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["metrics"]["scale"] = 99.0
    path.write_text(json.dumps(manifest))
    assert make().find("model") is None
    assert make().metrics() == {}
    assert make().stage("model").metrics["scale"] == 1.0


def test_cut_missing_and_foreign_files(make, lines):
    for change, words in [
        (lambda f: (f / "snapshot-2/weights.bin").write_bytes(b"0"), "has 1 bytes, 1000 expected"),
        (lambda f: (f / "snapshot-2/weights.bin").unlink(), "snapshot-2/weights.bin is missing"),
        (
            lambda f: (f / "pictures/3.png").unlink(),
            "has 59 files of 590 bytes, 60 files of 600 bytes expected",
        ),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json does not hold"),
    ]:
        change(make().stage("model").folder)
        lines.clear()
        assert not make().stage("model").reused
        assert any(words in line for line in lines), lines
    folder = make().stage("model").folder
    (folder / "notes.txt").write_text("mine")
    assert make().stage("model").reused
    assert len(list(folder.parent.glob("*.damaged-*"))) == 4


def test_a_folder_moved_to_another_disk_and_linked_back_is_whole(make, tmp_path):
    folder = make().stage("model").folder
    for name in ("snapshot-2", "pictures"):
        shutil.move(folder / name, tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
    before = holds(folder)
    for _ in range(2):
        assert make().stage("model").reused
    assert holds(folder) == before
    (tmp_path / "snapshot-2").rename(tmp_path / "unplugged")  # the other disk is gone
    assert not make().stage("model").reused
    assert (tmp_path / "unplugged" / "weights.bin").stat().st_size == 1000
    assert (tmp_path / "pictures" / "0.png").is_file()
    aside = folder.with_name(f"{folder.name}.damaged-1")
    assert (aside / "snapshot-2").readlink() == tmp_path / "snapshot-2"
    assert make().stage("model").reused


def test_an_old_snapshot_may_go_and_the_last_may_not(make):
    folder = make().stage("model").folder
    shutil.rmtree(folder / "snapshot-0")
    assert make().stage("model").reused
    shutil.rmtree(folder / "snapshot-2")
    assert not make().stage("model").reused
    assert (folder.with_name(f"{folder.name}.damaged-1") / "snapshot-1" / "weights.bin").is_file()


def test_what_is_known_of_a_file_condemns_nothing(make):
    folder = make().stage("model").folder
    known = folder.parent / ".vlpnb" / f"{folder.name}.json"
    make().stage("model")
    content = {name: (state, "0" * 64) for name, (state, _) in json.loads(known.read_text()).items()}
    known.write_text(json.dumps(content))
    assert make().stage("model").reused


def test_every_byte_is_read_once_and_not_at_every_use(make, monkeypatch):
    make().stage("model")
    read = []
    content_hash = hashes.content_hash
    monkeypatch.setattr(hashes, "content_hash", lambda path: read.append(path) or content_hash(path))
    monkeypatch.setattr(hashes, "SETTLED", 0)
    make().stage("model")
    read.clear()
    assert make().stage("model").reused
    assert read == []


def test_damage_of_an_input_is_found_before_it_is_read(make, tmp_path, lines):
    (tmp_path / "p").mkdir()
    settings = {"data": {"root": str(tmp_path / "p")}}
    run = make(**settings)
    flip(run.stage("data").folder / "manifest.json", -100)
    assert make(**settings).stage("last").metrics["pictures"] == 0
    assert any("[data]" in line and "is damaged" in line for line in lines)


def test_damage_that_may_only_be_read_is_named(make, monkeypatch):
    folder = make().stage("model").folder
    flip(folder / "snapshot-2" / "weights.bin")
    before = holds(folder)
    monkeypatch.setattr("vlpnb.stage.execution.may_write", lambda path: False)
    with pytest.raises(UserError, match=r"damaged \(snapshot-2/weights.bin .*\), and may only be read"):
        make().stage("model")
    assert holds(folder) == before
