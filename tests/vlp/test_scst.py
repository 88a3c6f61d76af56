"""Stage `vlp.scst`: a captioner goes on by its own captions; corrected, as the original does, and killed."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from tests.dying import dying_at
from tests.vlp import small_captions
from vlpnb.config import parse_config
from vlpnb.errors import UserError
from vlpnb.stage import StageContext
from vlpnb.vlp import scst
from vlpnb.vlp.captioning import CAPTIONING
from vlpnb.vlp.original.weights import load_model
from vlpnb.vlp.scst import SCST, OriginalScst, ScstConfig, SelfCritical, warnings

SMALL = {
    "seeds": [3], "epochs": 3, "batch": 20, "max_images": 40, "max_valid": 20, "optimiser": "adamw", "lr": 2e-3,
    "dropout": 0, "text_length": 10, "width": 2,
}  # fmt: skip
FAST = SMALL | {
    "samples": 4,
    "batch": 8,
    "micro_batch": 4,
    "lr": 1e-3,
    "checkpoint_seconds": 0,
    "best": False,
}
ORIGINAL = {"reference_view": True, "batch_reward": True, "past_end": True}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The stages before, with a captioner that has learned a little."""
    root = tmp_path_factory.mktemp("scst")
    inputs = small_captions.make(root / "data")
    folder = root / "pretraining"
    small_captions.pretrain(inputs, folder, updates=30, targets="every", s2s=1.0)
    inputs["pretraining"] = folder
    run(CAPTIONING, inputs, root / "captioning", SMALL)
    return inputs | {"captioning": root / "captioning"}


def run(stage, inputs, folder, settings, said=None):
    folder.mkdir(exist_ok=True)
    config = parse_config(stage.config, settings, stage.name)
    wanted = stage.inputs(config)
    given = {name: path for name, path in inputs.items() if name in wanted}
    return stage.run(
        StageContext(
            config, folder, given, "cpu", say=(said if said is not None else []).append, name=stage.name
        )
    )


@pytest.mark.slow
def test_rewards_rise_and_what_it_was_before_stands_beside(made, tmp_path):
    said = []
    found = run(SCST, made, tmp_path / "a", FAST | {"epochs": 12}, said)
    [result] = json.loads((tmp_path / "a/scst.json").read_text())
    rewards = result["rewards"]
    assert sum(rewards[-3:]) > sum(rewards[:3])
    before = json.loads((made["captioning"] / "captioning.json").read_text())[0]
    assert found["before_cider"] == before["metrics"]["cider"]
    assert found["test_before_bad_endings"] == before["splits"]["test"]["bad_endings"]
    assert {"cider", "test_cider", "bad_endings", "shuffled_cider", "different"} <= found.keys()
    assert found["left_out"] == 0
    assert any(
        "the captioner of seed 3, 40 pictures; 8 pictures, 4 samples of each, per update" in line
        for line in said
    )
    captions = json.loads((tmp_path / "a/seed-3/captions_test.json").read_text())
    assert len(captions) == 8
    load_model(tmp_path / "a/seed-3/model", scst.VlpForGeneration)


@pytest.mark.slow
def test_the_originals_ways_run(made, tmp_path):
    found = run(SCST, made, tmp_path / "a", FAST | {"epochs": 1, "original": ORIGINAL, "dropout": 0.1})
    assert math.isfinite(found["cider"])
    [result] = json.loads((tmp_path / "a/scst.json").read_text())
    assert result["updates"] == 10  # 40 pictures with two captions each, eight captions at a time
    with pytest.raises(UserError, match="one reference only with batch_reward"):
        parse_config(ScstConfig, {"original": {"reference_view": True}}, "vlp.scst")


def weights(folder):
    return load_file(folder / "seed-3/model/model.safetensors")


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_bit(made, tmp_path, monkeypatch):
    settings = FAST | {"epochs": 2}
    run(SCST, made, tmp_path / "whole", settings)
    whole = scst.PictureBatches.__call__
    with dying_at(scst.PictureBatches, 6):
        run(SCST, made, tmp_path / "killed", settings)
    started = []
    monkeypatch.setattr(
        scst.PictureBatches, "__call__", lambda self, update: started.append(update) or whole(self, update)
    )
    run(SCST, made, tmp_path / "killed", settings)
    assert started[0] == 6
    for name in ("scst.json", "seed-3/captions_test.json", "seed-3/captions_valid.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)


def learner(made, rewards=None, **settings):
    """The captioner as it learns, in evaluation mode, and three pictures."""
    config = ScstConfig(**FAST | settings)
    start = scst.captioner(made["captioning"], 3)
    pictures = scst.Pictures(scst.load_regions(made["regions"]))
    rows = pictures.rows(["train1", "train2", "train3"], "a test")
    model = load_model(start.weights, scst.VlpForGeneration)
    given = {"picture": torch.arange(3), **pictures.batch(rows)}
    return SelfCritical(model, start.tokenizer, rewards, config), given


def test_equal_rewards_teach_nothing_and_greater_ones_make_a_caption_likelier(made):
    model, given = learner(made, rewards=lambda picture, text, ended: 1.0)
    losses = model(**given)
    assert losses["policy"].item() == pytest.approx(0, abs=1e-5)
    assert losses["reward"].item() == 12  # three pictures, four samples
    longer = learner(made, rewards=lambda picture, text, ended: float(len(text.split())))[0]
    torch.manual_seed(0)
    before = longer(**given)
    before["policy"].backward()
    with torch.no_grad():
        for parameter in longer.parameters():
            if parameter.grad is not None:
                parameter -= 0.05 * parameter.grad
    lengths = []
    for model in (learner(made)[0], longer):
        torch.manual_seed(1)
        drawn = scst.sample(model.decoder.step(model.decoder.see(**{n: v for n, v in given.items() if n != "picture"})),
                            11, model.model.config.sep_id, samples=20).ids  # fmt: skip
        lengths.append((drawn != 0).float().sum().item())
    assert lengths[1] > lengths[0]


def test_samples_are_a_function_of_the_seed(made):
    texts = []
    model, given = learner(made, rewards=lambda picture, text, ended: texts.append((picture, text)) or 0.0)
    for _ in range(2):
        torch.manual_seed(4)
        model(**given)
    assert texts[:12] == texts[12:]
    assert [picture for picture, _ in texts[:12]] == [0] * 4 + [1] * 4 + [2] * 4


def test_the_originals_loss_is_zero_where_sample_and_greedy_caption_are_the_same(made):
    model, given = learner(made, original=OriginalScst(**ORIGINAL), temperature=1e-6)
    reference = torch.zeros(3, 11, dtype=torch.long)
    reference[:, :3] = torch.tensor([7, 8, model.model.config.sep_id])
    assert model(**given, reference=reference)["policy"].item() == 0


def test_the_frequencies_are_those_of_the_whole_split_and_references_of_the_pictures_trained_on(made):
    config = ScstConfig(**FAST)
    store = scst.load_regions(made["regions"])
    splits = scst.Splits(scst.load_captions(made["captions"]), store, config)
    task = scst.Drawn(config, splits, scst.Pictures(store), scst.captioner(made["captioning"], 3))
    assert task.rewards.frequencies.pictures == 60
    assert len(task.rewards.references) == 40
    assert task.rewards(0, small_captions.sentences("train0")[0]) > 1


def test_a_rate_that_users_came_to_grief_with_is_warned_of():
    assert warnings(ScstConfig(lr=3e-5), 768)
    assert warnings(ScstConfig(lr=3e-5), 128) == warnings(ScstConfig(), 768) == []


def test_a_seed_without_a_captioner_is_named(made, tmp_path):
    with pytest.raises(UserError, match="holds no fine-tuned model of seed 9"):
        run(SCST, made, tmp_path / "a", FAST | {"seeds": [3, 9]})
