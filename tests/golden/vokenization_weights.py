"""Sizes, random weights and sentences for `make_vokenization.py`."""

from dataclasses import dataclass

import numpy as np
import torch

CLS, SEP, SPECIALS = 2, 3, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTRAST = 512  # width of the contrastive head; fixed in the original


@dataclass(frozen=True)
class Sizes:
    """All that may differ from folder to folder."""

    seed: int = 0
    hidden: int = 32
    layers: int = 2
    heads: int = 4
    ffn: int = 48
    words: int = 61
    positions: int = 24
    norm_eps: float = 1e-12
    read: int = 2  # layers that the matcher reads, from the last one back
    middle: int = 12  # width within the matcher's heads
    joint: int = 8
    feature: int = 10  # width of a picture's features
    vokens: int = 19  # pictures
    views: int = 2  # of each picture
    sentences: int = 6
    tokens: int = 11  # of the longest sentence, with both special ones
    margin: float = 0.5
    temperature: float = 0.1
    mlm_ratio: float = 0.5


class Draw:
    """Random numbers that are exact in float32, held in float64."""

    def __init__(self, *seed):
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape, scale=1.0):
        return torch.from_numpy((scale * self.rng.standard_normal(shape)).astype(np.float32)).double()

    def whole(self, low, high, *shape):
        return torch.from_numpy(self.rng.integers(low, high, shape))

    def dense(self, name, rows, columns, bias=True):
        made = {f"{name}.weight": self(rows, columns, scale=columns**-0.5)}
        return made | ({f"{name}.bias": self(rows, scale=0.2)} if bias else {})

    def layer_norm(self, name, width):
        return {
            f"{name}.weight": (1 + self(width, scale=0.2)).float().double(),
            f"{name}.bias": self(width, scale=0.2),
        }

    def sentences(self, s):
        """Wrapped and padded: ids and mask [B, T], of several lengths, the first one full."""
        lengths = [s.tokens, *self.rng.integers(4, s.tokens + 1, s.sentences - 1).tolist()]
        ids = torch.zeros(s.sentences, s.tokens, dtype=torch.long)
        for row, length in zip(ids, lengths, strict=True):
            row[:length] = torch.cat(
                [torch.tensor([CLS]), self.whole(4, s.words, length - 2), torch.tensor([SEP])]
            )
        return ids, (torch.arange(s.tokens) < torch.tensor(lengths)[:, None]).long()


def weights(draw, s):
    """Those of the language model with its voken heads, and those of the matcher's two heads."""
    at = "bert.embeddings"
    w = {f"{at}.word_embeddings.weight": draw(s.words, s.hidden, scale=0.5)}
    w[f"{at}.position_embeddings.weight"] = draw(s.positions, s.hidden, scale=0.5)
    w[f"{at}.token_type_embeddings.weight"] = draw(2, s.hidden, scale=0.5)
    w |= draw.layer_norm(f"{at}.LayerNorm", s.hidden)
    for layer in range(s.layers):
        at = f"bert.encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            w |= draw.dense(f"{at}.attention.{name}", s.hidden, s.hidden)
        w |= draw.layer_norm(f"{at}.attention.output.LayerNorm", s.hidden)
        w |= draw.dense(f"{at}.intermediate.dense", s.ffn, s.hidden)
        w |= draw.dense(f"{at}.output.dense", s.hidden, s.ffn)
        w |= draw.layer_norm(f"{at}.output.LayerNorm", s.hidden)
    at = "cls.predictions"
    w |= draw.dense(f"{at}.transform.dense", s.hidden, s.hidden)
    w |= draw.layer_norm(f"{at}.transform.LayerNorm", s.hidden) | {f"{at}.bias": draw(s.words, scale=0.2)}
    w["voken_feat_emb.weight"] = draw(s.vokens, s.feature)
    for kind, width in (("cls", s.vokens), ("reg", s.feature)):
        at = f"visual_{kind}_head"
        w |= draw.dense(f"{at}.dense", s.hidden, s.hidden) | draw.layer_norm(f"{at}.layer_norm", s.hidden)
        w |= draw.dense(f"{at}.decoder", width, s.hidden)
    at = "visual_ctr_head"
    w |= draw.dense(f"{at}.dense", CONTRAST, s.hidden) | draw.layer_norm(f"{at}.layer_norm_x", CONTRAST)
    w |= draw.dense(f"{at}.decoder_voken_feat", CONTRAST, s.feature, bias=False)
    w |= draw.layer_norm(f"{at}.layer_norm_y", CONTRAST)
    matcher = {}
    for side, width in (("lang_model", s.read * s.hidden), ("visn_model", s.feature)):
        matcher |= draw.dense(f"{side}.mlp.0", s.middle, width)
        matcher |= draw.dense(f"{side}.mlp.3", s.joint, s.middle)
    return w, matcher
