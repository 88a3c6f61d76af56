"""What a language model makes of texts that it has not read: nats of the next words, by what the texts are about.

Differs from the original, which evaluates nothing while it trains and finds perplexity afterwards
(`language_tasks.py`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool

from vlpnb.nn.losses import IGNORE
from vlpnb.text.blocks import LanguageBlocks
from vlpnb.text.vocabulary import Vocabulary
from vlpnb.train.loop import Precision, autocast
from vlpnb.valm.examples import Shown
from vlpnb.valm.objectives import ValmLM

AT_ONCE = 64  # blocks of a batch
SEED = 123


def pieces_of(words: Vocabulary, asked: Sequence[str]) -> Bool[np.ndarray, " V"]:
    """Which ids are one of some words, each of one piece."""
    found = np.zeros(words.size, bool)
    for word in asked:
        for ids in words.encode([word, f" {word}"]):
            if len(ids) == 1 and ids[0] not in words.special:
                found[ids[0]] = True
    return found


@torch.no_grad()
def evaluate(
    model: ValmLM,
    texts: Mapping[str, LanguageBlocks],
    shown: Mapping[str, Shown | None],
    most: int,
    asked: Bool[np.ndarray, " V"],
    device: str | torch.device,
    precision: Precision,
) -> dict[str, float]:
    """Mean nats per token of up to `most` examples of each text, `<text>_loss`, and of some words in all, `asked_loss`.

    Args:
        shown: the pictures beside each text, as in `Batches`.
        asked: which ids are those words, such as colours.
    """
    model.eval()
    device, wanted, found, of_words = torch.device(device), torch.from_numpy(asked), {}, [0.0, 0]
    for name, blocks in texts.items():
        chosen = np.linspace(0, len(blocks) - 1, min(most, len(blocks))).astype(np.int64)
        total, count, look = 0.0, 0, shown[name]
        for first in range(0, len(chosen), AT_ONCE):
            numbers = chosen[first : first + AT_ONCE]
            batch = blocks.batch(numbers)
            pictures = {} if look is None else dict(look(numbers, batch, (SEED,)))
            ids, targets = batch["ids"], batch["targets"]
            moved = {name: value.to(device) for name, value in pictures.items()}
            with autocast(device, precision):
                nats = -model.log_probs(ids.to(device), targets.to(device), **moved).float().cpu().double()
            counted = targets != IGNORE
            total, count = total + float(nats[counted].sum()), count + int(counted.sum())
            of = counted & wanted[targets.clamp(min=0)]
            of_words = [of_words[0] + float(nats[of].sum()), of_words[1] + int(of.sum())]
        found[f"{name}_loss"] = total / count
    return found | ({"asked_loss": of_words[0] / of_words[1]} if of_words[1] else {})
