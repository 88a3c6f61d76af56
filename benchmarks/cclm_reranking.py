"""Re-ranking of CCLM beside the plain way, in which the original computes the same scores.

Ours makes the keys and values of a picture once, reads captions at their own length, scores a pair that is in both
lists once, makes the first self-attention once a caption, and asks the last layer for one position. The plain way pads
every caption to the longest allowed, makes keys and values for every pair, scores both directions apart, and has its
attention in the open, with all its scores in memory. Captions of 18 word pieces on average and pictures of 145
positions are those of xFlickr&CO at 384 pixels; few enough of both that a pair seldom is in both lists.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.measure import Row, agree, compare
from vlpnb.cclm.config import CclmConfig
from vlpnb.cclm.model import Cclm
from vlpnb.downstream.reranking import Captions, Gallery, read, rerank, rerank_plainly, see

TOLERANCE = 1e-5
SHAPE = CclmConfig(
    vocab_size=1000, hidden=256, text_layers=1, fusion_layers=2, heads=4, ffn=1024, max_positions=130, image_width=64,
    dropout=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Model; pictures and their patches; captions, their word pieces on average, and to how many the plain way pads."""

    config: CclmConfig = SHAPE
    layers: tuple[int, ...] = (2, 6)
    pictures: int = 8
    patches: int = 144
    captions: int = 40
    words: int = 18
    padded: int = 80
    k: int = 8
    rounds: int = 3


def inputs(size: Size, layers: int, device: str) -> tuple[Cclm, Gallery, Captions]:
    """A random model that has read captions of several lengths, and seen pictures."""
    torch.manual_seed(0)
    model = Cclm(replace(size.config, fusion_layers=layers)).eval().to(device)
    lengths = torch.randint(size.words // 2, size.words + size.words // 2 + 1, (size.captions,)).tolist()
    texts: list[Tensor] = [torch.randint(4, size.config.vocab_size - 1, (length,)) for length in lengths]
    seen = torch.randn(size.pictures, 1 + size.patches, size.config.image_width, device=device)
    return model, see(model, lambda part: seen[part], size.pictures), read(model, texts, device)


def ours(model: Cclm, gallery: Gallery, captions: Captions, k: int) -> tuple[Tensor, Tensor]:
    """Scores of both directions, each pair scored once."""
    found = rerank(model, gallery, captions, k)
    return found.pictures_to_captions, found.captions_to_pictures


def peer(model: Cclm, gallery: Gallery, captions: Captions, k: int, padded: int) -> tuple[Tensor, Tensor]:
    """The same in the plain way."""
    found = rerank_plainly(model, gallery, captions, k, padded)
    return found.pictures_to_captions, found.captions_to_pictures


def same_scores(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> str:
    """Both directions equal, everywhere."""
    gap = max(float((one - other).abs().max()) for one, other in zip(first, second, strict=True))
    agree(gap < TOLERANCE, f"scores differ by {gap:.0e}")
    return f"scores differ by {gap:.0e}"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """Both ways on one gallery; the target is 12 with the layers of the course's models."""
    rows = []
    for number, layers in enumerate(size.layers):
        given = inputs(size, layers, device)
        once, twice = rerank(*given, size.k).scored, rerank_plainly(*given, size.k, size.padded).scored
        rows.append(
            compare(
                f"CCLM re-ranking, {layers} layers of {size.config.hidden}, k = {size.k} of {size.pictures}",
                lambda given=given: ours(*given, size.k),
                lambda given=given: peer(*given, size.k, size.padded),
                same_scores,
                rounds=size.rounds,
                device=device,
                target=None if number else 12.0,
                note=f"{once} pairs scored where the plain way scores {twice}",
            )
        )
    return rows
