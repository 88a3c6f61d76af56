"""What `vlpnb plan` counts of part 2."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vlpnb.lxmert.heads import AnsweringModel, LxmertForPretraining, PairModel
from vlpnb.lxmert.model import SIZES, LxmertConfig
from vlpnb.lxmert.pretraining import training_plan
from vlpnb.train.counting import Step, asked, filled, pieces, some

Of = Callable[[str], Any]


def _shape(of: Of, words: int, width: int, dropout: float | None = None, **classes: int) -> LxmertConfig:
    config = of("lxmert.pretraining")
    layers = {name: getattr(config, name) for name in ("text_layers", "visual_layers", "cross_layers")}
    given = SIZES[config.size] | {name: count for name, count in layers.items() if count is not None}
    dropout = config.dropout if dropout is None else dropout
    return LxmertConfig(
        **given, vocab_size=words, feature_width=width, dropout=dropout, attention_dropout=dropout, **classes
    )


def _seen(rows: int, regions: int, width: int) -> dict[str, Tensor]:
    return {"features": torch.zeros(rows, regions, width), "boxes": torch.zeros(rows, regions, 4)}


def _read(rows: int, longest: int, length: float, words: int) -> dict[str, Tensor]:
    return {"ids": pieces(rows, longest, words), "mask": filled(rows, longest, length)}


def pretraining_step(
    config: Any, of: Of, *, words: int, length: float, regions: int, width: int, objects: int, attributes: int,
    answers: int, examples: int,
) -> Step:  # fmt: skip
    """All tasks that there are labels for."""
    classes = {"objects": objects, "attributes": attributes, "answers": answers}
    shape = _shape(of, words, width, config.dropout, **{name: max(n, 1) for name, n in classes.items()})
    losses = tuple(name for name in config.wanted.losses if classes.get(name, 1))

    def make() -> nn.Module:
        model = LxmertForPretraining(shape, config.feature_loss)
        model.freeze_what_lacks_a_loss(losses)
        return model

    def batch(rows: int) -> dict[str, Tensor]:
        made = {**_read(rows, config.text_length, length, words), **_seen(rows, regions, width)}
        numbers = torch.arange(rows * regions).view(rows, regions)
        labels = {
            "words": {"word_labels": asked(made["ids"], config.word_mask_rate)},
            "match": {"matched": torch.arange(rows) % 2},
            "objects": {"object_ids": numbers % max(objects, 1)},
            "attributes": {"attribute_ids": numbers % max(attributes, 1)},
            "features": {
                "targets": made["features"], "object_masked": some(rows, regions, config.object_mask_rate)
            },
            "answers": {"answer": torch.arange(rows) % max(answers, 1)},
        }  # fmt: skip
        return made | {name: value for loss in losses for name, value in labels[loss].items()}

    rows = min(config.batch, examples)
    plan = training_plan(config, losses, -(-examples // rows))
    return Step(
        make, batch, rows, config.micro_batch, plan.updates, config.optimiser, config.precision, models=1
    )


def _updates(config: Any, examples: int) -> int:
    examples = min(examples, config.max_train or examples)
    return round(config.epochs * (examples // min(config.batch, examples))) * len(config.seeds)


def answering_step(
    config: Any, of: Of, *, words: int, length: float, regions: int, width: int, answers: int, examples: int
) -> Step:
    """Questions, with every seed."""
    regions = 1 if config.blind else regions

    def batch(rows: int) -> dict[str, Tensor]:
        read = _read(rows, config.max_length, length, words)
        return {**read, **_seen(rows, regions, width), "targets": torch.zeros(rows, answers)}

    return Step(
        lambda: AnsweringModel(_shape(of, words, width), answers, config.objective), batch, config.batch, config.batch,
        _updates(config, examples), config.optimiser, "bfloat16", jobs=len(config.seeds),
        models=len(config.seeds) * config.keep_models,
    )  # fmt: skip


def nlvr2_step(
    config: Any, of: Of, *, words: int, length: float, regions: int, width: int, examples: int
) -> Step:
    """Statements about two pictures, with every seed."""
    regions = 1 if config.blind else regions

    def batch(rows: int) -> dict[str, Tensor]:
        two = {
            name: value.view(rows, 2, *value.shape[1:])
            for name, value in _seen(2 * rows, regions, width).items()
        }
        return {**_read(rows, config.max_length, length, words), **two, "label": torch.arange(rows) % 2}

    return Step(
        lambda: PairModel(_shape(of, words, width)), batch, config.batch, config.batch, _updates(config, examples),
        config.optimiser, "bfloat16", jobs=len(config.seeds), models=len(config.seeds) * config.keep_models,
    )  # fmt: skip


STEPS = {
    "lxmert.pretraining": pretraining_step,
    "lxmert.vqa": answering_step,
    "lxmert.gqa": answering_step,
    "lxmert.nlvr2": nlvr2_step,
}
