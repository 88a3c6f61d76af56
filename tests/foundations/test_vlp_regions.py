"""VLP's region files into the store: both layouts, every gap listed, damage and other widths named."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.small import data_in, run_stage, write_pictures
from vlpnb.data import vlp_regions
from vlpnb.errors import UserError
from vlpnb.foundations import regions as regions_module
from vlpnb.foundations.distinct_pictures import Picture
from vlpnb.foundations.regions import REGIONS, RegionsConfig, load_regions


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """The folder of a small dataset: 16, 8 and 8 pictures of 24 × 30 pixels."""
    root = tmp_path_factory.mktemp("regions")
    write_pictures(root)
    return root


def run(root: Path, folder: Path, **fields) -> dict[str, float]:
    config = RegionsConfig(**{"of": ["captions"], "source": "vlp", "shard": 5, **fields})
    return run_stage(REGIONS, config, folder, **data_in(root / "dataset"))


def write_vlp(folder: Path, names: list[str], layout: str) -> dict[str, tuple[np.ndarray, ...]]:
    random, arrays = np.random.default_rng(0), {}
    folder.mkdir()
    with h5py.File(folder.parent / "boxes.h5", "w") as boxes:
        for name in names:
            edges = np.sort(random.random((5, 2, 2)), 1).reshape(5, 4) * [24, 30, 24, 30]
            box = np.concatenate([edges, random.random((5, 2))], 1).astype(np.float32)
            feat = random.random((5, 6)).astype(np.float16)
            scores = random.dirichlet(np.ones(9), 5).astype(np.float16)
            boxes[name], arrays[name] = box, (feat, scores, box)
            if layout == "npy":
                np.save(folder / f"{name}.npy", feat)
                np.save(folder / f"{name}_cls_prob.npy", scores)
                continue
            for kind, values in (("feat", feat), ("cls", scores)):
                with h5py.File(folder / f"x_{kind}{name[-3:]}.h5", "a") as file:
                    file[name] = values
    return arrays


@pytest.mark.parametrize("layout", ["hdf5", "npy"])
def test_vlps_files_are_imported(pictures, tmp_path, layout):
    arrays = write_vlp(tmp_path / "vlp", [f"valid{i}" for i in range(4)], layout)
    files = {"files": str(tmp_path / "vlp"), "boxes": str(tmp_path / "boxes.h5")}
    metrics = run(pictures, tmp_path / "s", **files)
    assert metrics == {"pictures": 4.0, "regions": 20.0, "missing": 28.0, "broken": 0.0, "empty": 0.0}
    store = load_regions(tmp_path / "s")
    batch = store.batch(store.rows(["valid2"]))
    feat, scores, box = arrays["valid2"]
    np.testing.assert_array_equal(batch.features[0], feat)
    np.testing.assert_allclose(batch.boxes[0], box[:, :4] / [24, 30, 24, 30], atol=1e-6)
    assert batch.object_ids[0].tolist() == scores[:, 1:].argmax(1).tolist()
    np.testing.assert_allclose(batch.object_conf[0], scores[:, 1:].max(1), atol=1e-3)
    assert (batch.attribute_ids == -1).all()
    assert store.sizes(np.array([0])).tolist() == [[30, 24]]
    assert store.classes == 0
    run(pictures, tmp_path / "all", probabilities=True, **files)
    store = load_regions(tmp_path / "all")
    batch = store.batch(store.rows(["valid2"]), probabilities=True)
    np.testing.assert_array_equal(batch.probabilities[0], scores)
    np.testing.assert_allclose(
        batch.object_conf[0], box[:, 5], atol=1e-3
    )  # what stands with the box (VLP-15)


@pytest.mark.parametrize("layout", ["hdf5", "npy"])
def test_every_gap_in_vlps_files_is_listed_before_the_import(pictures, tmp_path, layout):
    write_vlp(tmp_path / "vlp", [f"valid{i}" for i in range(6)], layout)
    if layout == "npy":
        (tmp_path / "vlp" / "valid2.npy").unlink()
        (tmp_path / "vlp" / "valid4_cls_prob.npy").unlink()
    else:
        (tmp_path / "vlp" / "x_featid2.h5").unlink()
        with h5py.File(tmp_path / "vlp" / "x_clsid4.h5", "r+") as file:
            del file["valid4"]
    files = {"files": str(tmp_path / "vlp"), "boxes": str(tmp_path / "boxes.h5")}
    metrics = run(pictures, tmp_path / "s", **files)
    assert (metrics["pictures"], metrics["missing"]) == (4, 28)
    lines = dict(line.split("\t") for line in (tmp_path / "s" / "missing.txt").read_text().splitlines())
    gaps = {Path(picture).stem: gap for picture, gap in lines.items()}
    assert gaps["valid2"] == "no features"
    assert gaps["valid4"] == "no class probabilities"
    assert gaps["train0"] == gaps["valid7"] == "no boxes"
    assert load_regions(tmp_path / "s").ids == [f"valid{i}" for i in (0, 1, 3, 5)]


def test_shards_of_vlp_are_opened_once_whatever_the_order_of_the_pictures(tmp_path, monkeypatch):
    names = [f"p{shard:03d}" for shard in range(40)] + [f"q{shard:03d}" for shard in range(40)]
    write_vlp(tmp_path / "vlp", names, "hdf5")
    opened = []
    monkeypatch.setattr(vlp_regions, "open_checked", lambda path: opened.append(path) or h5py.File(path))
    config = RegionsConfig(source="vlp", files=str(tmp_path / "vlp"), boxes=str(tmp_path / "boxes.h5"))
    had, lacking, make, _ = regions_module.open_files(
        config, [Picture([name], None) for name in [*names, "gone"]]
    )
    assert lacking == ["gone\tno boxes"]
    assert {picture.names[0] for picture in had} == set(names)
    made, _ = make(range(len(had)))
    assert [regions.image_id for _, regions in made] == [picture.names[0] for picture in had]
    assert len(opened) == 1 + 2 * 2 * 40  # the boxes, and every shard to look and to read


def test_vlps_files_of_another_width_are_named(pictures, tmp_path):
    write_vlp(tmp_path / "vlp", ["valid1", "valid2"], "npy")
    files = {"files": str(tmp_path / "vlp"), "boxes": str(tmp_path / "boxes.h5"), "probabilities": True}
    np.save(tmp_path / "vlp" / "valid2.npy", np.zeros((5, 7), np.float32))
    with pytest.raises(UserError, match=r"features have different widths: 6 \(valid1\) and 7 \(valid2\)"):
        run(pictures, tmp_path / "s", **files)
    np.save(tmp_path / "vlp" / "valid2.npy", np.zeros((5, 6), np.float32))
    np.save(tmp_path / "vlp" / "valid2_cls_prob.npy", np.full((5, 4), 0.25, np.float32))
    for shard in (1, 5):
        with pytest.raises(
            UserError, match=r"classes with probabilities differ: 9 \(valid1\) and 4 \(valid2\)"
        ):
            run(pictures, tmp_path / f"w{shard}", shard=shard, **files)
    np.save(tmp_path / "vlp" / "valid2_cls_prob.npy", np.full((5, 9), 0.25, np.float32))
    with pytest.raises(UserError, match=r"valid2\.npy: the probabilities of region 0 .*sum to 2\.25"):
        run(pictures, tmp_path / "x", **files)
    (tmp_path / "objects.txt").write_text("cat\ndog\n")
    with pytest.raises(UserError, match=r"has the object class \d; expected"):
        run(pictures, tmp_path / "y", objects=str(tmp_path / "objects.txt"), **files)


def test_damaged_files_of_vlp_are_named(pictures, tmp_path):
    write_vlp(tmp_path / "vlp", ["valid1", "valid2"], "hdf5")
    files = {"files": str(tmp_path / "vlp"), "boxes": str(tmp_path / "boxes.h5")}
    with h5py.File(tmp_path / "vlp" / "x_featid2.h5", "r+") as file:
        file["valid2"][3, 1] = np.nan
    with pytest.raises(UserError, match=r"x_featid2\.h5: valid2: number 1 of the feature of region 3 is nan"):
        run(pictures, tmp_path / "s", **files)
    with h5py.File(tmp_path / "vlp" / "x_featid2.h5", "r+") as file:
        del file["valid2"]
        file["valid2"] = np.zeros((4, 6), np.float16)
    with pytest.raises(UserError, match=r"valid2 have the shapes"):
        run(pictures, tmp_path / "t", **files)
    with pytest.raises(UserError, match=r"regions\.boxes: expected"):
        run(pictures, tmp_path / "u", files=files["files"])
    with pytest.raises(UserError, match=r"expected <prefix>_feat<ddd>\.h5"):
        run(pictures, tmp_path / "u", files=str(pictures / "images"), boxes=files["boxes"])
