"""The pictures that can be retrieved, as vectors on disk.

    images.hdf5      vectors [N, E]: what queries are compared with; values [N, F]: what a model reads of a picture,
                     where that is something else (features before they were projected); float16 or float32
    images.ids       the id of each row, one a line; no id twice
    images.captions  one JSON list of captions a line, where there are captions
    images.paths     where each picture lies, one a line, where there are pictures
    images.json      `StoreMeta`: encoder, sizes, type, metric, whether the rows are unit, a hash of it all

Differs from the original (VaLM, section 2), whose two memory maps say neither their size nor their encoder (VAL-21):
here a store that disagrees with its description, or with the tower that makes the queries, is refused. Rows are unit
and compared by inner product; the original's raw rows need `raw=True` (VAL-22).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.data.fields import as_list, as_text, field, one_line, text_field
from vlpnb.data.shards import Shards
from vlpnb.data.store import check_finite, mapped, open_checked
from vlpnb.data.text_files import lines_of, read_json, read_json_lines
from vlpnb.errors import UserError
from vlpnb.files import write_json, write_text

Metric = Literal["ip", "l2"]
PRODUCER, STORE = "images", "images.hdf5"
IDS, CAPTIONS, PATHS, ABOUT = (f"images.{kind}" for kind in ("ids", "captions", "paths", "json"))
SAMPLED = 4096  # rows whose length and finiteness are looked at when a store is opened


@dataclass(frozen=True)
class StoreMeta:
    """What a store says of itself."""

    encoder: str  # name of the pair of towers
    encoder_hash: str  # of their weights
    width: int  # E
    count: int  # N
    dtype: str  # float16 or float32
    normalised: bool  # rows of length 1
    metric: Metric = "ip"  # inner product, or squared Euclidean distance
    value_name: str = ""  # what `values` are; empty: the vectors are read by the model, too
    value_width: int = 0  # F; 0 as above
    hash: str = ""  # SHA-256 of ids, vectors and values


class VectorStore:
    """The store in a folder, opened lazily and mapped.

    Args:
        raw: accept rows that are not unit though they are compared by inner product, as the original's are (VAL-22).
    Raises:
        UserError: a file is missing or damaged, disagrees with the description or with another one, is empty, holds a
            number that is not finite, or rows of another length than it says.
    """

    def __init__(self, folder: Path, raw: bool = False):
        self.folder, self.path = Path(folder), Path(folder) / STORE
        self.meta = _read_meta(self.folder / ABOUT)
        meta = self.meta
        expected = {"vectors": (meta.count, meta.width)}
        if meta.value_width:
            expected["values"] = (meta.count, meta.value_width)
        with open_checked(self.path, tuple(expected), PRODUCER) as file:
            for name, shape in expected.items():
                found = file[name]
                if found.shape != shape or found.dtype != meta.dtype:
                    raise UserError(
                        f"{self.path}: {name} are {found.dtype} {list(found.shape)}; {ABOUT} says {meta.dtype} "
                        f"{list(shape)}. The two are of different stores: run the stage that writes them again"
                    )
        if not meta.count:
            raise UserError(f"{self.path}: the store has no pictures; expected at least one")
        if meta.metric == "ip" and not meta.normalised and not raw:
            raise UserError(
                f"{self.folder / ABOUT}: metric ip with normalised false: long vectors would be near to everything. "
                "Make the store with unit rows, or with metric l2 (the original's raw rows: raw=True)"
            )
        chosen = np.unique(np.linspace(0, meta.count - 1, min(SAMPLED, meta.count)).astype(np.int64))
        check_finite(self.vectors[chosen], f"{self.path}, vectors looked at", unit=meta.normalised)

    def __len__(self) -> int:
        """Number of pictures."""
        return self.meta.count

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._row_of

    @cached_property
    def vectors(self) -> np.ndarray:
        """[N, E], mapped."""
        return mapped(self.path, "vectors")

    @cached_property
    def values(self) -> np.ndarray:
        """What a model reads, [N, F], mapped; the vectors, where there is nothing else."""
        return mapped(self.path, "values") if self.meta.value_width else self.vectors

    @property
    def value_width(self) -> int:
        """F: how wide is what a model reads."""
        return self.meta.value_width or self.meta.width

    @cached_property
    def ids(self) -> list[str]:
        """The id of each row."""
        return self._lines(IDS, "one picture id a line")

    @cached_property
    def _row_of(self) -> dict[str, int]:
        found = {name: row for row, name in enumerate(self.ids)}
        if len(found) < len(self.ids):
            twice = next(name for row, name in enumerate(self.ids) if found[name] != row)
            raise UserError(f"{self.folder / IDS}: the id {twice!r} comes twice; expected each once")
        return found

    def _lines(self, name: str, holds: str) -> list[str]:
        found = [text for _, text in lines_of(self.folder / name, holds)]
        if len(found) != len(self):
            raise UserError(
                f"{self.folder / name}: {len(found):,} lines for {len(self):,} vectors; expected as many. The files "
                "are of different stores: run the stage that writes them again"
            )
        return found

    def rows(self, image_ids: Sequence[str]) -> Int[np.ndarray, " M"]:
        """The rows of some pictures. UserError counts and names those that the store does not have."""
        found = self.rows_or_none(image_ids)
        if (found < 0).any():
            unknown = [name for name, row in zip(image_ids, found.tolist(), strict=True) if row < 0]
            raise UserError(
                f"{self.folder}: {len(unknown):,} of {len(image_ids):,} pictures are not in the store: "
                f"{', '.join(unknown[:3])} …; it has {len(self):,}, such as {', '.join(self.ids[:2])}"
            )
        return found

    def rows_or_none(self, image_ids: Sequence[str]) -> Int[np.ndarray, " M"]:
        """The rows of some pictures, −1 for those that the store does not have."""
        return np.fromiter((self._row_of.get(name, -1) for name in image_ids), np.int64, len(image_ids))

    def gather(
        self,
        rows: Int[Tensor, "*shape"] | Int[np.ndarray, "*shape"],
        of: Literal["values", "vectors"] = "values",
    ) -> Float[Tensor, "*shape F"]:
        """What stands in some rows, float32 on the host; zeros for rows −1.

        Raises:
            IndexError: a row beyond the store, or below −1.
        """
        places = np.asarray(rows)
        if places.size and (places.min() < -1 or places.max() >= len(self)):
            wrong = places[(places < -1) | (places >= len(self))]
            raise IndexError(f"row {int(wrong.flat[0])} of a store of {len(self):,} pictures")
        array = self.values if of == "values" else self.vectors
        found = torch.from_numpy(np.take(array, np.maximum(places, 0).ravel(), axis=0)).float()
        found[torch.from_numpy((places < 0).ravel())] = 0
        return found.reshape(*places.shape, array.shape[1])

    @cached_property
    def _captions(self) -> list[tuple[str, ...]] | None:
        path = self.folder / CAPTIONS
        if not path.is_file():
            return None
        found = []
        for number, line in read_json_lines(path, "a list of captions a line"):
            where = f"{path}:{number}"
            found.append(tuple(as_text(text, where) for text in as_list(line, where)))
        if len(found) != len(self):
            raise UserError(f"{path}: {len(found):,} lines for {len(self):,} pictures; expected as many")
        return found

    def captions(self, row: int) -> tuple[str, ...]:
        """The captions of a picture; none where the store has none."""
        return self._captions[row] if self._captions is not None else ()

    @cached_property
    def paths(self) -> list[str] | None:
        """Where the pictures lie, as the stage wrote it; None where there are none."""
        return self._lines(PATHS, "one picture path a line") if (self.folder / PATHS).is_file() else None

    def check_encoder(self, name: str, hash: str, width: int) -> None:
        """UserError if the store is not of the towers that make the queries."""
        meta = self.meta
        if (meta.encoder_hash, meta.width) != (hash, width):
            raise UserError(
                f"{self.folder}: made by {meta.encoder} ({meta.encoder_hash[:12]}, width {meta.width}), the queries "
                f"come from {name} ({hash[:12]}, width {width}): their vectors cannot be compared. Run the stage "
                "`picture_vectors` with the same towers"
            )

    def verify(self) -> None:
        """Read everything: UserError if the content does not have the hash that it says, or is not finite."""
        check_finite(self.vectors, self.path, unit=self.meta.normalised)
        names = ["vectors", *(["values"] if self.meta.value_width else [])]
        found = _hash(self.ids, ([_pieces(getattr(self, name)) for name in names]))
        if found != self.meta.hash:
            raise UserError(
                f"{self.path}: its content has the hash {found[:12]}, {ABOUT} says {self.meta.hash[:12]}. The file was "
                "changed or damaged: run the stage that writes it again"
            )

    def __getstate__(self) -> dict[str, Any]:  # a process that is sent a store maps the file itself
        return {name: value for name, value in vars(self).items() if name not in ("vectors", "values")}


def _pieces(array: np.ndarray, rows: int = 1 << 16) -> Iterator[np.ndarray]:
    return (array[at : at + rows] for at in range(0, len(array), rows))


def _hash(ids: Sequence[str], arrays: Iterable[Iterable[np.ndarray]]) -> str:
    found = hashlib.sha256("\n".join(ids).encode())
    for pieces in arrays:
        for piece in pieces:
            found.update(np.ascontiguousarray(piece).view(np.uint8).data)
    return found.hexdigest()


def _read_meta(path: Path) -> StoreMeta:
    about = read_json(path, "what a store of vectors says of itself")
    where = str(path)
    kinds = {item.name: item.type for item in fields(StoreMeta)}
    values = {name: field(about, name, where) for name in kinds}
    for name, kind in kinds.items():
        if kind in (str, Metric):
            text_field(about, name, where)
        elif type(values[name]) is not kind or (kind is int and values[name] < 0):
            raise UserError(
                f"{where}.{name}: found {values[name]!r}; expected a {kind.__name__} of no negative value"
            )
    if values["metric"] not in get_args(Metric):
        raise UserError(
            f"{where}.metric: found {values['metric']!r}; expected {' or '.join(get_args(Metric))}"
        )
    return StoreMeta(**values)


def join_store(
    shards: Shards,
    folder: Path,
    meta: Callable[[int, int, str, int, str], StoreMeta],
    ids: Sequence[str],
    captions: Sequence[Sequence[str]] | None = None,
    paths: Sequence[str] | None = None,
) -> None:
    """Write a store of finished shards (arrays `vectors`, and `values` if wanted); called by `Shards.publish`.

    Args:
        meta: from N, E, the type, F (0: no values) and the hash.
    Raises:
        UserError: there is no picture, or an id comes twice.
    """
    if not ids:
        raise UserError(f"{folder}: there is no picture to retrieve; expected at least one")
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(name for name in ids if name in seen or seen.add(name))
        raise UserError(f"{folder}: two pictures are called {twice!r}; expected ids that differ")
    sizes: dict[str, tuple[int, str]] = {}
    for name in ("vectors", "values"):
        for part in shards.parts(name):
            sizes[name] = (part.shape[1], str(part.dtype))
            break
    # Before the store: where the store is, the work is done, and nobody comes back for the others.
    write_text(folder / IDS, "".join(f"{one_line(name, IDS)}\n" for name in ids))
    if captions is not None:
        lines = (json.dumps(list(texts), ensure_ascii=False) for texts in captions)
        write_text(folder / CAPTIONS, "".join(f"{line}\n" for line in lines))
    if paths is not None:
        write_text(folder / PATHS, "".join(f"{one_line(str(path), PATHS)}\n" for path in paths))
    width, kind = sizes["vectors"]
    found = meta(len(ids), width, kind, sizes.get("values", (0, ""))[0], _hash(ids, map(shards.parts, sizes)))
    write_json(folder / ABOUT, asdict(found))
    shards.join(folder / STORE, PRODUCER)


def write_store(
    folder: Path,
    vectors: Float[np.ndarray, "N E"],
    ids: Sequence[str],
    encoder: str = "in memory",
    encoder_hash: str = "",
    *,
    values: Float[np.ndarray, "N F"] | None = None,
    value_name: str = "features",
    captions: Sequence[Sequence[str]] | None = None,
    paths: Sequence[str] | None = None,
    metric: Metric = "ip",
    normalised: bool = True,
) -> VectorStore:
    """A store of vectors that are in memory, as they are: for examples and tests; the stage uses `join_store`.

    Raises:
        UserError: rows that are not unit though `normalised` says so, not finite, or none.
    """
    folder = Path(folder)
    check_finite(vectors, f"{folder}: vectors", unit=normalised)
    shards = Shards(folder / "checkpoint-images", "in memory", [len(ids)])
    arrays = {"vectors": vectors} | ({} if values is None else {"values": values.astype(vectors.dtype)})
    shards.make(lambda i: (arrays, {}))
    name = value_name if values is not None else ""

    def meta(count: int, width: int, kind: str, value_width: int, hash: str) -> StoreMeta:
        return StoreMeta(
            encoder, encoder_hash, width, count, kind, normalised, metric, name, value_width, hash
        )

    shards.publish(lambda: join_store(shards, folder, meta, ids, captions, paths))
    return VectorStore(folder, raw=not normalised)
