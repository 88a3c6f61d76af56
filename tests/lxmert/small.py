"""A small LXMERT with large weights (so that nothing hides in rounding) and a ragged batch for it."""

import torch

from vlpnb.lxmert.model import LxmertConfig

CONFIG = LxmertConfig(
    vocab_size=60,
    hidden=32,
    heads=4,
    ffn=64,
    text_layers=2,
    visual_layers=1,
    cross_layers=2,
    feature_width=12,
    objects=9,
    attributes=5,
    answers=11,
    max_positions=16,
    init_std=0.3,
)
LENGTHS, REGIONS, T, R = (7, 4, 5), (6, 3, 6), 7, 6


def mask_of(lengths, width):
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def inputs(seed=0):
    """Three ragged sentences beside pictures with 6, 3 and 6 regions, in float64."""
    generator = torch.Generator().manual_seed(seed)
    mask, visual_mask = mask_of(LENGTHS, T), mask_of(REGIONS, R)
    ids = torch.randint(1, 60, (3, T), generator=generator) * mask
    features = torch.rand(3, R, 12, generator=generator).double() * visual_mask[..., None]
    boxes = torch.rand(3, R, 4, generator=generator).double() * visual_mask[..., None]
    return {"ids": ids, "mask": mask, "features": features, "boxes": boxes, "visual_mask": visual_mask}


def labels(seed=1):
    """Labels of all six losses; some positions carry none."""
    generator = torch.Generator().manual_seed(seed)
    visual_mask = mask_of(REGIONS, R)
    words = torch.full((3, T), -100)
    words[0, 2], words[0, 5], words[2, 1] = 7, 9, 11
    objects = torch.randint(0, 9, (3, R), generator=generator).where(visual_mask, -1)
    objects[0, 1] = -1
    confidence = torch.rand(3, R, generator=generator) * visual_mask
    confidence[0, 2] = 0
    return {
        "word_labels": words,
        "matched": torch.tensor([1, 0, 1]),
        "object_ids": objects,
        "object_conf": confidence,
        "attribute_ids": torch.randint(0, 5, (3, R), generator=generator).where(visual_mask, -1),
        "attribute_conf": torch.rand(3, R, generator=generator),
        "targets": torch.rand(3, R, 12, generator=generator) * 4,
        "object_masked": (torch.rand(3, R, generator=generator) < 0.5) & visual_mask,
        "answer": torch.tensor([4, -100, 10]),
    }
