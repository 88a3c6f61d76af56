"""VLP: words in all ways of asking for them, answers, captions of its own, each loss at toy size."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tests.device.given import SEEN, B, Case, D, F, R, T, V, ids, numbers, ragged
from vlpnb.downstream.self_critical import counted, cut, policy_loss
from vlpnb.nn.losses import IGNORE
from vlpnb.vlp.generating import VlpDecoder, log_probs_of
from vlpnb.vlp.geometry import PLACE
from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration
from vlpnb.vlp.model import VlpConfig
from vlpnb.vlp.objectives import Guessing

VLP = VlpConfig(
    V, D, 2, 4, 64, max_positions=40, regions=R, text_length=T, feature_width=F, classes=5, answers=11, pad_id=0,
    unk_id=1, cls_id=2, sep_id=3, mask_id=4,
)  # fmt: skip
TARGETS = torch.tensor([False, True, True, False, True, False, True, False, True, False])


def shown(**more: Tensor) -> dict[str, Tensor]:
    return {
        "features": numbers(2, B, R, F), "geometry": numbers(3, B, R, PLACE + 5), "visual_mask": ragged(SEEN, R), **more
    }  # fmt: skip


def guesses(**more: Tensor) -> dict[str, Tensor]:
    """Two captions behind each picture, three of the pictures to be written and one to be understood."""
    at = torch.arange(T).expand(B, T)
    owner = (at // 5).where(ragged(), -1)
    given = {
        "ids": ids(1),
        "place": at % 5,
        "owner": owner,
        "labels": ids(4).where(TARGETS & ragged(), IGNORE),
    }
    return shown(**given, s2s=torch.tensor([True, False, True, True]), **more)


class Policy(nn.Module):
    """The part of `vlp.scst.SelfCritical` that has a gradient: captions that were drawn, and what they were worth."""

    def __init__(self, config: VlpConfig):
        super().__init__()
        self.model = VlpForGeneration(config)

    def forward(self, drawn: Tensor, advantages: Tensor, **pictures: Tensor) -> dict[str, Tensor]:
        prefix = VlpDecoder(self.model).see(**pictures)
        words = counted(cut(drawn, VLP.sep_id, VLP.pad_id), VLP.pad_id)
        return {
            "policy": policy_loss(log_probs_of(self.model, prefix, drawn, counted=words), advantages, words)
        }


def cases() -> dict[str, Case]:
    def guessing(config: VlpConfig = VLP, *options: Any, **more: Any) -> Case:
        return Case(lambda: Guessing(VlpForGeneration(config, *options)), lambda: guesses(**more))

    hidden = {"hidden_regions": numbers(6, B, R) < 0.4}
    questions = shown(ids=ids(1), lengths=torch.tensor([9, 4, 6, 7]), targets=numbers(5, B, 11))
    drawn = shown(drawn=ids(7, 2 * B, 8).where(ragged((8, 5) * B, 8), 0), advantages=numbers(8, 2 * B) - 0.5)
    found = {
        "words": guessing(),
        "words, asked for by queries": guessing(query=TARGETS.expand(B, T)),
        "words, smoothed": guessing(VLP, 0.1),
        "words, without the worst": guessing(drop=torch.tensor(0.3)),
        "words, four slots": guessing(replace(VLP, slots=4)),
        "words, one norm over four slots": guessing(replace(VLP, slots=4, joint_norm=True)),
        "words, two segments": guessing(replace(VLP, segments=2)),
        "words and hidden regions": guessing(VLP, 0.0, "hidden", **hidden),
        "words and visible regions": guessing(VLP, 0.0, "visible", **hidden),
        "answers": Case(lambda: VlpForAnswers(VLP, 11), lambda: questions),
        "answers, best alone": Case(lambda: VlpForAnswers(VLP, 11, "best"), lambda: questions),
        "captions of its own": Case(lambda: Policy(VLP), lambda: drawn),
    }
    return {name: replace(case, optimiser="vlp_adam") for name, case in found.items()}
