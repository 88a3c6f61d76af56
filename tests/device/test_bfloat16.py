"""Every loss of every system in bfloat16, as a GPU's autocast computes it, with the optimisers of the stages.

On a CPU `train.loop.fit` computes in float32; here its autocast is switched on by hand. Dropout is off, which would not
be the same in both.
"""

import pytest
import torch
from torch import nn

from tests.device.cases import SYSTEMS
from tests.device.given import Case
from vlpnb.train.optim import Optimiser, new_optimiser

pytestmark = pytest.mark.slow  # all its tests together

UPDATES, RATE = 3, 1e-4


def without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        for name in ("p", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def trained(case: Case, optimiser: Optimiser, half: bool) -> tuple[list[dict[str, float]], nn.Module]:
    """The losses of a few updates, and the model after them."""
    torch.manual_seed(0)
    model, batch, lines = without_dropout(case.model()).train(), case.batch(), []
    steps = new_optimiser(optimiser, model, RATE, clip=1.0)
    for update in range(UPDATES):
        torch.manual_seed(update)  # of what a loss draws
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses = model(**batch)
        (sum(losses.values()) / 10).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        steps.step()
        steps.zero_grad(set_to_none=True)
        lines.append({name: loss.item() for name, loss in losses.items()})
    return lines, model


def agrees(case: Case, optimiser: Optimiser) -> None:
    exact, _ = trained(case, optimiser, half=False)
    half, model = trained(case, optimiser, half=True)
    assert exact != half  # autocast was at work
    for line, other in zip(exact, half, strict=True):
        assert other == pytest.approx(line, rel=0.02)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert exact[0] != exact[-1]  # and so was the optimiser


def of(system: str):
    """Each case with its stage's own optimiser, and the first with PyTorch's fused AdamW too."""
    cases = [(name, case, case.optimiser) for name, case in SYSTEMS[system].items()]
    if cases[0][2] != "adamw":
        cases.insert(0, (*cases[0][:2], "adamw"))
    return pytest.mark.parametrize(
        ("case", "optimiser"),
        [each[1:] for each in cases],
        ids=[f"{name}, {kind}" for name, _, kind in cases],
    )


@of("vokenization")
def test_vokenization_in_bfloat16_is_within_2_percent(case, optimiser):
    agrees(case, optimiser)


@of("lxmert")
def test_lxmert_in_bfloat16_is_within_2_percent(case, optimiser):
    agrees(case, optimiser)


@of("vlp")
def test_vlp_in_bfloat16_is_within_2_percent(case, optimiser):
    agrees(case, optimiser)


@of("valm")
def test_valm_in_bfloat16_is_within_2_percent(case, optimiser):
    agrees(case, optimiser)


@of("cclm")
def test_cclm_in_bfloat16_is_within_2_percent(case, optimiser):
    agrees(case, optimiser)


def test_the_adamw_of_the_stages_is_the_fused_one():
    assert new_optimiser("adamw", nn.Linear(2, 2), 1e-3).defaults["fused"] is True
