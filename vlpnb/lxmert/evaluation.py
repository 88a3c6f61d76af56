"""How well a pre-trained LXMERT guesses what was hidden, and whether it looks at the picture to do so.

Masks and mismatched pairs are fixed, so that two evaluations differ by their models alone; the original draws them
anew each time (LXM-22). Answers are scored on matched pairs. The original also scores the questions that it has just
swapped for sentences of other pictures, which roughly halves its printed accuracy (LXM-23); that number is there too.

**Grounding** asks what the losses do not tell: of captions' words that name something visible, each hidden alone, the
share that is guessed with the caption's own picture and with a picture of which no sentence says that word. What text
alone gives away is guessed with either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vlpnb.lxmert.examples import Batches, Draws, target_counts, tensors
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.sentence_table import Examples
from vlpnb.text.packing import trimmed
from vlpnb.train.distributed import sum_of_dicts
from vlpnb.train.loop import Precision, autocast

EVALUATION_SEED = 9595  # of masks and pairs, the same for every run
ROWS_AT_ONCE = 64
TRIES = 100  # draws of a picture of which nobody says a word
COLOURS = (
    "black",
    "white",
    "red",
    "green",
    "yellow",
    "blue",
    "brown",
    "orange",
    "pink",
    "purple",
    "gray",
    "grey",
)
THINGS = ( # for regions without classes; COCO's categories that are one word, and people
    "person man woman boy girl child people bicycle car motorcycle airplane bus train truck boat bench bird cat dog "
    "horse sheep cow elephant bear zebra giraffe backpack umbrella handbag tie suitcase frisbee skis snowboard ball "
    "kite skateboard surfboard bottle cup fork knife spoon bowl banana apple sandwich broccoli carrot pizza donut cake "
    "chair couch bed table toilet laptop mouse keyboard phone microwave oven toaster sink refrigerator book clock vase "
    "scissors"
)  # fmt: skip


def evenly_spaced(total: int, most: int) -> Int[np.ndarray, " n"]:
    """At most so many of the numbers 0 … total - 1."""
    return np.linspace(0, total - 1, min(most, total)).round().astype(np.int64)


def evaluate(
    model: LxmertForPretraining,
    batches: Batches,
    rows: Int[np.ndarray, " B"],
    device: str,
    precision: Precision = "float32",
    *seed: int,
) -> dict[str, float]:
    """The mean of each loss (`words_loss` …) and shares of what is guessed right, over some examples.

    `match_accuracy`; `answer_accuracy` over the questions of matched pairs and `answer_accuracy_<source>`, where an
    answer earns its score and a question whose answers are all outside the table nothing; `answer_accuracy_original`
    as the original counts. Processes share the examples. What there is nothing to say about is left out.
    """
    was_training = model.training
    model.eval()
    losses = batches.wanted.losses
    sources = [
        name for i, name in enumerate(batches.examples.sources) if (batches.examples.source[rows] == i).any()
    ]
    names = [*losses, "right_match", "swapped_answers", *(f"answers {source}" for source in sources)]
    totals = dict.fromkeys([f"{what} {name}" for name in names for what in ("sum", "count")], 0.0)
    with torch.no_grad():
        for number, start in enumerate(range(0, len(rows), ROWS_AT_ONCE)):
            draws = batches.draws(rows[start : start + ROWS_AT_ONCE], *(seed or (EVALUATION_SEED,)), number)
            mine = np.arange(len(draws.rows))[batches.rank :: batches.world_size]
            if batches.rank == 0:
                for name, count in target_counts(draws, batches.wanted).items():
                    totals[f"count {name}"] += count
            if not len(mine):
                continue
            made = tensors(batches.examples, draws, mine, batches.store, batches.wanted)
            made = {name: value.to(device) for name, value in made.items()}
            inputs = {
                name: made.pop(name, None) for name in ("ids", "mask", "features", "boxes", "visual_mask")
            }
            with autocast(torch.device(device), precision):
                out = model.backbone(*inputs.values())
                for name, value in model.losses(out, **made).items():
                    totals[f"sum {name}"] += float(value)
                if "match" in losses:
                    told = model.match(out.pooled).argmax(-1).cpu().numpy() == 1
                    totals["sum right_match"] += float((told == draws.matched[mine]).sum())
                    totals["count right_match"] += len(mine)
                if "answers" in losses:
                    answers = model.answers(out.pooled).argmax(-1).cpu().numpy()
                    _count_answers(totals, batches.examples, draws, mine, answers)
    model.train(was_training)
    totals = sum_of_dicts(totals, batches.world_size, device)
    means = {
        name: totals[f"sum {name}"] / totals[f"count {name}"] for name in names if totals[f"count {name}"] > 0
    }
    found = {f"{name}_loss": means[name] for name in losses if name in means}
    if "right_match" in means:
        found["match_accuracy"] = means["right_match"]
    asked = [source for source in sources if f"answers {source}" in means]
    if asked:
        right, count = (
            sum(totals[f"{what} answers {source}"] for source in asked) for what in ("sum", "count")
        )
        found["answer_accuracy"] = right / count
        found |= {f"answer_accuracy_{source}": means[f"answers {source}"] for source in asked}
    if "swapped_answers" in means:
        found["answer_accuracy_original"] = means["swapped_answers"]
    return found


def _count_answers(
    totals: dict[str, float],
    examples: Examples,
    draws: Draws,
    mine: Int[np.ndarray, " b"],
    given: Int[np.ndarray, " b"],
) -> None:
    """Add the scores that the given answers earn."""
    rows = draws.rows[mine]
    answers, scores = examples.answer_scores(rows)
    earned = np.where(answers == given[:, None], scores, 0).sum(1)
    asked, matched = examples.asked[rows], draws.matched[mine]
    totals["sum swapped_answers"] += float(earned[asked].sum())
    totals["count swapped_answers"] += int(asked.sum())
    for number in np.unique(examples.source[rows[asked]]):
        of = asked & matched & (examples.source[rows] == number)
        totals[f"sum answers {examples.sources[number]}"] += float(earned[of].sum())
        totals[f"count answers {examples.sources[number]}"] += int(of.sum())


def visible_words(objects: Sequence[str], attributes: Sequence[str]) -> set[str]:
    """Words that name what a detector sees: its classes' names (synonyms between commas) of one word, and colours.

    Without classes of objects, common things. Regular plurals count too.
    """
    names = [name.strip().lower() for text in (*objects, *attributes) for name in text.split(",")]
    if not objects:
        names += THINGS.split()
    words = {name for name in (*names, *COLOURS) if name.isalpha()}
    return words | {f"{word}{ending}" for word in words for ending in ("s", "es")}


@dataclass(frozen=True)
class Hidden:
    """N words that name something visible, one a row, with the right and a wrong picture (rows of the store)."""

    examples: Int[np.ndarray, " N"]
    positions: Int[np.ndarray, " N"]
    """Of the word in `[CLS] words [SEP]`."""
    words: Int[np.ndarray, " N"]
    """Their ids."""
    right: Int[np.ndarray, " N"]
    wrong: Int[np.ndarray, " N"]


def hidden_words(examples: Examples, tokenizer: Any, words: set[str], most: int) -> Hidden:
    """One visible word of each caption that has one, at most so many, and pictures of which nobody says that word.

    Questions are left out: what they name need not be in the picture. So are words of several pieces, and phrases of
    one word, of which nothing would be left to say what is asked for.
    """
    random = np.random.default_rng(EVALUATION_SEED)
    size = len(tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(list(range(size)))
    named, goes_on = (
        np.array(flags) for flags in zip(*((p in words, p.startswith("##")) for p in pieces), strict=True)
    )
    tokens = examples.tokens.astype(np.int64)
    owner = np.repeat(np.arange(len(examples)), examples.lengths)  # the sentence of each token
    whole = named[tokens]
    whole[:-1] &= ~(goes_on[tokens[1:]] & (owner[1:] == owner[:-1]))
    whole &= examples.lengths[owner] > 1
    at = random.permutation(np.flatnonzero(whole & ~examples.asked[owner]))
    at = np.sort(at[np.unique(owner[at], return_index=True)[1]])  # one of each caption
    at = at[evenly_spaced(len(at), most)]

    said = np.unique(examples.pictures[owner] * size + tokens)  # which picture is said to show which word
    pictures = np.unique(examples.pictures)
    wrong = random.choice(pictures, len(at))
    for _ in range(TRIES):
        bad = np.isin(wrong * size + tokens[at], said)
        wrong[bad] = random.choice(pictures, int(bad.sum()))
    kept = ~np.isin(wrong * size + tokens[at], said)
    at, wrong = at[kept], wrong[kept]
    rows = owner[at]
    return Hidden(rows, at - examples.starts[rows] + 1, tokens[at], examples.pictures[rows], wrong)


def grounding(
    model: LxmertForPretraining,
    batches: Batches,
    hidden: Hidden,
    device: str,
    precision: Precision = "float32",
) -> dict[str, float]:
    """`grounding_right` and `grounding_wrong`: shares of hidden words guessed with the right and with a wrong picture.

    Only the word is hidden, no region. `grounding_words` is their number; empty where there is none.
    """
    was_training = model.training
    model.eval()
    totals = {"right": 0.0, "wrong": 0.0}
    with torch.no_grad():
        for start in range(0, len(hidden.words), ROWS_AT_ONCE):
            part = np.arange(start, min(start + ROWS_AT_ONCE, len(hidden.words)))[
                batches.rank :: batches.world_size
            ]
            if not len(part):
                continue
            ids, mask = batches.examples.text(hidden.examples[part], batches.length, batches.tokenizer)
            places = torch.arange(len(part)), torch.from_numpy(hidden.positions[part])
            ids[places] = batches.tokenizer.mask_token_id
            text = trimmed({"ids": ids, "mask": mask})
            for which in totals:
                guesses = guess(
                    model, batches.store, text, getattr(hidden, which)[part], places, device, precision
                )
                totals[which] += float((guesses == hidden.words[part]).sum())
    model.train(was_training)
    totals = sum_of_dicts(totals, batches.world_size, device)
    count = len(hidden.words)
    if not count:
        return {}
    return {f"grounding_{which}": value / count for which, value in totals.items()} | {
        "grounding_words": count
    }


def guess(
    model: LxmertForPretraining,
    store: Any,
    text: Mapping[str, Tensor],
    pictures: Int[np.ndarray, " b"],
    places: tuple[Tensor, Tensor],
    device: str,
    precision: Precision = "float32",
) -> Int[np.ndarray, " n"]:
    """The likeliest words at some places (rows, positions) of texts beside pictures (rows of the store)."""
    found = store.batch(pictures)
    inputs = (text["ids"], text["mask"], found.features, found.boxes, found.mask)
    with autocast(torch.device(device), precision):
        out = model.backbone(*(None if value is None else value.to(device) for value in inputs))
        return model.word_scores(out.text[places]).argmax(-1).cpu().numpy()
