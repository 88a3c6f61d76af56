"""An epoch of matcher training over cached features, beside running both backbones again.

The peer is the original's way: frozen backbones are computed for every batch of every epoch. Both take the same
captions, views and weights in the same order, so the losses must be the same, but for the cache's half precision.
Pictures are decoded and cropped beforehand for both, which favours the peer.
"""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import inputs
from benchmarks.image_keys import network
from benchmarks.measure import Row, agree, compare
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.images import open_rgb
from vlpnb.foundations.feature_store import FeatureStore
from vlpnb.foundations.features import FeaturesConfig, cache_split
from vlpnb.nn.losses import paired_hinge
from vlpnb.text.backbones import LanguageBackbone
from vlpnb.train.sampling import seed_of
from vlpnb.vision.backbones import Backbone
from vlpnb.vokenization.matcher import Matcher, MatchingConfig, MatchingLoss, Projection
from vlpnb.vokenization.matching import CaptionBatches
from vlpnb.world.grammar import caption
from vlpnb.world.render import render
from vlpnb.world.scene import make_scene


@dataclass(frozen=True)
class Size:
    """The paper: 118,287 pictures of 224 pixels, ResNeXt-101 and BERT base."""

    images: int = 64
    captions: int = 5
    pixels: int = 64
    batch: int = 64
    network: str = "resnet18"
    shape: inputs.Shape = (4, 256, 4, 1024)
    rounds: int = 3


@dataclass
class World:
    """Captioned pictures, both backbones, the cache of their features, and new heads."""

    images: list[CaptionedImage]
    language: LanguageBackbone
    vision: Backbone
    captions: CaptionBatches
    heads: Matcher
    config: FeaturesConfig
    batches: list[np.ndarray]


def world(size: Size, folder: Path, device: str = "cpu") -> World:
    """Draw pictures with captions, and run the cache."""
    images = []
    for index in range(size.images):
        scene = make_scene(0, "train", index)
        path = folder / f"{index}.png"
        render(scene, size.pixels).save(path)
        said = tuple(caption(scene, "en", variant) for variant in range(size.captions))
        images.append(CaptionedImage(scene.image_id, path, said))
    words = inputs.tokenizer(folder)
    language, _ = inputs.language_models(size.shape, words)
    net = network(size.network)
    width = net(torch.zeros(1, 3, size.pixels, size.pixels)).shape[1]
    vision = Backbone(net, width, size.pixels).fuse().to(device)
    language.to(device)
    config = FeaturesConfig(train_views=1, layers=language.layers)
    cache_split(folder, "train", images, language, vision, config)
    torch.manual_seed(2)
    heads = Matcher(Projection(language.width, 256, 64, 0.0), Projection(width, 256, 64, 0.0)).to(device)
    training = MatchingConfig(batch=size.batch, dropout=0.0)
    captions = CaptionBatches(FeatureStore(folder, "train"), (), heads, training, config.crop_scale)
    order = np.random.default_rng(0).permutation(len(captions.store))
    batches = np.split(order[: len(order) // size.batch * size.batch], len(order) // size.batch)
    return World(images, language, vision, captions, heads, config, batches)


def epoch(made: World, arguments: Callable[[np.ndarray, int], dict[str, Tensor]]) -> list[float]:
    """Train new heads over all batches; the loss of each update."""
    heads = copy.deepcopy(made.heads).train()
    model, losses = MatchingLoss(heads, paired_hinge), []
    device = next(heads.parameters()).device
    optimiser = torch.optim.Adam(heads.parameters(), 1e-3)
    for update, rows in enumerate(made.batches):
        batch = {name: value.to(device) for name, value in arguments(rows, update).items()}
        loss = model(**batch)["matching"] / batch["mask"].sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def ours(made: World) -> list[float]:
    """An epoch over the cache."""
    return epoch(made, lambda rows, update: made.captions.training(rows, update, np.arange(len(rows))))


def pixels_of(made: World) -> Tensor:
    """The two views that the cache holds of every picture, as pixels [N, 2, 3, S, S]."""
    views = []
    for i, image in enumerate(made.images):
        picture = open_rgb(image.path)
        generator = torch.Generator().manual_seed(seed_of(made.config.seed, 0, i, 0))
        crop = made.vision.train_pixels(picture, generator, made.config.crop_scale)
        views.append(torch.stack([crop, made.vision.eval_pixels(picture, made.config.eval_views[0])]))
    return torch.stack(views)


def peer(made: World, pixels: Tensor) -> list[float]:
    """An epoch that runs both backbones for every batch."""
    sentences = [(i, text) for i, image in enumerate(made.images) for text in image.sentences]

    def arguments(rows: np.ndarray, update: int) -> dict[str, Tensor]:
        random = np.random.default_rng(
            [made.captions.config.seed, 1, update]
        )  # the draw of `CaptionBatches.training`
        view = torch.from_numpy(random.integers(0, pixels.shape[1], len(rows)))
        owner = torch.tensor([sentences[row][0] for row in rows])
        encoded = made.language.encode([sentences[row][1] for row in rows], made.config.max_length)
        ids, mask = made.language.pad(encoded)
        with torch.no_grad():
            text, picture = made.language(ids, mask), made.vision(pixels[owner, view].to(ids.device))
        return {"text": text, "mask": mask, "picture": picture}

    return epoch(made, arguments)


def same_losses(first: list[float], second: list[float]) -> str:
    """The losses of all updates, to the cache's half precision."""
    agree(len(first) == len(second), f"{len(first)} updates beside {len(second)}")
    gap = max(abs(a - b) for a, b in zip(first, second, strict=True))
    agree(gap < 2e-3, f"losses differ by up to {gap:.1e}")
    return f"losses within {gap:.0e}, from {first[0]:.3f} to {first[-1]:.3f}"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """One row. The cache is made once, for about the cost of a peer's epoch per view."""
    with tempfile.TemporaryDirectory() as folder:
        made = world(size, Path(folder), device)
        pixels = pixels_of(made)
        row = compare(
            f"matcher epoch, {size.network} and {size.shape[0]}L/{size.shape[1]}H",
            lambda: ours(made),
            lambda: peer(made, pixels),
            same_losses,
            rounds=size.rounds,
            device=device,
            target=10.0,
            note="making the cache once is not counted",
        )
        del made
    return [row]
