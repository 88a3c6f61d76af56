"""LXMERT written down once more, in plain functions over a state dict with the original's names, without the package.

The attention of both directions is called twice, masks are −10,000 added to scores, all positions go through all
heads: the long way that the package's shortcuts must equal.
"""

import torch
from torch.nn import functional as F


def dense(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)


def look(w, name, out, x, memory, mask, heads):
    """Attention of x to memory as a residual branch, and its map; `mask` is 1 at what may be seen."""
    q, k, v = (
        dense(w, f"{name}.{part}", source).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part, source in (("query", x), ("key", memory), ("value", memory))
    )
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    scores = scores + (1 - mask.to(scores.dtype))[:, None, None] * -10_000
    attention = scores.softmax(-1)
    mixed = (attention @ v).transpose(1, 2).flatten(-2)
    return norm(w, f"{out}.LayerNorm", dense(w, f"{out}.dense", mixed) + x), attention


def think(w, inner, out, x):
    return norm(w, f"{out}.LayerNorm", dense(w, f"{out}.dense", F.gelu(dense(w, f"{inner}.dense", x))) + x)


def layer(w, name, x, mask, heads):
    x, attention = look(w, f"{name}.attention.self", f"{name}.attention.output", x, x, mask, heads)
    return think(w, f"{name}.intermediate", f"{name}.output", x), attention


def backbone(w, ids, mask, features, boxes, visual_mask, heads, layers):
    """States, and hidden states and attention maps by their recorded names; `layers`: how many of each kind."""
    tables, hidden, maps = "bert.embeddings", {}, {}
    x = (
        F.embedding(ids, w[f"{tables}.word_embeddings.weight"], padding_idx=0)
        + F.embedding(
            torch.arange(ids.shape[1])[None], w[f"{tables}.position_embeddings.weight"], padding_idx=0
        )
        + F.embedding(torch.zeros_like(ids), w[f"{tables}.token_type_embeddings.weight"], padding_idx=0)
    )
    x = hidden["text_embedding"] = norm(w, f"{tables}.LayerNorm", x)
    for i in range(layers[0]):
        x, maps[f"text_layer.{i}"] = layer(w, f"bert.encoder.layer.{i}", x, mask, heads)
        hidden[f"text_layer.{i}"] = x
    name = "bert.encoder.visn_fc"
    v = norm(w, f"{name}.visn_layer_norm", dense(w, f"{name}.visn_fc", features))
    v = (v + norm(w, f"{name}.box_layer_norm", dense(w, f"{name}.box_fc", boxes))) / 2
    hidden["visual_embedding"] = v
    for i in range(layers[1]):
        v, maps[f"visual_layer.{i}"] = layer(w, f"bert.encoder.r_layers.{i}", v, visual_mask, heads)
        hidden[f"visual_layer.{i}"] = v
    for i in range(layers[2]):
        name, of = f"bert.encoder.x_layers.{i}", f"cross_layer.{i}"
        shared = f"{name}.visual_attention.att", f"{name}.visual_attention.output"
        text, maps[f"{of}.cross.text_to_visual"] = look(w, *shared, x, v, visual_mask, heads)
        seen, maps[f"{of}.cross.visual_to_text"] = look(w, *shared, v, x, mask, heads)
        own = [
            (f"{name}.{side}_self_att.self", f"{name}.{side}_self_att.output") for side in ("lang", "visn")
        ]
        text, maps[f"{of}.text_self"] = look(w, *own[0], text, text, mask, heads)
        seen, maps[f"{of}.visual_self"] = look(w, *own[1], seen, seen, visual_mask, heads)
        x = hidden[f"{of}.text"] = think(w, f"{name}.lang_inter", f"{name}.lang_output", text)
        v = hidden[f"{of}.visual"] = think(w, f"{name}.visn_inter", f"{name}.visn_output", seen)
    return {"text": x, "visual": v, "pooled": dense(w, "bert.pooler.dense", x[:, 0]).tanh()}, hidden, maps


def transform(w, name, x):
    return norm(w, f"{name}.LayerNorm", F.gelu(dense(w, f"{name}.dense", x)))


def pooled_head(w, name, x):
    x = F.layer_norm(
        F.gelu(dense(w, f"{name}.0", x)),
        w[f"{name}.2.weight"].shape,
        w[f"{name}.2.weight"],
        w[f"{name}.2.bias"],
        1e-12,
    )
    return dense(w, f"{name}.3", x)


def heads_of(w, out):
    """Scores of all heads of pre-training at all positions."""
    words = transform(w, "cls.predictions.transform", out["text"])
    regions = transform(w, "obj_predict_head.transform", out["visual"])
    scores = {
        name: dense(w, f"obj_predict_head.decoder_dict.{name}", regions) for name in ("obj", "attr", "feat")
    }
    scores["mlm"] = F.linear(words, w["bert.embeddings.word_embeddings.weight"], w["cls.predictions.bias"])
    scores["match"] = dense(w, "cls.seq_relationship", out["pooled"])
    return scores | {"qa": pooled_head(w, "answer_head.logit_fc", out["pooled"])}


def losses(scores, given):
    """The six losses of pre-training and their sum; labels of −1 are none."""

    def entropy(name, labels, reduction="mean"):
        return F.cross_entropy(
            scores[name].flatten(0, -2), labels.flatten(), ignore_index=-1, reduction=reduction
        )

    found = {
        "mlm": entropy("mlm", given["mlm_labels"]),
        "match": entropy("match", given["match_labels"]),
        "qa": entropy("qa", given["qa_labels"]),
    }
    for name in ("obj", "attr"):
        each = entropy(name, given[f"{name}_labels"], "none")
        found[name] = (each * given[f"{name}_conf"].flatten()).mean() / 0.15
    each = F.smooth_l1_loss(scores["feat"], given["feat_targets"], reduction="none").mean(-1)
    found["feat"] = (each * given["feat_mask"]).mean() / 0.15
    return found | {"total": sum(found.values())}


def bert_adam(values, state, gradients, rate, decay):
    """One step, in place; `state` holds a count and two moments for each parameter; `rate` takes the count."""
    for name, gradient in gradients.items():
        if gradient is None:
            continue
        done, m, v = state.get(name, (0, torch.zeros_like(gradient), torch.zeros_like(gradient)))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        state[name] = done + 1, m, v
        values[name] = values[name] - rate(done) * (m / (v.sqrt() + 1e-6) + decay * values[name])
