"""A tiny CCLM in float64, with pictures as patches, for the models of the tasks."""

import torch

from vlpnb.cclm.config import CclmConfig
from vlpnb.cclm.model import Cclm

V, D, F, P = 53, 32, 6, 4


def backbone(seed: int = 0, **changes) -> Cclm:
    """Weights far from those of a new model, so that everything matters; in eval mode."""
    fields = {
        "vocab_size": V, "hidden": D, "text_layers": 2, "fusion_layers": 2, "heads": 4, "ffn": 40, "max_positions": 24,
        "width": 16, "image_width": F,
    }  # fmt: skip
    torch.manual_seed(seed)
    model = Cclm(CclmConfig(**{**fields, **changes})).double().eval()
    scatter(model)
    return model


def scatter(model: torch.nn.Module) -> None:
    """Weights of a model that has learnt something: none is 0 or 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.15 if parameter.ndim > 1 else 0.3))


def texts(lengths=(5, 3, 7, 4), seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids `<s> … </s>` and mask."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.full((len(lengths), longest), 1)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(4, V - 1, (length,), generator=generator)
        ids[row, 0], ids[row, length - 1] = 0, 2
    return ids, ids != 1


def pictures(count: int = 4, seed: int = 2) -> torch.Tensor:
    """Patches of some pictures, [N, 1+P, F]."""
    return torch.randn(count, 1 + P, F, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
