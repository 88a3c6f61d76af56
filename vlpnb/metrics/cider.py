"""CIDEr-D (Vedantam et al. 2015, section 6), to the number of the COCO caption evaluation, which calls it CIDEr.

A caption is a vector for each n from 1 to 4: how often each run of n words occurs, times how rare that run is in the
pictures' references, ln N - ln df (N pictures, df of them with the run in any reference). For a caption h and a
reference r

    mean over n of  Σ min(h, r) · r / (|h| |r|)  ·  exp(-Δ² / (2 · 6²)) · 10,    Δ the difference in length

and a caption's score is the mean over its references. The evaluation takes N and df from the very references that it
scores with: the score of one caption depends on the company, and of a single picture it is 0 (quirk VLP-20). A reward,
or the score of one picture, therefore takes `Frequencies` that are counted once, over a training split.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.fields import as_object, field
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.metrics.overlap import LONGEST, Words, runs

LENGTH_WIDTH = 6.0  # standard deviation of the Gaussian over the difference in length
SCALE = 10.0


@dataclass(frozen=True)
class Frequencies:
    """In how many of `pictures` pictures a run of words occurs, in any reference."""

    pictures: int
    counts: Mapping[tuple[Hashable, ...], int]

    @classmethod
    def of(cls, references: Iterable[Sequence[Words]]) -> "Frequencies":
        """Counted over the references of pictures."""
        counts: Counter = Counter()
        pictures = 0
        for pictures, those in enumerate(references, start=1):  # noqa: B007
            counts.update({run for words in those for n in range(1, LONGEST + 1) for run in runs(words, n)})
        return cls(pictures, counts)

    def rarity(self, run: tuple[Hashable, ...]) -> float:
        """ln N - ln df; of a run that no reference has as of one that one picture has."""
        return math.log(self.pictures) - math.log(max(1, self.counts.get(run, 0)))

    def save(self, path: Path) -> None:
        """Write them as JSON: `pictures`, and `counts` by the run's words with blanks between."""
        write_json(
            path, {"pictures": self.pictures, "counts": {" ".join(run): n for run, n in self.counts.items()}}
        )

    @classmethod
    def load(cls, path: Path) -> "Frequencies":
        """Read what `save` wrote. UserError for a file of another form."""
        data = read_json(path, 'document frequencies {"pictures": N, "counts": {"a red boat": n}}')
        counts = as_object(field(data, "counts", f"{path}"), f"{path}.counts")
        pictures = field(data, "pictures", f"{path}")
        if not isinstance(pictures, int) or pictures < 1 or not all(type(n) is int for n in counts.values()):
            raise UserError(f"{path}: expected whole numbers of pictures, at least one; write the file again")
        return cls(pictures, {tuple(run.split(" ")): n for run, n in counts.items()})


@dataclass(frozen=True)
class Weighted:
    """A caption's vectors for n = 1 to 4, their norms, and how many pairs of words it has (its length)."""

    vectors: tuple[dict[tuple[Hashable, ...], float], ...]
    norms: tuple[float, ...]
    pairs: int


def weighted(words: Words, frequencies: Frequencies) -> Weighted:
    """A caption as CIDEr compares it."""
    counted = [runs(words, n) for n in range(1, LONGEST + 1)]
    vectors = tuple({run: count * frequencies.rarity(run) for run, count in row.items()} for row in counted)
    norms = tuple(math.sqrt(sum(value * value for value in vector.values())) for vector in vectors)
    return Weighted(vectors, norms, counted[1].total())


def similarity(hypothesis: Weighted, reference: Weighted) -> float:
    """CIDEr-D of a caption with one reference."""
    total = 0.0
    for n in range(LONGEST):
        norm = hypothesis.norms[n] * reference.norms[n]
        if norm:
            theirs = reference.vectors[n]
            shared = [(value, theirs[run]) for run, value in hypothesis.vectors[n].items() if run in theirs]
            total += sum(min(ours, other) * other for ours, other in shared) / norm
    difference = hypothesis.pairs - reference.pairs
    return SCALE * total / LONGEST * math.exp(-(difference**2) / (2 * LENGTH_WIDTH**2))


def cider(
    hypotheses: Sequence[Words],
    references: Sequence[Sequence[Words]],
    frequencies: Frequencies | None = None,
) -> tuple[float, list[float]]:
    """CIDEr of the whole (the mean), and of each caption.

    Without `frequencies` they are counted over `references`, as the evaluation does.
    """
    frequencies = frequencies or Frequencies.of(references)
    each = [
        Reference(those, frequencies).score(words)
        for words, those in zip(hypotheses, references, strict=True)
    ]
    return (sum(each) / len(each) if each else float("nan")), each


class Reference:
    """The references of one picture, weighted once: for many captions of it, as rewards need."""

    def __init__(self, references: Sequence[Words], frequencies: Frequencies):
        self.frequencies = frequencies
        self.weighted = [weighted(words, frequencies) for words in references]

    def score(self, words: Words) -> float:
        """CIDEr of a caption, between 0 and 10."""
        own = weighted(words, self.frequencies)
        return sum(similarity(own, reference) for reference in self.weighted) / len(self.weighted)
