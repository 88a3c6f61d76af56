"""Parts of a data set by the hashes of ids: the same ones in every process, however the files are sorted.

The original's `tiny` and `fast` take the first pictures of each file of features (LXM-14), which leaves out whole sets;
a part by hash is a fair sample of every split, and a smaller one is inside a larger.
"""

import hashlib
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TypeVar

T = TypeVar("T")


def hashed(name: str) -> int:
    """A number from 0 to 2^64 that only the name decides."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def limit_images(
    items: Iterable[T], limit: int | None, image_of: Callable[[T], str] = attrgetter("image_id")
) -> list[T]:
    """The items, in order, whose picture is among the `limit` with the smallest hashes; all of them for None.

    Call it per split: every item of a picture that is kept stays.
    """
    items = list(items)
    if limit is None:
        return items
    images = sorted({image_of(item) for item in items}, key=lambda name: (hashed(name), name))
    kept = set(images[:limit])
    return [item for item in items if image_of(item) in kept]


def held_out(name: str, share: float) -> bool:
    """Whether a name falls into the part of about this share that is held out."""
    return hashed(name) < share * 2**64
