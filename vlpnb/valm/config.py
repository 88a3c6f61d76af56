"""The shape of a VaLM, its named sizes, and how many parameters it has (Wang et al., ICLR 2023)."""

from dataclasses import dataclass, replace
from typing import Any

from vlpnb.errors import UserError, did_you_mean
from vlpnb.nn.transformer import TransformerConfig, check_numbers
from vlpnb.valm.fusion import JOINT

PROJECTIONS = (*JOINT, "gated")
CHOICES = {
    "positions": ("sinusoidal", "learned"),
    "projection": PROJECTIONS,
    "scale": ("head", "model"),
    "image_mode": ("drop", "zero", "null"),
    "scope": ("own", "past", "all"),
}


@dataclass(frozen=True)
class ValmConfig:
    """Shape of a VaLM; the defaults are the paper's."""

    vocab_size: int = 49412
    """V, number of word pieces."""
    hidden: int = 768
    """D, width of the stream."""
    layers: int = 12
    """L, blocks."""
    heads: int = 12
    """H, attention heads; must divide `hidden`."""
    ffn: int = 3072
    """Width inside the feed-forward layers."""
    max_positions: int = 512
    """Most tokens of a text."""
    positions: str = "sinusoidal"
    """"sinusoidal", which have no weights, or "learned"."""
    embed_scale: bool = True
    """Multiply the embedding by √D."""
    dropout: float = 0.1
    """Dropout of embeddings, residual branches and attention weights, in training mode only."""
    activation: str = "gelu"
    """Of the feed-forward layers; "gelu" is the exact one, GPT-2's is "gelu_tanh"."""
    norm_eps: float = 1e-5
    """Epsilon of every layer norm."""
    image_width: int = 768
    """E, numbers of an image vector; where it is not D the vectors are projected first."""
    fusion: tuple[int, ...] = (-2,)
    """Blocks that look at pictures, counted from 0 or, below it, from the end; none: a model of text alone."""
    projection: str = "shared_bias"
    """How keys and values of pictures are made: "shared_bias", the words' matrices and own biases; "separate", own
    matrices; "shared", the words' biases too; "no_norm", as the first without LN_img; "gated", an attention to pictures
    alone behind that to words, times the tanh of a number that begins at 0."""
    scale: str = "head"
    """Scores of a fusion layer are divided by √(D/H), "head", or by √D, "model", as in the original."""
    image_mode: str = "drop"
    """What a hidden picture is: "drop", nothing; "zero", zeros; "null", a learned vector."""
    stack: int = 0
    """Blocks on top that look at words and then at pictures alone."""
    scope: str = "own"
    """Pictures that these see: a word's "own", those of its "past" as well, or "all" of the text."""
    mlm_head: bool = False
    """With the head that guesses masked words."""
    pad_id: int = 1
    """Padding, which counts no position; −1: none, positions count columns (GPT-2)."""
    eos_id: int = 2
    """End of a text."""
    mask_id: int = 3
    """What a masked word becomes. CLIP's word pieces have no mask: it is their unknown word, which no text holds."""

    def __post_init__(self) -> None:
        check_numbers(self, ("pad_id", "eos_id", "mask_id"), pad_id=-1, eos_id=0, mask_id=0, stack=0)
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise UserError(f"ValmConfig.{name} = {value!r}; expected one of {', '.join(choices)}")
        if self.positions == "sinusoidal" and (self.hidden % 2 or self.hidden < 4):
            raise UserError(
                f"ValmConfig.hidden = {self.hidden}; sinusoidal positions expect an even width, at least 4"
            )
        if not 0 <= self.dropout < 1:
            raise UserError(f"ValmConfig.dropout = {self.dropout}; expected at least 0 and below 1")
        for layer in self.fusion:
            if not -self.layers <= layer < self.layers:
                raise UserError(
                    f"ValmConfig.fusion names block {layer}; this model has {self.layers}: expected "
                    f"{-self.layers} … {self.layers - 1}"
                )
        _ = self.transformer  # refuses heads that do not divide the width, and unknown activations

    @property
    def fused(self) -> frozenset[int]:
        """The blocks that look at pictures, counted from 0."""
        return frozenset(layer % self.layers for layer in self.fusion)

    @property
    def transformer(self) -> TransformerConfig:
        """The configuration of the layers that `vlpnb.nn` brings."""
        return TransformerConfig.of(
            self,
            type_vocab=0,
            attention_dropout=self.dropout,
            norm="pre",
            pad_id=max(self.pad_id, 0),
            causal=True,
        )


# base is the paper's, gpt2 the public model's form; mini is for one GPU, nano and tiny for two CPU cores.
SIZES: dict[str, dict[str, Any]] = {
    "base": {},
    "gpt2": {
        "vocab_size": 50257, "max_positions": 1024, "positions": "learned", "embed_scale": False,
        "activation": "gelu_tanh", "pad_id": -1, "eos_id": 50256, "mask_id": 50256,
    },
    "mini": {"hidden": 384, "layers": 6, "heads": 6, "ffn": 1536, "max_positions": 256},
    "nano": {"hidden": 128, "layers": 4, "heads": 4, "ffn": 512, "max_positions": 128},
    "tiny": {"hidden": 96, "layers": 3, "heads": 4, "ffn": 384, "max_positions": 128},
}  # fmt: skip


def size_config(size: str, **changes: Any) -> ValmConfig:
    """The configuration of a named size, with changes. UserError: there is no such size."""
    if size not in SIZES:
        raise UserError(
            f"size: {size!r} is no size of VaLM{did_you_mean(size, SIZES)}; sizes: {', '.join(SIZES)}"
        )
    return ValmConfig(**(SIZES[size] | changes))


def parameter_count(config: ValmConfig) -> dict[str, int]:
    """Parameters of each part, from the formula. Of the paper's: 123,004,416 without "pictures", which are 3,072."""
    d, e, norm = config.hidden, config.image_width, 2 * config.hidden
    dense = (d + 1) * d
    think = (d + 1) * config.ffn + (config.ffn + 1) * d + norm
    reading = (0 if e == d else (e + 1) * d) + (e if config.image_mode == "null" else 0)
    apart = norm + 4 * dense + reading + norm  # an attention to pictures alone
    kinds = {
        "shared_bias": norm + 2 * d, "separate": norm + 2 * dense, "shared": norm, "no_norm": 2 * d,
        "gated": apart - reading + 1,
    }  # fmt: skip
    return {
        "embedding": config.vocab_size * d
        + (config.max_positions * d if config.positions == "learned" else 0),
        "blocks": config.layers * (4 * dense + norm + think) + norm,
        "pictures": len(config.fused) * (kinds[config.projection] + reading),
        "stack": config.stack * (4 * dense + norm + think + apart),
        "masked words": dense + norm + config.vocab_size if config.mlm_head else 0,
    }


def text_only(config: ValmConfig) -> ValmConfig:
    """The same model without pictures: GPT-2*, the paper's baseline."""
    return replace(config, fusion=(), stack=0)
