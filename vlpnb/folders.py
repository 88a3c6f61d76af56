"""Under the engine: what it does with folders, clocks, memory and lines.

Atomic JSON, the list of a folder's files and what is wrong with it, the lock, wall time over several
attempts, peak memory, the software environment, and where a line of progress goes.
"""

import contextlib
import functools
import importlib.metadata
import json
import math
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vlpnb.config import Config
from vlpnb.errors import UserError, cannot_write, is_full_disk, writing

try:
    import fcntl
except ImportError:  # Windows has no advisory locks; two processes at once are then the user's care
    fcntl = None

MANIFEST = "manifest.json"
PACKAGES = ("torch", "torchvision", "transformers", "tokenizers", "numpy", "h5py", "faiss-gpu", "faiss-cpu")


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part. nan becomes null."""
    text = json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            with open(temporary, "w", encoding="utf-8") as stream:
                stream.write(text + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: names the file when it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove the file and run again") from None


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


@contextlib.contextmanager
def lock(folder: Path, name: str, say: Callable[[str], None] | None) -> Iterator[None]:
    """Hold the folder's lock; while another process has it, say who and wait."""
    if fcntl is None:
        yield
        return
    path = folder / ".lock"
    with open(path, "a+", encoding="utf-8") as stream:
        told = 0.0
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - told > 60 or not told:
                    told = time.monotonic()
                    holder = path.read_text(encoding="utf-8").strip() or "another process"
                    say_line(say, f"[{name}] waiting: {folder.name} is held by {holder}")
                time.sleep(0.1)
            except OSError as error:
                say_line(
                    say,
                    f"[{name}] no lock on this file system ({error}): run one process at a time",
                )
                break
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError):  # on a full disk the lock holds, it only cannot say for whom
            stream.truncate(0)
            os.write(
                stream.fileno(), f"process {os.getpid()} on {socket.gethostname()} since {since}".encode()
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                stream.truncate(0)


@contextlib.contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of another at the end: what is there is the old one or the new one, whole.

    Raises:
        UserError: it cannot be written; the old one stays.
    """
    place = place.resolve()  # where a link leads to
    beside, old = (place.with_name(f".{place.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    try:
        with writing(place):
            beside.mkdir(parents=True)
        for left in place.parent.glob(f".{place.name}.*"):  # by attempts that were killed
            if left.suffix in (".tmp", ".old") and time.time() - left.stat().st_mtime > 24 * 3600:
                shutil.rmtree(left, ignore_errors=True)
        yield beside
        with writing(place):
            if place.exists():
                place.rename(old)
            beside.rename(place)
    except OSError as error:
        if is_full_disk(error):
            raise cannot_write(place, error) from error
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror}); choose another place with VLPNB_DATA"
        ) from None
    if not may_write(folder):
        raise UserError(f"{folder}: not writable; choose another place with VLPNB_DATA")


def may_write(folder: Path) -> bool:
    """Whether files may be made in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def plain(value: Any) -> Any:
    """Plain JSON values: paths as text, numpy and torch scalars as numbers, nan and infinities as null."""
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return plain(value.item())
    raise TypeError(f"{value!r} ({type(value).__name__}) has no plain JSON form")


def cores() -> int:
    """Processor cores that this process may use: its affinity, or OMP_NUM_THREADS where that is set."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
