"""Self-critical learning: captions that a model draws itself, weighed by how much better they are than others.

Paper: Rennie et al. 2017, "Self-Critical Sequence Training for Image Captioning", as VLP (Zhou et al. 2020) uses it:
the gradient of the expected CIDEr, less a baseline that needs no second model,

    loss = - Σ (reward of a caption - baseline) · ln p(its words)

The baseline here is the other samples of the picture. The reward has all references, words as the metric has them and
document frequencies of the training split; the end of a caption is a word for it, because without it captions learn to
break off.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.metrics.caption_words import own_words
from vlpnb.metrics.cider import Frequencies, Reference

END = "[SEP]"  # the word that says that a caption has ended
REMEMBERED = 4096  # pictures whose weighted references are kept


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
