"""A system Chromium for the tests that look at views; they skip, and say why, where none is found."""

import base64
import os
import shutil

import pytest

FAKE_MODEL = """
(state) => {
  const handlers = {};
  const model = {
    state, saved: [],
    get: (name) => state[name],
    set(name, value) {
      if (state[name] === value) return;
      state[name] = value;
      for (const handler of handlers[name] || []) handler();
    },
    save_changes() { this.saved.push({ ...state }); },
    answer(changes) {
      Object.assign(state, changes);
      for (const name of Object.keys(changes)) for (const handler of handlers[name] || []) handler();
    },
    on(event, handler) { (handlers[event.slice(7)] ||= []).push(handler); },
    off(event, handler) { handlers[event.slice(7)] = (handlers[event.slice(7)] || []).filter((h) => h !== handler); },
    listeners: () => Object.values(handlers).flat().length,
  };
  return model;
}
"""

SHOW = f"""
async ({{ esm, css, state, buffers }}) => {{
  for (const [name, text] of Object.entries(buffers)) {{
    state[name] = new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  }}
  document.head.append(Object.assign(document.createElement("style"), {{ textContent: css }}));
  const module = await import(URL.createObjectURL(new Blob([esm], {{ type: "text/javascript" }})));
  window.model = ({FAKE_MODEL})(state);
  window.leave = module.default.render({{ model: window.model, el: document.getElementById("view") }});
}}
"""


def find_chromium() -> str | None:
    """`CHROMIUM` in the environment, or a Chromium or Chrome on the PATH."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def browser():
    """A running Chromium."""
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: the views were NOT tested; install one or set CHROMIUM to its path")
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: views were NOT tested"
    )
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser):
    """`show(widget, **context options)` → a page with nothing but that view on a fake model.

    At the end: no script failed, and no request left the page.
    """
    contexts, trouble = [], []

    def open_page(widget, **options):
        context = browser.new_context(viewport={"width": 1000, "height": 700}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)  # a busy machine is no failure
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda message: message.type == "error" and trouble.append(message.text))
        page.route("http*://**", lambda route: (trouble.append(route.request.url), route.abort()))
        page.set_content("<!doctype html><html><body><div id='view'></div></body></html>")
        own = {n for n in widget.trait_names(sync=True) if n[0] != "_"} - {"layout", "tabbable", "tooltip"}
        state = widget.get_state(own)
        buffers = {
            n: base64.b64encode(state.pop(n)).decode() for n in list(state) if isinstance(state[n], bytes)
        }
        page.evaluate(SHOW, {"esm": widget._esm, "css": widget._css, "state": state, "buffers": buffers})
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []
