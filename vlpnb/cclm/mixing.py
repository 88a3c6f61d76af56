"""What an update of CCLM's pre-training sees: captions or regions, and beside them parallel text.

Paper: Zeng et al., "Cross-View Language Modeling" (ACL 2023), sections 3 and 4; the 4M recipe throws a fair coin for
captions or regions. Differs from the original: parallel text is part of every update, where it has one of its own
(CCL-44); the coin is a function of (seed, update), so that processes cannot disagree and a resumed run goes on as it
would have (CCL-45).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vlpnb.cclm.batches import ImageText, Parallel, Reading, Regions
from vlpnb.errors import UserError
from vlpnb.foundations.multilingual import Multilingual
from vlpnb.foundations.picture_store import PatchStore
from vlpnb.foundations.region_text import RegionText
from vlpnb.text.pieces import Pieces
from vlpnb.train.sampling import Update

if TYPE_CHECKING:
    from vlpnb.cclm.pretraining import PretrainingConfig


class Batches:
    """Update number → its batch: captions or, by a coin that all processes throw alike, regions; and parallel text."""

    def __init__(
        self,
        config: "PretrainingConfig",
        captions: ImageText,
        regions: Regions | None,
        parallel: Parallel | None,
    ):
        self.captions, self.regions, self.parallel = captions, regions, parallel
        self.losses, self.rate, self.seed = config.losses, config.region_rate, config.seed
        self.identities = not config.original.no_identities

    def shows_regions(self, update: int) -> bool:
        """Whether an update sees regions in place of captions (CCL-45)."""
        return (
            self.regions is not None
            and np.random.default_rng([self.seed, update, 0xC01]).random() < self.rate
        )

    def __call__(self, update: int) -> Update:
        shown = self.regions(update) if self.shows_regions(update) else self.captions(update)
        batch, counts, tokens = dict(shown.batch), dict(shown.counts), shown.tokens
        if self.parallel is not None:
            other = self.parallel(update)
            batch |= {f"parallel_{name}": value for name, value in other.batch.items()}
            counts |= other.counts
            tokens += other.tokens
        if not self.identities:
            batch = {name: value for name, value in batch.items() if not name.endswith("identity")}
        # All updates name the same losses: those that one does not ask for have no target and are 0.
        return Update([batch], {name: counts.get(name, 0) for name in self.losses}, tokens)

    @property
    def counts(self) -> dict[str, float]:
        """How much there is to learn from."""
        pairs = 0 if self.parallel is None else len(self.parallel)
        return {"pictures": float(len(self.captions)), "parallel_pairs": float(pairs)}

    @property
    def told(self) -> str:
        """What stands beside the captions, in words."""
        text = "no parallel text" if self.parallel is None else f"{len(self.parallel):,} pairs of sentences"
        return text + ("" if self.regions is None else f", regions in {self.rate:.0%} of the updates")


def spoken(
    wanted: tuple[str, ...], there: tuple[str, ...], withheld: tuple[str, ...], field: str
) -> tuple[str, ...]:
    """The languages that are trained on. UserError names one that the data does not have."""
    for name in (*wanted, *withheld):
        if name not in there:
            raise UserError(
                f"cclm.pretraining.{field if name in wanted else 'withheld'}: found {name!r}; the data has "
                f"{', '.join(there) or 'no language'} there"
            )
    return tuple(name for name in wanted or there if name not in withheld)


def batches_of(
    config: "PretrainingConfig",
    data: Multilingual,
    boxes: RegionText | None,
    pieces: Pieces,
    store: PatchStore,
    rank: int = 0,
    world_size: int = 1,
) -> Batches:
    """What is trained on. UserError names a language that the data does not have."""
    pictures = [picture for picture in data.pictures("train") if picture.id in store]
    there = tuple(sorted({name for picture in pictures for name in picture.captions}))
    languages = spoken(config.pictures_in, there, config.withheld, "pictures_in")
    reading = Reading(
        pieces, config.max_words, config.max_tokens, config.mask_rate, config.max_masks, config.fused, config.seed,
        rank, world_size,
    )  # fmt: skip
    captions = ImageText(pictures, store, reading, languages, batch=min(config.batch, len(pictures)))
    regions, parallel = None, None
    if boxes is not None:
        regions = Regions(
            boxes, store, reading, languages, batch=config.batch, pictures=config.region_pictures
        )
    if "ttc" in config.losses:
        text = data.parallel("train")
        heard = spoken(config.languages, text.languages, config.withheld, "languages")
        longer = replace(
            reading, max_words=config.parallel_max_words, max_tokens=config.parallel_max_tokens,
            most=config.parallel_max_masks,
        )  # fmt: skip
        parallel = Parallel(text, longer, heard, batch=config.parallel_batch or config.batch)
    return Batches(config, captions, regions, parallel)
