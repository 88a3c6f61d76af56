"""Every loss of every system, forwards and backwards, where there is no CPU to lean on (`nowhere.py`).

On the meta device in both directions; on a GPU that is not there forwards.

How many rows are labelled is the one number that is data; without data all rows are taken to be, or a share
(`vlpnb.nn.labelled`).
"""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.device.cases import SYSTEMS
from tests.device.given import Case
from tests.device.nowhere import OnTheHost, learn, on_fake_gpu, on_meta

pytestmark = pytest.mark.slow  # all its tests together


def same_as_on_a_cpu(model: nn.Module, losses: dict[str, Tensor], case: Case) -> None:
    """The same losses, and gradients of the same parameters, as where there are numbers."""
    other = case.model().train()
    computed = other(**case.batch())
    sum(computed.values()).backward()
    assert computed.keys() == losses.keys()
    with_gradient = [name for name, p in other.named_parameters() if p.grad is not None]
    assert [name for name, p in model.named_parameters() if p.grad is not None] == with_gradient


def of(system: str, without: str = ""):
    """The cases of a system; `without` those whose batches have a field of this name."""
    cases = {
        name: case for name, case in SYSTEMS[system].items() if not (without and without in case.batch())
    }
    return pytest.mark.parametrize("case", cases.values(), ids=list(cases))


def runs_on_meta(case: Case) -> None:
    model, batch = on_meta(case)
    losses = learn(model, batch)
    assert {(loss.device.type, loss.shape) for loss in losses.values()} == {("meta", ())}
    assert {p.grad.device.type for p in model.parameters() if p.grad is not None} == {"meta"}
    same_as_on_a_cpu(model, losses, case)


def runs_on_a_fake_gpu(case: Case) -> None:
    mode = FakeTensorMode()
    model, batch = on_fake_gpu(case, mode)
    with mode:
        losses = learn(model, batch, backwards=False)
        assert {(loss.device.type, loss.shape) for loss in losses.values()} == {("cuda", ())}


@of("vokenization")
def test_vokenization_learns_on_the_meta_device(case):
    runs_on_meta(case)


@of("lxmert")
def test_lxmert_learns_on_the_meta_device(case):
    runs_on_meta(case)


@of("vlp")
def test_vlp_learns_on_the_meta_device(case):
    runs_on_meta(case)


@of("valm")
def test_valm_learns_on_the_meta_device(case):
    runs_on_meta(case)


@of("cclm")
def test_cclm_learns_on_the_meta_device(case):
    runs_on_meta(case)


@of("vokenization")
def test_vokenization_has_its_losses_on_a_gpu_that_is_not_there(case):
    runs_on_a_fake_gpu(case)


@of("lxmert")
def test_lxmert_has_its_losses_on_a_gpu_that_is_not_there(case):
    runs_on_a_fake_gpu(case)


@of("vlp")
def test_vlp_has_its_losses_on_a_gpu_that_is_not_there(case):
    runs_on_a_fake_gpu(case)


# Products with a word's own pictures are a derivative (`nn.places`), which a GPU that is not there refuses.
@of("valm", without="images")
def test_valm_has_its_losses_on_a_gpu_that_is_not_there(case):
    runs_on_a_fake_gpu(case)


@of("cclm")
def test_cclm_has_its_losses_on_a_gpu_that_is_not_there(case):
    runs_on_a_fake_gpu(case)


class Careless(nn.Module):
    """A loss with one of the mistakes."""

    def __init__(self, mistake):
        super().__init__()
        self.weight, self.mistake = nn.Parameter(torch.ones(3)), mistake

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": self.mistake(self.weight * x)}


MISTAKES = {
    "a tensor made on the CPU": lambda x: (x * torch.ones(3)).sum(),
    "a number made on the CPU": lambda x: x.sum() * torch.full((), 2.0),
    "a list that is copied": lambda x: (x * torch.tensor([1.0, 2.0, 3.0], device=x.device)).sum(),
    "an index that is a list": lambda x: x[[0, 2]].sum(),
    "a look at a number": lambda x: x.sum() if x.sum() > 0 else -x.sum(),
    "a mask as an index": lambda x: x[x > 0].sum(),
}


@pytest.mark.parametrize("where", ["meta", "a fake GPU"])
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=list(MISTAKES))
def test_a_loss_that_leans_on_the_cpu_is_found_out(mistake, where):
    case = Case(lambda: Careless(mistake), lambda: {"x": torch.rand(3)})
    with pytest.raises((OnTheHost, RuntimeError)):  # NotImplementedError is one
        (runs_on_meta if where == "meta" else runs_on_a_fake_gpu)(case)
