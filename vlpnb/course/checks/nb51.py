"""Checks of notebook 51, retrieval across languages: recall with several captions, cached fusion, averages."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vlpnb.course.checks import Wrong, compare, passed


def check_recall(function: Callable[[Float[Tensor, "I C"], Sequence[Sequence[int]], int], float]) -> None:
    """Exercise 51.1: `function(scores, captions_of, k)` is TR@k: any caption of the picture among the k best."""
    generator = torch.Generator().manual_seed(55)
    by_hand = torch.tensor([[0.9, 0.1, 0.5, 0.4], [0.2, 0.3, 0.8, 0.7], [0.6, 0.5, 0.1, 0.2]])
    cases = (
        (
            "twelve pictures",
            torch.rand(12, 24, generator=generator),
            [[2 * i, 2 * i + 1] for i in range(11, -1, -1)],
            5,
        ),
        ("three pictures, four captions", by_hand, [[0, 1], [2], [3]], 1),
        ("three pictures, k = 2", by_hand, [[1, 2], [3], [0]], 2),
        ("as many captions as pictures", torch.rand(5, 5, generator=generator), [[i] for i in range(5)], 2),
    )
    for what, scores, captions_of, k in cases:
        ranks = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)  # best: 0

        def share(within: Tensor, combine: Callable[[Tensor], Tensor], owners=captions_of) -> float:
            return sum(
                float(combine(within[i, own].float())) for i, own in enumerate(map(list, owners))
            ) / len(owners)

        hits, late = ranks < k, ranks <= k
        right = share(hits, torch.max)
        owner = {c: i for i, own in enumerate(captions_of) for c in own}
        of_columns = scores.T.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        slips = {
            "only the first caption of each picture is looked for; any of them is a hit.": share(
                hits, lambda x: x[0]
            ),
            "this is the mean over captions; a picture counts once, as soon as *any* of its captions is there.": share(
                hits, torch.mean
            ),
            "*all* captions of a picture must be there for a hit here; any is enough.": share(
                hits, torch.min
            ),
            f"rank {k + 1} is counted as a hit; ranks begin with 0 or with 1, not with both.": share(
                late, torch.max
            ),
            "this is the other direction: a picture for each caption. A row is a picture, and it ranks captions.": sum(
                int(of_columns[c, i] < k) for c, i in owner.items()
            )
            / len(owner),
            "the lowest scores are taken for the best.": share(
                scores.argsort(dim=1, stable=True).argsort(dim=1) < k, torch.max
            ),
            "these are counts; divide by the number of pictures.": right * len(captions_of),
        }
        slips = {text: value for text, value in slips.items() if abs(value - right) > 1e-6}
        compare(f"TR@{k}, {what}", function(scores.clone(), [list(o) for o in captions_of], k), right, slips)
    passed("say beside every recall how many captions a picture has; without that it compares with nothing.")


Layers = Sequence[Mapping[str, Float[Tensor, "D D"]]]


def _attend(
    x: Tensor, query: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, scale: bool = True
) -> Tensor:
    scores = (x @ query) @ keys.T / (math.sqrt(x.shape[-1]) if scale else 1.0)
    if visible is not None:
        scores = scores.masked_fill(~visible, -math.inf)
    return scores.softmax(-1) @ values


def check_cached_fusion(
    function: Callable[
        [Layers, Float[Tensor, "N T D"], Float[Tensor, "S D"], Bool[Tensor, " S"]], Float[Tensor, "N T D"]
    ],
) -> None:
    """Exercise 51.2: `function(layers, captions, picture, visible)` reads a picture, projected once, for N captions."""
    generator = torch.Generator().manual_seed(52)
    N, T, S, D = 3, 4, 9, 6

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator) / 2

    layers = [{name: draw(D, D) for name in ("query", "key", "value")} for _ in range(2)]
    captions, picture = draw(N, T, D), draw(S, D)
    visible = torch.tensor([True] * 6 + [False] * 3)

    def run(slip: str = "") -> Tensor:
        x = captions
        for number, layer in enumerate(layers):
            kept = layers[0] if slip == "one cache" else layer
            keys, values = picture @ kept["key"], picture @ kept["value"]
            if slip == "no value":
                values = keys
            asking = captions if slip == "queries" and number else x
            seen = None if slip == "mask" else visible
            mixed = _attend(asking, layer["query"], keys, values, seen, scale=slip != "scale")
            x = mixed if slip == "residual" else x + mixed
        return x

    right = run()
    slips = {
        "the first layer's queries are used again in the second. Queries depend on what a layer has read; only keys "
        "and values can be kept.": run("queries"),
        "places that are not visible are looked at; the mask belongs to the cache.": run("mask"),
        "one layer's keys and values are used in all layers; each layer has its own.": run("one cache"),
        "keys are mixed in place of values.": run("no value"),
        "each layer *adds* what it reads to what it had.": run("residual"),
        "the scale is missing: scores times 1/√D.": run("scale"),
    }
    counter = FlopCounterMode(display=False)
    with counter:
        found = function(
            [{name: w.clone() for name, w in layer.items()} for layer in layers],
            captions.clone(),
            picture.clone(),
            visible.clone(),
        )
    compare("the states of the captions", found, right, slips)
    once = 2 * len(layers) * (2 * S * D * D + N * T * D * D + 2 * N * T * S * D)  # a product and a sum
    if counter.get_total_flops() > once + 1:
        more = (counter.get_total_flops() - once) / (2 * len(layers) * 2 * S * D * D)
        raise Wrong(
            f"the states are right, but the picture is projected {1 + more:.0f} times: its keys and values do not "
            "depend on the caption. Project it once a layer."
        )
    passed("the picture's part is done once, however many captions are read with it.")


Scores = Mapping[str, Mapping[str, float]]


def check_average(function: Callable[[Scores, str], float]) -> None:
    """Exercise 51.3: `function(scores, direction)` averages a direction's R@1 over languages other than English."""
    scores = {
        "en": {"ir": 0.61, "tr": 0.64, "queries": 2000},
        "de": {"ir": 0.42, "tr": 0.48, "queries": 1999},
        "id": {"ir": 0.33, "tr": 0.29, "queries": 1000},
        "zh": {"ir": 0.24, "tr": 0.31, "queries": 250},
    }
    for direction, other in (("ir", "tr"), ("tr", "ir")):
        found = {lang: row[direction] for lang, row in scores.items()}
        others = [lang for lang in scores if lang != "en"]
        queries = {lang: scores[lang]["queries"] for lang in scores}
        right = sum(found[lang] for lang in others) / len(others)
        slips = {
            "English is included; it was trained on, the others were not.": sum(found.values()) / len(found),
            "every query counts the same here (micro average). Every *language* counts the same.": sum(
                found[lang] * queries[lang] for lang in others
            )
            / sum(queries[lang] for lang in others),
            "every query counts the same here, and English is included.": sum(
                found[lang] * queries[lang] for lang in scores
            )
            / sum(queries.values()),
            f"this is the other direction, {other}.": sum(scores[lang][other] for lang in others)
            / len(others),
            "both directions are averaged; one is asked for.": sum(
                scores[lang][way] for lang in others for way in ("ir", "tr")
            )
            / (2 * len(others)),
            "divide by the number of languages that were added up: English is none of them.": (
                right * len(others) / len(scores)
            ),
            "this is the sum; divide by the number of languages.": right * len(others),
            "this is English alone.": found["en"],
        }
        compare(
            f"the average, {direction}",
            function({k: dict(v) for k, v in scores.items()}, direction),
            right,
            slips,
        )
    passed("four numbers became one, and the one that was taught is not among them.")


def check_reranking(
    function: Callable[
        [Float[Tensor, "I C"], Callable[[int, int], float], int],
        tuple[Float[Tensor, "I C"], Float[Tensor, "I C"]],
    ],
) -> None:
    """Exercise 51.4: `function(similar, match, k)` is (scores that rank captions, scores that rank pictures)."""
    generator = torch.Generator().manual_seed(53)
    for pictures, captions, k in ((4, 7, 2), (3, 3, 5)):
        similar = torch.rand(pictures, captions, generator=generator)
        logits = torch.randn(pictures, captions, generator=generator)
        asked: list[tuple[int, int]] = []

        def match(i: int, c: int, asked=asked, logits=logits) -> float:
            asked.append((i, c))
            return float(logits[i, c])

        def best(table: Tensor, k=k) -> Tensor:
            top = table.topk(min(k, table.shape[1]), dim=1).indices
            return torch.zeros_like(table, dtype=torch.bool).scatter(1, top, True)

        captions_for, pictures_for = best(similar), best(similar.T).T

        def scores(kept: Tensor, fill: float | Tensor = -100.0, logits=logits) -> Tensor:
            return torch.where(kept, logits, torch.as_tensor(fill))

        right = torch.stack([scores(captions_for), scores(pictures_for)])
        both = captions_for | pictures_for
        slips = {
            "one list of candidates is used for both directions: each caption has its own k pictures.": torch.stack(
                [scores(captions_for)] * 2
            ),
            "the union of both lists is scored in both directions; a picture ranks *its* k captions.": torch.stack(
                [scores(both)] * 2
            ),
            "the two directions have changed places.": right.flip(0),
            "what is not among the k best keeps its similarity here; it may overtake what was read closely. Fill with "
            "−100.": torch.stack([scores(captions_for, similar), scores(pictures_for, similar)]),
            "all pairs are scored; only the k best of each direction are worth a fusion pass.": torch.stack(
                [logits, logits]
            ),
            "what is not among the k best is 0 here, and a logit may be lower; fill with −100.": torch.stack(
                [scores(captions_for, 0.0), scores(pictures_for, 0.0)]
            ),
        }
        slips = {text: value for text, value in slips.items() if not torch.equal(value, right)}
        what = f"{pictures} pictures, {captions} captions, k = {k}"
        found = function(similar.clone(), match, k)
        if found is None or found is ...:
            compare("the scores", found, 0)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise Wrong(f"the scores: expected two tables, found {type(found).__name__}.")
        tables = [torch.as_tensor(table).float() for table in found]
        if tables[0].shape != tables[1].shape:
            raise Wrong("the scores: both tables are (I, C); turn the second one back.")
        compare(f"the scores, {what}", torch.stack(tables), right, slips)
        if len(asked) > int(both.sum()):
            raise Wrong(
                f"the scores are right, but {len(asked)} pairs were scored of {int(both.sum())}: a pair that is in "
                "both lists is scored once."
            )
    passed("the cheap scores choose, the dear ones decide, and no pair is read twice.")
