"""HDF5 stores that are either complete or absent.

A store is written under a temporary name beside its target, closed, flushed to disk and renamed: a kill at
any moment leaves the old file or none, never a half. Every store names its schema version and producer in its
attributes; opening one checks them and turns h5py's messages on truncated or foreign files into an error that
says what to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vlpnb.data.text_files import PatientFile, require
from vlpnb.errors import UserError, writing

SCHEMA = 1


@contextmanager
def write_store(
    path: Path, producer: str, attributes: Mapping[str, Any] | None = None
) -> Iterator[h5py.File]:
    """Write an HDF5 file atomically: `with write_store(path, "keys") as file: file["keys"] = array`.

    Attributes that HDF5 cannot hold (dicts, lists of text, None) are stored as JSON. If the body raises,
    nothing is left. A full disk or an unwritable folder raises UserError naming the target.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(PatientFile(temporary)) as target:
                with h5py.File(target, "w") as file:
                    file.attrs["schema"] = SCHEMA
                    file.attrs["producer"] = producer
                    for name, value in (attributes or {}).items():
                        plain = isinstance(value, str | int | float | bool)
                        file.attrs[name] = value if plain else json.dumps(value)
                    yield file
                target.check()
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


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
        size = path.stat().st_size if path.is_file() else 0
        raise UserError(
            f"{path} ({size:,} bytes) is not a complete HDF5 file ({error}). It may be cut short or of another "
            "kind: delete it and run the stage that writes it again."
        ) from error
    try:
        schema = int(file.attrs.get("schema", SCHEMA))
        if schema > SCHEMA:
            raise UserError(f"{path} has schema {schema}; this version reads up to {SCHEMA}. Update vlpnb.")
        found = file.attrs.get("producer")
        if producer is not None and found != producer:
            raise UserError(f"{path} was written by '{found}', expected a store of '{producer}'.")
        for name in datasets:
            if not isinstance(file.get(name), h5py.Dataset):
                raise UserError(
                    f"{path} has no dataset '{name}'; found {', '.join(sorted(file)) or 'nothing'}."
                )
    except BaseException:
        file.close()
        raise
    return file


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
        except json.JSONDecodeError:
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
