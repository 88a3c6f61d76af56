"""What `vlpnb plan` counts of part 1."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlpnb.course.steps.foundations import language_encoder, looking
from vlpnb.downstream.glue import ComparingHead, SentenceClassifier
from vlpnb.downstream.squad import QuestionAnswerer
from vlpnb.downstream.swag import EndingChooser
from vlpnb.nn.heads import ClassificationHead, SpanHead
from vlpnb.nn.language_model import language_model_config
from vlpnb.nn.transformer import Encoder
from vlpnb.train.counting import Step, asked, filled, pieces, some
from vlpnb.vokenization.matcher import Matcher, MatchingLoss, Projection, loss_function
from vlpnb.vokenization.pretraining import PretrainingConfig, training_plan
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM

Of = Callable[[str], Any]


@dataclass(frozen=True)
class Pieces:
    """As much of a tokenizer as a model's shape depends on."""

    count: int
    cls_token: str = "[CLS]"
    pad_token_id: int = 0

    def __len__(self) -> int:
        return self.count


def matching_step(
    config: Any, of: Of, *, captions: int, length: float, language_width: int, picture_width: int
) -> Step:
    """Both heads on cached features; the backbones are frozen."""
    longest = min(of("features").max_length, round(1.5 * length))

    def make() -> nn.Module:
        f, g = (
            Projection(width, config.hidden, config.joint, config.dropout)
            for width in (language_width, picture_width)
        )
        return MatchingLoss(Matcher(f, g), loss_function(config))

    def batch(rows: int) -> dict[str, Tensor]:
        return {
            "text": torch.zeros(rows, longest, language_width),
            "mask": filled(rows, longest, length),
            "picture": torch.zeros(rows, picture_width),
        }

    rows = min(config.batch, captions) // 2 * 2
    updates = config.epochs * (captions // rows)
    return Step(make, batch, rows, rows, updates, config.optimiser, "bfloat16", models=1)


def pretraining_step(config: PretrainingConfig, of: Of, *, words: int, vokens: int, examples: int) -> Step:
    """Masked words, and a voken at every word where there are some."""
    vokens = {"mlm": 0, "token": words}.get(config.supervision, vokens)
    length = config.block + 2

    def make() -> nn.Module:
        shape = language_model_config(config.size, Pieces(words), config.dropout)
        features = (
            None if config.objective == "cls" else torch.zeros(vokens, of("vokenization.matching").joint)
        )
        return VisuallySupervisedLM(shape, vokens, config.objective, config.shared_head, features)

    def batch(rows: int) -> dict[str, Tensor]:
        made = {"ids": pieces(rows, length, words)}
        if config.mlm_weight:
            made["mlm_labels"] = asked(made["ids"], config.mask_rate)
        if vokens:
            shares = {"all": 1.0, "mask": config.mask_rate, "nonmask": 1 - config.mask_rate}
            made["voken_labels"] = asked(pieces(rows, length, vokens), shares[config.voken_labels])
        return made

    rows = min(config.batch, examples)
    plan = training_plan(config, examples // rows)
    return Step(
        make, batch, rows, config.micro_batch, plan.updates, config.optimiser, config.precision,
        models=config.snapshots,
    )  # fmt: skip


class Vokenising(nn.Module):
    """The frozen language backbone, the matcher's head on its last layers, and the scores of all keys."""

    def __init__(self, encoder: Encoder, layers: int, hidden: int, joint: int, keys: int):
        super().__init__()
        self.encoder, self.layers = encoder, layers
        self.f = Projection(layers * encoder.config.hidden, hidden, joint, 0.0)
        self.register_buffer("keys", torch.zeros(keys, joint))

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "N V"]:
        states = self.encoder(ids, hidden_states=True).hidden_states[-self.layers :]
        return self.f(torch.cat(states, dim=-1)).flatten(0, 1) @ self.keys.T


def vokens_step(config: Any, of: Of, *, tokens: int, length: float, keys: int, **language: int) -> Step:
    """A forward pass of the language backbone over the corpus, and the search."""
    head, features = of("vokenization.matching"), of("features")
    whole = math.ceil(length) + 2

    def make() -> nn.Module:
        return Vokenising(language_encoder(**language), len(features.layers), head.hidden, head.joint, keys)

    at_once = max(1, config.token_budget // whole)
    return Step(
        make, lambda rows: {"ids": pieces(rows, whole, language["words"])}, at_once, at_once,
        tokens / length / at_once, None, config.precision, kept=4 * tokens,
    )  # fmt: skip


def keys_step(config: Any, of: Of, *, pictures: int) -> Step:
    """A forward pass of the picture backbone over the universe."""
    features = of("features")
    return looking(
        features.vision,
        of,
        32,
        pictures * len(features.eval_views),
        4 * pictures * of("vokenization.matching").joint,
    )


def _fine_tuning(
    config: Any, of: Of, words: int, head: Callable[[int], nn.Module], kind: Callable[..., nn.Module]
) -> Callable[[], nn.Module]:
    """The pre-trained encoder of the profile's size, and a head."""

    def make() -> nn.Module:
        shape = language_model_config(of("vokenization.pretraining").size, Pieces(words))
        return kind(Encoder(shape), head(shape.hidden))

    return make


def _texts(*shape: int, longest: int, mean: float, words: int) -> dict[str, Tensor]:
    rows = math.prod(shape)
    mask = filled(rows, longest, mean)
    ids = pieces(rows, longest, words).masked_fill(~mask, 0)
    made = {"ids": ids, "mask": mask, "types": torch.zeros_like(ids)}
    return {name: value.view(*shape, longest) for name, value in made.items()}


def glue_step(config: Any, of: Of, *, words: int, length: float, examples: Mapping[str, int]) -> Step:
    """Every task with every seed."""
    longest = min(config.max_length, round(1.5 * length))

    def head(hidden: int) -> nn.Module:
        if config.head == "compared":
            return ComparingHead(hidden, 2, 0.1, True)
        return ClassificationHead(hidden, 2)

    def batch(rows: int) -> dict[str, Tensor]:
        made = _texts(rows, longest=longest, mean=length, words=words)
        return {**made, "types": some(rows, longest, 0.5).long(), "labels": torch.arange(rows) % 2}

    tasks = [examples[name] for name in config.tasks if name in examples]
    each = [min(n, config.max_train or n) for n in tasks]
    updates = sum(max(1, round(config.epochs * math.ceil(n / config.batch))) for n in each)
    return Step(
        _fine_tuning(config, of, words, head, lambda *parts: SentenceClassifier(*parts, False)), batch, config.batch,
        config.batch, updates * len(config.seeds), precision="bfloat16", jobs=len(each) * len(config.seeds),
        models=len(each) * len(config.seeds) * config.keep_models,
    )  # fmt: skip


def squad_step(config: Any, of: Of, *, words: int, windows: Mapping[str, int]) -> Step:
    """Both versions with every seed."""

    def batch(rows: int) -> dict[str, Tensor]:
        at = torch.arange(rows)
        made = _texts(rows, longest=config.max_length, mean=0.6 * config.max_length, words=words)
        return {**made, "starts": at % 9, "ends": at % 9 + 1}

    updates = sum(round(config.epochs * windows[version] / config.batch) for version in config.versions)
    return Step(
        _fine_tuning(config, of, words, SpanHead, QuestionAnswerer), batch, config.batch, config.batch,
        updates * len(config.seeds), precision="bfloat16", jobs=len(config.versions) * len(config.seeds),
    )  # fmt: skip


def swag_step(config: Any, of: Of, *, words: int, examples: int, length: float) -> Step:
    """Four endings of every story, with every seed."""

    def batch(rows: int) -> dict[str, Tensor]:
        longest = min(config.max_length, round(1.5 * length))
        return {
            **_texts(rows, 4, longest=longest, mean=length, words=words),
            "labels": torch.arange(rows) % 4,
        }

    updates = round(config.epochs * examples / config.batch)
    return Step(
        _fine_tuning(config, of, words, lambda hidden: ClassificationHead(hidden, 1), EndingChooser), batch,
        config.batch, config.batch, updates * len(config.seeds), precision="bfloat16", jobs=len(config.seeds),
    )  # fmt: skip


STEPS = {
    "vokenization.matching": matching_step,
    "vokenization.keys": keys_step,
    "vokenization.vokens": vokens_step,
    "vokenization.pretraining": pretraining_step,
    "vokenization.glue": glue_step,
    "vokenization.squad": squad_step,
    "vokenization.swag": swag_step,
}
