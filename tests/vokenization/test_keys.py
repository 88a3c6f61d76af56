"""Keys: unit rows in the universe's order, broken pictures skipped, id lists really compared."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from vlpnb.data.captions import original_image_path
from vlpnb.data.description import load_dataset
from vlpnb.data.images import open_rgb
from vlpnb.data.store import attributes
from vlpnb.errors import UserError
from vlpnb.vokenization import keys as keys_module
from vlpnb.vokenization.corpus import CORPUS, CorpusStageConfig
from vlpnb.vokenization.keys import KEYS, KeysConfig, compare_ids, load_keys
from vlpnb.vokenization.matching import load_matcher
from vlpnb.vokenization.vokenize import VOKENS, VokensConfig


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
    inputs = {"matching": small.matching, "dataset": small.dataset}
    write, calls = keys_module.write_store, []

    def killed(path, *arguments):
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(path, *arguments)

    monkeypatch.setattr(keys_module, "write_store", killed)
    with pytest.raises(KeyboardInterrupt):
        small.run(KEYS, KeysConfig(shard=4), tmp_path, **inputs)
    metrics = small.run(KEYS, KeysConfig(shard=4), tmp_path, **inputs)
    assert metrics == {"vokens": 9.0, "broken": 1.0}
    assert calls.count(calls[0]) == 1
    assert np.array_equal(load_keys(tmp_path).vectors, load_keys(small.keys).vectors)


def test_id_lists_are_compared(tmp_path):
    """Spec Q-08: the original raised whatever the lists said."""
    path = tmp_path / "a.ids"
    path.write_text("x\ny\n")
    compare_ids(["x", "y"], path)
    with pytest.raises(UserError, match=r"a\.ids:2: the list says 'y', the pictures give 'z'"):
        compare_ids(["x", "z"], path)
    with pytest.raises(UserError, match="2 ids, the pictures give 3"):
        compare_ids(["x", "y", "z"], path)


def test_the_first_pictures_only(small, tmp_path):
    inputs = {"matching": small.matching, "dataset": small.dataset}
    assert small.run(KEYS, KeysConfig(max_images=3), tmp_path, **inputs)["vokens"] == 3
    assert json.loads((small.matching / "matcher.json").read_text())["features"] == "../features"


def two_sets(small, folder, **changes):
    """The small dataset with its universe and its test pictures as image sets."""
    data = replace(load_dataset(small.dataset), universe=("images/universe", "Bs=images/test"), **changes)
    folder.mkdir()
    data.save(folder)
    return folder


def test_two_image_sets_in_alphabetical_order_up_to_a_number(small, tmp_path):
    dataset = two_sets(small, tmp_path / "dataset")
    assert list(load_dataset(dataset).universe_sets()) == ["Bs", "universe"]
    inputs = {"matching": small.matching, "dataset": dataset}
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
    inputs = {"matching": small.matching, "dataset": dataset}
    small.run(KEYS, KeysConfig(), tmp_path / "keys", **inputs)
    small.run(CORPUS, CorpusStageConfig(), tmp_path / "corpus", features=small.features, dataset=dataset)
    inputs |= {"keys": tmp_path / "keys", "corpus": tmp_path / "corpus"}
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
        load_dataset(small.dataset), root=tmp_path, universe=("vg=vokenization/vgnococo.json",)
    )
    assert [image.path for image in of_captions.universe_sets()["vg"]] == [
        tmp_path / f"vg/images/{i}.jpg" for i in (4, 3)
    ]
    entries = ("vokenization/vg_nococo.ids", "vokenization/cc_valid.ids")
    sets = replace(load_dataset(small.dataset), root=tmp_path, universe=entries).universe_sets()
    assert {name: [i.image_id for i in images] for name, images in sets.items()} == {
        "cc_valid": ["validation_7"],
        "vg_nococo": ["2", "1"],
    }
    assert sets["vg_nococo"][0].path == tmp_path / "vg/images/2.jpg"
    assert sets["cc_valid"][0].path == tmp_path / "cc/images/validation/validation_7"
    coco = "COCO_val2014_000000000042"
    assert original_image_path(coco, tmp_path) == tmp_path / f"mscoco/images/val2014/{coco}.jpg"
    with pytest.raises(UserError, match="two image sets are called 'universe'"):
        replace(load_dataset(small.dataset), universe=("images/universe", "universe=test")).universe_sets()


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
