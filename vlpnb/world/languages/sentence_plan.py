"""What a caption says, before any language: the plan that each language file turns into a sentence.

Nothing here comes from a paper. A plan is made once per (scene, variant), so that the captions of one variant
in the five languages are translations of one another, which cross-lingual pre-training needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

FORMS = ("bare", "there", "see", "picture", "front", "relation", "beside", "predicate", "contrast")


@dataclass(frozen=True)
class Phrase:
    """`count` things of one kind (or category) with the attributes that are said of all of them."""

    kind: str
    count: int = 1
    colour: str | None = None
    pattern: str | None = None
    size: str | None = None
    synonym: int = 0  # any number; a language takes it modulo the words it has

    def bare(self) -> "Phrase":
        """The same things without their attributes."""
        return replace(self, colour=None, pattern=None, size=None)


@dataclass(frozen=True)
class SentencePlan:
    """A sentence: its form, its phrases in order, the setting if it is said, and which wording to take."""

    form: str  # one of FORMS
    phrases: tuple[Phrase, ...]  # "relation" and "beside" have two, "predicate" and "contrast" one
    setting: str | None = None
    relation: str | None = None  # of the first phrase to the second, for the form "relation"
    colours: tuple[str, ...] = ()  # of the two things of the only phrase, for the form "contrast"
    wording: int = 0  # any number; a language takes it modulo the wordings it has


QUESTION_FORMS = (
    "exists", "exists in the picture", "colour of", "colour is", "pattern of", "pattern is", "which", "how many",
    "choose colour", "both attributes", "same colour", "both there", "either there", "setting is", "choose setting",
    "neighbour", "neighbour exists", "neighbour colour", "neighbour colour is", "relation is", "choose relation",
)  # fmt: skip


@dataclass(frozen=True)
class QuestionPlan:
    """A question about one picture, for `vlpnb/world/languages/asking`."""

    form: str  # one of QUESTION_FORMS
    phrases: tuple[Phrase, ...] = ()  # in the order of the English sentence
    values: tuple[str, ...] = ()  # colours, patterns and settings that it says, in that order
    relation: str | None = None  # of "choose relation" the first of its axis: "left of" or "above"


@dataclass(frozen=True)
class StatementPlan:
    """A statement about two pictures, for `vlpnb/world/languages/asking`."""

    form: str  # one of `vlpnb.world.questions.STATEMENT_KINDS`
    phrases: tuple[Phrase, ...] = ()  # what it is about, and of two things the second
    number: int = 0  # of "count" how many; of "total" how many things in all
    setting: str | None = None


def pick(options: Sequence, number: int):
    """The option that any number stands for."""
    return options[number % len(options)]


def enumerated(parts: Sequence[str], conjunction: str, comma: str = ", ", serial: str = "") -> str:
    """ "a", "a and b", "a, b and c"; `serial` is put before the conjunction from three parts on."""
    if len(parts) == 1:
        return parts[0]
    serial = serial if len(parts) > 2 else ""
    return f"{comma.join(parts[:-1])}{serial}{conjunction}{parts[-1]}"


def sentence(*parts: str) -> str:
    """The parts that are not empty, joined by spaces, with a capital and a full stop."""
    text = " ".join(part for part in parts if part).replace(" ,", ",")
    return f"{text[:1].upper()}{text[1:]}."
