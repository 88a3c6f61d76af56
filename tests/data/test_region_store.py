"""The store of regions: what was put in comes out by id, in one gather, and damage is named."""

import json
import pickle
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from tests.regions import invented, region_store
from vlpnb.data.region_store import RegionBatch, RegionStore, write_store_of
from vlpnb.data.regions import checked
from vlpnb.errors import UserError

IDS = ["a", "b", "c"]


def test_a_batch_holds_each_pictures_regions_and_zeros_after_them(tmp_path):
    store = region_store(tmp_path, IDS, counts=[3, 1, 4])
    rows = store.rows(["c", "b"])
    batch = store.batch(rows)
    assert batch.features.shape == (2, 4, 8)
    assert batch.mask.tolist() == [[True] * 4, [True] + [False] * 3]
    for i, name in enumerate(("c", "b")):
        item = invented(name, {"c": 4, "b": 1}[name])
        n = len(item)
        torch.testing.assert_close(
            batch.features[i, :n], torch.from_numpy(item.features).half().float(), rtol=0, atol=0
        )
        np.testing.assert_array_equal(batch.boxes[i, :n], item.relative_boxes())
        assert batch.object_ids[i, :n].tolist() == item.object_ids.tolist()
        assert batch.attribute_ids[i, :n].tolist() == item.attribute_ids.tolist()
        np.testing.assert_allclose(batch.object_conf[i, :n], item.object_conf, atol=5e-4)
        np.testing.assert_allclose(batch.attribute_conf[i, :n], item.attribute_conf, atol=5e-4)
        assert not batch.features[i, n:].any()
        assert not batch.boxes[i, n:].any()
        assert (batch.object_ids[i, n:] == -1).all()
        assert not batch.object_conf[i, n:].any()
        assert store.sizes(rows)[i].tolist() == [item.height, item.width]
    assert store.counts(rows).tolist() == [4, 1]


def test_no_mask_where_all_pictures_have_as_many_regions(tmp_path):
    store = region_store(tmp_path, IDS)
    assert store.batch(np.arange(3)).mask is None
    assert store.objects[2] == "object2"
    assert store.attributes == ("attribute0", "attribute1", "attribute2")
    assert store.provenance == {"extractor": "invented"}


def test_single_features_in_one_gather(tmp_path):
    store = region_store(tmp_path, IDS, counts=[3, 1, 4])
    rows, boxes = np.array([2, 0, 1, 2]), np.array([3, 2, 0, 0])
    whole = store.batch(np.arange(3)).features
    torch.testing.assert_close(store.features_of(rows, boxes), whole[rows, boxes], rtol=0, atol=0)
    with pytest.raises(IndexError, match="picture 1 has no region 1"):
        store.features_of(np.array([1]), np.array([1]))


def test_unknown_pictures_are_counted_and_named(tmp_path):
    store = region_store(tmp_path, IDS)
    assert "b" in store
    assert "x" not in store
    with pytest.raises(UserError, match=r"no regions of 2 of 4 pictures: x, y"):
        store.rows(["x", "a", "x", "y"])


def test_several_ids_of_one_picture(tmp_path):
    region_store(tmp_path, IDS)
    (tmp_path / "regions.ids").write_text("a\t0\nalso a\t0\nb\t1\nc\t2\n")
    store = RegionStore(tmp_path)
    assert len(store) == 3
    assert store.ids == ["a", "also a", "b", "c"]
    assert store.rows(["also a", "c", "a"]).tolist() == [0, 2, 0]
    assert store.picture(2).image_id == "c"


def test_a_picture_comes_out_as_the_extractor_gave_it(tmp_path):
    store = region_store(tmp_path, IDS)
    found, expected = store.picture(1), invented("b")
    assert (found.image_id, found.height, found.width) == ("b", expected.height, expected.width)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-4)
    np.testing.assert_allclose(found.features, expected.features, atol=2e-3)
    np.testing.assert_array_equal(found.object_ids, expected.object_ids)


def test_another_process_maps_the_store_itself(tmp_path):
    store = region_store(tmp_path, IDS)
    expected = store.batch(np.arange(2)).features
    sent = pickle.dumps(store)
    assert len(sent) < 5000
    torch.testing.assert_close(pickle.loads(sent).batch(np.arange(2)).features, expected)


def test_features_that_are_not_finite_are_named(tmp_path):
    store = region_store(tmp_path, IDS, counts=[3, 1, 4])
    with h5py.File(store.path, "r+") as file:
        file["features"][3, 2] = np.nan
    store = RegionStore(tmp_path)
    store.batch(np.array([0, 2]))
    with pytest.raises(UserError, match="features of picture b are not finite"):
        store.batch(np.array([0, 1]))
    with pytest.raises(UserError, match="features of picture b are not finite"):
        store.features_of(np.array([0, 1]), np.array([0, 0]))
    with pytest.raises(UserError, match="picture b"):
        store.picture(1)


def test_a_store_without_its_lists_or_with_wrong_ones_is_refused(tmp_path):
    region_store(tmp_path, IDS)
    (tmp_path / "regions.ids").write_text("a\t0\nb\t7\n")
    with pytest.raises(UserError, match=r"regions\.ids:2: .*a row below 3"):
        RegionStore(tmp_path)
    (tmp_path / "regions.ids").unlink()
    with pytest.raises(UserError, match=r"regions\.ids does not exist"):
        RegionStore(tmp_path)
    (tmp_path / "regions.json").write_text(json.dumps({"objects": []}))
    with pytest.raises(UserError, match="attributes"):
        RegionStore(tmp_path)


def test_features_of_different_widths_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"different widths: 8 \(a\) and 9 \(b\)"):
        write_store_of(tmp_path, [invented("a"), invented("b", width=9)])


def test_probabilities_of_all_classes_come_with_a_batch_that_asks_for_them(tmp_path):
    store = region_store(tmp_path, IDS, counts=[3, 1, 4], probabilities=True)
    assert store.classes == 7
    rows = store.rows(["c", "b"])
    assert store.batch(rows).probabilities is None
    found = store.batch(rows, probabilities=True).probabilities
    assert (found.shape, found.dtype) == ((2, 4, 7), torch.float32)
    for i, (name, n) in enumerate((("c", 4), ("b", 1))):
        expected = invented(name, n, probabilities=True).probabilities
        np.testing.assert_array_equal(found[i, :n], expected.astype(np.float16).astype(np.float32))
        np.testing.assert_allclose(store.picture(rows[i]).probabilities, expected, atol=5e-4)
        assert not found[i, n:].any()


def test_a_store_without_probabilities_says_so(tmp_path):
    store = region_store(tmp_path, IDS)
    assert store.classes == 0
    assert store.batch(np.arange(3), probabilities=True).probabilities is None
    assert store.picture(0).probabilities is None


def test_pictures_with_and_without_probabilities_do_not_share_a_store(tmp_path):
    told = invented("a", probabilities=True)
    with pytest.raises(UserError, match=r"classes with probabilities differ: 7 \(a\) and 0 \(b\)"):
        write_store_of(tmp_path, [told, invented("b")])
    with pytest.raises(UserError, match=r"classes with probabilities differ: 7 \(a\) and 5 \(b\)"):
        write_store_of(tmp_path, [told, invented("b", objects=4, probabilities=True)])


def test_damaged_probabilities_are_named(tmp_path):
    store = region_store(tmp_path, IDS, probabilities=True)
    with h5py.File(store.path, "r+") as file:
        file["probabilities"][5, 2] = np.nan
    RegionStore(tmp_path).batch(np.arange(3))
    with pytest.raises(UserError, match="the probabilities of picture b are not finite"):
        RegionStore(tmp_path).batch(np.arange(3), probabilities=True)
    with h5py.File(store.path, "r+") as file:
        del file["probabilities"]
        file["probabilities"] = np.zeros((5, 7), np.float16)
    with pytest.raises(UserError, match=r"probabilities have the shape \[5, 7\]; expected \[12, classes\]"):
        RegionStore(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (np.nan, "the probabilities of region 1 go from nan to nan"),
        (-0.5, "the probabilities of region 1 go from -0.5 to"),
        (0.9, "sum to .*; expected numbers of 0 or more that sum to 1"),
    ],
)
def test_probabilities_that_are_none_are_refused(change, message):
    item = invented("a", probabilities=True)
    item.probabilities[1, 3] = change
    with pytest.raises(UserError, match=f"here: .*{message}"):
        checked(item, "here")


def test_probabilities_of_another_number_of_classes_are_refused():
    item = replace(invented("a", objects=5), probabilities=invented("a", probabilities=True).probabilities)
    with pytest.raises(
        UserError, match="here: probabilities of 7 classes; expected 6: the background and 5 kinds"
    ):
        checked(item, "here", 5)


def test_the_best_class_alone_leaves_the_rest_to_the_others():
    ids, sure, none = torch.tensor([[1, -1, 0]]), torch.tensor([[0.7, 0.0, 1.0]]), torch.zeros(1, 3, 0)
    batch = RegionBatch(none, torch.zeros(1, 3, 4), None, ids, sure, ids, sure)
    found = batch.best_class_alone(4)
    assert found.sum(-1) == pytest.approx(1)
    assert found[0, 0].tolist() == pytest.approx([0.1, 0.1, 0.7, 0.1])
    assert found[0, 1].tolist() == pytest.approx([0.25] * 4)
    assert found[0, 2].tolist() == pytest.approx([0, 1, 0, 0])
