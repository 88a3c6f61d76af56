"""VaLM writes: one word after the other, with pictures that are looked for again after each.

Paper: VaLM (Wang et al. 2023) looks for the pictures of a word with the words before it, in writing as in training.
Its code cannot write with kept keys and values (VAL-08); here a step costs one word, since the pictures of earlier
words are not needed again:

    prompt ──── read once: keys and values kept ────┐
    word t, its K pictures ── joint attention ──────┴──→ word t + 1 ──→ pictures for it …

What finds pictures is a function of the words so far, `Finder`. `guidance` strengthens what pictures say: with a second
reading that sees none, scores are (1 + γ) · with − γ · without.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.nn.cache import Cache
from vlpnb.nn.decoding import Drawn, Step, greedy, guide, sample
from vlpnb.valm.objectives import ValmLM

Finder = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""(ids (N, S), real (N, S), False at padding behind a text) → images (N, S, K, E) for every word, and what is seen of
them (N, S, K) or None."""


class Writer:
    """Continues texts with a model, which should be in evaluation mode.

    Args:
        lm: the model.
        find: what finds pictures; None: a text without any.
        guidance: γ; 0: scores with pictures alone.
        keep: keep keys and values. False reads the whole text again at each step: the same, slowly.
    """

    def __init__(self, lm: ValmLM, find: Finder | None = None, *, guidance: float = 0.0, keep: bool = True):
        if guidance and find is None:
            raise UserError(f"guidance = {guidance} is by pictures; expected something that finds them")
        self.lm, self.find, self.guidance, self.keep = lm, find, guidance, keep

    def step(self, prompts: Int[Tensor, "B P"], real: Bool[Tensor, "B P"] | None = None) -> Step:
        """The step function of texts that continue prompts (`vlpnb.nn.decoding`).

        Args:
            prompts: with padding behind them.
            real: False at padding; None: where an id is `pad_id`. Every prompt needs a word.

        Raises:
            UserError: a prompt without any word.
        """
        config = self.lm.config
        real = prompts != config.pad_id if real is None else real
        if prompts.shape[1] == 0 or not real.any(1).all():
            raise UserError("a prompt without any word; begin with the end of a text, as training does")
        texts = [row[kept] for row, kept in zip(prompts, real, strict=True)]
        caches: list[Cache] = []

        def step(words: Tensor | None, parents: Tensor | None) -> Tensor:
            nonlocal texts
            if words is not None:
                joined = zip(parents.tolist(), words, strict=True)
                texts = [torch.cat([texts[parent], word[None]]) for parent, word in joined]
            ids, exists = padded(texts, max(config.pad_id, 0))
            images, seen = (None, None) if self.find is None else self.find(ids, exists)
            if words is None or not self.keep:
                return self._whole(ids, exists, images, seen, caches)
            last = exists.sum(1) - 1  # (N,) where the new word stands
            return self._next(words, parents, images, seen, last, caches)

        return step

    def _whole(
        self, ids: Tensor, exists: Tensor, images: Tensor | None, seen: Tensor | None, caches: list[Cache]
    ) -> Tensor:
        """Read whole texts; where keys and values are kept they become the prefix."""
        found = []
        for shown in self._readings(images, seen):
            cache = self.lm.model.new_cache() if self.keep else None
            hidden = self.lm.model(ids, *shown, real=exists, cache=cache).last
            if cache is not None:
                cache.share(exists)
                caches.append(cache)
            last = (exists.sum(1) - 1)[:, None, None].expand(-1, 1, hidden.shape[2])
            found.append(self.lm.scores(hidden.gather(1, last)[:, 0]))
        return self._guided(found)

    def _next(
        self, words: Tensor, parents: Tensor, images: Tensor | None, seen: Tensor | None, last: Tensor,
        caches: list[Cache],
    ) -> Tensor:  # fmt: skip
        """Read one more word of each text, and its pictures alone."""
        if images is not None:
            rows = torch.arange(len(words), device=words.device)
            images = images[rows, last][:, None]  # (N, 1, K, E)
            seen = None if seen is None else seen[rows, last][:, None]
        found = []
        for cache, shown in zip(caches, self._readings(images, seen), strict=True):
            cache.reorder(parents)
            exists = torch.ones_like(words[:, None], dtype=torch.bool)
            hidden = self.lm.model(words[:, None], *shown, real=exists, cache=cache).last
            found.append(self.lm.scores(hidden[:, 0]))
        return self._guided(found)

    def _readings(
        self, images: Tensor | None, seen: Tensor | None
    ) -> list[tuple[Tensor | None, Tensor | None]]:
        return [(images, seen), (None, None)] if self.guidance else [(images, seen)]

    def _guided(self, found: list[Tensor]) -> Tensor:
        if not self.guidance:
            return found[0]
        return guide(found[0], found[1], self.guidance)

    @torch.no_grad()
    def write(
        self,
        prompts: Int[Tensor, "B P"],
        steps: int,
        real: Bool[Tensor, "B P"] | None = None,
        *,
        draw: bool = False,
        stop: bool = True,
        **options: Any,
    ) -> Drawn:
        """Texts of at most `steps` words behind the prompts: the likeliest word each time, or with `draw` by chance.

        Args:
            options: of `vlpnb.nn.decoding.sample`: `samples`, `temperature`, `top_k`, `top_p`, `generator`.

        Raises:
            UserError: prompt and text are longer than the model.
        """
        if prompts.shape[1] + steps - 1 > self.lm.config.max_positions:
            raise UserError(
                f"{prompts.shape[1]} tokens and {steps} more do not fit into the {self.lm.config.max_positions} of "
                "this model; shorten the prompt or write fewer words"
            )
        write = sample if draw else greedy
        pad, end = max(self.lm.config.pad_id, 0), self.lm.config.eos_id
        return write(self.step(prompts, real), steps, end, pad_id=pad, stop=stop, **options)


def padded(texts: list[Int[Tensor, " _"]], pad_id: int) -> tuple[Int[Tensor, "N S"], Bool[Tensor, "N S"]]:
    """Texts side by side with padding behind them, and where they are real."""
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(text) for text in texts], device=ids.device)
    return ids, torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
