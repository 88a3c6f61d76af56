"""The recorded numbers of CCLM's text: how sentences are cleaned and cut, and statistics of what is hidden of them.

What is drawn cannot be equal. Shares are held to a hundredth, or to four standard errors where few draws were recorded:
with a hundred positions, one of them is nearly as far off.
"""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.recorded import Entries, RecordedFolder
from vlpnb.errors import UserError
from vlpnb.nn.losses import IGNORE
from vlpnb.text.cleaning import clean_caption, clean_question
from vlpnb.text.masking import SPAN_RATE, SPANS, mask_spans, selected_count
from vlpnb.text.pieces import END, PAD, START, framed

SEED = 0
ROWS = 1024  # sentences at once
TIMES = 4  # as many are drawn as were recorded, so that ours add little to their error
WORD, HIDDEN = -2, -1  # in place of a word and of the mask, so that a random id is told from both
SHARE = 0.01
ERRORS = 4.0


def cleaning(folder: RecordedFolder) -> Iterator[Case]:
    """Captions and questions, cleaned; what the original cannot clean is an error here too."""
    for item in folder.json("text.json")["cleaning"]:
        text, words = item["text"], item["max_words"]
        try:
            caption = clean_caption(text, words)
        except UserError:
            caption = None
        yield item.case("caption", caption)
        yield item.case("question", clean_question(text, words))


def cutting(folder: RecordedFolder) -> Iterator[Case]:
    """Pieces between the two ends, padded. The original pads to the longest there may be, batches here to their own."""
    for item in folder.json("text.json")["token_preparation"]:
        item.leave_out("lengths")
        longest = item["max_tokens"]
        ids = framed(np.arange(item["pieces"]) + END + 2, longest)
        padded = np.full(longest, PAD)
        padded[: len(ids)] = ids
        yield item.case("ids", padded.tolist())
        yield item.case("mask", (np.arange(longest) < len(ids)).astype(int).tolist())


def selected(tokens: int, most: int, draws: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Of so many sentences of one length: which positions are selected [draws T], and what is shown there, in a row."""
    generator = torch.Generator().manual_seed(SEED)
    chosen, shown = [], []
    for first in range(0, draws, ROWS):
        ids = torch.full((min(ROWS, draws - first), tokens), WORD)
        lengths = torch.full((len(ids),), tokens)
        hidden, places, labels = mask_spans(ids, lengths, HIDDEN, vocabulary, generator, most=most)
        where = torch.zeros_like(ids, dtype=torch.bool)
        where[
            torch.arange(len(ids))[:, None].expand_as(places)[labels != IGNORE], places[labels != IGNORE]
        ] = True
        chosen.append(where)
        shown.append(hidden[where])
    return torch.cat(chosen), torch.cat(shown)


def masking(folder: RecordedFolder) -> Iterator[Case]:
    """How many are selected, where, how often side by side, and what they become."""
    about = folder.json("masking.json")
    about.leave_out("rule")
    vocabulary = about["vocabulary"]
    yield about.case("mask_probability", 0.4)
    yield about.case("span_probability", SPAN_RATE)
    yield about.case("span_lengths", list(SPANS))
    for name in ("selected_for_length", "selected_for_length_parallel"):
        counts: Entries = about[name]
        tokens = torch.tensor([int(length) for length in counts])
        found = selected_count(tokens, most=max(counts[length] for length in counts)).tolist()
        for length, ours in zip(counts, found, strict=True):
            yield counts.case(length, ours)
    for item in about["short"]:
        chosen, _ = selected(item["tokens"], 12, ROWS, vocabulary)
        yield item.case("selected", sorted({*chosen.sum(1).tolist()}))
    for item in about["cases"]:
        yield from _statistics(item, vocabulary)


def _statistics(item: Entries, vocabulary: int) -> Iterator[Case]:
    draws = item["draws"]
    chosen, shown = selected(item["tokens"], item["max_masks"], TIMES * draws, vocabulary)
    count = len(shown)
    of_positions, of_words = _tolerance(draws, chosen.double().mean()), _tolerance(count // TIMES)
    numbers = Counter(chosen.sum(1).tolist())
    yield item.case("number_selected", {str(number): times // TIMES for number, times in numbers.items()})
    yield item.case("rate_by_position", chosen.double().mean(0), of_positions)
    random = shown[shown >= 0]
    beside = (chosen[:, 1:] & chosen[:, :-1]).sum()
    yield item.case("share_mask", float((shown == HIDDEN).sum() / count), of_words)
    yield item.case("share_unchanged", float((shown == WORD).sum() / count), of_words)
    yield item.case("share_random", len(random) / count, of_words)
    yield item.case("share_of_selected_whose_right_neighbour_is_selected", float(beside / count), of_words)
    special = torch.tensor([START, PAD, END, vocabulary - 1])
    share = float(torch.isin(random, special).sum() / len(random))
    yield item.case(
        "share_of_random_that_are_special", share, _tolerance(len(random), len(special) / vocabulary)
    )


def _tolerance(draws: int, share: float | Tensor = 0.5) -> Tolerance:
    """Of the difference of two measured shares, one of so many draws and one of `TIMES` as many."""
    variance = float(share * (1 - share)) * (1 + 1 / TIMES) / max(draws, 1)
    return Tolerance(max(SHARE, ERRORS * math.sqrt(variance)))


CHECKS = (cleaning, cutting, masking)
