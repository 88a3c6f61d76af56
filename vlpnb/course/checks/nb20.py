"""Checks of notebook 20, regions and pre-training: the cross layer, the object loss, wrong pairs, hidden regions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from vlpnb.course.checks import Wrong, compare, passed
from vlpnb.lxmert.model import CrossLayer, LxmertConfig, look_across
from vlpnb.nn.losses import IGNORE
from vlpnb.nn.masks import padding_mask
from vlpnb.nn.transformer import init_weights

CrossAnswer = Callable[[CrossLayer, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _several(what: str, found: Any, names: tuple[str, ...]) -> tuple:
    """An answer that must be several values; Wrong otherwise."""
    if found is None or found is ... or found is NotImplemented:
        compare(what, found, 0)
    if not isinstance(found, tuple | list) or len(found) != len(names):
        raise Wrong(
            f"{what}: expected {len(names)} values ({', '.join(names)}), found {type(found).__name__}."
        )
    return tuple(found)


def _cross_slips(
    layer: CrossLayer, text: Tensor, visual: Tensor, words: Tensor, regions: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What typical mistakes give for the text and for the vision stream."""
    near, seen = layer.cross(text, regions, visual)[0], layer.cross(visual, words, text)[0]
    late = "the {0} must read the {1} as it came into the layer; here it reads what the other direction made of it."
    own = "the {0} looks with another attention here; both directions share `layer.cross`."
    blind = "the {0} does not look at itself after looking across: run all of its block, `layer.{1}`."
    both = "the {0} runs through the other stream's block; each stream has its own."
    kept = "the {0} looks at itself under the mask of the other stream; `layer.{1}` takes its own."
    masks = (
        "the {0} sees the other stream's padding: looking across, the mask is that of what is looked *at*."
    )
    itself = "the {0} only runs its own block; first it looks at the other stream."
    at_text, at_vision = ("text", "text"), ("vision stream", "visual")
    text_slips = {
        late.format("text", "vision stream"): layer.text(layer.cross(text, regions, seen)[0], words)[0],
        own.format("text"): layer.text(layer.text.look(text, regions, visual)[0], words)[0],
        blind.format(*at_text): layer.text.think(near),
        both.format("text"): layer.visual(near, words)[0],
        kept.format(*at_text): layer.text(near, regions)[0],
        masks.format("text"): layer.text(layer.cross(text, words, visual)[0], words)[0],
        itself.format("text"): layer.text(text, words)[0],
    }
    visual_slips = {
        late.format("vision stream", "text"): layer.visual(layer.cross(visual, words, near)[0], regions)[0],
        late.format("vision stream", "text") + " (Even after its block.)": layer.visual(
            layer.cross(visual, words, layer.text(near, words)[0])[0], regions
        )[0],
        own.format("vision stream"): layer.visual(layer.visual.look(visual, words, text)[0], regions)[0],
        blind.format(*at_vision): layer.visual.think(seen),
        both.format("vision stream"): layer.text(seen, regions)[0],
        kept.format(*at_vision): layer.visual(seen, words)[0],
        masks.format("vision stream"): layer.visual(layer.cross(visual, regions, text)[0], regions)[0],
        itself.format("vision stream"): layer.visual(visual, regions)[0],
    }
    return text_slips, visual_slips


@torch.no_grad()
def check_cross_layer(function: CrossAnswer) -> None:
    """Exercise 20.1: `function(layer, text [B T D], visual [B R D], their masks [B 1 1 ·])` is both streams after."""
    config = LxmertConfig(hidden=16, heads=2, ffn=24, dropout=0.0, attention_dropout=0.0).transformer
    generator = torch.Generator().manual_seed(20)
    with torch.random.fork_rng():
        torch.manual_seed(20)
        layer = CrossLayer(config).eval()
        init_weights(layer, std=0.4)
    text, visual = (torch.randn(2, 4, 16, generator=generator) for _ in range(2))  # as many words as regions
    words = torch.tensor([[True] * 4, [True] * 3 + [False]])
    regions = torch.tensor([[True, True, False, False], [True] * 4])
    masks = padding_mask(words), padding_mask(regions)
    right = layer(text, visual, *masks, look_across(text, visual, words, regions))[:2]
    found = _several("the layer", function(layer, text, visual, *masks), ("text", "visual"))
    slips = _cross_slips(layer, text, visual, *masks)
    for what, got, expected, known in zip(
        ("the text stream", "the vision stream"), found, right, slips, strict=True
    ):
        compare(what, got, expected, known, tol=1e-4)
    passed(
        "both directions read the layer's inputs, with one attention; then each stream runs its own block."
    )


def check_object_loss(function: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 20.2: `function(scores [B R C], ids [B R], sure [B R], hidden [B R])` is the released code's loss."""
    generator = torch.Generator().manual_seed(2)
    scores, sure = torch.randn(3, 5, 7, generator=generator) * 2, torch.rand(3, 5, generator=generator)
    ids = torch.randint(7, (3, 5), generator=generator)
    ids[0, 4] = ids[2, 1] = IGNORE
    hidden = torch.rand(3, 5, generator=generator) < 0.4
    each = cross_entropy(scores.transpose(1, 2), ids, ignore_index=IGNORE, reduction="none")  # (B, R)
    right, weighed = (sure * each).mean() / 0.15, sure * each
    labelled = ids != IGNORE
    slips = {
        "only hidden regions count here, as the paper says; the released code counts all of them.": (
            (weighed * hidden).mean() / 0.15
        ),
        "only hidden regions count here, and you divided by their number.": weighed[hidden].mean() / 0.15,
        "only hidden regions count here, and the factor 1/0.15 is missing.": (weighed * hidden).mean(),
        "the factor 1/0.15 is missing.": weighed.mean(),
        "you divided by the sum of the confidences; the mean is over all B·R regions.": (
            weighed.sum() / sure.sum() / 0.15
        ),
        "you divided by the sum of the confidences, and the factor 1/0.15 is missing.": weighed.sum()
        / sure.sum(),
        "the confidence of the detector is missing: an unsure label weighs less.": each.mean() / 0.15,
        "you left regions without a label out of the mean; they count 0, but they count.": (
            weighed.sum() / labelled.sum() / 0.15
        ),
        "this is the sum; take the mean over all B·R regions.": weighed.sum() / 0.15,
        "you multiplied by 0.15; the factor is 1/0.15.": weighed.mean() * 0.15,
        "you divided by B alone; the mean is over all B·R regions.": weighed.sum() / 3 / 0.15,
    }
    compare("the loss of 3 pictures with 5 regions", function(scores, ids, sure, hidden), right, slips)
    compare("the loss where nothing is hidden", function(scores, ids, sure, torch.zeros_like(hidden)), right)
    none = torch.full_like(ids, IGNORE)
    compare("the loss where no region has a label", function(scores, none, sure, hidden), 0.0)
    passed("every region counts, as much as the detector is sure; 1/0.15 is a constant.")


Mismatch = Callable[
    [Int[np.ndarray, " B"], Int[np.ndarray, " E"], Int[np.ndarray, " E"], Bool[np.ndarray, " B"], np.random.Generator],
    tuple,
]  # fmt: skip


def check_mismatch(function: Mismatch) -> None:
    """Exercise 20.3: `function(rows, pictures, answers, swap, random)` is (sentences, matched, answers) of a batch."""
    pictures = np.repeat(np.arange(5), [3, 3, 3, 3, 12])  # one picture has half of the sentences
    answers = np.where(np.arange(24) % 3 == 0, IGNORE, np.arange(24) + 100)
    random = np.random.default_rng(7)
    rows, swap = random.integers(24, size=2000), random.random(2000) < 0.5
    names = ("sentences", "matched", "answers")
    given = pictures.copy(), answers.copy()
    found = _several("the batch", function(rows.copy(), *given, swap.copy(), random), names)
    sentences, matched, told = (np.asarray(one) for one in found)
    for name, one in zip(names, (sentences, matched, told), strict=True):
        if one.shape != rows.shape:
            raise Wrong(f"{name}: expected shape {rows.shape}, found {one.shape}.")
    slip = "these are pictures, not examples; the sentence is named by its example."
    kept = sentences[~swap], rows[~swap]
    compare("sentences of pairs that are not swapped", *kept, {slip: pictures[rows[~swap]]})
    if (sentences[swap] == rows[swap]).all():
        raise Wrong("sentences of swapped pairs: they are still the pair's own; draw others.")
    same = pictures[sentences[swap].astype(int)] == pictures[rows[swap]]
    if same.any():
        raise Wrong(
            f"sentences of swapped pairs: {same.mean():.0%} are about the pair's own picture, so they match after all. "
            "Draw those again until the picture is another."
        )
    turned = {"1 means that the pair belongs together.": swap.astype(int)}
    compare("matched", matched.astype(int), (~swap).astype(int), turned)
    own = "a swapped pair keeps its answer, but its question is gone: ignore it (−100)."
    other = "a swapped pair gets the answer to the other question, which is about another picture: ignore it (−100)."
    slips = {own: answers[rows], other: answers[sentences.astype(int)]}
    compare("answers", told, np.where(swap, IGNORE, answers[rows]), slips)

    many = np.zeros(6000, int)
    drawn = _several("the batch", function(many, *given, np.ones(6000, bool), random), names)[0]
    share = np.bincount(np.asarray(drawn, int), minlength=24) / 6000
    if (share[3:] == 0).any():
        raise Wrong(
            "sentences of swapped pairs: for one picture, not every sentence about another occurs; draw from all."
        )
    if abs(share[12:].sum() - 12 / 21) > 0.04:
        raise Wrong(
            f"sentences of swapped pairs: the picture with 12 of the 21 others is drawn {share[12:].sum():.0%} of the "
            f"time, expected {12 / 21:.0%}. Draw a sentence, not first a picture."
        )
    passed("a wrong pair has a sentence about another picture, and no answer; it keeps its masked words.")


def _hidden_slips(
    features: Tensor, real: Tensor, dice: Tensor, others: Tensor
) -> dict[str, dict[str, Tensor]]:
    """What typical mistakes give, for each of the three values."""
    hidden, zeroed = (dice < 0.15) & real, (dice < 0.12) & real
    replaced = (dice >= 0.12) & (dice < 0.135) & real

    def changed(zero: Tensor, put: Tensor) -> Tensor:
        return torch.where(put[..., None], others, features.masked_fill(zero[..., None], 0.0))

    whole = changed((dice < 0.8) & real, (dice >= 0.8) & (dice < 0.9) & real)
    padding = changed(dice < 0.12, (dice >= 0.12) & (dice < 0.135))
    return {
        "features": {
            "every hidden region is zero here; of ten hidden ones eight are, one is another's, one stays.": (
                features.masked_fill(hidden[..., None], 0.0)
            ),
            "0.8 and 0.9 are shares of the 15 % that are hidden: compare the dice with 0.8 · 0.15, 0.9 · 0.15.": whole,
            "padding is changed, too; where `real` is False there is no region.": padding,
            "a tenth gets another region's feature, and a tenth stays; here both get another's.": changed(
                zeroed, hidden & ~zeroed
            ),
            "nothing is hidden yet.": features,
        },
        "hidden": {
            "regions whose feature stays are hidden, too: the model does not know which they are.": zeroed
            | replaced,
            "padding is no region, so it is never hidden.": dice < 0.15,
            "these are the regions that are *not* hidden.": ~hidden,
            "15 % are hidden, whatever the dice say of how.": (dice < 0.9) & real,
        },
        "targets": {
            "the target is the feature as it was, or there is nothing to learn; do not change the features in place.": (
                changed(zeroed, replaced)
            ),
            "targets of all regions are returned; `hidden` says later which of them count.": (
                features * hidden[..., None]
            ),
        },
    }


Hide = Callable[
    [Float[Tensor, "B R F"], Bool[Tensor, "B R"], Float[Tensor, "B R"], Float[Tensor, "B R F"]], tuple
]


def check_hide_regions(function: Hide) -> None:
    """Exercise 20.4: `function(features, real, dice, others)` is (features to read, hidden, targets)."""
    generator = torch.Generator().manual_seed(4)
    features, others = (torch.rand(6, 40, 3, generator=generator) + 0.1 for _ in range(2))
    dice = torch.rand(6, 40, generator=generator) ** 2  # many small ones
    real = torch.arange(40) < torch.tensor([40, 33, 40, 20, 38, 40])[:, None]
    names = ("features", "hidden", "targets")
    given = features.clone()
    found = _several("the regions", function(given, real, dice, others), names)
    hidden, zeroed = (dice < 0.15) & real, (dice < 0.12) & real
    read = features.masked_fill(zeroed[..., None], 0.0)
    read = torch.where((hidden & ~zeroed & (dice < 0.135))[..., None], others, read)
    slips = _hidden_slips(features, real, dice, others)
    for name, got, expected in zip(names, found, (read, hidden, features), strict=True):
        got = got.bool() if isinstance(got, Tensor) and name == "hidden" else got
        compare(name, got, expected, slips[name])
    if not torch.equal(given, features):
        raise Wrong("features: your function changes its argument; the store's rows must stay as they are.")
    passed(
        "eight of ten hidden features are zero, one is another region's, one stays; the target is what was there."
    )
