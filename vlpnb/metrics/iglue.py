"""Scores of IGLUE's classification tasks (Bugliarello et al. 2022, section 4) and the average over languages.

XVNLI's test files hold 14 rows of 1,164 that people disagreed about. CCLM's program drops them, IGLUE's own scorer
counts them wrong; both numbers are given, under names that say which (CCL-31). xGQA is exact equality with the best
answer. MaRVL's consistency is the share of statements that are judged right of all their pairs of pictures. Averages
over languages leave out English, in which the models are trained.
"""

from collections.abc import Mapping, Sequence

from vlpnb.data.iglue import LABELS, EntailmentRow, PairRow
from vlpnb.data.xgqa import QuestionRow
from vlpnb.errors import UserError

__all__ = ["LABELS", "marvl_scores", "without_english", "xgqa_scores", "xvnli_scores"]


def xvnli_scores(predictions: Sequence[str], rows: Sequence[EntailmentRow]) -> dict[str, float]:
    """`accuracy` over the rows with a label, `accuracy_all` over all of them, and their numbers: `labelled`, `rows`.

    Args:
        predictions: a label of `LABELS` for each row, in the order of the rows, also for those without a label.
    Raises:
        UserError: another number of predictions than of rows, something that is no label, or no row with a label.
    """
    _as_many(predictions, rows, "hypotheses")
    strange = [label for label in predictions if label not in LABELS]
    if strange:
        raise UserError(f"found the prediction {strange[0]!r}, expected one of {', '.join(LABELS)}")
    labelled = sum(row.label is not None for row in rows)
    if not labelled:
        raise UserError(f"none of the {len(rows):,} hypotheses has a label; such a split cannot be scored")
    right = sum(said == row.label for said, row in zip(predictions, rows, strict=True))
    return {
        "accuracy": right / labelled,
        "accuracy_all": right / len(rows),
        "labelled": float(labelled),
        "rows": float(len(rows)),
    }


def xgqa_scores(predictions: Sequence[str], rows: Sequence[QuestionRow]) -> dict[str, float]:
    """`accuracy`: the share of questions whose predicted answer equals the best one letter for letter; `questions`.

    Raises:
        UserError: another number of predictions than of questions, none, or a question without an answer.
    """
    _as_many(predictions, rows, "questions")
    unanswered = [row.question_id for row in rows if row.answer is None]
    if unanswered:
        raise UserError(
            f"{len(unanswered):,} questions have no answer ({', '.join(unanswered[:3])} …); such a split cannot be "
            "scored"
        )
    right = sum(said == row.answer for said, row in zip(predictions, rows, strict=True))
    return {"accuracy": right / len(rows), "questions": float(len(rows))}


def marvl_scores(predictions: Sequence[bool], rows: Sequence[PairRow]) -> dict[str, float]:
    """`accuracy` over pairs of pictures; `consistency`: the share of statements right of all pairs; their `captions`.

    Raises:
        UserError: another number of predictions than of pairs, none, or a pair without a label.
    """
    _as_many(predictions, rows, "pairs of pictures")
    unlabelled = [row.identifier for row in rows if row.label is None]
    if unlabelled:
        raise UserError(
            f"{len(unlabelled):,} pairs have no label ({', '.join(unlabelled[:3])} …); such a split cannot be scored"
        )
    consistent: dict[str, bool] = {}
    right = 0
    for said, row in zip(predictions, rows, strict=True):
        correct = bool(said) == row.label
        right += correct
        consistent[row.group] = consistent.get(row.group, True) and correct
    return {
        "accuracy": right / len(rows),
        "consistency": sum(consistent.values()) / len(consistent),
        "captions": float(len(consistent)),
    }


def without_english(by_language: Mapping[str, float]) -> float:
    """The plain mean over languages other than `en`; each counts alike, however many rows it has.

    Raises:
        UserError: there is no other language.
    """
    others = [score for language, score in by_language.items() if language != "en"]
    if not others:
        raise UserError(
            f"found scores of {', '.join(by_language) or 'no language'}, expected one language besides English at least"
        )
    return sum(others) / len(others)


def _as_many(predictions: Sequence, rows: Sequence, what: str) -> None:
    if len(predictions) != len(rows) or not rows:
        raise UserError(
            f"{len(predictions):,} predictions for {len(rows):,} {what}; expected one for each, and at least one"
        )
