"""What a language model makes of texts that it has not read: nats of the next words, by what the texts are about.

Differs from the original, which evaluates nothing while it trains and finds perplexity afterwards (`language_tasks.py`).
"""

from collections.abc import Mapping

import numpy as np
import torch

from vlpnb.nn.losses import IGNORE
from vlpnb.train.loop import Precision, autocast
from vlpnb.text.blocks import LanguageBlocks
from vlpnb.valm.examples import Shown
from vlpnb.valm.objectives import ValmLM

AT_ONCE = 64  # blocks of a batch
SEED = 123


def pieces_of(tokenizer, words: tuple[str, ...]) -> np.ndarray:
    """(V,) bool: which word pieces are one of some words."""
    found = np.zeros(len(tokenizer), bool)
    for word in words:
        for text in (word, f" {word}"):
            ids = tokenizer.encode(text, add_special_tokens=False)
            if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                found[ids[0]] = True
    return found


@torch.no_grad()
def evaluate(
    model: ValmLM,
    blocks: LanguageBlocks,
    shown: Shown | None,
    most: int,
    device: str | torch.device,
    precision: Precision,
    asked: np.ndarray,
) -> dict[str, float]:
    """Mean nats per token of up to `most` blocks: `loss`, and those of parts of them.

    `caption_loss` is that of texts that describe a picture, `text_loss` that of all others, `asked_loss` that of some
    words, such as colours; a part without tokens is left out.

    Args:
        shown: as in `Batches`; None: no pictures.
        asked: (V,) which word pieces are those words.
    """
    model.eval()
    chosen = np.linspace(0, len(blocks) - 1, min(most, len(blocks))).astype(np.int64)
    device, wanted = torch.device(device), torch.from_numpy(asked)
    sums = dict.fromkeys(("", "caption_", "text_", "asked_"), (0.0, 0))
    for first in range(0, len(chosen), AT_ONCE):
        numbers = chosen[first : first + AT_ONCE]
        batch = blocks.batch(numbers)
        pictures: Mapping[str, torch.Tensor] = {} if shown is None else shown(numbers, batch, (SEED,))
        given = {name: value.to(device) for name, value in {**batch, **pictures}.items()}
        with autocast(device, precision):
            nats = -model.log_probs(
                given["ids"], given["targets"], **{name: given[name] for name in pictures}
            ).float().cpu().double()
        targets = batch["targets"]
        counted = targets != IGNORE
        about = batch["own"] >= 0 if "own" in batch else torch.zeros_like(counted)
        parts = {
            "": counted,
            "caption_": counted & about,
            "text_": counted & ~about,
            "asked_": counted & wanted[targets.clamp(min=0)],
        }
        for name, part in parts.items():
            total, count = sums[name]
            sums[name] = total + float(nats[part].sum()), count + int(part.sum())
    return {f"{name}loss": total / count for name, (total, count) in sums.items() if count}
