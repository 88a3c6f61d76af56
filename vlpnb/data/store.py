"""HDF5 stores that are either complete or absent.

A store is written under a temporary name beside its target, closed, flushed to disk and renamed: a kill at
any moment leaves the old file or none, never a half. Every store names its schema version and producer in its
attributes; opening one checks them and turns h5py's messages on truncated or foreign files into an error that
says what to do.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.files import PatientFile, atomic

SCHEMA = 1
LOCKED = (11, 35, 37)  # errno of a file that is held: EAGAIN on Linux and macOS, and ENOLCK
CHECKED_ROWS = 4096  # rows that `check_finite` takes at a time
UNIT = 0.02  # how far from 1 the length of a unit row may be: half precision


class DamagedStore(UserError):
    """A store that is cut short or foreign: it may be deleted and made again."""


@contextmanager
def write_store(
    path: Path, producer: str, attributes: Mapping[str, Any] | None = None
) -> Iterator[h5py.File]:
    """Write an HDF5 file atomically: `with write_store(path, "keys") as file: file["keys"] = array`.

    Attributes that HDF5 cannot hold (dicts, lists of text, None) are stored as JSON. If the body raises,
    nothing is left. A full disk or an unwritable folder raises UserError naming the target.
    """
    with atomic(path) as temporary, closing(PatientFile(temporary)) as target:
        try:
            with h5py.File(target, "w") as file:
                file.attrs["schema"] = SCHEMA
                file.attrs["producer"] = producer
                for name, value in (attributes or {}).items():
                    plain = isinstance(value, str | int | float | bool)
                    file.attrs[name] = value if plain else json.dumps(value)
                yield file
        except Exception:  # HDF5 stumbles over what a full disk did not take: the disk's own words say more
            if target.failure is not None:
                raise target.failure from None
            raise
        target.check()


def open_checked(path: Path, datasets: Collection[str] = (), producer: str | None = None) -> h5py.File:
    """Open a store for reading; UserError if it is missing, cut short, foreign, or lacks one of `datasets`.

    `producer` additionally requires that kind of store. Files of other projects (no schema attribute) are
    accepted when `producer` is None. The caller closes the file.
    """
    path = Path(path)
    require(path, f"an HDF5 store with {', '.join(datasets) or 'data'}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _cannot_open(path, error) from error
    try:
        schema = int(file.attrs.get("schema", SCHEMA))
        if schema > SCHEMA:
            raise UserError(f"{path} has schema {schema}; this version reads up to {SCHEMA}. Update vlpnb.")
        found = file.attrs.get("producer")
        if producer is not None and found != producer:
            raise UserError(f"{path} was written by '{found}', expected a store of '{producer}'.")
        _refuse_outside(file, path)
        for name in datasets:
            if not isinstance(file.get(name), h5py.Dataset):
                raise UserError(
                    f"{path} has no dataset '{name}'; found {', '.join(sorted(file)) or 'nothing'}."
                )
    except (OSError, RuntimeError, KeyError) as error:  # the file opens, what is in it does not
        file.close()
        raise _damaged(path, error) from error
    except BaseException:
        file.close()
        raise
    return file


def _cannot_open(path: Path, error: OSError) -> UserError:
    """A store that another program holds, or that the system will not read, is not damaged."""
    number = error.errno or int((re.search(r"errno = (\d+)", str(error)) or [0, 0])[1])
    if number in LOCKED or "unable to lock file" in str(error):
        return UserError(
            f"{path}: another program holds this store open ({error}). Close it there, or wait; on a file system "
            "without locks set HDF5_USE_FILE_LOCKING=FALSE."
        )
    if path.is_dir():
        return UserError(f"{path} is a folder; expected an HDF5 file.")
    if number:
        return UserError(f"{path}: this store cannot be opened ({os.strerror(number)}).")
    return _damaged(path, error)


def _damaged(path: Path, error: BaseException) -> DamagedStore:
    size = path.stat().st_size if path.is_file() else 0
    return DamagedStore(
        f"{path} ({size:,} bytes) is not a complete HDF5 file ({error}). It may be cut short or of another "
        "kind: delete it and run the stage that writes it again."
    )


def _refuse_outside(file: h5py.File, path: Path) -> None:
    """UserError for a store that takes its numbers from other files: it could show any file of this machine."""
    groups, seen = [file["/"]], set()
    while groups:
        group = groups.pop()
        place = h5py.h5o.get_info(group.id).addr
        if place in seen:  # a group may lie in itself
            continue
        seen.add(place)
        for name in group:
            item = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif item is None or (isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)):
                raise UserError(
                    f"{path}: '{name}' leads to another place (a link, external storage or a virtual dataset); "
                    "expected a store that holds its own numbers. Do not use it unless you know who made it."
                )


def check_finite(array: np.ndarray, where: Path | str, unit: bool = False) -> np.ndarray:
    """The array itself; UserError naming the first row that holds a NaN or an infinity.

    One such row is the nearest neighbour of everything. `unit` demands rows of length 1 as well.
    """
    for start in range(0, len(array), CHECKED_ROWS):
        rows = np.asarray(array[start : start + CHECKED_ROWS])
        rows = rows.reshape(len(rows), -1)
        wrong = ~np.isfinite(rows).all(axis=1)
        found, wanted = "a number that is not finite (NaN or infinity)", "finite numbers"
        if unit and not wrong.any():
            lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
            wrong = np.abs(lengths - 1) > UNIT
            found, wanted = f"the length {lengths[wrong.argmax()]:.3f}", "length 1"
        if wrong.any():
            raise UserError(
                f"{where}: row {start + int(np.flatnonzero(wrong)[0]):,} has {found}; expected {wanted}. The model or "
                "the file that it comes from is damaged: make that again."
            )
    return array


def attributes(path: Path) -> dict[str, Any]:
    """The attributes of a store, JSON values decoded."""
    with open_checked(path) as file:
        return {name: _decode(value) for name, value in file.attrs.items()}


def _decode(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str) and value[:1] in {"{", "[", "n"}:
        try:
            return json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            return value
    return value


def mapped(path: Path, name: str) -> np.ndarray | h5py.Dataset:
    """A dataset as a read-only memory map if it is stored contiguously, else as the h5py dataset.

    A map costs no HDF5 call per read and is shared by all worker processes; it must not outlive a rewrite
    of the file.
    """
    file = open_checked(path, [name])
    dataset = file[name]
    offset = dataset.id.get_offset()
    if offset is None or dataset.size == 0 or not dataset.dtype.isnative or dataset.is_virtual:
        return dataset if dataset.size else dataset[()]
    shape, dtype = dataset.shape, dataset.dtype
    file.close()
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
