"""torchvision's Faster R-CNN as an extractor of regions, by the name of published weights or from a file.

Ren et al., NeurIPS 2015, with the feature pyramid of Lin et al., CVPR 2017: trained on COCO's kinds of objects, without
attributes, and 1,024 numbers a region. torchvision's own post-processing gives boxes without their features; here its
parts run one after the other (backbone, proposals, RoIAlign, box head, predictor), all proposals keep their features,
and the boxes are selected as for LXMERT (`proposals.select`). Boxes are the proposals, as there: features belong to
them. Models trained on the published 2,048 numbers (ResNet-101, Visual Genome) cannot read these.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.models import detection, get_model, get_model_weights, list_models

from vlpnb.errors import UserError, did_you_mean
from vlpnb.files import content_hash
from vlpnb.vision.backbones import have_weights, read_state
from vlpnb.vision.extracting import Found
from vlpnb.vision.proposals import CERTAIN, OVERLAP, select
from vlpnb.vision.transforms import to_pixels

CLASSES = "roi_heads.box_predictor.cls_score.weight"


class TorchvisionDetector:
    """A Faster R-CNN of torchvision; a `RegionExtractor`.

    Args:
        least, most: how many boxes a picture has; see `proposals.select`.
        objects: names of the kinds, the background left out.
    """

    attributes: tuple[str, ...] = ()

    def __init__(
        self,
        net: detection.FasterRCNN,
        objects: tuple[str, ...],
        least: int = 36,
        most: int = 36,
        about: Mapping[str, Any] = {},
    ):
        self.net, self.objects, self.least, self.most = net.eval().requires_grad_(False), objects, least, most
        transform = net.transform
        self.provenance = {
            "extractor": "torchvision", "colours": "RGB", "least": least, "most": most, "overlap": OVERLAP,
            "certain": CERTAIN,
            "min_size": list(transform.min_size), "max_size": transform.max_size, **about,
        }  # fmt: skip

    def to(self, device: str) -> "TorchvisionDetector":
        self.net.to(device)
        return self

    def pixels(self, picture: Image.Image) -> Float[Tensor, "3 H W"]:
        """The whole picture, values in [0, 1]; the network scales it itself."""
        return to_pixels(picture, (0.0,) * 3, (1.0,) * 3)

    @torch.no_grad()
    def extract(self, pixels: Float[Tensor, "B 3 H W"]) -> list[Found]:
        """The selected proposals of each picture, most certain first. UserError for one as thin as a line."""
        net, device = self.net, next(self.net.parameters()).device
        try:
            images, _ = net.transform(list(pixels.to(device)))
        except RuntimeError as error:
            _, _, height, width = pixels.shape
            raise UserError(
                f"a picture of {width} × {height} pixels cannot be scaled for the detector ({error}); crop or remove it"
            ) from error
        maps = net.backbone(images.tensors)
        maps = {"0": maps} if isinstance(maps, Tensor) else maps
        proposals, _ = net.rpn(images, maps)
        pooled = net.roi_heads.box_roi_pool(maps, proposals, images.image_sizes)
        features = net.roi_heads.box_head(pooled)
        logits, _ = net.roi_heads.box_predictor(features)
        found, sizes = [], [len(boxes) for boxes in proposals]
        for boxes, vectors, told, (height, width) in zip(
            proposals, features.split(sizes), logits.softmax(1).split(sizes), images.image_sizes, strict=True
        ):
            scores = told[:, 1:]  # without the background
            boxes = boxes / boxes.new_tensor([width, height, width, height])
            kept, _ = select(boxes, scores, self.least, self.most)
            conf, ids = scores[kept].max(1)
            none = torch.full_like(ids, -1)
            found.append(
                Found(boxes[kept], vectors[kept], ids, conf, none, torch.zeros_like(conf), told[kept])
            )
        return found


def load_torchvision(
    name: str, weights: str | Path | None = "DEFAULT", least: int = 36, most: int = 36
) -> TorchvisionDetector:
    """Open a Faster R-CNN of torchvision.

    Args:
        name: such as "fasterrcnn_resnet50_fpn_v2".
        weights: name of published ones (downloaded on first use), a state dict of such a network, or None (random).
    Raises:
        UserError: an unknown name, a missing file, weights that do not fit.
    """
    known = [model for model in list_models(module=detection) if model.startswith("fasterrcnn")]
    if name not in known:
        raise UserError(f"regions.torchvision: unknown detector {name!r}{did_you_mean(name, known)}")
    file = weights is not None and Path(weights).suffix in (".pth", ".pt", ".safetensors")
    published = get_model_weights(name)
    if weights is None:
        net = get_model(name, weights=None, weights_backbone=None)
        return TorchvisionDetector(net, _numbered(91), least, most, {"name": name, "weights": None})
    if file:
        state = {key.removeprefix("module."): value for key, value in read_state(weights).items()}
        if CLASSES not in state:
            raise UserError(f"{weights}: no tensor {CLASSES}; expected a state dict of {name}")
        count = len(state[CLASSES])
        net = get_model(name, weights=None, weights_backbone=None, num_classes=count)
        try:
            net.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"{weights} does not fit {name}: {error}") from error
        names = published.DEFAULT.meta["categories"][1:] if count == 91 else _numbered(count)
        about = {"name": name, "weights": content_hash(Path(weights))}
        return TorchvisionDetector(net, tuple(names), least, most, about)
    if weights != "DEFAULT" and weights not in published.__members__:
        raise UserError(
            f"regions.torchvision_weights: found {str(weights)!r}; expected a file (.pth, .safetensors) or one of "
            f"DEFAULT, {', '.join(published.__members__)}"
        )
    digest = content_hash(have_weights(name, str(weights), "regions.torchvision_weights"))
    net = get_model(name, weights=weights)
    names = tuple(published[str(weights)].meta["categories"][1:])
    return TorchvisionDetector(net, names, least, most, {"name": name, "weights": digest})


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(1, count))
