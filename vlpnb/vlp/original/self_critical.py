"""Self-critical learning as the original has it, for `vlp.scst.original`: VLP-01, VLP-02 and VLP-13.

Captions are drawn with the mask and segments of the *reference*, behind whose [SEP] words see the picture alone
(VLP-01); the reward has that reference alone, ids of word pieces and frequencies of the batch, less the reward of the
greedy caption (VLP-02); and the loss goes one word beyond [SEP] (VLP-13).
"""

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.downstream.self_critical import counted, cut, policy_loss
from vlpnb.metrics.cider import Frequencies, Reference
from vlpnb.nn.cache import Cache
from vlpnb.nn.decoding import greedy, sample
from vlpnb.text.caption_table import CaptionTable
from vlpnb.vlp.generating import VlpDecoder, log_probs_of
from vlpnb.vlp.heads import WRITES
from vlpnb.vlp.masks import EDGES, sequence_mask


def losses_of_batch(
    decoder: VlpDecoder,
    prefix: Cache,
    pictures: tuple[Float[Tensor, "B R F"], Float[Tensor, "B R G"], Bool[Tensor, "B R"] | None],
    reference: Int[Tensor, "B T"],
    *,
    temperature: float,
    reference_view: bool,
    past_end: bool,
) -> dict[str, Float[Tensor, ""]]:
    """The sums of "policy" and "reward" over the captions: one sample of each picture against the greedy caption, both
    with all steps, and cut when they are scored.

    Args:
        prefix: what `decoder.see` returned for `pictures`.
        reference: the paired captions, their [SEP] and padding.
        reference_view, past_end: as in `scst.OriginalScst`.
    """
    model, (sep, pad), view = decoder.model, (decoder.config.sep_id, decoder.config.pad_id), {}
    if reference_view:
        lengths = (reference != pad).sum(dim=1) - 1
        view = dict(zip(("mask", "segments"), view_of_reference(lengths, decoder.steps), strict=True))
    raw = {"steps": decoder.steps, "end_id": sep, "pad_id": pad, "stop": False}
    with torch.no_grad():
        drawn = sample(decoder.step(prefix, **view), temperature=temperature, **raw).ids
        training = model.training
        model.eval()  # the greedy caption is written without dropout
        best = greedy(decoder.step(decoder.see(*pictures), **view), **raw).ids
        model.train(training)
    sampled = cut(drawn, sep, pad)
    rewards = batch_rewards(sampled, cut(best, sep, pad), reference, pad)
    words = counted(sampled, pad, past_end)
    loss = policy_loss(log_probs_of(model, prefix, drawn, counted=words, **view), rewards, words)
    return {"policy": loss * len(drawn) / words.sum(), "reward": rewards.sum()}


def reference_ids(
    table: CaptionTable, rows: Int[np.ndarray, " B"], places: int, tokenizer: Any
) -> Int[Tensor, "B T"]:
    """Some captions of a table with their [SEP], and padding up to T places."""
    words, lengths = table.words(rows)
    ids = np.full((len(rows), places), tokenizer.pad_token_id, np.int64)
    inside = np.arange(words.shape[1]) < lengths[:, None]
    ids[:, : words.shape[1]] = np.where(inside, words, tokenizer.pad_token_id)
    ids[np.arange(len(rows)), lengths] = tokenizer.sep_token_id
    return torch.from_numpy(ids)


def batch_rewards(
    sampled: Int[Tensor, "B T"], greedy: Int[Tensor, "B T"], references: Int[Tensor, "B T"], pad_id: int
) -> Float[Tensor, " B"]:
    """The original's reward (VLP-02): CIDEr of the sample less that of the greedy caption, over ids of word pieces.

    The paired caption is the only reference, [SEP] and one padding behind it are words, and document frequencies come
    from the batch, where each reference counts twice.

    Args:
        sampled, greedy, references: `cut` sequences.
    """
    known = [[_ids_as_words(row, pad_id)] for row in references]
    frequencies = Frequencies.of(known * 2)
    scored = [Reference(those, frequencies) for those in known]
    difference = [
        reference.score(_ids_as_words(ours, pad_id)) - reference.score(_ids_as_words(theirs, pad_id))
        for reference, ours, theirs in zip(scored, sampled, greedy, strict=True)
    ]
    return torch.tensor(difference, dtype=torch.float32, device=sampled.device)


def _ids_as_words(row: Int[Tensor, " T"], pad_id: int) -> list[Hashable]:
    """Ids up to and with the first padding."""
    ids = row.tolist()
    return ids[: ids.index(pad_id) + 1] if pad_id in ids else ids


def view_of_reference(
    lengths: Int[Tensor, " B"], places: int
) -> tuple[Bool[Tensor, "B T T"], Int[Tensor, "B T"]]:
    """Mask and segments with which the original draws captions: those of a reference (VLP-01).

    What stands behind the reference's [SEP] is seen by nobody, sees the picture alone, and has segment 0. They are for
    `VlpDecoder.step` and `log_probs_of`.

    Args:
        lengths: word pieces of each reference, without its [SEP].
        places: T, places of a text.
    """
    writes = torch.ones_like(lengths, dtype=torch.bool)
    mask = sequence_mask(lengths, writes, EDGES, places)[:, 0, EDGES:, EDGES:]
    at = torch.arange(places, device=lengths.device)
    return mask, torch.full_like(mask[:, 0], WRITES[1], dtype=torch.long).where(at <= lengths[:, None], 0)
