"""BERT's masking, for a whole batch at once (Devlin et al. 2019, section 3.1).

One uniform draw per position decides both whether it is selected and what becomes of it, so a batch costs two
calls of the generator and no loop. The generator lives on the device of the ids and makes the masks
repeatable (the reference's evaluation masks are not: quirk VOK-22).
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vlpnb.nn.losses import IGNORE


def mask_tokens(
    ids: Int[Tensor, "B T"],
    special_mask: Bool[Tensor, "B T"],
    mask_id: int,
    vocab_size: int,
    generator: torch.Generator | None = None,
    rate: float = 0.15,
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Select ordinary positions with probability `rate`: 80 % become [MASK], 10 % a random id, 10 % stay.

    Args:
        ids: token ids, any integer type.
        special_mask: True at [CLS], [SEP] and padding, which are never selected.
        vocab_size: random ids are uniform over the whole vocabulary.
        generator: on the device of `ids`; None uses the global one.

    Returns:
        inputs and labels, int64 [B, T]; labels are the original id at selected positions, -100 elsewhere.
    """
    ids = ids.long()
    draw = torch.rand(ids.shape, generator=generator, device=ids.device)
    random_ids = torch.randint(vocab_size, ids.shape, generator=generator, device=ids.device)
    draw = draw.masked_fill(special_mask, 1.0)
    labels = ids.masked_fill(draw >= rate, IGNORE)
    inputs = torch.where(draw < 0.9 * rate, random_ids, ids)
    return inputs.masked_fill(draw < 0.8 * rate, mask_id), labels
