"""Notebook 52: the score of an answer, two denominators, consistency, cleaned text."""

import re
from collections import defaultdict
from itertools import groupby

import torch

from tests.course.slips import Exercise
from vlpnb.course.checks import nb52


def answer_score(log_probs, ids, pad, slip=""):
    if slip == "own":
        said, targets = log_probs, ids
    else:
        said, targets = log_probs[:, :-1], ids[:, 1:]
    each = said.gather(2, targets[..., None])[..., 0]
    real = targets != pad
    if slip == "end":
        real = real & (targets != 2)
    if slip == "padding":
        real = torch.ones_like(real)
    score = (each * real).sum(1)
    changed = {
        "twice": score + each[:, 0],
        "mean": score / real.sum(1),
        "loss": -score,
        "first": each[:, 0],
        "probability": score.exp(),
        "one": score.sum(),
    }
    return changed.get(slip, score)


def xvnli(said, gold, slip=""):
    hits = sum(s == g or (slip == "dash" and g == "-") for s, g in zip(said, gold, strict=True))
    if slip == "counts":
        return hits, hits
    labelled = [g for g in gold if g != "-"]
    right = sum(s == g for s, g in zip(said, gold, strict=True))
    inner, outer = right / len(labelled), hits / len(gold)
    if slip == "percent":
        return 100 * inner, 100 * outer
    return {"all": (outer, outer), "labelled": (inner, inner), "exchanged": (outer, inner), "one": inner}.get(
        slip, (inner, outer)
    )


def consistency(rows, slip=""):
    if slip == "accuracy":
        return sum(row["right"] for row in rows) / len(rows)
    groups = defaultdict(list)
    for row in rows:
        groups[row["concept" if slip == "concept" else "caption"]].append(row["right"])
    found = list(groups.values())
    if slip == "neighbours":
        found = [[row["right"] for row in run] for _, run in groupby(rows, key=lambda row: row["caption"])]
    if slip == "four":
        found = [marks for marks in found if len(marks) == 4]
    one = {
        "mean": lambda marks: sum(marks) / len(marks),
        "but one": lambda marks: sum(marks) >= len(marks) - 1,
        "any": any,
    }.get(slip, all)
    return sum(map(one, found)) / (len(rows) if slip == "rows" else len(found))


def cleaning(text, most, slip=""):
    if slip == "turkish":
        text = text.translate({ord("I"): "ı", ord("İ"): "i"})
    text = {"cased": text, "folded": text.casefold()}.get(slip, text.lower())
    marks = ",.'!?\"()*#:;~" + ("" if slip == "dashes" else "-/")
    text = text.translate({ord(mark): "" if slip == "joined" else " " for mark in marks})
    if slip == "split":
        words = text.split()
    else:
        words = (text if slip == "runs" else re.sub(r"\s\s+", " ", text)).strip("\n ").split(" ")
    if slip == "characters" and len(words) == 1:
        words = [words[0][:most]]
    result = " ".join(words if slip == "all" else words[:most])
    if not result and slip != "empty":
        raise ValueError("nothing is left")
    return result


EXERCISES = (
    Exercise(
        nb52.check_answer_score,
        answer_score,
        {
            "twice": "counts twice",
            "end": "is left out",
            "padding": "padding is counted",
            "mean": "mean over pieces",
            "loss": "leave the sign",
            "own": "asked for its own",
            "first": "only the first piece",
            "probability": "logs are wanted",
            "one": "one number an answer",
        },
    ),
    Exercise(
        nb52.check_xvnli,
        xvnli,
        {
            "dash": "counted as right",
            "all": "1,150 of 1,164",
            "labelled": "over .all. rows",
            "exchanged": "changed places",
            "counts": "these are counts",
            "percent": "in percent",
            "one": "expected two numbers",
        },
    ),
    Exercise(
        nb52.check_consistency,
        consistency,
        {
            "accuracy": "this is accuracy",
            "mean": "all or nothing",
            "concept": "grouped by concept",
            "but one": "is forgiven",
            "any": "one right pair",
            "neighbours": "need not be neighbours",
            "rows": "not of rows",
            "four": "fewer than four",
        },
    ),
    Exercise(
        nb52.check_cleaning,
        cleaning,
        {
            "cased": "made small",
            "folded": "casefold",
            "turkish": "as Turkish does",
            "joined": "becomes a .space",
            "dashes": "become spaces, too",
            "runs": "runs of white space",
            "split": "no-break or ideographic",
            "all": "first 3 words",
            "characters": "cut by characters",
            "empty": "nothing is left but",
        },
    ),
)
