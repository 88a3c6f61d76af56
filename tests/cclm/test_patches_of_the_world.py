"""The patches of a tiny world: one store serves captions, regions, and every set of IGLUE."""

import numpy as np
import pytest
import torch

from tests.small import run_stage
from vlpnb.cclm.original.weights import load_model
from vlpnb.cclm.pretraining import PRETRAINING, PretrainingConfig
from vlpnb.foundations.iglue import IGLUE, IglueConfig, load_iglue
from vlpnb.foundations.multilingual import MULTILINGUAL, load_multilingual
from vlpnb.foundations.multilingual_sources import MultilingualConfig
from vlpnb.foundations.patches import PATCHES, PatchesConfig, open_patches
from vlpnb.foundations.pieces import PIECES, PiecesConfig
from vlpnb.foundations.region_text import REGION_TEXT, RegionTextConfig, load_region_text
from vlpnb.vision.backbones import save_backbone
from vlpnb.vision.patch_regions import sample_regions
from vlpnb.vision.small import SmallResNet
from vlpnb.vision.swin import Swin, SwinConfig, original_name
from vlpnb.world.writers import WorldConfig, write_world
from vlpnb.world.writers.iglue import IglueSizes

SIZES = {
    "train": 60, "valid": 24, "test": 24, "universe": 24, "image_size": 48, "languages": ("en", "de"), "captions": 1,
    "corpus_train": 200, "corpus_valid": 100, "corpus_test": 100, "glue_train": 8, "glue_dev": 8, "squad_train": 1,
    "squad_dev": 1, "swag_train": 4, "swag_dev": 4, "questions": 0.1, "statements": 0.1,
}  # fmt: skip
SOURCES = ("multilingual", "iglue", "region_text")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("world-patches")
    write_world(WorldConfig(**SIZES), root / "world")
    few = IglueSizes(xvnli=60, curtains=12, xgqa=40, marvl=40, tested=24, wit=8)
    run_stage(IGLUE, IglueConfig(sizes=few), root / "iglue", world=root / "world")
    languages = MultilingualConfig(languages=SIZES["languages"])
    run_stage(MULTILINGUAL, languages, root / "multilingual", world=root / "world")
    run_stage(REGION_TEXT, RegionTextConfig(), root / "region_text", world=root / "world")
    (root / "vision").mkdir()
    torch.manual_seed(0)
    save_backbone(root / "vision", SmallResNet((4, 8, 12), 2).eval(), (4, 8, 12), 32, ["a", "b"])
    found = {name: root / name for name in (*SOURCES, "vision")}
    config = PatchesConfig(sources=SOURCES, vision="stage", train_views=1)
    run_stage(PATCHES, config, root / "patches", **found)
    return found | {"patches": root / "patches"}


def test_every_picture_that_anybody_names_is_there_once(folders):
    store = open_patches(folders["patches"])
    assert not store.broken
    assert len(set(store.ids)) == len(store)
    multilingual, regions = (
        load_multilingual(folders["multilingual"]),
        load_region_text(folders["region_text"]),
    )
    named = [picture.id for split in multilingual.splits for picture in multilingual.pictures(split)]
    named += [picture.id for split in regions.splits for picture in regions.pictures(split)]
    named += load_iglue(folders["iglue"]).pictures()
    assert set(named) == set(store.ids)
    assert any(name.endswith("_curtain") for name in store.ids)


def test_training_pictures_alone_have_random_views(folders):
    store = open_patches(folders["patches"])
    multilingual = load_multilingual(folders["multilingual"])
    training = {picture.id for picture in multilingual.pictures("train")}
    counts = store.views(store.rows(store.ids))
    assert {name for name, count in zip(store.ids, counts, strict=True) if count == 2} == training


def test_regions_meet_the_patches_of_their_picture(folders):
    store, regions = open_patches(folders["patches"]), load_region_text(folders["region_text"])
    rng = np.random.default_rng(0)
    for picture in regions.pictures("train")[:10]:
        _, _, entries = sample_regions(picture, rng, ["de"], 32, store.grid, crop=False)
        (view,) = store.gather(store.rows([picture.id]))
        assert all(len(entry.patch_mask) == len(view) for entry in entries)
        assert sum(not entry.whole for entry in entries) == len(picture.regions)


def test_a_swin_trains_with_the_rest_on_pixels_that_its_store_decodes(folders, tmp_path):
    """The paper's way: captions and cut regions in, and the tower is another one afterwards."""
    torch.manual_seed(0)
    config = SwinConfig(image_size=32, window=2, embed=24, depths=(1, 1, 1), heads=(1, 2, 4))
    before = {original_name(name): value.clone() for name, value in Swin(config).state_dict().items()}
    torch.save({"model": before}, tmp_path / "swin.pth")
    pixels = PatchesConfig(
        sources=("multilingual", "region_text"), keep="pixels", vision=str(tmp_path / "swin.pth")
    )
    run_stage(PATCHES, pixels, tmp_path / "pixels", **{name: folders[name] for name in SOURCES})
    run_stage(
        PIECES,
        PiecesConfig(tokenizer="sentences", vocab_size=160),
        tmp_path / "pieces",
        multilingual=folders["multilingual"],
    )
    plan = PretrainingConfig(
        size="tiny", batch=8, fused=4, region_pictures=4, updates=3, region_rate=0.5, warmup=0, lr=1e-3,
        eval_pictures=6, log_every=1, optimiser="adamw", schedule="constant",
    )  # fmt: skip
    metrics = run_stage(
        PRETRAINING, plan, tmp_path / "trained", patches=tmp_path / "pixels", pieces=tmp_path / "pieces",
        multilingual=folders["multilingual"], regions=folders["region_text"],
    )  # fmt: skip
    assert np.isfinite([value for name, value in metrics.items() if name.startswith("loss")]).all()
    model = load_model(tmp_path / "trained" / "model")
    assert model.config.swin.width == model.config.hidden == 96
    after = {original_name(name): value for name, value in model.vision.state_dict().items()}
    moved = [
        (after[name] - before[name]).abs().max().item() for name in before if name.endswith("qkv.weight")
    ]
    assert all(0 < change < 0.1 for change in moved)  # it began with the weights of the file, and went on
