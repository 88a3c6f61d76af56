"""A detector over a frozen image backbone, small enough to train in seconds: windows → kind, attributes, box.

Faster R-CNN (Ren et al., NeurIPS 2015) with two simplifications: the same windows for every picture in place of a
region proposal network, and no gradient into the backbone. What is read in a window (RoIAlign over the last maps of the
backbone at several resolutions) goes through two layers, whose output is the region's feature, and from there to a kind
of object or background, to attributes, and to a correction of the box. As in bottom-up attention (Anderson et al., CVPR
2018) the boxes are selected by the certainty of their kinds. Differs from it: a region's box is the corrected one,
not the window, because windows are coarse; its feature is the window's.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError
from vlpnb.files import content_hash, write_text
from vlpnb.hashes import describe
from vlpnb.vision.backbones import Backbone, load_backbone, read_state
from vlpnb.vision.extracting import Found
from vlpnb.vision.proposals import CERTAIN, OVERLAP, select, windows
from vlpnb.vision.regions import WindowPooling, feature_maps
from vlpnb.vision.transforms import eval_view, to_pixels

DESCRIPTION, WEIGHTS, BACKBONE = "detector.json", "detector.safetensors", "backbone"
STEEP = 5.0  # corrections of a box are small numbers: scaled so that they weigh as much as the other losses
IGNORE = -100


@dataclass(frozen=True)
class DetectorConfig:
    """What a detector is, weights apart."""

    objects: tuple[str, ...]
    attributes: tuple[tuple[str, ...], ...]  # groups; a region carries that of the first
    image_size: int = 128  # a picture is squeezed to a square of so many pixels
    levels: int = 3  # resolutions of the backbone that are read
    cells: int = 2  # a window is read in cells × cells places
    width: int = 256  # of a region's feature
    scales: tuple[float, ...] = (0.2, 0.3, 0.45, 0.65)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    step: float = 0.5


class RegionHead(nn.Module):
    """What a window shows: feature, scores of background and kinds, scores of attributes, correction of the box."""

    def __init__(self, inputs: int, config: DetectorConfig):
        super().__init__()
        self.sizes = [1 + len(config.objects), *map(len, config.attributes), 4]
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.inner = nn.Sequential(
            nn.Linear(inputs, config.width), nn.ReLU(), nn.Linear(config.width, config.width), nn.ReLU()
        )
        self.out = nn.Linear(config.width, sum(self.sizes))

    def fit_inputs(self, pooled: Float[Tensor, "N D"]) -> None:
        """Take mean and spread of what windows read; the layers see both removed."""
        self.mean.copy_(pooled.mean(0))
        self.spread.copy_(pooled.std(0) + 1e-3)

    def features(self, pooled: Float[Tensor, "*N D"]) -> Float[Tensor, "*N F"]:
        """Not negative, as those of published detectors."""
        return self.inner((pooled - self.mean) / self.spread)

    def scores(
        self, features: Float[Tensor, "*N F"]
    ) -> tuple[Float[Tensor, "*N K"], list[Float[Tensor, "*N _"]], Float[Tensor, "*N 4"]]:
        """Of background and kinds, of each group of attributes, and the correction."""
        kinds, *attributes, correction = self.out(features).split(self.sizes, -1)
        return kinds, attributes, correction / STEEP

    def forward(
        self,
        pooled: Float[Tensor, "N D"],
        kinds: Int[Tensor, " N"],
        attributes: Int[Tensor, "N G"],
        corrections: Float[Tensor, "N 4"],
    ) -> dict[str, Tensor]:
        """Sums of losses: kinds over all windows (0: background), the others over those with an object."""
        found, groups, correction = self.scores(self.features(pooled))
        losses = {"kinds": cross_entropy(found, kinds, reduction="sum")}
        for i, scores in enumerate(groups):
            part = cross_entropy(scores, attributes[:, i], ignore_index=IGNORE, reduction="sum")
            losses["attributes"] = losses.get("attributes", 0) + part
        on = kinds > 0
        losses["boxes"] = smooth_l1_loss(correction[on] * STEEP, corrections[on] * STEEP, reduction="sum")
        return losses


def corrections(seen: Float[Tensor, "N 4"], true: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """What moves windows to boxes: shift in units of the window's sides, and logarithm of the ratio of sides."""
    side, wanted = seen[:, 2:] - seen[:, :2], true[:, 2:] - true[:, :2]
    shift = (true[:, :2] + true[:, 2:] - seen[:, :2] - seen[:, 2:]) / 2
    return torch.cat([shift / side, (wanted / side).log()], 1)


def corrected(seen: Float[Tensor, "W 4"], correction: Float[Tensor, "*B W 4"]) -> Float[Tensor, "*B W 4"]:
    """The inverse of `corrections`, cut to the picture."""
    side = seen[..., 2:] - seen[..., :2]
    centre = (seen[..., :2] + seen[..., 2:]) / 2 + correction[..., :2] * side
    half = side * correction[..., 2:].clamp(-2, 2).exp() / 2
    return torch.cat([centre - half, centre + half], -1).clamp(0, 1)


class Detector:
    """A frozen backbone and a head on it; a `RegionExtractor`.

    Args:
        least, most: how many boxes a picture has; see `proposals.select`.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: RegionHead | None,
        config: DetectorConfig,
        least: int = 36,
        most: int = 36,
        about: Mapping[str, Any] = {},
    ):
        self.backbone, self.config, self.least, self.most = backbone, config, least, most
        self.windows = windows(config.scales, config.ratios, config.step)
        self.pooling = WindowPooling(self.windows, config.cells)
        self.head = head if head is not None else RegionHead(self._inputs(), config)
        self.objects, self.attributes = config.objects, (*config.attributes, ())[0]
        shape = {
            name: value for name, value in asdict(config).items() if name not in ("objects", "attributes")
        }
        self.provenance = {
            "extractor": "detector", "colours": "RGB", "least": least, "most": most, "overlap": OVERLAP,
            "certain": CERTAIN, **shape, **about,
        }  # fmt: skip

    def _inputs(self) -> int:
        size = self.config.image_size
        device = next(self.backbone.parameters()).device
        return self.pooled(torch.zeros(1, 3, size, size, device=device)).shape[2]

    def to(self, device: str) -> "Detector":
        self.backbone.to(device)
        self.head.to(device)
        return self

    def pixels(self, picture: Image.Image) -> Float[Tensor, "3 S S2"]:
        """The whole picture, squeezed to a square."""
        view = eval_view(picture, self.config.image_size, "whole")
        return to_pixels(view, self.backbone.mean, self.backbone.std)

    @torch.no_grad()
    def pooled(self, pixels: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B W D"]:
        """What the backbone shows in every window."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return self.pooling(feature_maps(self.backbone, pixels, self.config.levels))

    @torch.no_grad()
    def extract(self, pixels: Float[Tensor, "B 3 S S2"]) -> list[Found]:
        """The most certain boxes of each picture, best first; `Found.object_conf` is the probability of the kind."""
        device = next(self.head.parameters()).device
        features = self.head.features(self.pooled(pixels.to(device)))  # (B, W, F)
        kinds, attributes, correction = self.head.scores(features)
        told = kinds.softmax(2)  # (B, W, 1 + kinds), the background first
        probabilities = told[:, :, 1:]
        boxes = corrected(self.windows.to(device), correction)
        found = []
        for i in range(len(pixels)):
            kept, _ = select(boxes[i], probabilities[i], self.least, self.most)
            conf, ids = probabilities[i, kept].max(1)
            if attributes:
                attribute_conf, attribute_ids = attributes[0][i, kept].softmax(1).max(1)
            else:
                attribute_conf, attribute_ids = torch.zeros_like(conf), torch.full_like(ids, -1)
            attributes_found = attribute_ids, attribute_conf
            found.append(
                Found(boxes[i, kept], features[i, kept], ids, conf, *attributes_found, told[i, kept])
            )
        return found


def save_detector(folder: Path, detector: Detector, backbone: str | Path, weights: str | Path | None) -> None:
    """Write a detector so that its folder needs no other: a backbone that lies in a folder or file is copied.

    Args:
        backbone, weights: as `load_backbone` takes them.
    """
    about: dict[str, Any] = {"config": asdict(detector.config), "backbone": str(backbone), "weights": weights}
    if Path(backbone).is_dir():
        (folder / BACKBONE).mkdir(exist_ok=True)
        for path in sorted(Path(backbone).glob("backbone.*")):
            shutil.copyfile(path, folder / BACKBONE / path.name)
        about["backbone"] = None
    elif weights is not None and Path(weights).is_file():
        (folder / BACKBONE).mkdir(exist_ok=True)
        shutil.copyfile(weights, folder / BACKBONE / Path(weights).name)
        about["weights"] = f"{BACKBONE}/{Path(weights).name}"
    state = {name: value.cpu().contiguous() for name, value in detector.head.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    write_text(folder / DESCRIPTION, json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def load_detector(folder: Path, least: int = 36, most: int = 36) -> Detector:
    """A detector of `save_detector`, in eval mode. UserError when the folder holds none or a damaged one."""
    path = Path(folder) / DESCRIPTION
    about = read_json(path, "the description of a detector (stage `detector`)")
    try:
        config = DetectorConfig(**{
            name: tuple(tuple(v) if isinstance(v, list) else v for v in value) if isinstance(value, list) else value
            for name, value in about["config"].items()
        })  # fmt: skip
        name, weights = about["backbone"], about["weights"]
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{path}: no description of a detector ({error}); run the stage `detector` again"
        ) from error
    if weights is not None and str(weights).startswith(f"{BACKBONE}/"):
        weights = Path(folder) / weights
    backbone = load_backbone(name if name is not None else Path(folder) / BACKBONE, weights).fuse()
    hashes = {"weights": content_hash(Path(folder) / WEIGHTS), "vision": name, "vision_weights": weights}
    if (Path(folder) / BACKBONE).is_dir():  # what was copied: by its content
        hashes["vision_weights"] = describe(Path(folder) / BACKBONE)
    detector = Detector(
        backbone, None, config, least, most, {k: v for k, v in hashes.items() if v is not None}
    )
    try:
        detector.head.load_state_dict(read_state(Path(folder) / WEIGHTS))
    except RuntimeError as error:
        raise UserError(f"{Path(folder) / WEIGHTS} does not fit {path}: {error}") from error
    detector.head.eval().requires_grad_(False)
    return detector
