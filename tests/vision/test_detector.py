"""The detector: learns where coloured squares are, comes back from its folder, and its parts invert each other."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision.models import get_model
from torchvision.ops import box_iou

from vlpnb.errors import UserError
from vlpnb.vision.backbones import Backbone, save_backbone
from vlpnb.vision.detector import (
    Detector,
    DetectorConfig,
    RegionHead,
    corrected,
    corrections,
    load_detector,
    save_detector,
)
from vlpnb.vision.extracting import GridWindows, RegionExtractor, grid_cells
from vlpnb.vision.regions import feature_maps, pool_regions
from vlpnb.vision.small import SmallResNet
from vlpnb.vision.torchvision_detector import TorchvisionDetector, load_torchvision
from vlpnb.vision.transforms import bounded_view, to_pixels

CONFIG = DetectorConfig(("square", "disc"), (("red", "blue"), ("small",)), image_size=32, width=12)


def detector(least: int = 4, most: int = 4) -> Detector:
    backbone = Backbone(SmallResNet((4, 6, 8, 10), 3), 20).eval()
    return Detector(backbone, None, CONFIG, least, most)


def picture(seed: int = 0, size: tuple[int, int] = (60, 40)) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))


def test_corrections_and_boxes_are_inverse():
    seen, true = (torch.rand(20, 2, 2).sort(1).values.reshape(20, 4) for _ in range(2))
    true[:, 2:] += 0.05 * (1 - true[:, 2:])
    keep = ((seen[:, 2:] - seen[:, :2]) > 0.1).all(1) & ((true[:, 2:] - true[:, :2]) > 0.1).all(1)
    assert keep.any()
    torch.testing.assert_close(
        corrected(seen[keep], corrections(seen[keep], true[keep])), true[keep], atol=1e-5, rtol=0
    )


def test_an_extraction_has_the_wanted_boxes_best_first():
    ours = detector()
    assert isinstance(ours, RegionExtractor)
    pixels = torch.stack([ours.pixels(picture(i)) for i in range(2)])
    found = ours.extract(pixels)
    assert len(found) == 2
    for regions in found:
        assert regions.features.shape == (4, 12)
        assert regions.features.min() >= 0
        assert regions.boxes.min() >= 0
        assert regions.boxes.max() <= 1
        assert ((regions.object_ids >= 0) & (regions.object_ids < 2)).all()
        assert ((regions.attribute_ids >= 0) & (regions.attribute_ids < 2)).all()
    (alone,) = ours.extract(pixels[1:])
    torch.testing.assert_close(alone.boxes, found[1].boxes, atol=1e-5, rtol=0)
    whole = alone.of("a", 40, 60)
    np.testing.assert_allclose(whole.relative_boxes(), alone.boxes, atol=1e-6)
    assert (whole.image_id, whole.height, whole.width) == ("a", 40, 60)


def test_losses_are_sums_over_windows_that_show_something():
    torch.manual_seed(0)
    head = RegionHead(7, CONFIG)
    pooled, kinds = torch.randn(5, 7), torch.tensor([0, 1, 2, 0, 1])
    attributes = torch.tensor([[-100, -100], [0, 0], [1, -100], [-100, -100], [0, 0]])
    moves = torch.randn(5, 4)
    found = head(pooled, kinds, attributes, moves)
    alone = [
        head(pooled[i : i + 1], kinds[i : i + 1], attributes[i : i + 1], moves[i : i + 1]) for i in range(5)
    ]
    for name, value in found.items():
        torch.testing.assert_close(value, sum(row[name] for row in alone))
    assert not alone[0]["boxes"].any()
    assert not alone[0]["attributes"].any()
    assert alone[1]["boxes"] > 0


def test_it_learns_where_squares_are_and_comes_back_from_its_folder(tmp_path):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    net = SmallResNet((4, 6, 8, 10), 3).eval()
    folder = tmp_path / "vision"
    folder.mkdir()
    save_backbone(folder, net, (4, 6, 8, 10), 32, list("abc"))
    ours = Detector(Backbone(net, 20).eval(), None, CONFIG, 1, 1)
    pictures, boxes, colours = [], [], []
    for i in range(40):
        side = int(random.integers(20, 30))
        left, top = (int(v) for v in random.integers(0, 64 - side, 2))
        canvas = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(canvas).rectangle((left, top, left + side, top + side), fill=("red", "blue")[i % 2])
        pictures.append(canvas)
        boxes.append(torch.tensor([left, top, left + side, top + side]) / 64)
        colours.append(i % 2)
    pixels = torch.stack([ours.pixels(p) for p in pictures])
    pooled = ours.pooled(pixels)
    ours.head.fit_inputs(pooled.flatten(0, 1))
    overlap = torch.stack([box_iou(ours.windows, box[None])[:, 0] for box in boxes])
    kinds = (overlap > 0.5).long()
    used = (overlap > 0.5) | ((overlap < 0.4) & (torch.rand(overlap.shape) < 0.04))
    attributes = torch.where(kinds > 0, torch.tensor(colours)[:, None], -100)
    attributes = torch.stack([attributes, torch.full_like(attributes, -100)], 2)
    moves = torch.stack([corrections(ours.windows, box.expand(len(ours.windows), 4)) for box in boxes])
    optimiser = torch.optim.Adam(ours.head.parameters(), lr=1e-2)
    given = pooled[used], kinds[used], attributes[used], moves[used]
    for _ in range(200):
        optimiser.zero_grad()
        sum(value for value in ours.head(*given).values()).div(len(given[0])).backward()
        optimiser.step()
    found = ours.extract(pixels)
    hits = [box_iou(f.boxes, b[None]).item() > 0.5 for f, b in zip(found, boxes, strict=True)]
    assert np.mean(hits) > 0.6  # a tenth of the windows, at most, fit a square so well
    assert np.mean([f.attribute_ids.item() == c for f, c in zip(found, colours, strict=True)]) > 0.9

    save_detector(tmp_path, ours, folder, None)
    again = load_detector(tmp_path, 1, 1)
    assert (again.objects, again.attributes) == (("square", "disc"), ("red", "blue"))
    told = {"extractor", "colours", "weights", "vision_weights", "least", "most", "overlap", "image_size"}
    assert set(again.provenance) > told
    for first, second in zip(found, again.extract(pixels), strict=True):  # batch norm is folded in the second
        torch.testing.assert_close(first.boxes, second.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(first.features, second.features, atol=1e-2, rtol=1e-2)


def test_a_damaged_folder_of_a_detector_is_named(tmp_path):
    with pytest.raises(UserError, match=r"detector\.json does not exist"):
        load_detector(tmp_path)
    (tmp_path / "detector.json").write_text(json.dumps({"config": {"objects": []}}))
    with pytest.raises(UserError, match="no description of a detector"):
        load_detector(tmp_path)


def test_maps_of_several_resolutions_are_the_blocks_outputs():
    net = SmallResNet((4, 6, 8, 10), 3).eval()
    pixels, backbone = torch.randn(2, 3, 64, 64), Backbone(net, 20).eval()
    found = feature_maps(backbone, pixels, 3)
    hidden = backbone.net.stem(pixels)
    for map_, block in zip(found, backbone.net.blocks, strict=True):
        hidden = block(hidden)
        torch.testing.assert_close(map_, hidden)
    with pytest.raises(UserError, match=r"maps of \d resolutions for 64 × 64 pixels; expected 9"):
        feature_maps(backbone, pixels, 9)


def test_grid_cells_tile_the_picture_and_read_the_map_there():
    assert grid_cells(2).tolist() == [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    backbone = Backbone(SmallResNet((4, 6, 8, 10), 3), 20).eval()
    grid = GridWindows(backbone, (1, 3), short=64, long=90)
    assert isinstance(grid, RegionExtractor)
    large = picture(size=(300, 200))
    pixels = grid.pixels(large)
    assert pixels.shape == (3, 60, 90)
    torch.testing.assert_close(pixels, to_pixels(bounded_view(large, 64, 90), backbone.mean, backbone.std))
    (found,) = grid.extract(pixels[None])
    (expected,) = pool_regions(backbone.feature_map(pixels[None]), [grid.boxes])
    torch.testing.assert_close(found.features, expected)
    assert found.features.shape == (10, 10)
    assert (found.object_ids == -1).all()
    assert not found.object_conf.any()


def test_a_grid_over_a_network_for_one_size_is_refused():
    vit = Backbone(get_model("vit_b_32", weights=None), 768).eval()
    with pytest.raises(UserError, match="no map of features"):
        GridWindows(vit, (1,)).extract(torch.zeros(1, 3, 224, 224))


@pytest.fixture(scope="module")
def faster_rcnn() -> TorchvisionDetector:
    torch.manual_seed(0)
    ours = load_torchvision("fasterrcnn_mobilenet_v3_large_320_fpn", None, 5, 7)
    assert isinstance(ours, TorchvisionDetector)
    return ours


def test_torchvisions_detector_gives_features_of_its_proposals(faster_rcnn):
    assert isinstance(faster_rcnn, RegionExtractor)
    pixels = faster_rcnn.pixels(picture(size=(80, 60)))
    assert pixels.shape == (3, 60, 80)
    (found,) = faster_rcnn.extract(pixels[None])
    assert found.features.shape[1] == 1024
    assert 5 <= len(found.boxes) <= 7
    assert found.boxes.min() >= 0
    assert found.boxes.max() <= 1
    assert ((found.object_ids >= 0) & (found.object_ids < 90)).all()
    assert (found.attribute_ids == -1).all()
    # torchvision's own features of the same boxes
    net = faster_rcnn.net
    images, _ = net.transform([pixels])
    height, width = images.image_sizes[0]
    boxes = found.boxes * torch.tensor([width, height] * 2)
    maps = net.backbone(images.tensors)
    vectors = net.roi_heads.box_head(net.roi_heads.box_roi_pool(maps, [boxes], images.image_sizes))
    torch.testing.assert_close(found.features, vectors, atol=1e-4, rtol=1e-4)
    scores = net.roi_heads.box_predictor(vectors)[0].softmax(1)[:, 1:]
    torch.testing.assert_close(scores.max(1).values, found.object_conf, atol=1e-4, rtol=0)


def test_weights_of_torchvisions_detector_from_a_file(faster_rcnn, tmp_path):
    torch.save(faster_rcnn.net.state_dict(), tmp_path / "w.pth")
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    again = load_torchvision(name, tmp_path / "w.pth", 5, 7)
    assert again.objects[:2] == ("person", "bicycle")
    assert len(again.provenance["weights"]) == 64
    pixels = faster_rcnn.pixels(picture(size=(80, 60)))[None]
    torch.testing.assert_close(again.extract(pixels)[0].features, faster_rcnn.extract(pixels)[0].features)
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: no tensor roi_heads"):
        load_torchvision(name, tmp_path / "x.pth")
    with pytest.raises(UserError, match="unknown detector 'fasterrcnn_resnet50'; did you mean"):
        load_torchvision("fasterrcnn_resnet50")
    with pytest.raises(UserError, match="DEFALT"):
        load_torchvision(name, "DEFALT")
