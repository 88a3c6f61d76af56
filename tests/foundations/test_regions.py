"""The stage `regions`: every source fills the store, each picture once; what cannot be used is counted and listed."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torchvision.models import resnet18
from torchvision.ops import box_iou

from tests.regions import invented
from tests.small import data_in, run_stage, write_pictures
from vlpnb.data.asked_data import SentenceData
from vlpnb.data.images import open_rgb
from vlpnb.data.obj36 import encode_line, write_obj36
from vlpnb.data.region_store import RegionStore
from vlpnb.errors import UserError
from vlpnb.foundations import regions as regions_module
from vlpnb.foundations.detector import DETECTOR, DetectorStageConfig, choose
from vlpnb.foundations.distinct_pictures import distinct
from vlpnb.foundations.region_export import export_regions
from vlpnb.foundations.regions import REGIONS, RegionsConfig, load_regions
from vlpnb.vision.backbones import load_backbone, save_backbone
from vlpnb.vision.detector import load_detector
from vlpnb.vision.proposals import windows
from vlpnb.vision.regions import region_features
from vlpnb.vision.small import SmallResNet

LEARNED = DetectorStageConfig(
    vision="given", image_size=32, width=8, windows=8, epochs=1, batch=8, checkpoint_seconds=0
)


def write_instances(root: Path) -> None:
    """Boxes in the one-coloured pictures of `write_pictures`: one or two a picture, with a kind and a colour."""
    (root / "annotations").mkdir()
    for split in ("train", "valid"):
        images = json.loads((root / f"{split}.json").read_text())["images"]
        rows = [{**image, "width": 24, "height": 30} for image in images]
        boxes = [
            {"id": 2 * i + k, "image_id": image["id"], "category_id": 7 + k, "bbox": [2 + k, 3, 12, 14 + k],
             "attributes": [("red", "blue")[i % 2], "plain"]}
            for i, image in enumerate(images) for k in range(1 + i % 2)
        ]  # fmt: skip
        kinds = [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}]
        path = root / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps({"images": rows, "annotations": boxes, "categories": kinds}))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """The folder of a small dataset with a backbone, and a detector trained on it."""
    root = tmp_path_factory.mktemp("regions")
    write_pictures(root)
    write_instances(root)
    torch.manual_seed(0)
    (root / "vision").mkdir()
    save_backbone(root / "vision", SmallResNet((4, 4, 8, 8), 3).eval(), (4, 4, 8, 8), 16, list("abc"))
    config = LEARNED.model_copy(update={"vision": "stage"})
    metrics = run_stage(
        DETECTOR, config, root / "detector", vision=root / "vision", **data_in(root / "dataset")
    )
    assert set(metrics) == {"recall", "object_accuracy", "attribute_accuracy"}
    assert all(0 <= value <= 1 or np.isnan(value) for value in metrics.values())
    return root


def run(root: Path, folder: Path, **fields) -> dict[str, float]:
    config = RegionsConfig(**{"of": ["captions"], "least": 3, "most": 3, "shard": 5, **fields})
    inputs = {"detector": root / "detector", **data_in(root / "dataset")}
    if config.vision == "stage":
        inputs["vision"] = root / "vision"
    return run_stage(REGIONS, config, folder, **inputs)


@pytest.fixture(scope="module")
def detected(pictures, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    metrics = run(pictures, folder, source="detector")
    assert metrics == {"pictures": 31.0, "regions": 93.0, "missing": 0.0, "broken": 1.0, "empty": 0.0}
    return folder


def test_a_detector_fills_the_store_one_picture_at_a_time(pictures, detected):
    store = load_regions(detected)
    assert store.ids[:6] == [f"train{i}" for i in (0, 1, 2, 3, 4, 6)]  # the fifth is broken
    assert (store.objects, store.attributes) == (("cat", "dog"), ("blue", "red"))
    assert (detected / "broken.txt").read_text().startswith(str(pictures / "images/train/train5.png") + "\t")
    detector = load_detector(pictures / "detector", 3, 3)
    rows = store.rows(["valid3", "train6"])
    batch = store.batch(rows)
    assert batch.mask is None
    assert store.sizes(rows).tolist() == [[30, 24]] * 2
    for i, name in enumerate(("valid/valid3", "train/train6")):
        image = open_rgb(pictures / "images" / f"{name}.png")
        (alone,) = detector.extract(detector.pixels(image)[None])
        torch.testing.assert_close(batch.features[i], alone.features.half().float(), rtol=0, atol=0)
        torch.testing.assert_close(batch.boxes[i], alone.boxes, rtol=0, atol=1e-6)
        assert batch.object_ids[i].tolist() == alone.object_ids.tolist()
        assert batch.attribute_ids[i].tolist() == alone.attribute_ids.tolist()
    about = store.provenance
    assert about["extractor"] == "detector"
    assert about["colours"] == "RGB"
    assert len(about["weights"]) == 64
    assert about["most"] == 3


def test_a_killed_extraction_continues_with_the_same_bytes(pictures, detected, tmp_path, monkeypatch):
    make, calls = regions_module.unit_arrays, []

    def killed(found):
        calls.append(len(found))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return make(found)

    monkeypatch.setattr(regions_module, "unit_arrays", killed)
    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path, source="detector")
    run(pictures, tmp_path, source="detector")
    assert len(calls) == 3 + 5  # two of seven were there
    for name in ("regions.hdf5", "regions.ids", "regions.json", "broken.txt"):
        assert (tmp_path / name).read_bytes() == (detected / name).read_bytes()


def test_the_result_does_not_depend_on_how_the_work_is_cut(pictures, detected, tmp_path):
    run(pictures, tmp_path, source="detector", shard=128)
    first, second = (RegionStore(folder) for folder in (detected, tmp_path))
    assert first.ids == second.ids
    for name in ("features", "boxes"):
        with h5py.File(first.path) as a, h5py.File(second.path) as b:
            assert (a[name][()] == b[name][()]).all()


def test_pictures_of_one_size_may_go_together(pictures, detected, tmp_path):
    run(pictures, tmp_path, source="detector", batch=4)
    first, second = (RegionStore(folder) for folder in (detected, tmp_path))
    rows = np.arange(len(first))
    torch.testing.assert_close(first.batch(rows).features, second.batch(rows).features, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(first.batch(rows).boxes, second.batch(rows).boxes, atol=1e-5, rtol=0)


def test_a_grid_needs_no_detector_and_names_nothing(pictures, tmp_path):
    metrics = run(pictures, tmp_path, source="grid", grid=[1, 2])
    assert metrics["regions"] == 31 * 5
    store = load_regions(tmp_path)
    assert (store.objects, store.attributes) == ((), ())
    batch = store.batch(store.rows(["test2"]))
    assert batch.boxes[0, 0].tolist() == [0, 0, 1, 1]
    assert (batch.object_ids == -1).all()
    backbone = load_backbone(pictures / "vision").fuse()
    grid = regions_module.GridWindows(backbone, (1, 2))
    pixels = grid.pixels(open_rgb(pictures / "images/test/test2.png"))
    (expected,) = region_features(backbone, pixels[None], [grid.boxes])
    torch.testing.assert_close(batch.features[0], expected.half().float(), rtol=0, atol=0)
    assert len(store.provenance["weights"]) == 64


@pytest.mark.slow
def test_torchvisions_detector_by_name(pictures, tmp_path):
    metrics = run(
        pictures, tmp_path, source="torchvision", torchvision="fasterrcnn_mobilenet_v3_large_320_fpn",
        torchvision_weights=None, least=2, most=2, probabilities=True,
    )  # fmt: skip
    assert metrics["regions"] == 62
    store = load_regions(tmp_path)
    assert (store.feature_width, store.classes) == (1024, 91)
    batch = store.batch(np.arange(31), probabilities=True)
    torch.testing.assert_close(batch.probabilities[..., 1:].max(2).values, batch.object_conf, rtol=0, atol=0)


def test_probabilities_are_kept_where_they_are_asked_for(pictures, detected, tmp_path):
    run(pictures, tmp_path, source="detector", probabilities=True)
    first, second = load_regions(detected), load_regions(tmp_path)
    rows = np.arange(len(second))
    a, b = first.batch(rows), second.batch(rows, probabilities=True)
    assert (first.classes, second.classes) == (0, 3)
    torch.testing.assert_close(a.features, b.features, rtol=0, atol=0)
    torch.testing.assert_close(b.probabilities.sum(2), torch.ones(31, 3), atol=2e-3, rtol=0)
    conf, ids = b.probabilities[:, :, 1:].max(2)
    assert torch.equal(ids, b.object_ids)
    torch.testing.assert_close(conf, b.object_conf, rtol=0, atol=0)


@pytest.mark.slow
def test_a_grids_probabilities_are_those_of_the_backbones_own_classifier(pictures, tmp_path):
    torch.manual_seed(0)
    net = resnet18(num_classes=1000)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    own = {
        "vision": "resnet18",
        "vision_weights": str(tmp_path / "w.pth"),
        "grid": [1, 2],
        "probabilities": True,
    }
    with pytest.raises(UserError, match=r"train0\.png: the last map of 24 × 30 pixels is too small"):
        run(pictures, tmp_path / "small", source="grid", **own)
    run(pictures, tmp_path / "s", source="grid", enlarge=True, short=64, long=80, **own)
    store = load_regions(tmp_path / "s")
    assert store.classes == 1001
    batch = store.batch(store.rows(["test2"]), probabilities=True)
    expected = net.eval().fc(batch.features).softmax(2)
    torch.testing.assert_close(batch.probabilities[..., 1:], expected, atol=1e-4, rtol=0)
    assert not batch.probabilities[..., 0].any()
    assert (batch.object_ids == -1).all()
    assert store.provenance["probabilities"] is True


def test_a_classifier_that_reads_more_than_means_is_refused(pictures, tmp_path):
    with pytest.raises(
        UserError, match=r"regions\.probabilities: .*reads 16 numbers that are not the means of the 8"
    ):
        run(pictures, tmp_path, source="grid", grid=[1], probabilities=True)
    headless = {key: value for key, value in resnet18().state_dict().items() if not key.startswith("fc.")}
    torch.save(headless, tmp_path / "w.pth")
    own = {"vision": "resnet18", "vision_weights": str(tmp_path / "w.pth"), "grid": [1]}
    with pytest.raises(UserError, match=r"w\.pth do not fit the network: missing or unexpected fc\.weight"):
        run(pictures, tmp_path / "s", source="grid", probabilities=True, **own)
    assert run(pictures, tmp_path / "s", source="grid", **own)["pictures"] == 31
    with pytest.raises(ValueError, match="obj36 files tell the best class alone"):
        RegionsConfig(probabilities=True)


def test_regions_of_a_tsv_are_found_by_id_and_those_that_it_lacks_are_listed(pictures, tmp_path):
    """Lines in another order than the pictures, in two files, one with foreign pictures; three pictures have none."""
    names = [f"{split}{i}" for split, n in (("train", 16), ("valid", 8), ("test", 8)) for i in range(n)]
    (tmp_path / "tsv" / "valid").mkdir(parents=True)
    write_obj36(tmp_path / "tsv" / "a.tsv", [invented(name) for name in names[:16][::-1]])
    there = [invented(name, count=0 if name == "valid2" else 3) for name in names[16:-3]]
    write_obj36(tmp_path / "tsv" / "valid" / "b.tsv", [invented("foreign"), *there])
    metrics = run(pictures, tmp_path / "store", source="obj36", files=str(tmp_path / "tsv"))
    assert metrics == {
        "pictures": 28.0,
        "regions": 16 * 4 + 12 * 3,
        "missing": 3.0,
        "broken": 0.0,
        "empty": 1.0,
    }
    store = load_regions(tmp_path / "store")
    assert store.ids == [name for name in names[:-3] if name != "valid2"]
    expected = invented("train5")
    np.testing.assert_allclose(
        store.batch(store.rows(["train5"])).features[0], expected.features, atol=2e-3
    )  # the picture is broken, its regions are there
    assert store.objects[0] == "object 0"
    assert len(store.objects) == 1 + max(int(invented(n, 4).object_ids.max()) for n in names[:16])
    missing = (tmp_path / "store" / "missing.txt").read_text().split()
    assert [Path(line).stem for line in missing] == names[-3:]
    assert Path((tmp_path / "store" / "empty.txt").read_text().strip()).stem == "valid2"
    assert store.provenance == {"extractor": "obj36", "files": "tsv", "colours": "BGR"}


def test_a_damaged_tsv_stops_the_import_with_file_and_line(pictures, tmp_path):
    lines = [encode_line(invented(f"train{i}")) for i in range(8)]
    (tmp_path / "a.tsv").write_bytes(b"".join(lines)[:-100])
    with pytest.raises(UserError, match=r"a\.tsv:8: features: .*damaged"):
        run(pictures, tmp_path / "s", source="obj36", files=str(tmp_path / "a.tsv"))
    (tmp_path / "a.tsv").write_bytes(b"".join(lines))  # it was fetched again
    assert run(pictures, tmp_path / "s", source="obj36", files=str(tmp_path / "a.tsv"))["pictures"] == 8


def test_a_tsv_of_other_pictures_is_refused(pictures, tmp_path):
    write_obj36(tmp_path / "a.tsv", [invented("foreign")])
    with pytest.raises(UserError, match=r"a\.tsv: has no regions of the 32 pictures of captions"):
        run(pictures, tmp_path / "s", source="obj36", files=str(tmp_path / "a.tsv"))
    with pytest.raises(UserError, match=r"regions\.files: expected"):
        run(pictures, tmp_path / "s", source="obj36")
    (tmp_path / "a.tsv").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.tsv: holds no line"):
        run_stage(REGIONS, RegionsConfig(of=(), files=str(tmp_path / "a.tsv")), tmp_path / "t")


def test_ids_of_one_file_share_a_row(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(
        regions_module, "pictures_of",
        lambda of, inputs: distinct([
            ("x", pictures / "images/train/train0.png"), ("y", pictures / "images/train/train1.png"),
            ("z", pictures / "images/train/train0.png"),
        ]),
    )  # fmt: skip
    metrics = run(pictures, tmp_path, source="detector")
    assert metrics["pictures"] == 2
    assert load_regions(tmp_path).rows(["z", "x", "y"]).tolist() == [0, 0, 1]


def test_sentences_without_pictures_need_files(tmp_path):
    entries = [{"img_id": name, "sentf": {"mscoco": ["a cat"]}, "labelf": {}} for name in "ab"]
    (tmp_path / "s.json").write_text(json.dumps(entries))
    (tmp_path / "stage").mkdir()
    SentenceData(tmp_path, {"train": (tmp_path / "s.json",)}).save(tmp_path / "stage")
    write_obj36(tmp_path / "a.tsv", [invented("b"), invented("a"), invented("c")])
    inputs = {"sentences": tmp_path / "stage"}
    config = RegionsConfig(of=("sentences",), files=str(tmp_path / "a.tsv"))
    run_stage(REGIONS, config, tmp_path / "store", **inputs)
    assert load_regions(tmp_path / "store").ids == ["a", "b"]
    with pytest.raises(UserError, match="'detector' looks at pictures"):
        run_stage(REGIONS, RegionsConfig(of=("sentences",), source="detector"), tmp_path / "t", **inputs)


def test_no_readable_picture_is_an_error(pictures, tmp_path, monkeypatch):
    broken = pictures / "images/train/train5.png"
    monkeypatch.setattr(regions_module, "pictures_of", lambda of, inputs: distinct([("x", broken)]))
    with pytest.raises(UserError, match=r"none of the 1 pictures of the stages in regions\.of can be read"):
        run(pictures, tmp_path, source="detector")
    assert not (tmp_path / "regions.hdf5").exists()


def test_fewer_boxes_at_most_than_at_least_are_refused():
    with pytest.raises(ValueError, match="40 boxes at least and 36 at most"):
        RegionsConfig(least=40)


def test_windows_to_learn_from_show_an_object_or_clearly_none():
    seen, true = windows(), torch.tensor([[0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 1, 1]])
    chosen, owner = choose(seen, true, 12, torch.Generator().manual_seed(0))
    assert len(chosen) == len(set(chosen.tolist())) == 12
    overlap = box_iou(seen[chosen], true)
    assert 0 < (owner >= 0).sum() <= 6
    for row, which in zip(overlap, owner, strict=True):
        assert row[which] >= 0.5 if which >= 0 else row.max() < 0.4


def test_instances_that_are_wrong_are_named(pictures, tmp_path):
    data = json.loads((pictures / "annotations" / "instances_train.json").read_text())
    (tmp_path / "in").mkdir()
    for change, message in (
        ({"image_id": 99}, r"annotations\[0\]\.image_id: 99 is not among the images"),
        ({"category_id": "7"}, r"category_id: .*not among the categories"),
        ({"bbox": [20, 3, 12, 14]}, r"annotations\[0\]\.bbox: .*does not lie in the picture of 24 × 30"),
        ({"bbox": [1, 2]}, "2 numbers; expected left, top, width and height"),
    ):
        first = {**data["annotations"][0], **change}
        changed = {**data, "annotations": [first, *data["annotations"][1:]]}
        (tmp_path / "in" / "instances_train.json").write_text(json.dumps(changed))
        config = LEARNED.model_copy(update={"vision": "stage", "instances": str(tmp_path / "in")})
        with pytest.raises(UserError, match=message):
            run_stage(
                DETECTOR, config, tmp_path / "d", vision=pictures / "vision", **data_in(pictures / "dataset")
            )


def test_a_store_is_exported_as_lxmerts_files_and_imported_again(pictures, detected, tmp_path):
    made = export_regions(detected, tmp_path / "out")
    assert [path.name for path in made] == ["regions_obj36.tsv", "objects_vocab.txt", "attributes_vocab.txt"]
    lists = {"objects": str(made[1]), "attributes": str(made[2])}
    run_stage(REGIONS, RegionsConfig(of=(), files=str(made[0]), **lists), tmp_path / "store")
    first, second = load_regions(detected), load_regions(tmp_path / "store")
    assert (first.ids, first.objects, first.attributes) == (second.ids, second.objects, second.attributes)
    a, b = (store.batch(np.arange(len(store))) for store in (first, second))
    torch.testing.assert_close(a.boxes, b.boxes, atol=1e-6, rtol=0)
    for name in ("features", "object_ids", "object_conf", "attribute_ids", "attribute_conf"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=0)
