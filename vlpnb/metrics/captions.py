"""Scores of captions: BLEU 1-4, ROUGE-L and CIDEr without Java, METEOR and SPICE with it, and what goes beside them.

A number says of which words it is: `own` (`caption_words.py`, everywhere) or `ptb` (the Penn Treebank's, with Java, as
in the literature). The two are never mixed in one table.

CIDEr alone can be had by saying the same of every picture, or by well-formed sentences about another picture. So beside
it stand the number of different captions, the score of one constant caption, the score with pictures shuffled, and the
share of captions that end where no sentence ends, which reinforcement on CIDEr is known to bring about.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from vlpnb.data.fields import as_object, id_field, list_field, text_field
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.metrics import ptb
from vlpnb.metrics.caption_words import own_words
from vlpnb.metrics.cider import Frequencies, cider
from vlpnb.metrics.overlap import bleu, rouge_l

Tokens = Literal["own", "ptb"]
Identity = int | str

# Words after which an English caption cannot end.
_UNFINISHED = frozenset({
    *("a", "an", "the", "this", "these", "those", "his", "its", "their", "my", "your", "our"),
    *("and", "or", "but", "while", "as", "than", "that", "which", "who", "very"),
    *("with", "of", "in", "on", "at", "to", "for", "from", "into", "onto", "under", "beside"),
    *("between", "is", "are", "was", "were", "be", "being"),
})  # fmt: skip
# as the COCO caption evaluation names its metrics in files
OFFICIAL_NAMES = {
    **{f"bleu_{n}": f"Bleu_{n}" for n in range(1, 5)},
    "meteor": "METEOR", "rouge_l": "ROUGE_L", "cider": "CIDEr", "spice": "SPICE",
}  # fmt: skip


@dataclass(frozen=True)
class CaptionScores:
    """Scores of captions over one kind of words."""

    tokens: Tokens
    overall: dict[str, float]
    each: dict[Identity, dict[str, float]]
    skipped: dict[str, str]  # a metric that could not be computed here → why


def words_of(texts: Sequence[str], tokens: Tokens) -> list[list[str]]:
    """The words of every text. UserError for unknown tokens, or `ptb` where Java or the package is missing."""
    if tokens not in get_args(Tokens):
        raise UserError(f'tokens "{tokens}" are unknown; expected "own" or "ptb"')
    return ptb.ptb_words(texts) if tokens == "ptb" else [own_words(text) for text in texts]


def score(
    hypotheses: Mapping[Identity, str],
    references: Mapping[Identity, Sequence[str]],
    tokens: Tokens = "own",
    frequencies: Frequencies | None = None,
) -> dict[str, float | str]:
    """`tokens` and the scores of `evaluate`, without METEOR and SPICE."""
    found = evaluate(hypotheses, references, tokens, frequencies=frequencies, java=False)
    return {"tokens": found.tokens, **found.overall}


def evaluate(
    hypotheses: Mapping[Identity, str],
    references: Mapping[Identity, Sequence[str]],
    tokens: Tokens = "own",
    *,
    frequencies: Frequencies | None = None,
    partial: bool = False,
    java: bool = True,
) -> CaptionScores:
    """Score one caption of every picture.

    Args:
        hypotheses, references: by picture; the sentences as they were written.
        frequencies: document frequencies of CIDEr, over words of the same tokens (None: of these references, as the
            official evaluation does).
        partial: score the pictures that both have; without it a picture that one of them lacks is an error.
        java: with `ptb`, METEOR and SPICE too, where they are to be had.

    Returns:
        `images`, `bleu_1` to `bleu_4`, `rouge_l`, `cider`, `different` (how many captions differ), `bad_endings` (the
        share that ends unfinished), and where asked for `meteor` and `spice`; all but the first and `different` also of
        each picture.

    Raises:
        UserError: a picture without a caption or without a reference, or none at all; tokens that are not to be had.
    """
    names = _scored(hypotheses, references, partial)
    counts = [len(references[name]) for name in names]
    texts = [hypotheses[name] for name in names] + [text for name in names for text in references[name]]
    words = words_of(texts, tokens)
    said, rest = words[: len(names)], iter(words[len(names) :])
    known = [[next(rest) for _ in range(count)] for count in counts]
    bleus, bleu_each = bleu(said, known)
    found = {
        **{f"bleu_{n}": (bleus[n - 1], [row[n - 1] for row in bleu_each]) for n in range(1, 5)},
        "rouge_l": rouge_l(said, known),
        "cider": cider(said, known, frequencies),
    }
    skipped = {}
    for name, why, compute in (
        ("meteor", ptb.why_no_meteor, ptb.meteor),
        ("spice", ptb.why_no_spice, ptb.spice),
    ):
        if not java:
            continue
        if (reason := why() if tokens == "ptb" else "it is defined on the Penn Treebank's words") is not None:
            skipped[name] = reason
        else:
            found[name] = compute(said, known)
    endings = [float(ends_badly(row)) for row in said]
    found["bad_endings"] = sum(endings) / len(endings), endings
    overall = {name: total for name, (total, _) in found.items()}
    each = {name: {key: row[i] for key, (_, row) in found.items()} for i, name in enumerate(names)}
    counted = {"images": float(len(names)), "different": float(different(hypotheses[n] for n in names))}
    return CaptionScores(tokens, counted | overall, each, skipped)


def _scored(hypotheses: Mapping, references: Mapping, partial: bool) -> list[Identity]:
    without = [name for name in hypotheses if not references.get(name)]
    silent = [name for name in references if name not in hypotheses]
    names = [name for name in hypotheses if references.get(name)]
    for missing, what in ((without, "have no reference"), (silent, "have no caption to score")):
        if missing and (not partial or not names):
            some, size = ", ".join(map(repr, missing[:3])), len(hypotheses) + len(silent)
            here = next(iter(references if what == "have no reference" else hypotheses), None)
            raise UserError(
                f"{len(missing):,} of {size:,} pictures {what} ({some} …; the other side has names like {here!r}); "
                "expected captions and references of the same pictures, or ask for those that have both (partial)"
            )
    if not names:
        raise UserError("there is no caption to score; expected one for at least one picture")
    return names


def different(captions) -> int:
    """How many captions differ, by their own words."""
    return len({tuple(own_words(text)) for text in captions})


def ends_badly(words: Sequence[str]) -> bool:
    """Whether a caption ends in a word after which no sentence ends, or has no word."""
    return not words or words[-1] in _UNFINISHED


def shuffled(hypotheses: Mapping[Identity, str], seed: int = 0) -> dict[Identity, str]:
    """Every picture with the caption of another one: what the words alone, without the right picture, are worth."""
    names = list(hypotheses)
    random.Random(seed).shuffle(names)
    return {name: hypotheses[other] for name, other in zip(names, [*names[1:], *names[:1]], strict=True)}


def controls(
    hypotheses: Mapping[Identity, str],
    references: Mapping[Identity, Sequence[str]],
    constant: str,
    tokens: Tokens = "own",
    frequencies: Frequencies | None = None,
) -> dict[str, float]:
    """`shuffled_cider` and `constant_cider`: CIDEr of another picture's captions, and of one caption for all."""
    captions = {"shuffled": shuffled(hypotheses), "constant": dict.fromkeys(hypotheses, constant)}
    return {
        f"{name}_cider": evaluate(said, references, tokens, frequencies=frequencies, java=False).overall[
            "cider"
        ]
        for name, said in captions.items()
    }


def read_references(path: Path) -> dict[Identity, list[str]]:
    """References by picture from a COCO captions file `{"annotations": [{"image_id": …, "caption": …}]}`.

    UserError names file, row and field.
    """
    holds = 'COCO captions {"annotations": [{"image_id": 42, "caption": "a red boat"}]}'
    found: dict[Identity, list[str]] = {}
    data = as_object(read_json(path, holds), f"{path}")
    for i, row in enumerate(list_field(data, "annotations", f"{path}")):
        where = f"{path}: annotations[{i}]"
        found.setdefault(id_field(row, "image_id", where), []).append(text_field(row, "caption", where))
    return found


def write_scores(path: Path, scores: CaptionScores, hypotheses: Mapping[Identity, str]) -> None:
    """Write `overall` and `imgToEval` as the COCO caption evaluation does, with the name of the tokens."""

    def official(values: Mapping[str, float]) -> dict[str, float]:
        return {OFFICIAL_NAMES.get(name, name): value for name, value in values.items()}

    rows = {
        str(name): {"image_id": name, "caption": hypotheses[name], **official(values)}
        for name, values in scores.each.items()
    }
    overall = {"tokens": scores.tokens, **official(scores.overall)}
    write_json(path, {"overall": overall, "imgToEval": rows, "skipped": scores.skipped})
