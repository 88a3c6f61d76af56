"""`matching.load` and `.test_only`: our own weights, the original's state dict, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlpnb.config import parse_config
from vlpnb.errors import UserError
from vlpnb.foundations.features import FEATURES, read_backbones
from vlpnb.nn.checkpoints import their_name
from vlpnb.nn.renaming import ENCODER
from vlpnb.train import loop
from vlpnb.vokenization.matcher import WEIGHTS, MatchingConfig, load_matcher
from vlpnb.vokenization.matching import MATCHING
from vlpnb.vokenization.original.weights import weights_file

CONFIG = MatchingConfig(epochs=2, batch=16, joint=8, dropout=0.0)  # the fixture's, with fewer epochs
ENDS = {"0": ("0", "fc1", "up"), "3": ("3", "fc2", "down")}


def original(
    small, module="module.", sides=("lang_model", "visn_model"), mlp="mlp", ends=0, backbone="backbone"
):
    """The matcher of the fixture as a state dict of the original's structure."""
    heads, source = load_file(small.matching / WEIGHTS), read_backbones(small.features)
    state = {}
    for side, net in zip(sides, (source.open_language().net, source.open_vision().net), strict=True):
        for name, tensor in net.state_dict().items():
            theirs = their_name(name, ENCODER) if side == sides[0] else name
            if not theirs.endswith("num_batches_tracked"):  # of frozen batch norm
                state[f"{module}{side}.{backbone}.{theirs}"] = tensor.clone()
        for index, names in ENDS.items():
            for leaf in ("weight", "bias"):
                head = "f" if side == sides[0] else "g"
                state[f"{module}{side}.{mlp}.{names[ends]}.{leaf}"] = heads[f"{head}.{index}.{leaf}"].clone()
    state[f"{module}{sides[0]}.{backbone}.pooler.dense.weight"] = torch.zeros(
        16, 16
    )  # the original's BERT has one
    state[f"{module}{sides[0]}.{backbone}.pooler.dense.bias"] = torch.zeros(16)
    return state


def match(small, folder, features=None, **changes):
    """A run of the stage; its metrics and its log."""
    inputs = {"features": features or small.features, **small.data}
    metrics = small.run(MATCHING, CONFIG.model_copy(update=changes), folder, **inputs)
    return metrics, (folder / "log.txt").read_text()


def same_weights(one, other):
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


LAYOUTS = {
    "with one process": {},
    "without a wrapper": {"module": ""},
    "other names": {"sides": ("language", "vision"), "mlp": "head", "ends": 1},
    "no backbone in the names": {"sides": ("joint.lang", "joint.visn"), "backbone": "net", "ends": 2},
}


@pytest.mark.parametrize("kind", ["folder", "file", *LAYOUTS])
def test_weights_are_tested_and_become_the_result(small, tmp_path, kind):
    load = {"folder": small.matching, "file": small.matching / WEIGHTS}.get(kind, tmp_path / "snap")
    if kind in LAYOUTS:
        load.mkdir()
        layout = dict(LAYOUTS[kind])
        if layout.get("backbone") == "net":  # what follows the side is then the network's own name
            state = {name.replace(".net.", "."): t for name, t in original(small, **layout).items()}
        else:
            state = original(small, **layout)
        if kind == "other names":
            state = dict(reversed(state.items()))  # shapes, not the order, tell which layer is which
        torch.save(state, load / "BEST.pth")
    metrics, log = match(small, tmp_path / "matching", load=str(load), test_only=True)
    assert same_weights(tmp_path / "matching" / WEIGHTS, small.matching / WEIGHTS)
    expected = json.loads((small.matching / "best.json").read_text())["valid"]
    assert {name: metrics[f"valid_{name}"] for name in expected} == pytest.approx(expected)
    assert metrics["test_r10"] == 1.0  # of eight pictures
    assert metrics["best_epoch"] == 0
    assert not any(name.startswith("start_") for name in metrics)
    lines = [json.loads(line) for line in (tmp_path / "matching" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0]
    assert load_matcher(tmp_path / "matching").g[0].weight.equal(load_matcher(small.matching).g[0].weight)
    assert f"starts from {weights_file(str(load))}" in log
    assert ("not used: " in log) == (kind in LAYOUTS)
    if kind in LAYOUTS:
        unused = log.split("not used: ")[1].splitlines()[0]
        assert unused.count("pooler.dense") == len(unused.split(", ")) == 2


def test_training_starts_from_loaded_weights(small, tmp_path, monkeypatch):
    load = str(small.matching)
    metrics, _ = match(small, tmp_path / "whole", load=load)
    expected = json.loads((small.matching / "best.json").read_text())["valid"]
    assert metrics["start_valid_loss"] == pytest.approx(expected["loss"])
    assert metrics["best_epoch"] in (1, 2)  # the weights as loaded are no epoch
    assert not same_weights(tmp_path / "whole" / WEIGHTS, small.matching / WEIGHTS)
    fresh, _ = match(small, tmp_path / "fresh")
    assert metrics["valid_loss"] < fresh["valid_loss"]
    assert "start_valid_loss" not in fresh

    save, calls = loop.save_checkpoint, []

    def killed(*arguments):
        save(*arguments)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        match(small, tmp_path / "killed", load=load, checkpoint_seconds=0)
    again, _ = match(small, tmp_path / "killed", load=load, checkpoint_seconds=0)
    assert again == metrics
    assert same_weights(tmp_path / "killed" / WEIGHTS, tmp_path / "whole" / WEIGHTS)


def test_a_backbone_is_compared_where_it_is_frozen_and_read_where_it_trains(small, tmp_path):
    state = original(small)
    half = {name: tensor.half() if "backbone" in name else tensor for name, tensor in state.items()}
    torch.save(half, tmp_path / "half.pth")
    match(small, tmp_path / "half", load=str(tmp_path / "half.pth"), test_only=True)

    changed = "visn_model.backbone.blocks.0.conv1.weight"
    state[f"module.{changed}"] = state[f"module.{changed}"] + 0.01
    torch.save(state, tmp_path / "BEST.pth")
    with pytest.raises(UserError, match=r"'blocks\.0\.conv1\.weight' of the vision .*matching\.train_vision"):
        match(small, tmp_path / "frozen", load=str(tmp_path), test_only=True)

    uncached = small.features_config.model_copy(update={"cache": False})
    small.run(FEATURES, uncached, tmp_path / "features", **small.data)
    trained = {"train_vision": True, "train_language": True, "test_only": True}
    match(small, tmp_path / "tuned", tmp_path / "features", load=str(tmp_path), **trained)
    read = load_file(tmp_path / "tuned" / WEIGHTS)
    assert read["vision.net.blocks.0.conv1.weight"].equal(state[f"module.{changed}"])
    words = "lang_model.backbone.embeddings.word_embeddings.weight"
    assert read["language.net.embeddings.words.weight"].equal(state[f"module.{words}"])
    # Such a file of ours holds the backbones, and is read like the original's.
    with pytest.raises(UserError, match=r"of the vision backbone differs from features\.vision"):
        match(small, tmp_path / "again", load=str(tmp_path / "tuned"), test_only=True)
    match(small, tmp_path / "same", tmp_path / "features", load=str(tmp_path / "tuned"), **trained)
    assert same_weights(tmp_path / "same" / WEIGHTS, tmp_path / "tuned" / WEIGHTS)
    # Heads alone: the backbones keep the weights of `features`, and the log says so.
    _, log = match(small, tmp_path / "heads", tmp_path / "features", load=str(small.matching), **trained)
    assert "missing there: language embeddings.words.weight" in log


def without(state, word):
    return {name: tensor for name, tensor in state.items() if word not in name}


class Trap:
    """A pickle that would make a file where it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: without(s, "visn_model.mlp.3"),
            r"on the vision side .*found visn_model\.mlp\.0 \[256, 16\]",
        ),
        (
            lambda s: without(s, "mlp.0.bias"),
            r"two Linear layers \[256, 32\] and \[8, 256\] on the language side",
        ),
        (lambda s: {f"x.{i}": t for i, t in enumerate(s.values())}, r"names with 'lang', .*found none"),
        (lambda s: list(s.values()), r"BEST\.pth is no state dict"),
        (
            lambda s: {**without(s, "visn_model.b"), "visn_model.backbone.fc.weight": torch.ones(2)},
            "counterpart",
        ),
        (
            lambda s: {**s, "module.lang_model.backbone.embeddings.LayerNorm.weight": torch.ones(9)},
            r"'embeddings\.norm\.weight' of the language backbone has the shape \[9\], expected \[16\]",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(small, tmp_path, change, message):
    torch.save(change(original(small)), tmp_path / "BEST.pth")
    with pytest.raises(UserError, match=message):
        match(small, tmp_path / "matching", load=str(tmp_path / "BEST.pth"), test_only=True)


def test_nothing_but_tensors_is_opened(small, tmp_path):
    """The original's later stages load a pickled module (VOK-07); here that could run any code."""
    torch.save(Trap(tmp_path / "sprung"), tmp_path / "BEST.pth.model")
    with pytest.raises(UserError, match=r"BEST\.pth\.model holds more than tensors"):
        match(small, tmp_path / "matching", load=str(tmp_path / "BEST.pth.model"))
    assert not (tmp_path / "sprung").exists()
    (tmp_path / WEIGHTS).write_bytes(b"\0" * 5)
    with pytest.raises(UserError, match=r"matcher\.safetensors cannot be read"):
        match(small, tmp_path / "matching", load=str(tmp_path))
    with pytest.raises(UserError, match=r"matching\.load: .*nowhere not found"):
        match(small, tmp_path / "matching", load=str(tmp_path / "nowhere"))


def test_heads_of_another_size_name_the_fields(small, tmp_path):
    with pytest.raises(
        UserError, match=r"\[256, 32\] and \[4, 256\].* found f\.0 \[256, 32\], f\.3 \[8, 256\].*joint"
    ):
        match(small, tmp_path / "matching", load=str(small.matching), joint=4)


def test_there_is_something_to_test():
    with pytest.raises(UserError, match="matching: test_only needs the weights"):
        parse_config(MatchingConfig, {"test_only": True}, "matching")


def test_another_file_is_another_result(tmp_path):
    config = CONFIG.model_copy(update={"load": str(tmp_path)})
    assert MATCHING.content(CONFIG) == {}
    seen = [MATCHING.content(config)]
    for value in (0.0, 1.0):
        save_file({"f.0.weight": torch.full((1,), value)}, tmp_path / WEIGHTS)
        seen.append(MATCHING.content(config))
    assert len({found["load"] for found in seen}) == 3
