"""Writing a text word by word: the likeliest word each time, or words drawn by their probability (beams: `beam.py`).

All of it is written over one function, `step(words, parents)`, which knows the model and its cache (`cache.py`):

| | at the first step | later |
|---|---|---|
| words | None | (N,) the last word of each row |
| parents | None | (N,) the row of the step before that each row continues |
| gives | (B, V) scores of the first word, a row for each picture | (N, V) scores of the next word |

The rows of a picture lie side by side. Scores are logits: what is added to all words of a row changes nothing.
Differs from the original code of VLP, which always makes all steps: writing stops once every text has ended (VLP-09).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vlpnb.errors import UserError

Step = Callable[[Tensor | None, Tensor | None], Tensor]


@dataclass(frozen=True)
class Drawn:
    """Texts of N rows, written one word after the other."""

    ids: Int[Tensor, "N T"]
    """Words up to and with the end, then `pad_id`."""
    log_probs: Float[Tensor, "N T"]
    """Of each word where it was chosen, 0 after the end; with the gradient that `step` has."""
    scores: Float[Tensor, "N T"]
    """The words' logits, 0 after the end."""


def greedy(step: Step, steps: int, end_id: int, *, pad_id: int = 0, stop: bool = True) -> Drawn:
    """The likeliest word each time.

    Args:
        step: the model (see above).
        steps: T, the most words, the closing `end_id` included.
        stop: keep nothing after `end_id`, and finish once all rows have one. False: always T steps, raw.
    """

    def likeliest(scores: Tensor) -> tuple[Tensor, Tensor]:
        return scores.argmax(-1), scores

    return _write(step, likeliest, steps, end_id, pad_id, stop)


def sample(
    step: Step,
    steps: int,
    end_id: int,
    *,
    samples: int = 1,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
    pad_id: int = 0,
    stop: bool = True,
) -> Drawn:
    """Words drawn by their probability; `log_probs` are of the distribution that they were drawn from.

    Args:
        step, steps, end_id, stop: as in `greedy`.
        samples: texts of each picture; those of picture i are the rows from i · samples on.
        temperature: divides the scores; below 1 likely words become likelier.
        top_k: only the k likeliest words may be drawn; 0: all.
        top_p: only the fewest words that together have this probability may be drawn (Holtzman et al. 2020).
        generator: where chance comes from, on the device of the scores.

    Raises:
        UserError: a number that has no meaning.
    """
    check(samples >= 1, f"samples = {samples}; expected at least 1")
    check(temperature > 0, f"temperature = {temperature}; expected > 0 (for the likeliest word use greedy)")
    check(top_k >= 0, f"top_k = {top_k}; expected 0 (all words) or more")
    check(0 < top_p <= 1, f"top_p = {top_p}; expected more than 0, at most 1")

    def draw(scores: Tensor) -> tuple[Tensor, Tensor]:
        scores = keep_likeliest(scores / temperature, top_k, top_p)
        return torch.multinomial(scores.detach().softmax(-1), 1, generator=generator)[:, 0], scores

    return _write(step, draw, steps, end_id, pad_id, stop, samples)


def keep_likeliest(scores: Float[Tensor, "N V"], top_k: int = 0, top_p: float = 1.0) -> Float[Tensor, "N V"]:
    """Scores, −∞ for all words but the `top_k` likeliest and but the fewest that together reach `top_p`."""
    if 0 < top_k < scores.shape[-1]:
        scores = scores.masked_fill(scores < scores.topk(top_k)[0][:, -1:], -torch.inf)
    if top_p < 1:
        ordered, order = scores.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(-1)
        enough = (
            probabilities.cumsum(-1) - probabilities >= top_p
        )  # without the word itself: one always stays
        scores = scores.masked_fill(torch.zeros_like(enough).scatter(-1, order, enough), -torch.inf)
    return scores


def _write(
    step: Step,
    choose: Callable[[Tensor], tuple[Tensor, Tensor]],  # scores → words, and the scores they were chosen by
    steps: int,
    end_id: int,
    pad_id: int,
    stop: bool,
    samples: int = 1,
) -> Drawn:
    check(steps >= 1, f"steps = {steps}; expected at least 1")
    scores = precise(step(None, None))
    rows = torch.arange(scores.shape[0], device=scores.device).repeat_interleave(samples)
    scores = scores[rows]  # (N, V)
    ended = torch.zeros_like(rows, dtype=torch.bool)
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    for number in range(steps):
        if number:
            scores = precise(step(words, rows))
            rows = torch.arange(len(scores), device=scores.device)
        words, by = choose(scores)
        log_prob = by.gather(1, words[:, None])[:, 0] - by.logsumexp(-1)
        score = scores.gather(1, words[:, None])[:, 0]
        if stop:
            words, log_prob, score = (
                column.masked_fill(ended, fill)
                for column, fill in ((words, pad_id), (log_prob, 0.0), (score, 0.0))
            )
            ended = ended | (words == end_id)
        columns.append((words, log_prob, score))
        if stop and ended.all():
            break
    left = steps - len(columns)
    ids, log_probs, logits = (torch.stack(part, dim=1) for part in zip(*columns, strict=True))
    return Drawn(F.pad(ids, (0, left), value=pad_id), F.pad(log_probs, (0, left)), F.pad(logits, (0, left)))


def check(holds: bool, message: str) -> None:
    """UserError with the message unless it holds."""
    if not holds:
        raise UserError(message)


def precise(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """In float32 at least, whatever a model computes in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def guide(
    seeing: Float[Tensor, "*N V"], blind: Float[Tensor, "*N V"], strength: float
) -> Float[Tensor, "*N V"]:
    """(1 + γ) · seeing − γ · blind, of log-probabilities: words that pictures make likelier become likelier still."""
    seeing, blind = (scores.log_softmax(-1) for scores in (seeing, blind))
    return (1 + strength) * seeing - strength * blind


def mixed(seeing: Float[Tensor, "*N V"], blind: Float[Tensor, "*N V"], share: float) -> Float[Tensor, "*N V"]:
    """Log-probabilities of a mixture of both distributions, `share` of the first ("late" mixing, after the model)."""
    seeing, blind = (scores.log_softmax(-1) for scores in (seeing, blind))
    with_share, rest = torch.tensor(share).log().to(seeing), torch.tensor(1 - share).log().to(blind)
    return torch.logaddexp(seeing + with_share, blind + rest)
