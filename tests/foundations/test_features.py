"""The cache of features: equal to the backbones' own output, complete after a kill, honest about broken pictures."""

import numpy as np
import pytest
import torch

from vlpnb.data.description import load_captions
from vlpnb.data.images import open_rgb
from vlpnb.errors import UserError
from vlpnb.foundations import features
from vlpnb.foundations.feature_store import FeatureStore
from vlpnb.foundations.features import FEATURES, FeaturesConfig, open_language, open_vision
from vlpnb.text.backbones import load_language
from vlpnb.text.splicing import splice


def test_cached_states_are_the_backbones_own(small):
    store = FeatureStore(small.features, "test")
    language = open_language(small.features_config, {})
    sentences = [s for image in load_captions(small.dataset).captioned("test") for s in image.sentences]
    states, mask, content = store.captions(np.array([0, 3, 5]))
    ids, expected_mask = language.pad(language.encode([sentences[i] for i in (0, 3, 5)], 8))
    with torch.no_grad():
        expected = language(ids, expected_mask)
    assert (mask == expected_mask).all()
    torch.testing.assert_close(states[mask], expected[mask], atol=2e-3, rtol=1e-3)  # stored in half precision
    assert (content.sum(1) == mask.sum(1) - 2).all()
    assert not content[:, 0].any()
    assert states.shape[2] == 2 * 16


def test_spliced_captions_hold_the_states_of_their_rows(small, tmp_path):
    config = small.features_config.model_copy(update={"splice": 2})
    small.run(FEATURES, config, tmp_path, **small.data)
    language = open_language(config, {})
    images = [i for i in load_captions(small.dataset).captioned("train") if i.path.stem != "train5"]  # broken
    bodies = [ids[1:-1] for image in images for ids in language.encode(image.sentences, 8)]
    rows, spans = splice(bodies, 2, np.random.default_rng([config.seed, 0, 0]))
    store = FeatureStore(tmp_path, "train")
    for number, span in enumerate(spans):
        ids, mask = language.pad([language.wrap(rows[span.row])])
        expected = language(ids, mask)[0, span.start + 1 : span.end + 1]
        states, mask, content = store.captions(np.array([number]))
        torch.testing.assert_close(states[0], expected, atol=2e-3, rtol=1e-3)
        assert mask.all()
        assert content.all()  # a span has no special tokens
        assert store.ids(np.array([number]), 0)[0][0].tolist() == rows[span.row][span.start : span.end]
        assert store.owner[number] == span.sentence // 2  # two captions a picture
    assert len(store) == 2 * len(FeatureStore(small.features, "train"))


def test_only_training_captions_are_spliced_whatever_the_shards_size(small, tmp_path):
    config = small.features_config.model_copy(update={"splice": 1})
    small.run(FEATURES, config, tmp_path / "a", **small.data)
    for split in ("valid", "test"):
        whole, again = FeatureStore(small.features, split), FeatureStore(tmp_path / "a", split)
        assert (np.asarray(whole.states) == np.asarray(again.states)).all()
        assert (whole.attributes["prefix"], again.attributes["prefix"]) == (1, 1)
    small.run(FEATURES, config.model_copy(update={"shard": 4}), tmp_path / "b", **small.data)
    one, other = (FeatureStore(tmp_path / name, "train") for name in "ab")
    assert (np.asarray(one.tokens) == np.asarray(other.tokens)).all()
    assert (np.asarray(one.states) == np.asarray(other.states)).all()


def test_cached_views_are_the_backbones_own(small):
    store = FeatureStore(small.features, "test")
    vision = open_vision(small.features_config, {})
    image = load_captions(small.dataset).captioned("test")[2]
    with torch.no_grad():
        expected = vision(vision.eval_pixels(open_rgb(image.path))[None])
    torch.testing.assert_close(store.pictures(np.array([2]))[0], expected, atol=2e-3, rtol=1e-3)
    assert FeatureStore(small.features, "train").views.shape[1] == 3  # two random views and the centre


def test_broken_pictures_are_left_out_and_listed(small):
    store = FeatureStore(small.features, "train")
    assert "train5" not in store.image_ids
    assert len(store.image_ids) == 15
    assert len(store) == 30
    assert store.owner.max() == 14
    (listed,) = store.attributes["broken"]
    assert listed[0].endswith("train5.png")
    assert (small.features / "train.broken.txt").read_text() == "\t".join(listed) + "\n"


def test_a_killed_run_continues_and_gives_the_same_cache(small, tmp_path, monkeypatch):
    part, calls = features._Part.__call__, []

    def killed(self, images):
        calls.append(images[0].image_id)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return part(self, images)

    monkeypatch.setattr(features._Part, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        small.run(FEATURES, small.features_config, tmp_path, **small.data)
    before = list(calls)
    small.run(FEATURES, small.features_config, tmp_path, **small.data)
    assert before[2] == calls[3]  # the third shard was begun again, the first two were not
    for split in ("train", "valid", "test"):
        assert (tmp_path / f"{split}.ids").read_text() == (small.features / f"{split}.ids").read_text()
        again, once = (folder / f"{split}.hdf5" for folder in (tmp_path, small.features))
        assert again.read_bytes() == once.read_bytes()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_layers_must_exist(small):
    with pytest.raises(UserError, match=r"features\.layers.*−3 \(the embeddings\)"):
        load_language(small.language, (-4,))
    with pytest.raises(UserError, match=r"features\.layers"):
        load_language(small.language, (1,))  # VOK-01: a positive index is never meant


def test_other_model_types_run_through_transformers(tmp_path):
    from transformers import DistilBertConfig, DistilBertModel

    from vlpnb.text.tokenizers import train_wordpiece

    tokenizer = train_wordpiece(["a red picture ."] * 3, 60, tmp_path)
    DistilBertModel(
        DistilBertConfig(vocab_size=len(tokenizer), dim=8, n_layers=2, n_heads=2, hidden_dim=16)
    ).save_pretrained(tmp_path)
    language = load_language(tmp_path, (-2, -1))
    ids, mask = language.pad(language.encode(["a red picture .", "red"]))
    assert language(ids, mask).shape == (2, 6, 16)
    assert not language.train().net.training


def test_the_paper_is_the_default():
    config = FeaturesConfig()
    assert (config.language, config.vision) == ("bert-base-uncased", "resnext101_32x8d")
    assert (config.layers, config.max_length, config.eval_views) == ((-4, -3, -2, -1), 20, ("centre",))


def test_random_backbones_are_a_function_of_the_seed(small):
    """Either backbone may start from random weights, which every stage must draw alike."""
    config = small.features_config.model_copy(update={"language_weights": False})
    own = open_language(small.features_config, {}).net.state_dict()
    one, two = (open_language(config, {}) for _ in range(2))
    other = open_language(config.model_copy(update={"seed": 1}), {})
    name = next(name for name, value in own.items() if value.ndim == 2)
    assert torch.equal(one.net.state_dict()[name], two.net.state_dict()[name])
    assert not torch.equal(one.net.state_dict()[name], own[name])
    assert not torch.equal(one.net.state_dict()[name], other.net.state_dict()[name])
    assert one.frozen
    assert not one.net.training
    assert not any(p.requires_grad for p in one.parameters())


def test_random_vision_weights_are_a_function_of_the_seed():
    config = FeaturesConfig(vision="resnet18", vision_weights=None)
    one, two = (open_vision(config, {}).net.conv1.weight for _ in range(2))
    assert torch.equal(one, two)
