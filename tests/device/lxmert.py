"""LXMERT: pre-training with all of its tasks, answers, pairs of pictures, each loss at toy size."""

from dataclasses import replace

import torch
from torch import Tensor

from tests.device.given import SEEN, B, Case, D, F, R, T, V, ids, numbers, ragged, some
from vlpnb.lxmert.heads import AnsweringModel, LxmertForPretraining, PairModel
from vlpnb.lxmert.model import LxmertConfig
from vlpnb.nn.losses import IGNORE

LXMERT = LxmertConfig(
    V, D, 4, 64, text_layers=1, visual_layers=1, cross_layers=2, feature_width=F, objects=9, attributes=5, answers=11,
    max_positions=T,
)  # fmt: skip


def beside_regions(rows: int = B, several: bool = True, **more: Tensor) -> dict[str, Tensor]:
    mask = ragged()
    given = {
        "ids": ids(1) * mask,
        "mask": mask,
        "features": numbers(2, rows, R, F),
        "boxes": numbers(3, rows, R, 4),
    }
    if several:
        given["visual_mask"] = ragged(SEEN * (rows // B), R)
    return given | more


def asked_for_all() -> dict[str, Tensor]:
    kinds = ids(5, B, R) % 5
    return beside_regions(
        word_labels=some(4, ids(4), 0.2), matched=torch.tensor([1, 0, 1, 1]), object_ids=kinds.where(kinds > 0, -1),
        object_conf=numbers(6, B, R), attribute_ids=kinds, attribute_conf=numbers(7, B, R), targets=numbers(8, B, R, F),
        object_masked=numbers(9, B, R) < 0.5, answer=torch.tensor([4, IGNORE, 10, 0]),
    )  # fmt: skip


def cases() -> dict[str, Case]:
    pairs = {
        name: x.unflatten(0, (B, 2)) if name in ("features", "boxes", "visual_mask") else x
        for name, x in beside_regions(2 * B).items()
    }
    answers, label = {"targets": numbers(5, B, 11)}, {"label": torch.tensor([0, 1, 1, 0])}
    found = {
        "all tasks": Case(lambda: LxmertForPretraining(LXMERT), asked_for_all),
        "all tasks, features by L2": Case(lambda: LxmertForPretraining(LXMERT, "l2"), asked_for_all),
        "answers": Case(lambda: AnsweringModel(LXMERT, 11), lambda: beside_regions(**answers)),
        "answers, best alone": Case(
            lambda: AnsweringModel(LXMERT, 11, "best"), lambda: beside_regions(**answers)
        ),
        "answers, equally many regions": Case(
            lambda: AnsweringModel(LXMERT, 11), lambda: beside_regions(several=False, **answers)
        ),
        "pairs of pictures": Case(lambda: PairModel(LXMERT), lambda: pairs | label),
    }
    return {name: replace(case, optimiser="bert_adam") for name, case in found.items()}
