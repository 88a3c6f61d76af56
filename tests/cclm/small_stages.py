"""A small set of pictures with sentences in three languages, and the stages of part 5 run on it without the engine."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.small import COLOURS, run_stage
from vlpnb.cclm.pretraining import PRETRAINING, PretrainingConfig
from vlpnb.cclm.retrieval import RETRIEVAL, RetrievalConfig
from vlpnb.foundations.multilingual import MULTILINGUAL
from vlpnb.foundations.multilingual_sources import CaptionSource, MultilingualConfig, ParallelSource
from vlpnb.foundations.patches import PATCHES, PatchesConfig
from vlpnb.foundations.pieces import PIECES, PiecesConfig
from vlpnb.foundations.region_text import REGION_TEXT, RegionTextConfig
from vlpnb.vision.backbones import save_backbone
from vlpnb.vision.small import SmallResNet

LANGUAGES = ("en", "de", "fr")
SAID = {
    "en": {"red": "red", "green": "green", "blue": "blue", "white": "white", "on": "a {} field on a {} wall"},
    "de": {"red": "rot", "green": "grün", "blue": "blau", "white": "weiß", "on": "ein Feld in {} auf einer Wand in {}"},
    "fr": {"red": "rouge", "green": "vert", "blue": "bleu", "white": "blanc", "on": "un champ {} sur un mur {}"},
}  # fmt: skip
COUNTS = {"train": 24, "valid": 8, "test": 8}
TINY = {
    "size": "tiny", "pictures_in": ("en",), "batch": 12, "fused": 6, "region_pictures": 6, "updates": 6, "warmup": 1,
    "optimiser": "adamw", "schedule": "linear", "lr": 1e-3, "dropout": 0.1, "init_std": 0.1, "evaluations": 2,
    "log_every": 1, "max_masks": 3, "parallel_max_masks": 3,
}  # fmt: skip


def sentence(language: str, field: str, wall: str) -> str:
    words = SAID[language]
    return words["on"].format(words[field], words[wall])


def write(root: Path) -> None:
    """Pictures of a field on a wall, with records, parallel lines and the field's box."""
    names, random = list(COLOURS), np.random.default_rng(0)
    for split, count in COUNTS.items():
        folder = root / "images" / split
        folder.mkdir(parents=True)
        records, regions, parallel = [], [], []
        for i in range(count):
            field, wall = names[i % 4], names[(i // 4 + i + 1) % 4]
            values = np.tile(np.array(COLOURS[wall]), (32, 32, 1))
            x, y = random.integers(0, 16, 2).tolist()
            values[y : y + 16, x : x + 16] = COLOURS[field]
            values = (values + random.integers(-10, 11, values.shape)).clip(0, 255)
            Image.fromarray(values.astype(np.uint8)).save(folder / f"{split}{i}.png")
            said = {language: sentence(language, field, wall) for language in LANGUAGES}
            records.append({"binary": f"{split}{i}.png", "caption": said})
            element = {"bb": [x, y, 16, 16], "caption": {k: SAID[k][field] for k in LANGUAGES}}
            regions.append({"binary": f"{split}{i}.png", "elems": [element], "caption": said})
            parallel.append(said)
        for name, rows in (("records", records), ("regions", regions)):
            (root / f"{name}_{split}.jsonl").write_text(
                "".join(json.dumps(row) + "\n" for row in rows), "utf-8"
            )
        for language in LANGUAGES:
            lines = "".join(f"{said[language]}\n" for said in parallel)
            (root / f"{split}.{language}").write_text(lines, "utf-8")


@dataclass
class Small:
    """Folders of the stages."""

    root: Path

    def inputs(self, *names: str) -> dict[str, Path]:
        return {name: self.root / name for name in names}

    def pretrain(self, folder: Path, **fields) -> dict[str, float]:
        config = PretrainingConfig(**(TINY | fields))
        names = ["multilingual", "pieces", "patches", *(["regions"] if "boxes" in config.losses else [])]
        return run_stage(PRETRAINING, config, folder, **self.inputs(*names))

    def retrieve(self, folder: Path, pretraining: Path, **fields) -> dict[str, float]:
        config = RetrievalConfig(**({"k": 3, "epochs": 0, "optimiser": "adamw", "seeds": (1,)} | fields))
        inputs = self.inputs("multilingual", "pieces", "patches")
        return run_stage(RETRIEVAL, config, folder, pretraining=pretraining, **inputs)


def make(root: Path) -> Small:
    """The data and the stages before the pre-training."""
    write(root)
    small = Small(root)
    captions = tuple(
        CaptionSource(format="records", files=(f"records_{split}.jsonl",), splits=(split,))
        for split in COUNTS
    )
    config = MultilingualConfig(
        root=str(root), languages=LANGUAGES, captions=captions,
        parallel=(ParallelSource(files=("train.{language}",)),),
    )  # fmt: skip
    run_stage(MULTILINGUAL, config, root / "multilingual")
    regions = RegionTextConfig(root=str(root), files={"train": "regions_train.jsonl"})
    run_stage(REGION_TEXT, regions, root / "regions")
    run_stage(PIECES, PiecesConfig(tokenizer="sentences", vocab_size=120), root / "pieces",
              multilingual=root / "multilingual")  # fmt: skip
    torch.manual_seed(0)
    (root / "vision").mkdir()
    save_backbone(root / "vision", SmallResNet((4, 8, 12), 2).eval(), (4, 8, 12), 32, ["a", "b"])
    run_stage(PATCHES, PatchesConfig(sources=("multilingual",), vision="stage"), root / "patches",
              multilingual=root / "multilingual", vision=root / "vision")  # fmt: skip
    return small
