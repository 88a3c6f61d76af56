"""The inputs of VLP's training without a world: invented regions that tell what they show, captions, text."""

import json
from pathlib import Path

import numpy as np

from vlpnb.data.description import CaptionData, CaptionFiles, TextData
from vlpnb.data.region_store import RegionStore, write_store_of
from vlpnb.data.regions import PictureRegions
from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vlp.pretraining import PRETRAINING, PretrainingConfig

COLOURS = ("red", "green", "blue", "white", "black")
KINDS = ("cat", "dog", "car", "cup")
WIDTH = 12
PUBLIC = {"train": "train", "valid": "val", "test": "test"}
TINY = {
    "size": "tiny", "text_length": 10, "batch": 16, "micro_batch": 16, "updates": 6, "warmup": 0.2, "lr": 1e-3,
    "init_std": 0.125, "dropout": 0, "evaluations": 2, "log_every": 2, "optimiser": "adamw",
}  # fmt: skip


def number(image_id: str) -> int:
    return int("".join(c for c in image_id if c.isdigit()))


def sentences(image_id: str) -> list[str]:
    """Two captions of a picture, of different length."""
    i = number(image_id)
    colour, kind = COLOURS[i % 5], KINDS[i % 4]
    return [f"the {kind} is {colour}", f"a {colour} {kind} is here ."]


def regions(image_id: str) -> PictureRegions:
    """The thing (its colour and kind as ones in the feature) and 0 to 2 other regions, with probabilities."""
    i = number(image_id)
    random = np.random.default_rng([len(image_id), i])
    n = 1 + i % 3
    features = random.random((n, WIDTH), np.float32) * 0.1
    features[0, i % 5] = features[0, 5 + i % 4] = 1.0
    corners = np.sort(random.random((n, 2, 2), np.float32), axis=1).reshape(n, 4) * 90
    chances = np.full((n, 1 + len(KINDS)), 0.05, np.float32)
    chances[np.arange(n), np.where(np.arange(n) == 0, 1 + i % 4, 0)] = 0.8
    kinds = np.where(np.arange(n) == 0, i % 4, -1)
    sure, none = np.where(kinds >= 0, 0.8, 0).astype(np.float32), np.full(n, -1)
    zero = np.zeros(n, np.float32)
    return PictureRegions(image_id, 90, 90, corners, features, kinds, sure, none, zero, chances)


def store(folder: Path, ids: list[str]) -> RegionStore:
    return write_store_of(folder, [regions(name) for name in ids], KINDS)


def make(root: Path, train: int = 60, valid: int = 20, test: int = 8, missing: int = 0) -> dict[str, Path]:
    """Folders of the stages `captions`, `text`, `regions` and `language`; `missing` training pictures have no regions.

    The captions' set `conceptual` has one caption of every training picture.
    """
    root.mkdir(parents=True, exist_ok=True)
    counts = {"train": train, "valid": valid, "test": test}
    ids = {split: [f"{split}{i}" for i in range(count)] for split, count in counts.items()}
    files = {name: root / f"{name}.json" for name in ("dataset", "conceptual")}
    images = [
        {"filename": f"{image}.jpg", "split": PUBLIC[split], "imgid": number(image),
         "sentences": [{"raw": said} for said in sentences(image)]}
        for split in counts
        for image in ids[split]
    ]  # fmt: skip
    files["dataset"].write_text(json.dumps({"images": images}))
    rows = [{"id": i, "file_name": f"{image}.jpg"} for i, image in enumerate(ids["train"])]
    said = [{"image_id": i, "caption": sentences(image)[0]} for i, image in enumerate(ids["train"])]
    files["conceptual"].write_text(json.dumps({"images": rows, "annotations": said}))
    splits = CaptionFiles("karpathy", dict.fromkeys(counts, (files["dataset"],)), str(root))
    conceptual = CaptionFiles("coco", {"conceptual": (files["conceptual"],)}, str(root))
    (root / "captions").mkdir()
    CaptionData(root, splits, {"conceptual": conceptual}).save(root / "captions")
    write_text(root, {split: [said for name in ids[split] for said in sentences(name)] for split in counts})
    store(root / "regions", [name for split in counts for name in ids[split]][missing:])
    words = " ".join((*COLOURS, *KINDS, "the is a here ."))
    train_wordpiece([words] * 5, 200, root / "language" / "model")
    return {name: root / name for name in ("captions", "text", "regions", "language")}


def write_text(root: Path, lines: dict[str, list[str]], images: dict[str, list[str]] | None = None) -> None:
    """The stage `text`, with a list of the training lines' images if any."""
    (root / "text").mkdir(exist_ok=True)
    paths = {}
    for split in ("train", "valid"):
        paths[split] = (root / f"{split}.txt",)
        paths[split][0].write_text("".join(f"{line}\n" for line in lines[split]))
    lists = ()
    if images:
        lists = (root / "images.txt",)
        lists[0].write_text("".join(f"{name}.jpg\n" for name in images["train"]))
    TextData(root, "none", **paths, images=lists).save(root / "text")


def context(inputs: dict[str, Path], folder: Path, said: list[str] | None = None, **settings) -> StageContext:
    """The stage's context, with small settings."""
    folder.mkdir(parents=True, exist_ok=True)
    config = PretrainingConfig(**TINY | settings)
    wanted = PRETRAINING.inputs(config)
    given = {name: path for name, path in inputs.items() if name in wanted}
    return StageContext(config, folder, given, "cpu", say=(said if said is not None else []).append)


def pretrain(
    inputs: dict[str, Path], folder: Path, said: list[str] | None = None, **settings
) -> dict[str, float]:
    """Run the stage."""
    return PRETRAINING.run(context(inputs, folder, said, **settings))
