"""English text as Moses' scripts leave it (Koehn et al. 2007): the form in which the
original project's Wikipedia is tokenised.

Four steps, in their order: wide and typographic punctuation becomes ASCII, quotation marks and spaces around
punctuation are made alike, characters that do not print become spaces, and words are separated from punctuation.
Nothing is escaped.

The rules are those of Moses for English; the code is written afresh, and does not promise its output to the byte.
BERT's tokenizer splits at every punctuation mark itself, so that its ids hardly depend on the last step.

Differs from Moses: a full-width 1 becomes a 1 (there, by a slip of its table, a quotation mark); a no-break space
is a space everywhere, so that no decimal point is put between two numbers.
"""

import re
import unicodedata

_WIDE = str.maketrans(
    {
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        **dict(zip("，、：∶？！；（）％～", ",,::?!;()%~", strict=True)),
        **dict.fromkeys("“”《》「」", '"'),
        **dict(zip("〈〉【】━", "<>[]-", strict=True)),
        "。": ". ",
        "．": ". ",
        "’": "'",
        "…": "...",
    }
)
_QUOTES = str.maketrans(
    {**dict.fromkeys("„‘‚", '"'), "–": "-", "—": " - ", "´": "'", "`": "'", "\xa0": " ", "\r": None}
)
_SPACING = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"(?<=[A-Za-z])‘(?=[A-Za-z])", "'"),
        (r" ?« ?", ' "'),
        (r" ?»(?= )|»", '"'),
    )
]
_AROUND = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"''", '"'),
        (r"\(", " ("),
        (r"\)", ") "),
        (r" +", " "),
        (r"\) (?=[.!:?;,])", ")"),
        (r"(?<=\() | (?=\))", ""),
        (r" (?=[%:;?!])(?<=\d )| (?=[:;?!])", ""),
        (r'"([,.]+)', r'\1"'),  # English style: the comma stands inside the quotation
    )
]
_SPECIAL = re.compile(r"([^\w\s.',\-]|_)")
_COMMA = re.compile(r"(?<!\d),|,(?!\d)")
_DOTS = re.compile(r"\.{2,}")
_APOSTROPHE = re.compile(r"'")

# A full stop after one of these belongs to the word: titles, months, initials, and abbreviations.
_ABBREVIATIONS = frozenset(
    [
        "Adj",
        "Adm",
        "Adv",
        "Asst",
        "Bart",
        "Bldg",
        "Brig",
        "Bros",
        "Capt",
        "Cmdr",
        "Col",
        "Comdr",
        "Con",
        "Corp",
        "Cpl",
        "DR",
        "Dr",
        "Drs",
        "Ens",
        "Gen",
        "Gov",
        "Hon",
        "Hr",
        "Hosp",
        "Insp",
        "Lt",
        "MM",
        "MR",
        "MRS",
        "MS",
        "Maj",
        "Messrs",
        "Mlle",
        "Mme",
        "Mr",
        "Mrs",
        "Ms",
        "Msgr",
        "Op",
        "Ord",
        "Pfc",
        "Ph",
        "Prof",
        "Pvt",
        "Rep",
        "Reps",
        "Res",
        "Rev",
        "Rt",
        "Sen",
        "Sens",
        "Sfc",
        "Sgt",
        "Sr",
        "St",
        "Supt",
        "Surg",
        "v",
        "vs",
        "i.e",
        "rev",
        "e.g",
        "Rs",
        "Nos",
        "Nr",
        "Jan",
        "Feb",
        "Mar",
        "Apr",
        "Jun",
        "Jul",
        "Aug",
        "Sep",
        "Oct",
        "Nov",
        "Dec",
        "A",
        "B",
        "C",
        "D",
        "E",
        "F",
        "G",
        "H",
        "I",
        "J",
        "K",
        "L",
        "M",
        "N",
        "O",
        "P",
        "Q",
        "R",
        "S",
        "T",
        "U",
        "V",
        "W",
        "X",
        "Y",
        "Z",
    ]
)
_BEFORE_NUMBERS = frozenset(("No", "Art", "pp"))  # these only where a number follows


def moses(line: str) -> str:
    """One line of English text, without its line end, with words and punctuation separated by single spaces."""
    return tokenise(printable(normalise(line.translate(_WIDE))))


def normalise(line: str) -> str:
    """Quotation marks, dashes and the spaces around punctuation, made alike."""
    for pattern, by in _SPACING:
        line = pattern.sub(by, line)
    line = line.translate(_QUOTES)
    for pattern, by in _AROUND:
        line = pattern.sub(by, line)
    return line


def printable(line: str) -> str:
    """Every control, format, private or unassigned character becomes a space."""
    if line.isprintable():  # also false for separators, which stay
        return line
    return "".join(" " if unicodedata.category(c)[0] == "C" else c for c in line)


def tokenise(line: str) -> str:
    """Words and punctuation separated by single spaces.

    Several dots stay together; a comma inside a number stays, and so does the full stop of an abbreviation or before
    a word in lower case. An apostrophe between letters goes with those that follow: "don 't".
    """
    line = _SPECIAL.sub(r" \1 ", line)
    line = _DOTS.sub(lambda found: f" {found[0]} ", line)
    line = _COMMA.sub(" , ", line)
    line = _APOSTROPHE.sub(_apostrophe, line)
    words = line.split()
    made: list[str] = []
    for word, following in zip(words, [*words[1:], ""], strict=False):
        made += _without_full_stop(word, following)
    return " ".join(made)


def _apostrophe(found: re.Match) -> str:
    before = found.string[: found.start()][-1:]
    after = found.string[found.end() : found.end() + 1]
    if before.isalpha():
        return " '" if after.isalpha() else " ' "
    if before.isnumeric() and after.isalpha():
        return " '" if after == "s" else "'"  # the 1990's
    return " ' "


def _without_full_stop(word: str, following: str) -> list[str]:
    """The word, and its full stop where that is one of its own."""
    stem = word[:-1]
    if not word.endswith(".") or not stem or stem.endswith("."):
        return [word]
    inside = "." in stem and any(map(str.isalpha, stem))  # U.S.A.
    if inside or stem in _ABBREVIATIONS or following[:1].islower():
        return [word]
    if stem in _BEFORE_NUMBERS and following[:1].isdigit():
        return [word]
    return [stem, "."]
