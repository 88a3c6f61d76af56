"""A training that dies in the middle, to see that it goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def dying_at(batches: type, update: int) -> Iterator[None]:
    """What runs inside is interrupted where it asks such batches for this update, and must be."""
    whole = batches.__call__

    def dies(self, number: int):
        if number == update:
            raise KeyboardInterrupt
        return whole(self, number)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batches, "__call__", dies)
        with pytest.raises(KeyboardInterrupt):
            yield
