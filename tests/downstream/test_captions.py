"""Baselines of a split: pictures that look alike lend their captions."""

import numpy as np
import pytest
import torch

from tests.vlp import small_captions
from vlpnb.data.captions import CaptionedImage
from vlpnb.downstream.captions import caption_baselines, picture_vectors
from vlpnb.errors import UserError


def images(root, names):
    return [
        CaptionedImage(name, root / f"{name}.jpg", tuple(small_captions.sentences(name))) for name in names
    ]


def test_similar_pictures_lend_better_captions_than_one_for_all(tmp_path):
    training, asked = ([f"{split}{i}" for i in range(n)] for split, n in (("train", 60), ("test", 20)))
    store = small_captions.store(tmp_path, training + asked)
    found = caption_baselines(store, images(tmp_path, training), images(tmp_path, asked))
    assert found.keys() == {
        f"{who}_{metric}"
        for who in ("constant", "nearest", "consensus", "person")
        for metric in ("cider", "bleu_4")
    }
    assert found["constant_cider"] < found["nearest_cider"]
    assert found["constant_cider"] < found["consensus_cider"]
    few = caption_baselines(store, images(tmp_path, training[:3]), images(tmp_path, asked))
    assert few["consensus_cider"] < found["consensus_cider"]
    with pytest.raises(UserError, match="baselines"):
        caption_baselines(store, images(tmp_path, ["gone7"]), images(tmp_path, asked))


def test_a_picture_is_the_mean_of_its_own_regions(tmp_path):
    store = small_captions.store(tmp_path, ["train0", "train1", "train2"])
    found = picture_vectors(store, np.arange(3))
    for i in range(3):
        own = torch.from_numpy(small_captions.regions(f"train{i}").features).half().float().mean(0)
        torch.testing.assert_close(found[i], own, atol=1e-3, rtol=1e-3)


def test_people_are_left_out_where_a_picture_has_one_caption(tmp_path):
    names = [f"train{i}" for i in range(30)]
    store = small_captions.store(tmp_path, names)
    single = [CaptionedImage(i.image_id, i.path, i.sentences[:1]) for i in images(tmp_path, names)]
    found = caption_baselines(store, single[:20], single[20:])
    assert "person_cider" not in found
    assert found["nearest_cider"] > 0
