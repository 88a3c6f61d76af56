"""LXMERT's forward pass for answering questions, beside transformers' `LxmertModel`.

Ours keeps the vision stream of a picture for all of its questions, computes only what the pooled vector depends on, and
both directions of a cross layer in one pass over fused kernels; on a CPU its dense layers are oneDNN's. The peer
computes everything for each question. Same weights, evaluation mode, float32.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks import inputs
from benchmarks.measure import Row, agree, compare
from vlpnb.lxmert.model import Lxmert, LxmertConfig, Stream


@dataclass(frozen=True)
class Size:
    """The published model, a small batch, text and regions of the published lengths."""

    config: LxmertConfig = inputs.LXMERT
    batch: int = 8
    words: int = 20
    regions: int = 36
    rounds: int = 5


Given = tuple[Tensor, Tensor, Tensor]


def batch_of(size: Size, device: str = "cpu") -> Given:
    """Ids, features and boxes; nothing is padded."""
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(5, size.config.vocab_size, (size.batch, size.words), generator=random)
    features = torch.rand(size.batch, size.regions, size.config.feature_width, generator=random)
    boxes = torch.rand(size.batch, size.regions, 4, generator=random)
    return ids.to(device), features.to(device), boxes.to(device)


@torch.no_grad()
def ours(model: Lxmert, given: Given, seen: Stream | None) -> Tensor:
    """The pooled vectors; with `seen` from a vision stream that was computed before."""
    ids, features, boxes = given
    if seen is None:
        return model(ids, None, features, boxes).pooled
    return model.read(ids, None, seen, pooled_only=True).pooled


@torch.no_grad()
def peer(model: nn.Module, given: Given) -> Tensor:
    """The pooled vectors, by way of everything."""
    return model(*given).pooled_output


def same_vectors(first: Tensor, second: Tensor) -> str:
    """Equal to float rounding."""
    gap = (first - second).abs().max().item()
    agree(gap < 2e-5, f"pooled vectors differ by {gap:.2g}")
    return f"difference {gap:.1e}"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """With the vision cache, which has the target; and without any saving, everything computed."""
    mine, full = inputs.lxmert_models(size.config)
    model, theirs = mine.backbone.to(device).eval(), full.lxmert.to(device).eval()
    given = batch_of(size, device)
    with torch.no_grad():
        cached = model.see(*given[1:])
    layers = "/".join(str(getattr(size.config, f"{of}_layers")) for of in ("text", "visual", "cross"))
    name = f"LXMERT {layers}, {size.batch} × {size.words} words, {size.regions} boxes"
    rows = []
    for what, seen, target in (("vision cache", cached, 1.7), ("all of it", None, None)):
        rows.append(
            compare(
                f"{name}, {what}",
                lambda seen=seen: ours(model, given, seen),
                lambda: peer(theirs, given),
                same_vectors,
                rounds=size.rounds,
                device=device,
                target=target,
            )
        )
    return rows
