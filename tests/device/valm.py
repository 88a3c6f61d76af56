"""VaLM: next words beside pictures in all variants, masked words, and the towers, each loss at toy size."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests.device.given import B, Case, D, F, T, V, ids, numbers, ragged, some
from vlpnb.nn.dual_encoder import DualEncoder, DualEncoderConfig
from vlpnb.valm.config import ValmConfig
from vlpnb.valm.objectives import ValmLM

VALM = ValmConfig(V, D, 3, 4, 64, max_positions=T + 2, image_width=D)
K = 3  # pictures of a word


def next_words(images: str = "own", width: int = D) -> dict[str, Tensor]:
    targets = ids(2).where(ragged(), 1)  # 1 is padding
    given = {"ids": ids(1).where(ragged(), 1), "targets": targets}
    if images == "own":
        return given | {"images": numbers(3, B, T, K, width), "image_mask": numbers(4, B, T, K) < 0.8}
    if images == "none":
        return given
    count = 7 if images == "few" else 200
    return given | {"images": numbers(3, count, width), "rows": ids(5, B, T, K, least=0) % (count + 1) - 1}


def masked_words() -> dict[str, Tensor]:
    return {
        "masked_ids": ids(6), "labels": some(7, ids(8), 0.2), "masked_rows": ids(9, B, T, K, least=0) % 8 - 1,
        "images": numbers(3, 7, D),
    }  # fmt: skip


def cases() -> dict[str, Case]:
    def lm(images: str = "own", **changes: Any) -> Case:
        width = changes.get("image_width", D)
        return Case(lambda: ValmLM(replace(VALM, **changes)), lambda: next_words(images, width))

    tower = DualEncoderConfig(vocab_size=V, hidden=D, layers=2, heads=4, ffn=64, feature_width=F, width=16)
    pairs = {"ids": ids(1), "features": numbers(2, B, F), "ends": torch.tensor([9, 5, 7, 6])}
    own = {f"projection {name}": lm(projection=name) for name in ("separate", "shared", "no_norm", "gated")}
    own |= {f"hidden pictures as {mode}": lm(image_mode=mode) for mode in ("zero", "null")}
    own |= {f"stack, {scope} pictures": lm(stack=1, fusion=(), scope=scope) for scope in ("own", "past")}
    found = {
        "next words": lm(),
        "next words, few distinct pictures": lm("few"),
        "next words, many distinct pictures": lm("many"),
        "next words, no picture": lm("none"),
        "next words, another width of pictures": lm(image_width=F),
        "next words, learned positions": lm(positions="learned", embed_scale=False),
        **{f"next words, {name}": case for name, case in own.items()},
        "masked words": Case(lambda: ValmLM(replace(VALM, mlm_head=True)), masked_words),
        "next and masked words": Case(
            lambda: ValmLM(replace(VALM, mlm_head=True)), lambda: next_words("few") | masked_words()
        ),
    }
    found = {name: replace(case, optimiser="fairseq_adam") for name, case in found.items()}
    return found | {
        "towers": Case(lambda: DualEncoder(tower), lambda: pairs),
        "towers, also inside texts": Case(
            lambda: DualEncoder(tower), lambda: pairs | {"inside": torch.tensor([3, 2, 7, 1])}
        ),
        "towers, a wide picture side": Case(
            lambda: DualEncoder(replace(tower, image_hidden=16)), lambda: pairs
        ),
    }
