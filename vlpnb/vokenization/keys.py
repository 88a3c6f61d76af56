"""Keys: the vectors of all pictures that may become vokens.

One set of files per image set, in the original project's layout (`vlpnb.foundations.picture_keys`). A path is relative
to the root of the stage `pictures`, which `keys.json` names, so that run and data may be moved; without that file it is
as it is. The dictionary of vokens is the sets one after the other, up to `max_images` readable pictures.

| `source` | row |
|---|---|
| `matcher` | the unit vector of the matcher's g: what tokens are compared with |
| `backbone` | the vision backbone's features before its classifier, not normalised, from the whole picture |

The second kind is what the regression to image features and the contrast with them may predict. It goes
one picture at a time, because each keeps its own shape; pictures are skipped by the same rule, so that the rows of
both kinds name the same pictures.

Differs from the original: a given id list is really compared and the first difference is named (VOK-08).
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from vlpnb.config import Config
from vlpnb.data.description import load_pictures, place_of, within
from vlpnb.data.fields import text_field
from vlpnb.data.store import check_finite, open_checked
from vlpnb.data.text_files import compare_ids, lines_of, read_json
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.foundations.features import read_backbones
from vlpnb.foundations.picture_keys import BackboneFeatures, PictureEncoder, Source, extract_keys
from vlpnb.outside import OutsidePath
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.vokenization.matcher import load_matcher

ORIGIN = "keys.json"


@dataclass(frozen=True)
class Keys:
    """The voken dictionary: `vectors` [V, d], and the id, path and image set of each."""

    vectors: Float[Tensor, "V d"]
    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    sets: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """`<image set>/<image id>` of each: the lines of a voken file's `.ids`."""
        return [f"{group}/{name}" for group, name in zip(self.sets, self.ids, strict=True)]


def key_files(folder: Path, sets: Sequence[str] = ()) -> list[Path]:
    """The `<set>.hdf5` of a keys folder in alphabetical order; UserError if there are none."""
    found = [Path(folder) / f"{name}.hdf5" for name in sorted(sets)] or sorted(
        Path(folder).glob("*.hdf5"), key=lambda path: path.stem
    )
    if not found:
        raise UserError(f"{folder} holds no keys; expected <image set>.hdf5, .ids and .path")
    return found


def load_keys(
    folder: Path, sets: Sequence[str] = (), limit: int | None = None, source: Source | None = "matcher"
) -> Keys:
    """The voken dictionary of a folder, written here or by the original project.

    Args:
        sets: image sets to read; empty: all in the folder. They come in alphabetical order in any case.
        limit: only the first so many rows (the original's `max_img_num`).
        source: what the rows must be, where the file says it; None: either.
    Raises:
        UserError: a file is missing, is no such file, holds the other kind of rows, or the files of a set do not
            fit each other.
    """
    vectors, ids, paths, owners = [], [], [], []
    root = _root(Path(folder))
    for path in key_files(folder, sets):
        with open_checked(path, ["keys"]) as file:
            rows, found = file["keys"], file.attrs.get("source", source)
            if source is not None and found != source:
                raise UserError(
                    f"{path}: its rows come from the {found}, expected from the {source}; set "
                    f"vokenization.keys.source to {source} (vokenization.pretraining.image_features chooses)"
                )
            if rows.ndim != 2 or rows.dtype.kind != "f" or (vectors and rows.shape[1] != vectors[0].shape[1]):
                expected = f"[V, {vectors[0].shape[1]}]" if vectors else "[V, d]"
                raise UserError(
                    f"{path}: keys are {rows.dtype} {list(rows.shape)}; expected floats {expected}"
                )
            unit = file.attrs.get("source") == "matcher"  # other projects' files promise nothing
            vectors.append(torch.from_numpy(check_finite(rows[()], path, unit)).float())
        names = [text for _, text in lines_of(path.with_suffix(".ids"), "one picture id a line")]
        places = [root / text for _, text in lines_of(path.with_suffix(".path"), "one picture path a line")]
        if not len(vectors[-1]) == len(names) == len(places):
            raise UserError(
                f"{path}: {len(vectors[-1])} keys, {len(names)} ids and {len(places)} paths; expected as many "
                "of each: run `keys` again"
            )
        ids += names
        paths += places
        owners += [path.stem] * len(names)
    return Keys(torch.cat(vectors)[:limit], tuple(ids[:limit]), tuple(paths[:limit]), tuple(owners[:limit]))


def _root(folder: Path) -> Path:
    """Where the paths of a keys folder begin; nowhere for those of other projects."""
    origin = folder / ORIGIN
    if not origin.is_file():
        return Path()
    about = read_json(origin, "where the pictures of the keys are described")
    return place_of(folder / text_field(about, "pictures", str(origin)), "pictures")


def voken_features(folder: Path, ids: Path, source: Source = "matcher") -> Float[Tensor, "V d"]:
    """The keys of a folder as features of vokens: row v belongs to voken v.

    Args:
        ids: the list of `<image set>/<image id>` beside a voken file.
        source: of the keys.
    Raises:
        UserError: the rows are not those pictures in that order (the first difference is named), or as in
            `load_keys`.
    """
    keys = load_keys(folder, source=source)
    compare_ids(keys.names, ids, f"the keys in {folder}")
    return keys.vectors


class KeysConfig(Config):
    """Which pictures become vokens."""

    source: Source = "matcher"
    """The matcher's unit vectors, or the bare vision backbone's features."""
    max_images: int | None = Field(50_000, ge=1)
    """The first readable pictures; none: all (the paper's V is 50,000)."""
    ids: OutsidePath = ""
    """Ids that the pictures must equal: a file, one a line, or a folder of <set>.ids; empty: none."""
    batch: int = Field(32, ge=1, json_schema_extra={"hash": False})
    """Pictures per forward pass."""
    shard: int = Field(512, ge=1, json_schema_extra={"hash": False})
    """Pictures per shard."""


def run_keys(context: StageContext) -> dict[str, float]:
    """Encode the image universe. Metrics: `vokens` (V) and `broken`."""
    config: KeysConfig = context.config
    pictures = load_pictures(context.inputs["pictures"])
    about = {"pictures": os.path.relpath(context.inputs["pictures"], context.folder)}
    if context.rank == 0:
        write_text(context.folder / ORIGIN, json.dumps(about) + "\n")
    encoder: PictureEncoder
    batch = config.batch
    if config.source == "matcher":
        encoder = load_matcher(context.inputs["matching"], context.device)
    else:
        vision = read_backbones(context.inputs["features"]).open_vision()
        encoder, batch = BackboneFeatures(vision.fuse().to(context.device)), 1  # each has a shape of its own
    broken = extract_keys(
        encoder, pictures.sets(), context.folder, limit=config.max_images, batch=batch, shard=config.shard,
        source=config.source, rank=context.rank, world_size=context.world_size, progress=context.progress,
        place=partial(within, root=pictures.root),
    )  # fmt: skip
    keys = load_keys(context.folder, source=config.source)
    if config.ids:
        _compare(keys, Path(config.ids))
    if broken:
        context.log(f"{broken} pictures cannot be read and are no vokens (listed in broken.txt)")
    names = sorted(set(keys.sets))
    counts = {f"vokens_{name}": float(keys.sets.count(name)) for name in names} if len(names) > 1 else {}
    return {"vokens": float(len(keys.ids)), "broken": float(broken), **counts}


def _compare(keys: Keys, expected: Path) -> None:
    """The ids against one list of all of them, or against a folder with a list `<set>.ids` for each set."""
    if not expected.is_dir():
        return compare_ids(keys.ids, expected)
    for name in sorted(set(keys.sets)):
        compare_ids(
            [i for i, owner in zip(keys.ids, keys.sets, strict=True) if owner == name],
            expected / f"{name}.ids",
        )


def inputs(config: KeysConfig) -> dict[str, Request]:
    """A trained matcher; of the bare backbone only the name, which an empty cache says too."""
    if config.source == "matcher":
        encoder = {"matching": Request("vokenization.matching")}
    else:
        encoder = {"features": Request("features", {"cache": False})}
    return encoder | {"pictures": Request("pictures")}


KEYS = Stage(
    "vokenization.keys", KeysConfig, run_keys, inputs, variant=("source",), distributed=True,
    doc="Encode the pictures that may become vokens.",
)  # fmt: skip
