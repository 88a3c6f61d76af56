"""What the engine asks of the machine: cores, versions, wall time over several attempts, peak memory, and whether a
person watches the lines that it prints.
"""

import contextlib
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "transformers", "tokenizers", "numpy", "h5py", "faiss-gpu", "faiss-cpu")


def cores() -> int:
    """Processor cores that this process may use: its affinity, or OMP_NUM_THREADS where that is set."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def environment() -> dict[str, Any]:
    """Versions of Python and the packages that matter; the checkout's git commit (None without one)."""
    versions = {"python": platform.python_version()}
    for package in ("vlpnb", *PACKAGES):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    here = Path(__file__).parent
    commit = None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        # Only a checkout of this package counts, not whatever repository an installed copy happens to lie in.
        top = _git(here, "rev-parse", "--show-toplevel")
        if top and Path(top) == here.parent:
            commit = _git(here, "rev-parse", "HEAD") + (
                "+changes" if _git(here, "status", "--porcelain", ".") else ""
            )
    return {"packages": versions, "git_commit": commit}


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


class Clock:
    """Wall seconds over all attempts; a small file keeps the time of attempts that were killed."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.before = float(path.read_text())
        except (OSError, ValueError):
            self.before = 0.0
        self._stop = threading.Event()
        self._start = time.monotonic()
        self._seconds: float | None = None

    def total(self) -> float:
        return self.before + (time.monotonic() - self._start if self._seconds is None else self._seconds)

    def _tick(self) -> None:
        while not self._stop.wait(2.0):
            with contextlib.suppress(OSError):
                self.path.write_text(f"{self.total():.2f}")

    def __enter__(self) -> "Clock":
        self._start = time.monotonic()
        if os.environ.get("RANK", "0") == "0":
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds = time.monotonic() - self._start
        self._stop.set()
        if os.environ.get("RANK", "0") == "0":
            with contextlib.suppress(OSError):
                self.path.write_text(f"{self.total():.2f}")


class Memory:
    """Peak memory of this process (and of the GPU) since the object was made."""

    def __init__(self, device: str):
        self.device = device
        with contextlib.suppress(OSError):  # Linux: restart the high-water mark, which otherwise never falls
            Path("/proc/self/clear_refs").write_text("5")
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(device)

    def device_name(self) -> str:
        if self.device.startswith("cuda"):
            import torch

            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        return self.device

    def peaks(self) -> dict[str, int]:
        rss = 0
        with contextlib.suppress(OSError, IndexError):
            found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
            rss = int(found[1]) * 1024 if found else 0
        if not rss and os.name == "posix":
            import resource

            unit = 1 if sys.platform == "darwin" else 1024
            rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        peaks = {"peak_rss_bytes": rss}
        if self.device.startswith("cuda"):
            import torch

            peaks["peak_gpu_bytes"] = torch.cuda.max_memory_allocated(self.device)
        return peaks


def end_first(process: int) -> None:
    """Let the system end a process, and those it starts, before all others when memory runs out (Linux).

    For the kernel of a notebook and for workers: they can be started again, and whoever started them says what
    happened. By their size alone the runner, into which the same libraries are mapped, is often chosen before them.
    """
    with contextlib.suppress(OSError):  # another system, or the process has ended
        Path(f"/proc/{process}/oom_score_adj").write_text("1000")


def say_line(say: Callable[[str], None] | None, line: str) -> None:
    if say is not None:
        say(line)
    else:
        print(line, flush=True)


def interactive() -> bool:
    """Whether a person watches: a terminal, or a notebook that no runner executes."""
    if os.environ.get("VLPNB_HEADLESS"):
        return False
    if "ipykernel" in sys.modules and "IPython" in sys.modules:
        shell = sys.modules["IPython"].get_ipython()
        if shell is not None and hasattr(shell, "kernel"):
            return True
    return sys.stdout is not None and sys.stdout.isatty()


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
