"""The site of a run: pages that load nothing from outside, figures with their alt text, an index that finds them."""

import base64
import re

import nbformat
import pytest

from vlpnb.course.site import WIDGET_VIEW, describe, duration, outside_requests, write_site
from vlpnb.errors import UserError

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@pytest.fixture
def run_folder(tmp_path):
    new = nbformat.v4
    widget = {WIDGET_VIEW: {"model_id": "x"}, "text/html": "<table><tr><td>fallback</td></tr></table>"}
    figure = {"image/png": PIXEL, "text/html": f'<img alt="a curve" src="data:image/png;base64,{PIXEL}">'}
    first = new.new_notebook(
        cells=[
            new.new_markdown_cell("# 10 Matching\n\nTokens meet *pictures*.\n\n$$a^2$$"),
            new.new_code_cell("1", outputs=[new.new_output("display_data", data=widget)]),
            new.new_code_cell(
                "2", outputs=[new.new_output("display_data", data=figure | {"text/plain": "a curve"})]
            ),
        ],
        metadata={"papermill": {"duration": 75.2}, "widgets": {"state": {}}},
    )
    second = new.new_notebook(cells=[new.new_markdown_cell("# 11 Keys")])
    (tmp_path / "notebooks").mkdir()
    nbformat.write(first, tmp_path / "notebooks" / "10_matching.ipynb")
    nbformat.write(second, tmp_path / "notebooks" / "11_keys.ipynb")
    return tmp_path


def test_site_has_a_page_a_notebook_and_loads_nothing_from_outside(run_folder):
    index = write_site(run_folder, [], "r", "smoke", "cpu")
    page = index.with_name("10_matching.html")
    for path in index, page, index.with_name("11_keys.html"):
        assert outside_requests(path) == []
    html = page.read_text()
    assert "fallback" in html
    assert "widget-view" not in html
    assert 'src="mathjax/MathJax.js' in html
    assert (index.parent / "mathjax" / "MathJax.js").is_file()
    assert 'href="11_keys.html"' in html, "a page leads to the next"


def test_index_lists_titles_times_and_figures_with_alt_text(run_folder):
    html = write_site(run_folder, [], "r", "smoke", "cpu").read_text()
    assert 'href="10_matching.html">10 Matching' in html
    assert "Tokens meet pictures." in html
    assert "1 min 15 s" in html
    tag = re.search(r"<img [^>]*10_matching-01[^>]*>", html)[0]
    assert 'alt="a curve"' in tag
    assert (run_folder / "site" / "figures" / "10_matching-01.png").is_file()


def test_outside_requests_are_noticed(tmp_path):
    page = tmp_path / "p.html"
    page.write_text('<script src="https://cdn.example/x.js"></script><a href="https://arxiv.org">paper</a>')
    assert outside_requests(page) == ["https://cdn.example/x.js"]


def test_a_run_without_notebooks_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="vlpnb run --run empty"):
        write_site(tmp_path, [], "empty", "smoke", "cpu")


def test_describe_survives_a_notebook_without_prose(tmp_path):
    page = describe(tmp_path / "x.ipynb", nbformat.v4.new_notebook())
    assert page.title == "x"
    assert [duration(s) for s in (4.4, 60, 3725)] == ["4 s", "1 min 00 s", "1 h 02 min"]
