"""An update on captions: all captions of a picture behind one picture, beside one caption a pass, as in the original.

Both ask for every word (a [MASK] for each), so that they learn the same: equal losses and gradients. Forward and
backward pass in float32, without dropout. With fewer regions than the paper's 100 less is shared.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Row, agree, compare
from vlpnb.text.caption_table import CaptionTable
from vlpnb.text.masking import Words
from vlpnb.vlp.examples import Hiding, lay_out, tensors
from vlpnb.vlp.geometry import PLACE
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.model import VlpConfig
from vlpnb.vlp.objectives import Guessing
from vlpnb.vlp.pictures import Pictures

MIDDLE = VlpConfig(vocab_size=8000, hidden=256, layers=4, heads=4, ffn=1024)
EVERY = Hiding(s2s=1.0, targets="every")
Given = dict[str, Tensor]


@dataclass(frozen=True)
class Size:
    """Model, pictures, captions of each, regions of each (of at most the model's); COCO's but for the model."""

    config: VlpConfig = MIDDLE
    pictures: int = 8
    captions: int = 5
    regions: tuple[int, ...] = (100, 36)
    rounds: int = 3


class Invented(Pictures):
    """Pictures with random regions, without a store."""

    def __init__(self, size: Size, regions: int):
        config = size.config
        self.features = torch.rand(size.pictures, regions, config.feature_width)
        self.geometry = torch.randn(size.pictures, regions, PLACE + config.classes)

    def batch(self, rows: np.ndarray) -> Given:
        """Features and geometry of some pictures."""
        return {"features": self.features[rows], "geometry": self.geometry[rows]}


def inputs(size: Size, regions: int, device: str) -> tuple[Guessing, Given, Given]:
    """The model, and the same captions packed and one a row; of 8 to 14 word pieces, as COCO's are."""
    torch.manual_seed(0)
    random, config = np.random.default_rng(0), replace(size.config, dropout=0.0)
    lengths = random.integers(8, 15, size.pictures * size.captions)
    starts = np.concatenate([[0], lengths.cumsum()])
    tokens = random.integers(config.mask_id + 1, config.vocab_size, starts[-1]).astype(np.int32)
    table = CaptionTable(np.repeat(np.arange(size.pictures), size.captions), tokens, starts)
    words = Words(
        config.sep_id, config.mask_id, config.vocab_size, np.arange(config.mask_id + 1, config.vocab_size)
    )
    pictures, made = Invented(size, regions), []
    for groups in (table.together(), np.arange(len(table) + 1)):
        rows = np.arange(len(groups) - 1)
        layout = lay_out(table, groups, rows, words, EVERY, None, 0)
        given = tensors(layout, rows, pictures, config.pad_id)
        made.append({name: tensor.to(device) for name, tensor in given.items()})
    return Guessing(VlpForGeneration(config)).to(device), *made


def learn(model: Guessing, given: Given) -> Tensor:
    """Loss and gradients of an update, one after the other."""
    model.zero_grad()
    loss = model(**given)["words"]
    loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat([loss.detach()[None], *gradients])


def ours(model: Guessing, packed: Given) -> Tensor:
    """All captions of a picture in a row."""
    return learn(model, packed)


def same_gradients(first: Tensor, second: Tensor) -> str:
    """Equal up to the rounding of sums over some thousand positions."""
    loss = float(abs(first[0] - second[0]) / second[0])
    gap = float((first[1:] - second[1:]).norm() / second[1:].norm())
    agree(loss < 1e-4 and gap < 1e-4, f"losses differ by {loss:.0e}, gradients by {gap:.0e}")
    return f"gradients differ by {gap:.0e} of their norm"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """Packed beside one caption a pass."""
    rows = []
    for regions in size.regions:
        model, packed, plain = inputs(size, regions, device)
        rows.append(
            compare(
                f"VLP {size.config.layers}L-{size.config.hidden}H, {size.pictures} × {size.captions} captions, "
                f"{regions} regions",
                lambda model=model, packed=packed: ours(model, packed),
                lambda model=model, plain=plain: learn(model, plain),
                same_gradients,
                rounds=size.rounds,
                device=device,
                target=2.0 if regions == size.config.regions else None,
            )
        )
    return rows
