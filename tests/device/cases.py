"""Every loss that a stage trains, of all five systems, at toy size: a model and a batch of the right shapes.

Used on the meta device (`test_meta.py`) and in bfloat16 (`test_bfloat16.py`). Weights are the models' own new ones; all is
float32, so that a case is what a stage's first update is.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from vlpnb.cclm.answering import AnsweringModel as CclmAnswering
from vlpnb.cclm.config import CclmConfig
from vlpnb.cclm.model import Cclm
from vlpnb.cclm.objectives import CclmPretraining
from vlpnb.cclm.pairs import PairModel as CclmPairs
from vlpnb.cclm.xvnli import EntailmentModel
from vlpnb.downstream.glue import ComparingHead, SentenceClassifier
from vlpnb.downstream.squad import QuestionAnswerer
from vlpnb.downstream.swag import EndingChooser
from vlpnb.lxmert.heads import AnsweringModel, LxmertForPretraining, PairModel
from vlpnb.lxmert.model import LxmertConfig
from vlpnb.nn.dual_encoder import DualEncoder, DualEncoderConfig
from vlpnb.nn.heads import ClassificationHead, SpanHead
from vlpnb.nn.losses import IGNORE, all_pairs_hinge, info_nce, paired_hinge
from vlpnb.nn.transformer import Encoder, TransformerConfig
from vlpnb.text.backbones import LanguageBackbone
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.train.optim import Optimiser
from vlpnb.valm.config import ValmConfig
from vlpnb.valm.objectives import ValmLM
from vlpnb.vision.backbones import Backbone
from vlpnb.vision.small import SmallResNet
from vlpnb.vision.swin import SwinConfig
from vlpnb.vlp.generating import VlpDecoder, log_probs_of
from vlpnb.vlp.geometry import PLACE
from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration
from vlpnb.vlp.model import VlpConfig
from vlpnb.vlp.objectives import Guessing
from vlpnb.vlp.self_critical import counted, cut, policy_loss
from vlpnb.vokenization.matcher import Matcher, MatchingLoss, Projection
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM

V, D, B, T, R, F, S = 90, 32, 4, 10, 5, 12, 32  # words, width, rows, tokens, regions, feature, pixels


@dataclass(frozen=True)
class Case:
    """A model, as `train.loop.fit` takes it, and a batch; made anew at each call."""

    model: Callable[[], nn.Module]
    batch: Callable[[], dict[str, Tensor]]
    optimiser: Optimiser = "adamw"
    """The stage's default."""


def ids(seed: int, *shape: int, least: int = 5) -> Tensor:
    return torch.randint(least, V, shape or (B, T), generator=torch.Generator().manual_seed(seed))


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def ragged(lengths: tuple[int, ...] = (10, 6, 8, 7), width: int = T) -> Tensor:
    """True at the first so many places of each row."""
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def some(seed: int, values: Tensor, share: float) -> Tensor:
    """Labels: a share of the values, −100 elsewhere; the first of each row always."""
    kept = numbers(seed, *values.shape) < share
    kept[:, 0] = True
    return values.where(kept, IGNORE)


# Vokenization

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
        lambda: VisuallySupervisedLM(config, 50, objective, shared, numbers(5, 50, F)), lambda: blocks(**vokens)
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


def vokenization() -> dict[str, Case]:
    labels, scores, answers = ids(6, B, least=0) % 3, numbers(6, B), {"starts": ids(7, B) % 6, "ends": ids(8, B) % 6}
    stories = {name: x[:, None].expand(-1, 4, -1) for name, x in sentences().items()} | {"ids": ids(9, B, 4, T)}
    return {
        "words alone": Case(lambda: VisuallySupervisedLM(BERT), blocks),
        "words of rows with padding": Case(
            lambda: VisuallySupervisedLM(BERT), lambda: blocks(mask=ragged())
        ),
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
            lambda: EndingChooser(Encoder(BERT), ClassificationHead(D, 1)), lambda: {**stories, "labels": labels}
        ),
    }


# LXMERT

LXMERT = LxmertConfig(
    V, D, 4, 64, text_layers=1, visual_layers=1, cross_layers=2, feature_width=F, objects=9, attributes=5, answers=11,
    max_positions=T,
)  # fmt: skip
SEEN = (5, 3, 4, 5)  # regions of each picture


def beside_regions(rows: int = B, several: bool = True, **more: Tensor) -> dict[str, Tensor]:
    mask = ragged()
    given = {"ids": ids(1) * mask, "mask": mask, "features": numbers(2, rows, R, F), "boxes": numbers(3, rows, R, 4)}
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


def lxmert() -> dict[str, Case]:
    pairs = {
        name: x.unflatten(0, (B, 2)) if name in ("features", "boxes", "visual_mask") else x
        for name, x in beside_regions(2 * B).items()
    }
    answers, label = {"targets": numbers(5, B, 11)}, {"label": torch.tensor([0, 1, 1, 0])}
    cases = {
        "all tasks": Case(lambda: LxmertForPretraining(LXMERT), asked_for_all),
        "all tasks, features by L2": Case(lambda: LxmertForPretraining(LXMERT, "l2"), asked_for_all),
        "answers": Case(lambda: AnsweringModel(LXMERT, 11), lambda: beside_regions(**answers)),
        "answers, best alone": Case(lambda: AnsweringModel(LXMERT, 11, "best"), lambda: beside_regions(**answers)),
        "answers, equally many regions": Case(
            lambda: AnsweringModel(LXMERT, 11), lambda: beside_regions(several=False, **answers)
        ),
        "pairs of pictures": Case(lambda: PairModel(LXMERT), lambda: pairs | label),
    }
    return {name: replace(case, optimiser="bert_adam") for name, case in cases.items()}


# VLP

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
    given = {"ids": ids(1), "place": at % 5, "owner": owner, "labels": ids(4).where(TARGETS & ragged(), IGNORE)}
    return shown(**given, s2s=torch.tensor([True, False, True, True]), **more)


class Policy(nn.Module):
    """The part of `vlp.scst.SelfCritical` that has a gradient: captions that were drawn, and what they were worth."""

    def __init__(self, config: VlpConfig):
        super().__init__()
        self.model = VlpForGeneration(config)

    def forward(self, drawn: Tensor, advantages: Tensor, **pictures: Tensor) -> dict[str, Tensor]:
        prefix = VlpDecoder(self.model).see(**pictures)
        words = counted(cut(drawn, VLP.sep_id, VLP.pad_id), VLP.pad_id)
        return {"policy": policy_loss(log_probs_of(self.model, prefix, drawn, counted=words), advantages, words)}


def vlp() -> dict[str, Case]:
    def guessing(config: VlpConfig = VLP, *options: Any, **more: Any) -> Case:
        return Case(lambda: Guessing(VlpForGeneration(config, *options)), lambda: guesses(**more))

    hidden = {"hidden_regions": numbers(6, B, R) < 0.4}
    questions = shown(ids=ids(1), lengths=torch.tensor([9, 4, 6, 7]), targets=numbers(5, B, 11))
    drawn = shown(drawn=ids(7, 2 * B, 8).where(ragged((8, 5) * B, 8), 0), advantages=numbers(8, 2 * B) - 0.5)
    cases = {
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
    return {name: replace(case, optimiser="vlp_adam") for name, case in cases.items()}


# VaLM

VALM = ValmConfig(V, D, 3, 4, 64, max_positions=T + 2, image_width=D)
K = 3  # pictures of a word


def next_words(images: str = "own", width: int = D) -> dict[str, Tensor]:
    targets = ids(2).where(ragged(), 1)  # 1 is padding
    given = {"ids": ids(1).where(ragged(), 1), "targets": targets}
    if images == "own":
        return given | {"images": numbers(3, B, T, K, width), "image_mask": numbers(4, B, T, K) < 0.8}
    if images == "none":
        return given
    count = 7 if images == "few" else 200
    return given | {"images": numbers(3, count, width), "rows": ids(5, B, T, K, least=0) % (count + 1) - 1}


def masked_words() -> dict[str, Tensor]:
    return {
        "masked_ids": ids(6), "labels": some(7, ids(8), 0.2), "masked_rows": ids(9, B, T, K, least=0) % 8 - 1,
        "images": numbers(3, 7, D),
    }  # fmt: skip


def valm() -> dict[str, Case]:
    def lm(images: str = "own", **changes: Any) -> Case:
        width = changes.get("image_width", D)
        return Case(lambda: ValmLM(replace(VALM, **changes)), lambda: next_words(images, width))

    tower = DualEncoderConfig(vocab_size=V, hidden=D, layers=2, heads=4, ffn=64, feature_width=F, width=16)
    pairs = {"ids": ids(1), "features": numbers(2, B, F), "ends": torch.tensor([9, 5, 7, 6])}
    own = {f"projection {name}": lm(projection=name) for name in ("separate", "shared", "no_norm", "gated")}
    own |= {f"hidden pictures as {mode}": lm(image_mode=mode) for mode in ("zero", "null")}
    own |= {f"stack, {scope} pictures": lm(stack=1, fusion=(), scope=scope) for scope in ("own", "past")}
    cases = {
        "next words": lm(),
        "next words, few distinct pictures": lm("few"),
        "next words, many distinct pictures": lm("many"),
        "next words, no picture": lm("none"),
        "next words, another width of pictures": lm(image_width=F),
        "next words, learned positions": lm(positions="learned", embed_scale=False),
        **{f"next words, {name}": case for name, case in own.items()},
        "masked words": Case(lambda: ValmLM(replace(VALM, mlm_head=True)), masked_words),
        "next and masked words": Case(
            lambda: ValmLM(replace(VALM, mlm_head=True)), lambda: next_words("few") | masked_words()
        ),
    }
    cases = {name: replace(case, optimiser="fairseq_adam") for name, case in cases.items()}
    return cases | {
        "towers": Case(lambda: DualEncoder(tower), lambda: pairs),
        "towers, also inside texts": Case(
            lambda: DualEncoder(tower), lambda: pairs | {"inside": torch.tensor([3, 2, 7, 1])}
        ),
        "towers, a wide picture side": Case(lambda: DualEncoder(replace(tower, image_hidden=16)), lambda: pairs),
    }


# CCLM

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
    given = {"ids": ids(6), "mask": ragged(), "other_ids": ids(7, B, 8), "other_mask": ragged((8, 5, 7, 6), 8)}
    return {f"parallel_{name}": x for name, x in (given | hidden_words() | more).items()}


def about_pictures(**more: Tensor) -> dict[str, Tensor]:
    return {"ids": ids(1), "mask": ragged(), "patches": numbers(2, 3, 5, F), **more}


def cclm() -> dict[str, Case]:
    def pre(batch: Callable[[], dict[str, Tensor]], config: CclmConfig = CCLM, *losses: Any) -> Case:
        return Case(lambda: CclmPretraining(Cclm(config), *losses), batch)

    pixels = replace(CCLM, hidden=64, vision="swin", swin=SWIN, image_width=64, image_patches=0)
    two = {"left": torch.tensor([0, 1, 2, 0]), "right": torch.tensor([1, 2, 0, 2])}
    one, label = {"picture": two["left"]}, torch.tensor([0, 1, 1, 0])
    answers = {
        "answer_ids": ids(5, 6, 4), "answer_mask": ragged((4, 3, 4, 3, 4, 4), 4),
        "answer_of": torch.tensor([0, 0, 1, 2, 2, 3]), "answer_weight": torch.tensor([0.5, 0.5, 1.0, 0.5, 0.5, 1.0]),
    }  # fmt: skip
    cases = {
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
    return {name: replace(case, optimiser="transformers_adamw") for name, case in cases.items()}


SYSTEMS: Mapping[str, Mapping[str, Case]] = {
    "vokenization": vokenization(),
    "lxmert": lxmert(),
    "vlp": vlp(),
    "valm": valm(),
    "cclm": cclm(),
}
