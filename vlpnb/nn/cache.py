"""Keys and values that were computed before: what makes writing a text word by word cheap.

A word that is written later looks back at the words before it, and these never look forward. Their keys and values
stay what they are, so that a new word costs its own projections and one look at what is kept. (The original code of VLP
keeps the *inputs* of the layers, projects the whole past again at every step, and copies the picture for every beam.)

What is kept lies in two parts:

| part | shape | belongs to |
|---|---|---|
| the prefix (a picture, a prompt) | (B, H, P, d) | all rows of one picture: its beams, samples, captions |
| what was written after it | (N, H, S, d) | one row each; the N / B rows of a picture lie side by side |

The prefix is kept once a picture and never copied: `Attention` lets all rows of a picture look at it in one product.
Only the written part is reordered when beams change places. Gradients flow through all of it.

    cache = Cache(layers)
    encoder.encode(x, mask, cache=cache)  # the prefix, B rows
    cache.share()
    encoder.encode(words, cache.mask(own, N), cache=cache)  # N rows, a multiple of B
    cache.reorder(parents)
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.errors import UserError


class LayerCache:
    """What one attention layer keeps: `prefix` and `written`, keys and values each, or None while there are none."""

    def __init__(self, prefix: tuple[Tensor, Tensor] | None = None):
        self.prefix = prefix  # keys and values (B, H, P, d)
        self.written: tuple[Tensor, Tensor] | None = None  # keys and values (N, H, S, d)

    def extend(
        self, keys: Float[Tensor, "N H T d"], values: Float[Tensor, "N H T d"]
    ) -> tuple[Float[Tensor, "N H S d"], Float[Tensor, "N H S d"]]:
        """Keep the keys and values of new positions; returns those of all written positions, the new ones last."""
        if self.written is not None:
            keys, values = (torch.cat(pair, dim=2) for pair in zip(self.written, (keys, values), strict=True))
        self.written = keys, values
        return keys, values


class Cache:
    """One `LayerCache` for each of `layers` blocks, which move together."""

    def __init__(self, layers: int):
        self.layers = [LayerCache() for _ in range(layers)]
        self.seen: Bool[Tensor, "B P"] | None = None
        """Positions of the prefix that exist; None: all do."""

    @property
    def length(self) -> int:
        """S, the positions written so far, the prefix left out."""
        written = self.layers[0].written
        return 0 if written is None else written[0].shape[2]

    @property
    def pictures(self) -> int:
        """B, the number of prefixes; 0 before `share`."""
        return self._prefix_shape[0]

    @property
    def width(self) -> int:
        """P, the length of the prefix; 0 before `share`."""
        return self._prefix_shape[2]

    @property
    def _prefix_shape(self) -> tuple[int, ...]:
        prefix = self.layers[0].prefix
        return (0, 0, 0, 0) if prefix is None else tuple(prefix[0].shape)

    def share(self, seen: Bool[Tensor, "B P"] | None = None) -> None:
        """Make all that was written the prefix, which the rows of a picture share from now on.

        Args:
            seen: False at positions of the prefix that do not exist (padding); nobody looks at them.
        """
        for layer in self.layers:
            layer.prefix, layer.written = layer.written, None
        self.seen = seen

    def fork(self) -> "Cache":
        """A cache with the same prefix (not a copy) and nothing written: for another text on the same pictures."""
        other = Cache(0)
        other.layers = [LayerCache(layer.prefix) for layer in self.layers]
        other.seen = self.seen
        return other

    def mask(self, own: Bool[Tensor, "#N 1 T S"], rows: int) -> Bool[Tensor, "#N 1 T PS"]:
        """A mask over prefix and written positions for `rows` rows, from one over the latter.

        Everybody sees all of the prefix that exists.
        """
        if self.seen is None:
            return torch.cat([own.new_ones(*own.shape[:3], self.width), own], dim=-1)
        seen = repeat(self.seen, "b p -> (b k) 1 t p", k=rows // self.pictures, t=own.shape[2])
        return torch.cat([seen, own.expand(rows, -1, -1, -1)], dim=-1)

    def reorder(self, rows: Int[Tensor, " N"]) -> None:
        """Row i of what is written becomes a copy of the present row `rows[i]`, which may be of the same picture only.

        The number of rows may change: a picture's one row becomes its K beams.
        """
        for layer in self.layers:
            if layer.written is not None:
                layer.written = tuple(part.index_select(0, rows) for part in layer.written)

    def drop(self, count: int) -> None:
        """Forget the last `count` written positions, such as a [MASK] that was only asked."""
        for layer in self.layers:
            keys, values = layer.written
            left = keys.shape[2] - count
            layer.written = (keys[:, :, :left], values[:, :, :left]) if left else None


def scores_of(
    q: Float[Tensor, "N H T d"],
    keys: Float[Tensor, "N H S d"],
    prefix: Float[Tensor, "B H P d"] | None = None,
) -> Float[Tensor, "N H T PS"]:
    """Products of queries with the keys of their picture's prefix and with those of their own row, side by side.

    The queries of all rows of a picture are put together for the prefix: it is read once a picture and exists once.

    Raises:
        UserError: the rows cannot be shared out evenly among the prefixes.
    """
    own = q @ keys.transpose(-1, -2)
    if prefix is None:
        return own
    if q.shape[0] % prefix.shape[0]:
        raise UserError(f"{q.shape[0]} rows do not share {prefix.shape[0]} prefixes evenly")
    together = rearrange(q, "(b k) h t d -> b h (k t) d", b=prefix.shape[0])
    to_prefix = rearrange(together @ prefix.transpose(-1, -2), "b h (k t) p -> (b k) h t p", t=q.shape[2])
    return torch.cat([to_prefix, own], dim=-1)


def mix(
    attention: Float[Tensor, "N H T PS"],
    values: Float[Tensor, "N H S d"],
    prefix: Float[Tensor, "B H P d"] | None = None,
) -> Float[Tensor, "N H T d"]:
    """Values of the prefix and of the own row, weighed by attention as `scores_of` orders it."""
    if prefix is None:
        return attention @ values
    to_prefix, own = attention.split([prefix.shape[2], values.shape[2]], dim=-1)
    together = rearrange(to_prefix, "(b k) h t p -> b h (k t) p", b=prefix.shape[0])
    mixed = rearrange(together @ prefix, "b h (k t) d -> (b k) h t d", t=attention.shape[2])
    return mixed + own @ values
