"""Notebook 13: a running top k, batches under a budget, and the effective number of images."""

import math

import numpy as np
import torch

from tests.course.slips import Exercise
from vlpnb.course.checks import nb13


def running_top_k(queries, keys, k, chunk, slip=""):
    best = torch.empty(len(queries), 0)
    where = torch.empty(len(queries), 0, dtype=torch.long)
    for start in range(0, len(keys), chunk):
        scores = queries @ keys[start : start + chunk].T
        index = torch.arange(scores.shape[1]).expand_as(scores) + (0 if slip == "local" else start)
        if slip == "last" and start + chunk >= len(keys):
            best, where = best[:, :0], where[:, :0]
        best, where = torch.cat([best, scores], dim=1), torch.cat([where, index], dim=1)
        best, place = best.topk(min(k, best.shape[1]), dim=1, largest=slip != "smallest")
        where = where.gather(1, place)
    return (best.flip(1), where.flip(1)) if slip == "ascending" else (best, where)


def make_batches(lengths, budget, slip=""):
    batches, size = [], sum if slip == "real" else max
    order = (
        range(len(lengths)) if slip == "unsorted" else sorted(range(len(lengths)), key=lengths.__getitem__)
    )
    for i in order:
        joined = [lengths[j] for j in batches[-1]] + [lengths[i]] if batches else []
        padded = sum(joined) if size is sum else len(joined) * max(joined, default=0)
        if batches and padded <= budget and slip != "alone":
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches[:-1] if slip == "forgotten" else batches


def effective_number(counts, slip=""):
    share = np.array([c for c in counts if c or slip == "zeros"]) / sum(counts)
    with np.errstate(all="ignore"):
        entropy = -(share * (np.log2 if slip in ("bits", "bases") else np.log)(share)).sum()
    return {"nats": entropy, "bits": entropy, "used": len(share), "all": len(counts)}.get(
        slip, np.exp(entropy)
    )


def logarithm_of_zero(counts):
    return math.exp(-sum(c / sum(counts) * math.log(c / sum(counts)) for c in counts))


EXERCISES = (
    Exercise(
        nb13.check_running_top_k,
        running_top_k,
        {
            "local": "inside their chunk",
            "ascending": "best first",
            "smallest": "smallest",
            "last": "last chunk",
        },
    ),
    Exercise(
        nb13.check_make_batches,
        make_batches,
        {
            "real": "padding counts",
            "unsorted": "sort the sentences",
            "alone": "fill them",
            "forgotten": "in no batch",
        },
    ),
    Exercise(
        nb13.check_effective_number,
        effective_number,
        {
            "zeros": "0 · log 0",
            "nats": "entropy in nats",
            "bits": "entropy in bits",
            "bases": "different bases",
            "used": "used at all",
            "all": "size of the universe",
        },
        wrong=((logarithm_of_zero, "leave them out"),),
    ),
)
