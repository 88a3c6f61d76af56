"""Accuracy and consistency of NLVR2 (Suhr et al. 2019, section 5), as its evaluation script counts them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from vlpnb.data.asked_data import Pair
from vlpnb.data.text_files import lines_of
from vlpnb.errors import UserError


def nlvr2_scores(predictions: Mapping[str, bool | str], pairs: Iterable[Pair]) -> dict[str, float]:
    """`accuracy`, and `consistency`: the share of statements that are judged right of all their pairs of pictures.

    Predictions are by identifier, as truth values or as text in any case; further ones do no harm. Fractions of one.

    Raises:
        UserError: a pair without a prediction or without a label, or no pair.
    """
    pairs = list(pairs)
    missing = [pair.identifier for pair in pairs if pair.identifier not in predictions]
    if missing or not pairs:
        raise UserError(
            f"{len(missing):,} of {len(pairs):,} statements have no prediction ({', '.join(missing[:3])} …); expected "
            "one for each, and at least one statement"
        )
    right = 0
    consistent: dict[str, bool] = {}
    for pair in pairs:
        if pair.label is None:
            raise UserError(
                f"statement {pair.identifier} has no label; a split without labels cannot be scored"
            )
        correct = str(predictions[pair.identifier]).lower() == str(pair.label).lower()
        right += correct
        name = statement_of(pair.identifier)
        consistent[name] = consistent.get(name, True) and correct
    return {
        "accuracy": right / len(pairs),
        "consistency": sum(consistent.values()) / len(consistent),
    }


def statement_of(identifier: str) -> str:
    """What the pairs of one statement share: `dev-850-0-1` without the number of the pair is `dev-850--1`.

    UserError for an identifier of another form than split-set-pair-sentence.
    """
    parts = identifier.split("-")
    if len(parts) < 3:
        raise UserError(f"identifier '{identifier}', expected the form split-set-pair-sentence")
    parts[2] = ""
    return "-".join(parts)


def read_nlvr2_predictions(path: Path) -> dict[str, str]:
    """Identifier → True or False, from lines `identifier,True`. UserError names file and line of another form."""
    found = {}
    for number, text in lines_of(path, "predictions, a line each: identifier,True or identifier,False"):
        if not text.strip():
            continue
        identifier, comma, label = text.strip().partition(",")
        if not comma or label.lower() not in ("true", "false"):
            raise UserError(
                f"{path}:{number}: found {text[:60]!r}, expected identifier,True or identifier,False."
            )
        found[identifier] = label
    return found
