"""The stand-alone explorer: a real Voilà started by the product's own command, driven through a real Chromium.

The notebook is a small one with the views of notebook 91 on made-up numbers: training a run would take minutes, and
notebook 91 itself is executed at `smoke` by `tests/notebooks`.
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

from vlpnb.course import open_run
from vlpnb.course.explorer import NOTEBOOK

ROOT = Path(__file__).parents[2]
WAIT = 120_000  # ms, for a busy machine
CELLS = (
    "profile: str = 'smoke'\nrun_name: str = 'x'\nsettings: str = ''\ndevices: int = 1",
    "from ipywidgets import Text\nfrom tests.browser import toys\nfrom vlpnb.course.explorer import LiveResult\n"
    "from vlpnb.errors import UserError\n"
    "from vlpnb.widgets.voken_explorer import VokenExplorer",
    "def pictured(sentence):\n"
    "    if not sentence.strip():\n        raise UserError('type a sentence')\n"
    "    tokens, ids, scores = toys.retrieve(sentence)\n"
    "    return VokenExplorer(tokens, ids, scores, toys.disc, toys.NAMES, title=sentence)\n"
    "LiveResult([Text('a red disc', description='Sentence', continuous_update=False)], pictured)",
    "raise RuntimeError('a cell that fails: its traceback is nobody\\'s business')",
    "print('by hand')",
)
SERVE = """
import sys
from pathlib import Path
from vlpnb.course import explorer, open_run, serving
explorer.NEEDED = {1: ()}
folder = Path(sys.argv[1])
run = open_run("smoke", "x", root=folder / "data")
(folder / "served").mkdir()
notebook = explorer.prepare(run, folder, folder / "served")
serving.serve(notebook, "127.0.0.1", int(sys.argv[2]), False, explorer.environment(run))
"""
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("voila") is None,
        reason="Voilà is missing: the stand-alone explorer was NOT tested; pip install -e '.[explore]'",
    ),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def voila_processes(folder):
    """Command lines of living processes that name this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder / "data") in words and "voila" in words:
            found.append(words)
    return found


@pytest.fixture
def served(tmp_path):
    """Address of the app, and the process of the command; both end with the test."""
    new = nbformat.v4
    cells = [new.new_markdown_cell("# Toy explorer"), *map(new.new_code_cell, CELLS)]
    cells[1].metadata.tags = ["parameters"]
    cells[-1].metadata.tags = ["workbook"]
    nbformat.write(new.new_notebook(cells=cells), tmp_path / NOTEBOOK)
    open_run("smoke", "x", root=tmp_path / "data")
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")},
        **{n: str(tmp_path / n.lower()) for n in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")},
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    # a kernel of the user's that shadows the environment's own must not be taken
    wrong = tmp_path / ".local" / "share" / "jupyter" / "kernels" / "python3"
    wrong.mkdir(parents=True)
    (wrong / "kernel.json").write_text('{"argv": ["false"], "display_name": "wrong", "language": "python"}')
    log = tmp_path / "voila.log"
    with log.open("w") as output:
        command = [sys.executable, "-c", SERVE, str(tmp_path), str(port)]
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=tmp_path)
    until = time.monotonic() + WAIT / 1000
    try:
        while True:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5):
                    break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/", server
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def use(browser, address, scheme, width, picture):
    """Look, point, type, and see what a visitor of the page sees; nothing may be asked outside."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    outside, trouble = [], []
    page.on("request", lambda request: None if address in request.url else outside.append(request.url))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(address)
    tokens = page.locator(".vlpnb-token")
    tokens.filter(has_text="disc").wait_for()
    assert page.title() == "Explorer of run x"
    tokens.filter(has_text="red").hover()
    page.locator(".vlpnb-strip img[alt='a red disc']").wait_for()

    box = page.get_by_label("Sentence")
    box.fill("blue fields")
    box.press("Enter")  # the kernel is alive, and is the one that has vlpnb
    tokens.filter(has_text="fields").wait_for()
    tokens.filter(has_text="blue").focus()
    page.locator(".vlpnb-strip img[alt='a blue disc']").wait_for()
    box.fill("")
    box.press("Enter")
    page.get_by_role("alert").filter(has_text="type a sentence").wait_for()
    page.screenshot(path=picture)

    text = page.locator("body").inner_text()
    for hidden in ("Traceback", "RuntimeError", "nobody's business", "import", "by hand"):
        assert hidden not in text
    papers = page.evaluate(
        "['body', '#rendered_cells'].map((s) => getComputedStyle(document.querySelector(s)).backgroundColor)"
    )
    assert papers == [{"light": "rgb(255, 255, 255)", "dark": "rgb(33, 33, 33)"}[scheme]] * 2
    assert page.evaluate("document.querySelector('#rendered_cells').scrollWidth <= innerWidth")
    context.close()
    assert [url for url in outside if url.startswith(("http", "ws"))] == []
    assert trouble == []


def test_the_explorer_is_a_web_app_of_its_own(browser, served, tmp_path):
    address, server = served
    use(browser, address, "light", 1000, tmp_path / "light.png")
    use(browser, address, "dark", 400, tmp_path / "dark.png")
    with pytest.raises(urllib.error.HTTPError):  # the notebook's source is not for visitors
        urllib.request.urlopen(f"{address}voila/files/{NOTEBOOK}", timeout=30)
    server.send_signal(signal.SIGTERM)
    server.wait(60)
    until = time.monotonic() + 30
    while voila_processes(tmp_path) and time.monotonic() < until:
        time.sleep(0.2)
    assert voila_processes(tmp_path) == [], "the server ends with its command"
