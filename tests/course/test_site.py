"""The site of a run: pages that load nothing from outside, figures with their alt text, an index that finds them."""

import base64
import errno
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from vlpnb.course import cli, open_run
from vlpnb.course.audit import broken_links, outline, outside_requests, shut_out
from vlpnb.course.cli_finished import to_do
from vlpnb.course.site import WIDGET_VIEW, describe, duration, write_site
from vlpnb.errors import UserError
from vlpnb.stage import StageResult

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@pytest.fixture
def run_folder(tmp_path):
    new = nbformat.v4
    widget = {WIDGET_VIEW: {"model_id": "x"}, "text/html": "<table><tr><td>fallback</td></tr></table>"}
    figure = {"image/png": PIXEL, "text/html": f'<img alt="a curve" src="data:image/png;base64,{PIXEL}">'}
    first = new.new_notebook(
        cells=[
            new.new_markdown_cell("# 10 Matching\n\nTokens meet *pictures*.\n\n$$a^2$$"),
            new.new_markdown_cell(
                "## At a glance\n\n**Reads:** nothing. **Writes:** the stage `vokenization.matching`."
            ),
            new.new_markdown_cell(
                "## 4. The paired hinge loss\n\nSee [keys](11_keys.ipynb) and [13](13_v.ipynb)."
            ),
            new.new_code_cell("1", outputs=[new.new_output("display_data", data=widget)]),
            new.new_code_cell(
                "2", outputs=[new.new_output("display_data", data=figure | {"text/plain": "a curve"})]
            ),
        ],
        metadata={"papermill": {"duration": 75.2}, "widgets": {"state": {}}},
    )
    table = "<table><thead><tr><th>a</th></tr></thead><tbody><tr><th>0</th><td>1</td></tr></tbody></table>"
    second = new.new_notebook(
        cells=[
            new.new_markdown_cell("# 11 Keys\n\nVectors."),
            new.new_markdown_cell(
                "| Reads | stage `vokenization.matching` |\n|---|---|\n| Writes | stage `vokenization.keys` |"
            ),
            new.new_code_cell("3", outputs=[new.new_output("display_data", data={"text/html": table})]),
        ]
    )
    (tmp_path / "notebooks").mkdir()
    nbformat.write(first, tmp_path / "notebooks" / "10_matching.ipynb")
    nbformat.write(second, tmp_path / "notebooks" / "11_keys.ipynb")
    return tmp_path


@pytest.mark.slow
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


def test_every_page_of_a_notebook_says_whose_run_it_is_and_what_its_numbers_are_worth(run_folder):
    index = write_site(run_folder, [], "r", "smoke", "cpu")
    for name in ("10_matching.html", "11_keys.html"):
        html = index.with_name(name).read_text()
        assert "Run <b>r</b>, profile <b>smoke</b>" in html
        assert "results mean nothing" in html


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


@pytest.fixture
def site(run_folder):
    metrics = {
        "vokenization.results.glue.vokens.sst_2": 77.22,
        "vokenization.results.glue.vokens.sst_2_std": 6.275,
        "vokenization.vokens.named_rate": 0.8828,
    }
    return write_site(run_folder, [], "r", "smoke", "cpu", metrics=metrics).parent


def test_every_link_and_anchor_of_the_site_exists(site):
    assert {page.stem for page in site.glob("*.html")} == {
        *("index", "glossary", "vokenization", "lxmert", "vlp", "valm", "cclm", "code"),
        *("10_matching", "11_keys"),
    }
    assert broken_links(site) == []
    page = (site / "10_matching.html").read_text()
    assert 'href="11_keys.html"' in page
    assert ".ipynb" not in page, "a link to a notebook is a link to its page, or none"


def test_chinese_has_letters_on_every_page_of_a_notebook(site):
    page = (site / "10_matching.html").read_text()
    [font] = re.findall(r'@font-face \{[^}]*url\("([^"]+)"\)', page)
    assert (site / font).is_file()
    assert page.count('"vlpnb Han"') == 3, "declared once, used for text and for code"


def test_no_page_shuts_readers_out(site):
    for page in sorted(site.glob("*.html")):
        assert shut_out(page.read_text()) == [], page.name
        assert outside_requests(page) == [], page.name


def test_the_audit_notices_what_it_is_for(tmp_path):
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html">b</a><a href="#y">y</a><a href="#x">x</a>')
    assert broken_links(tmp_path) == ["a.html: b.html", "a.html: #y"]
    bad = "<html><title>t</title><main><h1>a</h1><h3 id='i'>b</h3><img src='x.png' alt=' '>"
    problems = shut_out(bad + "<table><tr><th id='i'>c</th></tr></table></main>")
    for words in (
        "language",
        "skip",
        "level 3 follows one of level 1",
        "alt text",
        "scope",
        "'i' is given twice",
    ):
        assert any(words in problem for problem in problems), words


def test_the_index_says_what_leads_to_what(site):
    html = (site / "index.html").read_text()
    row = re.search(r"<tr><th[^>]*><a href=\"11_keys.html\".*?</tr>", html, flags=re.S)[0]
    needs, leads = re.findall(r"<td>(.*?)</td>", row, flags=re.S)[1:3]
    assert 'href="10_matching.html"' in needs
    assert "–" in leads
    assert html.count("marker-end") == 1, "one arrow on the map"
    for digit, name in (("5", "CCLM"), ("0", "Foundations")):
        part = html[html.index(f'id="part-{digit}"') :].partition("<h3")[0]
        assert name in part
        assert "executed in this run" in part


def test_the_papers_page_has_our_number_beside_its_own(site):
    page = (site / "vokenization.html").read_text()
    main = page[page.index("Main results") :]
    quoted = re.search(r"BERT 12L/768H \+ voken-cls.*?</tr>", main, flags=re.S)[0]
    assert re.search(r'92\.2 <abbr title="recalled[^"]*">\?</abbr>', quoted)
    assert "77.2 ± 6.2" in main
    assert re.search(r'89\.3 <abbr title="a second source[^"]*">✓</abbr>', main)
    assert "not run here" in main
    assert "named rate: <b>88.3 %</b>" in page
    assert 'href="10_matching.html#4.-The-paired-hinge-loss"' in page
    assert "(not executed in this run)" in page


def test_the_glossary_points_to_code_and_notebooks(site):
    page = (site / "glossary.html").read_text()
    entry = page[page.index('id="term-paired-hinge"') :].partition("</dd>")[0]
    assert 'href="code.html#vlpnb.nn.losses.paired_hinge"' in entry
    assert 'href="10_matching.html"' in entry
    assert "def paired_hinge(" in (site / "code.html").read_text()


@pytest.mark.parametrize(
    "data",
    [
        {"image/png": PIXEL, "text/plain": "<Figure size 640x480 with 1 Axes>"},
        {"image/png": PIXEL},
        {"text/html": '<p><img src="x.png"></p>'},
    ],
)
def test_a_figure_without_alt_text_is_refused(tmp_path, data):
    new = nbformat.v4
    cells = [new.new_markdown_cell("# 10 T"), new.new_code_cell("plt.plot([1])")]
    cells[1].outputs = [new.new_output("display_data", data=data)]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new.new_notebook(cells=cells), tmp_path / "notebooks" / "10_t.ipynb")
    with pytest.raises(UserError, match=r"10_t\.ipynb, cell 2 \('plt\.plot.*without alt text"):
        write_site(tmp_path, [], "r", "smoke", "cpu")


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two #rrggbb colours (WCAG 2.1)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_text_has_contrast_in_both_themes(site):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    style = (site / "index.html").read_text()
    themes = re.findall(r":root \{([^}]*--ink[^}]*)\}", style)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", theme))
        for ink in ("ink", "soft", "accent"):
            for ground in ("paper", "tint"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    code = (site / "10_matching.html").read_text()
    ours = re.search(r"body\.jp-Notebook \{([^}]*)\}", code)[1]  # set below the theme's :root, so they win
    overridden = re.findall(r"--jp-mirror-editor-(\w+)-color: (#[0-9a-f]{6})", ours)
    assert len(overridden) >= 4
    for name, colour in overridden:
        assert contrast(colour, "#f5f5f5") >= 4.5, name


def test_headings_are_read_in_order():
    assert outline("<h1>a</h1><h2>b</h2>").headings == [1, 2]


HOSTILE = "<script>alert('$x$')</script>"


def test_names_and_texts_from_outside_are_text_on_every_page(run_folder):
    manifest = {"metrics": {HOSTILE: 1.0}, "seconds": 1.0, "peak_rss_bytes": 0}
    written = run_folder / "results-1"
    written.mkdir()
    (written / "results.md").write_text(f"# Results\n\n| {HOSTILE} |\n|---|\n| [x](javascript:alert()) |\n")
    result = StageResult("vokenization.results", written, manifest, {HOSTILE: 1.0}, None, 1.0, True, HOSTILE)
    path = run_folder / "notebooks" / "10_matching.ipynb"
    book = nbformat.read(path, as_version=4)
    book.cells[0].source = f"# 10 {HOSTILE}\n\n{HOSTILE}"
    nbformat.write(book, path)
    index = write_site(
        run_folder, [result], HOSTILE, "smoke", HOSTILE, open_run("smoke", "r", root=run_folder)
    )
    for page in index.parent.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert HOSTILE not in text.partition("<main")[0], page.name
        assert page.name == "10_matching.html" or HOSTILE not in text, page.name
        assert 'href="javascript:' not in text, page.name
    assert "&lt;script&gt;" in (index.parent / "results.html").read_text()


@pytest.mark.slow
def test_a_site_that_cannot_be_finished_leaves_the_old_one_whole(run_folder, monkeypatch):
    """A full disk while the files of the equation fonts are copied, and once more when it has room again."""
    index = write_site(run_folder, [], "r", "smoke", "cpu")
    before = {path: path.read_bytes() for path in index.parent.rglob("*") if path.is_file()}
    copied = []

    def copy(source, target, **_):
        copied.append(target)
        if len(copied) > 40:
            Path(target).write_bytes(b"")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return shutil.copyfile(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(shutil.copytree, "__defaults__", (False, None, copy, False, False))
        with pytest.raises(UserError, match=r"site: cannot be written .*make room"):
            write_site(run_folder, [], "r2", "smoke", "cpu")
    assert len(copied) > 40
    assert {path: path.read_bytes() for path in index.parent.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in run_folder.iterdir()) == ["notebooks", "site"]
    assert "<b>r2</b>" in write_site(run_folder, [], "r2", "smoke", "cpu").read_text()


@pytest.mark.slow
def test_a_page_of_a_notebook_that_is_gone_goes_too_and_another_folder_is_never_replaced(
    run_folder, tmp_path
):
    index = write_site(run_folder, [], "r", "smoke", "cpu")
    (run_folder / "notebooks" / "11_keys.ipynb").unlink()
    write_site(run_folder, [], "r", "smoke", "cpu")
    assert not index.with_name("11_keys.html").exists()
    elsewhere = write_site(run_folder, [], "r", "smoke", "cpu", target=tmp_path / "public")
    assert broken_links(elsewhere.parent) == []
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"mine: holds other files than a site"):
        write_site(run_folder, [], "r", "smoke", "cpu", target=mine)
    assert (mine / "thesis.tex").is_file()


def test_the_site_of_a_run_that_can_only_be_read_asks_for_another_folder(tmp_path, monkeypatch, capsys):
    opened = SimpleNamespace(folder=tmp_path)
    monkeypatch.setattr("vlpnb.course.report.reopen", lambda name: opened)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SystemExit) as ended:
        cli.main(["site", "--run", "x"])
    assert ended.value.code == 2
    assert "can only be read; name a folder for the pages with --target" in capsys.readouterr().err
    monkeypatch.setattr("vlpnb.course.cli_finished.write_site_of", lambda run, target: print(target))
    with pytest.raises(SystemExit) as ended:
        cli.main(["site", "--run", "x", "--target", str(tmp_path / "pages")])
    assert ended.value.code == 0
    assert "pages" in capsys.readouterr().out


def test_what_to_do_next_is_in_a_notebook_that_was_run(tmp_path):
    for name in ("index", "00_start_here", "30_a", "31_b"):
        (tmp_path / f"{name}.html").touch()
    assert to_do(tmp_path) == "do the first exercise of notebook 30"
    (tmp_path / "13_vokenise.html").touch()
    assert "sentence in notebook 13" in to_do(tmp_path)
