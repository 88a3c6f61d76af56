"""Every view in a real JupyterLab with a real kernel, and their fallbacks on an exported page.

The server runs on loopback with its token on, in temporary folders, without extensions that ask the network.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from tests.browser import toys
from vlpnb.course.site import write_site

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef" * 2
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "apputils-extension/themes": {"theme": "JupyterLab Dark"},
    "notebook-extension/tracker": {"windowingMode": "none"},  # off-screen cells are drawn, too
}
VIEWS = {
    "vokens": "vokens",
    "retrieval": "retrieval",
    "attention": "attention",
    "regions": "regions",
    "embedding": "map",
    "stepper": "stepper",
}  # toy → class
WAIT = 120_000  # ms, for a busy machine
pytestmark = [pytest.mark.browser, pytest.mark.slow]


def write_notebook(path):
    sources = ["from tests.browser import toys", *(f"{name} = toys.{name}()\n{name}" for name in VIEWS)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


@pytest.fixture
def lab(browser, tmp_path):
    """Address of a JupyterLab whose folder holds `views.ipynb`; it ends with the test."""
    for name, values in SETTINGS.items():
        file = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    (tmp_path / "work").mkdir()
    write_notebook(tmp_path / "work" / "views.ipynb")
    folders = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "IPYTHONDIR",
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")},
        **{name: str(tmp_path / name.lower()) for name in folders},
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "PYTHONPATH": str(ROOT),
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        "--port=0",
        "--allow-root",
    ]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={tmp_path / 'work'}"]
    command += ["--LabApp.extension_manager=readonly"]
    log = tmp_path / "lab.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=tmp_path)
    try:
        runtime = tmp_path / "jupyter_runtime_dir" / f"jpserver-{server.pid}.json"
        until = time.monotonic() + WAIT / 1000
        while not runtime.is_file() or not runtime.read_text().endswith("}"):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield json.loads(runtime.read_text())["url"]
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for_kernel(lab):
    """Until the page is connected to the notebook's kernel: before that, Lab answers "run" with a question."""
    until = time.monotonic() + WAIT / 1000
    while True:
        with urllib.request.urlopen(f"{lab}api/sessions?token={TOKEN}") as answer:
            if any(session["kernel"]["connections"] for session in json.load(answer)):
                return
        assert time.monotonic() < until, "the notebook's kernel did not start"
        time.sleep(0.2)


def use_views(page, tmp_path):
    """Point, type and press keys in every view, and see what changed; leaves a screenshot of each."""
    views = {name: page.locator(f".vlpnb-{css}") for name, css in VIEWS.items()}
    for view in views.values():
        view.wait_for()
        assert view.evaluate("(n) => getComputedStyle(n).backgroundColor") == "rgb(22, 22, 22)", "Lab's theme"

    vokens = views["vokens"]
    vokens.locator(".vlpnb-token", has_text="gold").hover()
    vokens.locator(".vlpnb-model").first.locator("img[alt='a gold disc']").wait_for()
    vokens.locator(".vlpnb-token", has_text="red").click()
    page.keyboard.press("ArrowRight")  # in Lab's command mode the arrow keys belong to the cells
    assert vokens.locator("[aria-selected=true]").inner_text() == "disc"

    retrieval = views["retrieval"]
    box = retrieval.get_by_label("Sentence")
    box.fill("purple fields")
    retrieval.locator(".vlpnb-token", has_text="purple").locator("img[alt='a purple disc']").wait_for()
    assert retrieval.locator(".vlpnb-token").all_inner_texts() == ["purple", "fields"]
    box.fill("boom")
    retrieval.get_by_role("alert").filter(has_text="RuntimeError: the matcher fell over").wait_for()
    box.fill("teal")
    retrieval.locator(".vlpnb-strip img[alt='a teal disc']").wait_for()

    attention = views["attention"]
    attention.get_by_role("option", name="layer 2, head 3").click()
    page.keyboard.press("ArrowDown")
    attention.get_by_text("Layer 3, head 3").wait_for()

    regions = views["regions"]
    regions.get_by_role("option", name="region 4: blue disc").click()
    page.keyboard.press("ArrowRight")
    regions.get_by_text("Region 5: gold disc looks at these words").wait_for()
    regions.locator(".vlpnb-token", has_text="gold").hover()
    regions.get_by_text("“gold” looks at these regions").wait_for()

    embedding = views["embedding"]
    embedding.get_by_role("option", name="token green").click()
    embedding.locator(".vlpnb-detail img[alt='a green disc']").wait_for()
    page.keyboard.press("+")
    assert embedding.locator(".vlpnb-plane").get_attribute("data-zoom") == "1.50"

    stepper = views["stepper"]
    stepper.get_by_role("gridcell", name="step 1, beam 1").first.click()
    page.keyboard.press("ArrowRight")
    stepper.get_by_text("step 2, beam 1").wait_for()

    for name, view in views.items():
        view.screenshot(path=tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


def test_views_live_in_jupyterlab(browser, lab, tmp_path):
    # the system is light, Lab is dark: the views must follow Lab
    context = browser.new_context(viewport={"width": 1300, "height": 1000}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(WAIT)
    outside = []
    page.on("request", lambda request: None if "//127.0.0.1:" in request.url else outside.append(request.url))
    page.goto(f"{lab}lab/tree/views.ipynb?token={TOKEN}")
    wait_for_kernel(lab)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    try:
        use_views(page, tmp_path)
    finally:
        page.screenshot(path=tmp_path / "lab.png")
    context.close()
    assert [url for url in outside if url.startswith(("http", "ws"))] == []


def test_the_exported_page_shows_every_fallback(browser, tmp_path):
    new = nbformat.v4
    cells = [new.new_markdown_cell("# Views")]
    for name in VIEWS:
        data, metadata = getattr(toys, name)()._repr_mimebundle_()
        output = new.new_output("execute_result", data, metadata=metadata, execution_count=1)
        cells.append(new.new_code_cell(name, outputs=[output]))
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new.new_notebook(cells=cells), tmp_path / "notebooks" / "99_views.ipynb")
    index = write_site(tmp_path, [], "r", "smoke", "cpu")
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(WAIT)
    outside = []
    page.on("request", lambda request: request.url.startswith("http") and outside.append(request.url))
    page.goto(index.with_name("99_views.html").as_uri())
    shown = page.locator(".jp-OutputArea-output").all_inner_texts()
    told = (
        "alone: voken 1",
        "Toy retrieval: a red disc",
        "layer 1, head 1",
        "regions look at words",
        "Toy map",
        "Toy captions",
    )
    assert [expected in text for expected, text in zip(told, shown, strict=True)] == [True] * 6
    pictures = page.locator(".jp-OutputArea-output img")
    assert pictures.count() > 30
    assert pictures.evaluate_all("(all) => all.every((i) => i.alt && i.complete && i.naturalWidth > 0)")
    context.close()
    assert outside == []
