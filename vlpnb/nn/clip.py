"""CLIP: a causal text tower and an image tower, a ViT or a ResNet, in one space.

Paper: CLIP (Radford et al. 2021, sections 2.3 and 2.4). VaLM (Wang et al. 2022, section 2.2) looks pictures up with the
one whose image tower is RN50x16. Both towers are pre-norm Transformers of the house with the approximate GELU
x · σ(1.702 x); the text tower reads from left to right, and its state at the end token is the text's vector. The ResNet
has three convolutions at its beginning, averages before it halves its map, and pools by attention: one query, the mean
of the map, looks at all places.

Differs from the original: every position of a text is projected, since VaLM asks with all of them; tensors of files
are renamed in `clip_files.py`.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.transformer import Block, Encoder, TransformerConfig, init_weights

START, END, PAD = 49406, 49407, 0  # of CLIP's tokenizer; its padding is a piece, too
HEAD_WIDTH = 64  # of all published sizes
RESNET_EXPANSION = 4  # output channels of a bottleneck per inner one


@dataclass(frozen=True)
class ClipConfig:
    """Shape of a CLIP; the defaults are ViT-B/32's."""

    vocab_size: int = 49408
    """V, pieces of the tokenizer."""
    context: int = 77
    """Positions of a text, start and end included."""
    hidden: int = 512
    """Width of the text tower."""
    layers: int = 12
    """Its blocks."""
    heads: int = 8
    """Its attention heads."""
    ffn: int = 2048
    """Width inside its feed-forward layers."""
    width: int = 512
    """E, of the common space."""
    image_size: int = 224
    """Pixels of the square that the image tower reads."""
    patch: int = 32
    """Pixels of a patch's side; 0: the image tower is a ResNet."""
    image_hidden: int = 768
    """Width of the ViT; of the ResNet the channels of its first stage."""
    image_layers: tuple[int, ...] = (12,)
    """Blocks of the ViT; of the ResNet those of its four stages."""
    image_heads: int = 12
    """Attention heads of the ViT, or of the ResNet's pooling."""
    image_ffn: int = 3072
    """Width inside the ViT's feed-forward layers; a ResNet has none."""
    activation: str = "quick_gelu"
    """Of both Transformers."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_layers", tuple(self.image_layers))
        stages = 1 if self.patch else 4
        if len(self.image_layers) != stages:
            raise UserError(f"image_layers = {self.image_layers}; expected {stages} number(s)")
        if self.image_size % (self.patch or 32):
            raise UserError(
                f"image_size = {self.image_size}; expected a multiple of {self.patch or 32} pixels"
            )

    @property
    def text(self) -> TransformerConfig:
        """The text tower's Transformer."""
        return TransformerConfig(
            vocab_size=self.vocab_size, hidden=self.hidden, layers=self.layers, heads=self.heads, ffn=self.ffn,
            max_positions=self.context, type_vocab=0, dropout=0, attention_dropout=0, norm_eps=1e-5, norm="pre",
            activation=self.activation, causal=True,
        )  # fmt: skip

    @property
    def vision(self) -> TransformerConfig:
        """The ViT's Transformer, whose embeddings are patches."""
        return TransformerConfig(
            vocab_size=1, hidden=self.image_hidden, layers=self.image_layers[0], heads=self.image_heads,
            ffn=self.image_ffn, max_positions=1, type_vocab=0, dropout=0, attention_dropout=0, norm_eps=1e-5,
            norm="pre", activation=self.activation,
        )  # fmt: skip


class VisionTransformer(nn.Module):
    """Patches, a class token in front and learned positions; the class token's last state is projected."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        width, places = config.image_hidden, (config.image_size // config.patch) ** 2
        self.patches = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.class_token = nn.Parameter(torch.randn(width) / width**0.5)
        self.positions = nn.Parameter(torch.randn(places + 1, width) / width**0.5)
        self.norm_before = nn.LayerNorm(width, 1e-5)
        self.blocks = nn.ModuleList(Block(config.vision) for _ in range(config.image_layers[0]))
        self.norm_after = nn.LayerNorm(width, 1e-5)
        self.projection = nn.Linear(width, config.width, bias=False)

    def forward(self, pixels: Float[Tensor, "N 3 S S2"]) -> Float[Tensor, "N E"]:
        """Pixels → the common space, not normalised."""
        patches = rearrange(self.patches(pixels), "n d h w -> n (h w) d")
        x = torch.cat([self.class_token.expand(len(pixels), 1, -1), patches], 1) + self.positions
        x = self.norm_before(x)  # (N, 1 + P, D)
        for block in self.blocks:
            x, _ = block(x)
        return self.projection(self.norm_after(x[:, 0]))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside a shortcut; with a stride, both are averaged before it is taken."""

    def __init__(self, channels: int, inner: int, stride: int):
        super().__init__()
        out = inner * RESNET_EXPANSION
        self.conv1, self.bn1 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out)
        self.average = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample = None
        if stride > 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H2 W2"]:
        """The map after this block, smaller by the stride."""
        inside = self.bn1(self.conv1(x)).relu()
        inside = self.bn2(self.conv2(inside)).relu()
        inside = self.bn3(self.conv3(self.average(inside)))
        shortcut = x if self.downsample is None else self.downsample(self.average(x))
        return (inside + shortcut).relu()


class AttentionPool(nn.Module):
    """A map → one vector: its mean looks at itself and at all places, each with its position."""

    def __init__(self, places: int, channels: int, heads: int, width: int):
        super().__init__()
        if channels % heads:
            raise UserError(f"{channels} channels cannot be split into image_heads = {heads} of equal width")
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(places + 1, channels) / channels**0.5)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(channels, channels) for _ in range(3))
        self.c_proj = nn.Linear(channels, width)

    def forward(self, x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N E"]:
        """The pooled and projected map."""
        places = rearrange(x, "n c h w -> n (h w) c")
        places = torch.cat([places.mean(1, keepdim=True), places], 1) + self.positional_embedding
        q, k, v = (
            rearrange(layer(part), "n p (h d) -> n h p d", h=self.heads)
            for layer, part in ((self.q_proj, places[:, :1]), (self.k_proj, places), (self.v_proj, places))
        )
        mixed = F.scaled_dot_product_attention(q, k, v)  # (N, H, 1, d)
        return self.c_proj(rearrange(mixed, "n h 1 d -> n (h d)"))


class ResNet(nn.Module):
    """CLIP's ResNet; parts have the original's names."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        width = config.image_hidden
        half = width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.average = nn.AvgPool2d(2)
        channels = width
        for stage, blocks in enumerate(config.image_layers):
            inner, made = width * 2**stage, []
            for i in range(blocks):
                made.append(Bottleneck(channels, inner, 2 if stage and not i else 1))
                channels = inner * RESNET_EXPANSION
            setattr(self, f"layer{stage + 1}", nn.Sequential(*made))
        places = (config.image_size // 32) ** 2
        self.attnpool = AttentionPool(places, channels, config.image_heads, config.width)

    def forward(self, pixels: Float[Tensor, "N 3 S S2"]) -> Float[Tensor, "N E"]:
        """Pixels → the common space, not normalised."""
        x = self.bn1(self.conv1(pixels)).relu()
        x = self.bn2(self.conv2(x)).relu()
        x = self.average(self.bn3(self.conv3(x)).relu())
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.attnpool(x)


class Clip(nn.Module):
    """Both towers and the learned scale of their products."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.config = config
        self.text = Encoder(config.text)
        self.text_projection = nn.Linear(config.hidden, config.width, bias=False)
        self.image = VisionTransformer(config) if config.patch else ResNet(config)
        init_weights(self)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def text_vectors(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T E"]:
        """The vector of every position, not normalised; those behind the end token mean nothing."""
        return self.text_projection(self.text(ids).last)

    def token_states(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T E"]:
        """The unit vector of every position."""
        return F.normalize(self.text_vectors(ids).float(), dim=-1)

    def image_vectors(self, pixels: Float[Tensor, "N 3 S S2"]) -> Float[Tensor, "N E"]:
        """Pictures in the common space, not normalised. UserError: pixels of another size."""
        size = self.config.image_size
        if tuple(pixels.shape[2:]) != (size, size):
            raise UserError(
                f"pictures of {tuple(pixels.shape[2:])} pixels; this CLIP reads {size} × {size}, no more and no less"
            )
        return self.image(pixels)

    def forward(
        self, ids: Int[Tensor, "B T"], ends: Int[Tensor, " B"], pixels: Float[Tensor, "N 3 S S2"]
    ) -> Float[Tensor, "B N"]:
        """Scaled products of texts, by the state at their ends, and pictures."""
        text = self.token_states(ids)[torch.arange(len(ids), device=ids.device), ends]
        return self.log_scale.exp() * text @ F.normalize(self.image_vectors(pixels).float(), dim=-1).T
