"""Archives that cannot write outside their folder, fill the disk, or leave a part of themselves."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vlpnb.data.download import CHUNK, held
from vlpnb.data.fields import is_broken_name
from vlpnb.errors import UserError, cannot_write

MEMBERS = 2_000_000  # files of one archive
TIMES = 200  # how many times larger than the archive its files may be; text is some ten times larger
ANYWAY = 1 << 28  # bytes that any archive may hold
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, struct.error, EOFError, ValueError, KeyError,
    IndexError, RuntimeError, NotImplementedError, OverflowError,
)  # fmt: skip


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a zip or tar archive into `folder`; returns the files.

    Everything is checked before anything is written: absolute paths, `..`, links, devices, encrypted members, two
    members of one name or one inside the other, and more bytes than an honest archive of its size or the disk holds.
    Files appear in `folder` only after the whole archive was read. UserError names the archive and the member.
    """
    archive, folder = Path(archive), Path(folder)
    temporary = folder / f".unpack-{archive.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held(temporary):
            shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
            try:
                temporary.mkdir()
                names = _unpack_into(archive, temporary, folder)
                for name in names:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(temporary / name, folder / name)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:  # bzip2 and gzip say damage in this way
            raise _damaged(archive, error) from error
        raise cannot_write(folder, error) from error
    return [folder / name for name in names]


def _damaged(archive: Path, error: BaseException) -> UserError:
    return UserError(f"{archive}: a damaged archive ({error}). Remove it and fetch it again.")


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    folder: bool
    special: bool  # a link or a device
    encrypted: bool
    source: zipfile.ZipInfo | tarfile.TarInfo


def _unpack_into(archive: Path, temporary: Path, folder: Path) -> list[str]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            members = _checked(archive, folder, (_of_zip(info) for info in opened.infolist()))
            return [_write(opened.open(m.source), temporary, name, m.size) for name, m in members.items()]
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened:
            members = _checked(archive, folder, (_of_tar(info) for info in opened))
            return [
                _write(source, temporary, name, m.size)
                for name, m in members.items()
                if (source := opened.extractfile(m.source)) is not None
            ]
    raise UserError(f"{archive}: neither a zip nor a tar archive; it may be an error page. Remove it.")


def _of_zip(info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    special = kind not in {0, stat.S_IFREG, stat.S_IFDIR}
    return _Member(info.filename, info.file_size, info.is_dir(), special, bool(info.flag_bits & 1), info)


def _of_tar(info: tarfile.TarInfo) -> _Member:
    special = not (info.isfile() or info.isdir()) or info.issparse()
    return _Member(info.name, info.size, info.isdir(), special, False, info)


def _checked(archive: Path, folder: Path, members: Iterator[_Member]) -> dict[str, _Member]:
    """The files of an archive by their clean names. UserError names the first member that may not be unpacked."""
    allowed = max(ANYWAY, TIMES * archive.stat().st_size)
    free = shutil.disk_usage(folder).free
    files: dict[str, _Member] = {}
    folders: set[str] = set()
    total = count = 0

    def refuse(why: str) -> UserError:
        return UserError(f"{archive}: {why}; nothing was unpacked.")

    for member in members:
        count, total = count + 1, total + member.size
        said = ascii(member.name[:100])
        path = PurePosixPath(member.name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in member.name.partition("/")[0]:
            raise refuse(f"member {said} would be written outside the folder")
        if member.special:
            raise refuse(f"member {said} is a link or a device")
        if member.encrypted:
            raise refuse(f"member {said} is encrypted; expected an archive without a password")
        if is_broken_name(member.name):
            raise refuse(f"member {said} has a line break or another control character in its name")
        if count > MEMBERS:
            raise refuse(f"more than {MEMBERS:,} members")
        if total > allowed:
            raise refuse(
                f"its files have more than {allowed:,} bytes, which no honest archive of this size has"
            )
        if total > free:
            raise refuse(f"its files have more than the {free:,} bytes that are free on the disk; make room")
        name = path.as_posix()
        folders |= {parent.as_posix() for parent in path.parents}
        if member.folder:
            folders.add(name)
        elif name in files:
            raise refuse(f"member {said} is in it twice")
        else:
            files[name] = member
    both = sorted(folders & files.keys())
    if both:
        raise refuse(f"member {both[0]!a} is a file and a folder")
    for name in files:
        if (folder / name).is_dir():
            raise refuse(f"member {name!a} is a file, but {folder / name} is a folder")
    for name in folders - {"."}:
        if (folder / name).is_file():
            raise refuse(f"member {name!a} is a folder, but {folder / name} is a file")
    return files


def _write(source: BinaryIO, folder: Path, name: str, size: int) -> str:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with closing(source), target.open("wb") as file:
        while block := source.read(CHUNK):
            done += len(block)
            if done > size:
                raise ValueError(f"member {name} has more than the {size:,} bytes that the archive states")
            file.write(block)
    return name
