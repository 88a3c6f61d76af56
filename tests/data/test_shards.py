"""Sharded work gives the same bytes whatever the number of processes, and whatever happens to them on the way."""

import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.resume.driver import Events
from vlpnb.data.shards import Shards
from vlpnb.data.store import attributes, open_checked
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.stage.folder import remove_leftovers

SIZES = [4, 4, 4, 4, 4, 4, 2]
NOTHING = 3  # a unit whose items are all left out


def unit(i: int) -> tuple[dict[str, np.ndarray], dict[str, list]]:
    """Some pictures of a size, one of four left out: rows, ragged words, and the picture of every word."""
    dice = np.random.default_rng(i)
    broken = [0, 1, 2, 3] if i == NOTHING else [int(dice.integers(4))] if SIZES[i] == 4 else []
    kept = [n for n in range(SIZES[i]) if n not in broken]
    notes = {"ids": [f"{i}.{n}" for n in kept], "broken": [[f"{i}.{n}", "why"] for n in broken]}
    if not kept:
        return {}, notes
    words = dice.integers(0, 5, len(kept))
    arrays = {
        "rows": dice.normal(size=(len(kept), 3)).astype(np.float16),
        "words": dice.integers(0, 60_000, words.sum()).astype(np.uint16),
        "offsets": words.astype(np.int32),
        "owner": np.repeat(np.arange(len(kept), dtype=np.int32), words),
    }
    return arrays, notes


def work(
    folder: Path, rank=0, world_size=1, wait=None, made=lambda i: None, identity="a", sizes=SIZES, **changes
) -> Shards:
    """All of the protocol as a stage would use it; `made` hears of every unit that is made."""
    shards = Shards(folder / "checkpoint-x", identity, sizes, rank, world_size, wait=wait)
    target = folder / "x.hdf5"

    def make(i: int):
        made(i)
        return unit(i)

    def publish():
        write_text(folder / "x.ids", "\n".join(shards.notes()["ids"]))
        shards.join(target, "x", {"about": [1]}, offsets=["offsets"], indices={"owner": "rows"}, **changes)

    if not shards.complete(target):
        shards.make(make)
        shards.publish(publish)
    return shards


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """What one undisturbed process leaves."""
    folder = tmp_path_factory.mktemp("whole")
    work(folder)
    return files(folder)


def attempt(folder: Path, processes: int = 1, fatal=(), after: float | None = None, **options) -> dict:
    """One attempt at the work in forked processes, which die when one of them does.

    fatal: events (`Events`) of which each process dies before the first that comes. after: seconds after the first unit
    is begun, when all are killed. Returns the ends ("finished", "killed", or an error's text), the events of process 0,
    and the units that were begun.
    """
    remove_leftovers(folder)  # as the engine does
    barrier = multiprocessing.get_context("fork").Barrier(processes)
    reports = [folder.with_name(f"{folder.name}.{rank}.json") for rank in range(processes)]
    log = folder.with_name(f"{folder.name}.made")
    log.write_bytes(b"")

    def process(rank: int) -> str:
        events = Events(folder, set(fatal), os.open(os.devnull, os.O_WRONLY))
        if options.get("limit"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (options["limit"], resource.RLIM_INFINITY))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        lines = os.open(log, os.O_WRONLY | os.O_APPEND)

        def made(i: int) -> None:
            os.write(lines, f"{i}\n".encode())
            time.sleep(options.get("pause", 0))

        os.fsync = lambda descriptor: None  # a kill is no power cut
        sys.addaudithook(events.hook)
        events.active = True
        try:
            work(folder, rank, processes, barrier.wait, made)
            return json.dumps(["finished", events.seen])
        except UserError as error:
            return json.dumps([str(error), events.seen])
        finally:
            events.active = False
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    children = {}
    for rank in range(processes):
        reports[rank].unlink(missing_ok=True)
        if (child := os.fork()) == 0:
            try:
                text = process(rank)
                reports[rank].write_text(text)
            finally:
                os._exit(0)
        children[child] = rank
    while after is not None and not log.stat().st_size and not reports[0].is_file():
        time.sleep(0.001)
    deadline = None if after is None else time.monotonic() + after
    while children:
        ended, status = os.waitpid(-1, 0 if deadline is None else os.WNOHANG)
        if ended in children:
            rank = children.pop(ended)
            finished = os.WIFEXITED(status) and json.loads(reports[rank].read_text())[0] == "finished"
            if not finished:
                for child in children:
                    os.kill(child, signal.SIGKILL)
        elif deadline is not None and time.monotonic() > deadline:
            deadline = None
            for child in children:
                os.kill(child, signal.SIGKILL)
        elif deadline is not None:
            time.sleep(0.001)
    found = [json.loads(path.read_text()) if path.is_file() else ["killed", []] for path in reports]
    return {
        "ends": [end for end, _ in found],
        "events": [tuple(event) for event in found[0][1]],
        "made": [int(i) for i in log.read_text().split()],
    }


def test_the_store_is_the_units_one_after_the_other(whole, tmp_path):
    work(tmp_path)
    assert sorted(whole) == ["x.hdf5", "x.ids"]
    assert files(tmp_path) == whole
    made = [unit(i) for i in range(len(SIZES)) if i != NOTHING]
    assert whole["x.ids"].decode().split() == [name for _, notes in made for name in notes["ids"]]
    with open_checked(tmp_path / "x.hdf5", producer="x") as file:
        for name in ("rows", "words"):
            assert file[name].dtype == made[0][0][name].dtype
            assert np.array_equal(file[name], np.concatenate([arrays[name] for arrays, _ in made]))
        lengths = np.concatenate([arrays["offsets"] for arrays, _ in made])
        assert file["offsets"].dtype == np.int64
        assert file["offsets"][()].tolist() == [0, *np.cumsum(lengths).tolist()]
        assert np.array_equal(file["owner"], np.repeat(np.arange(len(lengths)), lengths))
    assert attributes(tmp_path / "x.hdf5")["about"] == [1]


@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_processes_share_the_units_and_their_number_leaves_no_trace(whole, tmp_path, processes):
    done = attempt(tmp_path / "run", processes)
    assert done["ends"] == ["finished"] * processes
    assert sorted(done["made"]) == list(range(len(SIZES)))
    assert files(tmp_path / "run") == whole
    assert attempt(tmp_path / "run", processes)["made"] == []


@pytest.mark.slow
def test_killed_before_every_operation_on_files(whole, tmp_path):
    """And continued by another number of processes."""
    events = list(dict.fromkeys(attempt(tmp_path / "reference")["events"]))
    assert len(events) > 3 * len(SIZES)
    for n, event in enumerate(events):
        folder = tmp_path / str(n)
        killed = attempt(folder, fatal=[event])
        assert killed["ends"] == ["killed"], event
        done = attempt(folder, 1 + n % 3)
        assert set(done["ends"]) == {"finished"}, event
        assert files(folder) == whole, event
        # Only the unit that was under way is made twice; none, where the target was there.
        assert len(killed["made"]) + len(done["made"]) <= len(SIZES) + 1, event


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_times_with_changing_numbers_of_processes(whole, tmp_path, seed):
    dice, kills, made = random.Random(seed), 0, 0
    for _ in range(4):
        processes = dice.randint(1, 3)
        done = attempt(tmp_path / "run", processes, after=dice.uniform(0, 0.03), pause=0.03)
        made += len(done["made"]) - processes  # each may have one under way
        kills += "killed" in done["ends"]
    assert kills > 0
    assert set(attempt(tmp_path / "run")["ends"]) == {"finished"}
    assert files(tmp_path / "run") == whole
    assert made <= len(SIZES)


def stop_before_joining(folder: Path, **options) -> list[int]:
    """All shards and no store: process 0 dies when it joins."""
    shards = Shards(folder / "checkpoint-x", options.get("identity", "a"), options.get("sizes", SIZES))
    shards.make(unit)
    return list(range(len(SIZES)))


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, []),
        ({"identity": "b"}, list(range(len(SIZES)))),
        ({"sizes": [*SIZES[:-1], 3]}, list(range(len(SIZES)))),  # cut in another way
    ],
)
def test_shards_of_other_work_are_made_anew(whole, tmp_path, change, again):
    stop_before_joining(tmp_path, **change)
    made = []
    work(tmp_path, made=made.append)
    assert made == again
    assert files(tmp_path) == whole


def spoil(path: Path) -> None:
    """Zeros in the middle of an array, as a crash of the machine may leave them."""
    with h5py.File(path) as file:
        offset = file["rows"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[offset : offset + 6] = bytes(6)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        spoil,
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not HDF5" * 100),
        lambda path: path.write_bytes(path.with_name("000002.hdf5").read_bytes()),
        lambda path: path.unlink(),
    ],
    ids=["zeros", "cut short", "empty", "foreign", "of another unit", "lost"],
)
def test_a_damaged_shard_is_made_anew_and_no_other(whole, tmp_path, damage):
    stop_before_joining(tmp_path)
    damage(tmp_path / "checkpoint-x" / "000001.hdf5")
    made = []
    work(tmp_path, made=made.append)
    assert made == [1]
    assert files(tmp_path) == whole


def test_a_store_of_other_work_or_a_damaged_one_is_replaced(whole, tmp_path):
    work(tmp_path, identity="old")
    assert files(tmp_path) != whole
    work(tmp_path)
    assert files(tmp_path) == whole
    (tmp_path / "x.hdf5").write_bytes(whole["x.hdf5"][:900])
    work(tmp_path)
    assert files(tmp_path) == whole


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_is_named_and_the_next_attempt_goes_on(whole, tmp_path, share, processes):
    done = attempt(tmp_path / "run", processes, limit=int(share * len(whole["x.hdf5"])))
    messages = [end for end in done["ends"] if end not in ("killed", "finished")]
    assert messages
    for message in messages:
        assert message.startswith(str(tmp_path / "run"))
        assert "File too large" in message
        assert "make room" in message
    if processes == 1:  # else one was killed
        assert [path.name for path in (tmp_path / "run").rglob("*.tmp")] == []
    assert set(attempt(tmp_path / "run", processes)["ends"]) == {"finished"}
    assert files(tmp_path / "run") == whole


def test_a_failed_process_publishes_nothing(tmp_path):
    shards = Shards(tmp_path / "checkpoint-x", "a", SIZES, rank=1, world_size=2, wait=lambda: None)
    shards.make(unit)
    first = Shards(tmp_path / "checkpoint-x", "a", SIZES, rank=0, world_size=2, wait=lambda: None)
    first.make(unit)
    shards.path(3).unlink()
    with pytest.raises(UserError, match=r"000003\.hdf5 is missing: a process failed. Run the same command"):
        first.publish(lambda: first.join(tmp_path / "x.hdf5", "x"))
    assert not (tmp_path / "x.hdf5").exists()


@pytest.mark.parametrize(
    ("wanted", "expected"), [(None, 7), (1, 1), (4, 2), (7, 3), (9, 3), (13, 6), (99, 7)]
)
@pytest.mark.parametrize("processes", [1, 2])
def test_no_more_units_are_made_than_give_the_rows_that_are_wanted(tmp_path, processes, wanted, expected):
    """Units of four give three rows, one of them none: 3, 3, 3, 0, 3, 3, 2."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    barrier, made = Barrier(processes), []

    def process(rank):
        shards = Shards(tmp_path / "checkpoint-x", "a", SIZES, rank, processes, wait=lambda: barrier.wait(60))
        shards.make(lambda i: made.append(i) or unit(i), wanted, of="rows")
        return shards

    with ThreadPoolExecutor(processes) as pool:
        shards = [future.result() for future in [pool.submit(process, rank) for rank in range(processes)]]
    assert {found.used for found in shards} == {expected}
    assert sorted(made) == list(range(expected))
    shards[0].join(tmp_path / "x.hdf5", "x", rows={"rows": (2, 3)}, offsets=["offsets"])
    with open_checked(tmp_path / "x.hdf5") as file:
        assert np.array_equal(file["rows"], unit(0)[0]["rows"][2:3])


def test_a_part_of_the_rows_counts_from_its_own_start(tmp_path):
    shards = Shards(tmp_path / "checkpoint-x", "a", SIZES)
    shards.make(unit)
    shards.join(tmp_path / "x.hdf5", "x", offsets=["offsets"], indices={"owner": "rows"})
    with open_checked(tmp_path / "x.hdf5") as file:
        everything = {name: file[name][()] for name in file}
    first, last = 2, 11  # pictures, over four units, one of them empty
    words = tuple(int(everything["offsets"][at]) for at in (first, last))
    parts = {"rows": (first, last), "offsets": (first, last), "words": words, "owner": words}
    shards.join(tmp_path / "y.hdf5", "x", offsets=["offsets"], indices={"owner": "rows"}, rows=parts)
    with open_checked(tmp_path / "y.hdf5") as file:
        assert np.array_equal(file["rows"], everything["rows"][first:last])
        assert np.array_equal(file["words"], everything["words"][slice(*words)])
        assert np.array_equal(file["offsets"], everything["offsets"][first : last + 1] - words[0])
        assert np.array_equal(file["owner"], everything["owner"][slice(*words)] - first)


def test_units_of_different_kinds_are_a_mistake_of_the_stage(tmp_path):
    shards = Shards(tmp_path / "checkpoint-x", "a", [1, 1])
    shards.make(lambda i: ({"rows": np.zeros((2, 3), [np.float32, np.float64][i])}, {}))
    with pytest.raises(ValueError, match=r"000001\.hdf5: rows is float64 \[n, \[3\]\]"):
        shards.join(tmp_path / "x.hdf5", "x")


def test_progress_is_counted_in_sizes(tmp_path):
    seen = []
    shards = Shards(
        tmp_path / "checkpoint-x", "a", SIZES, rank=1, world_size=2, wait=lambda: None,
        progress=lambda *found: seen.append(found),
    )  # fmt: skip
    shards.make(unit)
    assert seen == [(int(done), sum(SIZES)) for done in np.cumsum(SIZES)]
