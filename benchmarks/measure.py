"""How everything here is measured: ours and a peer in turn in one process, after both were seen to agree.

Absolute times of shared machines say little; the ratio of two things timed in turn says more. Memory is measured
in a process of its own for each side, because the operating system reports only the peak of a whole process.
"""

import ctypes
import gc
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

STATUS = Path("/proc/self/status")  # Linux


class Disagreement(AssertionError):
    """Ours and the peer do not give the same result: a ratio of their times would mean nothing."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `ratio` is how many times better ours is: peer / ours for costs (seconds, megabytes), ours / peer for gains.
    `note` says what a reader must know to judge it.
    """

    name: str
    ours: float
    peer: float
    ratio: float
    unit: str
    target: float | None = None  # the least ratio that we want; None: a figure without a target
    note: str = ""

    @property
    def met(self) -> bool:
        return self.target is None or self.ratio >= self.target


def agree(same: bool, what: str) -> None:
    """Raise Disagreement unless `same`."""
    if not same:
        raise Disagreement(what)


def synchronise(device: str) -> None:
    """Wait until the device has done what it was asked."""
    if "cuda" in device:
        torch.cuda.synchronize(device)


def in_turn(
    ours: Callable[[], Any], peer: Callable[[], Any], rounds: int = 3, device: str = "cpu"
) -> tuple[float, float]:
    """Median seconds of both, timed in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, kept in zip((ours, peer), times, strict=True):
            synchronise(device)
            start = time.perf_counter()
            function()
            synchronise(device)
            kept.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def compare(
    name: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    check: Callable[[Any, Any], str | None],
    *,
    rounds: int = 3,
    device: str = "cpu",
    target: float | None = None,
    note: str = "",
) -> Row:
    """Run both once (the warm-up), check that the results agree, then time them in turn.

    Args:
        check: gets both results; raises `Disagreement`; what it returns is added to the note.
    """
    said = check(ours(), peer())
    first, second = in_turn(ours, peer, rounds, device)
    note = "; ".join(text for text in (note, said) if text)
    return Row(name, first, second, second / first, "s", target, note)


def peak_megabytes(program: str, *arguments: object) -> dict[str, float]:
    """Run `program` (a dotted function of this package) in a fresh process; what it returns, a dict of numbers."""
    code = "import importlib, json, sys; m, _, f = sys.argv[1].rpartition('.'); \
print(json.dumps(getattr(importlib.import_module(m), f)(*json.loads(sys.argv[2]))))"
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, sys.path)])
    # From 64 KB on memory comes from the system and goes back to it, so that the peak is that of what is in use.
    own = {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", "MALLOC_MMAP_THRESHOLD_": "65536"}
    environment = {**os.environ, **own}
    command = [sys.executable, "-c", code, program, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
    if done.returncode:
        raise RuntimeError(f"{program}{arguments} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_memory(device: str = "cpu") -> float:
    """The most memory that this process (on CUDA: its tensors there) has held since `reset_peak`, in MB."""
    if "cuda" in device:
        return torch.cuda.max_memory_allocated(device) / 1e6
    if STATUS.is_file():
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, on macOS bytes
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def reset_peak(device: str = "cpu") -> float:
    """Forget the peak so far, and return what is held now, in MB. Outside Linux and CUDA the peak stays."""
    gc.collect()
    if "cuda" in device:
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 1e6
    if not STATUS.is_file():
        return peak_memory(device)
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back, or the next allocation would hide in it
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


class OwnMemory:
    """The most memory that a piece of work adds to this process, in MB: `with OwnMemory() as own: …; own.most`.

    Mapped files are left out: their pages belong to the system, which shares them and may drop them. Looked at
    every few milliseconds. Outside of Linux mapped files count too.
    """

    def __enter__(self) -> "OwnMemory":
        gc.collect()
        self.before, self.most = self._now(), 0.0
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._watch.join()

    def _now(self) -> float:
        return _status("RssAnon") if STATUS.is_file() else peak_memory()

    def _look(self) -> None:
        while True:
            self.most = max(self.most, self._now() - self.before)
            if self._over.wait(0.003):
                return


def _status(name: str) -> float:
    """A line of Linux's account of this process, in MB."""
    return int(re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), flags=re.M)[1]) * 1024 / 1e6


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slug(device: str) -> str:
    """A plain name for the results file: `cpu-2-cores`, `nvidia-h100-80gb-hbm3`."""
    name = torch.cuda.get_device_name(device) if "cuda" in device else f"cpu {cores()} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def hardware(device: str) -> dict[str, object]:
    """What the figures were measured on."""
    about: dict[str, object] = {
        "device": slug(device),
        "processor": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
    }
    if "cuda" in device:
        properties = torch.cuda.get_device_properties(device)
        about |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 1e9, 1)}
    return about


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Of Python and of the libraries that the figures depend on."""
    import faiss
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "faiss": faiss.__version__,
    }
