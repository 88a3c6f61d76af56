"""Who may look at whom: attention masks of the five systems.

A mask is a boolean tensor that broadcasts to (B, H, T, S), T queries by S keys; True means "this query may
attend to this key". That is the convention of `torch.nn.functional.scaled_dot_product_attention`; boolean
masks need no "minus ten thousand" that would have to change with the number type, and combine with `&`.

| mask | used by | picture for 4 tokens, the last one padding |
|---|---|---|
| `padding_mask` | BERT, RoBERTa, LXMERT, CCLM | every query sees the 3 real keys |
| `causal_mask` | GPT-2, VaLM | query t sees keys 0…t |
| `prefix_mask` | VLP, sequence to sequence | the source sees the source, a target also earlier targets |

The prefix mask is that of UniLM (Dong et al. 2019) and VLP (Zhou et al. 2020). A query row
without any allowed key gives a zero vector, not NaN (see `attention.py`).
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def padding_mask(tokens: Bool[Tensor, "B S"] | Int[Tensor, "B S"]) -> Bool[Tensor, "B 1 1 S"]:
    """Mask from a tokenizer's attention mask, 1 (or True) at real tokens and 0 at padding."""
    return tokens.bool()[:, None, None, :]


def causal_mask(length: int, device: torch.device | str | None = None) -> Bool[Tensor, "1 1 T T"]:
    """Lower triangle: position t sees positions 0…t."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]


def prefix_mask(source: Int[Tensor, " B"], total: Int[Tensor, " B"], length: int) -> Bool[Tensor, "B 1 T T"]:
    """Prefix-LM mask for rows of the form *source, target, padding*.

    Args:
        source: number of source positions of each row (read in both directions).
        total: number of source and target positions of each row, padding excluded; `total >= source`.
        length: T, the padded length.

    Returns:
        For every row: source queries see the source; target queries see the source and the targets up to
        themselves; nobody sees padding. Padding queries see the real positions, so that they stay finite.
    """
    position = torch.arange(length, device=source.device)
    in_source = position < source[:, None]  # (B, T) of keys
    real = position < total[:, None]
    seen = in_source[:, None, :] | causal_mask(length, source.device)[0]  # (B, T, T)
    return (seen & real[:, None, :])[:, None]


def combine(*masks: Bool[Tensor, "..."] | None) -> Bool[Tensor, "..."] | None:
    """Logical and of the masks that are not None; None (everybody sees everybody) when there is none."""
    combined = None
    for mask in masks:
        if mask is not None:
            combined = mask if combined is None else combined & mask
    return combined
