"""Stage `vision`: train the picture backbone of the visual world from scratch, as ImageNet pre-training
does for the papers.

Each picture has several labels: which kinds, which colours, which patterns, which setting, and which kind
in which colour. The last ones make the features tell "a red car and a blue ball" from "a blue car and a red
ball", which kinds and colours apart would not. Labels come from the scenes' ground truth; it plays the part
of ImageNet's human labels and is used by this stage alone. It runs on one process whatever their number: batch
normalisation would make its result depend on how a batch is shared, and it takes a minute.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from vlpnb.config import Config, Count, Seed
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import CaptionData, load_captions
from vlpnb.data.images import BrokenImage, decoded
from vlpnb.errors import UserError
from vlpnb.foundations.captions import splits_only
from vlpnb.stage import Stage, StageContext
from vlpnb.train.loop import TrainingPlan, fit
from vlpnb.train.sampling import EpochSampler, Update
from vlpnb.vision.backbones import save_backbone
from vlpnb.vision.small import SmallResNet
from vlpnb.vision.transforms import IMAGENET_MEAN, IMAGENET_STD, eval_view
from vlpnb.world.render import render
from vlpnb.world.scene import COLOURS, HELD_OUT, KINDS, PATTERNS, SETTINGS, Scene, make_scene
from vlpnb.world.writers import load_scenes

# What `transforms.to_pixels` does to one picture, for a batch that is already in memory.
MEAN, STD = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]


class VisionConfig(Config):
    """Training of the world's picture classifier."""

    image_size: int = Field(64, ge=16)
    """Pixels of the square that the network reads."""
    widths: tuple[Count, ...] = Field((24, 48, 96, 192), min_length=1)
    """Channels per resolution; features are twice the last."""
    epochs: int = Field(12, ge=1)
    """Passes over the training examples."""
    batch: int = Field(32, ge=1)
    """Pictures per update."""
    lr: float = Field(4e-3, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(0.05, ge=0)
    """Decay of the weights, biases and norms spared."""
    shift: int = Field(4, ge=0)
    """A training picture is shifted by up to so many pixels, and mirrored."""
    kind_weight: float = Field(3.0, gt=0)
    """Of kinds in the loss; colours and settings are learned anyway."""
    seed: Seed = 9595
    """Of initial weights, order and dropout."""
    max_images: int | None = Field(None, ge=1)
    """Only the first pictures."""
    drawn: int = Field(0, ge=0)
    """More training pictures, of further train scenes, drawn here and not written."""
    checkpoint_seconds: float = Field(15.0, ge=0, json_schema_extra={"hash": False})
    """A kill loses at most so many seconds of work."""


def label_names() -> list[str]:
    """`kind:car`, `colour:red`, `pattern:striped`, `setting:beach`, `pair:red car`, in a fixed order."""
    pairs = [
        f"pair:{colour} {name}"
        for name, kind in KINDS.items()
        for colour in ([kind.colour] if kind.colour else COLOURS)
        if (colour, name) not in HELD_OUT
    ]
    groups = (("kind", KINDS), ("colour", COLOURS), ("pattern", PATTERNS), ("setting", SETTINGS))
    return [f"{group}:{name}" for group, names in groups for name in names] + pairs


def labels_of(scene: Scene) -> set[str]:
    """The labels of a scene (held-out pairs are among them but have no class)."""
    found = {f"setting:{scene.setting}"}
    for thing in scene.things:
        found |= {f"kind:{thing.kind}", f"colour:{thing.colour}", f"pattern:{thing.pattern}"}
        found.add(f"pair:{thing.colour} {thing.kind}")
    return found


def read_pictures(
    images: Iterable[CaptionedImage],
    scenes: dict[str, Scene],
    size: int,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[Scene, np.ndarray]]:
    """Scenes and their pictures as (size, size, 3) uint8; broken files are passed over and named to `log`.

    UserError for a picture without a scene.
    """
    images = list(images)
    for image in images:
        if image.image_id not in scenes:
            raise UserError(f"{image.path}: `captions.scenes` has no scene of this picture to learn from")
    paths = [image.path for image in images]
    found = decoded(paths, lambda _, picture: np.asarray(eval_view(picture, size, "whole")))
    for image, pixels in zip(images, found, strict=True):
        if isinstance(pixels, BrokenImage):
            log(f"left out: {pixels}")
        else:
            yield scenes[image.image_id], pixels


def draw_pictures(captions: CaptionData, count: int, size: int) -> Iterator[tuple[Scene, np.ndarray]]:
    """`count` more train scenes, numbered on from the written ones, and their pictures.

    Drawing is faster than reading, and a network that never sees a picture often cannot learn it by heart.
    """
    if not count:
        return
    world = json.loads((captions.scenes.parent / "world.json").read_text(encoding="utf-8"))
    for index in range(world["train"], world["train"] + count):
        scene = make_scene(world["seed"], "train", index)
        picture = render(scene, world["image_size"], world["seed"])
        yield scene, np.asarray(eval_view(picture, size, "whole"))


class Pictures:
    """Decoded pictures of one split in memory (uint8), with their labels."""

    def __init__(self, pictures: Iterable[tuple[Scene, np.ndarray]], names: list[str]):
        index = {name: i for i, name in enumerate(names)}
        pixels, self.scenes = [], []
        for scene, picture in pictures:
            pixels.append(picture)
            self.scenes.append(scene)
        if not pixels:
            raise UserError("vision: none of the pictures of a split can be read; see `captions.images`")
        self.pixels = torch.from_numpy(np.stack(pixels))  # (N, S, S, 3)
        self.labels = torch.zeros(len(pixels), len(names))
        for row, scene in enumerate(self.scenes):
            self.labels[row, [index[name] for name in labels_of(scene) if name in index]] = 1

    def batch(self, rows: np.ndarray, random: np.random.Generator | None = None, shift: int = 0) -> Tensor:
        """Normalised pixels [B, 3, S, S]; with `random`, shifted and mirrored."""
        values = self.pixels[rows].float().permute(0, 3, 1, 2)  # (B, 3, S, S)
        if random is not None:
            padded = nn.functional.pad(values, (shift,) * 4, mode="replicate")
            size = values.shape[2]
            moved = []
            for picture, (x, y), flip in zip(
                padded,
                random.integers(0, 2 * shift + 1, (len(rows), 2)),
                random.random(len(rows)) < 0.5,
                strict=True,
            ):
                cut = picture[:, y : y + size, x : x + size]
                moved.append(cut.flip(2) if flip else cut)
            values = torch.stack(moved)
        return (values / 255 - MEAN) / STD


class ClassifierLoss(nn.Module):
    """Binary cross-entropy summed over classes (each with its weight) and pictures."""

    def __init__(self, net: SmallResNet, weights: Float[Tensor, " C"]):
        super().__init__()
        self.net = net
        self.register_buffer("weights", weights)

    def forward(self, pixels: Float[Tensor, "B 3 S S2"], labels: Float[Tensor, "B C"]) -> dict[str, Tensor]:
        scores = self.net(pixels)
        return {"labels": binary_cross_entropy_with_logits(scores, labels, self.weights, reduction="sum")}


@torch.no_grad()
def evaluate(net: SmallResNet, pictures: Pictures, names: list[str], device: str) -> dict[str, float]:
    """`kind_accuracy`, `colour_accuracy`: pictures of one thing, is the highest kind (colour) right?

    `setting_accuracy` over all pictures; `kind_map`, `colour_map`, `pair_map`: mean average precision over
    the classes that occur, all pictures.
    """
    net.eval()
    rows = np.array_split(np.arange(len(pictures.scenes)), max(1, len(pictures.scenes) // 64))
    scores = torch.cat([net(pictures.batch(part).to(device)).cpu() for part in rows])
    columns = {
        group: [i for i, name in enumerate(names) if name.startswith(f"{group}:")]
        for group in ("kind", "colour", "setting", "pair")
    }
    metrics = {}
    for group in ("kind", "colour", "setting"):
        best = [names[columns[group][i]] for i in scores[:, columns[group]].argmax(1)]
        hits = [
            name in labels_of(scene)
            for name, scene in zip(best, pictures.scenes, strict=True)
            if group == "setting" or len(scene.things) == 1
        ]
        metrics[f"{group}_accuracy"] = float(np.mean(hits)) if hits else float("nan")
    for group in ("kind", "colour", "pair"):
        present = [i for i in columns[group] if pictures.labels[:, i].any()]
        found = average_precision_score(pictures.labels[:, present], scores[:, present], average="macro")
        metrics[f"{group}_map"] = float(found)
    return metrics


def run_vision(context: StageContext) -> dict[str, float]:
    """Train on the world's train pictures, measure on its valid pictures, and save the backbone."""
    config: VisionConfig = context.config
    captions = load_captions(context.inputs["captions"])
    if captions.scenes is None:
        raise UserError(
            "vision: these captions have no scenes to learn from; name a pre-trained backbone in features.vision "
            "(a torchvision model, or efficientnet_lite0) instead of 'stage'"
        )
    scenes, names = load_scenes(captions.scenes), label_names()
    written = read_pictures(
        captions.captioned("train")[: config.max_images], scenes, config.image_size, context.log
    )
    drawn = draw_pictures(captions, config.drawn, config.image_size)
    train = Pictures(itertools.chain(written, drawn), names)
    valid = captions.captioned("valid")[: config.max_images]
    valid = Pictures(read_pictures(valid, scenes, config.image_size, context.log), names)
    sampler = EpochSampler(
        len(train.scenes), min(config.batch, len(train.scenes)), config.seed, drop_last=True
    )

    def batches(update: int) -> Update:
        rows = sampler(update)
        random = np.random.default_rng([config.seed, 2, update, 0])
        pixels = train.batch(rows, random, config.shift).contiguous(memory_format=torch.channels_last)
        return Update([{"pixels": pixels, "labels": train.labels[rows]}], {"labels": len(rows)}, len(rows))

    torch.manual_seed(config.seed)
    net = SmallResNet(config.widths, len(names)).to(memory_format=torch.channels_last)
    nn.init.constant_(net.fc.bias, -4.0)  # most labels are absent: start from there
    total = config.epochs * sampler.per_epoch
    plan = TrainingPlan(
        updates=total, lr=config.lr, warmup=total // 20, weight_decay=config.weight_decay, clip=5.0, seed=config.seed,
        log_every=max(1, sampler.per_epoch // 4), checkpoint_seconds=config.checkpoint_seconds,
    )  # fmt: skip
    weights = torch.tensor([config.kind_weight if name.startswith("kind:") else 1.0 for name in names])
    fit(
        ClassifierLoss(net, weights), batches, plan, context.folder, device=context.device,
        progress=context.progress, keep=True,
    )  # fmt: skip
    metrics = evaluate(net, valid, names, context.device)
    save_backbone(context.folder, net.cpu().eval(), config.widths, config.image_size, names)
    context.log(", ".join(f"{name} {value:.3f}" for name, value in metrics.items()))
    return metrics


VISION = Stage(
    "vision", VisionConfig, run_vision, lambda config: {"captions": splits_only},
    doc="Train the visual world's picture backbone from scratch.",
)  # fmt: skip
