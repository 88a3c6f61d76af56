"""What becomes of a sentence before it is cut into pieces: `cclm_v1`, as the release of CCLM does, and `unicode`.

CCLM (Zeng et al. 2023, section 4.1) says nothing of it; released models expect what their code did, so that `cclm_v1`
keeps its every effect (CCL-21): ASCII punctuation alone is removed, a single tab or no-break space separates no words,
a word limit does not cut Chinese, and lower-casing takes no care of Turkish. `unicode` is for new training: any
punctuation and any white space, what nobody can see is removed, letters keep their case (the pieces of XLM-R are
cased), and a Chinese or Japanese character counts as a word.
"""

import re
import unicodedata
from typing import Literal, get_args

from vlpnb.errors import UserError

Cleaning = Literal["cclm_v1", "unicode"]

_REMOVED = re.compile(r"""[,.'!?"()*#:;~]""")
_JOINING = re.compile(r"[-/]")
_SPACES = re.compile(r"\s{2,}")
_PERSON = re.compile(r"<person>", re.IGNORECASE)
# scripts that write words without spaces between them: a character counts as a word
_UNSPACED = "㐀-䶿一-鿿豈-﫿\U00020000-\U0003fffd぀-ヿ"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_JOINERS = "\u200c\u200d"  # invisible, but they decide how Persian or Bengali letters join


def clean_caption(text: str, max_words: int, cleaning: Cleaning = "cclm_v1") -> str:
    """A caption or a sentence as models read it, of at most so many words.

    Raises:
        UserError: nothing is left of it.
    """
    cleaned = _cut(_caption(text), max_words) if _known(cleaning) == "cclm_v1" else _unicode(text, max_words)
    if not cleaned:
        raise UserError(
            f"the sentence {text[:60]!r} has no word; expected one that cleaning ({cleaning}) leaves something of. "
            "Remove it, or leave its row out."
        )
    return cleaned


def clean_question(text: str, max_words: int, cleaning: Cleaning = "cclm_v1") -> str:
    """A question as models read it; it may be empty.

    Of `cclm_v1` questions keep runs of spaces and spaces before them, which count as words (CCL-22).
    """
    if _known(cleaning) == "unicode":
        return _unicode(text, max_words)
    return _cut(_without_punctuation(text).rstrip(" "), max_words)


def says_nothing(text: str) -> bool:
    """Whether cleaning leaves nothing of a sentence, whichever it is."""
    if any(map(str.isalnum, text)):
        return False
    return not _caption(text) or not _unicode(text, 1)


def _known(cleaning: str) -> str:
    if cleaning not in get_args(Cleaning):
        raise UserError(f"cleaning '{cleaning}' is unknown; expected {' or '.join(get_args(Cleaning))}")
    return cleaning


def _without_punctuation(text: str) -> str:
    return _JOINING.sub(" ", _REMOVED.sub(" ", text.lower()))


def _caption(text: str) -> str:
    named = _without_punctuation(text).replace("<person>", "person")
    return _SPACES.sub(" ", named).rstrip("\n").strip(" ")


def _cut(text: str, max_words: int) -> str:
    return " ".join(text.split(" ")[:max_words])


def _unicode(text: str, max_words: int) -> str:
    """Words with one space between them; characters of unspaced scripts stay together."""
    text = unicodedata.normalize("NFKC", _PERSON.sub("person", text))
    shown = "".join(filter(None, map(_seen, text)))
    shown = unicodedata.normalize("NFKC", shown)  # again: marks that something unseen kept apart
    words = [found.end() for found in _WORD.finditer(shown)][:max_words]
    return " ".join(shown[: words[-1]].split()) if words else ""


def _seen(character: str) -> str:
    """A character, a space in place of one that separates, or nothing in place of one that is not seen."""
    kind = unicodedata.category(character)
    if character.isspace() or kind[0] == "P" or character == "~":
        return " "
    return "" if kind in ("Cc", "Cf") and character not in _JOINERS else character
