"""`vlpnb run` where the disk is full or the memory of a container is used up: the runner lives, and says what to do."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from vlpnb.course import watch
from vlpnb.course.runner import read_status
from vlpnb.machine import end_first
from vlpnb.stage import Run
from vlpnb.stage.profiles import Profile
from vlpnb.stage.workers import Pool

MEMORY = Path("/sys/fs/cgroup/memory")  # a group of the first version may be made below, where the tests may
PARAMETERS = 'profile: str = ""\nrun_name: str = ""\nsettings: str = ""\ndevices: int = 1'
LINUX = pytest.mark.skipif(not Path("/proc/self/oom_score_adj").is_file(), reason="needs Linux's /proc")
RUN = """
import resource, sys
from pathlib import Path
from vlpnb.course import cli
folder = Path(sys.argv[1])
(folder / "x.yaml").write_text("notebooks: []")
import vlpnb.course
vlpnb.course.notebooks_folder = lambda: folder / "notebooks"
{first}
cli.main(["run", "10", "--profile", str(folder / "x.yaml"), "--run", "t", "--no-site"])
"""


def execute(folder: Path, code: str, first: str = "", stdout=subprocess.PIPE) -> subprocess.CompletedProcess:
    """`vlpnb run` of one notebook in a process of its own, in which `first` comes first."""
    new = nbformat.v4
    parameters = new.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    (folder / "notebooks").mkdir()
    book = new.new_notebook(cells=[new.new_markdown_cell("# Toy"), parameters, new.new_code_cell(code)])
    nbformat.write(book, folder / "notebooks" / "10_toy.ipynb")
    return subprocess.run(
        [sys.executable, "-c", RUN.format(first=first), str(folder)],
        env={**os.environ, "VLPNB_DATA": str(folder / "data")},
        stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120,
    )  # fmt: skip


def status(folder: Path):
    """How the notebook went, as the run remembers it."""
    return read_status(folder / "data" / "runs" / "t")


# a limit on the size of files fails as a full disk does, on every machine
LIMIT = "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))"


@pytest.mark.slow
def test_an_executed_copy_that_finds_no_room_is_a_failed_notebook_and_says_make_room(tmp_path):
    done = execute(tmp_path, "print('x' * 200_000)", LIMIT)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "10_toy.ipynb: cannot be written" in done.stdout
    assert "make room" in done.stdout
    assert [item.kind for item in status(tmp_path)] == ["failed"]


@pytest.mark.slow
def test_a_log_that_finds_no_room_ends_the_command_in_words(tmp_path):
    with (tmp_path / "log").open("w") as log:
        done = execute(tmp_path, "for i in range(3000): print('x' * 30)", LIMIT, stdout=log)
    assert done.returncode == 3, done.stderr
    assert "\nvlpnb: [Errno 27] File too large: make room" in f"\n{done.stderr}"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@LINUX
def test_a_kernel_and_a_worker_go_before_those_who_started_them(tmp_path):
    done = execute(tmp_path, "print('adjusted', open('/proc/self/oom_score_adj').read())")
    assert "adjusted 1000" in done.stdout
    run = Run(tmp_path, "r", Profile("smoke"), ())
    pool = Pool(1, (run.root, run.name, run.profile, (), {}), "cpu", None)
    (worker,) = pool.workers.values()
    assert int(Path(f"/proc/{worker.pid}/oom_score_adj").read_text()) == 1000
    pool.close()
    end_first(worker.pid)  # one that has ended already


@contextlib.contextmanager
def memory_limit(size: int):
    """A control group with so much memory; the line of Python with which a process enters it."""
    group = MEMORY / f"vlpnb-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(size))
    except OSError as error:
        pytest.skip(f"needs the right to limit a group's memory ({error})")
    try:
        yield f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
    finally:
        group.rmdir()


@pytest.mark.slow
def test_memory_that_a_container_has_not_ends_the_kernel_and_not_the_runner(tmp_path):
    # The system adds the limit itself to the size of a kernel that is to go first, and counts for the runner also
    # the libraries that are mapped into it (1.3 GB, of which only half is held against the container): a limit
    # below that would say nothing about a container in which the course can run.
    with memory_limit(2 << 30) as enter:
        done = execute(tmp_path, "held = [bytearray(b'x') * 50_000_000 for _ in range(80)]", enter)
    assert done.returncode == 4, done.stderr
    assert "the kernel was killed because the machine ran out of memory" in done.stdout
    assert [item.kind for item in status(tmp_path)] == ["killed"]


def test_the_limit_of_the_group_that_this_process_is_in_counts(tmp_path):
    with memory_limit(900 << 20) as enter:
        code = f"{enter}\nfrom vlpnb.course.watch import total_memory; print(total_memory())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 900 << 20
    assert watch.total_memory() > 900 << 20
