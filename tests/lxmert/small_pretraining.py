"""The inputs of the stage `lxmert.pretraining` without a world: invented regions that tell what they show."""

import json
from pathlib import Path

import numpy as np

from vlpnb.data.asked_data import SentenceData
from vlpnb.data.region_store import write_store_of
from vlpnb.data.regions import PictureRegions
from vlpnb.lxmert.pretraining import PRETRAINING, PretrainingConfig
from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import train_wordpiece

COLOURS = ("red", "green", "blue", "white", "black")
KINDS = ("cat", "dog", "car", "cup")
WIDTH = 12
TINY = {
    "size": "tiny", "cross_layers": 1, "text_length": 10, "batch": 16, "micro_batch": 16, "updates": 6, "warmup": 0.2,
    "lr": 1e-3, "init_std": 0.125, "dropout": 0, "evaluations": 2, "qa_start_epoch": 0, "log_every": 2,
}  # fmt: skip


def pictures(count: int, split: str) -> list[dict]:
    """LXMERT's entries: a caption, a region phrase and two questions about a coloured thing."""
    found = []
    for i in range(count):
        colour, kind = COLOURS[i % 5], KINDS[i % 4]
        found.append(
            {
                "img_id": f"{split}{i}",
                "sentf": {
                    "mscoco": [f"the {kind} is {colour} ."],
                    "vg": [f"{colour} {kind}"],
                    "vqa": [f"is the {kind} {colour} ?", f"what color is the {kind} ?"],
                },
                "labelf": {"vqa": [{"Yes": 1.0, "no": 0.3}, {f"a {colour}": 1.0}]},
            }
        )
    return found


def regions(image_id: str, seen: int) -> PictureRegions:
    """The thing (its colour and kind as ones in the feature) and 0 to 2 other regions."""
    i = int(image_id.removeprefix("train").removeprefix("valid"))
    random = np.random.default_rng([seen, i])
    n = 1 + i % 3
    features = random.random((n, WIDTH), np.float32) * 0.1
    features[0, i % 5] = features[0, 5 + i % 4] = 1.0
    corners = np.sort(random.random((n, 2, 2), np.float32), axis=1).reshape(n, 4) * 90
    kinds, colours = np.full(n, -1), np.full(n, -1)
    kinds[0], colours[0] = i % 4, i % 5
    sure = np.where(kinds >= 0, 0.9, 0).astype(np.float32)
    return PictureRegions(image_id, 90, 90, corners, features, kinds, sure, colours, sure)


def make(root: Path, train: int = 60, valid: int = 20, missing: int = 0) -> dict[str, Path]:
    """Folders of the stages `sentences`, `regions` and `language`; the first `missing` pictures have no regions."""
    answers = [{"ans": answer, "dsets": ["vqa"]} for answer in sorted(("yes", "no", *COLOURS))]
    (root / "all_ans.json").parent.mkdir(parents=True, exist_ok=True)
    (root / "all_ans.json").write_text(json.dumps(answers))
    files = {}
    for split, count in (("train", train), ("valid", valid)):
        files[split] = (root / f"{split}.json",)
        files[split][0].write_text(json.dumps(pictures(count, split)))
    (root / "sentences").mkdir()
    SentenceData(root, files, answers=root / "all_ans.json").save(root / "sentences")
    ids = [f"{split}{i}" for split, count in (("train", train), ("valid", valid)) for i in range(count)]
    write_store_of(root / "regions", [regions(name, 0) for name in ids[missing:]], KINDS, COLOURS)
    words = " ".join((*COLOURS, *KINDS, "the is a what color ? ."))
    train_wordpiece([words] * 5, 200, root / "language" / "model")
    return {name: root / name for name in ("sentences", "regions", "language")}


def context(inputs: dict[str, Path], folder: Path, said: list[str] | None = None, **settings) -> StageContext:
    """The stage's context, with small settings."""
    folder.mkdir(parents=True, exist_ok=True)
    config = PretrainingConfig(**TINY | settings)
    return StageContext(config, folder, inputs, "cpu", say=(said if said is not None else []).append)


def pretrain(
    inputs: dict[str, Path], folder: Path, said: list[str] | None = None, **settings
) -> dict[str, float]:
    """Run the stage."""
    return PRETRAINING.run(context(inputs, folder, said, **settings))
