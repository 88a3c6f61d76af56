"""Captions with a beam of five: keys and values kept and a picture read once, beside the ways without.

Peers, under the same search: one runs the whole sequence of every beam at every step; the other is VLP's own, which
keeps the inputs of the layers, projects them to keys and values again at every step, and has a copy of the picture for
every beam. Same weights, evaluation mode, float32, all steps.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.measure import Row, agree, compare
from vlpnb.nn.beam import beam
from vlpnb.nn.decoding import Step
from vlpnb.nn.masks import causal_mask, prefix_mask
from vlpnb.vlp.generating import VlpDecoder
from vlpnb.vlp.geometry import PLACE
from vlpnb.vlp.heads import WRITES, VlpForGeneration
from vlpnb.vlp.model import VlpConfig

MIDDLE = VlpConfig(vocab_size=8000, hidden=256, layers=4, heads=4, ffn=1024)


@dataclass(frozen=True)
class Size:
    """Model, pictures, regions of each (of at most the model's), beams and steps; the paper's but for the model."""

    config: VlpConfig = MIDDLE
    pictures: int = 8
    regions: tuple[int, ...] = (100, 36)
    width: int = 5
    steps: int = 20
    rounds: int = 2


Given = tuple[Tensor, Tensor]


def inputs(size: Size, regions: int, device: str) -> tuple[VlpForGeneration, Given]:
    """A random model, sure enough of itself that rounding changes no word, with features and geometry."""
    torch.manual_seed(0)
    model = VlpForGeneration(replace(size.config, init_std=0.08)).eval().requires_grad_(False)
    features = torch.rand(size.pictures, regions, size.config.feature_width)
    geometry = torch.randn(size.pictures, regions, PLACE + size.config.classes)
    return model.to(device), (features.to(device), geometry.to(device))


def search(step: Step, model: VlpForGeneration, size: Size) -> Tensor:
    """Words of all beams at all steps."""
    return beam(step, size.width, size.steps, model.config.sep_id, stop_early=False).words


@torch.no_grad()
def ours(model: VlpForGeneration, given: Given, size: Size) -> Tensor:
    """Two tokens a beam and step behind a picture that is read once."""
    decoder = VlpDecoder(model, steps=size.steps)
    return search(decoder.step(decoder.see(*given)), model, size)


class Written:
    """What every row has written, for peers that keep words."""

    def __init__(self, model: VlpForGeneration):
        self.model, self.words = model, None

    def extend(self, words: Tensor | None, parents: Tensor | None, rows: int) -> Tensor:
        """Texts (N, s) with a [MASK] behind them."""
        mask = torch.full((rows, 1), self.model.config.mask_id, device=self.model.backbone.word_weight.device)
        if words is None:
            self.words = mask[:, :0]
        else:
            self.words = torch.cat([self.words[parents], words[:, None]], dim=1)
        return torch.cat([self.words, mask], dim=1)


@torch.no_grad()
def recomputing(model: VlpForGeneration, given: Given, size: Size) -> Tensor:
    """The whole sequence of every beam at every step; of the last block the [MASK] alone."""
    backbone, written = model.backbone, Written(model)
    prefix = backbone.prefix(*given, WRITES[0])

    def step(words: Tensor | None, parents: Tensor | None) -> Tensor:
        text = written.extend(words, parents, len(prefix) if words is None else len(words))
        rows = len(text) // len(prefix)
        x = torch.cat([prefix.repeat_interleave(rows, 0), backbone.words(text, WRITES[1])], dim=1)
        start, end = (torch.tensor([n], device=x.device) for n in (prefix.shape[1], x.shape[1]))
        last = (end - 1).expand(len(x), 1)
        out = backbone.encode(x, prefix_mask(start, end, x.shape[1]), last).last
        return model.word_scores(out[:, -1])

    return search(step, model, size)


@torch.no_grad()
def keeping_inputs(model: VlpForGeneration, given: Given, size: Size) -> Tensor:
    """VLP's own way: the inputs of every layer are kept, for every beam, and projected again at every step."""
    backbone, states = model.backbone, []
    prefix = backbone.prefix(*given, WRITES[0])
    x = prefix
    for block in backbone.blocks:
        states.append(x)
        x = block(x)[0]

    def step(words: Tensor | None, parents: Tensor | None) -> Tensor:
        rows = len(prefix) if words is None else len(words)
        ids = torch.full((rows, 1), model.config.mask_id, device=prefix.device)
        if words is not None:
            ids = torch.cat([words[:, None], ids], dim=1)
            states[:] = [state[parents] for state in states]
        start, new = states[0].shape[1] - prefix.shape[1], ids.shape[1]
        places = model.config.prefix + torch.arange(start, start + new, device=ids.device)[None]
        x = backbone.words(ids, WRITES[1], places)
        order = causal_mask(states[0].shape[1] + new, ids.device)[:, :, -new:]
        for number, block in enumerate(backbone.blocks):
            past = torch.cat([states[number], x], dim=1)
            states[number] = past[:, :-1]
            x = block.think(block.look(x, order, past)[0])
        return model.word_scores(x[:, -1])

    return search(step, model, size)


def same_words(first: Tensor, second: Tensor) -> str:
    """All beams equal at all steps."""
    differ = int((first != second).sum())
    agree(differ == 0, f"{differ} of {first.numel()} words of the beams differ")
    return f"{first.numel()} equal words of beams"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """Beside the recomputing decoder, which has the target; and beside VLP's own."""
    rows = []
    shape = f"VLP {size.config.layers}L-{size.config.hidden}H"
    for regions in size.regions:
        model, given = inputs(size, regions, device)
        name = f"{shape}, beam {size.width}, {size.pictures} × {regions} regions"
        for what, peer, target in (("all anew", recomputing, 4.0), ("VLP's way", keeping_inputs, None)):
            rows.append(
                compare(
                    f"{name}: {what}",
                    lambda model=model, given=given: ours(model, given, size),
                    lambda model=model, given=given, peer=peer: peer(model, given, size),
                    same_words,
                    rounds=size.rounds,
                    device=device,
                    target=target,
                )
            )
    return rows
