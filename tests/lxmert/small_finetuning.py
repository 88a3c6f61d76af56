"""The inputs of LXMERT's fine-tuning without a world: invented regions that tell what they show, questions, pairs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vlpnb.data.asked_data import PairData, QuestionData, QuestionFiles, answers_file
from vlpnb.data.region_store import write_store_of
from vlpnb.data.regions import PictureRegions
from vlpnb.lxmert.gqa import GQA, GqaConfig
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.model import LxmertConfig
from vlpnb.lxmert.nlvr2 import NLVR2, Nlvr2Config
from vlpnb.lxmert.original.weights import save_model
from vlpnb.lxmert.vqa import VQA, VqaConfig
from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import load_tokenizer, train_wordpiece

STAGES = {"vqa": (VQA, VqaConfig), "gqa": (GQA, GqaConfig), "nlvr2": (NLVR2, Nlvr2Config)}
COLOURS = ("red", "green", "blue", "white")
KINDS = ("cat", "dog", "car")
WIDTH = 8
ANSWERS = ("", "yes", "no", *COLOURS)
TABLE = ("blue", "green", "no", "red", "teapot", "yes")  # neither white nor the empty answer
SPLITS = {"train": 48, "valid": 16, "test": 8}
LEARNS = {"seeds": (1, 2), "epochs": 12, "batch": 16, "lr": 2e-3, "optimiser": "adamw"}
BRIEF = {"seeds": (3, 4), "epochs": 2, "batch": 8, "lr": 1e-3, "max_train": 24, "checkpoint_seconds": 0}


def shown(name: str) -> tuple[int, int]:
    """Colour and kind of the thing in a picture."""
    i = int("".join(c for c in name if c.isdigit()))
    return i % 4, i % 3


def regions(name: str) -> PictureRegions:
    """The thing (its colour and kind as ones in the feature) and 0 to 2 other regions."""
    i = int("".join(c for c in name if c.isdigit()))
    random = np.random.default_rng([len(name), i])
    n, (colour, kind) = 1 + i % 3, shown(name)
    features = random.random((n, WIDTH), np.float32) * 0.1
    features[0, colour] = features[0, 4 + kind] = 3.0
    corners = np.sort(random.random((n, 2, 2), np.float32), axis=1).reshape(n, 4) * 90
    none, sure = np.full(n, -1), np.zeros(n, np.float32)
    return PictureRegions(name, 90, 90, corners, features, none, sure, none, sure)


def questions(split: str, count: int, labels: bool = True) -> list[dict]:
    """LXMERT's questions: two about each picture, one of whose answers is softer; one in 16 is not in the list."""
    found = []
    for i in range(count):
        name = f"{split}{i}"
        colour, kind = shown(name)
        said = COLOURS[(colour + i // 4) % 4 if i % 2 else colour]
        for j, (text, answers) in enumerate(
            (
                (f"what color is the {KINDS[kind]} ?", {COLOURS[colour]: 1.0, "yes": 0.3}),
                (f"is the {KINDS[kind]} {said} ?", {"yes" if said == COLOURS[colour] else "no": 0.9}),
            )
        ):
            row = {"question_id": 10 * i + j, "img_id": name, "sent": text}
            row["answer_type"] = ("other", "yes/no")[j]
            if labels:
                row["label"] = {"crimson": 1.0} if split == "train" and i % 8 == 7 and j else answers
            found.append(row)
    return found


def statements(split: str, count: int) -> list[dict]:
    """LXMERT's form of NLVR2: whether the left picture shows a colour and the right one another."""
    found = []
    for i in range(2 * count):
        left, right = f"{split}{i % count}", f"{split}{(i * 5 + 1) % count}"
        true = i // 2 % 2 == 0
        colours = [COLOURS[shown(name)[0]] for name in (left, right)]
        said = colours[0] if true else COLOURS[(shown(left)[0] + 1 + i % 3) % 4]
        row = {"identifier": f"{split}-{i // 2}-{i % 2}-0", "img0": left, "img1": right, "label": int(true)}
        found.append({**row, "sent": f"the left thing is {said} .", "uid": f"{split}_{i}"})
    return found


def write_questions(root: Path, folder: Path, content: dict[str, list[dict]]) -> None:
    """The folder of a stage `questions` with these questions for both tasks, GQA's with ids of text."""
    tasks = {}
    for task in ("vqa", "gqa"):
        for split, rows in content.items():
            rows = (
                rows if task == "vqa" else [{**row, "question_id": f"0{row['question_id']}"} for row in rows]
            )
            (root / f"{task}_{split}.json").write_text(json.dumps(rows))
        tasks[task] = QuestionFiles("lxmert", {split: (root / f"{task}_{split}.json",) for split in content})
    folder.mkdir(exist_ok=True)
    QuestionData(root, folder, tasks).save()
    for task in tasks:
        (folder / answers_file(task)).write_text(json.dumps(ANSWERS))


def make(root: Path) -> dict[str, Path]:
    """Folders of the stages `questions`, `pairs`, `regions` and `lxmert.pretraining` (which learnt nothing)."""
    root.mkdir(exist_ok=True)
    write_questions(
        root, root / "questions", {split: questions(split, n, split != "test") for split, n in SPLITS.items()}
    )
    for split, count in SPLITS.items():
        (root / f"pairs_{split}.json").write_text(json.dumps(statements(split, count)))
    (root / "pairs").mkdir()
    PairData(
        root, root / "pairs", "lxmert", {split: (root / f"pairs_{split}.json",) for split in SPLITS}
    ).save()
    names = [f"{split}{i}" for split, count in SPLITS.items() for i in range(count)]
    write_store_of(root / "regions", [regions(name) for name in names])
    words = " ".join((*COLOURS, *KINDS, "the is a what color left right thing ? ."))
    train_wordpiece([words] * 5, 200, root / "words")
    tokenizer = load_tokenizer(root / "words")
    torch.manual_seed(0)
    config = LxmertConfig(
        vocab_size=len(tokenizer), hidden=32, heads=4, ffn=64, text_layers=1, visual_layers=1, cross_layers=2,
        feature_width=WIDTH, objects=3, attributes=4, answers=len(TABLE), max_positions=32, dropout=0.0,
        attention_dropout=0.0, init_std=0.18,
    )  # fmt: skip
    save_model(root / "pretraining" / "model", LxmertForPretraining(config), tokenizer)
    rows = [{"ans": answer, "dsets": ["vqa"]} for answer in TABLE]
    (root / "pretraining" / "answers.json").write_text(json.dumps(rows))
    return {name: root / name for name in ("questions", "pairs", "regions", "pretraining")}


def context(config, folder: Path, inputs: dict[str, Path], said: list[str] | None = None) -> StageContext:
    """A stage's context that keeps its lines in `said`."""
    folder.mkdir(parents=True, exist_ok=True)
    return StageContext(config, folder, inputs, "cpu", say=(said if said is not None else []).append)


def runner(inputs: dict[str, Path], root: Path) -> Callable[..., dict[str, float]]:
    """Runs a stage by its name in `root` or a folder of it; returns its metrics."""

    def run(name, folder="", said=None, given=inputs, **fields):
        stage, config = STAGES[name]
        return stage.run(context(config(**fields), root / folder, given, said))

    return run


def results(folder: Path, name: str) -> list[dict]:
    """What a stage left of each seed."""
    return json.loads((folder / f"{name}.json").read_text())
