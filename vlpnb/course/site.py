"""The site of a run: every executed notebook as an HTML page, an index with the map of the course, the results, a
glossary, a page per paper with our numbers beside its own, and the code that these point to.

Nothing on a page asks the network: equations are set by the MathJax that the `jupyter-server-mathjax` package
brings, widgets show their static fallback, styles and pictures are in the page. A figure without alt text is an
error, so that no page is written that a reader who cannot see it is shut out of.
"""

import base64
import html
import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat

from vlpnb.course import open_run, pages
from vlpnb.course.audit import outline
from vlpnb.course.outline import PARTS, direct, prerequisites
from vlpnb.errors import UserError
from vlpnb.files import atomic
from vlpnb.lettering import HAN
from vlpnb.stage import Run, StageResult

TEMPLATES = Path(__file__).with_name("templates")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
NOT_RUN = "No notebook of this part was executed in this run."
MATHJAX = "mathjax/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full,Safe"


@dataclass
class Page:
    """One notebook of the course as the index lists it."""

    notebook: Path
    title: str
    about: str
    time: str
    seconds: float = 0.0
    figures: list[dict[str, str]] = field(default_factory=list)
    node: pages.Node | None = None
    headings: dict[str, str] = field(default_factory=dict)

    @property
    def href(self) -> str:
        """Address of the page inside the site."""
        return quote(f"{self.notebook.stem}.html")

    @property
    def number(self) -> str:
        """The two digits that its name begins with."""
        return self.notebook.stem.partition("_")[0]


def write_site(
    run_folder: Path,
    results: Sequence[StageResult],
    run: str,
    profile: str,
    device: str,
    opened: Run | None = None,
    metrics: Mapping[str, float] | None = None,
    target: Path | None = None,
) -> Path:
    """Write the site of a run: `index.html`, a page a notebook, the glossary, the papers, `figures/`.

    It takes the place of an earlier one when it is complete: no page ever stands beside those of another time.

    Args:
        run_folder: `data/runs/<run>`; its `notebooks/` holds the executed notebooks.
        results: the run's finished stages.
        run, profile, device: named on the pages.
        opened: the run as configured, which says what stages need; by default one of that profile.
        metrics: flat `stage.metric` → value, shown beside the papers' figures; by default those of `opened`.
        target: its folder; by default `site` in the run's.

    Returns:
        The path of `index.html`.

    Raises:
        UserError: the run has no executed notebooks, a figure has no alt text, or the target holds something else.
    """
    paths = sorted((run_folder / "notebooks").glob("[0-9]*.ipynb"))
    if not paths:
        raise UserError(
            f"{run_folder / 'notebooks'}: no executed notebook here; `vlpnb run --run {run}` makes them"
        )
    opened = opened or open_run(profile, run, root=run_folder.parent.parent)
    metrics = opened.metrics() if metrics is None else metrics
    target = target or run_folder / "site"
    if target.is_dir() and any(target.iterdir()) and not (target / "glossary.html").is_file():
        raise UserError(f"{target}: holds other files than a site of this course; choose a new folder")
    books = [nbformat.read(path, as_version=4) for path in paths]
    described = [describe(path, book) for path, book in zip(paths, books, strict=True)]
    for book, page in zip(books, described, strict=True):
        check_alt_text(book, page.notebook)
    with atomic(target.resolve(), flush=False) as site:
        (site / "figures").mkdir(parents=True)
        _write_pages(site, books, described, results, (run, profile, device), opened, metrics)
    return target / "index.html"


def _write_pages(
    site: Path,
    books: Sequence[nbformat.NotebookNode],
    described: Sequence[Page],
    results: Sequence[StageResult],
    names: tuple[str, str, str],
    opened: Run,
    metrics: Mapping[str, float],
) -> None:
    _copy_mathjax(site / "mathjax")
    shutil.copyfile(HAN, site / HAN.name)
    near = direct(prerequisites(opened, books))
    nodes = pages.draw_map([page.title for page in described], [page.href for page in described], near)
    executed = {page.notebook.name for page in described}
    run, profile, device = names
    of = {"run": run, "profile": profile, "told": opened.profile.description}
    for i, (page, book) in enumerate(zip(described, books, strict=True)):
        page.node = nodes[i]
        page.figures = list(_save_figures(book, page, site))
        _write_page(book, page, described[i - 1 : i], described[i + 1 : i + 2], site, executed, of)
    table, summary = _results_table(results)
    papers = pages.read_papers()
    about = {
        **of,
        "device": device,
        "has_results": bool(table),
        "papers": [{"href": f"{name}.html", "title": paper["title"]} for name, paper in papers.items()],
    }
    if table:
        _render("results.html", site, **about, results=table)
    terms = pages.read_glossary()
    shown = [{"term": term, **_link(described, term.notebook)} for term in terms]
    _render("glossary.html", site, **about, terms=shown)
    symbols = {symbol for term in terms for symbol in term.symbols}
    for name, paper in papers.items():
        symbols |= {symbol for item in paper["equations"] for symbol in item["symbols"]}
        content = _paper(paper, described, metrics)
        more = {"paper": content, "statuses": pages.STATUSES, "mathjax": MATHJAX}
        _render("paper.html", site, f"{name}.html", **about, **more)
    _render("code.html", site, **about, codes=pages.read_code(sorted(symbols)))
    total = sum(page.seconds for page in described)
    _render(
        "index.html",
        site,
        **about,
        map={
            "nodes": nodes,
            "width": pages.MAP_WIDTH,
            "height": max(node.y for node in nodes) + pages.BOX[1] / 2 + 4,
            "box": pages.BOX,
        },
        parts=[
            {
                "digit": digit,
                "name": name,
                "paper": next((paper for paper in about["papers"] if paper["title"] == name), None),
                "pages": [page for page in described if page.number[0] == digit],
                "missing": NOT_RUN,
            }
            for digit, name in PARTS.items()
        ],
        total=duration(total) if total else "",
        summary=summary,
        figures=[figure for page in described for figure in page.figures],
        stages=[_stage_row(result) for result in results],
    )


def check_alt_text(notebook: nbformat.NotebookNode, path: Path) -> None:
    """See that every figure among a notebook's outputs says what it shows.

    Raises:
        UserError: names the notebook and the cell of a figure that does not.
    """
    for place, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = data.get("text/plain", "")
            silent = "image/png" in data and (not text.strip() or text.lstrip().startswith("<"))
            shown = outline(data["text/html"]).images if "text/html" in data else []
            if silent or any(not (image.get("alt") or "").strip() for image in shown):
                begins = next(iter(cell.source.strip().splitlines()), "")
                raise UserError(
                    f"{path.name}, cell {place} ({begins[:60]!r}): a figure without alt text; show it with "
                    "vlpnb.course.plotting.show(fig, alt), where alt says in a sentence what it shows"
                )


def describe(path: Path, notebook: nbformat.NotebookNode) -> Page:
    """Title, first sentence and measured time of an executed notebook."""
    texts = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "markdown" and "papermill-error-cell-tag" not in cell.metadata.get("tags", [])
    ]
    first = texts[0] if texts else path.stem
    lines = [line.strip() for line in first.splitlines() if line.strip()]
    title = lines[0].lstrip("# ") if lines else path.stem
    about = re.sub(r"[*_`]", "", lines[1]) if len(lines) > 1 else ""
    seconds = notebook.metadata.get("papermill", {}).get("duration")
    return Page(path, title, about, duration(seconds) if seconds else "", seconds or 0.0)


def duration(seconds: float) -> str:
    """Seconds as a person says them: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _write_page(
    notebook: nbformat.NotebookNode,
    page: Page,
    before: Sequence[Page],
    after: Sequence[Page],
    site: Path,
    executed: Collection[str],
    of: Mapping[str, str],
) -> None:
    from nbconvert import HTMLExporter

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            # a live view needs a kernel; its static fallback is in the same bundle
            output.get("data", {}).pop(WIDGET_VIEW, None)
    notebook.metadata.pop("widgets", None)
    exporter = HTMLExporter(
        template_name="page",
        extra_template_basedirs=[str(TEMPLATES)],
        mathjax_url=MATHJAX,
        require_js_url="",
        embed_images=True,
        anchor_link_text="",
    )
    links = {"previous": "", "next": "", "font": HAN.name, **of}
    for key, neighbours in (("previous", before), ("next", after)):
        for neighbour in neighbours:
            links[key], links[f"{key}_title"] = neighbour.href, neighbour.title
    resources = {"course": links, "metadata": {"name": page.title}}
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    body = _with_scopes(_with_pages(body, executed))
    (site / f"{page.notebook.stem}.html").write_text(body, encoding="utf-8")
    for anchor, text in re.findall(
        r'<h[1-6] id="([^"]+)">(.*?)(?:<a class="anchor-link"|</h[1-6]>)', body, re.S
    ):
        page.headings.setdefault(html.unescape(re.sub(r"<[^>]+>", "", text)).strip(), anchor)


def _with_pages(body: str, executed: Collection[str]) -> str:
    """Links to executed notebooks as links to their pages; those to others as plain words."""

    def page_of(match: re.Match[str]) -> str:
        name = match[1] + ".ipynb"
        return (
            f'href="{match[1]}.html{match[2] or ""}"' if name in executed else 'data-notebook="not executed"'
        )

    return re.sub(r'href="(?!https?:)([^"#]+)\.ipynb(#[^"]*)?"', page_of, body)


def _with_scopes(body: str) -> str:
    """Every head cell of a table says what it is the head of."""

    def table(match: re.Match[str]) -> str:
        head, closing, rest = match[0].rpartition("</thead>")
        head = re.sub(r"<th(?=[ >])(?![^>]*scope=)", '<th scope="col"', head)
        return head + closing + re.sub(r"<th(?=[ >])(?![^>]*scope=)", '<th scope="row"', rest)

    return re.sub(r"<table.*?</table>", table, body, flags=re.S)


def _link(described: Sequence[Page], number: str, heading: str = "") -> dict[str, str]:
    """Where a notebook, or a heading in it, is on this site; no address when it was not executed."""
    for page in described:
        if page.number == number:
            anchor = page.headings.get(heading, "")
            return {"href": page.href + (f"#{anchor}" if anchor else ""), "title": page.title}
    return {"href": "", "title": ""}


def _paper(
    paper: Mapping[str, Any], described: Sequence[Page], metrics: Mapping[str, float]
) -> dict[str, Any]:
    """The content of a paper's page: its file with addresses and our numbers filled in."""

    def linked(item: Mapping[str, Any]) -> dict[str, Any]:
        return {**item, "href": _link(described, item["notebook"], item["heading"])["href"]}

    tables = []
    for table in paper["tables"]:
        rows = []
        for row in table["rows"]:
            cells = [{**cell, "shown": pages.ours(cell, metrics)} for cell in row["cells"]]
            rows.append(
                {
                    "label": row["label"],
                    "cells": cells,
                    "quoted": any("paper" in cell for cell in cells),
                    "measured": any(cell["shown"] != pages.NOT_RUN for cell in cells),
                }
            )
        compared = any("metric" in cell for row in rows for cell in row["cells"])
        tables.append({**linked(table), "rows": rows, "compared": compared})
    claims = [
        {**linked(claim), "ours": [{**one, "shown": pages.ours(one, metrics)} for one in claim["ours"]]}
        for claim in paper["claims"]
    ]
    equations = [linked(item) for item in paper["equations"]]
    return {**paper, "equations": equations, "claims": claims, "tables": tables}


def _save_figures(notebook, page: Page, site: Path) -> Iterable[dict[str, str]]:
    """PNG outputs of a notebook as files under `figures/`, with the alt text they were shown with."""
    number = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" not in data:
                continue
            number += 1
            name = f"figures/{page.notebook.stem}-{number:02d}.png"
            (site / name).write_bytes(base64.b64decode(data["image/png"]))
            alt = data["text/plain"]
            yield {"src": quote(name), "alt": alt, "caption": alt, "page": page.href}


def _results_table(results: Sequence[StageResult]) -> tuple[str, str]:
    """The pages of the results stages as HTML, each under its system's name; and their parts above the single runs."""
    texts: dict[str, str] = {}
    for result in results:
        room, _, stage = result.name.partition(".")
        page = result.folder / "results.md"
        if stage == "results" and page.is_file():
            said = re.sub(r"\A# .*\n", "", page.read_text(encoding="utf-8"))  # each has a heading here
            texts.setdefault(room, said)
    whole, summary = [], []
    for room, text in texts.items():
        paper = pages.read_papers().get(room)
        title = f"## {paper['title'] if paper else 'Side by side'}\n"  # `across` is of all papers
        above = re.split(
            r"^(?:Diverged fine-tuning runs|## Every run|## Between systems)", text, maxsplit=1, flags=re.M
        )[0]
        whole.append(title + text.replace("\n## ", "\n### "))
        summary.append(f"#{title}{above}".replace("\n## ", "\n#### "))
    return _html("\n\n".join(whole)), _html("\n\n".join(summary))


def _html(markdown: str) -> str:
    """Markdown as HTML; HTML in it is text, for it can only come from the data, and links get no pilcrow."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    renderer = IPythonRenderer(escape=True, allow_harmful_protocols=False, exclude_anchor_links=True)
    return _with_scopes(MarkdownWithMath(renderer=renderer).render(markdown))


def _stage_row(result: StageResult) -> dict:
    memory = result.manifest.get("peak_rss_bytes", 0) / 1e6
    return {
        "name": result.name,
        "label": result.label,
        "time": duration(result.seconds),
        "memory": f"{memory:,.0f} MB" if memory else "",
        "metrics": [(name, f"{value:.4g}") for name, value in sorted(result.metrics.items())],
    }


def _copy_mathjax(target: Path) -> None:
    import jupyter_server_mathjax

    source = Path(jupyter_server_mathjax.__file__).parent / "static"
    shutil.copytree(source, target, symlinks=False)


def _render(name: str, site: Path, written: str = "", **values) -> None:
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    text = environment.get_template(f"{name}.j2").render(**values)
    (site / (written or name)).write_text(text, encoding="utf-8")
