"""Regions of a picture of patches: which patches they see, what their vector is, how a cropped picture gives them.

Paper: CCLM's 4M variant takes over X-VLM's supervision by boxes (Zeng et al., ACL 2023, section 4.1; X-VLM, ICML 2022,
sections 3.2 and 3.3): the picture is encoded once; a region is the mean of its patches, and a text about it may look at
these patches alone. Differs from the original, each with a switch that brings its way back:

* a picture is mirrored only where no text of it says left or right; the original looks for the words among the names
  of the languages, and so always mirrors (CCL-12, `Faithful.mirrors_always`),
* the whole attribute stands before the text, not its first character (CCL-13, `Faithful.first_character`).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.data.region_text import Box, RegionPicture
from vlpnb.errors import UserError

MOST = 5  # texts of one picture
KEPT = 0.5  # more than this share of an element's area must be left after the crop
WHOLE_BOX = (0.5, 0.5, 1.0, 1.0)
# left and right in the world's languages and those of the original's data
SIDES = re.compile(
    r"\b(left|right|link\w*|recht\w*|gauche|droite|kiri|kanan|lev\w+|prav\w+|vlevo|vpravo)\b|左|右",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Faithful:
    """What the original does otherwise when it makes region texts; all off."""

    mirrors_always: bool = False
    first_character: bool = False


class Entry(NamedTuple):
    """One text of a region batch, about the whole picture or a box in the cropped and resized one."""

    text: str
    language: str
    box: tuple[float, float, float, float]  # (cx, cy, w, h), shares of the side
    patch_mask: np.ndarray  # [1 + P] bool: the mean first, which is always seen
    whole: bool


def patch_mask(box: Box, size: float, grid: int) -> Bool[np.ndarray, " P1"]:
    """Which patches a box sees: those that it touches, one at least; the mean, at index 0, always.

    Args:
        box: (x, y, width, height) in pixels of the resized picture.
        size: pixels of a side of that picture.
        grid: patches of a side.
    """
    x, y, width, height = box
    columns, rows = (_cells(start, extent, size / grid, grid) for start, extent in ((x, width), (y, height)))
    seen = np.zeros((grid, grid), dtype=bool)
    seen[rows, columns] = True
    return np.concatenate([[True], seen.ravel()])


def _cells(start: float, extent: float, cell: float, grid: int) -> slice:
    first = min(max(math.floor(start / cell), 0), grid - 1)
    last = max(math.ceil((start + extent) / cell), first + 1)
    return slice(first, min(last, grid))


def masked_mean(patches: Float[Tensor, "B P D"], mask: Bool[Tensor, "B P"]) -> Float[Tensor, "B D"]:
    """The mean of the patches that are seen; one at least is taken to be."""
    weights = mask.to(patches.dtype)[..., None]
    return (patches * weights).sum(1) / weights.sum(1).clamp_min(1)


def region_views(
    views: Float[Tensor, "G P1 D"], group: Int[Tensor, " B"], patch_mask: Bool[Tensor, "B P1"]
) -> Float[Tensor, "B P1 D"]:
    """The view of each text: the mean of the patches that it may see, then all patches of its picture.

    Which of them are seen is for the mask of the attention, which is `patch_mask` itself.
    """
    patches = views[:, 1:].index_select(0, group)  # (B, P, D)
    return torch.cat([masked_mean(patches, patch_mask[:, 1:])[:, None], patches], 1)


def draw_crop(box: Box, width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A random crop (left, top, right, bottom) between a box and the border of its picture, in whole pixels."""
    x, y, w, h = box
    left, top = (int(rng.integers(0, max(math.floor(start), 0) + 1)) for start in (x, y))
    right, bottom = (
        int(rng.integers(min(math.ceil(end), side), side + 1))
        for end, side in ((x + w, width), (y + h, height))
    )
    return left, top, max(right, left + 1), max(bottom, top + 1)


def says_side(captions: Sequence[Mapping[str, str]], faithful: bool = False) -> bool:
    """Whether a text names a side, so that its picture must not be mirrored.

    `faithful`: the names of the languages are looked at in place of the texts (CCL-12).
    """
    texts = (text for caption in captions for text in (caption.keys() if faithful else caption.values()))
    return any(SIDES.search(text) for text in texts)


def placed(
    box: Box, crop: tuple[int, int, int, int], flip: bool
) -> tuple[tuple[float, float, float, float], float]:
    """Where a box lies in the cropped, then mirrored picture: (left, top, width, height) as shares of its sides.

    Clipped to the crop; the second number is the share of the box's area that is left.
    """
    x, y, w, h = box
    left, top, right, bottom = crop
    width, height = right - left, bottom - top
    start, end = max(x, left), min(x + w, right)
    above, below = max(y, top), min(y + h, bottom)
    if end <= start or below <= above or w <= 0 or h <= 0:
        return (0.0, 0.0, 0.0, 0.0), 0.0
    share = (end - start) * (below - above) / (w * h)
    start = right - end if flip else start - left
    return (
        start / width,
        (above - top) / height,
        (end - max(x, left)) / width,
        (below - above) / height,
    ), share


def region_entries(
    picture: RegionPicture,
    crop: tuple[int, int, int, int],
    flip: bool,
    order: Sequence[int],
    size: int,
    grid: int,
) -> list[tuple[int, tuple[float, float, float, float], np.ndarray]]:
    """The entries of a cropped, mirrored and resized picture: (element or −1 for the whole, box, patch mask).

    The whole-picture caption comes first where there is one; then the elements in `order` of which more than half is
    left, clipped; five at most in all.
    """
    found = [(-1, WHOLE_BOX, np.ones(grid * grid + 1, dtype=bool))] if picture.captions else []
    for element in order:
        if len(found) >= MOST:
            break
        (x, y, w, h), share = placed(picture.regions[element].box, crop, flip)
        if share > KEPT:
            pixels = (x * size, y * size, w * size, h * size)
            found.append((element, (x + w / 2, y + h / 2, w, h), patch_mask(pixels, size, grid)))
    return found


def region_text(
    caption: Mapping[str, str],
    attributes: Mapping[str, str],
    languages: Sequence[str],
    rng: np.random.Generator,
    code_switch: bool = False,
    faithful: bool = False,
) -> tuple[str, str]:
    """A text about a region, and its language: the attribute, if there is one, then the caption, in a random language.

    Args:
        languages: those to draw from; a language without a caption is passed over.
        code_switch: the attribute's language is drawn on its own.
        faithful: with `code_switch` one character of the attribute is taken (CCL-13).
    Raises:
        UserError: no caption in any of the languages.
    """
    known = [language for language in languages if caption.get(language)]
    if not known:
        raise UserError(
            f"a region's caption is in {', '.join(caption) or 'no language'}; expected one of {', '.join(languages)}"
        )
    language = known[int(rng.integers(len(known)))]
    said = [name for name in languages if attributes.get(name)]
    if code_switch and said:
        attribute = attributes[said[int(rng.integers(len(said)))]]
        attribute = attribute[:1] if faithful else attribute
    else:
        attribute = attributes.get(language, "")
    return f"{attribute} {caption[language]}".strip(), language


def sample_regions(
    picture: RegionPicture,
    rng: np.random.Generator,
    languages: Sequence[str],
    size: int,
    grid: int,
    crop: bool = True,
    code_switch: bool = False,
    faithful: Faithful = Faithful(),
) -> tuple[tuple[int, int, int, int], bool, list[Entry]]:
    """What one picture gives to a region batch: the crop, whether it is mirrored, and its texts.

    Args:
        size, grid: pixels and patches of a side of the resized picture.
        crop: False for patches that were computed once: the whole picture, not mirrored.
    """
    frame, flip = (0, 0, picture.width, picture.height), False
    if crop:
        chosen = picture.regions[int(rng.integers(len(picture.regions)))]
        frame = draw_crop(chosen.box, picture.width, picture.height, rng)
        texts = [*picture.captions, *(region.captions for region in picture.regions)]
        flip = not says_side(texts, faithful.mirrors_always) and rng.random() < 0.5
    order = rng.permutation(len(picture.regions)).tolist()
    entries = []
    for element, box, mask in region_entries(picture, frame, flip, order, size, grid):
        if element < 0:
            caption, attributes = picture.captions[int(rng.integers(len(picture.captions)))], {}
        else:
            caption, attributes = picture.regions[element].captions, picture.regions[element].attributes
        if not any(caption.get(language) for language in languages):
            continue
        text = region_text(caption, attributes, languages, rng, code_switch, faithful.first_character)
        entries.append(Entry(*text, box, mask, element < 0))
    return frame, flip, entries


def fill(count: int, wanted: int, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """Which of `count` texts make a batch of `wanted`: a random part of them in order, or all and random repeats.

    UserError where there is none.
    """
    if not count:
        raise UserError("a batch of regions has no text in the languages trained; expected one at least")
    if count >= wanted:
        return np.sort(rng.permutation(count)[:wanted])
    return np.concatenate([np.arange(count), rng.integers(count, size=wanted - count)])
