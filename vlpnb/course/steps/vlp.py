"""What `vlpnb plan` counts of part 3."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlpnb.nn.losses import IGNORE
from vlpnb.train.counting import Step, filled, pieces
from vlpnb.vlp.generating import VlpDecoder, log_probs_of
from vlpnb.vlp.geometry import PLACE
from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration
from vlpnb.vlp.model import SIZES, VlpConfig
from vlpnb.vlp.objectives import Guessing
from vlpnb.vlp.pretraining import training_plan

Of = Callable[[str], Any]


def _shape(of: Of, words: int, width: int, classes: int, dropout: float, text_length: int) -> VlpConfig:
    config = of("vlp.pretraining")
    layers = {} if config.layers is None else {"layers": config.layers}
    ids = dict(zip(("pad_id", "unk_id", "cls_id", "sep_id", "mask_id"), range(5), strict=True))
    return VlpConfig(
        **SIZES[config.size] | layers, vocab_size=words, text_length=text_length, feature_width=width, classes=classes,
        visual_hidden=config.visual_hidden, slots=config.original.slots, joint_norm=config.original.joint_norm,
        dropout=dropout, init_std=config.init_std, calm=config.calm, **ids,
    )  # fmt: skip


def _seen(rows: int, regions: int, width: int, classes: int) -> dict[str, Tensor]:
    return {
        "features": torch.zeros(rows, regions, width),
        "geometry": torch.zeros(rows, regions, PLACE + classes),
    }


def _captions(rows: int, each: int, length: float, words: int, every: float) -> dict[str, Tensor]:
    """`each` captions behind every picture, as `examples.lay_out` lays them out; `every`: the share of the rows in
    which a query stands for each word.
    """
    n = max(round(length), 1)
    at = torch.arange(n + 1).repeat(each)
    owner = torch.arange(each).repeat_interleave(n + 1)
    asks = torch.arange(rows) < round(every * rows)
    wide = 2 * len(at) if every else len(at)
    made = {
        "ids": pieces(rows, wide, words), "place": at.repeat(wide // len(at)).expand(rows, -1),
        "owner": owner.repeat(wide // len(at)).expand(rows, -1), "s2s": torch.arange(rows) % 4 > 0,
    }  # fmt: skip
    query = (torch.arange(wide) >= len(at)).expand(rows, -1)
    hidden = (at.repeat(wide // len(at)).expand(rows, -1) < 2) & ~query  # two or three words of a caption
    targets = torch.where(asks[:, None], query, hidden)
    made["labels"] = pieces(rows, wide, words).masked_fill(~targets, IGNORE)
    return made | ({"query": query} if every else {})


def pretraining_step(
    config: Any, of: Of, *, words: int, length: float, regions: int, width: int, classes: int, examples: int
) -> Step:
    """Captions, three quarters from left to right; or text alone."""
    if not config.pictures:
        regions, width, classes = 0, 1, 1
    shape = _shape(of, words, width, classes, config.dropout, config.text_length)
    every = config.s2s if config.targets == "every" else 0.0

    def batch(rows: int) -> dict[str, Tensor]:
        return {**_captions(rows, 1, length, words, every), **_seen(rows, regions, width, classes)}

    rows = min(config.batch, examples)
    plan = training_plan(config, -(-examples // rows))
    return Step(
        lambda: Guessing(VlpForGeneration(shape, config.label_smoothing)), batch, rows, config.micro_batch,
        plan.updates, config.optimiser, config.precision, models=1,
    )  # fmt: skip


def captioning_step(
    config: Any, of: Of, *, words: int, length: float, regions: int, width: int, classes: int, pictures: int,
    captions: int,
) -> Step | str:  # fmt: skip
    """Captions of a picture behind one picture, with every seed."""
    if not config.epochs:
        return "captions with the weights as they are"
    shape = _shape(of, words, width, classes, config.dropout, config.text_length)
    pictures, all_of_them = min(pictures, config.max_images or pictures), pictures
    each = round(captions / all_of_them) if config.packed else 1
    every = 1.0 if config.targets == "every" else 0.0

    def batch(rows: int) -> dict[str, Tensor]:
        made = _captions(rows, each, length, words, every)
        made["s2s"] = torch.ones_like(made["s2s"])
        return {**made, **_seen(rows, regions, width, classes)}

    units = pictures if config.packed else round(captions * pictures / all_of_them)
    rows = min(max(1, round(config.batch / each)), units)
    updates = round(config.epochs * -(-units // rows)) * len(config.seeds)
    return Step(
        lambda: Guessing(VlpForGeneration(shape, config.label_smoothing)), batch, rows, config.micro_batch, updates,
        config.optimiser, "bfloat16", jobs=len(config.seeds), models=len(config.seeds) * config.keep_models,
    )  # fmt: skip


class OwnCaptions(nn.Module):
    """Captions drawn and learnt from. Drawing, word by word with keys and values kept, takes about the products of one
    pass over what is drawn, and is counted as that.
    """

    def __init__(self, model: VlpForGeneration, steps: int):
        super().__init__()
        self.model, self.decoder = model, VlpDecoder(model, None, steps)

    def forward(
        self, features: Float[Tensor, "B R F"], geometry: Float[Tensor, "B R G"], drawn: Int[Tensor, "N T"]
    ) -> dict[str, Float[Tensor, ""]]:
        prefix = self.decoder.see(features, geometry)
        with torch.no_grad():
            log_probs_of(self.model, prefix, drawn)
        return {"policy": log_probs_of(self.model, prefix, drawn).sum()}


def scst_step(
    config: Any, of: Of, *, words: int, length: float, regions: int, width: int, classes: int, pictures: int
) -> Step:
    """A picture's own captions, with every seed; rewards are computed on the CPU and not counted."""
    shape = _shape(of, words, width, classes, config.dropout, config.text_length)

    def batch(rows: int) -> dict[str, Tensor]:
        drawn = pieces(rows * config.samples, max(2, round(length) + 1), words)
        return {**_seen(rows, regions, width, classes), "drawn": drawn}

    units = min(pictures, config.max_images or pictures)
    rows = min(config.batch, units)
    updates = round(config.epochs * -(-units // rows)) * len(config.seeds)
    return Step(
        lambda: OwnCaptions(VlpForGeneration(shape), config.text_length + 1), batch, rows, config.micro_batch, updates,
        config.optimiser, "bfloat16", jobs=len(config.seeds), models=len(config.seeds) * config.keep_models,
    )  # fmt: skip


def vqa_step(
    config: Any, of: Of, *, words: int, length: float, regions: int, width: int, classes: int, answers: int,
    examples: int,
) -> Step:  # fmt: skip
    """Questions, with every seed."""
    shape = _shape(of, words, width, classes, config.dropout, config.text_length)
    regions = 1 if config.blind else regions

    def batch(rows: int) -> dict[str, Tensor]:
        longest = min(config.text_length + 1, round(2 * length))
        lengths = filled(rows, longest, length).sum(1) - 1
        return {
            "ids": pieces(rows, longest, words), "lengths": lengths, "targets": torch.zeros(rows, answers),
            **_seen(rows, regions, width, classes),
        }  # fmt: skip

    examples = min(examples, config.max_train or examples)
    updates = round(config.epochs * (examples // min(config.batch, examples))) * len(config.seeds)
    return Step(
        lambda: VlpForAnswers(shape, answers, config.objective), batch, config.batch, config.batch, updates,
        config.optimiser, "bfloat16", jobs=len(config.seeds), models=len(config.seeds) * config.keep_models,
    )  # fmt: skip


STEPS = {
    "vlp.pretraining": pretraining_step,
    "vlp.captioning": captioning_step,
    "vlp.scst": scst_step,
    "vlp.vqa": vqa_step,
}
