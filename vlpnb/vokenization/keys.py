"""Keys: the vectors of all pictures that may become vokens.

One set of files per image set, in the original project's layout: row i of `<set>.hdf5` (`keys`, float32,
contiguous) is the picture of line i of `<set>.ids` and `<set>.path`. The dictionary of vokens is the sets one
after the other in alphabetical order of their names, up to `max_images` readable pictures. A picture that
cannot be decoded gets no row, and is listed.

| `source` | row |
|---|---|
| `matcher` | the unit vector of the matcher's g: what tokens are compared with |
| `backbone` | the vision backbone's features before its classifier, not normalised, from the whole picture |

The second kind is what the regression to image features and the contrast with them may predict. It goes
one picture at a time, because each keeps its own shape; pictures are skipped by the same rule, so that the rows of
both kinds name the same pictures.

Differs from the original: keys are written in shards and a killed extraction continues; a given id list is
really compared and the first difference is named (VOK-08).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import Field
from torch import Tensor

from vlpnb.config import Config
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import load_pictures
from vlpnb.data.images import BrokenImage, open_rgb
from vlpnb.data.store import check_finite, open_checked, write_store
from vlpnb.data.text_files import lines_of
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.foundations.features import picture_features, read_backbones
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.train.distributed import barrier
from vlpnb.vision.backbones import Backbone
from vlpnb.vision.transforms import bounded_view, to_pixels
from vlpnb.vokenization.matcher import load_matcher

Source = Literal["matcher", "backbone"]
NAME = "universe"
SHOWN = 100  # broken pictures that a store's attributes list; `broken.txt` lists all


class PictureEncoder(Protocol):
    """What makes keys: a `Matcher`, or `BackboneFeatures`."""

    def keys(self, pictures: Sequence[Image.Image]) -> Float[Tensor, "N d"]:
        """RGB pictures → their vectors."""


class BackboneFeatures:
    """A bare vision backbone as the maker of keys."""

    def __init__(self, vision: Backbone):
        self.vision = vision

    def keys(self, pictures: Sequence[Image.Image]) -> Float[Tensor, "N D"]:
        """Features of RGB pictures on the host, float32, each picture alone and whole (`bounded_view`).

        Raises:
            UserError: the backbone takes pictures of one size only, or a picture is too small for it.
        """
        return torch.cat([self._features(picture) for picture in pictures])

    def _features(self, picture: Image.Image) -> Float[Tensor, "1 D"]:
        view = bounded_view(picture)
        try:
            return picture_features(self.vision, [to_pixels(view, self.vision.mean, self.vision.std)])
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(
                f"vokenization.keys.source: the vision backbone cannot read {view.width} × {view.height} pixels "
                f"({error}); expected one that takes any size, such as a ResNet: change features.vision"
            ) from error


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
        places = [Path(text) for _, text in lines_of(path.with_suffix(".path"), "one picture path a line")]
        if not len(vectors[-1]) == len(names) == len(places):
            raise UserError(
                f"{path}: {len(vectors[-1])} keys, {len(names)} ids and {len(places)} paths; expected as many "
                "of each: run `keys` again"
            )
        ids += names
        paths += places
        owners += [path.stem] * len(names)
    return Keys(torch.cat(vectors)[:limit], tuple(ids[:limit]), tuple(paths[:limit]), tuple(owners[:limit]))


def compare_ids(found: Sequence[str], expected: Path, of: str = "the pictures") -> None:
    """UserError naming the first difference between the ids found and a list that they must equal (VOK-08)."""
    wanted = [text for _, text in lines_of(expected, "one picture id a line")]
    for i, (have, want) in enumerate(zip(found, wanted, strict=False), start=1):
        if have != want:
            raise UserError(f"{expected}:{i}: the list says {want!r}, {of} give {have!r}")
    if len(found) != len(wanted):
        raise UserError(f"{expected}: the list has {len(wanted)} ids, {of} give {len(found)}")


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


def extract_keys(
    matcher: PictureEncoder,
    images: Sequence[CaptionedImage] | Mapping[str, Sequence[CaptionedImage]],
    folder: Path,
    *,
    limit: int | None = None,
    batch: int = 32,
    shard: int = 512,
    source: Source = "matcher",
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the keys of some pictures to `folder`, if they are not there; returns the number of pictures that
    could not be read.

    Shards of `shard` pictures in `checkpoint-keys` are kept when the process is killed; process r writes
    every r-th one.

    Args:
        images: by image set; a plain sequence is the one set `universe`.
        limit: stop after so many readable pictures, counted over the sets in alphabetical order.
        source: what `matcher` is, for the files' attribute.
    """
    sets = images if isinstance(images, Mapping) else {NAME: images}
    flat = [(name, image) for name in sorted(sets) for image in sets[name]]
    wanted = len(flat) if limit is None else min(limit, len(flat))
    parts = folder / "checkpoint-keys"
    parts.mkdir(parents=True, exist_ok=True)
    shards: list[Path] = []
    taken = kept = 0
    while kept < wanted and taken < len(flat):  # again only where broken pictures left fewer than wanted
        end = min(len(flat), taken + wanted - kept)
        new = [parts / f"{first:08d}.hdf5" for first in range(taken, end, shard)]
        for first, path in zip(range(taken, end, shard), new, strict=True):
            if (len(shards) + new.index(path)) % world_size == rank and not path.is_file():
                _write_shard(path, matcher, flat[first : min(first + shard, end)], batch)
                progress(min(first + shard, end), len(flat) if limit is None else wanted)
        barrier(world_size)
        kept += sum(len(_read_shard(path)["rows"]) for path in new)
        shards, taken = shards + new, end
    broken = [row for path in shards for row in _read_shard(path)["broken"]]
    if not kept:
        raise UserError(f"keys: none of the {len(flat)} pictures can be read; the first is {flat[0][1].path}")
    barrier(world_size)  # all have read the shards
    if rank == 0:
        _join(shards, folder, broken, source)
    barrier(world_size)
    return len(broken)


def _write_shard(
    path: Path, matcher: PictureEncoder, images: Sequence[tuple[str, CaptionedImage]], batch: int
) -> None:
    vectors, rows, broken, waiting = [], [], [], []
    for name, image in images:
        try:
            waiting.append(open_rgb(image.path))
        except BrokenImage as error:
            broken.append([name, str(image.path), error.reason])
            continue
        rows.append([name, image.image_id, str(image.path)])
        if len(waiting) == batch:
            vectors.append(_encode(matcher, waiting, rows))
            waiting = []
    if waiting:
        vectors.append(_encode(matcher, waiting, rows))
    with write_store(path, "keys-shard") as file:  # a dataset, because HDF5 attributes end at 64 KiB
        file["about"] = json.dumps({"rows": rows, "broken": broken})
        if vectors:  # else all are broken, and nothing knows the width
            file["keys"] = torch.cat(vectors).float().numpy()


def _encode(
    encoder: PictureEncoder, pictures: Sequence[Image.Image], rows: Sequence[Sequence[str]]
) -> Float[Tensor, "N d"]:
    """The vectors of the pictures of the last rows, on the host."""
    try:
        found = encoder.keys(pictures).cpu()
        check_finite(found.float().numpy(), "the vectors of these pictures")
        return found
    except UserError as error:
        names = [row[2] for row in rows[-len(pictures) :]]
        raise UserError(f"{' … '.join(dict.fromkeys((names[0], names[-1])))}: {error}") from error


def _read_shard(path: Path) -> dict[str, list]:
    with open_checked(path, ["about"], "keys-shard") as file:
        return json.loads(file["about"].asstr()[()])


def _join(shards: Sequence[Path], folder: Path, broken: Sequence[Sequence[str]], source: Source) -> None:
    about, vectors = [], []
    for path in shards:
        rows = _read_shard(path)["rows"]
        if rows:
            about += rows
            with open_checked(path, ["keys"]) as file:
                vectors.append(file["keys"][()])
    keys = check_finite(np.concatenate(vectors), f"the keys for {folder}", unit=source == "matcher")
    owners = np.array([name for name, _, _ in about])
    for name in dict.fromkeys(owners.tolist()):
        mine = np.flatnonzero(owners == name)
        for suffix, column in ((".ids", 1), (".path", 2)):
            text = "".join(f"{about[i][column]}\n" for i in mine)
            write_text(folder / f"{name}{suffix}", text)
        unread = [row[1:] for row in broken if row[0] == name]
        kind = {"broken": unread[:SHOWN], "source": source}
        with write_store(folder / f"{name}.hdf5", "keys", kind) as file:
            file["keys"] = keys[mine]
    if broken:
        write_text(folder / "broken.txt", "".join(f"{path}\t{why}\n" for _, path, why in broken))
    for path in shards:
        path.unlink()


class KeysConfig(Config):
    """Which pictures become vokens."""

    source: Source = "matcher"  # the matcher's unit vectors, or the bare vision backbone's features
    max_images: int | None = Field(
        50_000, ge=1
    )  # the first readable pictures; none: all (the paper's V is 50,000)
    ids: str = (
        ""  # ids that the pictures must equal: a file, one a line, or a folder of <set>.ids; empty: none
    )
    batch: int = Field(32, ge=1, json_schema_extra={"hash": False})  # pictures per forward pass
    shard: int = Field(512, ge=1, json_schema_extra={"hash": False})  # pictures per shard


def run_keys(context: StageContext) -> dict[str, float]:
    """Encode the image universe. Metrics: `vokens` (V) and `broken`."""
    config: KeysConfig = context.config
    sets = load_pictures(context.inputs["pictures"]).sets()
    encoder: PictureEncoder
    batch = config.batch
    if config.source == "matcher":
        encoder = load_matcher(context.inputs["matching"], context.device)
    else:
        vision = read_backbones(context.inputs["features"]).open_vision()
        encoder, batch = BackboneFeatures(vision.fuse().to(context.device)), 1  # each has a shape of its own
    broken = extract_keys(
        encoder, sets, context.folder, limit=config.max_images, batch=batch, shard=config.shard,
        source=config.source, rank=context.rank, world_size=context.world_size, progress=context.progress,
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
