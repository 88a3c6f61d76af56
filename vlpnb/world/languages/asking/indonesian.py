"""Indonesian questions and statements: apakah opens what is answered by yes or no, and "itu" makes a noun definite."""

from dataclasses import replace

from vlpnb.world.languages.indonesian import COLOURS, PATTERNS, noun, noun_phrase
from vlpnb.world.languages.sentence_plan import Phrase, QuestionPlan, StatementPlan

PLACES = {
    "left of": "di sebelah kiri",
    "right of": "di sebelah kanan",
    "above": "di atas",
    "below": "di bawah",
}
CHOICES = {"left of": "di sebelah kiri atau di sebelah kanan", "above": "di atas atau di bawah"}
SETTINGS = {
    "field": "di padang",
    "room": "di sebuah ruangan",
    "night": "pada malam hari",
    "beach": "di pantai",
}


def plain(phrase: Phrase) -> str:
    """ "mobil merah": nothing counts it and nothing points at it."""
    colour = COLOURS[phrase.colour] if phrase.colour else ""
    pattern = PATTERNS[phrase.pattern] if phrase.pattern else ""
    return " ".join(word for word in (noun(phrase), colour, pattern) if word)


def the(phrase: Phrase) -> str:
    """ "mobil merah itu"."""
    return f"{plain(phrase)} itu"


def look(value: str) -> str:
    """A colour or pattern as a predicate has it."""
    return f"berwarna {COLOURS[value]}" if value in COLOURS else PATTERNS[value]


def question(plan: QuestionPlan) -> str:
    """The Indonesian question of a plan."""
    phrases, values = plan.phrases, plan.values
    first, last = (phrases[0], phrases[-1]) if phrases else (None, None)
    match plan.form:
        case "exists":
            return f"Apakah ada {noun_phrase(first)}?"
        case "exists in the picture":
            return f"Apakah ada {noun_phrase(first)} di gambar?"
        case "colour of":
            return f"Apa warna {the(first)}?"
        case "colour is" | "pattern is":
            return f"Apakah {the(first)} {look(values[0])}?"
        case "pattern of":
            return f"Apa motif {the(first)}?"
        case "which":
            text = f"{noun(first)} apa yang ada di gambar?"
            return text[:1].upper() + text[1:]
        case "how many":
            return f"Ada berapa {plain(first)}?"
        case "choose colour":
            return f"Apakah {the(first)} berwarna {COLOURS[values[0]]} atau {COLOURS[values[1]]}?"
        case "both attributes":
            return f"Apakah {the(first)} {look(values[0])} dan {look(values[1])}?"
        case "same colour":
            return f"Apakah {the(first)} dan {the(last)} berwarna sama?"
        case "both there":
            return f"Apakah ada {noun_phrase(first)} dan juga {noun_phrase(last)}?"
        case "either there":
            return f"Apakah ada {noun_phrase(first)} atau {noun_phrase(last)}?"
        case "setting is":
            return f"Apakah gambar ini diambil {SETTINGS[values[0]]}?"
        case "choose setting":
            return f"Apakah gambar ini diambil {SETTINGS[values[0]]} atau {SETTINGS[values[1]]}?"
        case "choose relation":
            return f"Apakah {the(first)} berada {CHOICES[plan.relation]} {the(last)}?"
    place = f"{PLACES[plan.relation]} {the(last)}"
    match plan.form:
        case "neighbour":
            return f"Apa yang ada {place}?"
        case "neighbour exists":
            return f"Apakah ada {noun_phrase(first)} {place}?"
        case "neighbour colour":
            return f"Apa warna benda {place}?"
        case "neighbour colour is":
            return f"Apakah benda {place} berwarna {COLOURS[values[0]]}?"
        case "relation is":
            return f"Apakah {the(first)} berada {place}?"
    raise ValueError(f"unknown form {plan.form!r}")


def statement(plan: StatementPlan) -> str:
    """The Indonesian statement of a plan."""
    one, other = (noun_phrase(plan.phrases[0]), noun_phrase(plan.phrases[-1])) if plan.phrases else ("", "")
    place = SETTINGS[plan.setting] if plan.setting else ""
    match plan.form:
        case "both":
            return f"Kedua gambar menunjukkan {one}."
        case "one":
            return f"Tepat satu dari kedua gambar menunjukkan {one}."
        case "neither":
            return f"Tidak satu pun dari kedua gambar menunjukkan {one}."
        case "some":
            return f"Setidaknya satu dari kedua gambar menunjukkan {one}."
        case "left":
            return f"Ada {one} di gambar sebelah kiri."
        case "right":
            return f"Ada {one} di gambar sebelah kanan."
        case "one each":
            return f"Satu gambar menunjukkan {one} dan gambar lainnya menunjukkan {other}."
        case "left and right":
            return f"Gambar sebelah kiri menunjukkan {one} dan gambar sebelah kanan menunjukkan {other}."
        case "count":
            said = noun_phrase(replace(plan.phrases[0], count=plan.number))
            return f"Ada tepat {said} di kedua gambar."
        case "more":
            left = f"Gambar sebelah kiri menunjukkan lebih banyak {plain(plan.phrases[0])}"
            return f"{left} daripada gambar sebelah kanan."
        case "setting left":
            return f"Hanya gambar sebelah kiri yang diambil {place}."
        case "setting both":
            return f"Kedua gambar diambil {place}."
        case "setting and":
            return f"Gambar sebelah kanan diambil {place} dan menunjukkan {one}."
        case "more things":
            return "Ada lebih banyak benda di gambar sebelah kiri daripada di gambar sebelah kanan."
        case "total":
            return f"Kedua gambar menunjukkan {plan.number} benda secara keseluruhan."
    raise ValueError(f"unknown form {plan.form!r}")
