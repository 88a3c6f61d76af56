"""What VLP guesses of captions that it has not seen: from left to right and both ways, with right or wrong pictures.

Differs from the original, which evaluates nothing while it pre-trains. What is hidden is the same in every evaluation.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from vlpnb.nn.losses import IGNORE
from vlpnb.train.loop import Precision, autocast
from vlpnb.vlp.examples import Batches, Hiding, tensors
from vlpnb.vlp.heads import slots_of
from vlpnb.vlp.objectives import Guessing

SEED = 123
AT_ONCE = 256  # rows of a batch


@torch.no_grad()
def evaluate(
    model: Guessing, batches: Batches, most: int, device: str, precision: Precision, shuffled: bool = False
) -> dict[str, float]:
    """Mean cross-entropy of the words of up to `most` captions, and the share that is guessed right.

    `s2s_loss` and `s2s_accuracy` ask for every word after those before it, `bi_loss` and `bi_accuracy` for masked ones.

    Args:
        shuffled: show the picture of another caption to each, to see what the picture gives.
    """
    model.eval()
    table, found = batches.table, {}
    chosen = np.linspace(0, len(table) - 1, min(most, len(table))).astype(np.int64)
    for mode, hiding in (("s2s", Hiding(1.0, targets="every")), ("bi", Hiding(0.0))):
        total, right, count = 0.0, 0, 0
        for first in range(0, len(chosen), AT_ONCE):
            rows = chosen[first : first + AT_ONCE]
            layout = batches.layout(rows, SEED, first, hiding=hiding)
            if shuffled:
                other = table.pictures[
                    chosen[(np.arange(first, first + len(rows)) + len(chosen) // 2) % len(chosen)]
                ]
                layout = replace(layout, pictures=other)
            micro = tensors(layout, np.arange(len(rows)), batches.pictures, batches.pad)
            micro = {name: value.to(device) for name, value in micro.items()}
            with autocast(torch.device(device), precision):
                hidden, _, _, targets = model.states(**micro)
                counted = targets != IGNORE
                slots = slots_of(micro["s2s"])[:, None].expand_as(targets)[counted]
                scores = model.model.word_scores(hidden[counted], slots)
            total += nn.functional.cross_entropy(scores.float(), targets[counted], reduction="sum").item()
            right += int((scores.argmax(-1) == targets[counted]).sum())
            count += int(counted.sum())
        found |= {f"{mode}_loss": total / count, f"{mode}_accuracy": right / count}
    return found
