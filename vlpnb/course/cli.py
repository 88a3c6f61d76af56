"""The command line. Everything heavy is imported inside the commands, so that `--help` answers at once.

Exit codes, for schedulers: 0 done; 1 a check found something (doctor, data check, verify) or vlpnb itself broke;
2 wrong usage, nothing was started; 3 a notebook failed, or the disk is full; 4 a kernel was killed or memory ran out;
5 stopped for the budget; 130 interrupted, 143 terminated. After 3, 4, 5, 130 and 143 the same command continues where
it was.
"""

import contextlib
import os
import sys
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer

from vlpnb.course.cli_data import data
from vlpnb.course.cli_finished import (
    caption,
    explore,
    figures,
    glance,
    report,
    site,
    student,
    write_site_of,
)
from vlpnb.course.cli_options import (
    DataOption,
    DevicesOption,
    ProfileOption,
    RunOption,
    SetOption,
    open_asked,
)
from vlpnb.course.cli_plan import plan
from vlpnb.course.cli_score import score
from vlpnb.errors import UserError, is_full_disk, is_refused


class Exit(IntEnum):
    """What `vlpnb run` tells a scheduler."""

    DONE = 0
    USAGE = 2
    FAILED = 3
    KILLED = 4
    BUDGET = 5
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_CODES = (
    "Exit codes: 0 done · 2 wrong usage, nothing started · 3 a notebook failed, or the disk is full · 4 a kernel "
    "was killed or memory ran out · 5 stopped for the budget · 130 interrupted · 143 terminated. "
    "After 3, 4, 5, 130 and 143 the same command continues where it was."
)

app = typer.Typer(
    name="vlpnb",
    help="Vision-language pre-training, taught and reproduced: run the course, its stages, its reports.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data, name="data")
app.add_typer(score, name="score")


@app.command(epilog=EXIT_CODES)
def run(
    notebooks: Annotated[
        list[str] | None, typer.Argument(help="Numbers such as 10 11 (default: those of the profile).")
    ] = None,
    profile: ProfileOption = "laptop",
    settings: SetOption = None,
    devices: DevicesOption = 1,
    run: RunOption = None,
    data: DataOption = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="10,13", help="These alone; the same as naming them.")
    ] = None,
    part: Annotated[list[int] | None, typer.Option(min=0, max=9, help="All of a part; repeatable.")] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="13", help="Begin with this one of those to run.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Notebooks at a time; one waits for those that make what it reads.")
    ] = 1,
    budget: Annotated[
        str | None, typer.Option(metavar="2h", help="Stop cleanly before so much time has passed.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="A plain log, in a terminal too.")] = False,
    site: Annotated[bool, typer.Option(help="Write the HTML site and the results when done.")] = True,
) -> None:
    """Execute notebooks, then write their HTML pages and the results table. Running again resumes."""
    with _stoppable():
        from vlpnb.course import notebooks_folder
        from vlpnb.course.display import LiveStatus, PlainLog, is_live
        from vlpnb.course.glance import expected_time
        from vlpnb.course.runner import find_notebooks, parse_duration, run_notebooks, starting_from

        seconds = parse_duration(budget) if budget is not None else None
        opened = open_asked(profile, run, settings, data, devices)
        wanted = [*(notebooks or []), *(name for name in (only or "").split(",") if name)]
        wanted += [str(number) for number in part or []]
        paths = find_notebooks(notebooks_folder(), wanted or opened.profile.notebooks)
        if first is not None:
            paths = starting_from(paths, first)
        print(
            f"Run {opened.name}, profile {opened.profile.name}, {len(paths)} notebooks → {opened.folder}",
            flush=True,
        )
        took = expected_time(opened.profile.name, [path.stem for path in paths])
        if took:
            print(f"It took {took} when it was measured; finished stages are reused.", flush=True)
        watched = is_live(sys.stdout) and not plain
        display = LiveStatus() if watched else PlainLog(lambda line: print(line, flush=True))
        outcomes = run_notebooks(opened, paths, display=display, jobs=jobs, budget=seconds)
        code = exit_code([outcome.kind for outcome in outcomes], len(outcomes) == len(paths))
        if code == Exit.BUDGET:
            print("Stopped for the budget; the same command continues, `vlpnb site` writes the pages so far.")
        elif site:
            _write_site_after(opened, code)
    raise typer.Exit(code)


def exit_code(kinds: list[str], complete: bool) -> Exit:
    """The code for how notebooks went: what needs a person comes before what needs only another run."""
    for kind, code in (
        ("failed", Exit.FAILED),
        ("memory", Exit.KILLED),
        ("killed", Exit.KILLED),
        ("interrupted", Exit.INTERRUPTED),
        ("budget", Exit.BUDGET),
    ):
        if kind in kinds:
            return code
    return Exit.DONE if complete else Exit.BUDGET


@contextlib.contextmanager
def _stoppable():
    """Let a scheduler's SIGTERM end kernels in order, as Ctrl-C does; say how to go on, and exit with their codes."""
    import signal

    def leave(number, frame):
        raise SystemExit(int(Exit.TERMINATED))

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again to continue.", file=sys.stderr)
        raise typer.Exit(Exit.INTERRUPTED) from None
    except SystemExit as end:
        if end.code == Exit.TERMINATED:
            print("Terminated. Run the same command again to continue.", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_site_after(opened, code: Exit) -> None:
    """Write the pages; when notebooks failed, their code must not be lost to a page that cannot be written."""
    try:
        write_site_of(opened)
    except UserError as error:
        if code == Exit.DONE:
            raise
        print(f"No pages: {error}", file=sys.stderr)


@app.command(add_help_option=False)
def stage(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The stage; its inputs run first.")] = "",
    profile: ProfileOption = "laptop",
    settings: SetOption = None,
    devices: DevicesOption = 1,
    run: RunOption = None,
    data: DataOption = None,
    overrides: Annotated[str, typer.Option(hidden=True)] = "{}",
    about: Annotated[bool, typer.Option("--help", help="With NAME: every field of that stage.")] = False,
) -> None:
    """Run one stage. `torchrun … -m vlpnb stage NAME --run-name RUN` is the same entry for several processes."""
    import json

    if about or not name:
        print(context.get_help() if not name else _about(name))
        return
    result = open_asked(profile, run, settings, data, devices).stage(name, **json.loads(overrides))
    if os.environ.get("RANK", "0") == "0":
        print(f"{result.folder}{' (reused)' if result.reused else ''}")
        for key, value in result.metrics.items():
            print(f"  {key} = {value:.6g}")


def _about(name: str) -> str:
    from vlpnb.course.fields import describe
    from vlpnb.course.pipeline import STAGES
    from vlpnb.errors import did_you_mean

    stages = {stage.name: stage for stage in STAGES}
    if name not in stages:
        raise UserError(f"unknown stage {name!r}{did_you_mean(name, stages)}")
    return describe(stages[name])


@app.command()
def export(
    name: Annotated[
        str,
        typer.Argument(metavar="STAGE", help="regions, corpus, vokenization.keys, .vokens or .pretraining."),
    ],
    target: Annotated[Path, typer.Argument(help="Folder to write to; made when absent.")],
    profile: Annotated[str | None, typer.Option(help="Default: that of the run, else laptop.")] = None,
    settings: SetOption = None,
    run: RunOption = None,
    data: DataOption = None,
) -> None:
    """Write a stage's result as the files of the original projects: LXMERT's TSV of regions, Vokenization's files."""
    from vlpnb.course.report import reopen
    from vlpnb.foundations.region_export import export_regions
    from vlpnb.vokenization.original.export import EXPORTS, export_stage

    known = ["regions", *EXPORTS]
    if name not in known:
        raise UserError(f"stage '{name}' has no files in an original layout; expected {', '.join(known)}")
    if run is not None and not (profile or settings or data):
        opened = reopen(run)  # as it was made: what is finished is found, and may only need to be read
    else:
        opened = open_asked(profile or "laptop", run, settings, data)
    source = opened.stage(name).folder
    for path in export_regions(source, target) if name == "regions" else export_stage(name, source, target):
        print(path)


@app.command()
def world(
    folder: Annotated[Path, typer.Argument(help="Where to write; made when absent.")],
    profile: ProfileOption = "laptop",
    settings: SetOption = None,
) -> None:
    """Write the generated world in the formats of the public datasets."""
    from vlpnb.stage import StageContext
    from vlpnb.world.writers import write_world

    config = open_asked(profile, None, settings).config("world")
    folder.mkdir(parents=True, exist_ok=True)
    context = StageContext(config, folder, {}, "cpu", name="world")
    metrics = write_world(config, folder, context.log, context.progress)
    (folder / "log.txt").unlink(missing_ok=True)
    print(f"{folder}: {', '.join(f'{value:,.0f} {key}' for key, value in metrics.items())}")


@app.command()
def verify(
    system: Annotated[str, typer.Argument(help="Of which we hold recordings, such as vokenization.")],
    folder: Annotated[Path, typer.Argument(help="Recorded tensors: safetensors and JSON files.")],
    each: Annotated[
        bool, typer.Option("--each", help="A line for every entry, not only for every file.")
    ] = False,
) -> None:
    """Compare our code with recorded tensors of another implementation; ends with 1 where they differ."""
    from vlpnb.course import verify as module

    result = module.verify(system, folder)
    for line in module.lines(result, each):
        print(line)
    if not result.holds:
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Say what this machine can run, and why not the rest."""
    from vlpnb.course import data_root
    from vlpnb.course.doctor import examine, profiles

    findings = examine(data_root())
    verdicts = profiles(findings)
    width = max(len(item.subject) for item in [*findings, *verdicts])
    for item in [*findings, *verdicts]:
        advice = f"  → {item.advice}" if item.advice else ""
        print(f"{'✓' if item.good else '✗'} {item.subject:<{width}}  {item.found}{advice}")
    if not verdicts[0].good:
        raise typer.Exit(1)


for _command in (plan, report, site, glance, student, figures, explore, caption):
    app.command()(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a `UserError` is printed without a traceback and exits with code 2, a full disk with 3."""
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 still gets its lines
    try:
        app(arguments)
    except (UserError, OSError) as error:
        full = is_full_disk(error)
        if isinstance(error, UserError):
            words = str(error)
        elif full:
            words = f"{error}: make room, and run the same command again"
            # a log on that disk takes nothing more, not even what is left at the end
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        elif is_refused(error):
            words = f"{error.filename}: {error.strerror}; give another place, or the right to use this one"
        else:
            raise
        for text in [words, *getattr(error, "__notes__", [])]:
            print(f"vlpnb: {text}", file=sys.stderr)
        sys.exit(int(Exit.FAILED if full else Exit.USAGE))
