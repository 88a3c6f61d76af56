"""German questions and statements: weak adjectives after der, the dative of places, the verb in second place."""

from dataclasses import replace

from vlpnb.world.languages.german import (
    COLOURS,
    DEFINITE,
    NUMBERS,
    PATTERNS,
    STRONG_PLURAL,
    adjectives,
    gender,
    noun,
    noun_phrase,
)
from vlpnb.world.languages.sentence_plan import Phrase, QuestionPlan, StatementPlan

WEAK_NOMINATIVE = "e"  # of an adjective after der, die or das
DATIVE = {"m": "dem", "f": "der", "n": "dem"}
WHICH = {"m": "Welcher", "f": "Welche", "n": "Welches"}
PLACES = {  # of something beside, over or under another; all take the dative
    "left of": "links neben",
    "right of": "rechts neben",
    "above": "über",
    "below": "unter",
}
CHOICES = {"left of": "links oder rechts neben", "above": "über oder unter"}
SETTINGS = {
    "field": "auf einem Feld",
    "room": "in einem Zimmer",
    "night": "bei Nacht",
    "beach": "an einem Strand",
}


def the(phrase: Phrase) -> str:
    """ "das rote Auto" (nominative)."""
    words = [word + WEAK_NOMINATIVE for word in adjectives(phrase)]
    return " ".join([DEFINITE[gender(phrase)], *words, noun(phrase, "nominative")])


def to_the(phrase: Phrase) -> str:
    """ "dem roten Auto" (dative)."""
    words = [f"{word}en" for word in adjectives(phrase)]
    return " ".join([DATIVE[gender(phrase)], *words, noun(phrase, "dative")])


def a(phrase: Phrase) -> str:
    """ "einen roten Wagen" (accusative)."""
    return noun_phrase(phrase, "accusative")


def many(phrase: Phrase) -> str:
    """ "rote Autos" (accusative, which is the nominative too)."""
    several = replace(phrase, count=2)
    return " ".join(
        [*(word + STRONG_PLURAL["accusative"] for word in adjectives(several)), noun(several, "accusative")]
    )


def look(value: str) -> str:
    """A colour or pattern as a predicate has it."""
    return COLOURS[value] if value in COLOURS else PATTERNS[value][0]


def question(plan: QuestionPlan) -> str:
    """The German question of a plan."""
    phrases, values = plan.phrases, plan.values
    first, last = (phrases[0], phrases[-1]) if phrases else (None, None)
    match plan.form:
        case "exists":
            return f"Gibt es {a(first)}?"
        case "exists in the picture":
            return f"Gibt es auf dem Bild {a(first)}?"
        case "colour of":
            return f"Welche Farbe hat {the(first)}?"
        case "colour is" | "pattern is":
            return f"Ist {the(first)} {look(values[0])}?"
        case "pattern of":
            return f"Welches Muster hat {the(first)}?"
        case "which":
            return f"{WHICH[gender(first)]} {noun(first, 'nominative')} ist auf dem Bild?"
        case "how many":
            return f"Wie viele {many(first)} gibt es?"
        case "choose colour":
            return f"Ist {the(first)} {look(values[0])} oder {look(values[1])}?"
        case "both attributes":
            return f"Ist {the(first)} {look(values[0])} und {look(values[1])}?"
        case "same colour":
            return f"Haben {the(first)} und {the(last)} dieselbe Farbe?"
        case "both there":
            return f"Gibt es sowohl {a(first)} als auch {a(last)}?"
        case "either there":
            return f"Gibt es {a(first)} oder {a(last)}?"
        case "setting is":
            return f"Wurde dieses Bild {SETTINGS[values[0]]} aufgenommen?"
        case "choose setting":
            return f"Wurde dieses Bild {SETTINGS[values[0]]} oder {SETTINGS[values[1]]} aufgenommen?"
        case "choose relation":
            return f"Ist {the(first)} {CHOICES[plan.relation]} {to_the(last)}?"
    place = f"{PLACES[plan.relation]} {to_the(last)}"
    match plan.form:
        case "neighbour":
            return f"Was ist {place}?"
        case "neighbour exists":
            return f"Gibt es {place} {a(first)}?"
        case "neighbour colour":
            return f"Welche Farbe hat das Ding {place}?"
        case "neighbour colour is":
            return f"Ist das Ding {place} {look(values[0])}?"
        case "relation is":
            return f"Ist {the(first)} {place}?"
    raise ValueError(f"unknown form {plan.form!r}")


def statement(plan: StatementPlan) -> str:
    """The German statement of a plan."""
    first, last = (plan.phrases[0], plan.phrases[-1]) if plan.phrases else (None, None)
    taken = f"{SETTINGS[plan.setting]} aufgenommen" if plan.setting else ""
    match plan.form:
        case "both":
            return f"Beide Bilder zeigen {a(first)}."
        case "one":
            return f"Genau eines der Bilder zeigt {a(first)}."
        case "neither":
            return f"Keines der Bilder zeigt {a(first)}."
        case "some":
            return f"Mindestens eines der Bilder zeigt {a(first)}."
        case "left":
            return f"Auf dem linken Bild ist {noun_phrase(first)}."
        case "right":
            return f"Auf dem rechten Bild ist {noun_phrase(first)}."
        case "one each":
            return f"Ein Bild zeigt {a(first)} und das andere zeigt {a(last)}."
        case "left and right":
            return f"Das linke Bild zeigt {a(first)} und das rechte Bild zeigt {a(last)}."
        case "count":
            if plan.number == 1:
                return f"Auf den zwei Bildern ist genau {noun_phrase(first)}."
            return f"Auf den zwei Bildern sind genau {NUMBERS[plan.number]} {many(first)}."
        case "more":
            return f"Das linke Bild zeigt mehr {many(first)} als das rechte."
        case "setting left":
            return f"Nur das linke Bild wurde {taken}."
        case "setting both":
            return f"Beide Bilder wurden {taken}."
        case "setting and":
            return f"Das rechte Bild wurde {taken} und zeigt {a(first)}."
        case "more things":
            return "Auf dem linken Bild sind mehr Dinge als auf dem rechten."
        case "total":
            return f"Die zwei Bilder zeigen insgesamt {plan.number} Dinge."
    raise ValueError(f"unknown form {plan.form!r}")
