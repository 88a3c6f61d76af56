"""The course: profiles, pipeline, runner, reports, site and command line."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlpnb.stage import Run

CHECKOUT = Path(__file__).resolve().parents[2]
_PROFILES = Path(__file__).parent / "profiles"
PROFILE_NAMES = tuple(sorted(path.stem for path in _PROFILES.glob("*.yaml")))
"""The profiles that come with the package, for messages that must not wait for `vlpnb.config`."""
ADDITION_NAMES = tuple(sorted(path.stem for path in _PROFILES.glob("additions/*.yaml")))
"""What may follow a profile's name after a `+`."""


def data_root() -> Path:
    """Where datasets and runs live: `VLPNB_DATA`, else `data/` of the checkout, else `data/` here."""
    if os.environ.get("VLPNB_DATA"):
        return Path(os.environ["VLPNB_DATA"]).expanduser().absolute()
    return (CHECKOUT if (CHECKOUT / "notebooks").is_dir() else Path.cwd()) / "data"


def notebooks_folder() -> Path:
    """Where the notebooks lie: in the checkout, else in `notebooks/` here."""
    return (CHECKOUT if (CHECKOUT / "notebooks").is_dir() else Path.cwd()) / "notebooks"


def open_run(
    profile: str = "laptop",
    run: str | None = None,
    settings: str | Mapping[str, Any] | list[str] = "",
    root: str | Path | None = None,
    devices: int = 1,
    device: str = "auto",
) -> "Run":
    """Open the run of that name (the profile's, unless given) on the course's pipeline.

    Args:
        profile: one of `PROFILE_NAMES` (smoke, laptop, photos, paper), a combination (paper+wikipedia), or a YAML file.
        run: name of the folder under `data/runs`.
        settings: overrides, as `"vokenization.matching.epochs=3,vokenization.pretraining.seed=2"`, JSON or a mapping;
            `data.root` is the folder of real datasets, for all stages that describe one.
        root: the data folder; by default `VLPNB_DATA` or the checkout's `data/`.
        devices: processes for stages that can be distributed.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        UserError: unknown profile, stage or field, or an ill-typed value.
    """
    from vlpnb.config import parse_settings
    from vlpnb.foundations.datasets import with_root
    from vlpnb.stage import Run
    from vlpnb.stage.profiles import load_profile

    loaded = load_profile(profile)
    loaded = replace(loaded, stages=with_root(loaded.stages))
    runs = (Path(root) if root is not None else data_root()) / "runs"
    stages = "vlpnb.course.pipeline:STAGES"
    values = with_root(parse_settings(settings))
    return Run(runs, run or loaded.name, loaded, stages, values, device=device, devices=devices)
