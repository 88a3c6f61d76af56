"""Downloads that continue where they stopped, and archives that cannot write outside their folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pooch
import requests

from vlpnb.errors import UserError
from vlpnb.files import content_hash

CHUNK = 1 << 16  # what a broken connection loses at most
TIMEOUT = 60.0  # seconds without a byte


def download(
    url: str,
    target: Path,
    sha256: str | None = None,
    size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Fetch one file; what a broken connection left in `<target>.part` is continued by an HTTP range request.

    A file that is already there is checked (hash, else size) and kept. `progress` is called with (bytes,
    bytes in all or 0). Raises UserError for a refused or broken connection (the part is kept) and for a wrong
    hash or size (the part is removed).
    """
    target = Path(target)
    if target.exists():
        _check(target, sha256, size)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    pooch.get_logger().setLevel("WARNING")
    known = f"sha256:{sha256}" if sha256 else None
    fetcher = _Resuming(part, size, progress)
    try:
        pooch.retrieve(url, known, target.name, target.parent, downloader=fetcher, progressbar=False)
    except requests.RequestException as error:
        kept = part.stat().st_size if part.exists() else 0
        raise UserError(
            f"{url}: the download failed ({error}). {kept:,} bytes are kept in {part}; "
            "run the same command again to continue."
        ) from error
    except OSError as error:
        raise UserError(
            f"{target}: cannot be written ({error}). Free some space; then run it again."
        ) from error
    except ValueError as error:  # pooch's word for a wrong hash
        raise UserError(f"{url}: not the expected file ({error}). It was removed; fetch it again.") from error
    return target


class _Resuming:
    """A pooch downloader: appends to a part file by range requests, then hands it over complete."""

    def __init__(self, part: Path, size: int | None, progress: Callable[[int, int], None] | None):
        self.part, self.size, self.progress = part, size, progress

    def __call__(self, url: str, output_file: str, pooch, check_only: bool = False) -> None:
        have = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            total = _total(response, have)
            if not (response.status_code == 416 and have and have == total):  # 416: nothing was left to send
                response.raise_for_status()
                if response.status_code != 206:  # the server does not continue: start again
                    have = 0
                with self.part.open("ab" if have else "wb") as file:
                    for block in response.iter_content(CHUNK):
                        file.write(block)
                        have += len(block)
                        if self.progress is not None:
                            self.progress(have, total)
        if total and have != total:
            raise requests.ConnectionError(f"connection closed at {have:,} of {total:,} bytes")
        if self.size is not None and have != self.size:
            self.part.unlink()
            raise ValueError(f"{have:,} bytes, expected {self.size:,}")
        os.replace(self.part, output_file)


def _total(response: requests.Response, have: int) -> int:
    """Size of the whole file as the server states it, or 0."""
    whole = response.headers.get("Content-Range", "").rpartition("/")[2]
    if whole.isdigit():
        return int(whole)
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() and response.status_code == 200 else 0


def _check(path: Path, sha256: str | None, size: int | None) -> None:
    if size is not None and path.stat().st_size != size:
        raise UserError(
            f"{path.name} has {path.stat().st_size:,} bytes, expected {size:,}. Remove it and fetch it again."
        )
    if sha256 is not None and (found := content_hash(path)) != sha256:
        raise UserError(f"{path.name} has sha256 {found}, expected {sha256}. Remove it and fetch it again.")


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a zip or tar archive into `folder`; returns the files.

    Everything is checked before anything is written: absolute paths, `..`, links and devices are refused with
    UserError, and so is a damaged archive. Files appear in `folder` only after the whole archive was read.
    """
    archive, folder = Path(archive), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unpack-") as temporary:
            names = _unpack_into(archive, Path(temporary))
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(temporary) / name, folder / name)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError) as error:
        raise UserError(f"{archive}: a damaged archive ({error}). Remove it and fetch it again.") from error
    return [folder / name for name in names]


def _unpack_into(archive: Path, folder: Path) -> list[str]:
    names: list[str] = []
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                _refuse(archive, info.filename, special=kind not in {0, stat.S_IFREG, stat.S_IFDIR})
            for info in opened.infolist():
                if not info.is_dir():
                    with opened.open(info) as source:
                        names.append(_write(source, folder, info.filename))
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened:
            members = opened.getmembers()
            for member in members:
                _refuse(archive, member.name, special=not (member.isfile() or member.isdir()))
            for member in members:
                source = opened.extractfile(member) if member.isfile() else None
                if source is not None:
                    with contextlib.closing(source):
                        names.append(_write(source, folder, member.name))
    else:
        raise UserError(f"{archive}: neither a zip nor a tar archive; it may be an error page. Remove it.")
    return names


def _refuse(archive: Path, name: str, special: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name.partition("/")[0]:
        raise UserError(
            f"{archive}: member '{name}' would be written outside the folder; nothing was unpacked."
        )
    if special:
        raise UserError(f"{archive}: member '{name}' is a link or a device; nothing was unpacked.")


def _write(source, folder: Path, name: str) -> str:
    clean = PurePosixPath(name.replace("\\", "/")).as_posix()
    target = folder / clean
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, CHUNK)
    return clean
