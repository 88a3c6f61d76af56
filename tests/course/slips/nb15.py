"""Notebook 15: masking, the joint loss, and calibrated answers."""

import torch
from torch.nn import functional as F

from tests.course.slips import Exercise
from vlpnb.course.checks import nb15


def mask(ids, special, mask_id, u, random_ids, slip=""):
    selected = u < 0.15 if slip == "special" else (u < 0.15) & ~special
    low, high = {"all": (0.15, 0.15), "none stay": (0.12, 0.15)}.get(slip, (0.12, 0.135))
    inputs = torch.where(selected & (u < high), random_ids, ids)
    inputs = torch.where(selected & (u < low), mask_id, inputs)
    if slip == "every label":
        return inputs, ids
    if slip == "masked only":
        return inputs, torch.where(selected & (u < 0.12), ids, -100)
    return inputs, torch.where(selected, inputs if slip == "inputs" else ids, -100)


def joint(word_scores, words, voken_scores, vokens, mlm_ratio=1.0, slip=""):
    if slip == "masked":
        vokens = vokens.masked_fill(words == -100, -100)
    reduction = "sum" if slip in ("sum", "all") else "mean"
    word = F.cross_entropy(word_scores.flatten(0, 1), words.flatten(), reduction=reduction)
    voken = F.cross_entropy(voken_scores.flatten(0, 1), vokens.flatten(), reduction=reduction)
    if slip == "exchanged":
        return mlm_ratio * voken + word
    if slip == "no ratio":
        return voken + word
    return (voken + mlm_ratio * word) / (words.numel() if slip == "all" else 1)


def calibrated(scores, right, slip=""):
    means = {"rows": scores.mean(1, keepdim=True), "plain": 0.0, "added": -scores.mean(0)}.get(
        slip, scores.mean(0)
    )
    answers = (scores - means).argmin(1) if slip == "lowest" else (scores - means).argmax(1)
    hits = answers == right
    return hits.sum().item() if slip == "count" else hits.float().mean().item()


EXERCISES = (
    Exercise(
        nb15.check_mask,
        mask,
        {
            "special": "never masked",
            "all": "every selected token",
            "none stay": "no token stayed",
            "every label": "every position has a label",
            "masked only": "must be guessed, too",
            "inputs": "original",
        },
    ),
    Exercise(
        nb15.check_joint_loss,
        joint,
        {
            "masked": "not only where a word is masked",
            "sum": "these are sums",
            "all": "all B·T positions",
            "exchanged": "weights the word loss",
            "no ratio": "no effect",
        },
    ),
    Exercise(
        nb15.check_calibrated,
        calibrated,
        {
            "rows": r"row\) changes no arg max",
            "plain": "plain scores",
            "count": "divide by the number",
            "lowest": "lowest scores",
        },
    ),
)
