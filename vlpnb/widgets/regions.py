"""Regions on a picture: boxes, checked and drawn; what the region explorer and the caption stepper share."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from vlpnb.errors import UserError

SIDE = 640  # longer side of the picture that is sent, in pixels
BOX, TAG = (230, 159, 0), (0, 0, 0)


def checked_boxes(boxes: np.ndarray) -> np.ndarray:
    """(R, 4), inside the picture; what rounding puts outside is moved to the edge."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise UserError(f"boxes has shape {boxes.shape}; expected (R, 4), one row or more")
    inside = ((boxes >= -1e-3) & (boxes <= 1 + 1e-3)).all(1) & (boxes[:, :2] < boxes[:, 2:]).all(1)
    if not inside.all():
        first = int(np.flatnonzero(~inside)[0])
        raise UserError(
            f"boxes[{first}] = {np.round(boxes[first], 3).tolist()}: expected left < right, top < bottom, all in "
            "[0, 1]; divide pixels by the picture's width and height"
        )
    return boxes.clip(0, 1).astype(float)


def with_boxes(picture: Image.Image, boxes: Sequence[Sequence[float]]) -> Image.Image:
    """The picture with numbered boxes, large enough that the numbers can be read."""
    scale = max(1.0, SIDE / max(picture.size))
    drawn = picture.convert("RGB").resize((round(picture.width * scale), round(picture.height * scale)))
    pen = ImageDraw.Draw(drawn)
    for number, (left, top, right, bottom) in enumerate(boxes, 1):
        corners = (left * drawn.width, top * drawn.height, right * drawn.width, bottom * drawn.height)
        pen.rectangle(corners, outline=BOX, width=3)
        pen.rectangle(pen.textbbox(corners[:2], str(number), font_size=18), fill=TAG)
        pen.text(corners[:2], str(number), fill="white", font_size=18)
    return drawn
