"""The matcher: which picture fits this token, in this sentence? (Tan & Bansal, EMNLP 2020, section 3.2)

    r(token t of sentence s, picture x) = f(t; s) · g(x)          a cosine, in [−1, 1]

f is an MLP over the hidden states of a language backbone, g an MLP over the features of a vision backbone;
both end on the unit sphere of a joint space of d dimensions. Training pulls every token of a caption
towards the caption's picture and away from a wrong one.

Differs from the paper: InfoNCE and an all-pairs hinge beside the paired hinge. Differs from the original
code: frozen backbones run once (`features.py`) and always in eval mode (VOK-05); epochs are really shuffled
(VOK-03); R@k counts rank ≤ k (VOK-06); weights and a description are saved, not a pickle (VOK-07); the best epoch
is followed by sentence → picture retrieval over the whole test set.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from PIL import Image
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from vlpnb.config import Config, Seed
from vlpnb.data.fields import field
from vlpnb.data.text_files import read_json
from vlpnb.files import atomic, write_text
from vlpnb.foundations.backbones import keep_backbones
from vlpnb.foundations.features import picture_features, read_backbones
from vlpnb.nn.checkpoints import fill_module, read_weights
from vlpnb.nn.labelled import places_of
from vlpnb.nn.losses import all_pairs_hinge, info_nce, paired_hinge
from vlpnb.outside import OutsidePath
from vlpnb.text.backbones import LanguageBackbone
from vlpnb.train.optim import Optimiser
from vlpnb.vision.backbones import Backbone

WEIGHTS, DESCRIPTION = "matcher.safetensors", "matcher.json"


class Projection(nn.Sequential):
    """Linear, ReLU, Dropout, Linear, then the unit sphere: features of a backbone → the joint space."""

    def __init__(self, width: int, hidden: int, joint: int, dropout: float):
        super().__init__(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, joint))

    def forward(self, features: Float[Tensor, "*N D"]) -> Float[Tensor, "*N d"]:
        return normalize(super().forward(features), dim=-1)


class Matcher(nn.Module):
    """f and g with their backbones. `language` or `vision` may be None where cached features stand in for
    them.
    """

    def __init__(
        self,
        f: Projection,
        g: Projection,
        language: LanguageBackbone | None = None,
        vision: Backbone | None = None,
        eval_views: Sequence[str] = ("centre",),
        max_length: int = 20,
    ):
        super().__init__()
        self.f, self.g, self.language, self.vision = f, g, language, vision
        self.eval_views, self.max_length = tuple(eval_views), max_length

    @torch.no_grad()
    def queries(self, rows: Sequence[Sequence[int]]) -> tuple[Float[Tensor, "B T d"], Bool[Tensor, "B T"]]:
        """Wrapped ids (`language.wrap`) → a unit vector for every token, special tokens included, and the
        mask.
        """
        ids, mask = self.language.pad(rows)
        return self.f(self.language(ids, mask).float()), mask

    def keys(self, pictures: Sequence[Image.Image]) -> Float[Tensor, "N d"]:
        """RGB pictures → unit vectors on this module's device: the mean over the evaluation views, back on
        the sphere.
        """
        return self.keys_of([self.pixels(picture) for picture in pictures])

    def pixels(self, picture: Image.Image) -> Float[Tensor, "E 3 S S2"]:
        """The evaluation views of one picture."""
        return torch.stack([self.vision.eval_pixels(picture, view) for view in self.eval_views])

    @torch.no_grad()
    def keys_of(self, pixels: Sequence[Float[Tensor, "E 3 S S2"]]) -> Float[Tensor, "N d"]:
        """`keys` of pictures whose views are cut already."""
        features = picture_features(self.vision, [view for views in pixels for view in views])
        features = features.to(self.g[0].weight.device)
        return picture_vectors(self.g, features.reshape(len(pixels), len(self.eval_views), -1))


def picture_vectors(g: Projection, views: Float[Tensor, "N E D"]) -> Float[Tensor, "N d"]:
    """g of several views of each picture, averaged and put back on the unit sphere."""
    return normalize(g(views).mean(1), dim=-1)


class MatchingLoss(nn.Module):
    """What the training loop calls: a batch of captions with their pictures → the summed loss over its
    tokens.
    """

    def __init__(self, matcher: Matcher, loss: Callable[..., Tensor]):
        super().__init__()
        self.matcher, self.loss = matcher, loss

    def forward(
        self, text: Tensor, mask: Bool[Tensor, "B T"], picture: Tensor, ids_mask: Tensor | None = None
    ) -> dict:
        """`text` is hidden states [B, T, F] or wrapped ids [B, T]; `picture` features [B, D] or pixels [B,
        3, S, S].

        `mask` are the tokens that the loss counts, `ids_mask` those that are no padding, when ids are given.
        """
        matcher = self.matcher
        hidden = text if text.is_floating_point() else matcher.language(text, ids_mask).float()
        features = picture if picture.ndim == 2 else matcher.vision(picture).float()
        at = places_of(mask, "tokens")  # heads only where a token counts: a third of a batch is padding
        rows = matcher.f(hidden.flatten(0, 1).index_select(0, at))
        vectors = rows.new_zeros(mask.numel(), rows.shape[-1]).index_copy(0, at, rows)
        vectors = vectors.unflatten(0, mask.shape)  # (B, T, d)
        return {"matching": self.loss(vectors, matcher.g(features), mask) * mask.sum()}


class OriginalMatching(Config):
    """What the original does otherwise."""

    recall: bool = False
    """Report also `valid_legacy_r*`, which count rank ≤ k + 1 (VOK-06)."""


class MatchingConfig(Config):
    """Training of the matcher; the defaults are those of the published launch script.

    The original program's own defaults, used without that script: epochs 10, lr 1e-4, schedule "linear",
    warmup_share 0.05, weight_decay 0.01.
    """

    loss: Literal["hinge", "all_pairs", "infonce"] = "hinge"
    """Paired hinge, all-pairs hinge, InfoNCE."""
    margin: float = Field(0.5, ge=0)
    """Of the hinge losses."""
    temperature: float = Field(0.05, gt=0)
    """Of InfoNCE."""
    joint: int = Field(64, ge=1)
    """D, width of the joint space."""
    hidden: int = Field(256, ge=1)
    """Width of the heads' middle layer."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """In the heads."""
    epochs: int = Field(20, ge=1)
    """Passes over the training examples."""
    batch: int = Field(256, ge=2)
    """Captions per update, over all processes."""
    optimiser: Optimiser = "adamw"
    """Without weight decay this is Adam."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    schedule: Literal["constant", "linear"] = "constant"
    """What follows the warm-up: the peak rate, or a straight line to zero."""
    warmup: int = Field(0, ge=0)
    """Updates."""
    warmup_share: float | None = Field(None, ge=0, le=1)
    """Share of the updates, in place of `warmup`."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of the weights, biases and norms spared."""
    clip: float = Field(5.0, gt=0)
    """Largest gradient norm."""
    special_tokens: bool = True
    """[CLS] and [SEP] count in the loss, as in the original."""
    select: Literal["loss", "r10"] = "loss"
    """What decides the best epoch on the validation split."""
    train_language: bool = False
    """Fine-tune the language backbone over the cached pictures."""
    train_vision: bool = False
    """Fine-tune the vision backbone (batch norm, stem and first layer stay)."""
    load: OutsidePath = ""
    """Weights to start from, see `matching_weights.py`; they are validated first."""
    test_only: bool = False
    """Stop after that: the weights of `load` are the result."""
    seed: Seed = 9595
    """Of initial weights, order and dropout."""
    checkpoint_seconds: float = Field(30.0, ge=0, json_schema_extra={"hash": False})
    """A kill loses at most so many seconds of work."""
    original: OriginalMatching = OriginalMatching()
    """What the original does otherwise."""

    @model_validator(mode="after")
    def _something_to_test(self) -> "MatchingConfig":
        if self.test_only and not self.load:
            raise ValueError("test_only needs the weights that it tests; set load")
        return self


def loss_function(config: MatchingConfig) -> Callable[..., Tensor]:
    """`loss(f [B, T, d], g [B, d], mask [B, T])`, a mean over tokens."""
    if config.loss == "infonce":
        return partial(info_nce, temperature=config.temperature)
    return partial(paired_hinge if config.loss == "hinge" else all_pairs_hinge, margin=config.margin)


def content_mask(language: LanguageBackbone, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """The mask without the special tokens at both ends."""
    at = torch.arange(mask.shape[1], device=mask.device)
    return (at >= len(language.prefix)) & (at < mask.sum(1, keepdim=True) - len(language.suffix))


def trainable_state(matcher: Matcher) -> dict[str, Tensor]:
    """The weights that training changes: the heads, and a backbone only if it is trained."""
    frozen = tuple(
        f"{name}." for name in ("language", "vision") if getattr(getattr(matcher, name), "frozen", True)
    )
    return {
        name: value.detach().cpu().contiguous()
        for name, value in matcher.state_dict().items()
        if not name.startswith(frozen or ("\0",))
    }


def new_matcher(
    config: MatchingConfig,
    features: Path,
    language: LanguageBackbone | None = None,
    vision: Backbone | None = None,
) -> Matcher:
    """A matcher with new heads for the backbones that a folder describes, that of a `features` stage or a matcher's."""
    source = read_backbones(features)
    torch.manual_seed(config.seed)
    f, g = (
        Projection(width, config.hidden, config.joint, config.dropout)
        for width in (source.language_width, source.vision_width)
    )
    about = source.config
    return Matcher(f, g, language, vision, about.eval_views, about.max_length)


def save_matcher(folder: Path, matcher: Matcher, config: MatchingConfig, features: Path) -> None:
    """Write the trained weights, the backbones behind the features and a description, so that the folder needs no
    other. The description is written last and makes the matcher complete.
    """
    with atomic(folder / WEIGHTS) as temporary:
        save_file(trainable_state(matcher), temporary)
    keep_backbones(folder, read_backbones(features))
    about = {"config": config.model_dump(mode="json")}
    write_text(folder / DESCRIPTION, json.dumps(about, indent=1) + "\n")


def load_matcher(folder: Path, device: str = "cpu", backbones: bool = True) -> Matcher:
    """Open a trained matcher in eval mode, with its backbones unless only cached features will be used.

    Raises:
        UserError: no matcher in the folder, or its weights or its backbones are broken or of another shape.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    about = read_json(path, "the description of a trained matcher (stage `matching`)")
    config = MatchingConfig.model_validate(field(about, "config", str(path)))
    language = vision = None
    if backbones:
        source = read_backbones(folder)
        language, vision = source.open_language(), source.open_vision()
    matcher = new_matcher(config, folder, language, vision)
    state = read_weights(folder / WEIGHTS)
    if backbones and any(name.startswith("vision.") for name in state):
        vision.freeze(False)  # a fine-tuned network was saved with frozen batch norm
    if not backbones:
        state = {name: value for name, value in state.items() if name.startswith(("f.", "g."))}
    fill_module(matcher, state, folder / WEIGHTS, optional=("language.", "vision."))
    if backbones:
        language.freeze()
        vision.freeze() if config.train_vision else vision.fuse()
    return matcher.to(device).eval()
