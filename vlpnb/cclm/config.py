"""The shape of a CCLM, its named sizes, and how many parameters it has (Zeng et al., ACL 2023, section 3.1)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from vlpnb.errors import UserError, did_you_mean
from vlpnb.nn.transformer import TransformerConfig, check_numbers

if TYPE_CHECKING:
    from vlpnb.vision.swin import SwinConfig

VISION = ("patches", "swin")


@dataclass(frozen=True)
class CclmConfig:
    """Shape of a CCLM; the defaults are the paper's, with layers of XLM-R large."""

    vocab_size: int = 250002
    """V, number of word pieces."""
    hidden: int = 1024
    """D, width of all streams: a picture and a sentence are interchangeable as memory."""
    text_layers: int = 6
    """Layers of the text encoder."""
    fusion_layers: int = 6
    """Layers that look at the other view."""
    heads: int = 16
    """H, attention heads; must divide `hidden`."""
    ffn: int = 4096
    """Width inside the feed-forward layers."""
    max_positions: int = 514
    """Rows of the position table; `max_positions - position_start` word pieces fit."""
    position_start: int = 2
    """Row of the first word piece: 2 as in XLM-R (`pad_id + 1`), 0 as in the original (CCL-03)."""
    dropout: float = 0.1
    """Dropout of embeddings, residual branches and attention weights, in training mode only."""
    patch_dropout: float = 0.0
    """Dropout of the numbers of patches, in training mode only."""
    norm_eps: float = 1e-5
    """Epsilon of every layer norm."""
    width: int = 256
    """E, numbers of the vector by which a view is found."""
    temperature: float = 0.07
    """τ at the start; it is learned."""
    boxes: bool = True
    """With the head that finds the box of a region's text (the 4M variant)."""
    vision: Literal["patches", "swin"] = "patches"
    """What a picture is given as: "patches" of a frozen network, or pixels for a "swin" of its own."""
    image_width: int = 1024
    """F, numbers of a patch; of a Swin it is D."""
    image_patches: int = 0
    """P, places of patches that are learned ("patches" only); 0: none, and any number of patches."""
    swin: "SwinConfig | None" = None
    """Shape of the Swin."""
    pad_id: int = 1
    """Padding."""
    mask_id: int = -1
    """What a masked word piece becomes; −1: the last of the vocabulary, as in XLM-R."""

    def __post_init__(self) -> None:
        check_numbers(self, ("pad_id", "mask_id"), position_start=0, pad_id=0, image_patches=0, mask_id=-1)
        if self.mask_id < 0:
            object.__setattr__(self, "mask_id", self.vocab_size - 1)
        for name in ("dropout", "patch_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"CclmConfig.{name} = {getattr(self, name)}; expected at least 0 and below 1")
        if not self.temperature > 0:
            raise UserError(f"CclmConfig.temperature = {self.temperature}; expected above 0")
        if self.position_start >= self.max_positions:
            raise UserError(
                f"CclmConfig.max_positions = {self.max_positions}; expected above position_start = "
                f"{self.position_start}"
            )
        if self.vision not in VISION:
            raise UserError(f"CclmConfig.vision = {self.vision!r}; expected one of {', '.join(VISION)}")
        if (self.swin is not None) != (self.vision == "swin"):
            raise UserError(
                f"CclmConfig.swin: {'given' if self.swin else 'none'}, and vision = {self.vision!r}; expected a shape "
                'with "swin" and none with "patches"'
            )
        if self.swin is not None and not self.swin.width == self.hidden == self.image_width:
            raise UserError(
                f"CclmConfig: hidden = {self.hidden}, image_width = {self.image_width}, and a Swin of width "
                f"{self.swin.width}; expected all equal, since a picture is memory as it is"
            )
        _ = self.transformer  # refuses heads that do not divide the width

    @property
    def max_tokens(self) -> int:
        """Most word pieces of a text."""
        return self.max_positions - self.position_start

    @property
    def transformer(self) -> TransformerConfig:
        """The configuration of the layers that `vlpnb.nn` brings: XLM-R's."""
        return TransformerConfig.of(
            self, layers=self.text_layers, type_vocab=1, attention_dropout=self.dropout
        )


# large is the paper's; mini is for one GPU, nano and tiny for two CPU cores.
SIZES: dict[str, dict[str, Any]] = {
    "large": {},
    "mini": {
        "hidden": 384, "text_layers": 4, "fusion_layers": 4, "heads": 6, "ffn": 1536, "max_positions": 130,
        "width": 256,
    },
    "nano": {
        "hidden": 128, "text_layers": 2, "fusion_layers": 2, "heads": 4, "ffn": 512, "max_positions": 130,
        "width": 128,
    },
    "tiny": {
        "hidden": 96, "text_layers": 2, "fusion_layers": 2, "heads": 4, "ffn": 384, "max_positions": 130, "width": 96,
    },
}  # fmt: skip


def size_config(size: str, **changes: Any) -> CclmConfig:
    """The configuration of a named size, with changes. UserError: there is no such size."""
    if size not in SIZES:
        raise UserError(
            f"size: {size!r} is no size of CCLM{did_you_mean(size, SIZES)}; sizes: {', '.join(SIZES)}"
        )
    return CclmConfig(**(SIZES[size] | changes))


def parameter_count(config: CclmConfig) -> dict[str, int]:
    """Parameters of each part, from the formula; with Swin-B the paper's have 525,677,393 in all."""
    d, e, norm = config.hidden, config.width, 2 * config.hidden
    dense = (d + 1) * d
    attention = 4 * dense + norm
    think = (d + 1) * config.ffn + (config.ffn + 1) * d + norm
    score = (d + 1) * 2 * d + 2 * norm  # but for its last layer
    vision = (config.image_width + 1 + config.image_patches) * d + norm
    if config.swin is not None:
        from vlpnb.vision.swin import Swin  # torchvision takes its time

        with torch.device("meta"):
            vision = sum(p.numel() for p in Swin(config.swin).parameters())
    return {
        "vision": vision,
        "embeddings": (config.vocab_size + config.max_positions + 1) * d + norm,
        "text layers": config.text_layers * (attention + think),
        "fusion layers": config.fusion_layers * (2 * attention + think),
        "projections": 2 * (d + 1) * e + 1,
        "matching head": score + (2 * d + 1) * 2,
        "box head": (score + (2 * d + 1) * 4) if config.boxes else 0,
        "word head": dense + norm + config.vocab_size,
    }
