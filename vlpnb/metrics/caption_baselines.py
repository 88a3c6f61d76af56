"""What captions are worth that no captioner wrote: the same for every picture, a similar picture's, another person's.

* `constant_caption`: the one caption that is most like all of them;
* `nearest_captions`: the first caption of the most similar training picture;
* `consensus_captions`: of all captions of the k most similar pictures the one that agrees best with the others (Devlin
  et al. 2015, "Exploring Nearest Neighbor Approaches for Image Captioning", section 3), by CIDEr;
* `one_against_others`: each person's caption against those of the others, which is what a person scores.

Similarity is the cosine of frozen features.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.metrics.captions import Identity, Tokens, evaluate, words_of
from vlpnb.metrics.cider import Frequencies, similarity, weighted

NEIGHBOURS = 10


def constant_caption(captions: Sequence[Sequence[str]], tokens: Tokens = "own") -> str:
    """The caption that goes best with all pictures: nearest, by CIDEr's vectors, to the mean of all captions.

    Args:
        captions: the captions of every picture.

    Raises:
        UserError: there is no caption.
    """
    texts, weights, _ = _weighted(captions, tokens)
    centres: list[dict] = [defaultdict(float) for _ in range(4)]
    for row in weights:
        for centre, vector, norm in zip(centres, row.vectors, row.norms, strict=True):
            for run, value in vector.items():
                centre[run] += value / (norm or 1.0)
    scores = [
        sum(
            sum(value * centre[run] for run, value in vector.items()) / (norm or 1.0)
            for centre, vector, norm in zip(centres, row.vectors, row.norms, strict=True)
        )
        for row in weights
    ]
    return texts[scores.index(max(scores))]


def nearest_captions(
    features: Float[Tensor, "M d"], training: Float[Tensor, "N d"], captions: Sequence[Sequence[str]]
) -> list[str]:
    """The first caption of the training picture that is most similar, for M pictures."""
    return [captions[row[0]][0] for row in _neighbours(features, training, captions, 1).tolist()]


def consensus_captions(
    features: Float[Tensor, "M d"],
    training: Float[Tensor, "N d"],
    captions: Sequence[Sequence[str]],
    k: int = NEIGHBOURS,
    tokens: Tokens = "own",
) -> list[str]:
    """For M pictures, of the captions of the k most similar training pictures the one most like the others.

    Args:
        captions: those of each training picture.

    Raises:
        UserError: fewer training pictures than k, or not as many as have captions.
    """
    near = _neighbours(features, training, captions, k)
    texts, weights, places = _weighted(captions, tokens)
    chosen = []
    for row in near.tolist():
        own = [place for picture in row for place in places[picture]]
        agreement = [sum(similarity(weights[i], weights[j]) for j in own if j != i) for i in own]
        chosen.append(texts[own[agreement.index(max(agreement))]])
    return chosen


def one_against_others(
    references: Mapping[Identity, Sequence[str]], tokens: Tokens = "own"
) -> dict[str, float]:
    """A person's scores: each caption against the others of its picture, on average over the people.

    Pictures with one caption have no other and do not count. UserError where all are such.
    """
    people = max((len(those) for those in references.values()), default=0)
    if people < 2:
        raise UserError("no picture has two captions; expected more than one person's")
    rows = []
    for person in range(people):
        asked = {name: those for name, those in references.items() if len(those) > max(1, person)}
        others = {name: [*those[:person], *those[person + 1 :]] for name, those in asked.items()}
        said = {name: those[person] for name, those in asked.items()}
        rows.append(evaluate(said, others, tokens, java=False).overall)
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _neighbours(
    features: Float[Tensor, "M d"],
    training: Float[Tensor, "N d"],
    captions: Sequence[Sequence[str]],
    k: int,
) -> Int[Tensor, "M k"]:
    """The k most similar training pictures of each, the most similar first; of equals the first."""
    if len(captions) != len(training) or not 1 <= k <= len(training) or not all(captions):
        raise UserError(
            f"{len(training):,} training pictures, captions of {len(captions):,} (of {sum(map(bool, captions)):,} at "
            f"least one), {k} neighbours; expected captions of each, and no more neighbours than pictures"
        )
    unit = [torch.nn.functional.normalize(those.double(), dim=1) for those in (features, training)]
    return (unit[0] @ unit[1].T).sort(dim=1, descending=True, stable=True).indices[:, :k]


def _weighted(captions: Sequence[Sequence[str]], tokens: Tokens):
    """All captions, their vectors with document frequencies of these pictures, and the places of each picture's."""
    texts = [text for those in captions for text in those]
    if not texts:
        raise UserError("there is no caption to choose from")
    words, places, start = words_of(texts, tokens), [], 0
    for those in captions:
        places.append(range(start, start + len(those)))
        start += len(those)
    frequencies = Frequencies.of([[words[i] for i in place] for place in places])
    return texts, [weighted(row, frequencies) for row in words], places
