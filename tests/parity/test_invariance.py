"""Loss and gradient of an update are those of its examples: however they are padded, ordered, batched and shared."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vlpnb.nn.transformer import TransformerConfig
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM

ROWS, LENGTH, VOKENS, PAD = 6, 9, 7, 0
CONFIG = TransformerConfig(vocab_size=30, hidden=16, layers=2, heads=2, ffn=24, max_positions=20)
MODELS: dict[tuple[str, bool], VisuallySupervisedLM] = {}


def model_of(objective: str, shared: bool) -> VisuallySupervisedLM:
    if (objective, shared) not in MODELS:
        torch.manual_seed(3)
        features = F.normalize(torch.randn(VOKENS, 5), dim=1)
        model = VisuallySupervisedLM(CONFIG, VOKENS, objective, shared, features).double().eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        MODELS[objective, shared] = model
    return MODELS[objective, shared]


def examples() -> dict[str, torch.Tensor]:
    """Rows of different lengths, their masked words and their vokens; one row has neither."""
    random = torch.Generator().manual_seed(5)
    mask = torch.arange(LENGTH) < torch.tensor([9, 3, 7, 5, 9, 4])[:, None]
    ids = torch.randint(5, 30, mask.shape, generator=random)
    draw = torch.rand(2, *mask.shape, generator=random)
    draw[:, 5] = 1.0
    words = ids.where(mask & (draw[0] < 0.4), -100)
    vokens = torch.randint(VOKENS, mask.shape, generator=random).where(mask & (draw[1] < 0.8), -100)
    return {"ids": ids.where(mask, PAD), "mlm_labels": words, "voken_labels": vokens, "mask": mask}


DATA = examples()
EMPTY = {"ids": PAD, "mlm_labels": -100, "voken_labels": -100, "mask": False}
COUNTS = {name: int((DATA[f"{name}_labels"] != -100).sum()) for name in ("mlm", "voken")}


def measured(model, groups: list[tuple[list[int], int]]) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Losses over the whole update's counts, and gradients, of groups of rows, each with so much more padding."""
    model.zero_grad()
    losses: dict[str, float] = {}
    for rows, more in groups:
        longest = int(DATA["mask"][rows].sum(1).max()) if rows else LENGTH
        part = {name: F.pad(value[rows, :longest].long(), (0, more), value=int(EMPTY[name]))
                for name, value in DATA.items()}  # fmt: skip
        sums = model(**(part | {"mask": part["mask"].bool()}))
        means = {name: value / COUNTS[name.partition("_")[0]] for name, value in sums.items()}
        sum(means.values()).backward()
        losses = {name: losses.get(name, 0.0) + value.item() for name, value in means.items()}
    return losses, [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("objective", "shared"),
    [("cls", False), ("cls", True), ("ctr", False), ("reg", False), ("cls+reg", False)],
)
@given(
    order=st.permutations(range(ROWS)),
    cuts=st.lists(st.integers(0, ROWS), max_size=3).map(sorted),
    padding=st.lists(st.integers(0, 4), min_size=4, max_size=4),
)
@settings(max_examples=15, deadline=None)
def test_any_way_to_share_the_examples_gives_the_same(objective, shared, order, cuts, padding):
    """Groups are micro-batches or shares of processes: sums and gradients are added up; some are empty."""
    model = model_of(objective, shared)
    bounds = [0, *cuts, ROWS]
    groups = [order[a:b] for a, b in itertools.pairwise(bounds)]
    losses, gradients = measured(model, list(zip(groups, padding, strict=False)))
    expected_losses, expected = measured(model, [(list(range(ROWS)), 0)])
    assert losses == pytest.approx(expected_losses, rel=1e-9)
    assert len(gradients) == len(expected)
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-10)
