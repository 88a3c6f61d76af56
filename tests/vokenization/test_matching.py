"""The matcher: the paper's sizes and losses, learning, resuming bit for bit, fine-tuning."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import resnet18

from vlpnb.errors import UserError
from vlpnb.foundations.backbones import keep_backbones
from vlpnb.foundations.features import FEATURES, Backbones, FeaturesConfig, read_backbones
from vlpnb.stage import StageContext
from vlpnb.train import loop
from vlpnb.vision.backbones import WEIGHTS as VISION_WEIGHTS
from vlpnb.vokenization import matching
from vlpnb.vokenization.matcher import (
    WEIGHTS,
    Matcher,
    MatchingConfig,
    MatchingLoss,
    Projection,
    load_matcher,
    loss_function,
    picture_vectors,
)
from vlpnb.vokenization.matching import MATCHING


def test_golden_vector_1_through_the_training_module():
    class Given(Projection):
        def __init__(self):
            torch.nn.Module.__init__(self)

        def forward(self, features):
            return features

    f = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [1.0, 0.0]]])
    g, mask = torch.eye(2), torch.tensor([[True, True], [True, False]])
    model = MatchingLoss(Matcher(Given(), Given()), loss_function(MatchingConfig()))
    assert model(f, mask, g)["matching"].item() / 3 == pytest.approx(0.6)


def test_the_papers_heads_have_the_papers_size():
    count = lambda *sizes: sum(p.numel() for p in Projection(*sizes, 0.3).parameters())  # noqa: E731
    assert count(3072, 256, 64) == 803_136
    assert count(2048, 256, 64) == 540_992


def test_vectors_lie_on_the_unit_sphere(small):
    matcher = load_matcher(small.matching)
    queries, mask = matcher.queries(matcher.language.encode(["a red picture .", "red"]))
    torch.testing.assert_close(queries.norm(dim=-1), torch.ones(mask.shape))
    keys = picture_vectors(matcher.g, torch.randn(3, 4, matcher.vision.width))
    torch.testing.assert_close(keys.norm(dim=-1), torch.ones(3))


def test_it_learns_what_can_be_learned(small):
    """Four colours among eight pictures: the own picture is one of two equals."""
    metrics = json.loads((small.matching / "best.json").read_text())["valid"]
    assert metrics["loss"] < 0.42  # a quarter of the wrong pictures has the right colour
    matcher = load_matcher(small.matching)
    rows = matcher.language.encode(["a red picture .", "a blue picture ."])
    words, _ = matcher.queries(rows)
    from PIL import Image

    keys = matcher.keys([Image.new("RGB", (24, 30), small.colours[name]) for name in ("red", "blue")])
    scores = words[:, 2] @ keys.T  # the colour words
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]


@pytest.mark.parametrize("loss", ["infonce", "all_pairs"])
def test_other_losses_train(small, tmp_path, loss):
    config = MatchingConfig(loss=loss, epochs=2, batch=16, joint=8)
    metrics = small.run(MATCHING, config, tmp_path, features=small.features, **small.data)
    assert {f"test_{kind}r{k}" for kind in ("", "token_") for k in (1, 5, 10)} <= metrics.keys()
    assert metrics["test_r10"] == 1.0  # only eight pictures
    assert metrics["valid_loss"] > 0


def test_the_original_programs_own_defaults(small, tmp_path, monkeypatch):
    """AdamW with decay, a linear schedule with 5 % warm-up, ten epochs; any of its optimisers."""
    plans = []
    fit = matching.fit
    monkeypatch.setattr(matching, "fit", lambda *a, **k: plans.append(a[2]) or fit(*a, **k))
    config = MatchingConfig(
        epochs=10,
        lr=1e-4,
        schedule="linear",
        warmup_share=0.05,
        weight_decay=0.01,
        optimiser="sgd",
        batch=8,
        joint=8,
    )
    small.run(MATCHING, config, tmp_path, features=small.features, **small.data)
    (plan,) = plans
    assert (plan.lr, plan.schedule, plan.weight_decay, plan.eps) == (1e-4, "linear", 0.01, 1e-8)
    assert plan.warmup == round(0.05 * plan.updates) == 2
    assert plan.optimiser == "sgd"


def test_a_killed_training_continues_bit_for_bit(small, tmp_path, monkeypatch):
    config = MatchingConfig(epochs=6, batch=8, joint=8, checkpoint_seconds=0)
    inputs = {"features": small.features, **small.data}
    whole = small.run(MATCHING, config, tmp_path / "whole", **inputs)
    save, calls = loop.save_checkpoint, []

    def killed(*arguments):
        save(*arguments)
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        small.run(MATCHING, config, tmp_path / "killed", **inputs)
    again = small.run(MATCHING, config, tmp_path / "killed", **inputs)
    assert again == whole
    first, second = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "killed"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("special_tokens", [True, False])
def test_processes_share_loss_and_gradient(small, tmp_path, monkeypatch, cached, special_tokens):
    """Of the default loss: the shares of two and of three processes add up to what one process computes."""
    fine = {} if cached else {"train_language": True, "train_vision": True}
    config = MatchingConfig(batch=16, joint=8, dropout=0.0, epochs=1, special_tokens=special_tokens, **fine)
    features = small.features
    if not cached:
        features = tmp_path / "features"
        uncached = small.features_config.model_copy(update={"cache": False})
        small.run(FEATURES, uncached, features, **small.data)
    taken = {}

    def fit(model, batches, plan, folder, *, rank, world_size, **rest):
        taken[rank, world_size] = model, batches(0)
        raise Interrupted

    monkeypatch.setattr(matching, "fit", fit)
    for rank, world_size in [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]:
        (tmp_path / f"{rank}-{world_size}").mkdir()
        inputs = {"features": features, **small.data}
        context = StageContext(
            config, tmp_path / f"{rank}-{world_size}", inputs, "cpu", rank, world_size, say=lambda line: None
        )
        with pytest.raises(Interrupted):
            MATCHING.run(context)
    model, whole = taken[0, 1]
    model.eval()  # the backbones have dropout of their own
    assert whole.counts["matching"] == int(whole.micro[0]["mask"].sum())

    def summed(parts):
        model.zero_grad()
        losses = [model(**part)["matching"] / whole.counts["matching"] for part in parts]
        torch.stack(losses).sum().backward()
        return [sum(losses).item(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    expected = summed(whole.micro)
    for world_size in (2, 3):
        updates = [taken[rank, world_size][1] for rank in range(world_size)]
        assert all(update.counts == whole.counts and update.tokens == whole.tokens for update in updates)
        found = summed([micro for update in updates for micro in update.micro])
        assert len(found) == len(expected) > 4
        for ours, one in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, one, rtol=1e-4, atol=1e-6)


class Interrupted(Exception):
    """What is to be seen was seen."""


def test_more_processes_than_pairs_are_refused(small, tmp_path):
    inputs = {"features": small.features, **small.data}
    context = StageContext(MatchingConfig(batch=4), tmp_path, inputs, "cpu", 2, 3, say=lambda line: None)
    with pytest.raises(UserError, match="do not fill a batch of 3 pairs"):
        MATCHING.run(context)


def test_fine_tuning_moves_both_backbones_and_reloads(small, tmp_path):
    uncached = small.features_config.model_copy(update={"cache": False})
    small.run(FEATURES, uncached, tmp_path / "features", **small.data)
    config = MatchingConfig(epochs=1, batch=16, joint=8, train_language=True, train_vision=True)
    inputs = {"features": tmp_path / "features", **small.data}
    metrics = small.run(MATCHING, config, tmp_path / "matching", **inputs)
    assert metrics["test_r10"] == 1.0
    matcher = load_matcher(tmp_path / "matching")
    before = load_file(small.vision / VISION_WEIGHTS)
    assert not torch.equal(matcher.vision.net.blocks[0].conv1.weight, before["blocks.0.conv1.weight"])
    assert torch.equal(matcher.vision.net.stem[1].running_mean, before["stem.1.running_mean"])
    frozen = load_matcher(small.matching)
    moved = matcher.language.net.blocks[0].parameters()
    kept = frozen.language.net.blocks[0].parameters()
    assert any(not torch.equal(a, b) for a, b in zip(moved, kept, strict=True))
    assert not any(module.training for module in matcher.modules())


def test_frozen_backbones_stay_frozen_in_training_mode(small):
    matcher = load_matcher(small.matching).train()
    assert matcher.f.training
    assert not matcher.language.net.training
    assert not matcher.vision.net.training
    assert not any(p.requires_grad for p in matcher.language.parameters())


def test_a_matchers_folder_needs_no_other(small, tmp_path):
    """Its backbones lay in two folders of their own; a network with a published name stays a name."""
    shutil.copytree(small.matching, tmp_path / "alone")
    moved, here = load_matcher(tmp_path / "alone"), load_matcher(small.matching)
    rows = here.language.encode(["a red picture ."], 8)
    assert moved.queries(rows)[0].equal(here.queries(rows)[0])
    picture = Image.new("RGB", (20, 20), "red")
    assert moved.keys([picture]).equal(here.keys([picture]))
    about = (tmp_path / "alone" / "backbones.json").read_text()
    assert str(small.language) in about  # what was configured is remembered, and not read
    assert json.loads(about)["inputs"] == {"language": "backbones/language", "vision": "backbones/vision"}

    config = FeaturesConfig(language="bert-base-uncased", vision="resnet18", vision_weights=None)
    keep_backbones(tmp_path, Backbones(config, {}, 4, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["alone", "backbones.json"]
    assert read_backbones(tmp_path).inputs == {}
    weights = tmp_path / "resnet18.pth"
    torch.save(resnet18().state_dict(), weights)
    config = config.model_copy(update={"vision_weights": str(weights)})
    keep_backbones(tmp_path, Backbones(config, {}, 4, 512))
    weights.unlink()
    assert read_backbones(tmp_path).open_vision().width == 512


def test_a_folder_without_a_matcher_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"matcher\.json"):
        load_matcher(tmp_path)


@pytest.mark.parametrize("side", ["train_language", "train_vision"])
def test_a_backbone_that_trains_reads_no_spliced_captions(small, tmp_path, side):
    config = small.features_config.model_copy(update={"splice": 1})
    small.run(FEATURES, config, tmp_path / "features", **small.data)
    with pytest.raises(UserError, match=rf"matching\.{side}: expected false.*features\.splice is 1"):
        small.run(
            MATCHING, MatchingConfig(**{side: True}), tmp_path / "matching",
            features=tmp_path / "features", **small.data,
        )  # fmt: skip


def test_a_matcher_learns_from_spans(small, tmp_path):
    config = small.features_config.model_copy(update={"splice": 2})
    small.run(FEATURES, config, tmp_path / "features", **small.data)
    metrics = small.run(
        MATCHING, MatchingConfig(epochs=60, batch=16, joint=8, dropout=0.0), tmp_path / "matching",
        features=tmp_path / "features", **small.data,
    )  # fmt: skip
    assert metrics["valid_loss"] < 0.48  # the margin is 0.5, the loss of one who knows nothing
    assert metrics["test_r5"] >= 0.8  # of eight pictures: knowing nothing gives 0.625
