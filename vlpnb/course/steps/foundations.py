"""What `vlpnb plan` counts of the stages that several parts start from."""

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlpnb.foundations.vision import ClassifierLoss, label_names
from vlpnb.nn.clip import Clip, ClipConfig
from vlpnb.nn.dual_encoder import DualEncoder, DualEncoderConfig
from vlpnb.nn.transformer import Encoder, TransformerConfig
from vlpnb.train.counting import Step, filled, pieces
from vlpnb.vision.detector import DetectorConfig, RegionHead
from vlpnb.vision.efficientnet import EfficientNetLite0
from vlpnb.vision.small import SmallResNet
from vlpnb.vision.swin import Swin, SwinConfig

Of = Callable[[str], Any]
RN50X16 = ClipConfig(
    hidden=768, heads=12, ffn=3072, width=768, image_size=384, patch=0, image_hidden=96, image_layers=(6, 8, 18, 8),
    image_heads=48, image_ffn=0,
)  # fmt: skip


def language_encoder(*, words: int, layers: int, hidden: int, heads: int) -> Encoder:
    """A published BERT's encoder, by its shape."""
    return Encoder(TransformerConfig(words, hidden, layers, heads, 4 * hidden))


class Looking(nn.Module):
    """A picture network, whatever it calls its pixels; with its classifier, which costs next to nothing."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, pixels: Float[Tensor, "N 3 S S2"]) -> Tensor:
        return self.net(pixels)


def picture_network(name: str, of: Of) -> nn.Module:
    """The network behind a name such as that of `features.vision`."""
    if name == "stage":
        return Looking(SmallResNet(of("vision").widths, len(label_names())))
    if name == "efficientnet_lite0":
        return Looking(EfficientNetLite0())
    if name == "swin_b":
        return Looking(Swin(SwinConfig()))
    if name == "clip":
        return ClipPictures(RN50X16)
    return Looking(torchvision.models.get_model(name, weights=None))


def pictures_for(name: str, of: Of, rows: int, side: int | None = None) -> Float[Tensor, "N 3 S S"]:
    """Pictures as a network of that name reads them, or of this side."""
    side = side or {"stage": of("vision").image_size, "clip": RN50X16.image_size}.get(name, 224)
    return torch.zeros(rows, 3, side, side)


def looking(name: str, of: Of, batch: int, views: float, kept: float, side: int | None = None) -> Step:
    """A forward pass over so many views of pictures."""
    return Step(
        lambda: picture_network(name, of), lambda rows: {"pixels": pictures_for(name, of, rows, side)}, batch, batch,
        views / batch, None, kept=kept,
    )  # fmt: skip


def vision_step(config: Any, of: Of, *, pictures: int) -> Step:
    """The classifier of the visual world."""
    names = label_names()

    def batch(rows: int) -> dict[str, Tensor]:
        side = config.image_size
        return {"pixels": torch.zeros(rows, 3, side, side), "labels": torch.zeros(rows, len(names))}

    examples = min(pictures, config.max_images or pictures) + config.drawn
    rows = min(config.batch, examples)
    return Step(
        lambda: ClassifierLoss(SmallResNet(config.widths, len(names)), torch.ones(len(names))), batch, rows, rows,
        config.epochs * (examples // rows), precision="bfloat16", models=1,
    )  # fmt: skip


def detector_step(config: Any, of: Of, *, pictures: int, channels: int, kinds: int, attributes: int) -> Step:
    """The head over windows of a frozen network; looking at the pictures once is not counted."""
    about = DetectorConfig(
        tuple(map(str, range(kinds))), (tuple(map(str, range(attributes))),), width=config.width
    )

    def batch(rows: int) -> dict[str, Tensor]:
        kind = torch.arange(rows) % 2
        return {
            "pooled": torch.zeros(rows, inputs), "kinds": kind, "attributes": kind[:, None],
            "corrections": torch.zeros(rows, 4),
        }  # fmt: skip

    inputs = channels * config.cells**2
    windows = min(pictures, config.max_images or pictures) * config.windows
    rows = min(config.batch, windows)
    return Step(
        lambda: RegionHead(inputs, about), batch, rows, rows, config.epochs * (windows // rows),
        precision="bfloat16", models=1,
    )  # fmt: skip


def regions_step(config: Any, of: Of, *, pictures: int, width: int) -> Step | str:
    """A forward pass of the network over the pictures; heads over its map cost little."""
    if config.source in ("obj36", "vlp"):
        return "regions are taken from files"
    if config.source == "torchvision":
        return "what a torchvision detector does depends on what it finds"
    count = config.most if config.source == "detector" else sum(n * n for n in config.grid)
    name, side = config.vision, config.short
    if config.source == "detector":
        name, side = of("detector").vision, of("detector").image_size
    return looking(name, of, max(config.batch, 8), pictures, 2 * pictures * count * width, side)


class Features(nn.Module):
    """Both frozen backbones on a picture's views and captions."""

    def __init__(self, language: nn.Module, pictures: nn.Module):
        super().__init__()
        self.language, self.pictures = language, pictures

    def forward(self, ids: Int[Tensor, "B T"], pixels: Float[Tensor, "N 3 S S2"]) -> None:
        self.language(ids), self.pictures(pixels)


def features_step(
    config: Any, of: Of, *, pictures: int, captions: int, length: float, **language: int
) -> Step:
    """A forward pass over the training pictures' views and their captions."""
    each = round(captions / pictures)

    def make() -> nn.Module:
        return Features(language_encoder(**language), picture_network(config.vision, of))

    def batch(rows: int) -> dict[str, Tensor]:
        return {
            "ids": pieces(rows * each, round(length), language["words"]),
            "pixels": pictures_for(config.vision, of, rows * config.train_views),
        }

    width = len(config.layers) * language["hidden"]
    kept = 2 * captions * length * width if config.cache else 0
    return Step(make, batch, config.batch, config.batch, pictures / config.batch, None, kept=kept)


def towers_step(
    config: Any, of: Of, *, words: int, pictures: int, feature_width: int, length: float, clip: bool = False
) -> Step | str:
    """The dual encoder; a CLIP is taken as it is."""
    if config.clip or clip:
        return "a CLIP is taken as it is"

    def make() -> nn.Module:
        return DualEncoder(
            DualEncoderConfig(
                vocab_size=words, longest=config.longest, hidden=config.hidden, layers=config.layers,
                heads=config.heads, ffn=4 * config.hidden, dropout=config.dropout, feature_width=feature_width,
                width=config.width, image_hidden=config.image_hidden,
            )
        )  # fmt: skip

    def batch(rows: int) -> dict[str, Tensor]:
        longest = min(config.longest + 2, round(2 * length))
        made = {
            "ids": pieces(rows, longest, words), "features": torch.zeros(rows, feature_width),
            "ends": filled(rows, longest, length).sum(1) - 1,
        }  # fmt: skip
        return made | ({"inside": made["ends"] // 2} if config.prefix_weight else {})

    rows = min(config.batch, pictures)
    updates = round(config.epochs * (pictures // rows)) if config.updates is None else config.updates
    return Step(make, batch, rows, rows, updates, precision=config.precision, models=1)


class ClipText(nn.Module):
    """The text tower of a CLIP alone."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.clip = Clip(config)
        self.clip.image = None

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T E"]:
        return self.clip.text_vectors(ids)


class ClipPictures(nn.Module):
    """The picture tower of a CLIP alone."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.clip = Clip(config)

    def forward(self, pixels: Float[Tensor, "N 3 S S2"]) -> Float[Tensor, "N E"]:
        return self.clip.image_vectors(pixels)


def picture_vectors_step(
    config: Any, of: Of, *, pictures: int, width: int, network: str = "clip"
) -> Step | str:
    """A forward pass over the pictures of the database; vectors that are given are taken as they are."""
    if config.source == "original":
        return "vectors that are given are taken as they are"
    return looking(
        network, of, config.batch, pictures, pictures * width * (2 if config.dtype == "float16" else 4)
    )


def patches_step(config: Any, of: Of, *, pictures: int, cells: int, width: int) -> Step:
    """A forward pass over the pictures' views."""
    views = pictures * max(1 + config.train_views, len(config.eval_views))
    return looking(config.vision, of, config.batch, views, 2 * views * (cells + 1) * width)


def language_step(config: Any, of: Of, *, length: float) -> Step | str:
    """The small BERT; a published one that is trimmed is not trained."""
    if config.trim:
        return "a published BERT is cut to the text's vocabulary"
    from vlpnb.nn.language_model import SIZES, new_masked_lm
    from vlpnb.train.counting import asked

    layers, hidden, heads, ffn = SIZES[config.size]

    def batch(rows: int) -> dict[str, Tensor]:
        longest = min(config.max_length, round(1.3 * length))
        ids = pieces(rows, longest, config.vocab_size)
        return {"ids": ids, "mask": filled(rows, longest, length), "mlm_labels": asked(ids, config.mask_rate)}

    return Step(
        lambda: new_masked_lm(TransformerConfig(config.vocab_size, hidden, layers, heads, ffn, dropout=config.dropout)),
        batch, config.batch, config.batch, config.updates, precision="bfloat16", models=1,
    )  # fmt: skip


STEPS = {
    "vision": vision_step,
    "detector": detector_step,
    "regions": regions_step,
    "language": language_step,
    "features": features_step,
    "towers": towers_step,
    "picture_vectors": picture_vectors_step,
    "patches": patches_step,
}
