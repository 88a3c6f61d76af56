"""The stage `regions` without stages before it: published files, photographs of any shape, files of several names."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.measure import OwnMemory
from tests.regions import invented, region_store
from tests.small import run_stage
from vlpnb.data.images import open_rgb
from vlpnb.data.obj36 import read_obj36, write_obj36
from vlpnb.data.store import attributes
from vlpnb.errors import UserError
from vlpnb.foundations import regions as regions_module
from vlpnb.foundations.distinct_pictures import Picture, distinct
from vlpnb.foundations.region_export import export_regions
from vlpnb.foundations.regions import REGIONS, RegionsConfig, from_pictures, load_regions
from vlpnb.vision.backbones import load_backbone, save_backbone
from vlpnb.vision.small import SmallResNet
from vlpnb.vision.torchvision_detector import load_torchvision


def test_without_stages_everything_in_a_tsv_is_taken_and_classes_have_names(tmp_path):
    write_obj36(tmp_path / "a.tsv", [invented(name) for name in "cab"])
    (tmp_path / "objects.txt").write_text("sky\nman,person\ntree\ncar\ndog\nhat\n")
    (tmp_path / "attributes.txt").write_text("red\nblue\ngreen\n")
    lists = {"objects": str(tmp_path / "objects.txt"), "attributes": str(tmp_path / "attributes.txt")}
    config = RegionsConfig(of=(), files=str(tmp_path / "a.tsv"), **lists)
    run_stage(REGIONS, config, tmp_path / "s")
    store = load_regions(tmp_path / "s")
    assert store.ids == ["c", "a", "b"]
    assert store.objects == ("sky", "man", "tree", "car", "dog", "hat")
    (tmp_path / "objects.txt").write_text("sky\n")
    with pytest.raises(UserError, match=r"a\.tsv:1: region \d has the object class \d; expected −1 .* to 0"):
        run_stage(REGIONS, config, tmp_path / "t")


@pytest.mark.parametrize("shard", [1, 2])
def test_features_of_different_widths_are_refused_wherever_they_are(tmp_path, shard):
    write_obj36(tmp_path / "a.tsv", [invented("a", width=8), invented("b", width=5)])
    config = RegionsConfig(of=(), files=str(tmp_path / "a.tsv"), shard=shard)
    with pytest.raises(UserError, match=r"different widths: 8 \(a\) and 5 \(b\)"):
        run_stage(REGIONS, config, tmp_path / "s")


def test_a_picture_as_thin_as_a_line_is_named(tmp_path):
    Image.new("RGB", (2, 3000)).save(tmp_path / "thin.png")
    detector = load_torchvision("fasterrcnn_mobilenet_v3_large_320_fpn", None)
    make = from_pictures(detector, [Picture(["thin"], tmp_path / "thin.png")], 1)
    with pytest.raises(UserError, match=r"thin\.png: a picture of 2 × 3000 pixels cannot be scaled"):
        make([0])


def test_a_file_under_several_ids_and_links_is_worked_on_once(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    os.symlink(tmp_path / "a.png", tmp_path / "link.png")
    os.link(tmp_path / "b.png", tmp_path / "hard.png")
    entries = [
        ("only a name", None), ("a", tmp_path / "a.png"), ("other a", tmp_path / "link.png"), ("b", None),
        ("b", tmp_path / "hard.png"), ("a", tmp_path / "link.png"), ("c", tmp_path / "b.png"), ("c", None),
        ("gone", tmp_path / "gone.png"),
    ]  # fmt: skip
    found = distinct(entries)
    assert [picture.names for picture in found] == [["only a name"], ["a", "other a"], ["b", "c"], ["gone"]]
    late = distinct([("n", None), ("a", tmp_path / "a.png"), ("n", tmp_path / "link.png")])
    assert [sorted(picture.names) for picture in late] == [["a", "n"]]
    with pytest.raises(UserError, match=r"picture 'a' is .*a\.png and .*b\.png; expected one file for an id"):
        distinct([("a", tmp_path / "a.png"), ("a", tmp_path / "b.png")])


def test_published_rows_become_a_store(shared_data, tmp_path):
    """The ten COCO photographs with their 36 boxes: imported, and written back with half precision's error."""
    folder = shared_data / "butd"
    names = folder / "vocab_1600-400-20"
    config = RegionsConfig(
        of=(), files=str(folder / "train2014_obj36.tsv"), objects=str(names / "objects_vocab.txt"),
        attributes=str(names / "attributes_vocab.txt"), shard=3,
    )  # fmt: skip
    metrics = run_stage(REGIONS, config, tmp_path)
    assert metrics == {"pictures": 10.0, "regions": 360.0, "missing": 0.0, "broken": 0.0, "empty": 0.0}
    store = load_regions(tmp_path)
    assert (store.feature_width, len(store.objects), len(store.attributes)) == (2048, 1600, 400)
    for item in read_obj36(folder / "train2014_obj36.tsv"):
        (row,) = store.rows([item.image_id])
        image = open_rgb(folder / "images" / f"{item.image_id}.jpg")
        assert store.sizes(np.array([row])).tolist() == [[image.height, image.width]]
        found = store.picture(int(row))
        assert np.abs(found.features - item.features).max() <= 0.016
        np.testing.assert_allclose(found.boxes, item.boxes, atol=1e-3)
        np.testing.assert_array_equal(found.object_ids, item.object_ids)
        np.testing.assert_array_equal(found.attribute_ids, item.attribute_ids)
    assert attributes(tmp_path / "regions.hdf5")["producer"] == "regions"


def test_every_id_of_a_picture_has_a_line_of_its_own(tmp_path):
    region_store(tmp_path / "s", ["a", "b"])
    (tmp_path / "s" / "regions.ids").write_text("a\t0\nalso a\t0\nb\t1\n")
    (path, *_) = export_regions(tmp_path / "s", tmp_path / "out")
    found = {item.image_id: item for item in read_obj36(path)}
    assert list(found) == ["a", "also a", "b"]
    np.testing.assert_array_equal(found["a"].features, found["also a"].features)


def test_the_grid_reads_photographs_in_their_own_shapes(shared_data, tmp_path):
    """The ten COCO photographs, whose published boxes say how large they are; two of one size may go together."""
    folder = shared_data / "butd"
    entries = [(path.stem, path) for path in sorted((folder / "images").glob("*.jpg"))]
    torch.manual_seed(0)
    (tmp_path / "vision").mkdir()
    save_backbone(tmp_path / "vision", SmallResNet((4, 4, 8, 8), 3).eval(), (4, 4, 8, 8), 16, list("abc"))
    found = distinct(entries)
    grid = regions_module.GridWindows(load_backbone(tmp_path / "vision"), (1, 3), 96, 128)
    made, broken = regions_module.from_pictures(grid, found, 4)(range(10))
    assert broken == []
    by_name = {item.image_id: item for _, item in made}
    for published in read_obj36(folder / "train2014_obj36.tsv"):
        ours = by_name[published.image_id]
        assert (ours.height, ours.width) == (published.height, published.width)
        assert ours.boxes[0].tolist() == [0, 0, ours.width, ours.height]
        assert len(ours) == 10
    alone, _ = regions_module.from_pictures(grid, found, 1)(range(10))
    for (i, a), (k, b) in zip(made, alone, strict=True):
        assert i == k
        np.testing.assert_allclose(a.features, b.features, atol=1e-4)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    def own_memory(count: int) -> float:
        path = tmp_path / f"{count}.tsv"
        write_obj36(path, (invented(f"p{i}", count=36, width=1024) for i in range(count)))
        with OwnMemory() as own:
            run_stage(REGIONS, RegionsConfig(of=(), files=str(path), shard=16), tmp_path / str(count))
            store = load_regions(tmp_path / str(count))
            for rows in np.arange(count).reshape(-1, 16):
                store.batch(rows)
        return own.most

    own_memory(32)  # what is imported and cached once
    assert own_memory(640) < own_memory(64) + 15  # of 147 kB a picture
