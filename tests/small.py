"""A dataset of one-coloured pictures with captions, two tiny random backbones, and the stages run on them once."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vlpnb.data.description import CaptionData, CaptionFiles, PictureData, TextData
from vlpnb.foundations.features import FEATURES, FeaturesConfig
from vlpnb.nn.checkpoints import save_hf
from vlpnb.nn.transformer import Encoder, TransformerConfig
from vlpnb.stage import Stage, StageContext
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vision.backbones import save_backbone
from vlpnb.vision.small import SmallResNet
from vlpnb.vokenization.keys import KEYS, KeysConfig
from vlpnb.vokenization.matcher import MatchingConfig
from vlpnb.vokenization.matching import MATCHING

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 60, 220), "white": (240, 240, 240)}


def run_stage(stage: Stage, config, folder: Path, **inputs: Path) -> dict[str, float]:
    """One stage in a folder of its own, without the engine."""
    folder.mkdir(parents=True, exist_ok=True)
    return dict(
        stage.run(StageContext(config, folder, inputs, "cpu", name=stage.name, say=lambda line: None))
    )


def data_in(folder: Path) -> dict[str, Path]:
    """A folder that holds all descriptions, as the inputs of any stage."""
    return dict.fromkeys(("captions", "pictures", "text"), folder)


@dataclass
class Small:
    """Folders of the small dataset (all its descriptions are in one) and of the stages made from it."""

    root: Path
    dataset: Path
    language: Path
    vision: Path
    features: Path
    matching: Path
    keys: Path
    features_config: FeaturesConfig
    colours = COLOURS
    run = staticmethod(run_stage)
    data_in = staticmethod(data_in)

    @property
    def data(self) -> dict[str, Path]:
        """The small dataset as the inputs of any stage."""
        return data_in(self.dataset)


def write_pictures(root: Path) -> Path:
    """COCO captions for three splits, a universe folder with one broken picture, text, and their descriptions."""
    random = np.random.default_rng(0)
    for split, count in {"train": 16, "valid": 8, "test": 8, "universe": 10}.items():
        folder = root / "images" / split
        folder.mkdir(parents=True)
        images, annotations = [], []
        for i in range(count):
            name = list(COLOURS)[i % 4]
            values = np.array(COLOURS[name]) + random.integers(-15, 16, (30, 24, 3))
            Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / f"{split}{i}.png")
            images.append({"id": i, "file_name": f"{split}{i}.png"})
            for text in (f"a {name} picture .", f"everything is {name} here ."):
                annotations.append({"image_id": i, "caption": text})
        (root / f"{split}.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (root / "images" / "universe" / "universe3.png").write_bytes(b"not a picture")
    (root / "images" / "train" / "train5.png").write_bytes(b"\x89PNG cut short")
    lines = [f"the {a} thing and the {b} thing are here . it is {a} !" for a in COLOURS for b in COLOURS]
    (root / "text.raw").write_text("\n".join(lines) + "\n")
    (root / "dataset").mkdir()
    annotations = {split: (root / f"{split}.json",) for split in ("train", "valid", "test")}
    CaptionData(root, CaptionFiles("coco", annotations, str(root / "images/{split}"))).save(root / "dataset")
    PictureData(root, ("images/universe",)).save(root / "dataset")
    TextData(root, "none", (root / "text.raw",), (root / "text.raw",)).save(root / "dataset")
    return root / "dataset"


def make(root: Path) -> Small:
    """The dataset, the backbones and the stages in `root`."""
    dataset = write_pictures(root)
    torch.manual_seed(0)
    words = [f"a {c} picture . everything is here ! the thing and it are" for c in COLOURS]
    tokenizer = train_wordpiece(words * 5, 120, root / "words")
    config = TransformerConfig(
        vocab_size=len(tokenizer), hidden=16, layers=2, heads=2, ffn=32, max_positions=64, type_vocab=2
    )
    language = save_hf(root / "language", Encoder(config).eval(), tokenizer=tokenizer)
    vision = root / "vision"
    vision.mkdir()
    save_backbone(vision, SmallResNet((4, 4, 8), 3).eval(), (4, 4, 8), 16, list("abc"))
    features = FeaturesConfig(
        language=str(language), vision=str(vision), layers=(-2, -1), max_length=8, train_views=2, shard=5
    )
    folders = {name: root / name for name in ("features", "matching", "keys")}
    run_stage(FEATURES, features, folders["features"], **data_in(dataset))
    run_stage(
        MATCHING, MatchingConfig(epochs=40, batch=16, joint=8, dropout=0.0), folders["matching"],
        features=folders["features"],
    )  # fmt: skip
    run_stage(KEYS, KeysConfig(shard=4), folders["keys"], matching=folders["matching"], **data_in(dataset))
    return Small(root, dataset, language, vision, **folders, features_config=features)
