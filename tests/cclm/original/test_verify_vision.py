"""Recorded numbers of pictures hold, and a folder with a wrong one does not."""

import json
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.golden import cclm_vision
from vlpnb.cclm.original.verify_vision import region_geometry, regions, swin
from vlpnb.data.agreement import compare
from vlpnb.data.recorded import RecordedFolder

SHARED = Path(os.environ.get("VLPNB_SHARED_GOLDEN_CCLM", Path(__file__).parents[4] / "shared/golden/cclm"))
MINE = ("swin.safetensors", "swin.json", "region_geometry.json", "regions.safetensors")


@pytest.fixture
def recorded() -> RecordedFolder:
    if not (SHARED / "swin.safetensors").is_file():
        pytest.skip(f"recorded numbers of CCLM not found at {SHARED}")
    return RecordedFolder(SHARED)


def wrong_ones(folder: RecordedFolder, *checks) -> list[str]:
    found = [compare(case) for check in checks for case in check(folder)]
    assert found
    return [agreement.first for agreement in found if agreement.beyond]


def test_the_originals_numbers_hold_and_none_is_passed_over(recorded):
    assert wrong_ones(recorded, swin, regions, region_geometry) == []
    left = recorded.files()
    assert all(left[name] == [] for name in MINE), left
    assert recorded.json("losses.json")["regions"].unread() == []


def made(folder: Path, seed: int) -> RecordedFolder:
    cclm_vision.record_swin(folder, seed)
    cclm_vision.record_geometry(folder, seed)
    about = {"pixel_mean": cclm_vision.MEAN, "pixel_std": cclm_vision.STD}
    (folder / "config.json").write_text(json.dumps(about))
    return RecordedFolder(folder)


@pytest.mark.parametrize("seed", [1, 2])
def test_folders_of_a_second_implementation_hold(tmp_path, seed):
    folder = made(tmp_path, seed)
    assert wrong_ones(folder, swin, region_geometry) == []
    assert folder.files() == {name: [] for name in sorted([*MINE[:3], "config.json"])}


def test_wrong_numbers_are_found(tmp_path):
    made(tmp_path, 3)
    tensors = load_file(tmp_path / "swin.safetensors")
    tensors["shifted.out"][0, 3, 1] += 1e-4
    tensors["resample.4_6.target"][7, 0] += 1e-3
    save_file(tensors, tmp_path / "swin.safetensors")
    about = json.loads((tmp_path / "region_geometry.json").read_text())
    about["patch_masks"][0]["visible_patches_0based_row_major"].append(99)
    about["region_samples"][0]["targets_cxcywh"][0][0] += 0.01
    (tmp_path / "region_geometry.json").write_text(json.dumps(about))
    found = wrong_ones(RecordedFolder(tmp_path), swin, region_geometry)
    assert sorted(line.split("[")[0] for line in found) == [
        "patch_masks", "region_samples", "resample.4_6.target", "shifted.out",
    ]  # fmt: skip
