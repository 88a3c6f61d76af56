"""A small CCLM and inputs, for the tests of `tests/cclm`."""

import torch
from torch import Tensor

from vlpnb.cclm.config import CclmConfig
from vlpnb.cclm.model import Cclm

V, D, E, B, T, P, F = 40, 32, 16, 4, 7, 6, 12


def config(**changes) -> CclmConfig:
    sizes = {
        "vocab_size": V, "hidden": D, "text_layers": 2, "fusion_layers": 2, "heads": 4, "ffn": 48, "max_positions": 20,
        "width": E, "image_width": F, "image_patches": P, "dropout": 0.0,
    }  # fmt: skip
    return CclmConfig(**(sizes | changes))


def model(seed: int = 0, **changes) -> Cclm:
    """A model in float64, in evaluation mode, whose norms and biases have no special values."""
    torch.manual_seed(seed)
    cclm = Cclm(config(**changes)).eval().double()
    with torch.no_grad():
        for name, parameter in cclm.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif parameter.ndim == 2 and "words" not in name:
                parameter.mul_(3.0)  # attention that is not flat
    return cclm


def chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def texts(seed: int = 1, rows: int = B, length: int = T) -> tuple[Tensor, Tensor]:
    """Ids and masks of ragged sentences: `<s>` … `</s>` and padding; the first is as long as it may be."""
    lengths = torch.randint(3, length + 1, (rows,), generator=chance(seed))
    lengths[0] = length
    place = torch.arange(length)
    mask = place < lengths[:, None]
    ids = torch.randint(4, V - 1, (rows, length), generator=chance(seed + 100))
    ids = ids.masked_fill(place == 0, 0).masked_fill(place == lengths[:, None] - 1, 2)
    return ids.masked_fill(~mask, 1), mask


def patches(seed: int = 2, rows: int = B) -> Tensor:
    return torch.randn(rows, 1 + P, F, generator=chance(seed)).double()


def masked(ids: Tensor, mask: Tensor, seed: int = 3, most: int = 3) -> dict[str, Tensor]:
    """Fields of masked word pieces: one to `most` a row."""
    places, labels = torch.zeros(len(ids), most, dtype=torch.long), torch.full((len(ids), most), -100)
    hidden = ids.clone()
    for row, real in enumerate(mask.sum(1).tolist()):
        chosen = 1 + torch.randperm(real - 1, generator=chance(seed + row))[: 1 + row % most]
        places[row, : len(chosen)], labels[row, : len(chosen)] = chosen, ids[row, chosen]
        hidden[row, chosen] = V - 1
    return {"masked_ids": hidden, "masked_places": places, "masked_labels": labels}


def image_batch(seed: int = 1, rows: int = B, **more: Tensor) -> dict[str, Tensor]:
    ids, mask = texts(seed, rows)
    return {"patches": patches(seed + 1, rows), "ids": ids, "mask": mask, **masked(ids, mask), **more}


def parallel_batch(seed: int = 5, rows: int = B, **more: Tensor) -> dict[str, Tensor]:
    (ids, mask), (other_ids, other_mask) = texts(seed, rows), texts(seed + 1, rows, T - 1)
    fields = {"ids": ids, "mask": mask, "other_ids": other_ids, "other_mask": other_mask}
    return {
        f"parallel_{name}": value for name, value in (fields | masked(ids, mask, seed + 2) | more).items()
    }


def close(found: Tensor, expected: Tensor, atol: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)
