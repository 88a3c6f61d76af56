"""COCO's instances: boxes of objects in pictures, with their kinds, and in the world with attributes.

The world writes them as Visual Genome would describe its things: `attributes` is a list of names per object, which COCO
does not have.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vlpnb.data.fields import (
    as_list,
    as_number,
    id_field,
    list_field,
    number_field,
    one_line,
    text_field,
    unknown_id,
)
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError


@dataclass(frozen=True, eq=False)
class AnnotatedPicture:
    """The objects of one picture."""

    path: Path
    boxes: Float[np.ndarray, "K 4"]  # float32: left, top, right, bottom, relative to the picture
    kinds: tuple[str, ...]
    attributes: tuple[tuple[str, ...], ...]  # of each object; empty where the file has none


@dataclass(frozen=True)
class Instances:
    """The pictures of a file in its order, and its kinds in theirs; crowds and empty boxes are left out."""

    kinds: tuple[str, ...]
    pictures: tuple[AnnotatedPicture, ...]

    def attribute_groups(self) -> tuple[tuple[str, ...], ...]:
        """The names at each place of the attribute lists, sorted: group 0 is the first attribute of every object."""
        lists = [names for picture in self.pictures for names in picture.attributes]
        most = max(map(len, lists), default=0)
        return tuple(tuple(sorted({names[i] for names in lists if len(names) > i})) for i in range(most))


def read_instances(path: Path, images: Path) -> Instances:
    """Read one file of COCO's instances.

    Args:
        images: the folder of the pictures.
    Raises:
        UserError: names the file and the annotation with a missing field, an unknown picture or kind, or a box that
            does not lie in its picture.
    """
    data, name = read_json(path, "COCO instances"), str(path)
    kinds = {}
    for i, item in enumerate(list_field(data, "categories", name)):
        where = f"{name}: categories[{i}]"
        kinds[id_field(item, "id", where)] = one_line(text_field(item, "name", where), f"{where}.name")
    pictures: dict[int | str, tuple[Path, float, float]] = {}
    for i, item in enumerate(list_field(data, "images", name)):
        where = f"{name}: images[{i}]"
        file = one_line(text_field(item, "file_name", where), f"{where}.file_name")
        width, height = number_field(item, "width", where), number_field(item, "height", where)
        pictures[id_field(item, "id", where)] = (images / file, width, height)
    found: dict[int | str, list[tuple[list[float], str, tuple[str, ...]]]] = {key: [] for key in pictures}
    for i, item in enumerate(list_field(data, "annotations", name)):
        where = f"{name}: annotations[{i}]"
        picture, kind = id_field(item, "image_id", where), id_field(item, "category_id", where)
        if picture not in pictures:
            raise UserError(f"{where}.image_id: {unknown_id(picture, pictures, 'the images of this file')}")
        if kind not in kinds:
            raise UserError(f"{where}.category_id: {unknown_id(kind, kinds, 'the categories of this file')}")
        box = [as_number(v, f"{where}.bbox") for v in as_list(item.get("bbox"), f"{where}.bbox")]
        if len(box) != 4:
            raise UserError(f"{where}.bbox: {len(box)} numbers; expected left, top, width and height")
        if item.get("iscrowd") or box[2] <= 0 or box[3] <= 0:
            continue
        given = as_list(item.get("attributes", []), f"{where}.attributes")
        names = tuple(one_line(v, f"{where}.attributes") for v in given)
        _, width, height = pictures[picture]
        edges = [
            box[0] / width,
            box[1] / height,
            (box[0] + box[2]) / width,
            (box[1] + box[3]) / height,
        ]
        if min(edges) < -0.01 or max(edges) > 1.01:
            raise UserError(
                f"{where}.bbox: {box} does not lie in the picture of {width:g} × {height:g} pixels"
            )
        found[picture].append((edges, kinds[kind], names))
    rows = (
        AnnotatedPicture(
            pictures[key][0],
            np.array([edges for edges, _, _ in things], np.float32).reshape(-1, 4).clip(0, 1),
            tuple(kind for _, kind, _ in things),
            tuple(names for _, _, names in things),
        )
        for key, things in found.items()
    )
    return Instances(tuple(kinds.values()), tuple(rows))
