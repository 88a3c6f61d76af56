"""The commands that look into finished runs, and into the notebooks: what they made, shown again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlpnb.course.cli_options import OldRunOption

if TYPE_CHECKING:
    from vlpnb.vlp.caption import Seen


def report(
    run: OldRunOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with flat `metrics`.")] = False,
    glue: Annotated[
        Path | None,
        typer.Option(
            help="Instead: the original's table of all GLUE results below a folder, its own or ours."
        ),
    ] = None,
) -> None:
    """Print every metric of a run, beside the paper's figure where there is one."""
    import json

    if glue is not None:
        from vlpnb.vokenization.original.glue_folders import table

        print(table(glue))
        return
    from vlpnb.course import report as module

    opened = module.reopen(run)
    name, profile, metrics = opened.name, opened.profile.name, module.all_metrics(opened)
    if as_json:
        print(json.dumps(module.as_json(name, profile, metrics, opened.results()), indent=1, allow_nan=False))
    else:
        print(module.as_text(name, profile, metrics, opened.others()))


def site(
    run: OldRunOption = None,
    target: Annotated[
        Path | None,
        typer.Option(help="Folder of the pages (default: site/ of the run); the results go there, too."),
    ] = None,
) -> None:
    """Write the HTML pages and the results of a finished run again."""
    import os

    from vlpnb.course.report import reopen
    from vlpnb.errors import UserError

    opened = reopen(run)
    if target is None and not os.access(opened.folder, os.W_OK):
        raise UserError(
            f"{opened.folder}: can only be read; name a folder for the pages with --target FOLDER"
        )
    write_site_of(opened, target)


def glance(
    runs: Annotated[list[str] | None, typer.Argument(help="Finished runs: names, or their folders.")] = None,
    machine: Annotated[str, typer.Option(help="What they ran on, such as '2 cores'.")] = "",
    only: Annotated[
        str, typer.Option(help="These notebooks alone; what they read may be older.", metavar="90,91")
    ] = "",
) -> None:
    """Measure finished runs, and write time, memory and device into the notebooks' opening tables."""
    from vlpnb.course import data_root, glance, notebooks_folder
    from vlpnb.files import read_back

    for run in runs or []:
        folder = Path(run) if Path(run).is_dir() else data_root() / "runs" / run
        print(
            f"{folder}: measured profile {glance.remember(folder, machine, only=only.replace(',', ' ').split())}"
        )
    for path in glance.rewrite(notebooks_folder(), read_back(glance.MEASURED)):
        print(f"{path}: table renewed")


def student(folder: Annotated[Path, typer.Argument(help="Where to write; made when absent.")]) -> None:
    """Copy the notebooks without the solutions of the exercises. Files that differ are never overwritten."""
    from vlpnb.course import notebooks_folder
    from vlpnb.course.student import write_student_edition

    written = write_student_edition(notebooks_folder(), folder)
    print(f"{folder}: {len(written)} notebooks without solutions")


def figures(
    run: OldRunOption = None,
    target: Annotated[Path | None, typer.Option(help="Default: figures/ of the checkout.")] = None,
) -> None:
    """Take the README's figures out of a finished run again."""
    from vlpnb.course import CHECKOUT
    from vlpnb.course.figures import copy_figures
    from vlpnb.course.report import reopen

    for path in copy_figures(reopen(run).folder, target or CHECKOUT / "figures"):
        print(path)


def explore(
    run: OldRunOption = None,
    address: Annotated[str, typer.Option("--address", help="Only this machine, unless given.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8866,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
    visitors: Annotated[
        int,
        typer.Option(min=1, help="At a time; each takes a process of about 1 GB. For a class: one a table."),
    ] = 4,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="The datasets' folder, where it is another than when it was made."),
    ] = None,
) -> None:
    """Serve the explorer of a finished run as a web app (needs the extra `explore`)."""
    import tempfile

    from vlpnb.course import explorer, notebooks_folder
    from vlpnb.course.report import reopen

    explorer.need_voila()
    from vlpnb.course import serving  # not above: it needs Voilà

    opened = reopen(run, data)
    with tempfile.TemporaryDirectory(prefix="vlpnb-explorer-") as folder:
        notebook = explorer.prepare(opened, notebooks_folder(), Path(folder))
        print(f"Run {opened.name}: http://{address}:{port}/ (Ctrl-C ends it)", flush=True)
        if not serving.is_loopback(address):
            print(
                "Anybody who reaches this address can use the explorer: it asks for no password.", flush=True
            )
        serving.serve(notebook, address, port, browser, explorer.environment(opened), visitors)


def caption(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE …", help="Files that hold pictures.")],
    run: OldRunOption = None,
    seed: Annotated[int | None, typer.Option(help="Of the fine-tuning (default: the first).")] = None,
    beam: Annotated[int, typer.Option(min=1, help="Beams; 1 is greedy.")] = 5,
    stage: Annotated[str, typer.Option(help="vlp.captioning, or vlp.scst.")] = "vlp.captioning",
    variant: Annotated[
        str | None, typer.Option(help="Which of several, as metrics name it, such as scratch.")
    ] = None,
) -> None:
    """Say what is in pictures of one's own, with the captioner of a finished run."""
    from vlpnb.course.report import reopen
    from vlpnb.vlp.caption import open_captioner

    captioner = open_captioner(reopen(run), stage, seed, variant)
    for line in caption_lines(captioner.captions(pictures, beam)):
        print(line)


def caption_lines(found: list["Seen"]) -> list[str]:
    """The captions as lines: the file's name before each where there are several."""
    return [one.text if len(found) == 1 else f"{one.path}: {one.text}" for one in found]


def write_site_of(opened, target: Path | None = None) -> None:
    from vlpnb.course.report import all_metrics, write_report
    from vlpnb.course.site import write_site

    about = (opened.name, opened.profile.name, opened.device)
    index = write_site(opened.folder, opened.results(), *about, opened, all_metrics(opened), target)
    markdown = write_report(opened, target or opened.folder)
    print(f"Executed notebooks  {opened.folder / 'notebooks'}")
    print(f"HTML pages          {index}")
    print(f"Figures             {index.parent / 'figures'}")
    print(f"Results             {markdown} (and results.json)")
    print(f"Next: open the first of the HTML pages, or `make lab`, {to_do(index.parent)}.")


def to_do(site: Path) -> str:
    """What a reader of a site's notebooks may do first in JupyterLab: change a voken's sentence, or do an exercise."""
    numbers = sorted(path.name[:2] for path in site.glob("[1-5][0-9]_*.html"))
    if "13" in numbers or not numbers:
        return "change a sentence in notebook 13, and run it"
    return f"do the first exercise of notebook {numbers[0]}"
