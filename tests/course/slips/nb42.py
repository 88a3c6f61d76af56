"""Notebook 42: prompts, balanced sizes, calibration, intervals, macro accuracy, bugs."""

from collections import Counter

import numpy as np

from tests.course.slips import Exercise
from vlpnb.course.checks import nb42


def rendering(template, descriptor, item, slip=""):
    place = "{d}" if descriptor or slip == "gap" else "{d} "
    if slip == "nested":
        return template.replace(place, descriptor).replace("{x}", item).replace("{x}", item)
    parts = template.split("{x}")
    parts = parts if slip == "brace" else [part.replace(place, descriptor) for part in parts]
    if slip == "brace empty" and not descriptor:
        return template.replace("{x}", item)
    if slip == "x":
        return "{x}".join(parts)
    if slip == "once":
        return "{x}".join([item.join(parts[:2]), *parts[2:]])
    text = item.join(parts)
    changed = {"lower": text.lower(), "stop": text + ".", "behind": text + " ", "before": " " + text}
    return changed.get(slip, text)


def size_questions(pairs, templates, slip=""):
    if slip == "comma":
        templates = ["".join(templates)]
    if slip == "first":
        templates = templates[:1]
    found = []
    for template in templates:
        for big, small in pairs:
            for a, b in ((big, small), (small, big)):
                if (slip == "bigger" and a != big) or (slip == "smaller" and a != small):
                    continue
                text = template.format(a=a, b=b)
                text = template.replace("{a}", a) if slip == "left" else text
                answer = "yes" if a == big or slip == "yes" else "no"
                found.append((text, {"yes": "no", "no": "yes"}[answer] if slip == "turned" else answer))
    return found + found[:1] if slip == "twice" else found


def calibrated(log_probs, slip=""):
    mean = {
        "raw": 0.0,
        "rows": log_probs.mean(1, keepdim=True),
        "added": -log_probs.mean(0),
        "probabilities": log_probs.exp().mean(0).log(),
        "best": log_probs.amax(0),
    }.get(slip, log_probs.mean(0))
    table = log_probs / mean if slip == "divided" else log_probs - mean
    if slip == "table":
        return table
    if slip == "prompts":
        return table.argmax(0)
    return table.argmin(1) if slip == "lowest" else table.argmax(1)


def bootstrap(right, draws, random, slip=""):
    values = {"cells": right.ravel().astype(float), "prompts": right.mean(0)}.get(slip, right.mean(1))
    n = len(values)
    if slip == "same":
        chosen = np.stack([random.permutation(n) for _ in range(draws)])
    else:
        chosen = random.integers(n, size=(draws, n))
    means = values[chosen].mean(1)
    if slip == "things":
        means = values
    if slip == "deviation":
        half = 1.96 * values.std(ddof=1)
        return values.mean() - half, values.mean() + half
    low, high = np.percentile(means, {"90": (5, 95), "all": (0, 100)}.get(slip, (2.5, 97.5)))
    return (high, low) if slip == "turned" else (low, high)


def macro(said, answers, slip=""):
    hits = Counter(a for s, a in zip(said, answers, strict=True) if s == a)
    below = Counter(said if slip == "precision" else answers)
    shares = [hits[name] / many for name, many in below.items()]
    if slip == "micro":
        return sum(hits.values()) / len(answers)
    if slip == "sum":
        return sum(shares)
    if slip == "found":
        shares = [share for share in shares if share > 0]
    return sum(shares) / (len(set(said) | set(answers)) if slip == "union" else len(shares))


def bugs(slip=""):
    found = {line: letter for line, (letter, _) in nb42.BUGS.items()}
    if slip == "missing":
        del found[12]
    if slip == "fine":
        found[10] = "A"
    if slip == "nowhere":
        found[99] = "A"
    if slip == "letter":
        found[5] = "A"
    return list(found) if slip == "list" else found


EXERCISES = (
    Exercise(
        nb42.check_rendering,
        rendering,
        {
            "gap": "two spaces",
            "nested": "fill the places of the .template",
            "brace": "`.d.` is left",
            "brace empty": "still has a place",
            "x": "`.x.` is left",
            "once": "name the thing twice",
            "lower": "lower-cased by the tokenizer",
            "stop": "no full stop",
            "behind": "no space at the end",
            "before": "at the beginning",
        },
    ),
    Exercise(
        nb42.check_size_questions,
        size_questions,
        {
            "bigger": "the bigger one always",
            "smaller": "the smaller one always",
            "yes": "but not the answer",
            "first": "the first alone",
            "comma": "without a comma",
            "turned": "no longer fit",
            "left": "placeholder is left",
            "twice": "9 questions, expected 8",
        },
    ),
    Exercise(
        nb42.check_calibrated,
        calibrated,
        {
            "raw": "the raw choice",
            "added": "is added",
            "probabilities": "probabilities are averaged",
            "best": "own best prompt",
            "divided": "divides",
            "table": "not a table",
            "prompts": "best .prompt.",
            "lowest": "the lowest is chosen",
        },
        wrong=((lambda log_probs: calibrated(log_probs, "rows"), "raw choice|changes no choice"),),
    ),
    Exercise(
        nb42.check_bootstrap,
        bootstrap,
        {
            "cells": "on its own here",
            "prompts": "prompts are drawn",
            "same": "without replacement",
            "90": "90 % interval",
            "all": "the lowest and the highest",
            "things": "spread of things",
            "deviation": "smaller by",
            "turned": "lower end",
        },
        wrong=(
            (lambda right, draws, random: right.mean(), "expected .low, high"),
            (lambda right, draws, random: (0.1, 0.12), "expected about"),
        ),
    ),
    Exercise(
        nb42.check_macro,
        macro,
        {
            "micro": "micro accuracy",
            "precision": "is precision",
            "found": "count, too: as 0",
            "union": "only said is none",
            "sum": "added up",
        },
    ),
    Exercise(
        nb42.check_bugs,
        bugs,
        {
            "missing": "1 more to find. Look at line 12",
            "fine": "line 10 is not wrong",
            "nowhere": "no such line",
            "letter": "no remedy",
            "list": "expected line",
        },
    ),
)
