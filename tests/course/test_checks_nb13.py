"""Checks of notebook 13: the solutions pass, stubs and typical mistakes are named."""

import math

import numpy as np
import pytest
import torch

from vlpnb.course.checks import Wrong, nb13


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


def test_right_answers_pass(capsys):
    nb13.check_running_top_k(running_top_k)
    nb13.check_make_batches(make_batches)
    assert capsys.readouterr().out.count("Correct") == 2


def test_stubs_fail():
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb13.check_running_top_k(lambda queries, keys, k, chunk: ...)
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb13.check_make_batches(lambda lengths, budget: None)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("local", "inside their chunk"),
        ("ascending", "best first"),
        ("smallest", "smallest"),
        ("last", "last chunk"),
    ],
)
def test_slips_of_the_search_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb13.check_running_top_k(lambda *arguments: running_top_k(*arguments, slip=slip))


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("real", "padding counts"),
        ("unsorted", "sort the sentences"),
        ("alone", "fill them"),
        ("forgotten", "in no batch"),
    ],
)
def test_slips_of_the_batches_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb13.check_make_batches(lambda *arguments: make_batches(*arguments, slip=slip))


def effective_number(counts, slip=""):
    share = np.array([c for c in counts if c or slip == "zeros"]) / sum(counts)
    with np.errstate(all="ignore"):
        entropy = -(share * (np.log2 if slip in ("bits", "bases") else np.log)(share)).sum()
    return {"nats": entropy, "bits": entropy, "used": len(share), "all": len(counts)}.get(
        slip, np.exp(entropy)
    )


def test_the_effective_number(capsys):
    nb13.check_effective_number(effective_number)
    assert "Correct" in capsys.readouterr().out
    with pytest.raises(Wrong, match="nothing came back yet"):
        nb13.check_effective_number(lambda counts: ...)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("zeros", "0 · log 0"),
        ("nats", "entropy in nats"),
        ("bits", "entropy in bits"),
        ("bases", "different bases"),
        ("used", "used at all"),
        ("all", "size of the universe"),
    ],
)
def test_slips_of_the_effective_number_are_named(slip, message):
    with pytest.raises(Wrong, match=message):
        nb13.check_effective_number(lambda counts: effective_number(counts, slip))


def test_the_logarithm_of_zero_is_explained():
    with pytest.raises(Wrong, match="leave them out"):
        nb13.check_effective_number(
            lambda counts: math.exp(-sum(c / sum(counts) * math.log(c / sum(counts)) for c in counts))
        )
