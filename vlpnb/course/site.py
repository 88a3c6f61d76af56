"""The site of a run: every executed notebook as an HTML page, an index, the figures and the results table.

Nothing on a page asks the network: equations are set by the MathJax that the `jupyter-server-mathjax` package
brings, widgets show their static fallback, styles and pictures are in the page.
"""

import base64
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from vlpnb.errors import UserError
from vlpnb.stage import StageResult

TEMPLATES = Path(__file__).with_name("templates")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MATHJAX = "mathjax/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full,Safe"


@dataclass
class Page:
    """One notebook of the course as the index lists it."""

    notebook: Path
    title: str
    about: str
    time: str
    figures: list[dict[str, str]] = field(default_factory=list)

    @property
    def href(self) -> str:
        """Address of the page inside the site."""
        return f"{self.notebook.stem}.html"


def write_site(run_folder: Path, results: Sequence[StageResult], run: str, profile: str, device: str) -> Path:
    """Write `site/` into a run's folder: `index.html`, a page a notebook, `figures/` and the results table.

    Args:
        run_folder: `data/runs/<run>`; its `notebooks/` holds the executed notebooks.
        results: the run's finished stages.
        run, profile, device: named on the index page.

    Returns:
        The path of `index.html`.

    Raises:
        UserError: the run has no executed notebooks.
    """
    notebooks = sorted((run_folder / "notebooks").glob("[0-9]*.ipynb"))
    if not notebooks:
        raise UserError(
            f"{run_folder / 'notebooks'}: no executed notebook here; `vlpnb run --run {run}` makes them"
        )
    site = run_folder / "site"
    (site / "figures").mkdir(parents=True, exist_ok=True)
    _copy_mathjax(site / "mathjax")
    opened = [nbformat.read(path, as_version=4) for path in notebooks]
    pages = [describe(path, notebook) for path, notebook in zip(notebooks, opened, strict=True)]
    for i, (page, notebook) in enumerate(zip(pages, opened, strict=True)):
        page.figures = list(_save_figures(notebook, page, site))
        _write_page(notebook, page, pages[i - 1 : i], pages[i + 1 : i + 2], site)
    table, summary = _results_table(results)
    about = {"run": run, "profile": profile, "device": device}
    if table:
        _render("results.html", site, **about, results=table)
    return _render(
        "index.html",
        site,
        **about,
        pages=pages,
        summary=summary,
        figures=[figure for page in pages for figure in page.figures],
        stages=[_stage_row(result) for result in results],
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
    return Page(path, title, about, duration(seconds) if seconds else "")


def duration(seconds: float) -> str:
    """Seconds as a person says them: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _write_page(notebook, page: Page, before: Sequence[Page], after: Sequence[Page], site: Path) -> None:
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
    links = {"previous": "", "next": ""}
    for key, neighbours in (("previous", before), ("next", after)):
        for neighbour in neighbours:
            links[key], links[f"{key}_title"] = neighbour.href, neighbour.title
    resources = {"course": links, "metadata": {"name": page.title}}
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    (site / page.href).write_text(body, encoding="utf-8")


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
            alt = data.get("text/plain", "")
            alt = page.title if not alt or alt.startswith("<") else alt
            yield {"src": name, "alt": alt, "caption": alt, "page": page.href}


def _results_table(results: Sequence[StageResult]) -> tuple[str, str]:
    """The results stage's Markdown page as HTML without its title, and its part above the diverged runs."""
    for result in results:
        page = result.folder / "results.md"
        if result.name == "results" and page.is_file():
            text = page.read_text(encoding="utf-8").removeprefix("# Results\n")
            summary = re.split(r"^(?:Diverged fine-tuning runs|## Every run)", text, maxsplit=1, flags=re.M)[
                0
            ]
            return _html(text), _html(summary.replace("\n## ", "\n### "))
    return "", ""


def _html(markdown: str) -> str:
    """Markdown as HTML, without the pilcrow links that the converter puts behind headings."""
    from nbconvert.filters import markdown2html

    return re.sub(r'<a class="anchor-link".*?</a>', "", markdown2html(markdown))


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

    if not target.is_dir():
        source = Path(jupyter_server_mathjax.__file__).parent / "static"
        shutil.copytree(source, target, symlinks=False)


def _render(name: str, site: Path, **values) -> Path:
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=False)
    path = site / name
    path.write_text(environment.get_template(f"{name}.j2").render(**values), encoding="utf-8")
    return path


def outside_requests(page: Path) -> list[str]:
    """Addresses outside the site that opening a page would load (links a reader may click are not counted)."""
    text = page.read_text(encoding="utf-8")
    loaded = re.findall(r"<(?:script|img|iframe|source|video)[^>]+src=[\"']((?:https?:)?//[^\"']+)", text)
    loaded += re.findall(r"<link[^>]+href=[\"']((?:https?:)?//[^\"']+)", text)
    loaded += re.findall(r"@import\s+(?:url\()?[\"']?((?:https?:)?//[^\"')]+)", text)
    loaded += re.findall(r"\bimport\s*\(?\s*[\"']((?:https?:)?//[^\"']+)", text)
    return loaded
