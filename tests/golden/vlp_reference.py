"""VLP written down once more, in plain functions over a state dict with the original's names, without the package.

Everything is computed the long way: masks are −10,000 added to scores, all positions go through all layers, a search
reads its whole text again for every word, losses and CIDEr are loops.
"""

import math
from collections import Counter

import torch
from torch.nn import functional as F

BLOCKED = 10_000.0


def dense(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)


def projections(w, feat, vis_pe):
    """φ and ψ."""
    return dense(w, "vis_embed.2", dense(w, "vis_embed.0", feat).relu()).relu(), dense(
        w, "vis_pe_embed.0", vis_pe
    ).relu()


def embed(w, ids, segments, seen, masked=None):
    """Rows of the original: regions stand at 1..R, whatever ids say there."""
    tables = "bert.embeddings"
    segment = w[f"{tables}.token_type_embeddings.weight"][segments]
    positions = w[f"{tables}.position_embeddings.weight"][: ids.shape[1]]
    x = w[f"{tables}.word_embeddings.weight"][ids] + positions + segment
    regions = seen[0] + seen[1]
    if masked is not None:
        regions = regions * (1 - masked.to(regions.dtype))[..., None]
    count = regions.shape[1]
    x = torch.cat([x[:, :1], regions + segment[:, 1 : count + 1], x[:, count + 1 :]], dim=1)
    return norm(w, f"{tables}.LayerNorm", x)


def layer(w, name, x, mask, heads):
    q, k, v = (
        dense(w, f"{name}.attention.self.{part}", x).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in ("query", "key", "value")
    )
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 - BLOCKED * (1 - mask.to(x.dtype))[:, None]
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)
    x = norm(w, f"{name}.attention.output.LayerNorm", dense(w, f"{name}.attention.output.dense", mixed) + x)
    inner = F.gelu(dense(w, f"{name}.intermediate.dense", x))
    return norm(w, f"{name}.output.LayerNorm", dense(w, f"{name}.output.dense", inner) + x)


def backbone(w, ids, segments, seen, mask, heads, masked=None):
    """The embedding and every layer's output."""
    states = [embed(w, ids, segments, seen, masked)]
    while f"bert.encoder.layer.{len(states) - 1}.output.dense.bias" in w:
        states.append(layer(w, f"bert.encoder.layer.{len(states) - 1}", states[-1], mask, heads))
    return states


def words_of(w, hidden):
    x = norm(
        w, "cls.predictions.transform.LayerNorm", F.gelu(dense(w, "cls.predictions.transform.dense", hidden))
    )
    return F.linear(x, w["bert.embeddings.word_embeddings.weight"], w["cls.predictions.bias"])


def geometry(boxes, classes):
    """Place and classes of regions, the picture's size estimated."""
    wide = max(boxes[:, 0].max().item(), boxes[:, 2].max().item()) + 1e-5
    high = max(boxes[:, 1].max().item(), boxes[:, 3].max().item()) + 1e-5
    rows = []
    for box, chances in zip(boxes.tolist(), classes, strict=True):
        x1, y1, x2, y2 = box[0] / wide, box[1] / high, box[2] / wide, box[3] / high
        place = torch.tensor([x1, y1, x2, y2, max(0.0, (y2 - y1) * (x2 - x1)), box[5]])
        parts = []
        for part in (place.double(), chances.double()):
            spread = ((part - part.mean()) ** 2).mean()
            parts.append((part - part.mean()) / (spread + 1e-5).sqrt())
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def mask_of(mode, n, prefix, length):
    """One entry after the other."""
    rows = []
    for i in range(prefix + length):
        if mode == "bi":
            rows.append([int(j <= prefix + n) for j in range(prefix + length)])
        else:
            rows.append([int(j < prefix or prefix <= j <= i <= prefix + n) for j in range(prefix + length)])
    return torch.tensor(rows)


def segments_of(mode, n, prefix, length, types):
    first = 4 if mode == "s2s" and types == 6 else 0
    return torch.tensor(
        [first if i < prefix else first + 1 if i <= prefix + n else 0 for i in range(prefix + length)]
    )


def next_words(w, seen, sizes, written, mask=None, segments=None):
    """Logits behind the words written, for every picture; all is computed anew."""
    rows, steps, prefix = len(written), written.shape[1], sizes.regions + 2
    head = torch.tensor([sizes.cls, *[sizes.unk] * sizes.regions, sizes.sep]).expand(rows, -1)
    ids = torch.cat([head, written, torch.full((rows, 1), sizes.mask)], dim=1)
    whole = prefix + steps + 1
    if mask is None:
        mask = mask_of("s2s", sizes.max_text, prefix, sizes.max_text + 1)[None].expand(rows, -1, -1)
        segments = torch.tensor([4] * prefix + [5] * (sizes.max_text + 1)).expand(rows, -1)
    states = backbone(w, ids, segments[:, :whole], seen, mask[:, :whole, :whole], sizes.heads)
    return words_of(w, states[-1][:, -1])


def greedy(w, seen, sizes, steps, mask=None, segments=None):
    ids, tops = torch.zeros(len(seen[0]), 0, dtype=torch.long), []
    for _ in range(steps):
        top, word = next_words(w, seen, sizes, ids, mask, segments).max(-1)
        ids, tops = torch.cat([ids, word[:, None]], dim=1), [*tops, top]
    return ids, torch.stack(tops, dim=1)


def repeats(words, n, ignore):
    """Words that have followed the last n − 1 words before."""
    tail = words[len(words) - n + 1 :]
    if len(words) < n or set(tail) & ignore:
        return set()
    runs = [words[i : i + n] for i in range(len(words) - n + 1)]
    return {run[-1] for run in runs if run[:-1] == tail and not set(run) & ignore}


def beam(w, seen, sizes, run):
    """One picture: words, pointers and totals of all steps, the chosen text and its score; totals in float32."""
    width, wids, ptrs, totals = run["beam"], [], [], []
    texts = [[]]
    for step in range(sizes.steps):
        rows = [part.expand(len(texts), -1, -1) for part in seen]
        chances = next_words(w, rows, sizes, torch.tensor(texts, dtype=torch.long).reshape(len(texts), step))
        chances = chances.log_softmax(-1).float()
        found = []
        for b, text in enumerate(texts):
            if run["block_ngram"]:
                for word in repeats(text, run["block_ngram"], set(run["ignore"])) - set(run["ignore"]):
                    chances[b, word] -= BLOCKED
            if step + 1 <= run["min_length"]:
                chances[b, sizes.sep] = -BLOCKED
            best = chances[b].topk(width)
            before = totals[-1][b] if step else torch.tensor(0.0)
            ended = BLOCKED if text and text[-1] == sizes.sep else 0.0
            for value, word in zip(best.values, best.indices.tolist(), strict=True):
                found.append((value + before - ended, word, b))
        order = torch.stack([total for total, _, _ in found]).topk(width).indices.tolist()
        wids.append([found[i][1] for i in order])
        ptrs.append([found[i][2] for i in order])
        totals.append([found[i][0] for i in order])
        texts = [[*texts[found[i][2]], found[i][1]] for i in order]
    last = next(
        (s for s in range(sizes.steps) if all(word == sizes.sep for word in wids[s])), sizes.steps - 1
    )
    entries = [
        (totals[s][k].item() + run["length_bonus"] * (s + 1), s, k)
        for s in range(last + 1)
        for k in range(width)
        if wids[s][k] == sizes.sep or s == last
    ]
    score, s, k = max(entries, key=lambda entry: entry[0])
    chosen = []
    while s >= 0:
        chosen, k, s = [wids[s][k], *chosen], ptrs[s][k], s - 1
    chosen += [0] * (sizes.steps - len(chosen))
    return torch.tensor(wids), torch.tensor(ptrs), torch.tensor(totals), torch.tensor(chosen), score


def cider(said, references):
    """Of each caption, whose one reference it is; every reference counts twice among the documents."""
    documents = 2 * len(references)
    frequency = Counter()
    for words in references:
        for n in range(1, 5):
            for gram in {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}:
                frequency[gram] += 2

    def vector(words, n):
        counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        return {g: c * (math.log(documents) - math.log(max(1, frequency[g]))) for g, c in counts.items()}

    scores = []
    for mine, theirs in zip(said, references, strict=True):
        total = 0.0
        for n in range(1, 5):
            h, r = vector(mine, n), vector(theirs, n)
            length = math.sqrt(sum(x * x for x in h.values())) * math.sqrt(sum(x * x for x in r.values()))
            overlap = sum(min(h[g], r[g]) * r[g] for g in h if g in r)
            total += overlap / length if length else 0.0
        away = max(len(mine) - 1, 0) - max(len(theirs) - 1, 0)
        scores.append(10 * total / 4 * math.exp(-(away**2) / 72))
    return torch.tensor(scores)


def cut(ids, sep, pad):
    rows = []
    for row in ids.tolist():
        ends = [i + (word == sep) for i, word in enumerate(row) if word in (sep, pad)]
        kept = row[: ends[0]] if ends else row
        rows.append(kept + [pad] * (len(row) - len(kept)))
    return torch.tensor(rows)


def bert_adam(value, gradient, state, rate, decay, clip):
    """One tensor's update; `state` is its count and moments, `rate` takes the count."""
    done, m, v = state
    gradient = gradient * min(1.0, clip / (gradient.norm().item() + 1e-6))
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    return value - rate(done) * (m / (v.sqrt() + 1e-6) + decay * value), (done + 1, m, v)
