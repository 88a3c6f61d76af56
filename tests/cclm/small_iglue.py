"""The inputs of the stages of tasks without a world: invented patches that tell what they show, and rows about them."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vlpnb.cclm.config import CclmConfig
from vlpnb.cclm.model import Cclm
from vlpnb.cclm.original.weights import save_model
from vlpnb.data.iglue import EntailmentRow, PairRow
from vlpnb.data.xgqa import QuestionRow
from vlpnb.stage import StageContext
from vlpnb.text.pieces import Pieces
from vlpnb.text.unigram import train_unigram

COLOURS = ("red", "green", "blue", "white")
KINDS = ("cat", "dog", "car")
GERMAN = {
    "red": "rot", "green": "grün", "blue": "blau", "white": "weiß", "cat": "katze", "dog": "hund", "car": "auto",
    "the": "die", "is": "ist", "what": "welche", "color": "farbe", "left": "linke", "thing": "sache", "a": "eine",
}  # fmt: skip
ANSWERS = ("yes", "no", *COLOURS, "dark red")
WIDTH, PATCHES = 8, 4
COUNTS = {"train": 24, "valid": 8, "test": 8}
NAMES = tuple(f"{split}{i}" for split, count in COUNTS.items() for i in range(count))
BRIEF = {
    "seeds": (3, 4), "epochs": 2, "batch": 16, "lr": 1e-3, "optimiser": "adamw", "max_words": 12, "max_length": 12,
    "checkpoint_seconds": 0, "fewshot_epochs": 2, "fewshot_every": 1, "fewshot_lr": (1e-3,),
}  # fmt: skip
LEARNS = {**BRIEF, "seeds": (1, 2), "epochs": 40, "lr": 3e-3, "dropout": 0.0, "best": False}


def shown(name: str) -> tuple[int, int]:
    """Colour and kind of the thing in a picture."""
    i = int("".join(c for c in name if c.isdigit()))
    return i % 4, i % 3


def patches_of(name: str, view: int) -> np.ndarray:
    """The mean and four patches, one of which shows the thing; other views have it elsewhere."""
    i = int("".join(c for c in name if c.isdigit()))
    random = np.random.default_rng([len(name), i])
    found = random.normal(0, 0.1, (1 + PATCHES, WIDTH))
    colour, kind = shown(name)
    found[1 + (i + view) % PATCHES, [colour, 4 + kind]] = 3.0
    return found.astype(np.float32)


@dataclass(frozen=True)
class FakeStore:
    """Patches as `foundations.picture_store.PatchStore` gives them; training pictures have two further views."""

    names: tuple[str, ...] = NAMES
    patches: int = PATCHES
    width: int = WIDTH

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def rows(self, ids):
        return np.array([self.names.index(name) for name in ids])

    def views(self, rows):
        return np.array([3 if self.names[row].startswith("train") else 1 for row in rows])

    def gather(self, rows, view=0):
        views = np.broadcast_to(np.asarray(view), np.shape(rows))
        found = [patches_of(self.names[row], int(v)) for row, v in zip(rows, views, strict=True)]
        return torch.from_numpy(np.stack(found))


def german(text: str) -> str:
    """Word by word."""
    return " ".join(GERMAN.get(word, word) for word in text.split())


def hypotheses(split: str) -> list[EntailmentRow]:
    """Three about each picture, one of each label; of the test set the first is undecided."""
    rows = []
    for i in range(COUNTS[split]):
        colour, kind = shown(name := f"{split}{i}")
        said = (
            ("entailment", f"the {KINDS[kind]} is {COLOURS[colour]}"),
            ("contradiction", f"the {KINDS[kind]} is {COLOURS[(colour + 1 + i // 4 % 3) % 4]}"),
            ("neutral", f"the {KINDS[(kind + 1) % 3]} is {COLOURS[(colour + i) % 4]}"),
        )
        rows += [EntailmentRow(f"{name}-{label[0]}", name, text, label) for label, text in said]
    if split == "test":
        rows[0] = replace(rows[0], label=None)
    return rows


def questions(split: str) -> list[QuestionRow]:
    """Two about each picture; of one in eight the first has an answer that is no candidate, of another one two."""
    rows = []
    for i in range(COUNTS[split]):
        colour, kind = shown(name := f"{split}{i}")
        more = {"dark red": 0.3} if i % 8 == 5 else {}
        answer = "crimson" if split == "train" and i % 8 == 7 else COLOURS[colour]
        rows.append(
            QuestionRow(f"{name}-0", name, f"what color is the {KINDS[kind]} ?", {answer: 1.0} | more)
        )
        said = COLOURS[(colour + i // 4 % 2) % 4]
        right = "yes" if said == COLOURS[colour] else "no"
        rows.append(QuestionRow(f"{name}-1", name, f"is the {KINDS[kind]} {said} ?", {right: 1.0}))
    return rows


def statements(split: str) -> list[PairRow]:
    """Two pairs of pictures for each sentence."""
    rows = []
    for i in range(2 * COUNTS[split]):
        left, right = f"{split}{i % COUNTS[split]}", f"{split}{(i * 5 + 1) % COUNTS[split]}"
        true = i // 2 % 2 == 0
        said = COLOURS[(shown(left)[0] + (0 if true else 1 + i % 3)) % 4]
        rows.append(
            PairRow(f"{split}-{i}", f"the left thing is {said}", left, right, true, f"{split}-{i // 2}")
        )
    return rows


MADE = {"xvnli": hypotheses, "xgqa": questions, "marvl": statements}
TEXT = {"xvnli": "hypothesis", "xgqa": "question", "marvl": "sentence"}


@dataclass(frozen=True)
class FakeIglue:
    """Rows as `foundations.iglue.Iglue` gives them: English and German, few-shot files of German, translated German."""

    by_heart: bool = False
    """The validation and test sets are the training set."""
    few: int = 5
    """Rows of the few-shot file `1`; `2` has twice as many."""

    def languages(self, task):
        return ("en", "de")

    def translated(self, task):
        return ("de",)

    def valid_languages(self, task):
        return ("en", "de") if task == "xgqa" else ("en",)

    def shots(self, task, language):
        return () if language == "en" else ("1", "2")

    def answers(self):
        return ANSWERS

    def rows(self, task, split, language="en", shots=None, translated=False):
        rows = MADE[task]("train" if self.by_heart else split)
        if shots:
            rows = rows[: self.few * int(shots)]
        if language == "en" or translated:
            return rows
        return [replace(row, **{TEXT[task]: german(getattr(row, TEXT[task]))}) for row in rows]


def pieces(folder: Path) -> Pieces:
    """Word pieces of all that is said here, in both languages."""
    words = " ".join((*COLOURS, *KINDS, *GERMAN, *GERMAN.values(), *ANSWERS))
    return Pieces(train_unigram([words] * 4, 160, folder))


def small_model(folder: Path, pieces: Pieces) -> Path:
    """A pre-training that learnt nothing, as a folder of a model."""
    torch.manual_seed(0)
    config = CclmConfig(
        vocab_size=pieces.size, hidden=32, text_layers=1, fusion_layers=2, heads=4, ffn=64, max_positions=20, width=16,
        image_width=WIDTH, dropout=0.0,
    )  # fmt: skip
    model = Cclm(config)
    with torch.no_grad():
        for parameter in (
            *model.embeddings.parameters(),
            *model.text_layers.parameters(),
            *model.fusion_layers.parameters(),
        ):
            if parameter.ndim > 1:
                parameter.mul_(9)  # N(0, 0.18): learns in seconds
    return save_model(folder, model, pieces.tokenizer)


def lines_of(folder: Path, split: str, seed: int = 3) -> list[dict]:
    """The answers to a split."""
    text = (folder / f"seed-{seed}" / f"predictions_{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def context(config, folder: Path, inputs: dict[str, Path], said: list[str] | None = None) -> StageContext:
    """A stage's context that keeps its lines in `said`."""
    folder.mkdir(parents=True, exist_ok=True)
    return StageContext(config, folder, inputs, "cpu", say=(said if said is not None else []).append)
