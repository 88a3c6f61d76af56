"""French questions and statements: inversion with its pronoun, du for de le, elision, agreement of the participle."""

from dataclasses import replace

from vlpnb.world.languages.french import (
    COLOURS,
    NUMBERS,
    PATTERNS,
    PLAIN,
    adjectives,
    after,
    definite,
    gender,
    noun,
    noun_phrase,
)
from vlpnb.world.languages.sentence_plan import Phrase, QuestionPlan, StatementPlan

PLACES = {"left of": "à gauche", "right of": "à droite", "above": "au-dessus", "below": "au-dessous"}
CHOICES = {"left of": "à gauche ou à droite", "above": "au-dessus ou au-dessous"}
SETTINGS = {
    "field": "dans un champ",
    "room": "dans une pièce",
    "night": "la nuit",
    "beach": "sur une plage",
}


def the(phrase: Phrase) -> str:
    """ "la voiture rouge"; the adjectives of questions stand behind the noun."""
    return " ".join([definite(phrase.bare()), *adjectives(phrase)])


def of_the(phrase: Phrase) -> str:
    """ "de la voiture", "du bateau", "de l'ours"."""
    words = the(phrase)
    return f"du {words[3:]}" if words.startswith("le ") else f"de {words}"


def many(phrase: Phrase) -> str:
    """ "de voitures rouges", "d'éléphants": after a word for how many."""
    several = replace(phrase, count=2)
    return after("de", " ".join([noun(several), *adjectives(several)]))


def look(value: str, phrase: Phrase) -> str:
    """A colour or pattern as it agrees with what it is said of."""
    form = int(gender(phrase) == "f")
    if value in COLOURS:
        return COLOURS[value][form]
    return PLAIN[form] if value == "plain" else PATTERNS[value]


def is_it(phrase: Phrase) -> str:
    """ "la voiture est-elle"."""
    return capital(f"{the(phrase)} est-{'elle' if gender(phrase) == 'f' else 'il'}")


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def question(plan: QuestionPlan) -> str:
    """The French question of a plan."""
    phrases, values = plan.phrases, plan.values
    first, last = (phrases[0], phrases[-1]) if phrases else (None, None)
    match plan.form:
        case "exists":
            return f"Y a-t-il {noun_phrase(first)} ?"
        case "exists in the picture":
            return f"Y a-t-il {noun_phrase(first)} sur l'image ?"
        case "colour of":
            return f"De quelle couleur est {the(first)} ?"
        case "colour is" | "pattern is":
            return f"{is_it(first)} {look(values[0], first)} ?"
        case "pattern of":
            return f"Quel motif a {the(first)} ?"
        case "which":
            return f"{'Quelle' if gender(first) == 'f' else 'Quel'} {noun(first)} y a-t-il sur l'image ?"
        case "how many":
            return f"Combien {many(first)} y a-t-il ?"
        case "choose colour":
            return f"{is_it(first)} {look(values[0], first)} ou {look(values[1], first)} ?"
        case "both attributes":
            return f"{is_it(first)} {look(values[0], first)} et {look(values[1], first)} ?"
        case "same colour":
            they = "elles" if gender(first) == gender(last) == "f" else "ils"
            return f"{capital(the(first))} et {the(last)} sont-{they} de la même couleur ?"
        case "both there":
            return f"Y a-t-il à la fois {noun_phrase(first)} et {noun_phrase(last)} ?"
        case "either there":
            return f"Y a-t-il {noun_phrase(first)} ou {noun_phrase(last)} ?"
        case "setting is":
            return f"Cette image a-t-elle été prise {SETTINGS[values[0]]} ?"
        case "choose setting":
            return f"Cette image a-t-elle été prise {SETTINGS[values[0]]} ou {SETTINGS[values[1]]} ?"
        case "choose relation":
            return f"{is_it(first)} {CHOICES[plan.relation]} {of_the(last)} ?"
    place = f"{PLACES[plan.relation]} {of_the(last)}"
    match plan.form:
        case "neighbour":
            return f"Qu'y a-t-il {place} ?"
        case "neighbour exists":
            return f"Y a-t-il {noun_phrase(first)} {place} ?"
        case "neighbour colour":
            return f"De quelle couleur est la chose {place} ?"
        case "neighbour colour is":
            return f"La chose {place} est-elle {COLOURS[values[0]][1]} ?"
        case "relation is":
            return f"{is_it(first)} {place} ?"
    raise ValueError(f"unknown form {plan.form!r}")


def statement(plan: StatementPlan) -> str:
    """The French statement of a plan."""
    one, other = (noun_phrase(plan.phrases[0]), noun_phrase(plan.phrases[-1])) if plan.phrases else ("", "")
    place = SETTINGS[plan.setting] if plan.setting else ""
    match plan.form:
        case "both":
            return f"Les deux images montrent {one}."
        case "one":
            return f"Exactement une des images montre {one}."
        case "neither":
            return f"Aucune des images ne montre {one}."
        case "some":
            return f"Au moins une des images montre {one}."
        case "left":
            return f"Il y a {one} sur l'image de gauche."
        case "right":
            return f"Il y a {one} sur l'image de droite."
        case "one each":
            return f"Une image montre {one} et l'autre montre {other}."
        case "left and right":
            return f"L'image de gauche montre {one} et l'image de droite montre {other}."
        case "count":
            if plan.number == 1:
                return f"Il y a exactement {one} sur les deux images."
            several = replace(plan.phrases[0], count=2)
            said = " ".join([NUMBERS[plan.number], noun(several), *adjectives(several)])
            return f"Il y a exactement {said} sur les deux images."
        case "more":
            return f"L'image de gauche montre plus {many(plan.phrases[0])} que celle de droite."
        case "setting left":
            return f"Seule l'image de gauche a été prise {place}."
        case "setting both":
            return f"Les deux images ont été prises {place}."
        case "setting and":
            return f"L'image de droite a été prise {place} et montre {one}."
        case "more things":
            return "Il y a plus de choses sur l'image de gauche que sur celle de droite."
        case "total":
            return f"Les deux images montrent {plan.number} choses en tout."
    raise ValueError(f"unknown form {plan.form!r}")
