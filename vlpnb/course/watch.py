"""What can be known of a notebook's kernel from outside: whether it lives, what it holds, and what ended it.

A kernel that the system kills leaves no message in the notebook. Its exit status, the system's count of
out-of-memory kills before and after, and the most memory it was seen to hold say what happened.
"""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from vlpnb.course.kernel import ThisPython

VMSTAT = Path("/proc/vmstat")
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
NEARLY_ALL = 0.8  # of the memory: a kernel killed while it held more than this ran out of it


class Watch:
    """One kernel, from its start to its end. `stop` says why the runner ended it, "" while it has not."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self.peak = 0
        self.stop = ""
        self._interrupted = False
        self._kills = oom_kills()

    def manager(self) -> type[ThisPython]:
        """A kernel manager class that tells this watch of the process it starts."""
        watch = self

        class Watched(ThisPython):
            async def _async_post_start_kernel(self, **arguments) -> None:
                watch.process = getattr(self.provisioner, "process", None)
                await super()._async_post_start_kernel(**arguments)

        return Watched

    def look(self) -> int:
        """Bytes that the kernel holds now (0 where the system does not say); remembers the most."""
        held = resident(self.process.pid) if self.process is not None else 0
        self.peak = max(self.peak, held)
        return held

    def interrupt(self, why: str) -> None:
        """Ask the kernel once to end what it does, as Ctrl-C would."""
        self.stop = why
        if self.process is not None and not self._interrupted:
            self._interrupted = True
            self._signal(signal.SIGINT)

    def kill(self, why: str) -> None:
        """End the kernel and the processes it started."""
        self.stop = why
        self._signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)

    def death(self) -> str:
        """What ended a kernel that died by itself, in words."""
        code = self.process.poll() if self.process is not None else None
        memory = total_memory()
        held = f"; it held {_gigabytes(self.peak)} of {_gigabytes(memory)}" if self.peak and memory else ""
        killed = code == -getattr(signal, "SIGKILL", 9)
        if oom_kills() > self._kills or (killed and memory and self.peak > NEARLY_ALL * memory):
            return f"the kernel was killed because the machine ran out of memory{held}"
        if killed:
            return f"the kernel was killed from outside (SIGKILL), most often because memory ran out{held}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"the kernel was killed by {signal.Signals(-code).name}: compiled code crashed{held}"
        return f"the kernel was killed or ended itself{'' if code is None else f' (exit code {code})'}{held}"

    def _signal(self, number: int) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, number)  # kernels lead a group of their own
            else:
                self.process.send_signal(number)


def oom_kills() -> int:
    """How many processes the system has ended for want of memory since it started (0 where it does not say)."""
    with contextlib.suppress(OSError, ValueError):
        for line in VMSTAT.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def total_memory() -> int:
    """Bytes that this machine, or the container it is, may use (0 where the system does not say)."""
    limits = []
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(path.read_text()))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=0)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds (Linux; elsewhere 0)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
