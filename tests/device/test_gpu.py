"""Every loss of every system on a GPU gives the numbers of the CPU.

Needs a GPU: `pytest -m gpu tests/device`; elsewhere `test_meta.py` and `test_bfloat16.py` come as near as one can. The
last test holds the comparison itself to account.
"""

from dataclasses import replace

import pytest
import torch

from tests.device.cases import SYSTEMS
from tests.device.given import Case
from tests.device.test_bfloat16 import without_dropout

DRAWN = {"itm", "ttm"}  # against negatives, which a GPU draws otherwise
CASES = {f"{system}: {name}": case for system, cases in SYSTEMS.items() for name, case in cases.items()}


def losses_on(case: Case, device: str) -> tuple[dict[str, float], float]:
    """The losses, and the norm of the gradient of all weights."""
    torch.manual_seed(0)
    model = without_dropout(case.model()).train().to(device)
    losses = model(**{name: x.to(device) for name, x in case.batch().items()})
    kept = {name: loss for name, loss in losses.items() if name not in DRAWN}
    sum(kept.values()).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    return {name: loss.item() for name, loss in kept.items()}, norm.item()


def is_that_of_the_cpu(case: Case, device: str) -> None:
    (ours, norm), (theirs, their_norm) = losses_on(case, device), losses_on(case, "cpu")
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert norm == pytest.approx(their_norm, rel=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_loss_is_that_of_the_cpu(case):
    is_that_of_the_cpu(case, "cuda")


def test_another_loss_is_told_apart():
    case = CASES["vokenization: words alone"]
    is_that_of_the_cpu(case, "cpu")
    twice = iter((case.batch(), {**case.batch(), "ids": case.batch()["ids"].flip(1)}))
    with pytest.raises(AssertionError):
        is_that_of_the_cpu(replace(case, batch=lambda: next(twice)), "cpu")
