"""Keys: the unit vectors of all pictures that may become vokens (spec section 4).

Row i of `universe.hdf5` (`keys`, float32, contiguous) is the picture of line i of `universe.ids` and
`universe.path`: the dictionary of vokens. The order is the dataset's; a picture that cannot be decoded gets
no row, and is listed.
Differs from the original: keys are written in shards and a killed extraction continues; a given id list is
really compared and the first difference is named (Q-08).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from vlpnb.config import Config
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import load_dataset
from vlpnb.data.files import lines_of, write_text_atomic
from vlpnb.data.images import BrokenImage, open_rgb
from vlpnb.data.store import attributes, open_checked, write_store
from vlpnb.errors import UserError
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.train.distributed import barrier
from vlpnb.vokenization.matching import Matcher, load_matcher

NAME = "universe"


@dataclass(frozen=True)
class Keys:
    """The voken dictionary: `vectors` [V, d], and the id and path of each."""

    vectors: Float[Tensor, "V d"]
    ids: tuple[str, ...]
    paths: tuple[Path, ...]


def load_keys(folder: Path, name: str = NAME) -> Keys:
    """Read `<name>.hdf5`, `.ids` and `.path`; UserError if one is missing or their lengths differ."""
    path = Path(folder) / f"{name}.hdf5"
    with open_checked(path, ["keys"]) as file:
        vectors = torch.from_numpy(file["keys"][()])
    ids = tuple(text for _, text in lines_of(path.with_suffix(".ids"), "one picture id a line"))
    paths = tuple(Path(text) for _, text in lines_of(path.with_suffix(".path"), "one picture path a line"))
    if not len(vectors) == len(ids) == len(paths):
        raise UserError(
            f"{path}: {len(vectors)} keys, {len(ids)} ids and {len(paths)} paths; run `keys` again"
        )
    return Keys(vectors, ids, paths)


def compare_ids(found: Sequence[str], expected: Path) -> None:
    """UserError naming the first difference between the ids found and a list that they must equal (Q-08)."""
    wanted = [text for _, text in lines_of(expected, "one picture id a line")]
    for i, (have, want) in enumerate(zip(found, wanted, strict=False), start=1):
        if have != want:
            raise UserError(f"{expected}:{i}: the list says {want!r}, the pictures give {have!r}")
    if len(found) != len(wanted):
        raise UserError(f"{expected}: the list has {len(wanted)} ids, the pictures give {len(found)}")


def extract_keys(
    matcher: Matcher,
    images: Sequence[CaptionedImage],
    folder: Path,
    *,
    batch: int = 32,
    shard: int = 512,
    name: str = NAME,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the keys of some pictures to `folder`, if they are not there; returns the number of pictures that
    could not be read.

    Shards of `shard` pictures in `checkpoint-keys` are kept when the process is killed; process r writes
    every r-th one.
    """
    target = folder / f"{name}.hdf5"  # written last
    if target.is_file():
        return len(attributes(target)["broken"])
    parts = folder / "checkpoint-keys"
    parts.mkdir(exist_ok=True)
    shards = []
    for i, first in enumerate(range(0, len(images), shard)):
        path = parts / f"{name}.{first:08d}.hdf5"
        shards.append(path)
        if i % world_size != rank or path.is_file():
            continue
        vectors, ids, paths, broken, waiting = [], [], [], [], []
        for image in images[first : first + shard]:
            try:
                waiting.append(open_rgb(image.path))
            except BrokenImage as error:
                broken.append([str(image.path), error.reason])
                continue
            ids.append(image.image_id)
            paths.append(str(image.path))
            if len(waiting) == batch:
                vectors.append(matcher.keys(waiting).cpu())
                waiting = []
        if waiting:
            vectors.append(matcher.keys(waiting).cpu())
        with write_store(path, "keys-shard", {"ids": ids, "paths": paths, "broken": broken}) as file:
            file["keys"] = torch.cat([*vectors, torch.empty(0, matcher.f[-1].out_features)]).float().numpy()
        progress(min(first + shard, len(images)), len(images))
    barrier(world_size)
    broken = []
    if rank == 0:
        ids, paths, rows = [], [], []
        for path in shards:
            about = attributes(path)
            ids += about["ids"]
            paths += about["paths"]
            broken += about["broken"]
            with open_checked(path, ["keys"]) as file:
                rows.append(file["keys"][()])
        if not ids:
            raise UserError(
                f"keys: none of the {len(images)} pictures can be read; the first is {images[0].path}"
            )
        for suffix, lines in ((".ids", ids), (".path", paths)):
            write_text_atomic((folder / name).with_suffix(suffix), "".join(f"{line}\n" for line in lines))
        with write_store(target, "keys", {"broken": broken}) as file:
            file["keys"] = np.concatenate(rows)
        for path in shards:
            path.unlink()
    barrier(world_size)
    return len(broken)


class KeysConfig(Config):
    """Which pictures become vokens."""

    max_images: int | None = 50_000  # the first pictures of the universe; none: all (the paper's V is 50,000)
    ids: str = ""  # a file with one id a line that the pictures must equal; empty: nothing to compare with
    batch: int = Field(32, ge=1, json_schema_extra={"hash": False})  # pictures per forward pass
    shard: int = Field(512, ge=1, json_schema_extra={"hash": False})  # pictures per shard


def run_keys(context: StageContext) -> dict[str, float]:
    """Encode the image universe. Metrics: `vokens` (V) and `broken`."""
    config: KeysConfig = context.config
    images = load_dataset(context.inputs["dataset"]).universe_images()[: config.max_images]
    matcher = load_matcher(context.inputs["matching"], context.device)
    broken = extract_keys(
        matcher, images, context.folder, batch=config.batch, shard=config.shard,
        rank=context.rank, world_size=context.world_size, progress=context.progress,
    )  # fmt: skip
    keys = load_keys(context.folder)
    if config.ids:
        compare_ids(keys.ids, Path(config.ids))
    if broken:
        context.log(f"{broken} of {len(images)} pictures cannot be read and are no vokens")
    return {"vokens": float(len(keys.ids)), "broken": float(broken)}


KEYS = Stage(
    "keys", KeysConfig, run_keys,
    lambda config: {"matching": Request("matching"), "dataset": Request("dataset")},
    distributed=True, doc="Encode the pictures that may become vokens.",
)  # fmt: skip
