"""Checks of notebook 41, VaLM: the joint softmax, hidden pictures, the absorbed form, the merge, the cache."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vlpnb.course.checks import Wrong, compare, passed

Text = Float[Tensor, "T d"]
Images = Float[Tensor, "T K d"]


def _example(T: int = 5, K: int = 3, d: int = 4, seed: int = 41) -> tuple[Tensor, ...]:
    """Queries, keys and values of words, keys and values of each word's pictures."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((T, d), (T, d), (T, d), (T, K, d), (T, K, d))
    return tuple(1.5 * torch.randn(size, generator=generator) for size in sizes)


def _softmax_over(
    q: Tensor, keys: Tensor, values: Tensor, allowed: Tensor, scale: float | None = None
) -> Tensor:
    scores = q @ keys.T * (scale or 1 / math.sqrt(q.shape[-1]))
    return scores.masked_fill(~allowed, -math.inf).softmax(-1).nan_to_num() @ values


def check_fusion(function: Callable[[Text, Text, Text, Images, Images], Text]) -> None:
    """Exercise 41.1: `function(q, k, v, image_k, image_v)` is the joint attention (T, d) of one head."""
    q, k, v, image_k, image_v = _example()
    T, K, d = image_k.shape
    past = torch.ones(T, T, dtype=torch.bool).tril()
    own = torch.eye(T, dtype=torch.bool).repeat_interleave(K, 1)
    all_k, all_v = torch.cat([k, image_k.flatten(0, 1)]), torch.cat([v, image_v.flatten(0, 1)])

    def joint(text: Tensor, pictures: Tensor, scale: float | None = None) -> Tensor:
        return _softmax_over(q, all_k, all_v, torch.cat([text, pictures], 1), scale)

    text_alone = _softmax_over(q, k, v, past)
    pictures_alone = _softmax_over(q, image_k.flatten(0, 1), image_v.flatten(0, 1), own)
    everything = torch.ones_like(own)
    slips = {
        "two softmaxes, one over words and one over pictures, give both the same say; lay the scores side by side "
        "and take *one*.": text_alone + pictures_alone,
        "this is the mean of two softmaxes. How much pictures count must depend on their scores.": (
            text_alone + pictures_alone
        )
        / 2,
        "a word sees the pictures of *all* positions here, of later ones, too; it sees its own K.": joint(
            past, everything
        ),
        "a word sees the pictures of earlier positions, too; it sees its own K.": joint(
            past, past.repeat_interleave(K, 1)
        ),
        "words see later words here: j ≤ t.": joint(torch.ones_like(past), own),
        "a word sees itself, too: j ≤ t, not j < t.": joint(past.tril(-1), own),
        "the scale is missing: scores times 1/√d.": joint(past, own, 1.0),
        "the scale is 1/√d, not 1/d.": joint(past, own, 1 / d),
        "the pictures are left out.": text_alone,
        "the words are left out.": pictures_alone,
        "keys and values of the pictures have changed places.": _softmax_over(
            q,
            torch.cat([k, image_v.flatten(0, 1)]),
            torch.cat([v, image_k.flatten(0, 1)]),
            torch.cat([past, own], 1),
        ),
    }
    compare(
        "the joint attention",
        function(*(x.clone() for x in (q, k, v, image_k, image_v))),
        joint(past, own),
        slips,
    )
    passed("a word's pictures compete with the words before it, and no position sees another one's pictures.")


def check_hiding(
    function: Callable[
        [Float[Tensor, "T S"], Float[Tensor, "T K"], Bool[Tensor, "T K"]], Float[Tensor, "T S+K"]
    ],
) -> None:
    """Exercise 41.2: `function(text_scores, image_scores, hidden)` are the joint weights where pictures are hidden."""
    generator = torch.Generator().manual_seed(41)
    T, K = 4, 3
    text = torch.randn(T, T, generator=generator).masked_fill(
        ~torch.ones(T, T, dtype=torch.bool).tril(), -math.inf
    )
    image = torch.randn(T, K, generator=generator) - 0.5
    hidden = torch.tensor(
        [[False, False, False], [True, False, False], [False, True, True], [True, True, True]]
    )

    def joint(scores: Tensor, words: Tensor = text) -> Tensor:
        return torch.cat([words, scores], 1).softmax(-1)

    right = joint(image.masked_fill(hidden, -math.inf))
    shown = joint(image)
    after = torch.cat([shown[:, :T], shown[:, T:].masked_fill(hidden, 0)], 1)
    own = torch.cat([torch.zeros_like(text, dtype=torch.bool), hidden], 1)
    slips = {
        "a score of 0 is a score like any other: e⁰ = 1. Hidden pictures keep weight here; −∞ takes it away.": joint(
            image.masked_fill(hidden, 0.0)
        ),
        "weights are set to 0 after the softmax here: a row no longer adds up to 1.": after,
        "hidden is True where a picture must *not* be seen.": joint(image.masked_fill(~hidden, -math.inf)),
        "nothing is hidden here.": shown,
        "words keep what the hidden pictures would have had; each part has a softmax of its own here.": torch.cat(
            [text.softmax(-1), image.masked_fill(hidden, -math.inf).softmax(-1).nan_to_num()], 1
        ),
        "where one picture is hidden, all are here.": joint(
            image.masked_fill(hidden.any(1, keepdim=True), -math.inf)
        ),
    }
    found = function(text.clone(), image.clone(), hidden.clone())
    if isinstance(found, Tensor) and found.isnan().any():
        raise Wrong(
            "the weights: some are not numbers. Where all pictures are hidden words are left: one softmax over both."
        )
    compare("the weights", found, right, slips)
    assert float(right[own].sum()) == 0
    passed("words always keep the softmax finite, so all pictures of a position may be hidden.")


def check_absorbed(
    function: Callable[
        [Text, Float[Tensor, "T K E"], Float[Tensor, "E d"], Float[Tensor, " d"]], Float[Tensor, "T K"]
    ],
) -> None:
    """Exercise 41.3: `function(q, g, W, b)` are the scores q · (g W + b), without projecting a picture."""
    generator = torch.Generator().manual_seed(41)
    T, K, E, d = 6, 40, 24, 8
    q, g = torch.randn(T, d, generator=generator), torch.randn(T, K, E, generator=generator)
    W, b = torch.randn(E, d, generator=generator) / 5, torch.randn(d, generator=generator)
    keys = g @ W + b
    right = torch.einsum("td,tkd->tk", q, keys)
    bare = right - (q @ b)[:, None]
    slips = {
        "the bias is missing: q · b is added to each score.": bare,
        "q · b is one number a position, the same for its K pictures; b alone is added here.": bare + b.sum(),
        "the mean over q of q · b is added here; every position has its own.": bare + (q @ b).mean(),
        "q · b is added K times.": bare + K * (q @ b)[:, None],
        "a score with each position's own pictures; those of the first position are taken here.": torch.einsum(
            "td,kd->tk", q, keys[0]
        ),
    }
    with FlopCounterMode(display=False) as counted:
        found = function(q.clone(), g.clone(), W.clone(), b.clone())
    compare("the scores", found, right, slips)
    multiplied = counted.get_total_flops() // 2
    if multiplied >= T * K * E * d:
        raise Wrong(
            f"the scores are right, but every picture was projected: {multiplied:,} multiplications. "
            f"Carry q to the pictures' side once, and {T * E * d + T * K * E + T * d:,} are enough."
        )
    passed("q is carried over once; then K pictures cost K inner products, and none is projected.")


def check_merge(
    function: Callable[
        [Text, Float[Tensor, " T"], Text, Float[Tensor, " T"]],
        Text,
    ],
) -> None:
    """Exercise 41.4: `function(text, text_lse, image, image_lse)` puts two attentions together as one softmax."""
    generator = torch.Generator().manual_seed(41)
    T, d = 6, 4
    text, image = (torch.randn(T, d, generator=generator) for _ in range(2))
    text_lse = torch.tensor([0.3, -1.0, 2.0, 0.0, 400.0, -500.0])
    image_lse = torch.tensor([1.1, -2.0, -1.0, -math.inf, 401.0, -500.5])

    def mix(weight: Tensor) -> Tensor:
        return weight[:, None] * text + (1 - weight)[:, None] * image

    right = mix((text_lse - image_lse).sigmoid())
    found = function(text.clone(), text_lse.clone(), image.clone(), image_lse.clone())
    if isinstance(found, Tensor) and found.shape == right.shape and found[:3].isfinite().all():
        if not found[3].isfinite().all():
            raise Wrong(
                "the output: not a number where all pictures are hidden (their log-sum-exp is −∞). Nothing of the "
                "pictures may count then."
            )
        if not found.isfinite().all():
            raise Wrong(
                "the output: not a number where log-sum-exps are near 400; e⁴⁰⁰ overflows. Take the difference first."
            )
    halves = (0.5 * (text + image)).expand_as(text)
    slips = {
        "both halves count the same here; their log-sum-exps say how much they weigh.": halves,
        "the weights of the halves have changed places.": mix((image_lse - text_lse).sigmoid()),
        "only the words are weighed; the pictures' weight is what is left of 1.": (
            (text_lse - image_lse).sigmoid()[:, None] * text + image
        ),
        "the two are only added up.": text + image,
        "log-sum-exps are logarithms: their ratio says nothing, the sigmoid of their difference does.": mix(
            (text_lse / (text_lse + image_lse)).nan_to_num()
        ),
        "the maximum of the two is taken; the smaller part has a weight, too.": mix(
            (text_lse > image_lse).float()
        ),
    }
    rows = torch.tensor([0, 1, 2])
    if isinstance(found, Tensor) and found.shape == right.shape:
        compare("the output", found[rows], right[rows], {t: s[rows] for t, s in slips.items()})
    compare("the output", found, right, slips)
    passed("one number a row and part is all that must be known of the other part.")


def check_cached_step(
    function: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor] | None], tuple],
) -> None:
    """Exercise 41.5: `function(q, k, v, image_k, image_v, cache)` is a step's output (d) and the cache after it."""
    q, k, v, image_k, image_v = _example(T=6)
    T, K, d = image_k.shape
    past = torch.ones(T, T, dtype=torch.bool).tril()
    all_k, all_v = torch.cat([k, image_k.flatten(0, 1)]), torch.cat([v, image_v.flatten(0, 1)])

    def full(words: Tensor, pictures: Tensor) -> Tensor:
        return _softmax_over(q, all_k, all_v, torch.cat([words, pictures.repeat_interleave(K, 1)], 1))

    own = torch.eye(T, dtype=torch.bool)
    first = torch.zeros_like(own)
    first[:, 0] = True
    right = full(past, own)
    slips = {
        "the cache keeps old pictures here. They belong to their own position; only words are kept.": full(
            past, past
        ),
        "the step's own word is missing among the keys.": full(past.tril(-1), own),
        "nothing is remembered: a step sees its own word alone.": full(own, own),
        "the pictures of the first position stay for good here; each step brings its own.": full(past, first),
        "pictures are left out.": full(past, own.new_zeros(T, T)),
        "the scale is missing: scores times 1/√d.": _softmax_over(
            q, all_k, all_v, torch.cat([past, own.repeat_interleave(K, 1)], 1), 1.0
        ),
    }
    outputs, cache = [], None
    for t in range(T):
        found = function(*(x[t].clone() for x in (q, k, v, image_k, image_v)), cache)
        if found is None or found is ...:
            compare("a step", found, 0)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise Wrong(f"a step: expected (output, cache), found {type(found).__name__}.")
        outputs.append(torch.as_tensor(found[0]))
        cache = found[1]
    if any(output.shape != (d,) for output in outputs):
        raise Wrong(f"a step's output: expected shape ({d},), found {tuple(outputs[-1].shape)}.")
    compare(f"the outputs of {T} steps", torch.stack(outputs), right, slips)
    length = len(cache[0])
    if length != T:
        raise Wrong(f"the cache after {T} steps: expected {T} keys, one a word, found {length}.")
    passed("a step costs one row, however many pictures the words before it had.")
