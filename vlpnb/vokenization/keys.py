"""Keys: the vectors of all pictures that may become vokens.

One set of files per image set, in the original project's layout: row i of `<set>.hdf5` (`keys`, float32,
contiguous) is the picture of line i of `<set>.ids` and `<set>.path`. A path is relative to the root of the stage
`pictures`, which `keys.json` names, so that run and data may be moved; without that file it is as it is. The
dictionary of vokens is the sets one after the other in alphabetical order of their names, up to `max_images`
readable pictures. A picture that cannot be decoded gets no row, and is listed.

| `source` | row |
|---|---|
| `matcher` | the unit vector of the matcher's g: what tokens are compared with |
| `backbone` | the vision backbone's features before its classifier, not normalised, from the whole picture |

The second kind is what the regression to image features and the contrast with them may predict. It goes
one picture at a time, because each keeps its own shape; pictures are skipped by the same rule, so that the rows of
both kinds name the same pictures.

Differs from the original: the work is cut in shards (`data/shards.py`); a given id list is really compared and the
first difference is named (VOK-08).
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import Field
from torch import Tensor

from vlpnb.config import Config
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import load_pictures, place_of, within
from vlpnb.data.fields import text_field
from vlpnb.data.images import BrokenImage, decoded
from vlpnb.data.shards import Shards
from vlpnb.data.store import check_finite, open_checked
from vlpnb.data.text_files import lines_of, read_json
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.foundations.features import picture_features, read_backbones
from vlpnb.outside import OutsidePath
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.vision.backbones import Backbone
from vlpnb.vision.transforms import bounded_view, to_pixels
from vlpnb.vokenization.matcher import load_matcher

Source = Literal["matcher", "backbone"]
NAME = "universe"
ORIGIN = "keys.json"
SHOWN = 100  # broken pictures that a store's attributes list; `broken.txt` lists all


@runtime_checkable
class PictureEncoder(Protocol):
    """What makes keys: a `Matcher`, or `BackboneFeatures`."""

    def pixels(self, picture: Image.Image) -> Tensor:
        """What is read of one RGB picture; called in any thread."""

    def keys_of(self, pixels: Sequence[Tensor]) -> Float[Tensor, "N d"]:
        """The vectors of some pictures."""


class BackboneFeatures:
    """A bare vision backbone as the maker of keys: each picture alone and whole (`bounded_view`)."""

    def __init__(self, vision: Backbone):
        self.vision = vision

    def pixels(self, picture: Image.Image) -> Float[Tensor, "3 H W"]:
        """One picture, shrunk and normalised."""
        return to_pixels(bounded_view(picture), self.vision.mean, self.vision.std)

    def keys_of(self, pixels: Sequence[Float[Tensor, "3 H W"]]) -> Float[Tensor, "N D"]:
        """Features on the host, float32.

        Raises:
            UserError: the backbone takes pictures of one size only, or a picture is too small for it.
        """
        return torch.cat([self._features(picture) for picture in pixels])

    def _features(self, pixels: Float[Tensor, "3 H W"]) -> Float[Tensor, "1 D"]:
        try:
            return picture_features(self.vision, [pixels])
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, ValueError) as error:
            _, height, width = pixels.shape
            raise UserError(
                f"vokenization.keys.source: the vision backbone cannot read {width} × {height} pixels "
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
    encoder: PictureEncoder,
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
    place: Callable[[Path], str] = str,
) -> int:
    """Write the keys of some pictures to `folder`; returns the number of pictures that could not be read.

    Shards of `shard` pictures stay in `checkpoint-keys` (the stage's end removes them): with them the keys of all sets
    are written again in no time.

    Args:
        images: by image set; a plain sequence is the one set `universe`.
        limit: stop after so many readable pictures, counted over the sets in alphabetical order.
        source: what `encoder` is, for the files' attribute.
        place: how the path of a picture is written down.
    """
    sets = images if isinstance(images, Mapping) else {NAME: images}
    flat = [(name, image) for name in sorted(sets) for image in sets[name]]
    wanted = len(flat) if limit is None else min(limit, len(flat))
    firsts = [*range(0, wanted, shard), *range(wanted, len(flat), shard), len(flat)]
    about = [source, [[name, image.image_id] for name, image in flat]]
    shards = Shards(
        folder / "checkpoint-keys", sha256(json.dumps(about).encode()).hexdigest(), np.diff(firsts).tolist(),
        rank, world_size, lambda done, total: progress(min(done, wanted), wanted),
    )  # fmt: skip
    unit = source == "matcher"
    shards.make(lambda i: _keys_of(encoder, flat, firsts[i], firsts[i + 1], batch, unit), wanted, of="keys")
    notes = shards.notes()
    kept = notes.get("kept", [])[:wanted]
    if not kept:
        shards.publish(lambda: None)  # so that they are made again once the pictures are there
        raise UserError(f"keys: none of the {len(flat)} pictures can be read; the first is {flat[0][1].path}")
    end = kept[-1] if len(kept) == wanted else len(flat)  # nobody asks for what is broken after the last one
    broken = [
        (flat[i][0], place(flat[i][1].path), reason) for i, reason in notes.get("broken", []) if i < end
    ]

    def write() -> None:
        for name, rows in groupby(range(len(kept)), lambda row: flat[kept[row]][0]):
            rows = list(rows)
            mine = [flat[kept[row]][1] for row in rows]
            write_text(folder / f"{name}.ids", "".join(f"{image.image_id}\n" for image in mine))
            write_text(folder / f"{name}.path", "".join(f"{place(image.path)}\n" for image in mine))
            unread = [row[1:] for row in broken if row[0] == name]
            kind = {"broken": unread[:SHOWN], "source": source}
            part = (rows[0], rows[-1] + 1)
            shards.join(folder / f"{name}.hdf5", "keys", kind, rows={"keys": part})
        if broken:
            text = "".join(f"{path}\t{reason}\n" for _, path, reason in broken)
            write_text(folder / "broken.txt", text)

    shards.publish(write, keep=True)
    return len(broken)


def _keys_of(
    encoder: PictureEncoder,
    flat: Sequence[tuple[str, CaptionedImage]],
    first: int,
    last: int,
    batch: int,
    unit: bool,
) -> tuple[dict[str, np.ndarray], dict[str, list]]:
    """The keys of the pictures [first, last), the numbers of those that can be read, and the others' reasons."""
    paths = [image.path for _, image in flat[first:last]]
    vectors: list[np.ndarray] = []
    kept: list[int] = []
    broken: list[tuple[int, str]] = []
    waiting: list[Tensor] = []

    def encode() -> None:
        try:
            found = encoder.keys_of(waiting).float().cpu().numpy()
            vectors.append(check_finite(found, "the vectors of these pictures", unit))
        except UserError as error:
            names = [str(flat[i][1].path) for i in (kept[-len(waiting)], kept[-1])]
            raise UserError(f"{' … '.join(dict.fromkeys(names))}: {error}") from error
        waiting.clear()

    for i, found in enumerate(decoded(paths, lambda _, picture: encoder.pixels(picture)), start=first):
        if isinstance(found, BrokenImage):
            broken.append((i, found.reason))
            continue
        kept.append(i)
        waiting.append(found)
        if len(waiting) == batch:
            encode()
    if waiting:
        encode()
    # Where all are broken, nothing knows the width.
    return {"keys": np.concatenate(vectors)} if vectors else {}, {"kept": kept, "broken": broken}


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
