"""Keys: unit rows in the universe's order, broken pictures skipped, id lists really compared."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from vlpnb.data.captions import original_image_path
from vlpnb.data.description import load_pictures
from vlpnb.data.images import open_rgb
from vlpnb.data.store import attributes
from vlpnb.errors import UserError
from vlpnb.foundations import picture_keys
from vlpnb.foundations.corpus import CORPUS, CorpusStageConfig
from vlpnb.foundations.features import read_backbones
from vlpnb.foundations.picture_keys import BackboneFeatures, extract_keys
from vlpnb.vision.backbones import Backbone
from vlpnb.vision.transforms import to_pixels
from vlpnb.vokenization import pretraining
from vlpnb.vokenization.keys import KEYS, KeysConfig, load_keys, voken_features
from vlpnb.vokenization.matcher import load_matcher
from vlpnb.vokenization.pretraining import PRETRAINING, PretrainingConfig
from vlpnb.vokenization.vokens import VOKENS, VokensConfig


def test_rows_are_the_pictures_in_order(small):
    keys = load_keys(small.keys)
    assert keys.ids == tuple(f"universe{i}" for i in range(10) if i != 3)
    assert keys.vectors.dtype == torch.float32
    torch.testing.assert_close(keys.vectors.norm(dim=1), torch.ones(9))
    matcher = load_matcher(small.matching)
    expected = matcher.keys([open_rgb(path) for path in keys.paths])
    torch.testing.assert_close(keys.vectors, expected, atol=1e-5, rtol=0)
    (broken,) = attributes(small.keys / "universe.hdf5")["broken"]
    assert broken[0].endswith("universe3.png")


def test_a_killed_extraction_continues(small, tmp_path, monkeypatch):
    inputs = {"matching": small.matching, **small.data}
    make, calls = picture_keys._keys_of, []

    def killed(maker, flat, first, *rest):
        calls.append(first)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return make(maker, flat, first, *rest)

    monkeypatch.setattr(picture_keys, "_keys_of", killed)
    with pytest.raises(KeyboardInterrupt):
        small.run(KEYS, KeysConfig(shard=4), tmp_path, **inputs)
    metrics = small.run(KEYS, KeysConfig(shard=4), tmp_path, **inputs)
    assert metrics == {"vokens": 9.0, "broken": 1.0}
    assert calls == [0, 4, 4, 8]
    for suffix in ("hdf5", "ids", "path"):
        again, once = (folder / f"universe.{suffix}" for folder in (tmp_path, small.keys))
        assert again.read_bytes() == once.read_bytes()


def test_the_first_pictures_only(small, tmp_path):
    inputs = {"matching": small.matching, **small.data}
    assert small.run(KEYS, KeysConfig(max_images=3), tmp_path, **inputs)["vokens"] == 3


def two_sets(small, folder, **changes):
    """The small dataset with its universe and its test pictures as image sets."""
    data = replace(load_pictures(small.dataset), entries=("images/universe", "Bs=images/test"), **changes)
    folder.mkdir()
    data.save(folder)
    return folder


def test_two_image_sets_in_alphabetical_order_up_to_a_number(small, tmp_path):
    dataset = two_sets(small, tmp_path / "dataset")
    assert list(load_pictures(dataset).sets()) == ["Bs", "universe"]
    inputs = {"matching": small.matching, "pictures": dataset}
    metrics = small.run(KEYS, KeysConfig(shard=4), tmp_path / "all", **inputs)
    assert metrics == {"vokens": 17.0, "broken": 1.0, "vokens_Bs": 8.0, "vokens_universe": 9.0}
    keys = load_keys(tmp_path / "all")
    assert keys.names[7:10] == ["Bs/test7", "universe/universe0", "universe/universe1"]
    torch.testing.assert_close(keys.vectors[8:], load_keys(small.keys).vectors, atol=1e-5, rtol=0)
    assert (tmp_path / "all" / "broken.txt").read_text().split("\t")[0].endswith("universe3.png")

    # Number 12 is a broken picture: eleven readable ones take twelve files.
    small.run(KEYS, KeysConfig(shard=3, max_images=12), tmp_path / "some", **inputs)
    some = load_keys(tmp_path / "some")
    assert some.names == keys.names[:12]
    assert some.names[-1] == "universe/universe4"
    assert load_keys(tmp_path / "all", limit=12).names == some.names
    assert load_keys(tmp_path / "all", ["universe"]).names == keys.names[8:]
    torch.testing.assert_close(some.vectors, keys.vectors[:12], atol=1e-5, rtol=0)

    lists = tmp_path / "lists"
    lists.mkdir()
    for name in ("Bs", "universe"):
        (lists / f"{name}.ids").write_text((tmp_path / "all" / f"{name}.ids").read_text())
    small.run(KEYS, KeysConfig(ids=str(lists)), tmp_path / "same", **inputs)
    (lists / "universe.ids").write_text("universe0\nuniverse7\n")
    with pytest.raises(UserError, match=r"universe\.ids:2: the list says 'universe7'"):
        small.run(KEYS, KeysConfig(ids=str(lists)), tmp_path / "other", **inputs)


def test_vokens_name_their_image_set(small, tmp_path):
    dataset = two_sets(small, tmp_path / "dataset")
    inputs = {"matching": small.matching, "pictures": dataset}
    small.run(KEYS, KeysConfig(), tmp_path / "keys", **inputs)
    small.run(CORPUS, CorpusStageConfig(), tmp_path / "corpus", features=small.features, text=small.dataset)
    inputs |= {"keys": tmp_path / "keys", "corpus": tmp_path / "corpus", "captions": small.dataset}
    assert small.run(VOKENS, VokensConfig(), tmp_path / "vokens", **inputs)["size"] == 17
    lines = (tmp_path / "vokens" / "train.ids").read_text().splitlines()
    assert lines[0] == "Bs/test0"
    assert lines[-1] == "universe/universe9"


def test_an_id_list_is_an_image_set_with_the_originals_paths(small, tmp_path):
    lists = tmp_path / "vokenization"
    lists.mkdir()
    (lists / "vg_nococo.ids").write_text("2\n1\n")
    (lists / "cc_valid.ids").write_text("validation_7\n")
    (lists / "vgnococo.json").write_text(
        json.dumps([{"img_id": "4", "sentf": {}}, {"img_id": "3", "sentf": {}}])
    )
    of_captions = replace(
        load_pictures(small.dataset), root=tmp_path, entries=("vg=vokenization/vgnococo.json",)
    )
    assert [image.path for image in of_captions.sets()["vg"]] == [
        tmp_path / f"vg/images/{i}.jpg" for i in (4, 3)
    ]
    entries = ("vokenization/vg_nococo.ids", "vokenization/cc_valid.ids")
    sets = replace(load_pictures(small.dataset), root=tmp_path, entries=entries).sets()
    assert {name: [i.image_id for i in images] for name, images in sets.items()} == {
        "cc_valid": ["validation_7"],
        "vg_nococo": ["2", "1"],
    }
    assert sets["vg_nococo"][0].path == tmp_path / "vg/images/2.jpg"
    assert sets["cc_valid"][0].path == tmp_path / "cc/images/validation/validation_7"
    coco = "COCO_val2014_000000000042"
    assert original_image_path(coco, tmp_path) == tmp_path / f"mscoco/images/val2014/{coco}.jpg"
    with pytest.raises(UserError, match="two image sets are called 'universe'"):
        replace(load_pictures(small.dataset), entries=("images/universe", "universe=images/test")).sets()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "universe.ids").write_text("a\n"), "9 keys, 1 ids and 9 paths"),
        (lambda f: (f / "universe.hdf5").write_bytes(b"GIF89a"), "universe.hdf5 .* is not a complete HDF5"),
        (lambda f: (f / "universe.path").unlink(), "universe.path does not exist"),
        (lambda f: [path.unlink() for path in f.glob("*.hdf5")], "holds no keys"),
        (lambda f: shorter_rows(f), r"zz.hdf5: keys are float64 \[2, 3\]; expected floats \[V, 8\]"),
    ],
)
def test_files_that_are_no_keys(small, tmp_path, damage, message):
    for path in small.keys.glob("universe.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        load_keys(tmp_path)


def shorter_rows(folder):
    with h5py.File(folder / "zz.hdf5", "w") as file:
        file["keys"] = np.zeros((2, 3))


@pytest.fixture(scope="module")
def bare(small, tmp_path_factory):
    """Keys of the bare vision backbone, in one go."""
    folder = tmp_path_factory.mktemp("bare") / "keys"
    inputs = {"features": small.features, **small.data}
    metrics = small.run(KEYS, KeysConfig(source="backbone"), folder, **inputs)
    assert metrics == {"vokens": 9.0, "broken": 1.0}
    return folder


def test_backbone_features_are_bare_whole_and_of_the_same_pictures(small, bare):
    """Before the classifier, not normalised, each picture in its own shape."""
    keys, others = load_keys(bare, source="backbone"), load_keys(small.keys)
    assert (keys.ids, keys.paths, keys.sets) == (others.ids, others.paths, others.sets)
    assert (bare / "broken.txt").read_text() == (small.keys / "broken.txt").read_text()
    assert attributes(bare / "universe.hdf5")["broken"] == attributes(small.keys / "universe.hdf5")["broken"]
    vision = read_backbones(small.features).open_vision()
    assert keys.vectors.dtype == torch.float32
    assert keys.vectors.shape == (9, vision.width)
    pixels = to_pixels(open_rgb(keys.paths[4]))[None]
    assert pixels.shape == (1, 3, 30, 24)  # neither cut nor squeezed to a square
    with torch.no_grad():
        torch.testing.assert_close(keys.vectors[4:5], vision(pixels), atol=1e-5, rtol=0)
    assert (keys.vectors.norm(dim=1) - 1).abs().min() > 0.01


def test_features_have_the_same_bits_in_other_shards_and_batches(small, bare, tmp_path):
    inputs = {"features": small.features, **small.data}
    small.run(KEYS, KeysConfig(source="backbone", shard=3, batch=2), tmp_path, **inputs)
    assert (tmp_path / "universe.hdf5").read_bytes() == (bare / "universe.hdf5").read_bytes()


def test_the_two_kinds_of_keys_are_not_taken_for_each_other(small, bare, tmp_path):
    with pytest.raises(
        UserError, match=r"universe\.hdf5: its rows come from the backbone, expected .*matcher"
    ):
        load_keys(bare)
    with pytest.raises(UserError, match="come from the matcher, expected from the backbone"):
        load_keys(small.keys, source="backbone")
    assert load_keys(bare, source=None).ids == load_keys(small.keys).ids
    with h5py.File(tmp_path / "universe.hdf5", "w") as file:  # the original's files do not say what they hold
        file["keys"] = np.ones((1, 3), np.float32)
    for suffix in ("ids", "path"):
        (tmp_path / f"universe.{suffix}").write_text("a\n")
    assert load_keys(tmp_path).ids == load_keys(tmp_path, source="backbone").ids == ("a",)


def test_what_keys_ask_for():
    assert set(KEYS.inputs(KeysConfig())) == {"matching", "pictures"}
    requests = KEYS.inputs(KeysConfig(source="backbone"))
    assert set(requests) == {"features", "pictures"}
    assert requests["features"].overrides == {"cache": False}  # nobody reads the cache
    for source in ("matcher", "backbone"):
        config = PretrainingConfig(objective="ctr", image_features=source)
        assert PRETRAINING.inputs(config)["keys"].overrides == {"source": source}


def test_a_backbone_of_one_size_is_an_error_that_names_it(small, tmp_path):
    class Square(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.out = torch.nn.Linear(3 * 16 * 16, 5)

        def forward(self, pixels):
            return self.out(pixels.flatten(1))

    sets = load_pictures(small.dataset).sets()
    encoder = BackboneFeatures(Backbone(Square(), 5, 16))
    with pytest.raises(UserError, match=r"universe0\.png: .* 24 × 30 pixels .*change features\.vision"):
        extract_keys(encoder, sets, tmp_path, batch=1, source="backbone")
    with pytest.raises(
        UserError, match=r"universe0\.png … .*universe1\.png: the vision backbone cannot read"
    ):
        extract_keys(encoder, sets, tmp_path, batch=2, source="backbone")


@pytest.mark.parametrize("objective", ["reg", "ctr"])
def test_vokens_are_learnt_from_backbone_features(small, bare, tmp_path, monkeypatch, objective):
    """The features are looked up by voken, so that both lists must name the same pictures."""
    small.run(CORPUS, CorpusStageConfig(), tmp_path / "corpus", features=small.features, **small.data)
    inputs = {"corpus": tmp_path / "corpus", **small.data}
    matched = {"matching": small.matching, "keys": small.keys}
    small.run(VOKENS, VokensConfig(), tmp_path / "vokens", **matched, **inputs)
    inputs = {"corpus": tmp_path / "corpus", "vokens": tmp_path / "vokens", "keys": bare}
    settings = {"size": "micro", "block": 14, "batch": 4, "micro_batch": 4, "updates": 1, "warmup": 1}
    config = PretrainingConfig(**settings, objective=objective, image_features="backbone")
    saved = []
    monkeypatch.setattr(pretraining, "save_snapshot", lambda folder, model, words: saved.append(model))
    assert small.run(PRETRAINING, config, tmp_path / "vlm", **inputs)["updates"] == 1
    assert torch.equal(saved[0].voken.features, load_keys(bare, source="backbone").vectors)
    with pytest.raises(UserError, match="come from the backbone, expected from the matcher"):
        small.run(
            PRETRAINING, config.model_copy(update={"image_features": "matcher"}), tmp_path / "other", **inputs
        )


def test_features_of_other_pictures_are_refused(bare, tmp_path):
    names = load_keys(bare, source="backbone").names
    path = tmp_path / "train.ids"
    path.write_text("".join(f"{name}\n" for name in names))
    assert len(voken_features(bare, path, "backbone")) == 9
    path.write_text("".join(f"{name}\n" for name in [*names[:3], names[4], names[3], *names[5:]]))
    message = r"train\.ids:4: the list says 'universe/universe5', the keys in .* give 'universe/universe4'"
    with pytest.raises(UserError, match=message):
        voken_features(bare, path, "backbone")
    path.write_text("".join(f"{name}\n" for name in names[:8]))
    with pytest.raises(UserError, match=r"the list has 8 ids, the keys in .* give 9"):
        voken_features(bare, path, "backbone")
