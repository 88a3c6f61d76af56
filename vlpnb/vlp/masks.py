"""Who sees whom in VLP: one network reads or writes by its attention mask alone (Zhou et al. 2020).

A sequence is a *prefix*, `[CLS]` regions `[SEP]`, and a *text*, words `[SEP]` padding. Masks are booleans for
`vlpnb.nn.attention`, made on the device from numbers of words; the original ships a matrix of integers with every
example.

| mask | prefix sees | word i sees | for |
|---|---|---|---|
| `sequence_mask`, bi | everything real | everything real | understanding |
| `sequence_mask`, seq2seq | the prefix | the prefix, words ≤ i | generation, one caption a pass |
| `packed_mask` | the prefix | the prefix, words ≤ i of its caption | all captions of a picture in a pass (VLP-06) |
| … with queries | the prefix | the same; query i: the prefix, words < i, itself | every word is a target (VLP-05) |

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


def packed_mask(
    lengths: Int[Tensor, "B C"],
    prefix: int,
    length: int,
    visual_mask: Bool[Tensor, "B R"] | None = None,
    *,
    queries: bool = False,
) -> Bool[Tensor, "B 1 L L"]:
    """The seq2seq mask of C captions behind one picture: prefix, C · T words, and with `queries` C · T queries more.

    A caption sees the prefix and its own past, no other caption. A query stands for the word at its place that is to be
    predicted, as [MASK] does in decoding: it sees the words *before* that place, and itself; nobody else sees it.

    Args:
        lengths: n of each caption without the closing [SEP]; −1 where a picture has fewer captions.
        prefix, length, visual_mask: as in `sequence_mask`; each caption has T = length columns.
        queries: put a query for each word behind the words.
    """
    (rows, captions), device = lengths.shape, lengths.device
    place = torch.arange(length, device=device).repeat(captions)  # (C·T,)
    caption = torch.arange(captions, device=device).repeat_interleave(length)
    real = place <= lengths[:, caption]  # (B, C·T)
    same = caption[:, None] == caption
    words = real[:, :, None] & real[:, None, :] & same & (place[:, None] >= place)  # (B, C·T, C·T)
    if queries:
        before = real[:, :, None] & real[:, None, :] & same & (place[:, None] > place)
        itself = torch.eye(len(place), dtype=torch.bool, device=device) & real[:, :, None]
        top = torch.cat([words, torch.zeros_like(words)], dim=2)
        words = torch.cat([top, torch.cat([before, itself], dim=2)], dim=1)
    mask = words.new_zeros(rows, prefix + words.shape[1], prefix + words.shape[2])
    mask[:, prefix:, prefix:] = words
    mask[:, :, :prefix] = prefix_keys(visual_mask, rows, prefix, device)[:, None]
    return mask[:, None]


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
