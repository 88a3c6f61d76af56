"""A small VLP with large weights (so that nothing hides in rounding) and a ragged batch for it."""

import torch

from vlpnb.nn.losses import IGNORE
from vlpnb.vlp.geometry import PLACE
from vlpnb.vlp.model import VlpConfig

CONFIG = VlpConfig(
    vocab_size=60,
    hidden=32,
    layers=2,
    heads=4,
    ffn=64,
    max_positions=40,
    regions=7,
    text_length=9,
    feature_width=12,
    classes=5,
    answers=11,
    init_std=0.3,
    pad_id=0,
    unk_id=1,
    cls_id=2,
    sep_id=3,
    mask_id=4,
)
LENGTHS, REGIONS, T, R = (6, 3, 4), (6, 3, 5), 8, 6


def mask_of(lengths, width):
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def texts(lengths, width=T, seed=0):
    """Rows of words, [SEP] and padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, CONFIG.vocab_size, (len(lengths), width), generator=generator)
    n = torch.tensor(lengths)[:, None]
    at = torch.arange(width)
    return ids.where(at < n, CONFIG.pad_id).where(at != n, CONFIG.sep_id)


def inputs(seed=0, visual=True):
    """Three ragged sentences beside pictures with 6, 3 and 5 regions, seq2seq, bi, seq2seq, in float64."""
    generator = torch.Generator().manual_seed(seed)
    given = {
        "features": torch.rand(3, R, CONFIG.feature_width, generator=generator).double(),
        "geometry": torch.randn(3, R, PLACE + CONFIG.classes, generator=generator).double(),
        "ids": texts(LENGTHS, seed=seed),
        "lengths": torch.tensor(LENGTHS),
        "s2s": torch.tensor([True, False, True]),
    }
    return given | ({"visual_mask": mask_of(REGIONS, R)} if visual else {})


def labels():
    """Words at some masked places of the texts; the last of the first text is its [SEP]."""
    found = torch.full((3, T), IGNORE)
    found[0, 2], found[0, 6], found[1, 1], found[2, 0] = 7, CONFIG.sep_id, 9, 11
    return found


def guesses(given, labels):
    """`inputs`, one text a picture, as arguments of `objectives.Guessing`."""
    at = torch.arange(given["ids"].shape[1]).expand_as(given["ids"])
    owner = torch.where(at <= given["lengths"][:, None], 0, -1)
    rest = {name: value for name, value in given.items() if name != "lengths"}
    return rest | {"place": at, "owner": owner, "labels": labels}
