"""Stage `across.pictures`: which pictures a system finds by sentences and by words, whichever system it is.

Not in the five papers, which each have a retrieval of their own or none. The gallery is the same for all: the first
pictures of a split that have a caption and regions, which two of the systems read; each with its longest caption. Asked
are

* every caption for its picture, and every picture for its caption: rank of the right one;
* every word for a kind of thing ("a banana"): average precision of the pictures that show one, as the scene says; only
  in the visual world.

`pictures.json` holds ranks and precisions, in the same order for all, so that two systems can be compared pair by pair.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field

from vlpnb.across.matchers import MATCHERS, MatcherName, open_matcher
from vlpnb.config import Config, Name, Seed
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import SPLITS, CaptionData, load_captions
from vlpnb.errors import UserError
from vlpnb.files import read_back, write_json
from vlpnb.foundations.regions import load_regions
from vlpnb.metrics.retrieval import RECALL_AT, ranks, recall
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.world.languages.english import NOUNS
from vlpnb.world.writers import load_scenes

FILE = "pictures.json"


class PicturesConfig(Config):
    """Which system finds what."""

    matcher: MatcherName = "vokenization"
    """A key of `across.MATCHERS`."""
    trained_with: Seed | None = None
    """Seed of its training; none: the run's own."""
    split: Name = "test"
    """Split or set of the stage `captions` whose pictures are the gallery."""
    gallery: int = Field(100, ge=2)
    """Its first pictures, at most so many."""


def inputs(config: PicturesConfig) -> Mapping[str, Request]:
    """The model, the captions, and the regions, which say what can be in the gallery of all."""
    captions = Request("captions", {"sets": None} if config.split in SPLITS else {})
    model = MATCHERS[config.matcher].request(config.trained_with)
    return {"model": model, "captions": captions, "regions": Request("regions")}


@dataclass(frozen=True)
class Found:
    """What a system found in the gallery."""

    pictures: tuple[str, ...]
    """The gallery."""
    of_caption: tuple[int, ...]
    """Rank of each caption's picture, best = 1."""
    of_picture: tuple[int, ...]
    """Rank of each picture's caption."""
    words: Mapping[str, float]
    """Kind → average precision of the pictures that show it; of kinds that at least one picture shows, and not all."""
    chance: Mapping[str, float]
    """Kind → share of the pictures that show it, which is what a random order gets for large galleries."""


def average_precision(scores: Float[np.ndarray, " I"], right: Bool[np.ndarray, " I"]) -> float:
    """Mean over the right ones of the precision down to each; of equal scores the first in the gallery comes first.

    UserError where none is right.
    """
    if not right.any():
        raise UserError("no picture of the gallery is right; expected at least one")
    hits = right[np.argsort(-scores, kind="stable")]
    return float((hits.cumsum() / np.arange(1, len(hits) + 1))[hits].mean())


def gallery_of(data: CaptionData, split: str, most: int, regions: Container[str]) -> list[CaptionedImage]:
    """The first pictures of a split that have a caption and are in a store of regions."""
    return [image for image in data.captioned(split) if image.sentences and image.image_id in regions][:most]


def words_shown(data: CaptionData, images: Sequence[CaptionedImage]) -> dict[str, Bool[np.ndarray, " I"]]:
    """Kind → which pictures show one; kinds that no picture shows, or all, are left out. Empty without scenes."""
    if data.scenes is None:
        return {}
    scenes = load_scenes(data.scenes)
    kinds = [{thing.kind for thing in scenes[image.image_id].things} for image in images]
    found = {kind: np.array([kind in shown for shown in kinds]) for kind in sorted(set().union(*kinds))}
    return {kind: right for kind, right in found.items() if not right.all()}


def run(context: StageContext) -> dict[str, float]:
    """Score all pairs; writes `pictures.json`.

    Metrics: `caption_r<k>` (captions find pictures), `picture_r<k>` (pictures find captions), `chance_r<k>`,
    `caption_mrr`; in the visual world `word_precision`, its mean over kinds, and `word_chance`; `pictures`.
    """
    config: PicturesConfig = context.config
    matcher, data = MATCHERS[config.matcher], load_captions(context.inputs["captions"])
    store = load_regions(context.inputs["regions"])
    images = gallery_of(data, config.split, config.gallery, store)
    if len(images) < 2:
        raise UserError(
            f"across.pictures.split: '{config.split}' has {len(images)} captioned pictures with regions; expected two "
            "at least"
        )
    score = open_matcher(config.matcher, context.inputs["model"], context.inputs["regions"], context.device)
    shown = words_shown(data, images)
    captions = [max(image.sentences, key=len) for image in images]
    phrases = [phrase_of(kind) for kind in shown]
    scores = score([*captions, *phrases], images).double()
    own, pairs, asked = torch.arange(len(images)), scores[: len(images)], scores[len(images) :].numpy()
    back = pairs - pairs.mean(1, keepdim=True) if matcher.centred else pairs
    found = Found(
        tuple(image.image_id for image in images),
        tuple(ranks(pairs, own).tolist()),
        tuple(ranks(back.T.contiguous(), own).tolist()),
        {
            kind: average_precision(row, right)
            for row, (kind, right) in zip(asked, shown.items(), strict=True)
        },
        {kind: float(right.mean()) for kind, right in shown.items()},
    )
    write_json(context.folder / FILE, asdict(found))
    rank = torch.tensor(found.of_caption)
    metrics = recall(rank, prefix="caption_r") | recall(torch.tensor(found.of_picture), prefix="picture_r")
    metrics |= {f"chance_r{k}": min(1.0, k / len(images)) for k in RECALL_AT}
    metrics |= {"caption_mrr": float((1 / rank).mean()), "pictures": float(len(images))}
    if shown:
        metrics["word_precision"] = float(np.mean([*found.words.values()]))
        metrics["word_chance"] = float(np.mean([*found.chance.values()]))
    context.log(
        f"{matcher.title}: of {len(images)} pictures R@1 {metrics['caption_r1']:.3f}, R@10 {metrics['caption_r10']:.3f}"
        + (f", words {metrics['word_precision']:.3f}" if shown else "")
    )
    return metrics


def phrase_of(kind: str) -> str:
    """How a picture of a kind is asked for: "a banana"."""
    one = NOUNS[kind][0][0]
    return f"{'an' if one[0] in 'aeiou' else 'a'} {one}"


def open_found(folder: Path) -> Found:
    """What a finished stage `across.pictures` found."""
    content = read_back(Path(folder) / FILE)
    return Found(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    )


PICTURES = Stage(
    "across.pictures", PicturesConfig, run, inputs, variant=("matcher", "trained_with"),
    doc="Find pictures by captions and words, with any system.",
)  # fmt: skip
