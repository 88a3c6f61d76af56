"""The patches of a tiny world: one store serves captions, regions, and every set of IGLUE."""

import numpy as np
import pytest
import torch

from tests.small import run_stage
from vlpnb.cclm.patches import PATCHES, PatchesConfig, open_patches
from vlpnb.cclm.regions import sample_regions
from vlpnb.foundations.iglue import IGLUE, IglueConfig, load_iglue
from vlpnb.foundations.multilingual import MULTILINGUAL, load_multilingual
from vlpnb.foundations.multilingual_sources import MultilingualConfig
from vlpnb.foundations.region_text import REGION_TEXT, RegionTextConfig, load_region_text
from vlpnb.vision.backbones import save_backbone
from vlpnb.vision.small import SmallResNet
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
