"""Checks of notebook 13, vokenise: a running top-k, batches under a token budget, pictures in effective use."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from vlpnb.course.checks import Wrong, compare, passed
from vlpnb.retrieval.exact import top_k


def check_running_top_k(function: Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]]) -> None:
    """Exercise 13.1: `function(queries [M d], keys [V d], k, chunk)` → scores [M k] and ids [M k], best first."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(6, 8, generator=generator), dim=1)
    keys = torch.nn.functional.normalize(torch.randn(23, 8, generator=generator), dim=1)
    for k, chunk in ((1, 23), (3, 5), (5, 4), (2, 1)):
        scores, ids = top_k(queries, keys, k)
        found = function(queries, keys, k, chunk)
        if found is None or found is ...:
            compare("the best keys", found, ids)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise Wrong(f"expected a pair (scores, indices), found {type(found).__name__}.")
        every = queries @ keys.T
        last = every[:, (len(keys) - 1) // chunk * chunk :]
        slips = {
            "these are positions inside their chunk; add the start of the chunk.": ids % chunk,
            "best first: your scores ascend.": ids.flip(1),
            "you kept the smallest scores.": (-every).topk(k, dim=1).indices,
        }
        if last.shape[1] >= k:
            start = len(keys) - last.shape[1]
            slips["only the last chunk is in your answer; keep what was best before."] = (
                last.topk(k, dim=1).indices + start
            )
        slips = {text: slip for text, slip in slips.items() if not torch.equal(slip, ids)}
        compare(f"the indices for k = {k}, chunk = {chunk}", found[1], ids, slips)
        compare(f"the scores for k = {k}, chunk = {chunk}", found[0], scores)
    passed("whatever the chunk, the k best of all keys come out, best first.")


def _padding(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> int:
    return sum(len(batch) * max(lengths[i] for i in batch) for batch in batches) - sum(lengths)


def _greedy(lengths: Sequence[int], budget: int) -> list[list[int]]:
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[i] <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def check_make_batches(function: Callable[[list[int], int], list[list[int]]]) -> None:
    """Exercise 13.2: `function(lengths, budget)` → batches of sentence numbers under a budget of padded tokens."""
    generator = torch.Generator().manual_seed(1)
    many = torch.randint(3, 40, (200,), generator=generator).tolist()
    for lengths, budget in (([9, 2, 3, 8, 2, 9, 3], 18), ([5, 50, 4], 12), (many, 160)):
        found = function(list(lengths), budget)
        if found is None or found is ...:
            compare("the batches", found, 0)
        seen = sorted(i for batch in found for i in batch)
        if any(not len(batch) for batch in found):
            raise Wrong("an empty batch: leave it out.")
        if seen != list(range(len(lengths))):
            missing = sorted(set(range(len(lengths))) - set(seen))
            if missing:
                raise Wrong(
                    f"sentences {missing[:8]} are in no batch (the last batch, perhaps?). "
                    "Batches hold sentence numbers, not lengths."
                )
            raise Wrong("a sentence is in more than one batch, or a number names none.")
        for batch in found:
            longest = max(lengths[i] for i in batch)
            if len(batch) > 1 and len(batch) * longest > budget:
                total = sum(lengths[i] for i in batch)
                hint = " You added up the real lengths; padding counts, too." if total <= budget else ""
                raise Wrong(
                    f"a batch of {len(batch)} sentences, the longest of {longest}, has a padded size of "
                    f"{len(batch) * longest}, above the budget of {budget}.{hint}"
                )
        best = _greedy(lengths, budget)
        if _padding(lengths, found) > _padding(lengths, best):
            raise Wrong(
                f"{_padding(lengths, found)} tokens of padding, {_padding(lengths, best)} are enough: "
                "sort the sentences by length before you cut batches."
            )
        if len(found) > len(best):
            raise Wrong(f"{len(found)} batches where {len(best)} fit the budget; fill them before you go on.")
    passed("each sentence once, no batch above the budget, and hardly any padding.")


def check_effective_number(function: Callable[[Sequence[int]], float]) -> None:
    """Exercise 13.3: `function(counts)` is exp(entropy) of how often each picture is a voken, unused ones included."""
    for what, counts in (
        ("four pictures used equally often", [5, 5, 5, 5]),
        ("one picture that takes all", [7, 0, 0]),
        ("some used, some not", [12, 3, 0, 1, 0, 4]),
    ):
        share = np.array([c for c in counts if c]) / sum(counts)
        entropy = float(-(share * np.log(share)).sum())
        expected = float(np.exp(entropy))
        zero = f"{what}: unused pictures give 0 · log 0; leave them out, they add nothing."
        try:
            with np.errstate(all="ignore"):  # numpy's log 0 is -inf and 0 · -inf nan; math.log refuses
                found = function(list(counts))
        except ValueError as error:
            raise (Wrong(zero) if 0 in counts else error) from None
        if isinstance(found, float | np.floating) and np.isnan(found):
            raise Wrong(zero)
        slips = {
            "this is the entropy in nats; its exponential is a number of pictures.": entropy,
            "this is the entropy in bits; take natural logarithms, then the exponential.": entropy
            / np.log(2),
            "logarithm and power have different bases: e goes with the natural logarithm.": float(
                np.exp(entropy / np.log(2))
            ),
            "this is the number of pictures that are used at all, however rarely.": len(share),
            "this is the size of the universe; unused pictures add nothing.": len(counts),
            "the minus sign of the entropy is missing.": float(np.exp(-entropy)),
            "this is one over the greatest share; the entropy looks at all of them.": float(1 / share.max()),
        }
        slips = {text: slip for text, slip in slips.items() if not np.isclose(slip, expected)}
        compare(what, found, expected, slips)
    passed("equally used pictures count fully; one picture that takes everything counts as one.")
