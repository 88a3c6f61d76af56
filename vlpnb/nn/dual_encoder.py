"""A dual encoder: a causal text tower and a projection of picture features into one space, trained by InfoNCE.

Paper: CLIP (Radford et al. 2021, section 2.3), which VaLM (Wang et al. 2022, section 2.2) asks for pictures with the
state of every token. The text side is a pre-norm Transformer that reads from left to right; a text's vector is the
state at its end token. The picture side reads the features of a backbone that stays frozen, so that no picture is
opened in training.

Differs from CLIP: the loss may also ask a state inside the text for the picture (`prefixes`), because VaLM reads those
states, which CLIP leaves to themselves; and small sizes.
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.files import atomic, write_json
from vlpnb.nn.checkpoints import fill_module, read_settings, read_weights
from vlpnb.nn.transformer import Encoder, TransformerConfig, init_weights

WEIGHTS, SETTINGS = "model.safetensors", "config.json"
LARGEST_SCALE = 100.0  # of CLIP: a temperature of 0.01


@dataclass(frozen=True)
class DualEncoderConfig:
    """Shape of a dual encoder and the ids of its tokenizer."""

    vocab_size: int = 2000
    """V, word pieces of the text side."""
    start_id: int = 2
    """Stands before every text."""
    end_id: int = 3
    """Stands behind every text; its state is the text's vector."""
    pad_id: int = 0
    """Fills rows on the right; nobody sees it."""
    longest: int = 75
    """Word pieces of a text without its two special ones; CLIP's."""
    hidden: int = 192
    """Width of the text side."""
    layers: int = 3
    """Its blocks."""
    heads: int = 4
    """Its attention heads."""
    ffn: int = 768
    """Width inside its feed-forward layers."""
    dropout: float = 0.0
    """Of the text side and of picture features, in training."""
    feature_width: int = 384
    """F, of the pictures' features."""
    width: int = 128
    """E, of the common space."""
    image_hidden: int = 0
    """Width of a layer inside the picture side; 0: features are projected at once."""
    temperature: float = 0.07
    """What scores are divided by at the start; it is learned."""
    init_std: float = 0.02
    """Of the initial weights; narrow models start better with 1/√hidden."""

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise UserError(f"longest = {self.longest}; expected at least one word piece")
        for name in ("start_id", "end_id", "pad_id"):
            if not 0 <= getattr(self, name) < self.vocab_size:
                raise UserError(
                    f"{name} = {getattr(self, name)}; expected an id below vocab_size = {self.vocab_size}"
                )

    @property
    def text(self) -> TransformerConfig:
        """The Transformer of the text side."""
        return TransformerConfig(
            vocab_size=self.vocab_size, hidden=self.hidden, layers=self.layers, heads=self.heads, ffn=self.ffn,
            max_positions=self.longest + 2, type_vocab=0, dropout=self.dropout, attention_dropout=self.dropout,
            norm_eps=1e-5, norm="pre", pad_id=self.pad_id, causal=True,
        )  # fmt: skip


class DualEncoder(nn.Module):
    """Both sides and the learned scale of their products."""

    def __init__(self, config: DualEncoderConfig):
        super().__init__()
        self.config = config
        self.text = Encoder(config.text)
        self.text_projection = nn.Linear(config.hidden, config.width, bias=False)
        self.image_norm = nn.LayerNorm(config.feature_width)
        self.image_dropout = nn.Dropout(config.dropout)
        inner = config.image_hidden or config.width
        self.image = nn.Linear(config.feature_width, inner)
        self.image_projection = (
            nn.Sequential(nn.GELU(), nn.Linear(inner, config.width)) if config.image_hidden else nn.Identity()
        )
        init_weights(self, config.init_std)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / config.temperature)))

    def token_states(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T E"]:
        """The unit vector of every position; those behind the end token mean nothing."""
        return F.normalize(self.text_projection(self.text(ids).last).float(), dim=-1)

    def image_vectors(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N E"]:
        """Pictures in the common space, not normalised."""
        return self.image_projection(self.image(self.image_dropout(self.image_norm(features)))).float()

    @property
    def scale(self) -> Float[Tensor, ""]:
        """What products of unit vectors are multiplied by."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        features: Float[Tensor, "B F"],
        ends: Int[Tensor, " B"],
        inside: Int[Tensor, " B"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The summed InfoNCE of a batch of pairs.

        Args:
            ids: start, text, end, padding.
            features: of each text's picture.
            ends: where the end tokens are.
            inside: a position of each text that is asked for its picture too.
        Returns:
            `pairs` and, with `inside`, `prefixes`, each a sum over B.
        """
        states = self.token_states(ids)
        pictures = F.normalize(self.image_vectors(features), dim=-1)
        rows = torch.arange(len(ids), device=ids.device)
        losses = {"pairs": infonce(states[rows, ends], pictures, self.scale)}
        if inside is not None:
            losses["prefixes"] = infonce(states[rows, inside], pictures, self.scale)
        return losses


def infonce(
    text: Float[Tensor, "B E"], pictures: Float[Tensor, "B E"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, ""]:
    """InfoNCE (van den Oord et al. 2018) both ways, as CLIP has it: the mean of −log p(own picture | text) and of
    −log p(own text | picture), summed over the batch; text i belongs to picture i.
    """
    scores = scale * text @ pictures.T  # (B, B)
    own = torch.arange(len(scores), device=scores.device)
    return (
        F.cross_entropy(scores, own, reduction="sum") + F.cross_entropy(scores.T, own, reduction="sum")
    ) / 2


def save_dual_encoder(folder: str | Path, model: DualEncoder) -> Path:
    """Write `model.safetensors` and, last, `config.json`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / WEIGHTS) as temporary:
        save_file({name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}, temporary)
    write_json(folder / SETTINGS, {"architecture": "dual_encoder", **asdict(model.config)})
    return folder


def load_dual_encoder(folder: str | Path) -> DualEncoder:
    """The dual encoder of a folder, in eval mode. UserError: absent, damaged, or of another shape."""
    file = Path(folder) / SETTINGS
    settings = read_settings(file)
    kind = settings.pop("architecture", None)
    fields = asdict(DualEncoderConfig())
    wrong = sorted(settings.keys() ^ fields.keys())
    if kind != "dual_encoder" or wrong:
        raise UserError(
            f"{file}: architecture {kind!r}, and fields that are missing or unknown: {', '.join(wrong) or 'none'}; "
            "expected the settings of a dual encoder"
        )
    model = DualEncoder(replace(DualEncoderConfig(), **settings))
    fill_module(model, read_weights(Path(folder) / WEIGHTS), Path(folder) / WEIGHTS)
    return model.eval()
