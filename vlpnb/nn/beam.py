"""Beam search: K texts of each picture are written side by side, the likeliest continuations of all of them survive.

Over the same `step` function as `decoding.py`. It is the beam of UniLM's and VLP's code (Dong et al. 2019; Zhou et al.
2020; VLP-09): totals are sums of log-probabilities, a forbidden word costs 10,000, which also pushes out beams that
have ended, and of all texts that ended the best wins, with a bonus for each word.

Differs from the original, never in the result: a search stops as soon as nothing that is still being written can win.
Beyond it: more than one text can be returned, blocking works for single words too (n = 1), and everything that a search
saw can be kept for a person to look at (`BeamTrace`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.nn.decoding import Step, check, precise

PENALTY = 10_000.0
"""What a forbidden word costs: more than any text, but less than infinity."""
SHOWN = 5
"""Continuations of each beam that a trace keeps, at least."""


@dataclass(frozen=True)
class Text:
    """One text that a search found."""

    ids: tuple[int, ...]
    """Its words, with the closing one where it has ended."""
    total: float
    """Sum of its log-probabilities, penalties included."""
    score: float
    """What texts are compared by: `total` and the bonus of its words."""
    ended: bool
    """False: the steps were over first."""
    place: tuple[int, int]
    """Step and beam, from 0, of its last word."""


@dataclass(frozen=True)
class Continuation:
    """A word that a beam could go on with."""

    word: int
    log_prob: float
    """The model's own, before any penalty."""
    total: float
    """Of the beam with this word, penalties included: what candidates are compared by."""
    blocked: str
    """Why it is penalised: "ended" (the beam has), "minimum" (too short to end), "repeated" (n-gram), or ""."""
    kept: bool
    """Whether it became one of the K beams."""


@dataclass(frozen=True)
class BeamStep:
    """The K beams of one picture after one step, the best total first."""

    words: tuple[int, ...]
    totals: tuple[float, ...]
    parents: tuple[int, ...]
    """The beam of the step before that each one continues (0 at the first step)."""
    ended: tuple[bool, ...]
    continuations: tuple[tuple[Continuation, ...], ...]
    """For each beam of the step before (one at the first step): its likeliest words, K of them, at least five."""


@dataclass(frozen=True)
class BeamTrace:
    """Everything that the search for one picture saw."""

    steps: tuple[BeamStep, ...]
    texts: tuple[Text, ...]
    """What it found, the best first: that one was chosen."""
    length_bonus: float


@dataclass(frozen=True)
class Beams:
    """The result of a search of S ≤ T steps for B pictures, K wide."""

    ids: Int[Tensor, "B T"]
    """The chosen texts, padded."""
    texts: list[tuple[Text, ...]]
    """The best texts of each picture, the best first; fewer than asked for where there are no more."""
    words: Int[Tensor, "B S K"]
    parents: Int[Tensor, "B S K"]
    totals: Float[Tensor, "B S K"]
    traces: list[BeamTrace] | None
    """One for each picture, when asked for."""


@dataclass(frozen=True)
class Rules:
    """What a text must keep to."""

    end_id: int
    length_bonus: float = 0.0
    min_length: int = 0
    no_repeat: int = 0
    ignore: tuple[int, ...] = ()


@torch.no_grad()
def beam(
    step: Step,
    width: int,
    steps: int,
    end_id: int,
    *,
    length_bonus: float = 0.0,
    min_length: int = 0,
    no_repeat: int = 0,
    ignore: Sequence[int] = (),
    best: int = 1,
    stop_early: bool = True,
    trace: bool = False,
    pad_id: int = 0,
) -> Beams:
    """Search for the best text of each picture.

    Args:
        step: the model (`decoding.py`).
        width: K, texts of a picture that are written side by side.
        steps: T, the most words, the closing `end_id` included.
        length_bonus: added to a text's total for each of its words, the closing one included, when texts are compared.
        min_length: the fewest words before the closing one.
        no_repeat: n; no n words in a row come twice. 0: all may come again.
        ignore: words that may come again, and whose presence among the last n − 1 words lets any word follow.
        best: how many texts to return for each picture.
        stop_early: stop when no beam can enter the `best` texts any more. They are the same as after all T steps.
        trace: keep what a person may want to look at.
        pad_id: fills `ids`.

    Raises:
        UserError: a number that has no meaning, more beams than words, or scores that are NaN.
    """
    least = {"width": (width, 1), "steps": (steps, 1), "best": (best, 1)}
    for name, (value, low) in (least | {"min_length": (min_length, 0), "no_repeat": (no_repeat, 0)}).items():
        check(value >= low, f"{name} = {value}; expected at least {low}")
    rules = Rules(end_id, length_bonus, min_length, no_repeat, tuple(ignore))
    words = rows = None
    history: list[tuple[Tensor, Tensor, Tensor]] = []
    seen: list[list[BeamStep]] = []
    for number in range(1, steps + 1):
        log_probs = precise(step(words, rows)).log_softmax(-1)  # (N, V)
        if number == 1:
            pictures, vocabulary = log_probs.shape
            check(width <= vocabulary, f"width = {width} beams, but there are only {vocabulary} words")
            totals = log_probs.new_zeros(pictures, 1)
            ended = torch.zeros_like(totals, dtype=torch.bool)
            texts = torch.zeros(pictures, 1, 0, dtype=torch.long, device=log_probs.device)
            closing = _Closing(steps, best, rules)
        allowed = penalised(log_probs, texts.flatten(0, 1), rules)
        top, choice = allowed.topk(width)  # (N, K)
        ways = totals.shape[1]  # rows of a picture at this step: one, then K
        # At most 0 after rounding too, which the early stop relies on.
        candidates = totals[..., None] + top.clamp(max=0).view(pictures, ways, width)
        candidates = (candidates - PENALTY * ended[..., None]).flatten(1)  # (B, K · K)
        before = totals, ended
        totals, index = candidates.topk(width)
        parents = index // width
        words = choice.view(pictures, ways * width).gather(1, index)  # (B, K)
        ended = words == end_id
        history.append((words, parents, totals))
        if trace:
            seen.append(_record(log_probs, allowed, before, history[-1], end_id, number <= min_length))
        if stop_early and closing.over(number, totals, ended):
            break
        rows = (parents + ways * torch.arange(pictures, device=parents.device)[:, None]).flatten()
        texts = torch.cat(
            [texts.flatten(0, 1)[rows].view(pictures, width, number - 1), words[..., None]], dim=2
        )
        words = words.flatten()
    kept = [torch.stack(part, dim=1) for part in zip(*history, strict=True)]  # (B, S, K) each
    check(
        not kept[2].isnan().any(), "scores of words are no numbers (NaN): the model's weights have diverged"
    )
    found = choose(*kept, steps, best, rules)
    ids = torch.full((pictures, steps), pad_id, dtype=torch.long)
    for row, some in zip(ids, found, strict=True):
        row[: len(some[0].ids)] = torch.tensor(some[0].ids)
    traces = None
    if trace:
        traces = [BeamTrace(t, f, length_bonus) for t, f in zip(zip(*seen, strict=True), found, strict=True)]
    return Beams(ids.to(kept[0].device), found, *kept, traces)


def penalised(
    log_probs: Float[Tensor, "N V"], texts: Int[Tensor, "N S"], rules: Rules
) -> Float[Tensor, "N V"]:
    """Log-probabilities of the words after `texts` under the rules.

    Less by 10,000 where a word would repeat an n-gram; −10,000 for the end of a text that is shorter than the minimum.
    """
    n, length = rules.no_repeat, texts.shape[1]
    if 0 < n <= length or length < rules.min_length:
        log_probs = log_probs.clone()
    if 0 < n <= length:
        runs = texts.unfold(1, n, 1)  # (N, S − n + 1, n)
        tail = texts[:, length - n + 1 :]  # (N, n − 1)
        again = (runs[..., :-1] == tail[:, None]).all(-1)  # (N, S − n + 1)
        if rules.ignore:
            free = torch.tensor(rules.ignore, device=texts.device)
            again &= ~torch.isin(runs[..., -1], free) & ~torch.isin(tail, free).any(-1, keepdim=True)
        row, place = again.nonzero(as_tuple=True)
        word = runs[row, place, -1]
        log_probs[row, word] = log_probs[row, word] - PENALTY  # once, however often it came
    if length < rules.min_length:
        log_probs[:, rules.end_id] = -PENALTY
    return log_probs


class _Closing:
    """Tells when no beam of any picture can still enter its `best` texts.

    What is written later only adds log-probabilities, at most 0 each, and at most one bonus for each step to come. A
    text that comes later loses a tie. Sums are rounded as in the search itself: the bound holds to the last bit.
    """

    def __init__(self, steps: int, best: int, rules: Rules):
        self.steps, self.best, self.bonus = steps, best, rules.length_bonus
        self.reached: Float[Tensor, "B best"] | None = None

    def over(self, number: int, totals: Float[Tensor, "B K"], ended: Bool[Tensor, "B K"]) -> bool:
        """After step `number`."""
        scores = (totals.double() + self.bonus * number).masked_fill(~ended, -torch.inf)
        if self.reached is None:
            self.reached = torch.full_like(scores[:, :1], -torch.inf).expand(-1, self.best)
            self.done = torch.zeros_like(ended[:, 0])
        self.reached = torch.cat([self.reached, scores], dim=1).topk(self.best)[0]
        last = self.steps if self.bonus > 0 else number + 1
        bound = (totals - PENALTY * ended).amax(1).double() + self.bonus * last
        self.done = self.done | ended.all(1) | (bound <= self.reached[:, -1])
        return bool(self.done.all())


def _record(
    log_probs: Tensor,  # (N, V), the model's
    allowed: Tensor,  # (N, V), with penalties
    before: tuple[Tensor, Tensor],  # totals and `ended` (B, 1 or K) of the step before
    after: tuple[Tensor, Tensor, Tensor],  # words, parents, totals (B, K)
    end_id: int,
    short: bool,
) -> list[BeamStep]:
    """What a person may want to know of one step, for each picture."""
    pictures, width = after[0].shape
    log_probs, allowed = (
        part.unflatten(0, (pictures, -1)) for part in (log_probs, allowed)
    )  # (B, 1 or K, V)
    shown = log_probs.topk(min(max(width, SHOWN), log_probs.shape[2]))[1].tolist()
    records = []
    for picture in range(pictures):
        words, parents, totals = (part[picture].tolist() for part in after)
        kept = list(zip(parents, words, strict=True))
        continuations = []
        for b, (total, over) in enumerate(zip(*(part[picture].tolist() for part in before), strict=True)):
            likely = shown[picture][b]
            ways = []
            for word in likely + [w for k, w in kept if k == b and w not in likely]:
                own, paid = (part[picture, b, word].item() for part in (log_probs, allowed))
                repeated = "repeated" if paid < own else ""
                blocked = "ended" if over else "minimum" if short and word == end_id else repeated
                paid = total + paid - PENALTY * over
                ways.append(Continuation(word, own, paid, blocked, (b, word) in kept))
            continuations.append(tuple(ways))
        ended = tuple(word == end_id for word in words)
        records.append(BeamStep(tuple(words), tuple(totals), tuple(parents), ended, tuple(continuations)))
    return records


def choose(
    words: Int[Tensor, "B S K"],
    parents: Int[Tensor, "B S K"],
    totals: Float[Tensor, "B S K"],
    steps: int,
    best: int,
    rules: Rules,
) -> list[tuple[Text, ...]]:
    """The best texts of each picture, from the words, back pointers and totals of a search.

    Texts that count have ended, up to the first step where all K beams did; at that step, or at the last one of
    `steps` where there was none, those count too that have not. The earliest of equal texts comes first.
    """
    number = torch.arange(1, words.shape[1] + 1, device=words.device).double()[:, None]  # (S, 1)
    scores = totals.double() + rules.length_bonus * number  # (B, S, K)
    ended = words == rules.end_id
    all_ended = ended.all(-1)  # (B, S)
    last = torch.where(all_ended.any(1), all_ended.int().argmax(1) + 1, steps)[:, None, None]
    counts = (number == last) | (ended & (number < last))
    ordered = scores.masked_fill(~counts, -torch.inf).flatten(1).sort(dim=1, descending=True, stable=True)
    found = []
    for picture, (values, places) in enumerate(
        zip(*(part[:, :best].tolist() for part in ordered), strict=True)
    ):
        w, p, t = (part[picture].tolist() for part in (words, parents, totals))
        texts = []
        for score, place in zip(values, places, strict=True):
            if score > -torch.inf:
                step, k = divmod(place, words.shape[2])
                ids = _walk(w, p, step, k)
                texts.append(Text(ids, t[step][k], score, ids[-1] == rules.end_id, (step, k)))
        found.append(tuple(texts))
    return found


def _walk(words: list[list[int]], parents: list[list[int]], step: int, k: int) -> tuple[int, ...]:
    """The text that ends at beam k of a step, by its back pointers."""
    ids = [words[step][k]]
    for s in range(step, 0, -1):
        k = parents[s][k]
        ids.insert(0, words[s - 1][k])
    return tuple(ids)
