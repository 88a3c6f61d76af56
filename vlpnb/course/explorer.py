"""What the explorer (notebook 91, and its stand-alone form) is made of; `serving.py` is the server of the latter.

A `LiveResult` is a box of controls above what they control, with a static fallback of the latter, so that the executed
notebook reads well without a kernel. Views only look into a finished run; nothing is trained here.
"""

import html
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import nbformat
import torch

from vlpnb.course.pages import number
from vlpnb.errors import UserError
from vlpnb.lettering import without_formulas
from vlpnb.stage import Run
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM

NEEDED: dict[int, tuple[str, ...]] = {  # part → the stages that its sections look into
    1: ("captions", "pictures", "vokenization.matching", "vokenization.keys", "vokenization.pretraining"),
    2: ("captions", "regions", "lxmert.pretraining"),
    3: ("captions", "regions", "vlp.captioning"),
    4: ("captions", "valm.pretraining"),
    5: ("multilingual", "cclm.pretraining"),
}
NOTEBOOK = "91_explorer.ipynb"
JUPYTER = (
    Path(__file__).parent / "templates" / "jupyter"
)  # a Jupyter data folder: a kernel, a template of Voilà
ALERT = "color:var(--jp-error-color1, #a40000); font-weight:600"
TABLE = "min-width:min(100%, 24rem)"  # room for the caption of a narrow table


class LiveResult(ipywidgets.VBox):
    """Controls above a result that is made again when they change.

    Args:
        controls: widgets with a `value`; their description is their label.
        make: the controls' values → a widget, or HTML text. A `UserError` of it is shown as a message.
    """

    def __init__(self, controls: Sequence[Any], make: Callable[..., Any]):
        super().__init__(layout={"width": "100%"})
        self.controls, self.make = tuple(controls), make
        for control in self.controls:
            control.layout.width = "auto"  # the whole width less its margins
            control.style.description_width = "8rem"
            control.observe(self._changed, "value")
        self._changed(None)

    def _changed(self, change: Any) -> None:
        try:
            made = self.make(*(control.value for control in self.controls))
        except UserError as error:
            made = f'<p role="alert" style="{ALERT}">{html.escape(str(error))}</p>'
        if isinstance(made, str):
            self.fallback = without_formulas(made)
            made = ipywidgets.HTML(self.fallback)
        else:
            self.fallback = without_formulas(made.to_html())
        self.children = (*self.controls, made)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        live = super()._repr_mimebundle_(**kwargs)
        data, metadata = live if isinstance(live, tuple) else (live or {}, {})
        chosen = "; ".join(f"{control.description}: {control.value}" for control in self.controls)
        return {**data, "text/html": self.fallback, "text/plain": chosen}, metadata


@torch.no_grad()
def guesses(
    model: VisuallySupervisedLM, tokenizer: Any, text: str, k: int = 8
) -> list[list[tuple[str, float]]]:
    """The k likeliest words at each [MASK] of a text, best first, with their probabilities.

    Raises:
        UserError: the text has no [MASK], or is longer than the model reads.
    """
    ids = tokenizer(text)["input_ids"]
    longest = model.encoder.config.max_positions - model.encoder.config.position_offset
    if tokenizer.mask_token_id not in ids:
        raise UserError(f"write {tokenizer.mask_token} where the model is to guess")
    if len(ids) > longest:
        raise UserError(f"{len(ids)} tokens are more than the model reads ({longest})")
    row = torch.tensor([ids])
    hidden = model.encoder(row).last[row == tokenizer.mask_token_id]
    chances = model.mlm.logits(hidden, model.encoder.word_weight).softmax(-1)
    best = chances.topk(min(k, chances.shape[1]), dim=1)
    return [
        list(zip(tokenizer.convert_ids_to_tokens(words), values, strict=True))
        for words, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def guess_table(found: Sequence[Sequence[tuple[str, float]]], text: str) -> str:
    """The guesses as an HTML table: a row a rank, a column a [MASK]."""
    heads = "".join(f'<th scope="col">[MASK] {i}</th>' for i in range(1, len(found) + 1))
    rows = "".join(
        f'<tr><th scope="row">{rank}</th>'
        + "".join(f"<td>{html.escape(word)} ({chance:.1%})</td>" for word, chance in column)
        + "</tr>"
        for rank, column in enumerate(zip(*found, strict=True), 1)
    )
    return (
        f'<table style="{TABLE}"><caption style="text-align:left">{html.escape(text)}</caption>'
        f'<tr><th scope="col">guess</th>{heads}</tr>{rows}</table>'
    )


def metric_table(metrics: Mapping[str, float], words: str, most: int = 40) -> str:
    """The metrics whose names hold all the words, as an HTML table.

    Raises:
        UserError: none does.
    """
    found = [name for name in metrics if all(word in name for word in words.lower().split())]
    if not found:
        raise UserError(f"no metric has {words!r} in its name; try matching, perplexity or glue")
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th><td>{number(metrics[name])}</td></tr>'
        for name in found[:most]
    )
    more = f", the first {most} of them" if len(found) > most else ""
    return (
        f'<table style="{TABLE}"><caption style="text-align:left">'
        f"{len(found)} of {len(metrics)} metrics{more}</caption>"
        f'<tr><th scope="col" style="text-align:left">metric</th><th scope="col">value</th></tr>{rows}</table>'
    )


def run_figures(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Notebook → its figures as (base64 PNG, alt text), from the executed notebooks of a run."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted((folder / "notebooks").glob("[0-9]*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                if "image/png" in data:
                    found.setdefault(path.stem, []).append((data["image/png"], data.get("text/plain", "")))
    return found


def figure_list(figures: Sequence[tuple[str, str]]) -> str:
    """Figures below each other, each with its alt text."""
    return "".join(
        f'<img src="data:image/png;base64,{png.strip()}" alt="{html.escape(alt, quote=True)}" '
        'style="max-width:100%; display:block; margin-bottom:1em">'
        for png, alt in figures
    )


def parts_of(run: Run) -> tuple[int, ...]:
    """The parts of the course that a run has finished as far as the explorer looks into them."""
    return tuple(part for part, names in NEEDED.items() if all(run.find(name) is not None for name in names))


def has_part(run: Run, part: int) -> bool:
    """Whether the explorer can show a part of this run; says what makes it where it cannot."""
    there = part in parts_of(run)
    if not there:
        made = f"`vlpnb run --part {part} --run {run.name}` makes what is shown here"
        print(f"Part {part} is not finished in run {run.name}: {made}.")
    return there


def prepare(run: Run, notebooks: Path, target: Path) -> Path:
    """Write the explorer of this run, its parameters filled in, into a folder (not the run's: it may only be read).

    Cells tagged `workbook` (what one derives by hand, and what frames a lesson) stay out of the web app, as do those
    tagged `part-3` where the run has not finished part 3.

    Raises:
        UserError: the run has finished none of the parts.
    """
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    there = parts_of(run)
    if not there:
        raise UserError(
            f"run {run.name}: no part is finished so far that there is something to look into; `vlpnb run --run "
            f"{run.name}` makes all, `--part 1` one of them"
        )
    left_out = {"workbook", *(f"part-{part}" for part in NEEDED if part not in there)}
    given = {
        "profile": run.profile.source or run.profile.name,
        "run_name": run.name,
        "settings": json.dumps(run.settings) if run.settings else "",
    }
    notebook = load_notebook_node(str(notebooks / NOTEBOOK))
    notebook.cells = [cell for cell in notebook.cells if not left_out & set(cell.metadata.get("tags", []))]
    written = parameterize_notebook(notebook, given, kernel_name="vlpnb", language="python")
    written.metadata.kernelspec = {"name": "vlpnb", "display_name": "vlpnb", "language": "python"}
    written.metadata.title = f"Explorer of run {run.name}"
    nbformat.write(written, target / NOTEBOOK)
    return target / NOTEBOOK


def need_voila() -> None:
    """See that the web server of the stand-alone explorer is installed.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("voila") is None:
        raise UserError(
            "the stand-alone explorer needs Voilà, which is not installed: pip install -e '.[explore]' "
            f"(or open notebooks/{NOTEBOOK} in JupyterLab, which needs nothing more)"
        )


def environment(run: Run) -> dict[str, str]:
    """What the server and its kernels need beside what they inherit.

    The kernel `vlpnb` of our own Jupyter folder is the interpreter that runs the server, whatever `python3` is here.
    """
    paths = [str(JUPYTER), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    return {"VLPNB_DATA": str(run.root.parent), "JUPYTER_PATH": os.pathsep.join(paths)}
