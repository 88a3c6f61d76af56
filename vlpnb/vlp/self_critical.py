"""Self-critical learning of VLP: captions that the model draws itself, weighed by how much better they are than others.

Paper: VLP (Zhou et al. 2020), section 3.4, after Rennie et al. 2017, "Self-Critical Sequence Training for Image
Captioning": the gradient of the expected CIDEr, less a baseline that needs no second model,

    loss = - Σ (reward of a caption - baseline) · ln p(its words)

Captions are drawn without a gradient; the probability of all their words then comes out of one parallel pass, a [MASK]
query for each word (`masks.packed_mask`), all captions of a picture behind one prefix.

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

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.metrics.caption_words import own_words
from vlpnb.metrics.cider import Frequencies, Reference
from vlpnb.nn.decoding import Step
from vlpnb.vlp.heads import WRITES, VlpForGeneration
from vlpnb.vlp.masks import EDGES, packed_mask

END = "[SEP]"  # the word that says that a caption has ended


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
        self.references = [[[*own_words(text), END] for text in those] for those in references]
        self.frequencies = frequencies or Frequencies.of(self.references)
        self._known: dict[int, Reference] = {}

    def __call__(self, picture: int, text: str, ended: bool = True) -> float:
        """The reward of a caption of a picture, by its place among the references."""
        if picture not in self._known:
            self._known[picture] = Reference(self.references[picture], self.frequencies)
        return self._known[picture].score([*own_words(text), *[END] * ended])


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


# probabilities


def log_probs_of(
    model: VlpForGeneration,
    seen: tuple[Float[Tensor, "B R D"], Float[Tensor, "B R D"]],
    ids: Int[Tensor, "B C T"],
    visual_mask: Bool[Tensor, "B R"] | None = None,
    lengths: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, "B C T"]:
    """ln p of every word of C captions of each picture, given those before it, as decoding asks for it; in one pass.

    Args:
        seen: what `Vlp.look` makes of the regions.
        ids: words of the captions; what stands behind an end is given a probability too, which nobody needs.
        lengths: word pieces of a reference, for the original's roll-outs (VLP-01): what stands behind its [SEP] is seen
            by nobody and sees the picture alone, in segment 0.
    """
    (rows, captions, length), device = ids.shape, ids.device
    backbone, prefix = model.backbone, seen[0].shape[1] + EDGES
    backbone.refuse_too_long(seen[0].shape[1], length)
    place = torch.arange(length, device=device).repeat(captions)
    real = torch.full((rows, captions), length - 1, device=device)
    segments = torch.full((rows, 2 * captions * length), WRITES[1], device=device)
    if lengths is not None:
        real = lengths[:, None].expand(rows, captions)
        segments = segments.where(place.repeat(2) <= lengths[:, None], 0)
    mask = packed_mask(real, prefix, length, visual_mask, queries=True)
    text = torch.cat([ids.flatten(1), torch.full_like(ids.flatten(1), backbone.config.mask_id)], dim=1)
    positions = backbone.config.prefix + place.repeat(2)[None]
    x = [backbone.assemble(seen, WRITES[0]), backbone.words(text, segments, positions)]
    asked = prefix + captions * length + torch.arange(captions * length, device=device)
    states = backbone.encode(torch.cat(x, dim=1), mask, asked.expand(rows, -1)).last  # (B, C·T, D)
    scores = model.word_scores(states).float()
    chosen = scores.gather(-1, ids.flatten(1)[..., None])[..., 0] - scores.logsumexp(-1)
    return chosen.unflatten(1, (captions, length))


def step_as_reference(
    model: VlpForGeneration,
    seen: tuple[Float[Tensor, "B R D"], Float[Tensor, "B R D"]],
    lengths: Int[Tensor, " B"],
    visual_mask: Bool[Tensor, "B R"] | None = None,
) -> Step:
    """The original's roll-out for `nn.decoding`: the mask and segments of a reference of so many pieces (VLP-01).

    For one caption of each picture; without a cache, as it is here to be compared with.
    """
    backbone, prefix = model.backbone, seen[0].shape[1] + EDGES
    asked = torch.full_like(lengths, backbone.config.mask_id)[:, None]  # (B, 1)
    written = asked[:, :0]

    def step(words: Tensor | None, parents: Tensor | None) -> Tensor:
        nonlocal written
        if words is not None:
            written = torch.cat([written[parents], words[:, None]], dim=1)
        last = torch.full_like(asked, prefix + written.shape[1])
        text, writes = torch.cat([written, asked], dim=1), torch.ones_like(lengths, dtype=torch.bool)
        return model.word_scores(
            backbone.read(seen, text, lengths, writes, visual_mask, rows=last).last[:, 0]
        )

    return step
