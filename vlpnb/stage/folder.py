"""The folder of a stage: its files, what is wrong with them, and what only an unfinished stage needs."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def list_files(folder: Path) -> dict[str, int | list[int]]:
    """Path → bytes. A sub-folder with many files is one entry, `folder/*` → [files, bytes]."""
    files: dict[str, int | list[int]] = {}
    for parent, folders, names in os.walk(folder):
        folders.sort()
        inside = Path(parent).relative_to(folder)
        kept = [
            name
            for name in sorted(names)
            if not name.startswith((".", "checkpoint", "log.")) and name not in (MANIFEST, "metrics.jsonl")
        ]
        folders[:] = [name for name in folders if not name.startswith((".", "checkpoint"))]
        sizes = {(inside / name).as_posix(): (Path(parent) / name).stat().st_size for name in kept}
        if len(sizes) > 50:
            files[(inside / "*").as_posix()] = [len(sizes), sum(sizes.values())]
        else:
            files.update(sizes)
    return files


def find_damage(folder: Path, manifest: Mapping[str, Any]) -> str:
    """What is missing or cut short in a finished folder, in words; "" when nothing is."""
    found = list_files(folder)
    for path, size in manifest.get("files", {}).items():
        if path not in found:
            return f"{path} is missing"
        if found[path] != size:
            return f"{path} has {found[path]} bytes, {size} expected"
    return ""


def remove_scratch(folder: Path) -> None:
    """Remove what only an unfinished stage needs: its `checkpoint…` files and folders, and its clock."""
    for path in [*folder.glob("checkpoint*"), folder / ".elapsed"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the half-written `….tmp` and `….partial` files of attempts that were killed, and safetensors' own
    (`.tmp` and six characters).

    For the holder of the folder's lock: nobody else is writing one.
    """
    for path in [path for kind in ("*.tmp", "*.partial", ".tmp??????") for path in folder.rglob(kind)]:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
