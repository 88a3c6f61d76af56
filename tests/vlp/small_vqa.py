"""The inputs of VLP's questions without a world: invented regions, questions, a pre-training that learnt nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tests.lxmert import small_finetuning as small
from tests.lxmert.small_finetuning import COLOURS, KINDS, SPLITS, WIDTH
from vlpnb.data.asked_data import QuestionData, QuestionFiles
from vlpnb.data.region_store import write_store_of
from vlpnb.data.regions import PictureRegions
from vlpnb.text.tokenizers import load_tokenizer, train_wordpiece
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.model import VlpConfig
from vlpnb.vlp.original.weights import save_model
from vlpnb.vlp.start import special_ids

CLASSES = 4
NAMES = tuple(f"{split}{i}" for split, count in SPLITS.items() for i in range(count))


def regions(name: str) -> PictureRegions:
    """LXMERT's small regions with the probabilities of background and three kinds."""
    made = small.regions(name)
    chances = np.full((len(made), CLASSES), 0.1, np.float32)
    chances[:, 0] = 0.7
    chances[0] = 0.1
    chances[0, 1 + small.shown(name)[1]] = 0.7
    return replace(made, probabilities=chances)


def make(root: Path) -> dict[str, Path]:
    """Folders of the stages `questions`, `regions` and `vlp.pretraining`."""
    root.mkdir(exist_ok=True)
    rows = {split: small.questions(split, n, split != "test") for split, n in SPLITS.items()}
    small.write_questions(root, root / "questions", rows)
    write_store_of(root / "regions", [regions(name) for name in NAMES], KINDS)
    words = " ".join((*COLOURS, *KINDS, "the is a what color thing ? ."))
    train_wordpiece([words] * 5, 200, root / "words")
    tokenizer = load_tokenizer(root / "words")
    torch.manual_seed(0)
    config = VlpConfig(
        vocab_size=len(tokenizer), hidden=32, layers=2, heads=1, ffn=64, max_positions=128, feature_width=WIDTH,
        classes=CLASSES, dropout=0.0, init_std=0.18, **special_ids(tokenizer),
    )  # fmt: skip
    save_model(root / "pretraining" / "model", VlpForGeneration(config), tokenizer)
    return {name: root / name for name in ("questions", "regions", "pretraining")}


def official_questions(root: Path, folder: Path) -> None:
    """VQA v2's pair of files in the place of the questions: nine people of ten write "The" before what they say."""
    questions, annotations = {}, {}
    for split in ("train", "valid"):
        asked, annotated = [], []
        for number, row in enumerate(small.questions(split, SPLITS[split])):
            best = max(row["label"], key=row["label"].get)
            picture = {"question_id": number, "image_id": int(row["img_id"].removeprefix(split))}
            asked.append({**picture, "question": row["sent"]})
            answers = [{"answer": answer} for answer in [best] + [f"The {best}"] * 9]
            annotated.append({**picture, "answers": answers, "answer_type": row["answer_type"]})
        questions[split], annotations[split] = (
            (root / f"{split}_{kind}.json",) for kind in ("asked", "said")
        )
        questions[split][0].write_text(json.dumps({"questions": asked}))
        annotations[split][0].write_text(json.dumps({"annotations": annotated}))
    files = QuestionFiles("vqa", questions, annotations, image_names="{split}{}")
    QuestionData(root, folder, {"vqa": files}).save()
