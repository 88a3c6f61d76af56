"""What all extractors of regions have in common, and the plainest of them: a grid of windows over the picture.

An extractor says what it reads of a picture (`pixels`) and what regions it finds (`extract`). The grid needs no
detector: any image backbone's map of features is read in the cells of several grids, from the whole picture down to
small squares (as Jiang et al., CVPR 2020, found, grids do nearly as well as detected boxes). It names no objects; what
the backbone's own classifier says of a cell can stand where a detector tells the probabilities of its classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from vlpnb.data.regions import PictureRegions
from vlpnb.errors import UserError
from vlpnb.vision.backbones import Backbone
from vlpnb.vision.regions import region_features
from vlpnb.vision.transforms import bounded_view, to_pixels


@dataclass(frozen=True)
class Found:
    """The regions of one picture; class −1 is none."""

    boxes: Float[Tensor, "R 4"]  # left, top, right, bottom, relative to the picture
    features: Float[Tensor, "R F"]
    object_ids: Int[Tensor, " R"]
    object_conf: Float[Tensor, " R"]
    attribute_ids: Int[Tensor, " R"]
    attribute_conf: Float[Tensor, " R"]
    probabilities: Float[Tensor, "R C"] | None = None  # of the background, then of every object class

    def of(self, image_id: str, height: int, width: int) -> PictureRegions:
        """These as the regions of a picture of so many pixels, on the host."""
        size = torch.tensor([width, height] * 2, dtype=torch.float32)
        boxes = self.boxes.float().cpu().clamp(0, 1) * size
        return PictureRegions(
            image_id, height, width, boxes.numpy(), self.features.float().cpu().numpy(),
            self.object_ids.cpu().numpy(), self.object_conf.float().cpu().numpy(),
            self.attribute_ids.cpu().numpy(), self.attribute_conf.float().cpu().numpy(),
            None if self.probabilities is None else self.probabilities.float().cpu().numpy(),
        )  # fmt: skip


def unlabelled(
    boxes: Float[Tensor, "R 4"],
    features: Float[Tensor, "R F"],
    probabilities: Float[Tensor, "R C"] | None = None,
) -> Found:
    """Regions of which nobody says what they show."""
    none = torch.full((len(boxes),), -1)
    zero = torch.zeros(len(boxes))
    return Found(boxes, features, none, zero, none, zero, probabilities)


@runtime_checkable
class RegionExtractor(Protocol):
    """What finds the regions of pictures."""

    objects: tuple[str, ...]
    attributes: tuple[str, ...]
    provenance: Mapping[str, Any]  # what a store records: extractor, weights' hash, colour order, selection

    def pixels(self, picture: Image.Image) -> Float[Tensor, "3 H W"]:
        """What is read of one RGB picture; called in any thread."""

    def extract(self, pixels: Float[Tensor, "B 3 H W"]) -> list[Found]:
        """The regions of some pictures of one size."""


class GridWindows:
    """The cells of several grids as regions, with the mean of a backbone's map in each.

    Args:
        grid: numbers of rows and columns: (1, 2) is the whole picture and its four quarters.
        short, long: bounds of the picture's sides.
        enlarge: scale a small picture up to these bounds, too: a map needs some pixels a cell.
        probabilities: tell those of the backbone's own classes, after a background of 0; needs its classifier.
    Raises:
        UserError: the classifier does not read the mean of the last map, and so cannot read that of a cell.
    """

    objects: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    def __init__(
        self,
        backbone: Backbone,
        grid: Sequence[int] = (1, 2, 3, 4),
        short: int = 400,
        long: int = 600,
        enlarge: bool = False,
        about: Mapping[str, Any] = {},
        probabilities: bool = False,
    ):
        self.backbone, self.short, self.long, self.enlarge = backbone, short, long, enlarge
        self.probabilities = probabilities
        if probabilities:
            _refuse_other_classifiers(backbone)
            about = {**about, "probabilities": True}
        self.boxes = torch.cat([grid_cells(n) for n in grid])
        self.provenance = {
            "extractor": "grid", "colours": "RGB", "grid": list(grid), "short": short, "long": long,
            "enlarge": enlarge, **about,
        }  # fmt: skip

    def pixels(self, picture: Image.Image) -> Float[Tensor, "3 H W"]:
        """The whole picture in its own shape, scaled and normalised."""
        view = bounded_view(picture, self.short, self.long, self.enlarge)
        return to_pixels(view, self.backbone.mean, self.backbone.std)

    @torch.no_grad()
    def extract(self, pixels: Float[Tensor, "B 3 H W"]) -> list[Found]:
        """Features of all cells.

        Raises:
            UserError: the backbone has no map of features, or takes pictures of one size only.
        """
        device = next(self.backbone.parameters()).device
        try:
            found = region_features(self.backbone, pixels.to(device), [self.boxes] * len(pixels))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, ValueError) as error:
            _, _, height, width = pixels.shape
            raise UserError(
                f"regions.vision: the vision backbone cannot read {width} × {height} pixels ({error}); expected one "
                "that takes any size, such as a ResNet or efficientnet_lite0"
            ) from error
        if self.probabilities and found[0].shape[1] != self.backbone.classifier.in_features:
            _, _, height, width = pixels.shape
            raise UserError(
                f"the last map of {width} × {height} pixels is too small for regions, and the classifier reads no "
                "other; set regions.enlarge, or regions.probabilities to false"
            )
        return [unlabelled(self.boxes, features, self._told(features)) for features in found]

    def _told(self, features: Float[Tensor, "R F"]) -> Float[Tensor, "R C"] | None:
        if not self.probabilities:
            return None
        return pad(self.backbone.classifier(features).softmax(1), (1, 0))


@torch.no_grad()
def _refuse_other_classifiers(backbone: Backbone) -> None:
    """UserError if the classifier reads more than the mean of the last map: a maximum, another layer, a norm."""
    like = next(backbone.parameters())
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, backbone.image_size, backbone.image_size, generator=generator).to(like)
    read, mean = backbone(pixels), backbone.feature_map(pixels).mean((2, 3))
    if read.shape != mean.shape or not torch.allclose(read, mean, atol=1e-4, rtol=1e-3):
        raise UserError(
            f"regions.probabilities: the classifier of the vision backbone reads {read.shape[1]:,} numbers that are "
            f"not the means of the {mean.shape[1]:,} channels of its last map, and so cannot say what a cell shows; "
            "expected one that reads them, such as a ResNet's or efficientnet_lite0's. Else set it to false"
        )


def grid_cells(n: int) -> Float[Tensor, "N 4"]:
    """The cells of a grid of n rows and n columns, relative to the picture, as one reads."""
    edges = torch.linspace(0, 1, n + 1)
    top, left = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    corners = [edges[left], edges[top], edges[left + 1], edges[top + 1]]
    return torch.stack(corners, -1).reshape(-1, 4)
