"""Work in shards: cut in units, shared by processes, continued after a kill, joined into one store.

Everything that takes hours and makes arrays goes through here. The work is a list of units (256 pictures, 8 MB of
text) whose order is the order of the result; the arrays of a unit become one file, complete or absent, that names the
work it belongs to. What a stage writes:

    shards = Shards(folder / "checkpoint-train", identity, sizes, context.rank, context.world_size, context.progress)
    target = folder / "train.hdf5"
    if not shards.complete(target):
        shards.make(unit)
        shards.publish(lambda: shards.join(target, "regions", {"scale": 600}, offsets=["boxes_of"]))

    def unit(i: int) -> tuple[dict[str, np.ndarray], dict[str, list]]:
        return {"boxes": boxes, "boxes_of": boxes_per_picture}, {"ids": ids, "broken": [[path, reason], …]}

All processes do the same; process r makes every r-th unit, process 0 joins. The arrays of `unit` may have any number
of rows (ragged data: the rows' values one after the other and their lengths in an array that `offsets` names); types
and all dimensions but the first are the same in every unit. The lists are carried along: `notes` gives them one after
the other, for files beside the store. A unit must be a function of its number alone. Then the result has the same
bytes whatever the number of processes, and however often it was killed.

* identity: a hash of what the result depends on (not of how it is cut): files of another one, or of another cut, are
  made anew, and so are damaged ones.
* `make(unit, wanted, of)` stops when the array `of` has `wanted` rows: pictures of which some cannot be read, text of
  which nobody knows how many tokens it has. `join(rows=…)` takes exactly so many.
* The store holds its own numbers, contiguous, so that they can be mapped. (A virtual dataset over the shards would
  spare the copy, give zeros where a shard is lost, and be refused by `open_checked` as one that leads elsewhere.)

Regions are ragged as above; an image database is vectors and their ids; a table of queries has `offsets` for the tokens
of a query, and `indices` for the row of each query's picture; multilingual records have `offsets` for each language.
"""

import json
import shutil
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vlpnb.data.store import DamagedStore, attributes, open_checked, write_store
from vlpnb.errors import UserError

Arrays = Mapping[str, np.ndarray]
Notes = Mapping[str, list]
PRODUCER, NOTES = "shard", "notes"


class Shards:
    """The units of one piece of work, and the file of each.

    Args:
        folder: of the files; it goes when the work is published. A stage calls it `checkpoint-…`.
        identity: a hash of what the result depends on.
        sizes: of the units, in whatever is counted on the way: pictures, bytes, tokens.
        progress: called with (size done, size in all).
        wait: returns when all processes have called it; by default torch's barrier.
    """

    def __init__(
        self,
        folder: Path,
        identity: str,
        sizes: Sequence[int],
        rank: int = 0,
        world_size: int = 1,
        progress: Callable[[int, int], None] = lambda done, total: None,
        wait: Callable[[], None] | None = None,
    ):
        self.folder, self.identity, self.sizes = Path(folder), identity, [int(size) for size in sizes]
        self.rank, self.world_size, self.progress = rank, world_size, progress
        self.wait = wait or self._barrier
        self.used = len(self.sizes)  # units that the result is made of
        self._cut = sha256(json.dumps([identity, self.sizes]).encode()).hexdigest()

    def _barrier(self) -> None:
        if self.world_size > 1:
            import torch.distributed

            torch.distributed.barrier()

    def path(self, unit: int) -> Path:
        """The file of a unit."""
        return self.folder / f"{unit:06d}.hdf5"

    def complete(self, target: Path) -> bool:
        """Whether `target` is the result of this work; what a kill left of its shards goes then."""
        try:
            if not Path(target).is_file() or attributes(target).get("identity") != self.identity:
                return False
        except DamagedStore:
            return False
        if self.rank == 0:
            self.clear()
        return True

    def make(
        self, unit: Callable[[int], tuple[Arrays, Notes]], wanted: int | None = None, of: str = ""
    ) -> list[int]:
        """Make the units that are not there; all processes wait for the last. Returns what this one found there.

        Units are made in order, in rounds: as many as give `wanted` rows if each gives its size, then again for
        what is missing. A size should therefore be the most rows that a unit can give.
        """
        ends = np.cumsum([0, *self.sizes])
        found: list[int] = []
        rows = self.used = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        while self.used < len(self.sizes) and (wanted is None or rows < wanted):
            first, self.used = self.used, len(self.sizes)
            if wanted is not None:
                self.used = min(self.used, int(np.searchsorted(ends, ends[first] + wanted - rows)))
            for i in range(first, self.used):
                if i % self.world_size == self.rank:  # the others' are not even looked at: a network disk
                    if self._is_there(i):  # remembers what it did not find
                        found.append(i)
                    else:
                        self._write(i, *unit(i))
                self.progress(int(ends[i + 1]), int(ends[-1]))
            self.wait()
            if wanted is not None:
                rows += sum(self.lengths(of, range(first, self.used)))
        return found

    def publish(self, write: Callable[[], Any], keep: bool = False) -> None:
        """Process 0 calls `write` and removes the shards, unless it shall `keep` them; the others wait for it."""
        self.wait()  # all have read what they want to know of the shards
        if self.rank == 0:
            write()
            if not keep:
                self.clear()
        self.wait()

    def clear(self) -> None:
        """Remove all shards."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def lengths(self, name: str, units: Collection[int] | None = None) -> list[int]:
        """The rows of an array in each unit."""
        found = []
        for i in range(self.used) if units is None else units:
            with self._open(i) as file:
                found.append(len(file[name]) if name in file else 0)
        return found

    def notes(self) -> dict[str, list]:
        """The lists of all units, one after the other."""
        joined: dict[str, list] = {}
        for i in range(self.used):
            with self._open(i) as file:
                for name, values in json.loads(file[NOTES].asstr()[()]).items():
                    joined.setdefault(name, []).extend(values)
        return joined

    def parts(self, name: str) -> Iterator[np.ndarray]:
        """An array unit by unit; those that lack it are passed over."""
        for i in range(self.used):
            with self._open(i) as file:
                if name in file:
                    yield file[name][()]

    def join(
        self,
        target: Path,
        producer: str,
        about: Mapping[str, Any] = {},
        *,
        offsets: Collection[str] = (),
        indices: Mapping[str, str] = {},
        rows: Mapping[str, tuple[int, int]] = {},
    ) -> None:
        """Write the arrays of all units, one after the other, to one store; one unit is in memory at a time.

        Args:
            about: attributes of the store, beside its identity.
            offsets: arrays of lengths that become offsets: int64, first 0, last their sum.
            indices: array → the array whose rows (in its unit) it counts: it counts the store's afterwards.
            rows: array → (first, last) of the rows that are taken; all of the arrays not named.
        """
        wholes = self._wholes()
        taken = {name: rows.get(name, (0, shape[0])) for name, (shape, _) in wholes.items()}
        with write_store(target, producer, {**about, "identity": self.identity}) as out:
            for name, (shape, kind) in wholes.items():
                count, kind = taken[name][1] - taken[name][0], np.dtype("int64") if name in offsets else kind
                out.create_dataset(name, (count + (name in offsets), *shape[1:]), kind)
            before, ends = dict.fromkeys(wholes, 0), dict.fromkeys(offsets, 0)
            for i in range(self.used):
                with self._open(i) as file:
                    here = {name: len(file[name]) for name in wholes if name in file}
                    for name, length in here.items():
                        part, place = _overlap(before[name], length, *taken[name])
                        if part.start == part.stop:
                            continue
                        values = file[name][part]
                        if name in offsets:
                            values = ends[name] + np.cumsum(values, dtype=np.int64)
                            ends[name], place = int(values[-1]), slice(place.start + 1, place.stop + 1)
                        elif name in indices:
                            values = values + (before[indices[name]] - taken[indices[name]][0])
                        out[name][place] = values
                before = {name: count + here.get(name, 0) for name, count in before.items()}

    def _wholes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and type of every array over all units."""
        found: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        for i in range(self.used):
            with self._open(i) as file:
                for name in (name for name in file if name != NOTES):
                    (rows, *rest), kind = file[name].shape, file[name].dtype
                    before, expected = found.get(name, ((0, *rest), kind))
                    if (tuple(rest), kind) != (before[1:], expected):
                        raise ValueError(
                            f"{self.path(i)}: {name} is {kind} [n, {rest}], before {found[name]}"
                        )
                    found[name] = ((before[0] + rows, *rest), kind)
        return found

    def _mark(self, unit: int) -> str:
        return f"{self._cut}:{unit}"

    def _is_there(self, unit: int) -> bool:
        path = self.path(unit)
        if not path.is_file():
            return False
        try:
            with open_checked(path) as file:
                if file.attrs.get("unit") != self._mark(unit):
                    return False
                arrays = {name: file[name][()] for name in file if name != NOTES}
                return file.attrs["checksum"] == _checksum(arrays, file[NOTES].asstr()[()])
        except (DamagedStore, OSError, KeyError, ValueError, RuntimeError):
            return False  # cut short or spoilt when the machine crashed

    def _write(self, unit: int, arrays: Arrays, notes: Notes) -> None:
        text = json.dumps(notes)
        about = {"unit": self._mark(unit), "checksum": _checksum(arrays, text)}
        with write_store(self.path(unit), PRODUCER, about) as file:
            for name, values in arrays.items():
                file[name] = values
            file[NOTES] = text  # a dataset, because HDF5 attributes end at 64 KiB

    def _open(self, unit: int) -> h5py.File:
        path = self.path(unit)
        if not path.is_file():
            raise UserError(f"{path} is missing: a process failed. Run the same command again.")
        file = open_checked(path, [NOTES], PRODUCER)
        if file.attrs.get("unit") != self._mark(unit):
            file.close()
            raise UserError(f"{path} is of other work: a process failed. Run the same command again.")
        return file


def _overlap(before: int, length: int, first: int, last: int) -> tuple[slice, slice]:
    """Of rows [first, last): those in a unit of so many rows after so many others, and their place in the result."""
    start, stop = (min(max(edge - before, 0), length) for edge in (first, last))
    at = before + start - first
    return slice(start, stop), slice(at, at + stop - start)


def _checksum(arrays: Arrays, notes: str) -> int:
    total = zlib.crc32(notes.encode())
    for name in sorted(arrays):
        total = zlib.crc32(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8), total)
    return total
