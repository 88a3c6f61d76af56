"""Self-critical learning of VLP: captions that the model draws itself, weighed by how much better they are than others.

Paper: VLP (Zhou et al. 2020), section 3.4, after Rennie et al. 2017, "Self-Critical Sequence Training for Image
Captioning": the gradient of the expected CIDEr, less a baseline that needs no second model,

    loss = - Σ (reward of a caption - baseline) · ln p(its words)

Captions are drawn without a gradient; the probability of all their words then comes out of one pass
(`generating.log_probs_of`), all captions of a picture behind one prefix.

Differs from the original, unless its ways are asked for (`scst.OriginalScst`):

* captions are drawn as decoding writes them, not with the mask and segments of the *reference*, behind whose [SEP]
  words see the picture alone (VLP-01);
* the reward has all references, words as the metric has them and document frequencies of the training split, not one
  reference, ids of word pieces and frequencies of the batch (VLP-02);
* the baseline is the other samples of the picture, not the greedy caption;
* the loss ends with [SEP], and not one word further, which no reward depends on (VLP-13).

In both [SEP] is a word for the reward: without it, captions learn to break off.
"""

from collections.abc import Hashable, Sequence
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.metrics.caption_words import own_words
from vlpnb.metrics.cider import Frequencies, Reference
from vlpnb.vlp.heads import WRITES
from vlpnb.vlp.masks import EDGES, sequence_mask

END = "[SEP]"  # the word that says that a caption has ended
REMEMBERED = 4096  # pictures whose weighted references are kept


# what is counted


def cut(ids: Int[Tensor, "*N T"], sep_id: int, pad_id: int) -> Int[Tensor, "*N T"]:
    """Words up to and with the first [SEP], or before the first padding; `pad_id` behind."""
    ended = ((ids == sep_id) | (ids == pad_id)).long()
    before = ended.cumsum(-1) - ended
    return ids.where((before == 0) & (ids != pad_id), pad_id)


def counted(cut_ids: Int[Tensor, "*N T"], pad_id: int, past_end: bool = False) -> Bool[Tensor, "*N T"]:
    """Which words of `cut` captions carry the loss; `past_end`: one more behind [SEP], as in the original (VLP-13)."""
    real = cut_ids != pad_id
    if not past_end:
        return real
    return torch.cat([torch.ones_like(real[..., :1]), real[..., :-1]], dim=-1)


def policy_loss(
    log_probs: Float[Tensor, "*N T"], advantages: Float[Tensor, "*N"], words: Bool[Tensor, "*N T"]
) -> Float[Tensor, ""]:
    """- Σ advantage · ln p over all counted words."""
    return -(advantages[..., None] * log_probs * words).sum()


def against_others(rewards: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Each reward less the mean of the other samples' of its picture: an unbiased baseline that costs nothing.

    UserError for a single sample, which has no other.
    """
    samples = rewards.shape[1]
    if samples < 2:
        raise UserError("one sample of a picture has no others to compare with; expected two or more")
    return (rewards - rewards.mean(dim=1, keepdim=True)) * samples / (samples - 1)


# rewards


class CiderRewards:
    """CIDEr of captions of known pictures, with [SEP] as a word where they have ended.

    Args:
        references: all captions of each picture.
        frequencies: document frequencies of a training split, with [SEP]; None: of these references.
    """

    def __init__(self, references: Sequence[Sequence[str]], frequencies: Frequencies | None = None):
        self.references = references
        self.frequencies = frequencies or Frequencies.of(map(ended_words, references))
        self._weighted = lru_cache(REMEMBERED)(
            lambda picture: Reference(ended_words(references[picture]), self.frequencies)
        )

    def __call__(self, picture: int, text: str, ended: bool = True) -> float:
        """The reward of a caption of a picture, by its place among the references."""
        return self._weighted(picture).score([*own_words(text), *[END] * ended])


def ended_words(texts: Sequence[str]) -> list[list[str]]:
    """The words of captions, with [SEP] as the last one."""
    return [[*own_words(text), END] for text in texts]


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


# the original's roll-outs


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
