"""Stage `cclm.pretraining`: it learns, resumes to the bit, does with two processes what it does with one; bad input."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cclm.small_stages import TINY, Small, make
from vlpnb.cclm.mixing import batches_of
from vlpnb.cclm.objectives import CclmPretraining
from vlpnb.cclm.original.weights import load_model, save_model
from vlpnb.cclm.pretraining import PretrainingConfig, new_model, training_plan
from vlpnb.cclm.scoring import open_scorer
from vlpnb.errors import UserError
from vlpnb.foundations.multilingual import load_multilingual
from vlpnb.foundations.patches import open_patches
from vlpnb.foundations.pieces import load_pieces
from vlpnb.foundations.region_text import load_region_text
from vlpnb.train.distributed import spawn
from vlpnb.train.loop import fit
from vlpnb.train.optim import learning_rate
from vlpnb.train.sampling import EpochSampler

VARIANTS = ("all", "no_parallel", "contrastive_only", "no_regions")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Small:
    return make(tmp_path_factory.mktemp("cclm"))


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder, small.pretrain(folder, updates=60, lr=3e-3, dropout=0.0)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "model").state_dict()


def timeless(found: list[dict]) -> list[dict]:
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in found if "loss" in line]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_it_learns_and_finds_pictures_in_languages_that_no_picture_was_described_in(trained):
    _, metrics = trained
    assert {
        "en_img_r10",
        "de_img_r10",
        "fr_r_mean",
        "loss_itc",
        "loss_boxes",
        "parallel_pairs",
    } <= metrics.keys()
    assert metrics["pictures"] == 24
    assert metrics["parallel_pairs"] == 48
    assert metrics["en_r_mean"] > 0.75
    assert metrics["de_r_mean"] > 0.7
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_what_it_says(small, tmp_path, variant):
    metrics = small.pretrain(tmp_path, variant=variant, updates=2)
    losses = {name.removeprefix("loss_") for name in metrics if name.startswith("loss_")}
    assert losses == set(PretrainingConfig(**TINY, variant=variant).losses)
    assert (metrics["parallel_pairs"] == 0) == (variant == "no_parallel")


def test_a_withheld_language_is_in_no_batch(small):
    data, pieces = load_multilingual(small.root / "multilingual"), load_pieces(small.root / "pieces")
    config = PretrainingConfig(**(TINY | {"pictures_in": (), "withheld": ("fr",), "variant": "no_regions"}))
    batches = batches_of(config, data, None, pieces, open_patches(small.root / "patches"))
    assert batches.captions.languages == ("de", "en")
    assert len(batches.parallel) == 24
    french = set(pieces.encode(["rouge vert bleu blanc champ mur"])[0][1:-1].tolist())
    others = set(
        np.concatenate(pieces.encode(["red green blue white field wall on rot grün blau weiß"])).tolist()
    )
    for update in range(4):
        batch = batches(update).micro[0]
        seen = {
            int(i) for name in ("ids", "parallel_ids", "parallel_other_ids") for i in batch[name].flatten()
        }
        assert not seen & (french - others)


@pytest.mark.slow
def test_killed_and_resumed_is_bit_identical(small, tmp_path):
    small.pretrain(tmp_path / "whole")
    expected = lines(tmp_path / "whole")

    class Killed(Exception):
        pass

    def stop(done: int, total: int, **values: float) -> None:
        if done == 4:
            raise Killed

    folder = tmp_path / "killed"
    folder.mkdir()
    config = PretrainingConfig(**TINY)
    data, pieces = load_multilingual(small.root / "multilingual"), load_pieces(small.root / "pieces")
    store, regions = open_patches(small.root / "patches"), load_region_text(small.root / "regions")
    batches = batches_of(config, data, regions, pieces, store)
    model = CclmPretraining(new_model(config, pieces, store)[0], config.losses)
    plan = training_plan(config.model_copy(update={"checkpoint_seconds": 0.0}), 2, model)
    with pytest.raises(Killed):
        fit(model, batches, plan, folder, progress=stop, keep=True)
    assert (folder / "checkpoint.pt").is_file()
    small.pretrain(folder)
    assert same(weights(folder), weights(tmp_path / "whole"))
    assert timeless(lines(folder)) == timeless(expected)


def train_share(rank: int, world_size: int, root: str, folder: str, variant: str) -> None:
    torch.set_num_threads(1)
    # Adam would make a step of any size out of a gradient that is rounding alone, such as that of a key's bias.
    changes = {"dropout": 0.0, "variant": variant, "fused": None, "optimiser": "sgd", "lr": 0.05}
    config = PretrainingConfig(**(TINY | changes))
    data, pieces = load_multilingual(Path(root) / "multilingual"), load_pieces(Path(root) / "pieces")
    store = open_patches(Path(root) / "patches")
    batches = batches_of(config, data, None, pieces, store, rank, world_size)
    backbone = new_model(config, pieces, store)[0]
    losses = [name for name in config.losses if name not in ("itm", "ttm")]
    model = CclmPretraining(backbone, losses)
    plan = training_plan(config, 2, model)

    def asked(update: int):
        found = batches(update)
        return type(found)(found.micro, {name: found.counts[name] for name in losses}, found.tokens)

    records = fit(model, asked, plan, Path(folder) / str(rank), rank=rank, world_size=world_size)
    torch.save((backbone.state_dict(), records), f"{folder}/{world_size}.{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["contrastive_only", "no_regions"])
def test_two_processes_equal_one_but_for_hard_negatives_which_are_each_processes_own(
    small, tmp_path, variant
):
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
    train_share(0, 1, str(small.root), str(tmp_path), variant)
    shutil.rmtree(tmp_path / "0")
    (tmp_path / "0").mkdir()
    spawn(train_share, 2, str(tmp_path / "store"), str(small.root), str(tmp_path), variant)
    alone, records = torch.load(tmp_path / "1.0.pt")
    for rank in range(2):
        state, found = torch.load(tmp_path / f"2.{rank}.pt")
        for name, value in alone.items():
            torch.testing.assert_close(state[name], value, atol=1e-5, rtol=1e-4)
        for one, two in zip(records, found, strict=True):
            assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    start = new_model(
        PretrainingConfig(**TINY), load_pieces(small.root / "pieces"), open_patches(small.root / "patches")
    )
    assert not same(alone, start[0].state_dict())


@pytest.mark.slow
def test_a_finished_model_scores_ones_own_picture(small, trained):
    scorer = open_scorer(trained[0])
    picture = small.root / "images" / "test" / "test0.png"
    found = scorer.score(picture, ["a red field on a green wall", "ein Feld in blau auf einer Wand in weiß"])
    assert found.similarity.shape == found.match.shape == (2,)
    assert found.similarity[0] > found.similarity[1]
    assert ((found.match >= 0) & (found.match <= 1)).all()
    ids = [f"test{i}" for i in range(8)]
    hits = scorer.find("ein Feld in rot auf einer Wand in grün", scorer.gallery(ids), ids, k=3)
    assert len(hits) == 3
    seen = scorer.gallery(ids[:1])
    torch.testing.assert_close(scorer.look([picture]).vectors, seen.vectors, atol=2e-3, rtol=0)
    with pytest.raises(UserError, match="found the text 'red'; expected a list of sentences"):
        scorer.score(picture, "red")
    with pytest.raises(UserError, match=r"' \.' says nothing"):
        scorer.score(picture, [" ."])


@pytest.mark.slow
def test_it_goes_on_from_a_model_of_its_own(small, trained, tmp_path):
    metrics = small.pretrain(tmp_path, start=str(trained[0] / "model"), updates=0)
    assert same(weights(tmp_path), weights(trained[0]))
    assert metrics["updates"] == 0


@pytest.mark.slow
def test_a_start_with_other_word_pieces_is_named(small, trained, tmp_path):
    model = load_model(trained[0] / "model")
    model.config = type(model.config)(
        **{**vars(model.config), "vocab_size": model.config.vocab_size + 1, "mask_id": -1}
    )
    other = type(model)(model.config)
    save_model(tmp_path / "other", other)
    with pytest.raises(UserError, match=r"cclm\.pretraining\.start: .* knows .* word pieces, and the stage"):
        small.pretrain(tmp_path / "x", start=str(tmp_path / "other"))


def test_a_language_that_the_data_does_not_have_is_named(small, tmp_path):
    with pytest.raises(
        UserError, match=r"cclm\.pretraining\.pictures_in: found 'ja'; the data has de, en, fr"
    ):
        small.pretrain(tmp_path, pictures_in=("ja",))


def test_unknown_sizes_are_named():
    with pytest.raises(ValueError, match="expected one of large, mini, nano, tiny"):
        PretrainingConfig(size="huge")


def test_an_empty_update_leaves_a_model_that_can_be_asked(small, tmp_path):
    metrics = small.pretrain(tmp_path, updates=0)
    assert metrics["updates"] == 0
    assert load_model(tmp_path / "model").config.hidden == 96


def test_the_plan_has_faster_rates_for_what_is_new(small):
    config = PretrainingConfig(**TINY)
    pieces, store = load_pieces(small.root / "pieces"), open_patches(small.root / "patches")
    model = CclmPretraining(new_model(config, pieces, store)[0], config.losses)
    plan = training_plan(config, 2, model)
    assert plan.factors["model.temperature"] == 2.0
    assert plan.factors["model.fusion_layers.0.meet.attention.key.weight"] == 2.0
    assert "model.text_layers.0.look.attention.key.weight" not in plan.factors
    assert (plan.betas, plan.eps) == ((0.9, 0.98), 1e-8)


def test_the_table_of_words_may_learn_faster(small):
    pieces, store = load_pieces(small.root / "pieces"), open_patches(small.root / "patches")
    for fields, factor in (({}, None), ({"words_rate": 4.0}, 4.0)):
        config = PretrainingConfig(**(TINY | fields))
        model = CclmPretraining(new_model(config, pieces, store)[0], config.losses)
        factors = training_plan(config, 2, model).factors
        assert factors.get("model.embeddings.words.weight") == factor
        assert factors.keys() <= dict(model.named_parameters()).keys()


def test_a_calm_model_begins_as_the_sum_of_its_words(small):
    pieces, store = load_pieces(small.root / "pieces"), open_patches(small.root / "patches")
    ids = torch.tensor([[0, 7, 9, 11, 13, 2]])
    moved = ids[:, [0, 3, 1, 4, 2, 5]]

    def apart(calm: float) -> float:
        model = new_model(PretrainingConfig(**(TINY | {"calm": calm})), pieces, store)[0].eval()
        with torch.no_grad():
            one, other, different = (model.text(each)[:, 0] for each in (ids, moved, ids + 1))
        return float((one - other).norm() / (one - different).norm())

    assert apart(1e-3) < 0.02
    assert apart(1.0) > 0.2


@pytest.mark.parametrize(("records", "updates"), [(2_838_361, 83_160), (5_004_332, 146_640)])
def test_the_papers_schedules_follow_from_their_records(small, records, updates):
    config = PretrainingConfig()
    pieces, store = load_pieces(small.root / "pieces"), open_patches(small.root / "patches")
    model = CclmPretraining(new_model(PretrainingConfig(**TINY), pieces, store)[0], config.losses)
    plan = training_plan(config, EpochSampler(records, config.batch).per_epoch, model)
    assert (plan.updates, plan.warmup, plan.lr, plan.clip) == (updates, 2500, 1e-4, 1.0)
    assert (plan.schedule, plan.optimiser, plan.weight_decay) == ("bert", "transformers_adamw", 0.01)
    assert learning_rate(0, plan.updates, plan.lr, plan.warmup, plan.schedule) == 0
