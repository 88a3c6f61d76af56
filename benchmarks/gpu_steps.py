"""The pre-training step of each system at its paper's size, and at toy size for a try without a GPU.

A batch is what one GPU gets at a time. Texts and pictures are random; their lengths, and the share of words and regions
that are asked for, are the papers'.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks import inputs, lxmert_step, pretraining
from vlpnb.cclm.config import CclmConfig
from vlpnb.cclm.model import Cclm
from vlpnb.cclm.objectives import CclmPretraining
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.model import LxmertConfig
from vlpnb.nn.losses import IGNORE
from vlpnb.nn.transformer import TransformerConfig
from vlpnb.train.optim import Optimiser
from vlpnb.valm.config import ValmConfig
from vlpnb.valm.objectives import ValmLM
from vlpnb.vision.swin import SwinConfig
from vlpnb.vlp.geometry import PLACE
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.model import VlpConfig
from vlpnb.vlp.objectives import Guessing
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """A model and a batch of so many rows, each made anew at a call."""

    system: str
    what: str
    model: Callable[[], nn.Module]
    batch: Callable[[int], Batch]
    rows: int
    tokens: int
    """Of a row: word pieces of all its texts."""
    optimiser: Optimiser


def vokenization(shape: inputs.Shape, words: int, vokens: int, rows: int, block: int) -> Step:
    """Masked words and vokens (Tan and Bansal 2020, section 4)."""
    layers, hidden, heads, ffn = shape
    config = TransformerConfig(words, hidden, layers, heads, ffn)
    like = pretraining.Size(shape, words, vokens, block=block)
    return Step(
        "vokenization", f"{layers}L-{hidden}H, {block} tokens, {vokens:,} vokens",
        lambda: VisuallySupervisedLM(config, vokens), lambda n: pretraining.batch_of(like, n), rows, block, "adamw",
    )  # fmt: skip


def lxmert(config: LxmertConfig, rows: int, words: int = 20, regions: int = 36) -> Step:
    """All five tasks (Tan and Bansal 2019, section 3.1)."""
    layers = f"{config.text_layers}/{config.visual_layers}/{config.cross_layers}"
    return Step(
        "lxmert", f"{layers} layers, {words} tokens, {regions} regions",
        lambda: LxmertForPretraining(config),
        lambda n: lxmert_step.batch_of(lxmert_step.Size(config, n, words, regions)), rows, words, "bert_adam",
    )  # fmt: skip


def vlp(config: VlpConfig, rows: int, words: int = 20, asked: int = 3) -> Step:
    """Masked words of one caption, three of four written (Zhou et al. 2020)."""

    def batch(n: int) -> Batch:
        random = torch.Generator().manual_seed(0)
        at = torch.arange(words).expand(n, -1)
        ids = torch.randint(5, config.vocab_size, (n, words), generator=random)
        return {
            "features": torch.rand(n, config.regions, config.feature_width, generator=random),
            "geometry": torch.rand(n, config.regions, PLACE + config.classes, generator=random),
            "ids": ids, "place": at, "owner": torch.zeros_like(at),
            "labels": ids.where((at % (words // asked) == 1) & (at // (words // asked) < asked), IGNORE),
            "s2s": torch.arange(n) % 4 > 0,
        }  # fmt: skip

    what = f"{config.layers}L-{config.hidden}H, {config.regions} regions, {words} tokens"
    return Step("vlp", what, lambda: Guessing(VlpForGeneration(config)), batch, rows, words, "vlp_adam")


def valm(config: ValmConfig, rows: int, words: int = 512, pictures: int = 4, distinct: int = 2000) -> Step:
    """The next word beside the pictures of each (Wang et al. 2023)."""

    def batch(n: int) -> Batch:
        random = torch.Generator().manual_seed(0)
        ids = torch.randint(4, config.vocab_size, (n, words + 1), generator=random)
        return {
            "ids": ids[:, :-1], "targets": ids[:, 1:],
            "images": torch.randn(distinct, config.image_width, generator=random),
            "rows": torch.randint(distinct, (n, words, pictures), generator=random),
        }  # fmt: skip

    what = f"{config.layers}L-{config.hidden}H, {words} tokens, {pictures} pictures each"
    return Step("valm", what, lambda: ValmLM(config), batch, rows, words, "fairseq_adam")


def cclm(config: CclmConfig, rows: int, words: int = 30, asked: int = 10) -> Step:
    """Pictures with captions and as many parallel sentences (Zeng et al. 2023, section 3)."""

    def text(n: int, random: torch.Generator, prefix: str = "") -> Batch:
        ids, other = (torch.randint(4, config.vocab_size - 1, (n, words), generator=random) for _ in range(2))
        places = torch.arange(1, asked + 1).expand(n, -1)
        made = {
            "ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool), "masked_ids": ids.clone(),
            "masked_places": places, "masked_labels": ids.gather(1, places),
        }  # fmt: skip
        made["masked_ids"][:, 1 : asked + 1] = config.mask_id
        if prefix:
            made |= {"other_ids": other, "other_mask": made["mask"]}
        return {prefix + name: value for name, value in made.items()}

    def batch(n: int) -> Batch:
        random = torch.Generator().manual_seed(0)
        shape = (3, config.swin.image_size, config.swin.image_size)
        seen = torch.randn(n, *shape, generator=random)
        return {"patches": seen, **text(n, random), **text(n, random, "parallel_")}

    losses = ("itc", "itm", "words", "ttc", "ttm", "parallel_words")
    layers, side = f"{config.text_layers}+{config.fusion_layers}L-{config.hidden}H", config.swin.image_size
    return Step(
        "cclm", f"{layers}, pictures of {side}² pixels, {words} tokens", lambda: CclmPretraining(Cclm(config), losses),
        batch, rows, 3 * words, "transformers_adamw",
    )  # fmt: skip


PAPER = (
    vokenization((12, 768, 12, 3072), 30_522, 50_000, rows=64, block=128),
    lxmert(LxmertConfig(), rows=64),
    vlp(VlpConfig(), rows=64),
    valm(ValmConfig(), rows=16),
    cclm(CclmConfig(vision="swin", swin=SwinConfig(), boxes=False), rows=32),
)
TINY = {"hidden": 32, "heads": 2, "ffn": 64}
TOY_VLP = VlpConfig(
    **TINY, vocab_size=60, layers=2, max_positions=24, regions=5, text_length=12, feature_width=8, classes=5, answers=7,
    pad_id=0, unk_id=1, cls_id=2, sep_id=3, mask_id=4,
)  # fmt: skip
TOY = (
    vokenization((2, 32, 2, 64), 60, 90, rows=4, block=16),
    lxmert(
        replace(
            LxmertConfig(), **TINY, vocab_size=60, text_layers=1, visual_layers=1, cross_layers=2, feature_width=8,
            objects=5, attributes=4, answers=7, max_positions=16,
        ),
        rows=4, words=12, regions=5,
    ),
    vlp(TOY_VLP, rows=4, words=6),
    valm(
        ValmConfig(**TINY, vocab_size=60, layers=2, max_positions=8, image_width=12), rows=4, words=8, pictures=2,
        distinct=9,
    ),
    cclm(
        CclmConfig(
            **TINY, vocab_size=60, text_layers=1, fusion_layers=1, max_positions=24, width=8, image_width=32,
            vision="swin", boxes=False,
            swin=SwinConfig(image_size=32, window=2, embed=4, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2)),
        ),
        rows=4, words=8, asked=2,
    ),
)  # fmt: skip
