"""CCLM's recorded numbers of pictures: the Swin, its position tables, views, regions and their geometry.

Sizes and numbers of cases come from the files, whose README tells what each holds and its tolerances.
"""

import dataclasses
import re
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlpnb.cclm.original.recorded_model import LOSS, OUTPUT, pixels, recorded_model
from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.recorded import Entries, RecordedFolder
from vlpnb.data.region_text import Region, RegionPicture
from vlpnb.nn.boxes import box_losses, giou
from vlpnb.vision.patch_regions import patch_mask, region_entries, region_text, region_views
from vlpnb.vision.swin import (
    Swin,
    fill_swin,
    resample_table,
    resampling_ratio,
    size_of,
    source_grid,
    swin_state,
)
from vlpnb.vision.transforms import CLIP_MEAN, CLIP_STD, squeezed_view, to_pixels

SHARE, TABLE, GRID = Tolerance(1e-6), Tolerance(1e-5), Tolerance(1e-6)


def swin(folder: RecordedFolder) -> Iterator[Case]:
    """Patches of whole networks; tables for another window; the view of a test picture."""
    recorded, about = folder.tensors("swin.safetensors"), folder.json("swin.json")
    for name in about:
        if "image_res" in about[name]:
            yield from _network(folder, name)
        elif name.startswith("resample."):
            yield from _resampled(recorded, about[name], name)
        about[name].leave_out("hf_swin*", "torchvision*")  # how far other libraries are from the reference
    picture = Image.fromarray(recorded["test_transform.image_u8_hwc"].numpy())
    for name in recorded:
        if inside := re.fullmatch(r"test_transform\.pixels_(\d+)", name):
            view = squeezed_view(picture, int(inside[1]))
            yield recorded.case(name, to_pixels(view, CLIP_MEAN, CLIP_STD), SHARE)


@torch.no_grad()
def _network(folder: RecordedFolder, name: str) -> Iterator[Case]:
    recorded, about = folder.tensors("swin.safetensors"), folder.json("swin.json")[name]
    state = swin_state(recorded.below(f"{name}.weights."))
    config = dataclasses.replace(size_of(state), image_size=about["image_res"])
    sizes = {"embed_dim": config.embed, "depths": [*config.depths], "num_heads": [*config.heads]}
    for field, ours in (sizes | {"window_size": config.window}).items():
        yield about.case(field, ours)
    tower = Swin(config).eval()
    fill_swin(tower, state)
    yield recorded.case(f"{name}.out", tower(pixels(folder, recorded[f"{name}.image_u8"])), OUTPUT)


def _resampled(recorded: Entries, about: Entries, name: str) -> Iterator[Case]:
    source, target = recorded[f"{name}.source"], recorded[f"{name}.target"]
    sides = [round(len(table) ** 0.5) for table in (source, target)]
    yield recorded.case(f"{name}.target", resample_table(source, (sides[1] + 1) // 2), TABLE)
    yield about.case("q", resampling_ratio(*sides), GRID)
    yield about.case("source_grid", source_grid(*sides), GRID)


@torch.no_grad()
def regions(folder: RecordedFolder) -> Iterator[Case]:
    """Views and vectors of regions, their boxes and the losses of these; GIoU alone."""
    recorded, towers = folder.tensors("regions.safetensors"), folder.tensors("towers.safetensors")
    yield recorded.case("giou", giou(recorded["giou_a"], recorded["giou_b"]), OUTPUT)

    model, group = recorded_model(folder), recorded["group"]
    seen = recorded["patch_mask"].bool()
    views = model.pictures(pixels(folder, towers["image_u8"][: int(group.max()) + 1]))
    region = region_views(views, group, seen)
    yield recorded.case("full_image", views[group], OUTPUT)
    yield recorded.case("region", region, OUTPUT)
    yield recorded.case("region_vector", model.image_vector(region), OUTPUT)

    ids, mask = towers["text_ids"], towers["text_mask"].bool()
    fused = model.fuse(model.text(ids, mask), mask, views[group])
    yield recorded.case("predicted_boxes", model.boxes(fused), OUTPUT)
    yield from _box_losses(folder.json("losses.json")["regions"], recorded)


def _box_losses(about: Entries, recorded: Entries) -> Iterator[Case]:
    predicted, boxes, whole = (recorded[name] for name in ("predicted_boxes", "boxes", "is_image"))
    for suffix, count_whole in (("", False), ("_all", True)):
        distance, overlap, count = box_losses(predicted, boxes, whole.bool(), count_whole)
        yield about.case(f"box_l1{suffix}", distance / count, LOSS)
        yield about.case(f"box_giou{suffix}", overlap / count, LOSS)


def region_geometry(folder: RecordedFolder) -> Iterator[Case]:
    """Patches that a box sees; what is left of the elements of a cropped and mirrored picture."""
    about = folder.json("region_geometry.json")
    for item in about["patch_masks"]:
        mask = patch_mask(tuple(item["box_xywh"]), item["image_res"], item["patches_per_side"])
        yield item.case("cls", int(mask[0]))
        yield item.case("visible_patches_0based_row_major", _seen(mask))
    grids = {item["image_res"]: item["patches_per_side"] for item in about["patch_masks"]}
    cell = min(size / grid for size, grid in grids.items())  # a patch has as many pixels at every resolution
    for item in about["region_samples"]:
        yield from _sample(item, cell)


def _sample(item: Entries, cell: float) -> Iterator[Case]:
    whole, size = item["whole_image_caption"], item["image_res"]
    elements = [Region(tuple(e["bb"]), dict(e["caption"].items()), {}) for e in item["elements"]]
    captions = () if whole is None else (dict(whole.items()),)
    width, height = item["image_size"]
    picture = RegionPicture("recorded", None, width, height, captions, tuple(elements))
    crop = tuple(item["crop_x0y0x1y1"])
    found = region_entries(picture, crop, item["flip"], item["element_order"], size, round(size / cell))
    said = [captions[0] if element < 0 else elements[element].captions for element, _, _ in found]
    rng = np.random.default_rng(0)
    yield item.case("texts", [region_text(text, {}, [*text], rng)[0] for text in said])
    yield item.case("is_image", [int(element < 0) for element, _, _ in found])
    yield item.case("targets_cxcywh", torch.tensor([box for _, box, _ in found]), SHARE)
    yield item.case("visible_patches", [_seen(mask) for _, _, mask in found])


def _seen(mask: np.ndarray | Tensor) -> list[int]:
    return np.flatnonzero(mask[1:]).tolist()


CHECKS = (swin, regions, region_geometry)
