"""The words of a caption, without Java: lower case, punctuation split off and dropped.

Scores over these words are labelled `own`. They are not those of the literature, whose words are the Penn Treebank's
(`ptb.py`, labelled `ptb`), and the two never stand in one table. What differs: here an apostrophe and a hyphen
separate ("man's" is "man s", "t-shirt" is "t shirt"), so that captions made of word pieces ("t - shirt") meet people's
spelling; and brackets go, which in the Penn Treebank's words stay as `-lrb-` (quirk VLP-21).
"""

import re
import unicodedata

DROPPED = frozenset("'\"`.?!,:;-()[]{}–—‘’“”…")  # what the official list means to drop, one character each
_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")


def own_words(text: str) -> list[str]:
    """Words and the marks that count, such as $ and %."""
    text = unicodedata.normalize("NFC", text).lower()
    return [word for word in _WORD.findall(text) if word not in DROPPED]
