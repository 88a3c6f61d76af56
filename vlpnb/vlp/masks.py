"""Who sees whom in VLP: one network reads or writes by its attention mask alone (Zhou et al. 2020).

A sequence is a *prefix*, `[CLS]` regions `[SEP]`, and a *text*, words `[SEP]` padding. Masks are booleans for
`vlpnb.nn.attention`, made on the device from numbers of words; the original ships a matrix of integers with every
example.

| mask | prefix sees | word i sees | for |
|---|---|---|---|
| `sequence_mask`, bi | everything real | everything real | understanding |
| `sequence_mask`, seq2seq | the prefix | the prefix, words ≤ i | generation, one caption a pass |
| `caption_mask` | the prefix | the prefix, words ≤ i of its caption | all captions of a picture in a pass (VLP-06) |
| … with queries | the prefix | the same; query i: the prefix, words < i, itself | every word is a target (VLP-05) |

A query is a [MASK] at the place of the word that it asks for: it sees what decoding shows, and nobody sees it.

Rows of padding are read by nobody; in a seq2seq mask they see the prefix, so that no row is empty.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

EDGES = 2  # [CLS] and [SEP] around the regions


def prefix_keys(
    visual_mask: Bool[Tensor, "B R"] | None, rows: int, prefix: int, device: torch.device
) -> Bool[Tensor, "B P"]:
    """Which columns of the prefix exist: both edges, and the regions that `visual_mask` has."""
    keys = torch.ones(rows, prefix, dtype=torch.bool, device=device)
    if visual_mask is not None:
        keys[:, 1:-1] = visual_mask
    return keys


def sequence_mask(
    lengths: Int[Tensor, " B"],
    s2s: Bool[Tensor, " B"],
    prefix: int,
    length: int,
    visual_mask: Bool[Tensor, "B R"] | None = None,
) -> Bool[Tensor, "B 1 L L"]:
    """The mask of one sentence beside a picture, L = prefix + length.

    Args:
        lengths: n, word pieces of each sentence without the closing [SEP].
        s2s: True where words see the past alone; False where everybody sees everybody.
        prefix: R + 2 columns before the text.
        length: T, columns of the text, with [SEP] and padding.
        visual_mask: False where a picture has no further region (VLP-10).
    """
    at = torch.arange(prefix + length, device=lengths.device)
    word = at >= prefix
    real = word & (at <= prefix + lengths[:, None])  # (B, L): words and the closing [SEP]
    past = real[:, :, None] & real[:, None, :] & (at[:, None] >= at)  # (B, L, L)
    text = torch.where(s2s[:, None, None], past, real[:, None, :])
    keys = ~word | real.new_zeros(real.shape)
    if visual_mask is not None:
        keys[:, :prefix] = prefix_keys(visual_mask, len(lengths), prefix, lengths.device)
    return (keys[:, None, :] | text)[:, None]


def caption_mask(
    owner: Int[Tensor, "B T"],
    place: Int[Tensor, "B T"],
    s2s: Bool[Tensor, " B"],
    prefix: int,
    query: Bool[Tensor, "B T"] | None = None,
    visual_mask: Bool[Tensor, "B R"] | None = None,
) -> Bool[Tensor, "B 1 L L"]:
    """The mask of captions laid behind a picture in any order, L = prefix + T; `sequence_mask` is that of one.

    Args:
        owner: which caption a position belongs to; −1 at padding.
        place: where in it, from 0.
        s2s: True where a word sees the past alone.
        prefix: R + 2.
        query: positions that nobody else sees.
        visual_mask: False where a picture has no further region.
    """
    real = owner >= 0
    before = place[:, :, None] > place[:, None, :]
    if query is not None:
        before = before & ~query[:, None, :]
    itself = torch.eye(owner.shape[1], dtype=torch.bool, device=owner.device)
    past = (owner[:, :, None] == owner[:, None, :]) & real[:, None, :] & (before | itself)
    text = torch.where(s2s[:, None, None], past, real[:, None, :])  # (B, T, T)
    keys = prefix_keys(visual_mask, len(owner), prefix, owner.device)
    left = keys[:, None].expand(-1, prefix + owner.shape[1], -1)  # (B, L, P)
    above = (~s2s[:, None] & real)[:, None].expand(
        -1, prefix, -1
    )  # (B, P, T): what the prefix sees of the text
    return torch.cat([left, torch.cat([above, text], dim=1)], dim=2)[:, None]


def segment_ids(
    lengths: Int[Tensor, " B"], s2s: Bool[Tensor, " B"], prefix: int, length: int, types: int
) -> Int[Tensor, "B L"]:
    """Segments of prefix and text: 4 and 5 of seq2seq, 0 and 1 of bi; with two types always 0 and 1; 0 at padding.

    Rows 2 and 3 of a table of six belong to UniLM's one-way objectives, which VLP does not train.
    """
    first = 4 * s2s.long() if types > EDGES else torch.zeros_like(s2s, dtype=torch.long)
    at = torch.arange(prefix + length, device=lengths.device)
    text = first[:, None] + (at >= prefix)
    return text.where(at <= prefix + lengths[:, None], 0)
