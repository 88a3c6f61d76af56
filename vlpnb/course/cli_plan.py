"""`vlpnb plan`: what a run would take, without running it."""

from typing import Annotated

import typer

from vlpnb.course.cli_options import ProfileOption, SetOption


def plan(
    systems: Annotated[
        list[str] | None,
        typer.Argument(help="vokenization, lxmert, vlp, valm, cclm (default: all five)."),
    ] = None,
    profile: ProfileOption = "laptop",
    settings: SetOption = None,
    card: Annotated[
        str | None,
        typer.Option(help="A well-known card, such as A100 or H100; its memory and rate are known."),
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs; hours are told for one to so many.")] = None,
    memory: Annotated[float | None, typer.Option(min=0.1, metavar="GB", help="Of a GPU.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, metavar="TFLOP/s", help="Of a GPU: dense, in bfloat16.")
    ] = None,
    float32: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="TFLOP/s", help="Of a GPU, in float32 (default: a 16th of --rate)."),
    ] = None,
    utilisation: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1.0, help="Share of the rate that is achieved (default: measured, else 0.35)."
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help="For a profile of your own: the profile that has as much data."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="A short table, as in the README.")] = False,
) -> None:
    """What a run would take, stage by stage: operations, memory, disk, data sets, hours. Nothing is run.

    Without --card or --gpus hours are those of two CPU cores, as they were measured. A stage's operations are counted
    on its real model with tensors that have no data.
    """
    import sys

    from vlpnb.course import open_run
    from vlpnb.course import plan as module
    from vlpnb.course import plan_table as tables

    wanted = module.known_systems(systems or [])
    on = module.machine(card, gpus, memory, rate, utilisation, float32)
    run = open_run(profile, None, settings or "")
    data = module.sizes(run.profile.name, like)
    watched = sys.stderr.isatty()

    def say(line: str) -> None:
        if watched:
            print(f"\r{line[:100]:<100}", end="", file=sys.stderr, flush=True)

    found = module.make_plan(run, wanted, data, on, say)
    if watched:
        print(f"\r{'':<100}\r", end="", file=sys.stderr)
    sets = module.data_sets(run.profile.name, wanted)
    if as_json:
        print(module.to_json(found, on, run.profile.name, sets))
    elif markdown:
        print(tables.short(found, on, run.profile.name))
    else:
        print(tables.whole(found, on, run.profile.name, sets))
