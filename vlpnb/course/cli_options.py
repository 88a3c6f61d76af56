"""The options that several commands have, and the run that they ask for."""

from pathlib import Path
from typing import Annotated

import typer

from vlpnb.course import ADDITION_NAMES, PROFILE_NAMES
from vlpnb.errors import UserError

ProfileOption = Annotated[
    str,
    typer.Option(
        help=f"{', '.join(PROFILE_NAMES)} (paper also +{', +'.join(ADDITION_NAMES)}), or a YAML file."
    ),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="STAGE.FIELD=VALUE", help="Override a field; repeatable.")
]
# torchrun takes `--run`, even behind the program's name, for an abbreviation of two options of its own
RunOption = Annotated[
    str | None,
    typer.Option("--run", "--run-name", help="Name of the run (default: the profile's)."),
]
OldRunOption = Annotated[str | None, typer.Option("--run", help="Name of the run (default: the last used).")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of the datasets; the same as --set data.root=FOLDER.")
]
DevicesOption = Annotated[int, typer.Option(min=1, help="Processes for the stages that can be distributed.")]


def open_asked(
    profile: str, run: str | None, settings: list[str] | None, folder: Path | None = None, devices: int = 1
):
    from vlpnb.config import merge, parse_settings
    from vlpnb.course import open_run

    values = parse_settings(settings or [])
    if folder is not None:
        folder = folder.expanduser().absolute()
        if not folder.is_dir():
            raise UserError(f"--data {folder}: no such folder")
        values = merge(values, {"data": {"root": str(folder)}})
    return open_run(profile, run, values, devices=devices)
