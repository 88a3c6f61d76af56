"""The folder of a stage: its manifest, its files and what is wrong with them, and what only unfinished work needs."""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlpnb.errors import UserError
from vlpnb.files import plain, read_back, write_json
from vlpnb.hashes import files_below, hash_files, hash_of

MANIFEST = "manifest.json"
MANY = 50  # files directly in one sub-folder that are one entry of the manifest
ASIDE = ".damaged-"


class Damaged(UserError):
    """A finished result is not what was written."""


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Publish a folder: `content`, what every file holds, and a hash of it all."""
    manifest = plain({**content, "files": list_files(folder)})
    write_json(folder / MANIFEST, {**manifest, "sha256": hash_of(manifest)})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished folder. Damaged when it is not the one that was written."""
    try:
        manifest = read_back(folder / MANIFEST)
        if manifest.pop("sha256") == hash_of(manifest):
            return manifest
    except (UserError, KeyError, AttributeError):
        pass
    raise Damaged(f"{folder / MANIFEST} does not hold what was written")


def files_made(folder: Path) -> list[str]:
    """The names of the files that a finished folder was published with, there or not; none where it has no manifest."""
    return list(read_manifest(folder)["files"]) if (folder / MANIFEST).is_file() else []


def finished_folders(run: Path) -> list[Path]:
    """The finished folders of a run; what was moved aside is left out."""
    return [path.parent for path in sorted(run.glob(f"*/{MANIFEST}")) if ASIDE not in path.parent.name]


def manifests(run: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The finished folders of a run with their manifests; one whose manifest is damaged is left out."""
    for folder in finished_folders(run):
        try:
            yield folder, read_manifest(folder)
        except Damaged:
            continue


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Path → bytes and SHA-256. A sub-folder with many files is one entry, `folder/*`, with their number."""
    names = _content(folder)
    hashes = hash_files(folder, names)
    files: dict[str, dict[str, Any]] = {}
    for parent, inside in _by_parent(names).items():
        if len(inside) > MANY:
            files[f"{parent}*"] = _together(folder, inside, hashes)
        else:
            files |= {name: _alone(folder, name, hashes) for name in inside}
    return files


def find_damage(folder: Path, files: Mapping[str, Mapping[str, Any]], spare: Collection[str] = ()) -> str:
    """What is missing in a finished folder or holds something else than was written, in words; "" when nothing is."""
    names = _content(folder)
    words = _damage(folder, names, hash_files(folder, names), files, spare)
    # what seems damaged by what is known of the files is read before it is condemned
    return words and _damage(folder, names, hash_files(folder, names, fresh=True), files, spare)


def _damage(
    folder: Path,
    names: Sequence[str],
    hashes: Mapping[str, str],
    files: Mapping[str, Mapping[str, Any]],
    spare: Collection[str],
) -> str:
    parents, found = _by_parent(names), set(names)
    for path, wanted in files.items():
        if path.endswith("*"):
            now = _together(folder, parents.get(path[:-1], []), hashes)
            if [now["files"], now["bytes"]] != [wanted["files"], wanted["bytes"]]:
                has, expected = (f"{item['files']} files of {item['bytes']} bytes" for item in (now, wanted))
                return f"{path} has {has}, {expected} expected"
        elif path not in found:
            if path in spare:
                continue
            return f"{path} is missing"
        else:
            now = _alone(folder, path, hashes)
            if now["bytes"] != wanted["bytes"]:
                return f"{path} has {now['bytes']} bytes, {wanted['bytes']} expected"
        if now["sha256"] != wanted["sha256"]:
            return f"{path} does not hold what was written"
    return ""


def _alone(folder: Path, name: str, hashes: Mapping[str, str]) -> dict[str, Any]:
    return {"bytes": (folder / name).stat().st_size, "sha256": hashes.get(name)}


def _together(folder: Path, names: Sequence[str], hashes: Mapping[str, str]) -> dict[str, Any]:
    size = sum((folder / name).stat().st_size for name in names)
    return {"files": len(names), "bytes": size, "sha256": hash_of({name: hashes.get(name) for name in names})}


def _by_parent(names: Sequence[str]) -> dict[str, list[str]]:
    """Names by the folder that they lie in, `""` or with a slash at its end."""
    parents: dict[str, list[str]] = {}
    for name in names:
        parents.setdefault(name[: name.rfind("/") + 1], []).append(name)
    return parents


def _content(folder: Path) -> list[str]:
    """The files of a result: not its manifest, not what tells how it came about, not what unfinished work needs."""
    return [
        name
        for name in files_below(folder)
        if not any(part.startswith("checkpoint") for part in name.split("/"))
        and not (last := name.rsplit("/", 1)[-1]).startswith("log.")
        and last not in (MANIFEST, "metrics.jsonl")
    ]


def move_aside(folder: Path) -> Path:
    """Move what a folder holds, its lock apart, into a new one beside it; nothing that was made is removed."""
    number = 1
    while (target := folder.with_name(f"{folder.name}{ASIDE}{number}")).exists():
        number += 1
    target.mkdir()
    items = sorted(
        folder.iterdir(), key=lambda item: item.name == MANIFEST
    )  # the manifest last: a kill before
    for item in items:  # leaves a folder that is still known to be damaged
        if item.name != ".lock":
            os.rename(item, target / item.name)
    return target


def remove_scratch(folder: Path) -> None:
    """Remove what only an unfinished stage needs: its `checkpoint…` files and folders, and its clock."""
    for path in [*folder.glob("checkpoint*"), folder / ".elapsed"]:
        linked = path.is_symlink()
        shutil.rmtree(path) if path.is_dir() and not linked else path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the half-written `….tmp` and `….partial` files of attempts that were killed, and safetensors' own
    (`.tmp` and six characters).

    For the holder of the folder's lock: nobody else is writing one.
    """
    for path in [path for kind in ("*.tmp", "*.partial", ".tmp??????") for path in folder.rglob(kind)]:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
