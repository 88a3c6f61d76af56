"""How well a language model foretells text: perplexity by token, word and byte, and the last word of LAMBADA.

VaLM reports perplexity per token of CLIP's lower-cased pieces, and of LAMBADA the last *piece* of the last word given
the others (VAL-33). Numbers per token are of one vocabulary alone; by word or by byte, models with other vocabularies
can be compared. The last word counts here when all of its pieces are the likeliest ones.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vlpnb.errors import UserError


def perplexities(
    nats: Sequence[Float[np.ndarray, " _"]], texts: Sequence[str], ends: bool = True
) -> dict[str, float]:
    """Scores of texts, one line each.

    Args:
        nats: for each text what every token cost, its end token last.
        texts: the same texts as people write them; their words are counted between spaces, their bytes in UTF-8.
        ends: that texts end is foretold too, as a word each and a byte each.
    Returns:
        `perplexity` per token, `bits` per token, `word_perplexity`, `bits_per_byte`, and `tokens`, `words`, `bytes`.
    Raises:
        UserError: no token, or another number of texts.
    """
    if len(nats) != len(texts):
        raise UserError(f"{len(nats):,} scores of {len(texts):,} texts; expected one for each")
    kept = nats if ends else [costs[:-1] for costs in nats]
    total, tokens = sum(float(costs.sum()) for costs in kept), sum(len(costs) for costs in kept)
    if not tokens:
        raise UserError("there is no token to foretell; expected text")
    words = sum(len(text.split()) + ends for text in texts)
    size = sum(len(text.encode()) + ends for text in texts)
    return {
        "perplexity": _exp(total / tokens),
        "bits": total / tokens / math.log(2),
        "word_perplexity": _exp(total / max(words, 1)),
        "bits_per_byte": total / max(size, 1) / math.log(2),
        "tokens": float(tokens),
        "words": float(words),
        "bytes": float(size),
    }


class Passage(NamedTuple):
    """A passage of LAMBADA: all but its last word, and that word."""

    text: str
    word: str


def passage(text: str) -> Passage:
    """A passage cut before its last word, quotes made straight. UserError where there is only one word."""
    plain = straight(" ".join(text.split()))
    before, space, word = plain.rpartition(" ")
    if not space:
        raise UserError(f"a passage of LAMBADA is {text[:60]!r}; expected several words")
    return Passage(before, word)


def straight(text: str) -> str:
    """Text with straight quotes, as the published evaluation reads it; also of LaTeX's two signs for each."""
    return (
        text.translate(str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'"}))
        .replace("''", '"')
        .replace("``", '"')
    )


def last_words(follows: Sequence[Sequence[bool]]) -> dict[str, float]:
    """`word`: the share of words all of whose pieces are the likeliest; `piece`: of last pieces (the release's score).

    Args:
        follows: of each word, whether each piece is the likeliest after the text and the pieces before it.
    """
    if not follows or not all(len(pieces) for pieces in follows):
        raise UserError("a word without a piece cannot be foretold; expected words that the tokenizer knows")
    return {
        "word": float(np.mean([all(pieces) for pieces in follows])),
        "piece": float(np.mean([pieces[-1] for pieces in follows])),
        "pieces_of_a_word": float(np.mean([len(pieces) for pieces in follows])),
    }


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
