"""What `vlpnb plan` counts of part 5."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vlpnb.cclm.answering import AnsweringModel
from vlpnb.cclm.config import CclmConfig, size_config
from vlpnb.cclm.model import Cclm
from vlpnb.cclm.objectives import CclmPretraining
from vlpnb.cclm.pairs import PairModel
from vlpnb.cclm.pretraining import training_plan
from vlpnb.cclm.xvnli import EntailmentModel
from vlpnb.nn.losses import IGNORE
from vlpnb.train.counting import Step, filled, pieces

Of = Callable[[str], Any]


def _shape(of: Of, words: int, width: int, dropout: float, boxes: bool = False) -> CclmConfig:
    config = of("cclm.pretraining")
    layers = {name: getattr(config, name) for name in ("text_layers", "fusion_layers")}
    return size_config(
        config.size, **{name: count for name, count in layers.items() if count is not None}, vocab_size=words,
        image_width=width, dropout=dropout, boxes=boxes,
    )  # fmt: skip


def _read(rows: int, longest: int, length: float, words: int, prefix: str = "") -> dict[str, Tensor]:
    longest = min(longest, round(1.5 * length))
    return {f"{prefix}ids": pieces(rows, longest, words), f"{prefix}mask": filled(rows, longest, length)}


def _asked(ids: Tensor, fused: int, rate: float, most: int, words: int, mask: Tensor) -> dict[str, Tensor]:
    """Masked word pieces of the first rows, as `batches.Share.part` asks for them."""
    wide = min(most, ids.shape[1])
    count = (mask[:fused].sum(1) * round(100 * rate) // 100).clamp(min=1, max=wide)
    there = torch.arange(wide) < count[:, None]
    return {
        "masked_ids": ids[:fused], "masked_places": torch.arange(wide).expand(fused, -1) * there,
        "masked_labels": pieces(fused, wide, words).masked_fill(~there, IGNORE),
    }  # fmt: skip


def pretraining_step(
    config: Any,
    of: Of,
    *,
    words: int,
    length: float,
    parallel_length: float,
    patches: int,
    width: int,
    pictures: int,
) -> Step:
    """Captions, or regions, and parallel text; of regions the cost is that of captions, with fewer pictures."""
    losses = frozenset(config.losses)
    shape = _shape(of, words, width, config.dropout, "boxes" in losses)
    share = (config.fused or config.batch) / config.batch

    def part(rows: int, longest: int, mean: float, most: int, other: dict[str, Tensor]) -> dict[str, Tensor]:
        fused = max(2, round(share * rows))
        read = _read(rows, longest, mean, words)
        asks = _asked(read["ids"], fused, config.mask_rate, most, words, read["mask"])
        following = torch.arange(1, fused + 1) % fused
        drawn = {"negative_view": following, "negative_text": following}
        return {**read, **other, **(asks | drawn if losses - {"itc", "ttc"} else asks)}

    def batch(rows: int) -> dict[str, Tensor]:
        rows = max(rows, 2)
        seen = {"patches": torch.zeros(rows, 1 + patches, width)}
        made = part(rows, config.max_tokens, length, config.max_masks, seen)
        if "ttc" not in losses:
            return made
        pairs = max(2, round(rows * (config.parallel_batch or config.batch) / config.batch))
        other = _read(pairs, config.parallel_max_tokens, parallel_length, words, "other_")
        also = part(pairs, config.parallel_max_tokens, parallel_length, config.parallel_max_masks, other)
        return made | {f"parallel_{name}": value for name, value in also.items()}

    rows = min(config.batch, pictures)
    with torch.device("meta"):
        model = CclmPretraining(Cclm(shape), losses)
    updates = training_plan(config, -(-pictures // rows), model).updates
    return Step(
        lambda: CclmPretraining(Cclm(shape), losses), batch, rows, rows, updates, config.optimiser, config.precision,
        models=1,
    )  # fmt: skip


def _fine_tuning(
    config: Any,
    make: Callable[[], nn.Module],
    batch: Callable[[int], dict[str, Tensor]],
    examples: int,
    **more: Any,
) -> Step:
    examples = min(examples, getattr(config, "max_train", None) or examples)
    rows = min(config.batch, examples)
    seeds = len(config.seeds)
    updates = round(config.epochs * -(-examples // rows)) * seeds
    return Step(
        make, batch, rows, rows, updates, config.optimiser, "bfloat16", jobs=seeds,
        models=seeds * getattr(config, "keep_models", True), **more,
    )  # fmt: skip


def xvnli_step(
    config: Any,
    of: Of,
    *,
    words: int,
    length: float,
    patches: int,
    width: int,
    examples: int,
    languages: int = 0,
) -> Step:
    """Entailment, with every seed."""

    def batch(rows: int) -> dict[str, Tensor]:
        at = torch.arange(rows)
        seen = {"patches": torch.zeros(rows, 1 + patches, width), "picture": at, "label": at % 3}
        return {**_read(rows, config.max_length, length, words), **seen}

    return _fine_tuning(
        config, lambda: EntailmentModel(Cclm(_shape(of, words, width, config.dropout))), batch, examples
    )


def xgqa_step(
    config: Any, of: Of, *, words: int, length: float, patches: int, width: int, examples: int
) -> Step:
    """Questions whose answers are written, with every seed."""

    def batch(rows: int) -> dict[str, Tensor]:
        at, longest = torch.arange(rows), 5
        return {
            **_read(rows, config.max_length, length, words), "patches": torch.zeros(rows, 1 + patches, width),
            "picture": at, "answer_ids": pieces(rows, longest, words), "answer_of": at,
            "answer_mask": torch.ones(rows, longest, dtype=torch.bool), "answer_weight": torch.ones(rows),
        }  # fmt: skip

    return _fine_tuning(
        config, lambda: AnsweringModel(Cclm(_shape(of, words, width, config.dropout))), batch, examples
    )


def marvl_step(
    config: Any, of: Of, *, words: int, length: float, patches: int, width: int, examples: int
) -> Step:
    """Statements about two pictures, with every seed."""

    def batch(rows: int) -> dict[str, Tensor]:
        at = torch.arange(rows)
        seen = {"patches": torch.zeros(2 * rows, 1 + patches, width), "left": at, "right": at + rows}
        return {**_read(rows, config.max_length, length, words), **seen, "label": at % 2}

    return _fine_tuning(
        config, lambda: PairModel(Cclm(_shape(of, words, width, config.dropout))), batch, examples
    )


def retrieval_step(
    config: Any, of: Of, *, words: int, length: float, patches: int, width: int, captions: int
) -> Step | str:
    """Pictures and captions by their vectors and matching; without epochs a model is asked as it is."""
    if not config.epochs:
        return "asks the model as it is"

    def batch(rows: int) -> dict[str, Tensor]:
        rows = max(rows, 2)
        following = torch.arange(1, rows + 1) % rows
        return {
            **_read(rows, config.max_tokens, length, words), "patches": torch.zeros(rows, 1 + patches, width),
            "negative_view": following, "negative_text": following,
        }  # fmt: skip

    def make() -> nn.Module:
        return CclmPretraining(Cclm(_shape(of, words, width, config.dropout)), ("itc", "itm"))

    return _fine_tuning(config, make, batch, captions)


STEPS = {
    "cclm.pretraining": pretraining_step,
    "cclm.retrieval": retrieval_step,
    "cclm.xvnli": xvnli_step,
    "cclm.xgqa": xgqa_step,
    "cclm.marvl": marvl_step,
}
