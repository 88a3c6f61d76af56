"""Vokenization: the visual language model, the matcher, and what is fine-tuned, each loss at toy size."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from tests.device.given import B, Case, D, F, S, T, V, ids, numbers, ragged, some
from vlpnb.downstream.glue import ComparingHead, SentenceClassifier
from vlpnb.downstream.squad import QuestionAnswerer
from vlpnb.downstream.swag import EndingChooser
from vlpnb.nn.heads import ClassificationHead, SpanHead
from vlpnb.nn.losses import all_pairs_hinge, info_nce, paired_hinge
from vlpnb.nn.transformer import Encoder, TransformerConfig
from vlpnb.text.backbones import LanguageBackbone
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vision.backbones import Backbone
from vlpnb.vision.small import SmallResNet
from vlpnb.vokenization.matcher import Matcher, MatchingLoss, Projection
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM

BERT = TransformerConfig(V, D, 2, 4, 64, max_positions=T)
ROBERTA = replace(BERT, max_positions=T + 2, position_offset=2, pad_id=1, type_vocab=1)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Some tokenizer, which a language backbone comes with."""
    with tempfile.TemporaryDirectory() as folder:
        return train_wordpiece(["a car is red ."] * 5, 40, Path(folder) / "words")


def blocks(**more: Tensor) -> dict[str, Tensor]:
    return {"ids": ids(1), "mlm_labels": some(2, ids(3), 0.2), **more}


def sentences(**more: Tensor) -> dict[str, Tensor]:
    mask = ragged()
    return {"ids": ids(1) * mask, "mask": mask, "types": (torch.arange(T) > 4).long() * mask, **more}


def visual(objective: str, shared: bool = False, config: TransformerConfig = BERT) -> Case:
    vokens = {"voken_labels": some(4, torch.arange(B * T).reshape(B, T) % 50, 0.9)}
    return Case(
        lambda: VisuallySupervisedLM(config, 50, objective, shared, numbers(5, 50, F)),
        lambda: blocks(**vokens),
    )


def matching(loss: Callable, text: str = "features", picture: str = "features") -> Case:
    def model() -> nn.Module:
        language = vision = None
        if text == "ids":
            language = LanguageBackbone(Encoder(BERT), tokenizer(), (-1, -2), D, frozen=False)
        if picture == "pixels":
            vision = Backbone(SmallResNet((4, 8), F), F, S, frozen=False)
        heads = Projection(2 * D, D, 8, 0.3), Projection(F, D, 8, 0.3)
        return MatchingLoss(Matcher(*heads, language, vision), loss)

    def batch() -> dict[str, Tensor]:
        mask = ragged()
        given = {"mask": mask, "text": ids(1) * mask, "ids_mask": mask}
        if text == "features":
            given = {"mask": mask, "text": numbers(2, B, T, 2 * D)}
        return given | {"picture": numbers(3, B, F) if picture == "features" else numbers(3, B, 3, S, S)}

    return Case(model, batch)


def cases() -> dict[str, Case]:
    labels, scores, answers = (
        ids(6, B, least=0) % 3,
        numbers(6, B),
        {"starts": ids(7, B) % 6, "ends": ids(8, B) % 6},
    )
    stories = {name: x[:, None].expand(-1, 4, -1) for name, x in sentences().items()} | {
        "ids": ids(9, B, 4, T)
    }
    return {
        "words alone": Case(lambda: VisuallySupervisedLM(BERT), blocks),
        "words of rows with padding": Case(lambda: VisuallySupervisedLM(BERT), lambda: blocks(mask=ragged())),
        "vokens as classes": visual("cls"),
        "vokens of a RoBERTa": visual("cls", config=ROBERTA),
        "vokens as classes, shared trunk": visual("cls", True),
        "vokens as features": visual("reg"),
        "vokens by contrast": visual("ctr"),
        "vokens by contrast, shared trunk": visual("ctr", True),
        "vokens in all three ways": visual("cls+ctr+reg"),
        "matcher, paired hinge": matching(paired_hinge),
        "matcher, all pairs": matching(all_pairs_hinge),
        "matcher, InfoNCE": matching(info_nce),
        "matcher, language trained": matching(paired_hinge, "ids"),
        "matcher, vision trained": matching(paired_hinge, "features", "pixels"),
        "GLUE": Case(
            lambda: SentenceClassifier(Encoder(BERT), ClassificationHead(D, 3), False),
            lambda: sentences(labels=labels),
        ),
        "GLUE, regression": Case(
            lambda: SentenceClassifier(Encoder(BERT), ClassificationHead(D, 1), True),
            lambda: sentences(labels=scores),
        ),
        "GLUE, sentences compared": Case(
            lambda: SentenceClassifier(Encoder(BERT), ComparingHead(D, 3, 0.1, pair=True), False),
            lambda: sentences(labels=labels),
        ),
        "SQuAD": Case(lambda: QuestionAnswerer(Encoder(BERT), SpanHead(D)), lambda: sentences(**answers)),
        "SWAG": Case(
            lambda: EndingChooser(Encoder(BERT), ClassificationHead(D, 1)),
            lambda: {**stories, "labels": labels},
        ),
    }
