"""The explorer's web server, run as `vlpnb explore` runs it, on a notebook of one line."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import nbformat
import pytest

from vlpnb.course.watch import descendants

pytest.importorskip(
    "voila", reason="Voilà is missing: its server was NOT tested; pip install -e '.[explore]'"
)
from vlpnb.course.explorer import JUPYTER
from vlpnb.course.serving import is_loopback, is_own, own_names

SERVE = """
import sys
from pathlib import Path
from vlpnb.course import serving
serving.UNUSED_SECONDS = float(sys.argv[3])
serving.serve(Path(sys.argv[1]), "127.0.0.1", int(sys.argv[2]), False, {"JUPYTER_PATH": sys.argv[4]}, 2)
"""


@contextlib.contextmanager
def server(folder: Path, unused_seconds: float):
    """The process and the port of a server."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('an answer')")])
    book.metadata.kernelspec = {"name": "vlpnb", "display_name": "vlpnb", "language": "python"}
    nbformat.write(book, folder / "toy.ipynb")
    (folder / "voila.json").write_text('{"Voila": {"base_url": "/elsewhere/"}}')  # of somebody else
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", SERVE, str(folder / "toy.ipynb"), str(port), str(unused_seconds)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, str(JUPYTER)], stdout=log, stderr=log, cwd=folder)
    try:
        until = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                break
            time.sleep(0.1)
        yield process, port
    finally:
        process.kill()
        process.wait()


def ask(port: int, host: str = "localhost", path: str = "/") -> tuple[int, str]:
    """Status and text of a page that is asked of the machine under this name."""
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request("GET", path, headers={"Host": f"{host}:{port}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.mark.slow
def test_a_name_that_is_not_this_machines_gets_nothing_and_starts_nothing(tmp_path):
    with server(tmp_path, 60) as (process, port):
        for path in (
            "/",
            "/voila/static/voila.js",
            "/api/kernels/00000000-0000-0000-0000-000000000000/channels",
        ):
            assert ask(port, "rebound.example.org", path)[0] == 403
        assert descendants(process.pid) == []
        status, text = ask(port)
        assert (status, "an answer" in text) == (200, True)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_kernels_are_few_and_end_with_the_command_whatever_ends_it(tmp_path):
    with server(tmp_path, 60) as (process, port):
        assert [ask(port)[0] for _ in range(3)] == [200, 200, 503]
        assert "2 visitors are here already" in ask(port)[1]
        kernels = descendants(process.pid)
        assert len(kernels) >= 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        until = time.monotonic() + 30
        while any(Path(f"/proc/{kernel}").exists() for kernel in kernels):
            assert time.monotonic() < until, "a kernel outlived the server"
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_a_kernel_that_nobody_uses_makes_room_for_the_next_visitor(tmp_path):
    with server(tmp_path, 0) as (process, port):
        for _ in range(4):
            assert ask(port)[0] == 200
            time.sleep(0.2)  # until the kernel has said that it has nothing to do
        assert len(descendants(process.pid)) <= 2
        process.terminate()
        assert process.wait(60) == 0


def test_names_of_this_machine():
    here = own_names("127.0.0.1")
    assert all(
        is_own(host, here, False) for host in ("localhost", "LOCALHOST", "127.0.0.1", "[::1]", "127.8.8.8")
    )
    assert not any(
        is_own(host, here, False) for host in ("localhost.evil.org", "192.168.1.7", "", socket.gethostname())
    )
    shared = own_names("0.0.0.0")
    assert is_own("192.168.1.7", shared, True)
    assert is_own(socket.gethostname().upper(), shared, True)
    assert not is_own("evil.org", shared, True)
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "evil")] == [
        True
    ] * 3 + [False] * 2
