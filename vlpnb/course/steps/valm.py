"""What `vlpnb plan` counts of part 4."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vlpnb.course.steps.foundations import RN50X16, ClipText
from vlpnb.nn.dual_encoder import DualEncoder, DualEncoderConfig
from vlpnb.train.counting import Step, asked, filled, pieces
from vlpnb.valm.config import size_config
from vlpnb.valm.objectives import ValmLM
from vlpnb.valm.pretraining import training_plan

Of = Callable[[str], Any]


def pretraining_step(
    config: Any, of: Of, *, words: int, length: float, block: int, images: int, width: int, k: int
) -> Step:
    """Next words beside `images` distinct pictures for each block, of which every word found `k`."""
    pictured = config.variant != "none"
    width = config.words_width if config.variant == "captions" else width
    shape = size_config(
        config.size, vocab_size=words, max_positions=block, dropout=config.dropout, image_width=width,
        fusion=config.fusion if pictured else (), projection=config.projection, scale=config.scale,
        image_mode=config.image_mode, mlm_head=config.objective != "next",
    )  # fmt: skip

    def batch(rows: int) -> dict[str, Tensor]:
        real = filled(rows, min(block, round(2 * length)), length)
        ids = pieces(*real.shape, words).masked_fill(~real, shape.pad_id)
        shown: dict[str, Tensor] = {}
        if pictured:
            found = torch.arange(ids.numel() * k).view(*ids.shape, k) % (rows * images)
            shown = {"images": torch.zeros(rows * images, width), "rows": found}
        made: dict[str, Tensor] = {}
        if config.objective != "masked":
            made |= {"ids": ids, "targets": ids, **shown}
        if config.objective != "next":
            made |= {"masked_ids": ids, "labels": asked(ids, config.masked_rate)}
            made |= {f"masked_{name}": value for name, value in shown.items()}
        return made

    return Step(
        lambda: ValmLM(shape), batch, config.batch, config.micro_batch, training_plan(config).updates, config.optimiser,
        config.precision, models=1,
    )  # fmt: skip


class Tower(nn.Module):
    """The text side of a dual encoder."""

    def __init__(self, config: DualEncoderConfig):
        super().__init__()
        self.net = DualEncoder(config)

    def forward(self, ids: Tensor) -> Tensor:
        return self.net.token_states(ids)


def queries_step(config: Any, of: Of, *, words: int, tokens: int, clip: bool = False) -> Step:
    """A forward pass of the text tower over the corpus; the search through an index is not counted."""
    towers = of("towers")

    def make() -> nn.Module:
        if clip:
            return ClipText(RN50X16)
        return Tower(
            DualEncoderConfig(
                vocab_size=words, hidden=towers.hidden, layers=towers.layers, heads=towers.heads,
                ffn=4 * towers.hidden, width=towers.width, longest=towers.longest,
            )
        )  # fmt: skip

    longest = 77 if clip else towers.longest
    return Step(
        make, lambda rows: {"ids": pieces(rows, longest, words)}, 64, 64, tokens / longest / 64, None,
        kept=4 * tokens * config.k,
    )  # fmt: skip


STEPS = {"valm.pretraining": pretraining_step, "valm.queries": queries_step}
