"""Notebook 31: a beam's step, CIDEr of one n, the SCST loss, blocked repetitions."""

import math
from collections import Counter

import torch

from tests.course.slips import Exercise
from vlpnb.course.checks import nb31


def beam_step(totals, scores, finished, slip=""):
    K, V = scores.shape
    others = {"probabilities": scores.softmax(-1), "logits": scores, "over beams": scores.log_softmax(0)}
    each = others.get(slip, scores.log_softmax(-1))
    each = each if slip == "forgotten" else totals[:, None] + each
    if slip != "goes on":
        each = each.masked_fill(finished[:, None], -10_000.0) if slip == "filled" else each.clone()
        each[finished] = each[finished] - 10_000.0
    if slip == "each":
        best = each.max(1)
        order = best.values.argsort(descending=True)
        return best.indices[order], best.values[order], order
    best, index = each.flatten().topk(K)
    parents = {"modulo": index % V, "by K": index // K, "index": index, "share": index / V}.get(
        slip, index // V
    )
    if slip == "turned":
        return best, index % V, parents
    return index % V, best, parents


def grams(words, n):
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def cider(caption, references, corpus, n, slip=""):
    df = Counter()
    for picture in corpus:
        found = [set(grams(words, n)) for words in picture]
        df.update(g for one in found for g in one) if slip == "references" else df.update(set().union(*found))

    def weigh(words):
        idf = {g: math.log(len(corpus)) - math.log(max(1, df[g])) for g in grams(words, n)}
        return {g: many * (1 if slip == "idf" else idf[g]) for g, many in grams(words, n).items()}

    h, total = weigh(caption), []
    for reference in references:
        r = weigh(reference)
        dot = sum((h[g] if slip == "clip" else min(h[g], r[g])) * r[g] for g in h.keys() & r.keys())
        lengths = [math.sqrt(sum(x * x for x in v.values())) for v in (h, r)]
        below = {"one": lengths[1] ** 2, "none": 1.0}.get(slip, lengths[0] * lengths[1])
        gap = len(caption) - len(reference)
        width = {"flat": math.inf, "sharp": 2}.get(slip, 72)
        total.append(dot / below * math.exp(-(gap**2) / width) if below else 0.0)
    if slip == "best":
        return 10 * max(total)
    return sum(total) / len(total) * (1 if slip == "ten" else 10)


def scst_loss(log_probs, words, reward, baseline, end, slip=""):
    mask = torch.ones_like(words)
    for b, row in enumerate(words.tolist()):
        last = row.index(end) if end in row else len(row) - 1
        last += {"before": -1, "past": 1}.get(slip, 0) if end in row else 0
        if slip != "all":
            mask[b, last + 1 :] = 0
    gain = {"bare": reward, "turned": baseline - reward}.get(slip, reward - baseline)
    if slip != "gradient":
        gain = gain.detach()
    each = log_probs.exp() if slip == "probabilities" else log_probs
    if slip == "captions first":
        return -((mask * gain[:, None] * each).sum(1) / mask.sum(1)).mean()
    each = each.detach() if slip == "detached" else each
    count = {"B T": words.numel(), "B": len(words)}.get(slip, mask.sum())
    loss = -(mask * gain[:, None] * each).sum() / count
    if slip == "number":
        return loss.item()
    return -loss if slip == "sign" else loss


def blocked(beams, n, slip=""):
    found = []
    for beam in beams:
        tail = {"n": n, "last": 1}.get(slip, n - 1)
        end, mine = beam[-tail:], set()
        for other in beams if slip == "across" else [beam]:
            for i in range(len(other) - tail):
                if other[i : i + tail] == end and not (slip == "once" and mine):
                    mine.add(other[i + tail])
        found.append({"tail": mine | set(beam[1 - n :]), "words": set(beam)}.get(slip, mine))
    return found


EXERCISES = (
    Exercise(
        nb31.check_beam_step,
        beam_step,
        {
            "probabilities": "log-probabilities, not probabilities",
            "logits": "no log-probabilities yet",
            "forgotten": "totals are forgotten",
            "goes on": "nothing may follow",
            "each": "one word for each beam",
            "modulo": "remainder",
            "by K": "not by K",
            "index": "whole-divide",
            "share": "whole number",
            "over beams": "the last axis",
            "turned": "words, totals, parents",
        },
        wrong=((lambda totals, *rest: totals, "expected .words, totals, parents"),),
    ),
    Exercise(
        nb31.check_cider,
        cider,
        {
            "idf": "rare n-grams weigh more",
            "clip": "at most as often",
            "one": "lengths of both vectors",
            "none": "not divided by the lengths",
            "references": "df counts the pictures",
            "flat": "penalty of another length is missing",
            "sharp": "the penalty is",
            "best": "average over the references",
            "ten": "factor 10",
        },
    ),
    Exercise(
        nb31.check_scst_loss,
        scst_loss,
        {
            "sign": "the sign",
            "bare": "baseline is missing",
            "all": "drawn after",
            "before": "stopping is a choice",
            "past": "VLP-13",
            "B T": "not over B",
            "B": "not over the captions",
            "probabilities": "not the probabilities",
            "gradient": "reward has a gradient",
            "number": "a plain number",
            "captions first": "mean of each caption first",
            "detached": "log-probabilities have no gradient",
        },
        wrong=(
            (
                lambda p, *rest: scst_loss(p.detach(), *rest, slip="gradient"),
                "log-probabilities have no gradient",
            ),
            (lambda p, w, r, b, end: scst_loss(p, w, b, r, end), "the sign|changed places"),
        ),
    ),
    Exercise(
        nb31.check_blocked,
        blocked,
        {
            "tail": "may come again; what",
            "n": "last n − 1 words; the n-th",
            "across": "on its own",
            "last": "not only the last one",
            "words": "only n-grams may not",
            "once": "go on after the first",
        },
        wrong=(
            (lambda beams, n: [set()], "a set for each"),
            (lambda beams, n: 6, "found int"),
            (lambda beams, n: [None] * 6, "found NoneType"),
            (lambda beams, n: [{tuple(beam[:n])} for beam in beams], "found n-grams"),
            (lambda beams, n: [{99}] * 6, "found .99."),
        ),
    ),
)
