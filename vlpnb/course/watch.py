"""What can be known of a notebook's kernel from outside: whether it lives, what it holds, and what ended it.

A kernel that the system kills leaves no message in the notebook. Its exit status, the system's count of
out-of-memory kills before and after, and the most memory that it and its children were seen to hold say what
happened.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from vlpnb.course.kernel import ThisPython
from vlpnb.machine import end_first

VMSTAT = Path("/proc/vmstat")
CGROUPS = Path("/sys/fs/cgroup")  # each a folder with the limit that a container or a scheduler has set
CGROUP_LIMITS = ("memory.max", "memory.limit_in_bytes")  # in the second version, and in the first
NEARLY_ALL = 0.8  # of the memory: a kernel killed while it held more than this ran out of it
LAST_WORDS = 8  # lines at most of what a kernel wrote past the notebook


class Watch:
    """One kernel and the processes it starts, from its start to its end.

    `peak` is the most memory in bytes that they were seen to hold together; `stop` says why the runner ended
    them, "" while it has not.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self.peak = 0
        self.stop = ""
        self._interrupted = False
        self._family: list[int] = []  # file descriptors, which no other process can come to stand for
        self._kills = oom_kills()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - until this watch is forgotten

    def manager(self) -> type[ThisPython]:
        """A kernel manager class that tells this watch of the process it starts.

        What the kernel writes past the notebook (its own log, why it cannot start) is kept for `last_words`: in a
        terminal it would run through the live table.
        """
        watch = self

        class Watched(ThisPython):
            async def _async_launch_kernel(self, kernel_cmd: list[str], **arguments: Any) -> None:
                await super()._async_launch_kernel(kernel_cmd, **{**arguments, "stderr": watch._words})

            async def _async_post_start_kernel(self, **arguments) -> None:
                watch.process = getattr(self.provisioner, "process", None)
                if watch.process is not None:
                    end_first(watch.process.pid)
                await super()._async_post_start_kernel(**arguments)

        return Watched

    def look(self) -> int:
        """Bytes that the kernel and its children hold now (0 where the system does not say); remembers the most."""
        if self.process is None:
            return 0
        held, most = resident(self.process.pid)
        held += sum(proportional(child) for child in descendants(self.process.pid))
        self.peak = max(self.peak, held, most)
        return held

    def interrupt(self, why: str) -> None:
        """Ask the kernel once to end what it does, as Ctrl-C would."""
        self.stop = why
        if self.process is not None and not self._interrupted:
            self._interrupted = True
            self._remember_family()
            self._signal(signal.SIGINT)

    def kill(self, why: str) -> None:
        """End the kernel and the processes it started."""
        self.stop = why
        self._remember_family()
        self._signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)

    def close(self) -> None:
        """Forget the kernel, which has ended; if it was stopped, end what it started in sessions of their own."""
        for descriptor in self._family:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
        self._family.clear()
        self._words.close()

    def last_words(self) -> list[str]:
        """The first lines that the kernel wrote past the notebook, where one that cannot start says why."""
        self._words.seek(0)
        lines = self._words.read(10_000).decode(errors="replace").splitlines()
        return [line for line in lines if line.strip()][:LAST_WORDS]

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

    def _remember_family(self) -> None:
        if self.process is None or self.process.poll() is not None or not hasattr(os, "pidfd_open"):
            return
        for child in descendants(self.process.pid):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                self._family.append(os.pidfd_open(child))

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
    """Bytes that this machine, or the container or job that this process is in, may use (0 where nobody says)."""
    limits = []
    for path in _cgroup_limits():
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(path.read_text()))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=0)


def _cgroup_limits() -> list[Path]:
    """The files that limit the memory of this process's control groups, from its own to the outermost."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if controllers in ("", "memory"):
                top = CGROUPS / controllers
                inner = top / place.lstrip("/")
                found += [
                    f / name
                    for f in (inner, *inner.parents)
                    for name in CGROUP_LIMITS
                    if f.is_relative_to(top)
                ]
    return found


def resident(pid: int) -> tuple[int, int]:
    """Bytes of memory that a process holds, and held at most (Linux; elsewhere 0)."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        now, most = (re.search(rf"^{name}:\s*(\d+) kB", status, flags=re.M) for name in ("VmRSS", "VmHWM"))
        return int(now[1]) * 1024 if now else 0, int(most[1]) * 1024 if most else 0
    return 0, 0


def proportional(pid: int) -> int:
    """Bytes that a process holds, pages that it shares with others in equal parts (Linux; elsewhere 0)."""
    with contextlib.suppress(OSError):
        if found := re.search(r"^Pss:\s*(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), flags=re.M):
            return int(found[1]) * 1024
    return resident(pid)[0]  # an older system, or a process that may not be looked into


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have (Linux; elsewhere none)."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                    found += [int(child), *descendants(int(child))]
    return found


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
