"""Stage `vlp.captioning`: it learns to say what a picture shows, writes the official files, resumes; what is wrong."""

import json
from pathlib import Path

import pytest
import torch

from tests.dying import dying_at
from tests.vlp import small_captions as small
from vlpnb.data.description import load_captions
from vlpnb.data.region_store import write_store_of
from vlpnb.downstream.captions import Splits
from vlpnb.errors import UserError
from vlpnb.foundations.regions import load_regions
from vlpnb.stage import StageContext
from vlpnb.vlp.captioning import CAPTIONING, Captioned, CaptioningConfig, inputs
from vlpnb.vlp.examples import Batches
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.original.weights import load_model
from vlpnb.vlp.pictures import Pictures
from vlpnb.vlp.start import starting_point

LEARNS = {
    "seeds": (1, 2), "epochs": 30, "batch": 32, "lr": 3e-3, "optimiser": "adamw", "text_length": 10, "dropout": 0,
    "width": 3, "checkpoint_seconds": 1e9,
}  # fmt: skip
BRIEF = {**LEARNS, "seeds": (3,), "epochs": 2, "batch": 16, "checkpoint_seconds": 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folders, with an untrained model to start from."""
    root = tmp_path_factory.mktemp("inputs")
    found = small.make(root)
    small.pretrain(found, root / "pretraining", updates=0)
    return {**found, "pretraining": root / "pretraining"}


def context(made, folder: Path, said: list[str] | None = None, **fields) -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    config = CaptioningConfig(**{**BRIEF, **fields})
    wanted = {name: path for name, path in made.items() if name in inputs(config)}
    return StageContext(
        config, folder, wanted, "cpu", name="vlp.captioning", say=(said if said is not None else []).append
    )


def caption(made, folder: Path, said: list[str] | None = None, **fields) -> dict[str, float]:
    return CAPTIONING.run(context(made, folder, said, **fields))


@pytest.fixture(scope="module")
def brief(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("brief")
    return folder, caption(made, folder)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"packed": False}, {"targets": "masked", "epochs": 80}])
def test_it_learns_to_say_what_is_in_a_picture(made, tmp_path, fields):
    metrics = caption(made, tmp_path, start="scratch", **{**LEARNS, **fields})
    assert metrics["cider"] > 3 * metrics["constant_cider"]
    assert metrics["test_cider"] > 2 * metrics["test_constant_cider"]
    assert metrics["shuffled_cider"] < metrics["cider"] / 4
    assert metrics["different"] > 10
    results = json.loads((tmp_path / "captioning.json").read_text())
    assert [result["seed"] for result in results] == [1, 2]
    assert results[0]["value"] == results[0]["metrics"]["cider"] == max(results[0]["scores"].values())


def test_it_leaves_captions_as_the_official_evaluation_takes_them_and_a_model(made, brief):
    folder, metrics = brief
    for split, count in (("valid", 20), ("test", 8)):
        said = json.loads((folder / "seed-3" / f"captions_{split}.json").read_text())
        assert [row["image_id"] for row in said] == list(range(count))
        assert all(isinstance(row["caption"], str) for row in said)
    assert metrics["images"] == 20
    assert metrics["test_images"] == 8
    assert metrics["left_out"] == 0
    assert {
        "cider",
        "bleu_4",
        "rouge_l",
        "different",
        "bad_endings",
        "test_cider",
        "majority",
    } < metrics.keys()
    model = load_model(folder / "seed-3" / "model", VlpForGeneration)
    assert model.config.text_length == 10


def test_a_killed_run_continues_to_the_bit(made, brief, tmp_path):
    with dying_at(Batches, 11):
        caption(made, tmp_path)
    assert caption(made, tmp_path) == brief[1]
    one, other = (
        load_model(f / "seed-3" / "model", VlpForGeneration).state_dict() for f in (tmp_path, brief[0])
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_packed_captions_make_updates_of_as_many_captions(made, tmp_path):
    tasks = {}
    for packed in (True, False):
        here = context(made, tmp_path / str(packed), packed=packed)
        data, store = here.inputs["captions"], here.inputs["regions"]
        regions = load_regions(store)
        splits = Splits(load_captions(data), regions, here.config)
        tasks[packed] = Captioned(here.config, splits, Pictures(regions), starting_point(here)).batches(0)
    assert tasks[True].sampler.batch * 2 == tasks[False].sampler.batch == 16
    assert tasks[True].sampler.per_epoch == tasks[False].sampler.per_epoch


def test_from_scratch_every_seed_draws_weights_of_its_own(made, tmp_path):
    models = []
    for name, fields in (("a", {"seeds": (3,)}), ("b", {"seeds": (4,)}), ("c", {"seeds": (3,)})):
        caption(made, tmp_path / name, start="scratch", epochs=0, best=False, max_valid=2, test=(), **fields)
        found = next((tmp_path / name).glob("seed-*/model"))
        models.append(load_model(found, VlpForGeneration).state_dict()["words.dense.weight"])
    assert torch.equal(models[0], models[2])
    assert not torch.equal(models[0], models[1])


def test_without_an_epoch_the_weights_caption_as_they_are(made, tmp_path):
    caption(made, tmp_path, epochs=0)
    one = load_model(tmp_path / "seed-3" / "model", VlpForGeneration).state_dict()
    other = load_model(made["pretraining"] / "model", VlpForGeneration).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_that_learned_from_text_alone_reads_the_regions_of_the_store(made, tmp_path):
    small.pretrain(made, tmp_path / "text", pictures=False, updates=2)
    metrics = caption({**made, "pretraining": tmp_path / "text"}, tmp_path / "out", start="text")
    assert metrics["images"] == 20
    config = load_model(tmp_path / "out" / "seed-3" / "model", VlpForGeneration).config
    assert (config.feature_width, config.classes) == (small.WIDTH, 5)


def test_a_model_from_outside_is_named_with_its_words(made, tmp_path):
    metrics = caption(made, tmp_path / "a", model=str(made["pretraining"]), epochs=0, max_valid=3, test=())
    assert metrics["images"] == 3
    file = made["pretraining"] / "model" / "model.safetensors"
    with pytest.raises(
        UserError, match=r"vlp.captioning.tokenizer: .*model.safetensors has no tokenizer beside it"
    ):
        caption(made, tmp_path / "b", model=str(file))


def test_regions_of_another_width_are_named(made, tmp_path):
    regions = []
    for split, count in (("train", 60), ("valid", 20), ("test", 8)):
        regions += [small.regions(f"{split}{i}") for i in range(count)]
    narrow = [type(r)(**{**vars(r), "features": r.features[:, :7]}) for r in regions]
    write_store_of(tmp_path / "regions", narrow, small.KINDS)
    with pytest.raises(
        UserError, match=r"was trained with feature_width = 12, and the stage `regions` has 7"
    ):
        caption({**made, "regions": tmp_path / "regions"}, tmp_path / "out")


def test_pictures_without_regions_are_left_out_and_a_split_without_any_is_an_error(made, tmp_path):
    small.store(tmp_path / "some", [*(f"train{i}" for i in range(50)), "valid0", "valid1", "test0"])
    metrics = caption({**made, "regions": tmp_path / "some"}, tmp_path / "out")
    assert metrics["left_out"] == 10 + 18 + 7
    assert metrics["images"] == 2
    small.store(tmp_path / "none", [f"train{i}" for i in range(50)])
    with pytest.raises(
        UserError, match=r"the captions of split 'valid': .*has no regions of 20 of 20 pictures"
    ):
        caption({**made, "regions": tmp_path / "none"}, tmp_path / "other")


def test_more_beams_than_words_are_refused(made, tmp_path):
    with pytest.raises(UserError, match=r"beam|width"):
        caption(made, tmp_path, width=5000)


def test_a_captioner_without_dropout_of_attention_is_opened_again(made, tmp_path):
    brief = {"best": False, "max_valid": 2, "test": ()}
    caption(made, tmp_path / "a", epochs=0, dropout=0.1, attention_dropout=0, **brief)
    config = load_model(tmp_path / "a" / "seed-3" / "model", VlpForGeneration).config
    assert (config.dropout, config.attention_dropout) == (0.1, 0.0)
    assert (config.transformer.dropout, config.transformer.attention_dropout) == (0.1, 0.0)
    caption(made, tmp_path / "b", epochs=0, dropout=0.1, **brief)
    config = load_model(tmp_path / "b" / "seed-3" / "model", VlpForGeneration).config
    assert config.attention_dropout is None
    assert config.transformer.attention_dropout == config.dropout


def test_what_starts_from_a_captioner_has_its_own_dropout_of_attention(made, tmp_path):
    brief = {"best": False, "max_valid": 2, "test": ()}
    caption(made, tmp_path / "a", epochs=0, dropout=0.1, attention_dropout=0, **brief)
    start = starting_point(context(made, tmp_path / "b", model=str(tmp_path / "a")))
    model = start.model(VlpForGeneration, Pictures(load_regions(made["regions"])), dropout=0.2)
    assert model.config.transformer.attention_dropout == 0.2
