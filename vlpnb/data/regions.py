"""The regions of one picture, as every reader and extractor of them gives them: boxes, features, guessed classes.

Region models (LXMERT, section 2.1) see a picture as a few boxes of a detector, each with a vector, a kind of object and
an attribute such as a colour. What comes from a file is checked here, whatever the file's format.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vlpnb.errors import UserError

OUTSIDE = 1e-5  # how far a box may lie outside of its picture, relative to it: the original's bound
MOST_CLASSES = 2**15  # what int16 holds
TOTAL = 0.02  # how far from 1 probabilities may sum: some thousand numbers in half precision


@dataclass(frozen=True, eq=False)
class PictureRegions:
    """The regions of one picture of `height × width` pixels; class −1 is none, with confidence 0."""

    image_id: str
    height: int
    width: int
    boxes: Float[np.ndarray, "R 4"]  # float32: left, top, right, bottom in pixels
    features: Float[np.ndarray, "R F"]  # float32
    object_ids: Int[np.ndarray, " R"]  # int64
    object_conf: Float[np.ndarray, " R"]  # float32
    attribute_ids: Int[np.ndarray, " R"]
    attribute_conf: Float[np.ndarray, " R"]
    probabilities: Float[np.ndarray, "R C"] | None = (
        None  # float32: of the background, then of every object class
    )

    def __len__(self) -> int:
        return len(self.boxes)

    def relative_boxes(self) -> Float[np.ndarray, "R 4"]:
        """The boxes relative to the picture, float32, in [0, 1]."""
        size = np.array([self.width, self.height] * 2, np.float32)
        return (self.boxes.astype(np.float32) / size).clip(0, 1)


def without_classes(
    image_id: str, height: int, width: int, boxes: np.ndarray, features: np.ndarray
) -> PictureRegions:
    """Regions of which nobody guessed what they show."""
    none, zero = np.full(len(boxes), -1, np.int64), np.zeros(len(boxes), np.float32)
    return PictureRegions(image_id, height, width, boxes, features, none, zero, none, zero)


def checked(
    regions: PictureRegions, where: str, objects: int | None = None, attributes: int | None = None
) -> PictureRegions:
    """The regions themselves, if they can be stored.

    Args:
        where: file and line, or picture, for the message.
        objects, attributes: how many classes there are, where it is known.
    Raises:
        UserError: features that are not finite (also in half precision), a box that lies outside of the picture or
            is turned inside out, a class that does not exist, a confidence outside of [0, 1], probabilities that are
            none or of another number of classes.
    """
    if regions.height < 1 or regions.width < 1:
        raise UserError(
            f"{where}: the picture has {regions.width} × {regions.height} pixels; expected at least one"
        )
    _check_features(regions.features, where)
    _check_boxes(regions, where)
    for kind, ids, conf, known in (
        ("object", regions.object_ids, regions.object_conf, objects),
        ("attribute", regions.attribute_ids, regions.attribute_conf, attributes),
    ):
        most = MOST_CLASSES if known is None else known
        wrong = (ids < -1) | (ids >= most)
        if wrong.any():
            at = int(wrong.argmax())
            raise UserError(
                f"{where}: region {at} has the {kind} class {ids[at]}; expected −1 (none) to {most - 1}"
            )
        wrong = ~((conf >= 0) & (conf <= 1 + OUTSIDE))
        if wrong.any():
            at = int(wrong.argmax())
            raise UserError(f"{where}: region {at} has the {kind} confidence {conf[at]}; expected 0 to 1")
    if regions.probabilities is not None:
        _check_probabilities(regions.probabilities, where, objects)
    return regions


def _check_features(features: np.ndarray, where: str) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(features.sum(dtype=np.float64)) and np.abs(features).max(initial=0) < 65504:
            return
        wrong = ~np.isfinite(features.astype(np.float16))
    if wrong.any():
        region, place = np.unravel_index(int(wrong.argmax()), wrong.shape)
        raise UserError(
            f"{where}: number {place} of the feature of region {region} is {features[region, place]}; expected a "
            "finite number that half precision holds. What made it is damaged: make or fetch it again"
        )


def _check_probabilities(values: np.ndarray, where: str, objects: int | None) -> None:
    if objects is not None and values.shape[1] != 1 + objects:
        raise UserError(
            f"{where}: probabilities of {values.shape[1]:,} classes; expected {1 + objects:,}: the background and "
            f"{objects:,} kinds of objects"
        )
    with np.errstate(invalid="ignore", over="ignore"):
        totals = values.sum(1, dtype=np.float64)
        wrong = ~((values >= 0).all(1) & (np.abs(totals - 1) <= TOTAL))
    if wrong.any():
        at = int(wrong.argmax())
        raise UserError(
            f"{where}: the probabilities of region {at} go from {values[at].min():g} to {values[at].max():g} and "
            f"sum to {totals[at]:g}; expected numbers of 0 or more that sum to 1. What made them is damaged: make or "
            "fetch it again"
        )


def _check_boxes(regions: PictureRegions, where: str) -> None:
    boxes = regions.boxes
    if not len(boxes):
        return
    size = np.array([regions.width, regions.height] * 2, np.float32)
    relative = boxes / size
    inside = np.isfinite(boxes).all(1) & (relative >= -OUTSIDE).all(1) & (relative <= 1 + OUTSIDE).all(1)
    right = inside & (boxes[:, 2] >= boxes[:, 0]) & (boxes[:, 3] >= boxes[:, 1])
    if not right.all():
        at = int((~right).argmax())
        found = ", ".join(f"{value:g}" for value in boxes[at])
        wanted = "left ≤ right and top ≤ bottom" if inside[at] else "a box inside the picture"
        raise UserError(
            f"{where}: region {at} has the box ({found}) in a picture of {regions.width} × {regions.height} pixels; "
            f"expected {wanted}"
        )


def one_width(regions: Sequence[PictureRegions]) -> None:
    """UserError if the features of some pictures differ in width, or their probabilities in the number of classes."""
    full = [(widths_of(item), item.image_id) for item in regions if len(item)]
    refuse_widths(dict(full))


def widths_of(regions: PictureRegions) -> tuple[int, int]:
    """The width of the features, and of how many classes there are probabilities."""
    classes = regions.probabilities.shape[1] if regions.probabilities is not None else 0
    return regions.features.shape[1], classes


def refuse_widths(found: Mapping[tuple[int, int], str]) -> None:
    """UserError for more than one pair of `widths_of`; `found` has the name of a picture with each."""
    for i, what in (
        (0, "features have different widths"),
        (1, "numbers of classes with probabilities differ"),
    ):
        names = {widths[i]: name for widths, name in reversed(found.items())}
        if len(names) > 1:
            shown = " and ".join(f"{width} ({name})" for width, name in reversed(names.items()))
            raise UserError(f"{what}: {shown}; expected one number for all pictures")
