"""Stage `picture_vectors`: the database of pictures, each as one vector that queries find and one that the model reads.

Paper: VaLM (Wang et al. 2023, section 2.2) runs CLIP's picture tower once over 191 million pictures of LAION and keeps
768 numbers of each; pixels are not read again. Here a database is made of the captioned pictures of a run, of any
pictures that the stage `pictures` names (such as a folder's), or of vectors that the original project has computed.

Differs from the original: what is searched is unit (VAL-22), and what the model reads may be something else, the
features of the picture tower before they were projected. A picture that cannot be read is left out, counted and listed.
Work is cut in shards (`data/shards.py`). With `index` an approximate index is built beside the vectors.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch.nn.functional import normalize

from vlpnb.config import Config, Name
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import SPLITS, load_captions, load_pictures, place_of, within
from vlpnb.data.fields import text_field
from vlpnb.data.images import BrokenImage, decoded, none_readable
from vlpnb.data.shards import Shards
from vlpnb.data.store import check_finite
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.foundations.tower_pair import ImageTower, load_towers
from vlpnb.outside import OutsidePath
from vlpnb.retrieval.faiss_index import INDEX, IndexPlan, build_for, save_index, sizes_for
from vlpnb.retrieval.original import open_maps, part_files, read_part
from vlpnb.retrieval.store import STORE, StoreMeta, VectorStore, join_store
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.train.distributed import barrier

ORIGIN = "origin.json"  # whose pictures they are
Source = Literal["captions", "pictures", "original"]
Precision = Literal["float16", "float32"]


class OriginalVectors(Config):
    """Vectors that the original project's encoder has computed: parts, or two maps of all."""

    parts: OutsidePath = ""
    """Folder of parts, mappings with `image_feats` and `image_names`."""
    keys: OutsidePath = ""
    """Map of all vectors, float16 without a header."""
    vals: OutsidePath = ""
    """Map of the pictures' numbers, int64 without a header."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "OriginalVectors":
        if bool(self.keys) != bool(self.vals) or (self.keys and self.parts):
            raise ValueError("give either parts, or both keys and vals")
        return self


class PictureVectorsConfig(Config):
    """Which pictures can be retrieved, and what is kept of them."""

    source: Source = "captions"
    """The captioned pictures of `sets`, those of the stage `pictures`, or vectors of the original project."""
    sets: tuple[Name, ...] = ("train",)
    """Splits or sets of captioned pictures."""
    captions: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `captions` that are other than the run's."""
    pictures: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `pictures` that are other than the run's, such as `root` and `sets` for a folder."""
    skip: int = Field(0, ge=0)
    """Leave out the first pictures, such as those that the training text describes."""
    max_images: int | None = Field(None, ge=1)
    """At most so many of the others; none: all."""
    values: Literal["features", "vectors"] = "features"
    """What a model reads: the features of the picture tower, or the vectors that are searched."""
    dtype: Precision = "float16"
    """Of what is stored."""
    index: Literal["exact", "sizes", "ivf", "ivf_pq"] = "exact"
    """No index; one by the rule of sizes; or one of that kind, whatever the size."""
    cells: int = Field(0, ge=0)
    """Of an index of a given kind; 0: by the rule of sizes."""
    codes: int = Field(0, ge=0)
    """Bytes of a code of an index `ivf_pq`; 0: by the rule of sizes."""
    seed: int = Field(1, ge=0, lt=2**31)
    """Of the vectors that an index learns from."""
    original: OriginalVectors = OriginalVectors()
    """Vectors that the original project has computed."""
    batch: int = Field(32, ge=1, json_schema_extra={"hash": False})
    """Pictures per forward pass."""
    shard: int = Field(512, ge=1, json_schema_extra={"hash": False})
    """Pictures per shard."""

    @model_validator(mode="after")
    def _vectors_named(self) -> "PictureVectorsConfig":
        if (self.source == "original") != bool(self.original.parts or self.original.keys):
            raise ValueError("source: `original` and the files of `original` belong together")
        return self


def inputs(config: PictureVectorsConfig) -> Mapping[str, Request]:
    """The towers, and the stage that says where the pictures are."""
    needed = {"towers": Request("towers")}
    if config.source == "captions":
        further = {} if {*config.sets} - {*SPLITS} else {"sets": None}  # which are then read by nothing here
        needed["captions"] = Request("captions", further | config.captions)
    elif config.source == "pictures":
        needed["pictures"] = Request("pictures", config.pictures)
    return needed


def listed(config: PictureVectorsConfig, folders: Mapping[str, Path]) -> tuple[list[CaptionedImage], Path]:
    """The pictures of the database, each once, with the root of their paths.

    A picture that several sets name has the captions of all of them.
    """
    if config.source == "captions":
        data = load_captions(folders["captions"])
        found, root = [image for name in config.sets for image in data.captioned(name)], data.root
    else:
        pictures = load_pictures(folders["pictures"])
        found, root = pictures.images(), pictures.root
    distinct: dict[Path, CaptionedImage] = {}
    for image in found:
        known = distinct.get(image.path)
        sentences = known.sentences + image.sentences if known else image.sentences
        distinct[image.path] = CaptionedImage(image.image_id, image.path, sentences)
    most = None if config.max_images is None else config.skip + config.max_images
    kept = list(distinct.values())[config.skip : most]
    if not kept:
        raise UserError(
            f"picture_vectors: no picture is left of {len(distinct):,} after the first {config.skip:,} (`skip`); "
            "expected at least one"
        )
    return kept, root


@dataclass(frozen=True)
class _Work:
    """What of a database is made unit by unit: sizes of the units, and how one is made."""

    sizes: list[int]
    about: Any  # what it depends on
    unit: Callable[[int], tuple[dict[str, np.ndarray], dict[str, list]]]


def _arrays(config: PictureVectorsConfig, vectors: np.ndarray, values: np.ndarray | None, where: str) -> dict:
    """What is stored of some vectors that are not unit yet, and of what the model reads."""
    check_finite(vectors, where)
    lengths = np.linalg.norm(vectors, axis=1)
    if not lengths.all():
        raise UserError(
            f"{where}: vector {int(lengths.argmin()):,} is zero, which is like nothing; expected a direction"
        )
    kept = {"vectors": normalize(torch.from_numpy(vectors).double(), dim=1).numpy().astype(config.dtype)}
    if config.values == "features" and values is not None:
        with np.errstate(over="ignore"):
            kept["values"] = check_finite(values.astype(config.dtype), f"{where}, as {config.dtype}")
    return kept


def _pictures(config: PictureVectorsConfig, images: Sequence[CaptionedImage], tower: ImageTower) -> _Work:
    """Pictures through the tower."""
    firsts = [*range(0, len(images), config.shard), len(images)]

    def unit(i: int) -> tuple[dict[str, np.ndarray], dict[str, list]]:
        first, last = firsts[i : i + 2]
        kept: list[int] = []
        broken: list[tuple[int, str]] = []
        features, waiting = [], []
        paths = [image.path for image in images[first:last]]
        for place, found in enumerate(decoded(paths, lambda _, picture: tower.pixels(picture)), first):
            if isinstance(found, BrokenImage):
                broken.append((place, found.reason))
                continue
            kept.append(place)
            waiting.append(found)
            if len(waiting) == config.batch:
                features.append(tower.features(torch.stack(waiting)))
                waiting = []
        if waiting:
            features.append(tower.features(torch.stack(waiting)))
        notes = {"kept": kept, "broken": broken}
        if not kept:
            return {}, notes
        values = torch.cat(features)
        vectors = tower.joint(values).numpy()
        where = f"{images[kept[0]].path} … {images[kept[-1]].path}"
        return _arrays(config, vectors, values.numpy(), where), notes

    names = [image.image_id for image in images]
    return _Work(np.diff(firsts).tolist(), names, unit)


def _original(config: PictureVectorsConfig, width: int) -> _Work:
    """Vectors that are there already; of the maps as many at a time as a part of them is to have."""
    source = config.original
    most = slice(config.skip, None if config.max_images is None else config.skip + config.max_images)
    if source.parts:
        files = part_files(Path(source.parts))
        if most != slice(0, None):
            raise UserError(
                "picture_vectors: `skip` and `max_images` are for pictures; leave out files of parts instead"
            )

        def unit(i: int) -> tuple[dict[str, np.ndarray], dict[str, list]]:
            vectors, names = read_part(files[i], width)
            return _arrays(config, vectors, vectors, str(files[i])), {"ids": names}

        return _Work([path.stat().st_size for path in files], [path.name for path in files], unit)
    maps = open_maps(Path(source.keys), Path(source.vals), width)
    first, last, _ = most.indices(len(maps))
    step = max(config.shard, 1 << 16)
    firsts = [*range(first, last, step), last]

    def rows(i: int) -> tuple[dict[str, np.ndarray], dict[str, list]]:
        vectors, names = maps.part(*firsts[i : i + 2])
        return _arrays(config, vectors, vectors, f"{source.keys} from row {firsts[i]:,}"), {
            "ids": list(names)
        }

    return _Work(np.diff(firsts).tolist(), [first, last], rows)


def run(context: StageContext) -> dict[str, float]:
    """Write the store. Metrics: `images` (N), `broken`, and the bytes of an index."""
    config: PictureVectorsConfig = context.config
    towers = load_towers(context.inputs["towers"], context.device)
    images, root = ([], Path()) if config.source == "original" else listed(config, context.inputs)
    work = _pictures(config, images, towers.image) if images else _original(config, towers.image.width)
    about = [towers.hash, work.about, config.source, config.values, config.dtype]
    shards = Shards(
        context.folder / "checkpoint-images", sha256(json.dumps(about).encode()).hexdigest(), work.sizes,
        context.rank, context.world_size, context.progress,
    )  # fmt: skip
    if not shards.complete(context.folder / STORE):
        shards.make(work.unit)
        notes = shards.notes()
        kept = [images[i] for i in notes.get("kept", [])]
        broken = [(within(images[i].path, root), reason) for i, reason in notes.get("broken", [])]
        if images and not kept:
            shards.publish(lambda: None)
            raise none_readable("picture_vectors", [image.path for image in images], broken)
        ids = [image.image_id for image in kept] if images else notes.get("ids", [])

        def meta(count: int, width: int, kind: str, value_width: int, hash: str) -> StoreMeta:
            name = "features of the picture tower" if value_width else ""
            return StoreMeta(
                towers.name, towers.hash, width, count, kind, True, "ip", name, value_width, hash
            )

        def write() -> None:
            write_text(context.folder / "broken.txt", "".join(f"{path}\t{why}\n" for path, why in broken))
            if images:
                about = {"stage": config.source, "folder": _relative(context)}
                write_text(context.folder / ORIGIN, json.dumps(about) + "\n")
            captions = [image.sentences for image in kept] if any(image.sentences for image in kept) else None
            paths = [within(image.path, root) for image in kept] if images else None
            join_store(shards, context.folder, meta, ids, captions, paths)

        shards.publish(write)
    store = VectorStore(context.folder)
    lines = (context.folder / "broken.txt").read_text(encoding="utf-8").splitlines()
    if lines:
        context.log(
            f"{len(lines):,} pictures cannot be read and are left out (listed in broken.txt): {lines[0]} …"
        )
    metrics = {"images": float(len(store)), "broken": float(len(lines))}
    if config.index != "exact" and context.rank == 0:
        metrics["index_bytes"] = _build_index(config, store, context.folder / INDEX)
        context.log(f"index of {len(store):,} vectors: {metrics['index_bytes'] / 1e6:,.1f} MB")
    barrier(context.world_size)
    return metrics


def _relative(context: StageContext) -> str:
    return os.path.relpath(context.inputs[context.config.source], context.folder)


def plan_of(config: PictureVectorsConfig, count: int, width: int) -> IndexPlan:
    """The index that a configuration means, for so many vectors of such a width."""
    by_size = sizes_for(count, width)
    if config.index in ("exact", "sizes"):
        return by_size
    cells = config.cells or max(1, min(int(4 * count**0.5), count // 39))
    codes = config.codes or sizes_for(10**6, width).codes
    return IndexPlan(config.index, cells, codes if config.index == "ivf_pq" else 0)


def _build_index(config: PictureVectorsConfig, store: VectorStore, path: Path) -> float:
    plan = plan_of(config, len(store), store.meta.width)
    if not path.is_file():
        save_index(build_for(store, plan, seed=config.seed), path, store, plan)
    return float(path.stat().st_size)


def picture_paths(folder: Path) -> list[Path]:
    """Where the pictures of a store lie on this machine. UserError for a store of vectors without pictures."""
    store = VectorStore(folder)
    if store.paths is None:
        raise UserError(f"{folder}: its vectors came without pictures, so that none can be shown")
    about = read_json(Path(folder) / ORIGIN, "whose pictures a store has")
    where = str(Path(folder) / ORIGIN)
    root = place_of(Path(folder) / text_field(about, "folder", where), text_field(about, "stage", where))
    return [root / place for place in store.paths]


PICTURE_VECTORS = Stage(
    "picture_vectors", PictureVectorsConfig, run, inputs, distributed=True,
    doc="Make the database of pictures that the language model looks up.",
)  # fmt: skip
