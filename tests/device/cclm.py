"""CCLM: pictures, regions and parallel text in pre-training, and the models of its tasks, each loss at toy size."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests.device.given import B, Case, D, F, S, T, V, ids, numbers, ragged
from vlpnb.cclm.answering import AnsweringModel as CclmAnswering
from vlpnb.cclm.config import CclmConfig
from vlpnb.cclm.model import Cclm
from vlpnb.cclm.objectives import CclmPretraining
from vlpnb.cclm.pairs import PairModel as CclmPairs
from vlpnb.cclm.xvnli import EntailmentModel
from vlpnb.nn.losses import IGNORE
from vlpnb.vision.swin import SwinConfig

CCLM = CclmConfig(
    vocab_size=V, hidden=D, text_layers=2, fusion_layers=2, heads=4, ffn=64, max_positions=T + 2, width=16,
    image_width=F, image_patches=4,
)  # fmt: skip
SWIN = SwinConfig(image_size=S, window=2, embed=8, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2))


def hidden_words(rows: int = B) -> dict[str, Tensor]:
    places = torch.tensor([[1, 4], [2, 0], [1, 3], [5, 0]])[:rows]
    labels = torch.tensor([[8, 9], [7, IGNORE], [6, 6], [9, IGNORE]])[:rows]
    return {"masked_ids": ids(4, rows, T), "masked_places": places, "masked_labels": labels}


def captioned(**more: Tensor) -> dict[str, Tensor]:
    return {"patches": numbers(2, B, 5, F), "ids": ids(1), "mask": ragged(), **hidden_words(), **more}


def regions_of_two() -> dict[str, Tensor]:
    seen = ragged((5, 2, 4, 3), 5)
    return captioned(
        patches=numbers(2, 2, 5, F), group=torch.tensor([0, 0, 1, 1]), identity=torch.tensor([0, 0, 1, 1]),
        patch_mask=seen, boxes=numbers(5, B, 4) * 0.5 + 0.2, whole=torch.tensor([True, False, False, False]),
    )  # fmt: skip


def translated(**more: Tensor) -> dict[str, Tensor]:
    given = {
        "ids": ids(6),
        "mask": ragged(),
        "other_ids": ids(7, B, 8),
        "other_mask": ragged((8, 5, 7, 6), 8),
    }
    return {f"parallel_{name}": x for name, x in (given | hidden_words() | more).items()}


def about_pictures(**more: Tensor) -> dict[str, Tensor]:
    return {"ids": ids(1), "mask": ragged(), "patches": numbers(2, 3, 5, F), **more}


def cases() -> dict[str, Case]:
    def pre(batch: Callable[[], dict[str, Tensor]], config: CclmConfig = CCLM, *losses: Any) -> Case:
        return Case(lambda: CclmPretraining(Cclm(config), *losses), batch)

    pixels = replace(CCLM, hidden=64, vision="swin", swin=SWIN, image_width=64, image_patches=0)
    two = {"left": torch.tensor([0, 1, 2, 0]), "right": torch.tensor([1, 2, 0, 2])}
    one, label = {"picture": two["left"]}, torch.tensor([0, 1, 1, 0])
    answers = {
        "answer_ids": ids(5, 6, 4), "answer_mask": ragged((4, 3, 4, 3, 4, 4), 4),
        "answer_of": torch.tensor([0, 0, 1, 2, 2, 3]), "answer_weight": torch.tensor([0.5, 0.5, 1.0, 0.5, 0.5, 1.0]),
    }  # fmt: skip
    found = {
        "pictures": pre(captioned),
        "pictures that are the same": pre(lambda: captioned(identity=torch.tensor([0, 1, 0, 2]))),
        "pictures, pixels": pre(lambda: captioned(patches=numbers(2, B, 3, S, S)), pixels),
        "pictures, fewer fused": pre(lambda: captioned() | hidden_words(2)),
        "regions": pre(regions_of_two),
        "parallel text": pre(translated),
        "pictures and parallel text": pre(lambda: captioned() | translated()),
        "retrieval": pre(
            lambda: {k: x for k, x in captioned().items() if "masked" not in k}, CCLM, ("itc", "itm")
        ),
        "answers that are written": Case(
            lambda: CclmAnswering(Cclm(CCLM)), lambda: about_pictures(**one, **answers)
        ),
        "entailment": Case(lambda: EntailmentModel(Cclm(CCLM)), lambda: about_pictures(**one, label=label)),
        "statements about two pictures": Case(
            lambda: CclmPairs(Cclm(CCLM)), lambda: about_pictures(**two, label=label)
        ),
        "text assignment": Case(lambda: CclmPairs(Cclm(CCLM), 3), lambda: about_pictures(**two, label=label)),
    }
    return {name: replace(case, optimiser="transformers_adamw") for name, case in found.items()}
