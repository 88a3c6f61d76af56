"""VQA accuracy (Antol et al. 2015, section 3), and LXMERT's local scores.

All values are fractions of one. Two programs count, and spell answers differently before they compare them:

* `official`, today's: leaves answers as they are where all ten people said the same, and else spells people's and the
  model's officially;
* `pythia`, of 2019, which VLP's published figures come from (quirk VLP-14): spells the model's answer always, and takes
  no more than the punctuation out of people's, unless all said the same. A capital, an article or a number word of
  theirs is then never matched.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from vlpnb.data.asked import AskedQuestion
from vlpnb.data.lxmert import LxmertImage
from vlpnb.data.vqa_answers import normalise, stripped, without_marks
from vlpnb.errors import UserError

Identity = int | str
Spelling = Literal["official", "pythia"]


def spelt(prediction: str, people: Sequence[str], spelling: Spelling = "official") -> tuple[str, list[str]]:
    """The answer and people's answers as they are compared. UserError for an unknown spelling."""
    answer = stripped(prediction)
    if spelling == "official":
        said = [stripped(text) for text in people]
        return (
            (normalise(answer), [normalise(text) for text in said]) if len(set(said)) > 1 else (answer, said)
        )
    if spelling == "pythia":
        differ = len(set(people)) > 1
        return normalise(answer), [without_marks(text) for text in people] if differ else list(people)
    raise UserError(
        f"spelling of answers '{spelling}' is unknown; expected {' or '.join(get_args(Spelling))}"
    )


def vqa_accuracy(prediction: str, people: Sequence[str], spelling: Spelling = "official") -> float:
    """min(n / 3, 1), n of the other people saying the same, on average over all who can be left out."""
    answer, said = spelt(prediction, people, spelling)
    agree = [text == answer for text in said]
    others = (sum(agree) - own for own in agree)
    return sum(min(n / 3, 1.0) for n in others) / len(said)


def vqa_scores(
    predictions: Mapping[Identity, str],
    questions: Iterable[AskedQuestion],
    spelling: Spelling = "official",
) -> dict[str, float]:
    """`accuracy`, and by type of answer `yes/no`, `number` and `other` where questions have one.

    Questions without people's answers (LXMERT's files) count the score of their targets. Raises UserError where a
    question has no prediction; predictions for other questions are passed over.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for question, answer in answered(predictions, questions):
        people = question.human
        score = vqa_accuracy(answer, people, spelling) if people else question.targets.get(answer, 0.0)
        scores["accuracy"].append(score)
        if question.answer_type:
            scores[question.answer_type].append(score)
    return {name: sum(found) / len(found) for name, found in scores.items()}


def answered(
    predictions: Mapping[Identity, str], questions: Iterable[AskedQuestion]
) -> list[tuple[AskedQuestion, str]]:
    """Every question with its prediction. UserError without any question, or where a prediction is missing."""
    questions = list(questions)
    missing = [q.question_id for q in questions if q.question_id not in predictions]
    if missing or not questions:
        raise UserError(
            f"{len(missing):,} of {len(questions):,} questions have no prediction ({', '.join(map(str, missing[:3]))} "
            "…); expected one for each question, and at least one question"
        )
    return [(q, predictions[q.question_id]) for q in questions]


def label_score(predictions: Mapping[Identity, str], questions: Iterable[AskedQuestion]) -> float:
    """LXMERT's local score: the mean target score of the predicted answers, 0 for what is no target.

    Only questions with a prediction count. UserError for a prediction of an unknown question, or none at all.
    """
    known = {q.question_id: q.targets for q in questions}
    if unknown := [name for name in predictions if name not in known]:
        raise UserError(
            f"predictions for {len(unknown):,} questions that are unknown: {', '.join(map(str, unknown[:3]))} …"
        )
    if not predictions:
        raise UserError("there is no prediction to score")
    return sum(known[name].get(answer, 0.0) for name, answer in predictions.items()) / len(predictions)


def source_scores(
    predictions: Mapping[tuple[str, str, int], str], images: Iterable[LxmertImage]
) -> dict[str, float]:
    """Accuracy of pre-training's answers: `overall` and by source.

    Args:
        predictions: by picture, source and the question's place among the sentences of that source; what has no answers
            in `images`, such as a caption, does not count.
        images: with their labels; a question whose answers are all outside the table counts 0.
    """
    by_id = {(i.image_id, source): labels for i in images for source, labels in i.labels.items()}
    scores: dict[str, list[float]] = defaultdict(list)
    for (image, source, place), answer in predictions.items():
        if (labels := by_id.get((image, source))) is not None:
            score = labels[place].get(answer, 0.0)
            scores["overall"].append(score)
            scores[source].append(score)
    return {name: sum(found) / len(found) for name, found in scores.items()}
