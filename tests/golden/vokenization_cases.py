"""The smaller parts for `make_vokenization.py`: losses from scores, counting, labels, optimisers.

Loops over definitions, slow on purpose, so that they share nothing with the package.
"""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import torch


def mean(terms):
    return torch.stack(terms).mean()


def paired_hinge(score, real, margin):
    half, terms = len(score) // 2, []
    for b, t in real.nonzero().tolist():
        partner = b + half if b < half else b - half
        terms.append((margin - score[b, t, b] + score[b, t, partner]).clamp(min=0))
    return mean(terms)


def all_pairs_hinge(score, real, margin):
    language, vision = [], []
    for i, t in real.nonzero().tolist():
        for j in range(len(score)):
            if j != i:
                language.append((margin - score[i, t, i] + score[i, t, j]).clamp(min=0))
            if j != i and real[j, t]:
                vision.append((margin - score[j, t, j] + score[i, t, j]).clamp(min=0))
    return mean(language) + mean(vision)


def info_nce(score, real, temperature, symmetric=False):
    score, to_picture, to_token = score / temperature, [], []
    for j, t in real.nonzero().tolist():
        own = score[j, t, j]
        to_picture.append(-(own.exp() / score[j, t].exp().sum()).log())
        others = [score[i, u, j].exp() for i, u in real.nonzero().tolist() if i != j]
        to_token.append(-(own.exp() / (own.exp() + sum(others))).log())
    return (mean(to_picture) + mean(to_token)) / 2 if symmetric else mean(to_picture)


def rank(scores, own):
    """1 for the best; the lower of equals first."""
    ahead = sum(x > scores[own] or (x == scores[own] and j < own) for j, x in enumerate(scores))
    return torch.tensor([int(ahead) + 1])


def recall(ranks):
    counted = {}
    for prefix, slack in (("r", 0), ("legacy_r", 1)):
        for k in (1, 5, 10):
            counted[f"{prefix}{k}"] = sum(int(r) <= k + slack for r in ranks) / len(ranks)
    return counted


def marks(voken, length):
    return [voken] + [-voken - 1] * (length - 1)


def supervision(draw, s):
    """Labels of voken pre-training: `target.<supervision>.<which positions>`."""
    ids, mask = draw.sentences(s)
    special = (mask == 0) | (ids == 2) | (ids == 3)
    special[:, 0] = True
    guessed = ~special & (draw.whole(0, 3, *ids.shape) == 0)
    images = draw.whole(0, s.vokens, *ids.shape).masked_fill(special, -100)
    starts = draw.whole(0, 3, *ids.shape) == 0
    starts[:, 1] = True
    marked, sentence, propagated = images.clone(), images.clone(), images.clone()
    for row, t in (~special).nonzero().tolist():
        if not starts[row, t]:
            propagated[row, t] = propagated[row, t - 1]
            marked[row, t], sentence[row, t] = -propagated[row, t] - 1, -100
    backwards = images.clone()
    for row in range(len(ids)):
        inner = ~special[row]
        backwards[row, inner] = images[row, inner].flip(0)
    kinds = {"vokens": images, "sentence": sentence, "propagated": propagated, "reverse": backwards}
    kinds["token"] = ids.masked_fill(special, -100)
    made = {"ids": ids, "special": special, "guessed": guessed, "images": images, "marked": marked}
    for name, label in kinds.items():
        made[f"target.{name}.all"] = label
        made[f"target.{name}.mask"] = label.masked_fill(~guessed, -100)
        made[f"target.{name}.nonmask"] = label.masked_fill(guessed, -100)
    return made | {"shuffle.sorted": images.sort(1).values}


def pieces(length, limit):
    count = math.ceil(length / limit)
    if length <= limit:
        return {"legacy": [length], "balanced": [length]}
    legacy, left = [], length
    while left:
        legacy.append(min(length // count, left))
        left -= legacy[-1]
    return {"legacy": legacy, "balanced": [len(part) for part in np.array_split(np.arange(length), count)]}


def blocks(tokens, block):
    starts = list(range(0, tokens, block))
    pairs = list(pairwise(starts))
    return {"legacy": max(len(pairs) - 1, 0), "full": sum(start + block <= tokens for start in starts)}


def align(forward, backward):
    """The pointer sweeps forward spans once; each backward span takes the greatest overlap of those it passes."""
    at, chosen = 0, []
    for start, end in backward:
        passed = [at]
        while forward[at][1] < end and at + 1 < len(forward):
            at += 1
            passed.append(at)

        def overlap(i, start=start, end=end):
            shared = max(0, min(end, forward[i][1]) - max(start, forward[i][0]))
            return shared / max(1, end - start + forward[i][1] - forward[i][0] - shared)

        chosen.append(max(passed, key=lambda i: (overlap(i), -i)))
    return chosen


def spans(draw, length):
    """Tokens over the characters of a text, some of which, like spaces, belong to none."""
    cuts = sorted({0, length, *draw.rng.integers(1, length, length // 3).tolist()})
    return [[a + int(b - a > 2 and draw.rng.random() < 0.3), b] for a, b in pairwise(cuts)]


def corpus(draw):
    lengths = [128, 129, 200, 255, 257, 300, 385, 1000, *draw.rng.integers(1, 2000, 8).tolist()]
    texts = [([[0, 2], [2, 6], [7, 11]], [[0, 5], [5, 6], [6, 10], [10, 11]])]
    texts += [(spans(draw, n), spans(draw, n)) for n in draw.rng.integers(6, 60, 8).tolist()]
    sizes = [(4422, 126), (25310, 126), (1260, 126), *draw.rng.integers(64, 9000, (6, 2)).tolist()]
    return {
        "pieces": [{"length": n, "limit": 128, **pieces(n, 128)} for n in lengths],
        "blocks": [{"tokens": n, "block": block, **blocks(n, block)} for n, block in sizes],
        "marks": [
            {"voken": v, "length": n, "stored": marks(v, n), "first": [v] + [-100] * (n - 1), "all": [v] * n}
            for v, n in [(3, 2), (0, 2), *draw.rng.integers(1, 30, (4, 2)).tolist()]
        ],
        "alignment": [{"forward": f, "backward": b, "source": align(f, b)} for f, b in texts],
    }


def diversity(pairs):
    counts = {}
    for token, picture in pairs:
        counts.setdefault(token, Counter())[picture] += 1
    rows = [list(count.values()) for count in counts.values()]
    each = {"images": len, "max_count": max, "mean_count": np.mean, "std_count": np.std}
    found = {name: float(np.mean([function(row) for row in rows])) for name, function in each.items()}
    return found | {"cover": len({picture for _, picture in pairs}), "types": len(rows)}


COLUMNS = ("RTE", "MRPC", "STS-B", "CoLA", "SST-2", "QNLI", "QQP", "MNLI", "MNLI-MM")


def table_row(scores):
    cells = ["%8.2f" % (100 * scores[name]) if name in scores else " " * 8 for name in COLUMNS]
    return "".join(cells) + "%8.2f" % (100 * sum(scores.values()) / len(scores))


def metrics(draw):
    published = (54.51, 84.72, 87.18, 52.32, 90.02, 88.36, 87.16, 81.92, 82.57)
    rows = [{name: value / 100 for name, value in zip(COLUMNS, published, strict=True)}]
    for _ in range(3):
        rows.append({name: round(float(x), 6) for name in COLUMNS if (x := draw.rng.random()) > 0.3})
    lists = [([[0.2, 0.9, 0.7, 0.1]], [2])]  # the own picture is second best
    for wide in (6, 14):
        lists.append((draw.whole(0, 9, 12, wide).double().div(8).tolist(), draw.whole(0, wide, 12).tolist()))
    pairs = [[("a", "x")] * 3 + [("a", "y")] + [("b", "x")] * 2]
    pairs.append([(f"w{a}", f"p{b}") for a, b in draw.rng.integers(0, 7, (60, 2)).tolist()])
    ranked = [
        (scores, own, torch.cat([rank(row, j) for row, j in zip(scores, own, strict=True)]))
        for scores, own in lists
    ]
    return {
        "recall": [
            {"scores": scores, "own": own, "ranks": found.tolist(), "shares": recall(found)}
            for scores, own, found in ranked
        ],
        "diversity": [{"pairs": each, "found": diversity(each)} for each in pairs],
        "rows": [{"scores": row, "text": table_row(row)} for row in rows],
    }


def masking(s):
    """BERT: 15 % of the ordinary tokens; of these 80 % become the mask, 10 % any piece of the vocabulary."""
    v = s.words
    shares = {"mask": 0.8 + 0.1 / v, "unchanged": 0.1 + 0.1 / v, "other": 0.1 * (v - 2) / v}
    return {
        "draw": {"rows": 4000, "tokens": 130, "vocabulary": v, "mask": 4, "rate": 0.15, "seed": s.seed},
        "selected": 0.15,
        "of_selected": shares,
        "special_selected": 0,
        "others_changed": 0,
    }


# Updates. Parameters are numpy arrays in float64.


def adamw(parameter, gradient, state, step, rate, decay, o):
    first, second = state.setdefault("first", 0 * gradient), state.setdefault("second", 0 * gradient)
    (b1, b2), eps = o["betas"], o["eps"]
    first = state["first"] = b1 * first + (1 - b1) * gradient
    second = state["second"] = b2 * second + (1 - b2) * gradient**2
    moved = first / (1 - b1**step) / (np.sqrt(second / (1 - b2**step)) + eps)
    if o["optimiser"] == "adamw":
        return parameter - rate * decay * parameter - rate * moved
    if decay:
        moved = moved + decay * parameter
        moved = moved * np.linalg.norm(parameter) / np.linalg.norm(moved)
    return parameter - rate * moved


def rate_of(step, o):
    if step < o["warmup"]:
        return o["lr"] * (step + 1) / (o["warmup"] + 1)
    left = (o["updates"] - step) / (o["updates"] - o["warmup"]) if o["schedule"] == "linear" else 1.0
    return o["lr"] * left


def optimisers(draw):
    usual = {
        "updates": 12,
        "warmup": 3,
        "betas": [0.9, 0.999],
        "eps": 1e-6,
        "clip": 1.0,
        "optimiser": "adamw",
    }
    runs = {
        "linear": usual | {"lr": 0.02, "schedule": "linear", "weight_decay": 0.1},
        "constant": usual
        | {"lr": 0.01, "warmup": 0, "schedule": "constant", "weight_decay": 0.0, "clip": 5.0},
        "lamb": usual | {"lr": 0.05, "schedule": "linear", "weight_decay": 0.1, "optimiser": "lamb"},
    }
    tensors, about = {}, {}
    shapes = {"dense.weight": (5, 4), "dense.bias": (5,), "LayerNorm.weight": (5,), "LayerNorm.bias": (5,)}
    for run, o in runs.items():
        values = {name: draw(*shape).numpy() for name, shape in shapes.items()}
        sizes = 10 ** draw.rng.uniform(-2, 0.5, o["updates"])  # some gradients are clipped, others not
        gradients = {
            name: (draw(o["updates"], *shape) * torch.from_numpy(sizes.reshape(-1, *[1] * len(shape))))
            .float()
            .double()
            .numpy()
            for name, shape in shapes.items()
        }
        tensors |= {f"{run}.start.{name}": torch.from_numpy(value.copy()) for name, value in values.items()}
        after, states, norms = {name: [] for name in shapes}, {name: {} for name in shapes}, []
        for step in range(o["updates"]):
            norms.append(math.sqrt(sum((gradients[name][step] ** 2).sum() for name in shapes)))
            factor = min(1.0, o["clip"] / (norms[-1] + 1e-6))
            for name in shapes:
                decay = o["weight_decay"] if name == "dense.weight" else 0.0
                gradient = factor * gradients[name][step]
                rate = rate_of(step, o)
                values[name] = adamw(values[name], gradient, states[name], step + 1, rate, decay, o)
                after[name].append(values[name])
        tensors |= {f"{run}.gradient.{name}": torch.from_numpy(g) for name, g in gradients.items()}
        tensors |= {f"{run}.after.{name}": torch.from_numpy(np.stack(rows)) for name, rows in after.items()}
        rates = [rate_of(step, o) for step in range(o["updates"])]
        about[run] = {"options": o, "rates": rates, "gradient_norms": norms}
    mixing = [(4.0, 2.0, 0.5, 1), (4.0, 2.0, 0.5, 2), (3.0, 1.5, 1.0, 3)]
    return tensors, {
        "runs": about,
        "mixing": [
            {
                "voken": v,
                "mlm": m,
                "mlm_ratio": r,
                "accumulation": a,
                "total": v + r * m,
                "gradients": [(v + r * m) / a] * a,
            }
            for v, m, r, a in mixing
        ],
    }
