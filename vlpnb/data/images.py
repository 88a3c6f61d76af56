"""Pictures from disk to RGB, whatever they are stored as.

Real image folders hold truncated downloads, CMYK JPEGs, palette GIFs, 16-bit PNGs and animations. `open_rgb`
returns an RGB picture or raises `BrokenImage`; callers skip, count and list broken pictures
and lose no work. `decoded` does so for many pictures ahead of their reader, in a few threads.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vlpnb.data.listing import Listing, list_folder
from vlpnb.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
# What a picture may be inside, whatever its name says: Pillow knows forty kinds more, and for one (EPS) it starts
# another program on the file's behalf.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MOST_THREADS = 8  # each holds one whole picture: 72 MB of one with 24 megapixels

# Remarks on EXIF or palette details do not concern the pixels. For good, not while one picture is open: the filters
# are the whole process's, and threads that set and restore them would leave each other's behind.
warnings.filterwarnings("ignore", module=r"PIL\.")

T = TypeVar("T")


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
    truncated or foreign file: whatever a decoder raises, memory apart.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise BrokenImage(path, "the file is empty")
        with Image.open(path, formats=_formats()) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except BrokenImage:
        raise
    except FileNotFoundError as error:
        raise BrokenImage(path, "the file does not exist") from error
    except UnidentifiedImageError as error:
        raise BrokenImage(
            path, f"cannot be decoded: no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # each decoder refuses in its own way
        raise BrokenImage(path, f"cannot be decoded ({str(error) or type(error).__name__})") from error


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as `open_rgb` gives it, from its header alone. Raises BrokenImage."""
    path = Path(path)
    try:
        with Image.open(path, formats=_formats()) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return image.size[::-1] if turned else image.size
    except FileNotFoundError as error:
        raise BrokenImage(path, "the file does not exist") from error
    except MemoryError:
        raise
    except Exception as error:  # each decoder refuses in its own way
        raise BrokenImage(path, f"cannot be opened ({str(error) or type(error).__name__})") from error


def none_readable(what: str, images: Sequence[Path], broken: Sequence[Sequence[str]] = ()) -> UserError:
    """For stages that cannot go on without a picture of a split: the first ones, and why."""
    shown = [f"{path} ({why})" for path, why in broken[:3]] or [str(path) for path in images[:3]]
    return UserError(
        f"none of the {len(images):,} pictures of {what} can be read: {', '.join(shown)} …; expected at least one. "
        "Fetch them again, or correct the folder of the pictures in the dataset's configuration."
    )


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def decoding_threads() -> int:
    """Threads that keep a GPU fed: the cores that this process may use, shared with its neighbours under torchrun.

    Not `machine.cores`, which torchrun sets to one: it speaks of arithmetic, of which decoding does none.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, max(1, available // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def decoded(
    paths: Iterable[Path], prepare: Callable[[int, Image.Image], T], threads: int | None = None
) -> Iterator[T | BrokenImage]:
    """`prepare(position, picture)` of every picture, in order; of a broken one the error, as a value.

    Threads decode ahead of the reader, but no further than twice their number; each holds one whole picture, of
    which only what `prepare` returns is kept. `prepare` runs in any thread.
    """

    def work(position: int, path: Path) -> T | BrokenImage:
        try:
            picture = open_rgb(path)
        except BrokenImage as error:
            return error
        return prepare(position, picture)

    threads = threads or decoding_threads()
    waiting: deque[Future[T | BrokenImage]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for position, path in enumerate(paths):
                waiting.append(pool.submit(work, position, path))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def all_decoded(paths: Iterable[Path], prepare: Callable[[int, Image.Image], T]) -> Iterator[T]:
    """`decoded` where every picture is needed: raises the BrokenImage of the first that cannot be decoded."""
    for item in decoded(paths, prepare):
        if isinstance(item, BrokenImage):
            raise item
        yield item


def readable(
    items: Iterable[T], path_of: Callable[[T], Path], what: str, log: Callable[[str], None]
) -> list[T]:
    """What has a picture that can be decoded; the others are named in the log. UserError: nothing has (`what`)."""
    items = list(items)
    paths, kept = [path_of(item) for item in items], []
    for item, broken in zip(items, decoded(paths, lambda position, picture: None), strict=True):
        if broken is None:
            kept.append(item)
        else:
            log(f"left out: {broken}")
    if not kept:
        raise none_readable(what, paths)
    return kept


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


def list_images(folder: Path) -> Listing:
    """The picture files below a folder, sorted by path, and what was left out with its reason.

    UserError for two pictures whose paths differ in the suffix alone: `picture_id` would be the same.
    """
    listing = list_folder(folder)
    files: dict[str, Path] = {}
    left_out = []
    for path in listing.files:
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            left_out.append((path, "no picture by the name"))
            continue
        name = picture_id(path.relative_to(folder))
        if name in files:
            raise UserError(
                f"{files[name]} and {path}: two pictures with the id '{name}'; expected one. Rename or remove one."
            )
        files[name] = path
    return Listing(listing.folder, list(files.values()), [*listing.left_out, *left_out])


def picture_id(path: PurePath | str) -> str:
    """The id of a picture: its path below the folder of pictures, without the suffix."""
    return PurePath(path).with_suffix("").as_posix()
