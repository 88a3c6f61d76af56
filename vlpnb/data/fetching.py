"""Fetching a dataset of the catalog, and seeing that a folder holds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vlpnb.data.archives import unpack
from vlpnb.data.catalog import Remote, dataset
from vlpnb.data.download import download, held
from vlpnb.errors import UserError
from vlpnb.files import content_hash, write_text


def fetch(
    name: str,
    folder: Path,
    log: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Download (continuing what broke off) and unpack a dataset into `folder`; returns its downloaded files.

    Archives stay, so that a second call only checks. Each file is tried at its addresses in turn. Raises
    UserError if the dataset is not public for download, every address fails, or a hash is wrong.
    """
    entry, folder = dataset(name), Path(folder)
    if not entry.remotes:
        raise UserError(f"{name} cannot be downloaded freely. {entry.note}")
    paths = []
    for remote in entry.remotes:
        target = folder / remote.name
        fresh = not target.exists()
        path = _first_address(remote, target, progress, log)
        if fresh or remote.unpack:
            found = remote.sha256 or content_hash(path)
            log(
                f"{path}: sha256 {found} ({'checked' if remote.sha256 else 'not verified: no hash is known'})"
            )
        marker = path.with_name(path.name + ".unpacked")
        if remote.unpack:
            with held(marker, log):
                if not marker.exists():
                    files = unpack(path, path.parent)
                    write_text(marker, f"{len(files)} files\n")
                    log(f"{path}: {len(files):,} files unpacked")
        paths.append(path)
    if entry.note:
        log(entry.note)
    return paths


def _first_address(
    remote: Remote, target: Path, progress: Callable[[int, int], None] | None, log: Callable[[str], None]
) -> Path:
    failures = []
    for url in remote.urls:
        try:
            return download(url, target, remote.sha256, progress=progress, say=log)
        except UserError as error:
            failures.append(str(error))
    raise UserError("\n".join(failures))


def check_folder(folder: Path, name: str) -> list[str]:
    """What is wrong with a folder that should hold the dataset `name`, one sentence per problem.

    Files are opened with the readers that the course uses; pictures are counted, not decoded.
    """
    entry, folder = dataset(name), Path(folder)
    if not folder.is_dir():
        return [f"{folder} does not exist; it should hold {entry.what}."]
    problems = []
    for expected in entry.layout:
        path = expected.place(folder)
        if not path.exists():
            if not expected.optional:
                problems.append(f"{path} is missing; it should hold {expected.holds}.")
        elif expected.pictures:
            inside = path.iterdir() if path.is_dir() else ()
            found = sum(p.suffix.lower() in expected.suffixes and p.name[0] != "." for p in inside)
            if found < expected.pictures:
                problems.append(
                    f"{path} has {found:,} pictures, expected at least {expected.pictures:,}: {expected.holds}."
                )
        elif path.is_file() and path.stat().st_size == 0:
            problems.append(f"{path} is empty; it should hold {expected.holds}.")
        elif expected.read is not None:
            try:
                expected.read(path)
            except UserError as error:
                problems.append(str(error))
            except StopIteration:
                problems.append(f"{path} has no content; it should hold {expected.holds}.")
    return problems
