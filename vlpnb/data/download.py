"""Downloads that continue where they stopped, and are there only when they are whole.

What arrives goes into `<target>.part`, beside which `<target>.part.json` says what the file behind the address was: a
continued download asks for the rest of *that* file, and starts again when the address holds another. The part is
hashed, then renamed, all under one lock a target: of several processes one downloads, and the others find its file.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

from vlpnb.errors import UserError, cannot_write
from vlpnb.files import content_hash

try:
    import fcntl
except ImportError:  # Windows has no advisory locks; two processes at once are then the user's care
    fcntl = None

CHUNK = 1 << 16  # what a broken connection loses at most
TIMEOUT = 60.0  # seconds without a byte
MOST = (
    200 * 10**9
)  # bytes of a file whose size nobody states: a server may send without end (nor half of the disk)


def download(
    url: str,
    target: Path,
    sha256: str | None = None,
    size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fetch one file; what a broken connection or a kill left is continued by an HTTP range request.

    A file that is already there is checked (hash, else size) and kept.

    Args:
        sha256: the hash in hex, or its first digits.
        progress: called with (bytes, bytes in all or 0).
        say: called with a line while another process downloads the same file.
    Raises:
        UserError: a refused or broken connection (the part is kept); a wrong hash or size (the part is removed); a
            full disk.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with held(target, say):
            part = _Part(target)
            if target.exists():
                _check(target, target.name, sha256, size, "Remove it and fetch it again.")
            else:
                part.fetch(url, trusted=sha256 is not None, size=size, progress=progress)
                part.finish(url, sha256, size)
            part.remove()
    except requests.RequestException as error:
        kept = part.path.stat().st_size if part.path.exists() else 0
        what = f"{kept:,} bytes are kept in {part.path}; run" if kept else "Run"
        raise UserError(
            f"{url}: the download failed ({error}). {what} the same command again to continue."
        ) from error
    except OSError as error:
        raise cannot_write(target, error) from error
    return target


@contextmanager
def held(target: Path, say: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Hold the lock of one target, `.<name>.lock` beside it, which is removed afterwards."""
    path = target.with_name(f".{target.name}.lock")
    while True:
        with path.open("a") as file:
            if fcntl is not None and not _lock(file, target, say):
                continue  # its holder removed the file while we waited
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink()
            return


def _lock(file, target: Path, say: Callable[[str], None]) -> bool:
    """Wait for the lock; whether the file that is locked is still the one of that name."""
    told = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not told:
                say(f"{target}: another process works on it; waiting")
                told = True
            time.sleep(0.1)
        except OSError as error:
            say(f"{target}: no lock on this file system ({error}): run one download at a time")
            return True
    with suppress(FileNotFoundError):
        return os.fstat(file.fileno()).st_ino == os.stat(file.name).st_ino
    return False


class _Part:
    """What has arrived of a file, and what the file behind the address was."""

    def __init__(self, target: Path):
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")

    def noted(self) -> dict:
        """{url, etag, modified, size} of the file that the part begins; {} where nothing is known."""
        try:
            found = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def fetch(
        self, url: str, trusted: bool, size: int | None, progress: Callable[[int, int], None] | None
    ) -> None:
        """Append what is missing, or start again where the address holds another file, or nobody can tell.

        `trusted`: a hash is known, so that a part from another address of the same file may be continued.
        """
        have = self.path.stat().st_size if self.path.exists() else 0
        noted = self.noted()
        known = noted.get("etag") or noted.get("modified")
        if have and not (trusted or (noted.get("url") == url and (known or noted.get("size")))):
            have = 0
        if have and have == noted.get("size"):
            return  # stopped while it was checked
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if known and noted.get("url") == url and not str(known).startswith("W/"):
                headers["If-Range"] = str(known)  # another file: all of it comes
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            about = _about(url, response)
            same = (
                not noted or noted.get("url") != url or all(noted.get(k) == v for k, v in about.items() if v)
            )
            if have and response.status_code in (206, 416) and not same:
                self.path.unlink()
                return self.fetch(url, trusted, size, progress)
            if response.status_code == 416 and have and have == about["size"]:
                return  # nothing was left to send
            if response.status_code == 416 and have:
                self.path.unlink()
                return self.fetch(url, trusted, size, progress)
            response.raise_for_status()
            if response.status_code != 206:
                have = 0
            self._append(response, have, about, size, progress)

    def _append(
        self,
        response: requests.Response,
        have: int,
        about: dict,
        size: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        total = about["size"]
        free = shutil.disk_usage(self.target.parent).free
        limit = total or size or min(MOST, free // 2)
        if total and total - have > free:
            raise OSError(28, f"No space left on device: {total - have:,} bytes to come, {free:,} free")
        self.note.write_text(json.dumps(about), encoding="utf-8")
        with self.path.open("ab" if have else "wb") as file:
            for block in response.iter_content(CHUNK):
                file.write(block)
                have += len(block)
                if have > limit:
                    self.remove()
                    raise UserError(
                        f"{response.url}: more than the expected {limit:,} bytes; stopped and removed."
                    )
                if progress is not None:
                    progress(have, total)
        if total and have != total:
            raise requests.ConnectionError(f"connection closed at {have:,} of {total:,} bytes")

    def finish(self, url: str, sha256: str | None, size: int | None) -> None:
        """Check the part, then give it its name."""
        try:
            _check(self.path, url, sha256, size, "It was removed; fetch it again.")
        except UserError:
            self.remove()
            raise
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)

    def remove(self) -> None:
        """Nothing is left beside the target."""
        for path in (self.path, self.note):
            path.unlink(missing_ok=True)


def _about(url: str, response: requests.Response) -> dict:
    """What the server says of the whole file: etag, time of change, size (0 where it does not say)."""
    whole = response.headers.get("Content-Range", "").rpartition("/")[2]
    length = response.headers.get("Content-Length", "") if response.status_code == 200 else ""
    size = next((int(text) for text in (whole, length) if text.isdigit()), 0)
    return {
        "url": url,
        "etag": response.headers.get("ETag"),
        "modified": response.headers.get("Last-Modified"),
        "size": size,
    }


def _check(path: Path, name: str, sha256: str | None, size: int | None, advice: str) -> None:
    if size is not None and path.stat().st_size != size:
        raise UserError(f"{name} has {path.stat().st_size:,} bytes, expected {size:,}. {advice}")
    if sha256 is not None and not (found := content_hash(path)).startswith(sha256):
        raise UserError(
            f"{name} is not the expected file: it has sha256 {found}, expected {sha256}. {advice}"
        )
