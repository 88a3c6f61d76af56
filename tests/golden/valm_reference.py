"""VaLM written down once more, in plain functions over a state dict of the release's names, without the package.

Everything is computed the long way: every picture is projected, there is one softmax in the open, positions are loops,
the text tower reads one chunk at a time.
"""

import math

import torch
from torch.nn import functional as F

PAD, EOS, OFFSET, START, END = 1, 2, 4, 49406, 49407
SEPARATORS = [49407, 0, 269, 282, 256, 281, 267, 1081, 3823, 2811, 4332, 1818, 2361, 270, 268]


def dense(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)


def split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)  # (…, H, T, d)


def attention(w, name, x, images, heads, scale, padding=None):
    """(output after out_proj, attention [B, H, T, T + K]); images None: words alone."""
    length = x.shape[1]
    q, k, v = (split(dense(w, f"{name}.{part}_proj", x), heads) for part in "qkv")
    scores = scale * q @ k.transpose(-1, -2)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    scores = scores.masked_fill(future, -math.inf)
    if padding is not None:
        scores = scores.masked_fill(padding[:, None, None], -math.inf)
    if images is None:
        a = scores.softmax(-1)
        return dense(w, f"{name}.out_proj", (a @ v).transpose(1, 2).flatten(-2)), a
    g = norm(w, f"{name}.img_layer_norm", images.to(x.dtype))
    pieces = []
    for part in "kv":
        weight, bias = w[f"{name}.{part}_proj.weight"], w[f"{name}.img_{part}_proj.bias"]
        pieces.append(
            F.linear(g, weight, bias).unflatten(-1, (heads, -1)).permute(0, 3, 1, 2, 4)
        )  # (B, H, T, K, d)
    to_images = scale * (q[:, :, :, None] * pieces[0]).sum(-1)
    a = torch.cat([scores, to_images], dim=-1).softmax(-1)
    mixed = a[..., :length] @ v + (a[..., length:, None] * pieces[1]).sum(-2)
    return dense(w, f"{name}.out_proj", mixed.transpose(1, 2).flatten(-2)), a


def layer(w, name, x, images, heads, scale, padding=None):
    branch, _ = attention(
        w, f"{name}self_attn", norm(w, f"{name}self_attn_layer_norm", x), images, heads, scale, padding
    )
    x = x + branch
    inner = F.gelu(dense(w, f"{name}fc1", norm(w, f"{name}final_layer_norm", x)))
    return x + dense(w, f"{name}fc2", inner)


def positions(ids, width):
    """The sinusoids of every place, counted from 2 over what is no padding."""
    out = torch.zeros(*ids.shape, width, dtype=torch.float64)
    half = width // 2
    for row, text in enumerate(ids.tolist()):
        place = PAD
        for column, token in enumerate(text):
            if token == PAD:
                continue
            place += 1
            for i in range(half):
                angle = place * 10000 ** (-i / (half - 1))
                out[row, column, i], out[row, column, half + i] = math.sin(angle), math.cos(angle)
    return out


def decoder(w, ids, images, layers, heads, fused):
    """Embedding sum and every layer's output, the state after the final norm."""
    table = w["decoder.embed_tokens.weight"]
    width = table.shape[1]
    states = [math.sqrt(width) * table[ids] + positions(ids, width)]
    padding = ids == PAD
    for i in range(layers):
        seeing = images if i == fused else None
        scale = (width if seeing is not None else width / heads) ** -0.5
        hidden = padding if seeing is None and padding.any() else None
        states.append(layer(w, f"decoder.layers.{i}.", states[-1], seeing, heads, scale, hidden))
    return states, norm(w, "decoder.layer_norm", states[-1])


def chunks(ids):
    """Lengths of the chunks of a text of CLIP's ids."""
    lengths, rest = [], list(ids)
    while len(rest) > 75:
        length = 75
        for separator in SEPARATORS:
            if separator in rest and rest.index(separator) < 75:
                length = rest.index(separator) + 1
                break
        lengths.append(length)
        rest = rest[length:]
    return lengths + ([len(rest)] if rest else [])


def clip_ids(ids):
    return [END if i == EOS else 0 if i == PAD else i - OFFSET for i in ids]


def tower(w, tokens, heads, layers):
    """States of one text [START, …, END] after projection, all positions, not normalised."""
    x = w["token_embedding"][tokens] + w["positional_embedding"][: len(tokens)]
    future = torch.full((len(tokens), len(tokens)), -math.inf, dtype=x.dtype).triu(1)
    for i in range(layers):
        name = f"transformer.resblocks.{i}"
        u = norm(w, f"{name}.ln_1", x)
        joined = F.linear(u, w[f"{name}.attn.in_proj_weight"], w[f"{name}.attn.in_proj_bias"])
        q, k, v = (split(part, heads) for part in joined.chunk(3, dim=-1))
        a = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + future).softmax(-1)
        x = x + dense(w, f"{name}.attn.out_proj", (a @ v).transpose(0, 1).flatten(-2))
        inner = dense(w, f"{name}.mlp.c_fc", norm(w, f"{name}.ln_2", x))
        x = x + dense(w, f"{name}.mlp.c_proj", inner * torch.sigmoid(1.702 * inner))
    return norm(w, "ln_final", x) @ w["text_projection"]


def queries(w, lm_ids, heads, layers):
    """(B, T, E) unit rows, one for each token, chunk by chunk; and the chunks' lengths."""
    out, cut = [], []
    for text in lm_ids.tolist():
        ids = clip_ids(text)
        cut.append(chunks(ids))
        rows, first = [], 0
        for length in cut[-1]:
            states = tower(w, torch.tensor([START, *ids[first : first + length], END]), heads, layers)
            rows.append(states[1:-1])
            first += length
        out.append(torch.cat(rows))
    found = torch.stack(out)
    return found / found.norm(dim=-1, keepdim=True), cut


def rate_of(step, peak, warmup, start):
    if step < warmup:
        return start + step * (peak - start) / warmup
    return peak * math.sqrt(warmup) / math.sqrt(step)


def adam(p, m, v, gradient, step, rate, betas, eps, decay):
    """One update of fairseq's Adam, in place; `step` counts from 1."""
    m.mul_(betas[0]).add_(gradient, alpha=1 - betas[0])
    v.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    size = rate * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
    p.add_(p, alpha=-decay * rate)
    p.addcdiv_(m, v.sqrt().add_(eps), value=-size)
