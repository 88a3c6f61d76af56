"""CCLM written a second time, plainly and without the package: what `make_cclm` records.

Functions of weights by the original's names, in whatever type these have: the stack of text and fusion layers, heads,
losses and the original's optimiser; the picture encoder is in `cclm_vision`. Positions begin at 0, as in its files.
"""

import math

import torch
from torch.nn import functional as F

from tests.golden.cclm_vision import swin_views

EPS = 1e-5
BERT = "text_encoder.bert."
MLM = "text_encoder.cls.predictions."


def linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], EPS)


def attend(q, k, v, heads, seen):
    """`seen` broadcasts to (B, T, S); one head after the other."""
    found = []
    for one, key, value in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        scores = one @ key.transpose(1, 2) / one.shape[-1] ** 0.5
        found.append(scores.masked_fill(~seen, -math.inf).softmax(-1) @ value)
    return torch.cat(found, -1)


def attention(w, name, x, memory, heads, seen):
    q, k, v = (
        linear(w, f"{name}.self.{part}", y) for part, y in (("query", x), ("key", memory), ("value", memory))
    )
    mixed = linear(w, f"{name}.output.dense", attend(q, k, v, heads, seen))
    return norm(w, f"{name}.output.LayerNorm", x + mixed)


def layer(w, name, x, heads, seen, memory=None, memory_seen=None):
    x = attention(w, f"{name}.attention", x, x, heads, seen)
    if memory is not None:
        x = attention(w, f"{name}.crossattention", x, memory, heads, memory_seen)
    inner = F.gelu(linear(w, f"{name}.intermediate.dense", x))
    return norm(w, f"{name}.output.LayerNorm", x + linear(w, f"{name}.output.dense", inner))


def embed(w, ids, prefix=BERT):
    table = f"{prefix}embeddings."
    x = w[f"{table}word_embeddings.weight"][ids] + w[f"{table}position_embeddings.weight"][: ids.shape[1]]
    return norm(w, f"{table}LayerNorm", x + w[f"{table}token_type_embeddings.weight"][0])


def everything(x, seen=None):
    return torch.ones(len(x), 1, x.shape[1], dtype=torch.bool) if seen is None else seen[:, None]


class Model:
    """The pre-training model. `s` has the sizes that names do not tell."""

    def __init__(self, w, s):
        self.w, self.s = w, s

    def text(self, ids, mask):
        x = embed(self.w, ids)
        for i in range(self.s.text_layers):
            x = layer(self.w, f"{BERT}encoder.layer.{i}", x, self.s.heads, mask[:, None])
        return x

    def fuse(self, x, mask, memory=None, seen=None, stack=BERT + "encoder.layer.", first=None, causal=False):
        own = mask[:, None]
        if causal:
            own = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()[None]
        first = self.s.text_layers if first is None else first
        sees = None if memory is None else everything(memory, seen)
        for i in range(first, first + self.s.fusion_layers):
            x = layer(self.w, f"{stack}{i}", x, self.s.heads, own, memory, sees)
        return x

    def pictures(self, pixels):
        w = {
            k.removeprefix("vision_encoder."): v for k, v in self.w.items() if k.startswith("vision_encoder.")
        }
        return swin_views(w, pixels, self.s.window)

    def image_vector(self, view):
        return F.normalize(linear(self.w, "vision_proj", view[:, 0]), dim=-1)

    def text_vector(self, states):
        return F.normalize(linear(self.w, "text_proj", states[:, 0]), dim=-1)

    def words(self, x, prefix=MLM, table=f"{BERT}embeddings.word_embeddings.weight"):
        x = norm(
            self.w, f"{prefix}transform.LayerNorm", F.gelu(linear(self.w, f"{prefix}transform.dense", x))
        )
        return x @ self.w[table].T + self.w[f"{prefix}bias"]


def head(w, name, x):
    """Of the first position."""
    inner = F.gelu(norm(w, f"{name}.1", linear(w, f"{name}.0", x[:, 0])))
    return linear(w, f"{name}.3", inner)


def contrast(f, g, tau, identity=None):
    """Mean over the rows, one after the other."""
    identity = torch.arange(len(f)) if identity is None else identity
    total = 0.0
    for scores in (f @ g.T / tau, g @ f.T / tau):
        for i, row in enumerate(scores.log_softmax(1)):
            total = total - row[identity == identity[i]].mean()
    return total / (2 * len(f))


def negatives(queries, keys, tau, identity=None):
    weights = (queries @ keys.T / tau).softmax(1) + 1e-5
    identity = torch.arange(len(queries)) if identity is None else identity
    return weights.masked_fill(identity[:, None] == identity, 0.0)


def giou(a, b):
    found = []
    for (ax, ay, aw, ah), (bx, by, bw, bh) in zip(a, b, strict=True):
        wide = torch.minimum(ax + aw / 2, bx + bw / 2) - torch.maximum(ax - aw / 2, bx - bw / 2)
        high = torch.minimum(ay + ah / 2, by + bh / 2) - torch.maximum(ay - ah / 2, by - bh / 2)
        both = wide.clamp(min=0) * high.clamp(min=0)
        union = aw * ah + bw * bh - both
        hull = (torch.maximum(ax + aw / 2, bx + bw / 2) - torch.minimum(ax - aw / 2, bx - bw / 2)) * (
            torch.maximum(ay + ah / 2, by + bh / 2) - torch.minimum(ay - ah / 2, by - bh / 2)
        )
        found.append(both / union - (hull - union) / hull)
    return torch.stack(found)


def adam_step(p, g, state, rate, betas, eps, decay, before):
    """transformers' (decay last, ε before the correction), or with `before` PyTorch's; in place."""
    state["n"] = state.get("n", 0) + 1
    state["m"] = state.get("m", torch.zeros_like(p)) * betas[0] + g * (1 - betas[0])
    state["v"] = state.get("v", torch.zeros_like(p)) * betas[1] + g * g * (1 - betas[1])
    first, second = (1 - beta ** state["n"] for beta in betas)
    if before:
        p.mul_(1 - rate * decay)
        p.sub_(rate * (state["m"] / first) / ((state["v"] / second).sqrt() + eps))
    else:
        p.addcdiv_(state["m"], state["v"].sqrt() + eps, value=-rate * second**0.5 / first)
        p.add_(p, alpha=-rate * decay)


def recalls(to_texts, to_images, owner):
    """In per cent; a picture has a hit where any of its captions does."""
    found = {}
    for name, scores, right in (
        ("txt", to_texts, [torch.nonzero(owner == i)[:, 0].tolist() for i in range(len(to_texts))]),
        ("img", to_images, [[i] for i in owner.tolist()]),
    ):
        ranks = [
            min(row.tolist().index(r) for r in gold)
            for row, gold in zip(scores.argsort(dim=1, descending=True, stable=True), right, strict=True)
        ]
        for k in (1, 5, 10):
            found[f"{name}_r{k}"] = 100 * sum(rank < k for rank in ranks) / len(ranks)
        found[f"{name}_r_mean"] = sum(found[f"{name}_r{k}"] for k in (1, 5, 10)) / 3
    return found | {"r_mean": (found["txt_r_mean"] + found["img_r_mean"]) / 2}
