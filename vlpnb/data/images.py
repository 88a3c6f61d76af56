"""Pictures from disk to RGB, whatever they are stored as.

Real image folders hold truncated downloads, CMYK JPEGs, palette GIFs, 16-bit PNGs and animations. `open_rgb`
returns an RGB picture or raises `BrokenImage`; callers skip, count and list broken pictures
and lose no work.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vlpnb.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


class BrokenImage(UserError):
    """A picture that cannot be decoded. `path` names the file."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path}: {reason}. Expected a complete picture; fetch it again or remove it.")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self):  # keeps both arguments when a data-loading worker sends the error to its parent
        return BrokenImage, (self.path, self.reason)


def open_rgb(path: Path) -> Image.Image:
    """Decode one picture completely and return it as 8-bit RGB, upright, first frame if animated.

    16-bit grey is scaled to 8 bits (a plain conversion would clip it to white); transparency is laid on
    white; CMYK goes through Pillow's conversion. Raises BrokenImage (a UserError) for a missing, empty,
    truncated or foreign file.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise BrokenImage(path, "the file is empty")
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # remarks on EXIF or palette details do not concern the pixels
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except BrokenImage:
        raise
    except FileNotFoundError as error:
        raise BrokenImage(path, "the file does not exist") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise BrokenImage(path, f"cannot be decoded ({error})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image if type(image) is Image.Image else image.copy()
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float32)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        return Image.fromarray((values.clip(0, top) * (255.0 / top)).round().astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def list_images(folder: Path) -> list[Path]:
    """Picture files below a folder, sorted by path; other files are passed over."""
    return sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
