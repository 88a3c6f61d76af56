"""A toy model that writes: what comes next depends on the picture and on every word before, and nothing is learned."""

import torch
from torch import Tensor

from vlpnb.nn.decoding import Step


class ToyWriter:
    """Random scores for every picture and text, always the same for the same seed.

    Args:
        pictures: B.
        vocabulary: V.
        sharpness: spread of the scores; a high one makes a model that is sure of itself.
        ending: added to the score of word `end`.
    """

    def __init__(
        self, pictures: int, vocabulary: int = 6, seed: int = 0, sharpness: float = 1.0, ending=0.0, end=0
    ):
        self.pictures, self.vocabulary, self.seed = pictures, vocabulary, seed
        self.sharpness, self.ending, self.end = sharpness, ending, end
        self.known: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        self.calls = 0

    def scores(self, picture: int, text: tuple[int, ...]) -> Tensor:
        """Scores (V,) of what follows a text, float64."""
        if (picture, text) not in self.known:
            random = torch.Generator().manual_seed(hash((self.seed, picture, text)) % 2**31)
            scores = self.sharpness * torch.randn(self.vocabulary, generator=random, dtype=torch.float64)
            scores[self.end] += self.ending
            self.known[picture, text] = scores
        return self.known[picture, text]

    def step(self, only: int | None = None) -> Step:
        """A step function that starts anew; of one picture alone when told."""
        rows = [(picture, ()) for picture in range(self.pictures) if only in (None, picture)]

        def step(words: Tensor | None, parents: Tensor | None) -> Tensor:
            nonlocal rows
            self.calls += 1
            if words is not None:
                old = [rows[parent] for parent in parents.tolist()]
                rows = [(p, (*text, word)) for (p, text), word in zip(old, words.tolist(), strict=True)]
            return torch.stack([self.scores(*row) for row in rows])

        return step
