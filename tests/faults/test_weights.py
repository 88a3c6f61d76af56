"""Weights that are cut short, foreign, missing a tensor or of another shape are named with what to do."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vlpnb.errors import UserError
from vlpnb.nn.checkpoints import fill_module, read_weights
from vlpnb.train.checkpoint import NAME, save_checkpoint
from vlpnb.train.loop import TrainingPlan, fit
from vlpnb.train.optim import adamw
from vlpnb.train.sampling import Update
from vlpnb.vision.backbones import load_backbone, save_backbone
from vlpnb.vision.small import SmallResNet


class Line(nn.Module):
    """The smallest model that trains."""

    def __init__(self, width: int = 3):
        super().__init__()
        self.net = nn.Linear(width, 1)

    def forward(self, x):
        return {"square": self.net(x).square().sum()}


@pytest.fixture
def file(tmp_path):
    save_file(Line().state_dict(), tmp_path / "line.safetensors")
    return tmp_path / "line.safetensors"


@pytest.mark.parametrize(
    "damage", [lambda data: data[:60], lambda data: b"", lambda data: b"\x80\x04foreign" * 9]
)
def test_a_broken_file(file, damage):
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(
        UserError, match=r"line\.safetensors cannot be read .*run the stage that writes it again"
    ):
        read_weights(file)


def test_an_absent_file(tmp_path):
    with pytest.raises(UserError, match=r"gone\.safetensors cannot be read"):
        read_weights(tmp_path / "gone.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("net.bias"), "tensor 'net.bias' is missing"),
        (lambda state: state.update(extra=torch.zeros(1)), "tensor 'extra' is unexpected"),
        (
            lambda state: state.update({"net.weight": torch.zeros(1, 4)}),
            r"tensor 'net.weight' has the shape \(1, 4\), expected \(1, 3\)",
        ),
    ],
)
def test_a_tensor_that_does_not_fit(file, change, message):
    model, state = Line(), load_file(file)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    change(state)
    with pytest.raises(UserError, match=rf"line\.safetensors: {message}"):
        fill_module(model, state, file)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_optional_tensors_may_lack_or_be_too_many(file):
    state = load_file(file)
    bias = state.pop("net.bias")
    model = Line()
    fill_module(model, {**state, "net.other": bias}, file, optional=("net.bias", "net.other"))
    assert torch.equal(model.net.weight, state["net.weight"])


def batches(step: int) -> Update:
    return Update([{"x": torch.ones(2, 3)}], {"square": 2}, tokens=2)


def test_a_checkpoint_of_another_shape(tmp_path):
    wide = Line(5)
    save_checkpoint(tmp_path, wide, adamw(wide, 0.1), step=3, seed=0)
    with pytest.raises(
        UserError, match=r"(?s)checkpoint\.pt: .*size mismatch.*Delete the file to train from the beginning"
    ):
        fit(Line(), batches, TrainingPlan(updates=5, lr=0.1), tmp_path)
    (tmp_path / NAME).unlink()
    assert fit(Line(), batches, TrainingPlan(updates=5, lr=0.1), tmp_path)[-1]["step"] == 5


@pytest.mark.parametrize("content", ['{"widths": [4, 4', '{"widths": [4, 4, 8], "labels": []}', "[]"])
def test_a_damaged_backbone_description(tmp_path, content):
    save_backbone(tmp_path, SmallResNet((4, 4, 8), 3), (4, 4, 8), 16, list("abc"))
    (tmp_path / "backbone.json").write_text(content)
    with pytest.raises(UserError, match=r"backbone\.json"):
        load_backbone(tmp_path)


def test_a_backbone_of_other_widths(tmp_path):
    save_backbone(tmp_path, SmallResNet((4, 4, 8), 3), (4, 4, 8), 16, list("abc"))
    about = json.loads((tmp_path / "backbone.json").read_text())
    (tmp_path / "backbone.json").write_text(json.dumps({**about, "widths": [4, 8, 8]}))
    with pytest.raises(UserError, match=r"backbone\.safetensors do not fit the network"):
        load_backbone(tmp_path)
