"""A corpus of token ids in fairseq's binary files: `<name>.bin` and `<name>.idx`, read and written.

VaLM's text (CC-100, WikiText-103, LAMBADA) comes in this layout; a line of the text ends with the end token.

| file | holds, little-endian |
|---|---|
| `<name>.bin` | the ids back to back |
| `<name>.idx` | the mark `MMIDIDX` with two zero bytes, uint64 version 1, uint8 code of the id type, uint64 L, then |
| | int32 tokens of each line [L], int64 byte offset of each line in the `.bin` [L] |

Lines need not lie in order, nor fill the `.bin`: a reader follows the offsets. Nothing is read before it is asked
for; sizes are compared with the files when they are opened, so that half a download is no surprise later.
"""

import os
import struct
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.files import atomic

MARK = b"MMIDIDX\x00\x00"
VERSION = 1
TYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16}
HEAD = struct.Struct("<9sQBQ")


class Binarised:
    """Lines of ids in `<name>.bin` and `<name>.idx`, mapped at first use in each process; safe to send to workers.

    Raises:
        UserError: a file is missing, is no such file, or is not as long as the other says.
    """

    def __init__(self, path: Path):
        path = Path(path)
        self.path = path.with_name(path.name.removesuffix(".bin").removesuffix(".idx"))
        index = require(_with(self.path, ".idx"), "the lengths and offsets of the lines of a .bin file")
        tokens = require(_with(self.path, ".bin"), "token ids, whose lines the .idx file beside it says")
        with index.open("rb") as file:
            head = file.read(HEAD.size)
        if len(head) < HEAD.size or not head.startswith(MARK):
            raise UserError(
                f"{index}: found {head[:9]!r} at its beginning, expected {MARK!r}; it is no .idx."
            )
        _, version, code, self._lines = HEAD.unpack(head)
        if version != VERSION or code not in TYPES:
            raise UserError(
                f"{index}: version {version} with id type {code}; expected version {VERSION} and one of the types "
                f"{', '.join(f'{c} ({t.__name__})' for c, t in TYPES.items())}."
            )
        self.dtype = np.dtype(TYPES[code]).newbyteorder("<")
        found, expected = index.stat().st_size, HEAD.size + 12 * self._lines
        if found != expected:
            raise UserError(
                f"{index}: {found:,} bytes, expected {expected:,} for {self._lines:,} lines; fetch it again."
            )
        self._bytes = tokens.stat().st_size
        starts, lengths = self.starts, self.lengths
        size = self.dtype.itemsize
        wrong = (lengths < 0) | (starts < 0) | (starts % size != 0) | (starts + lengths * size > self._bytes)
        if wrong.any():
            i = int(wrong.argmax())
            raise UserError(
                f"{tokens}: {self._bytes:,} bytes, but {index.name} has line {i:,} at byte {starts[i]:,} with "
                f"{lengths[i]:,} ids of {size} bytes; the two do not belong together, or one is cut short."
            )

    def __len__(self) -> int:
        return self._lines

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k not in ("lengths", "starts", "tokens")}

    @cached_property
    def lengths(self) -> Integer[np.ndarray, " L"]:
        """Tokens of each line, int64."""
        return self._index(np.dtype("<i4"), 0).astype(np.int64)

    @cached_property
    def starts(self) -> Integer[np.ndarray, " L"]:
        """Byte offset of each line in the `.bin`, int64."""
        return self._index(np.dtype("<i8"), 4 * self._lines).astype(np.int64)

    @cached_property
    def tokens(self) -> Integer[np.ndarray, " N"]:
        """All ids of the `.bin`, a memory map."""
        count = self._bytes // self.dtype.itemsize
        if not count:
            return np.zeros(0, self.dtype)
        return np.memmap(_with(self.path, ".bin"), self.dtype, "r", shape=(count,))

    @property
    def in_order(self) -> bool:
        """Whether the lines follow each other and fill the `.bin`, so that `tokens` is the text."""
        ends = np.cumsum(self.lengths)
        filled = int(ends[-1]) * self.dtype.itemsize == self._bytes if len(self) else self._bytes == 0
        return filled and bool((self.starts == (ends - self.lengths) * self.dtype.itemsize).all())

    @property
    def offsets(self) -> Integer[np.ndarray, " _"]:
        """Where the lines start in `tokens`, first 0, last N. UserError where they do not follow each other."""
        if not self.in_order:
            raise UserError(
                f"{self.path}.bin: its lines do not follow each other; write them anew (`write_binarised`)."
            )
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])

    def line(self, index: int) -> Integer[np.ndarray, " n"]:
        """Ids of one line, with its end token."""
        start = int(self.starts[index]) // self.dtype.itemsize
        return np.asarray(self.tokens[start : start + int(self.lengths[index])])

    def _index(self, dtype: np.dtype, offset: int) -> np.ndarray:
        with _with(self.path, ".idx").open("rb") as file:
            file.seek(HEAD.size + offset)
            return np.fromfile(file, dtype, self._lines)


def write_binarised(path: Path, lines: Iterable[Integer[np.ndarray, " _"]], vocab_size: int) -> int:
    """Write lines of ids, each with its end token, as `<path>.bin` and `<path>.idx`; returns the number of tokens.

    Ids are uint16 where the vocabulary has at most 65,536 pieces, else int32. The `.idx` is written last: without it
    there is no corpus.

    Raises:
        UserError: an id that the vocabulary does not have.
    """
    code = 8 if vocab_size <= 1 << 16 else 4
    dtype = np.dtype(TYPES[code]).newbyteorder("<")
    lengths: list[int] = []
    with atomic(_with(Path(path), ".bin")) as temporary, temporary.open("wb") as file:
        for number, line in enumerate(lines):
            ids = np.asarray(line)
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
                raise UserError(
                    f"{path}.bin: line {number:,} has ids {ids.min()} to {ids.max()}; expected ids below the "
                    f"vocabulary's {vocab_size:,}."
                )
            file.write(ids.astype(dtype).tobytes())
            lengths.append(len(ids))
    ends = np.cumsum(np.array(lengths, np.int64)) * dtype.itemsize
    starts = ends - np.array(lengths, np.int64) * dtype.itemsize
    with atomic(_with(Path(path), ".idx")) as temporary, temporary.open("wb") as file:
        file.write(HEAD.pack(MARK, VERSION, code, len(lengths)))
        file.write(np.array(lengths, "<i4").tobytes())
        file.write(starts.astype("<i8").tobytes())
    return sum(lengths)


def _with(path: Path, ending: str) -> Path:
    return path.with_name(os.path.basename(path) + ending)
