"""VaLM's fusion layer with K = 8 pictures a word, beside an ordinary layer; and beside the plain way of computing it.

A layer's forward and backward pass in float32, without dropout. The ordinary layer is the same block without pictures.
The plain way projects every picture of every word to a key and a value, with one softmax in the open. Pictures come as
distinct vectors with the rows that each word found, as in training: 0.61 of them a word, which is what batches of the
`laptop` corpus have with eight pictures a word (1,255 among 32 × 64). The goal of 1.3 ordinary layers is missed by
small models on a CPU: what is looked up is bound by memory, and their other products are few.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.measure import Row, agree, compare
from vlpnb.nn.onednn import quick_products
from vlpnb.valm.config import ValmConfig, size_config
from vlpnb.valm.fusion import Pictures, pictures_of
from vlpnb.valm.model import FusionBlock

ORDINARY = 1.3  # times an ordinary layer that a fusion layer may cost


@dataclass(frozen=True)
class Size:
    """Configurations, texts and tokens of each; pictures of a word, and distinct ones a word."""

    shapes: tuple[tuple[str, ValmConfig, int, int], ...] = (
        ("base", size_config("base"), 2, 512),
        ("nano", size_config("nano", image_width=128), 16, 128),
        ("tiny", size_config("tiny", image_width=128), 32, 64),
    )
    pictures: int = 8
    distinct: float = 0.61
    rounds: int = 7


def inputs(
    config: ValmConfig, texts: int, length: int, size: Size, device: str
) -> tuple[FusionBlock, Tensor, Pictures]:
    """A layer, its stream, and the pictures of each word, of which neighbours share many."""
    torch.manual_seed(0)
    block = FusionBlock(ValmConfig(**{**vars(config), "dropout": 0.0})).to(device)
    x = torch.randn(texts, length, config.hidden, device=device)
    store = max(1, round(size.distinct * texts * length))
    vectors = torch.randn(store, config.image_width, device=device)
    rows = torch.randint(store, (texts, length, size.pictures), device=device)
    return block, x, pictures_of(vectors, None, rows)


def learn(block: FusionBlock, x: Tensor, pictures: Pictures | None, way: str = "merged") -> Tensor:
    """The output and the gradient of the stream, one after the other."""
    block.zero_grad()
    block.look.attention.way = way
    x = x.detach().requires_grad_()
    with quick_products(x):
        out = block(x, pictures, causal=True)[0]
    out.square().sum().backward()
    return torch.cat([out.detach().flatten(), x.grad.flatten()])


def ours(block: FusionBlock, x: Tensor, pictures: Pictures) -> Tensor:
    """With pictures, as training computes it."""
    return learn(block, x, pictures)


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """A fusion layer beside an ordinary layer, and beside the plain way."""
    rows = []
    for name, config, texts, length in size.shapes:
        block, x, pictures = inputs(config, texts, length, size, device)
        plain = learn(block, x, pictures, "reference")

        def same(first: Tensor, second: Tensor, plain: Tensor = plain) -> str:
            gap = float((first - plain).abs().max() / plain.abs().max())
            agree(gap < 1e-4, f"the fused and the plain way differ by {gap:.0e} of the largest number")
            return f"{gap:.0e} from the plain way"

        told = f"{name}, D = {config.hidden}, {texts} × {length} words, K = {size.pictures}"
        for beside, peer, target in (
            ("an ordinary layer", lambda b=block, x=x: learn(b, x, None), 1 / ORDINARY),
            ("projecting all", lambda b=block, x=x, p=pictures: learn(b, x, p, "reference"), None),
        ):
            rows.append(
                compare(
                    f"VaLM fusion, {told}, beside {beside}",
                    lambda b=block, x=x, p=pictures: ours(b, x, p),
                    peer,
                    same,
                    rounds=size.rounds,
                    device=device,
                    target=target,
                )
            )
    return rows
