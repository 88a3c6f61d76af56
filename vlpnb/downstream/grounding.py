"""Do the pictures that were found for tokens show what these name? Measured on the visual world, whose truth is known.

Paper: Vokenization (Tan and Bansal 2020) argues with examples that such pictures, vokens, are visually grounded and
contextual; the world lets us count:

* `named_rate`: of the tokens that name something visible (a kind, a category, a colour, a pattern, a size, a
  setting), the share whose voken shows it.
* `contextual_rate`: of the tokens of an adjective–noun pair ("a red car"), the share whose voken shows the
  noun with *all* that is said of it (for an adjective: with that adjective).
* `contextual_rate_context_free`: the same with the voken of the token alone in a sentence, which is what
  retrieval per word type would give.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vlpnb.data.description import load_captions
from vlpnb.text.corpora import TokenCorpus
from vlpnb.text.tokenizers import piece_texts
from vlpnb.world.knowledge import bound_attributes, shows, shows_bound, visible_terms
from vlpnb.world.writers import load_scenes


def words_of(ids: Sequence[int], tokenizer, texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Join word pieces to lower-cased words; returns the words and, for every piece, the number of its word.

    A piece continues a word if WordPiece says so (`##`), or, for byte-level vocabularies, if it has no
    leading space and goes on with letters or digits.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(ids))
    byte_level = not any(token.startswith("##") for token in tokens) and tokenizer.cls_token == "<s>"
    words: list[str] = []
    owner: list[int] = []
    for i, token in zip(ids, tokens, strict=True):
        text = texts[i]
        if byte_level:
            goes_on = (
                bool(words) and not text.startswith(" ") and text[:1].isalnum() and words[-1][-1:].isalnum()
            )
        else:
            goes_on = bool(words) and token.startswith("##")
        if goes_on:
            words[-1] += text.strip().lower()
        else:
            words.append(text.strip().lower())
        owner.append(len(words) - 1)
    return words, owner


def grounding_rates(
    captions: Path,
    corpus: TokenCorpus,
    tokenizer,
    image_ids: Sequence[str],
    vokens: np.ndarray,
    context_free: Callable[[Sequence[Sequence[int]]], np.ndarray],
) -> dict[str, float]:
    """The rates of this module's header over a corpus; empty when there is no ground truth.

    Args:
        captions: the folder of the stage that knows the scenes.
        vokens: [N] of the corpus, possibly with sentence marks.
        context_free: sentences of ids → vokens that ignore the context.
    """
    scenes_path = load_captions(captions).scenes
    if scenes_path is None:
        return {}
    scenes = load_scenes(scenes_path)
    if any(name not in scenes for name in image_ids):
        return {}
    scene_of = [scenes[name] for name in image_ids]
    texts = piece_texts(tokenizer)
    counts = dict.fromkeys(("named", "pairs"), 0)
    hits = dict.fromkeys(("named", "contextual", "free", "free_named"), 0)
    for s in range(len(corpus.sentences) - 1):
        ids = corpus.sentence(s).tolist()
        words, owner = words_of(ids, tokenizer, texts)
        terms = visible_terms(words)
        if not any(terms):
            continue
        bound = bound_attributes(terms)
        said = vokens[corpus.sentences[s] : corpus.sentences[s + 1]].tolist()
        alone = context_free([ids]).tolist()
        for word, voken, free in zip(owner, said, alone, strict=True):
            term = terms[word]
            if term is None:
                continue
            pictures = scene_of[voken if voken >= 0 else -voken - 1], scene_of[free]
            counts["named"] += 1
            hits["named"] += shows(pictures[0], term)
            hits["free_named"] += shows(pictures[1], term)
            noun, attributes = (word, bound.get(word, [])) if term.of is None else (term.of, [term.value])
            if attributes and terms[noun] is not None:
                counts["pairs"] += 1
                for name, picture in zip(("contextual", "free"), pictures, strict=True):
                    hits[name] += all(shows_bound(picture, terms[noun].value, a) for a in attributes)

    def rate(hit: str, of: str) -> float:
        return hits[hit] / counts[of] if counts[of] else float("nan")

    return {
        "named_rate": rate("named", "named"),
        "named_rate_context_free": rate("free_named", "named"),
        "contextual_rate": rate("contextual", "pairs"),
        "contextual_rate_context_free": rate("free", "pairs"),
        "named_tokens": float(counts["named"]),
        "bound_tokens": float(counts["pairs"]),
    }
