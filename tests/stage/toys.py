"""Stages that read files from outside: `data` takes a folder's pictures, `model` reads weights, `last` needs both."""

from pathlib import Path

from pydantic import Field

from vlpnb.config import Config
from vlpnb.outside import ModelName, OutsidePath
from vlpnb.stage import Request, Run, Stage, StageContext
from vlpnb.stage.profiles import Profile


class DataConfig(Config):
    root: OutsidePath = ""
    limit: int = 100


class ModelConfig(Config):
    weights: ModelName = "published"
    scale: float = 1.0
    workers: int = Field(0, json_schema_extra={"hash": False})


def data(context: StageContext) -> dict[str, float]:
    names = sorted(path.name for path in Path(context.config.root).rglob("*.png"))[: context.config.limit]
    (context.folder / "names.txt").write_text("\n".join(names))
    return {"pictures": len(names)}


def model(context: StageContext) -> dict[str, float]:
    """Three snapshots and the weights, many small files in a folder of their own."""
    for i in range(3):
        (context.folder / f"snapshot-{i}").mkdir(exist_ok=True)
        (context.folder / f"snapshot-{i}" / "weights.bin").write_bytes(bytes([i]) * 1000)
    (context.folder / "pictures").mkdir(exist_ok=True)
    for i in range(60):
        (context.folder / "pictures" / f"{i}.png").write_bytes(bytes([i]) * 10)
    (context.folder / "checkpoint.pt").write_text("scratch")
    return {"scale": context.config.scale}


def last(context: StageContext) -> dict[str, float]:
    return {"pictures": len((context.inputs["data"] / "names.txt").read_text().split())}


def old_snapshots(names):
    """All but the newest."""
    snapshots = sorted({name.split("/")[0] for name in names if name.startswith("snapshot-")})
    return [name for name in names if name.split("/")[0] in snapshots[:-1]]


DATA = Stage("data", DataConfig, data)
MODEL = Stage("model", ModelConfig, model, variant=("scale",), spare=old_snapshots)
LAST = Stage("last", Config, last, inputs=lambda config: {"data": Request("data"), "model": Request("model")})
STAGES = (DATA, MODEL, LAST)


def toy_run(
    root: Path, lines: list[str] | None = None, stages=STAGES, profile="toy", name="r", **settings
) -> Run:
    """A run of them; its lines go into a list."""
    say = [].append if lines is None else lines.append
    return Run(root / "runs", name, Profile(profile), stages, settings, device="cpu", say=say)
