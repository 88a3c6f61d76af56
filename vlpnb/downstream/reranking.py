"""Exact re-ranking: the pairs that the two vectors bring together, scored once each by the fusion layers.

Paper: Zeng et al., "Cross-View Language Modeling" (ACL 2023), section 4 (retrieval): the k nearest captions of every
picture and the k nearest pictures of every caption are ranked again by the matching head; what is not among them comes
after them, in the order of the vectors.

Differs from the original, with equal scores (`rerank_plainly` is its way, kept for tests and the benchmark):

* Keys and values of a picture do not depend on the caption: they are made once (CCL-41).
* A pair that is in both lists is scored once (CCL-42).
* Captions are read at their own lengths, those of similar lengths together, not padded to the longest allowed.
* The first layer's self-attention, and what its tokens ask pictures for, do not depend on the picture; they meet it
  without padding. Of the last layer only position 0 is asked.
* k may be greater than what there is; ties rank by position; scores are not summed with fills of −100, which costs
  float32 its precision (CCL-43).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.errors import UserError
from vlpnb.nn.masks import padding_mask
from vlpnb.nn.onednn import quick_products
from vlpnb.nn.transformer import AttentionLayer
from vlpnb.train.distributed import sum_over_processes

BEHIND = -1e4
"""Score of what is not among the k nearest, plus its similarity; no matching head comes near it."""
LONGER = 1.5
"""Times the shortest sentence of a pass that its longest may have: more is wasted on padding, less on small passes."""


@runtime_checkable
class Ranker(Protocol):
    """A model of two encoders whose vectors find, and of layers that fuse a sentence with a picture, such as `Cclm`.

    Its `fusion_layers` each `look` at the sentence, `meet` the picture and `think`; its `config` has `pad_id`, and
    `width`, the numbers of a vector.
    """

    def pictures(self, seen: Tensor) -> Tensor:
        """Views of pictures."""

    def text(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """States of sentences by themselves."""

    def image_vector(self, view: Tensor) -> Tensor:
        """The unit vector of a view."""

    def text_vector(self, states: Tensor) -> Tensor:
        """The unit vector of a sentence."""

    def memory_keys(self, memory: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """Keys and values of views, for every fusion layer."""

    def match(self, fused: Tensor) -> Tensor:
        """Scores of "do not belong together" and "belong together"."""


@dataclass(frozen=True)
class Gallery:
    """Pictures as the model sees them."""

    views: Float[Tensor, "I S D"]
    vectors: Float[Tensor, "I E"]

    def __len__(self) -> int:
        return len(self.views)


def together(galleries: Sequence[Gallery]) -> Gallery:
    """One gallery of the same pictures seen several times: the first's views, and the mean of their vectors."""
    if len(galleries) == 1:
        return galleries[0]
    mean = torch.stack([gallery.vectors for gallery in galleries]).mean(0)
    return Gallery(galleries[0].views, F.normalize(mean, dim=-1))


@dataclass(frozen=True)
class Captions:
    """Sentences after the text layers, one after the other without padding."""

    states: Float[Tensor, "M D"]
    starts: Int[Tensor, " C1"]
    """Where each begins; the last number is M, so C1 = C + 1."""
    vectors: Float[Tensor, "C E"]

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def lengths(self) -> Int[Tensor, " C"]:
        """Tokens of each."""
        return self.starts.diff()

    def padded(
        self, rows: Int[Tensor, " B"], length: int | None = None
    ) -> tuple[Float[Tensor, "B T D"], Bool[Tensor, "B T"]]:
        """States and mask of some sentences, T their longest or `length`."""
        lengths = self.lengths[rows]
        at = torch.arange(length or int(lengths.max()), device=rows.device)
        mask = at < lengths[:, None]
        places = (self.starts[rows][:, None] + at).clamp(max=len(self.states) - 1)
        return self.states[places] * mask[..., None], mask


@dataclass(frozen=True)
class Reranked:
    """Scores of both directions."""

    pictures_to_captions: Float[Tensor, "I C"]
    """The matching logit where a caption is among the k nearest of the picture; else BEHIND + similarity."""
    captions_to_pictures: Float[Tensor, "C I"]
    """Likewise among the k nearest pictures of the caption."""
    scored: int
    """Pairs that went through the fusion layers."""


@torch.inference_mode()
def see(
    model: Ranker, patches: Callable[[slice], Float[Tensor, "B S F"]], count: int, batch: int = 256
) -> Gallery:
    """`count` pictures, read and encoded `batch` at a time; `patches` gives some of them, on the model's device."""
    views = [model.pictures(patches(slice(i, min(i + batch, count)))) for i in range(0, count, batch)]
    if not views:
        raise UserError("there is no picture to rank; expected at least one")
    return Gallery(torch.cat(views), torch.cat([model.image_vector(view) for view in views]))


@torch.inference_mode()
def read(
    model: Ranker, texts: Sequence[Int[Tensor, " _"]], device: str | torch.device, batch: int = 256
) -> Captions:
    """Sentences, given as their ids with special tokens, encoded `batch` of similar length at a time."""
    if not len(texts):
        raise UserError("there is no sentence to rank; expected at least one")
    lengths = torch.tensor([len(text) for text in texts])
    starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    order = lengths.argsort(stable=True)
    states, vectors = None, None
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        mask = torch.arange(int(lengths[rows].max())) < lengths[rows, None]
        ids = torch.full(mask.shape, model.config.pad_id)
        ids[mask] = torch.cat([texts[row] for row in rows.tolist()]).long()
        found = model.text(ids.to(device), mask.to(device))  # (B, T, D)
        if states is None:
            states = found.new_empty(int(starts[-1]), found.shape[-1])
            vectors = found.new_empty(len(texts), model.config.width)
        places = starts[rows, None] + torch.arange(mask.shape[1])
        states[places[mask].to(device)] = found[mask.to(device)]
        vectors[rows.to(device)] = model.text_vector(found)
    return Captions(states, starts.to(device), vectors)


def nearest(similarity: Float[Tensor, "N M"], k: int) -> Bool[Tensor, "N M"]:
    """Which k of a row are greatest, all of them where there are fewer; of equal ones the first."""
    order = similarity.argsort(dim=1, descending=True, stable=True)[:, :k]
    return torch.zeros_like(similarity, dtype=torch.bool).scatter_(1, order, True)


def match_logits(
    model: Ranker,
    x: Float[Tensor, "B T D"],
    mask: Bool[Tensor, "B T"] | None,
    keys: Sequence[tuple[Tensor, Tensor]],
) -> Float[Tensor, "B 2"]:
    """Logits of "no match" and "match", from what the first fusion layer made of the sentences.

    Args:
        mask: real tokens; None where all are.
        keys: of each fusion layer the keys and values of the pictures, of one or of B.
    """
    hidden = None if mask is None else padding_mask(mask)
    later = [*zip(model.fusion_layers, keys, strict=True)][1:]
    with quick_products(x):
        for number, (layer, kept) in enumerate(later, 1):
            if number == len(later):
                x = first_look(layer.look, x, mask)
            else:
                x, _ = layer.look(x, hidden)
            x, _ = layer.meet(x, cached=kept)
            x = layer.think(x)
        return model.match(x)


def first_look(
    layer: AttentionLayer, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None
) -> Float[Tensor, "B 1 D"]:
    """What the first position sees of its sentence: `layer(x, padding_mask(mask))[:, :1]`.

    One query needs no key and no value of every position: the key's matrix is applied to the query and the value's to
    the mixture, which is a tenth of the work.
    """
    attention = layer.attention
    shape = attention.heads, -1, x.shape[2]  # (H, d, D)
    query = attention.query(x[:, 0]).unflatten(1, shape[:2])  # (B, H, d)
    asked = torch.einsum("bhd,hdm->bhm", query, attention.key.weight.view(shape))
    scores = asked @ x.transpose(1, 2) / query.shape[2] ** 0.5  # (B, H, T); a key's bias is the same for all
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
    mixed = torch.einsum("bhm,hdm->bhd", scores.softmax(dim=2) @ x, attention.value.weight.view(shape))
    seen = attention.out(mixed.flatten(1) + attention.value.bias)
    return layer.norm(x[:, :1] + seen[:, None])


@torch.inference_mode()
def score_pairs(
    model: Ranker,
    gallery: Gallery,
    captions: Captions,
    pictures: Int[Tensor, " P"],
    sentences: Int[Tensor, " P"],
    batch: int = 256,
) -> Float[Tensor, "P 2"]:
    """Logits "no match" and "match" of pairs of a picture and a sentence; re-ranking reads the second alone.

    A pass has at most `batch` sentences of one picture, so that they share its keys and values and nothing is copied.
    """
    asking = _asking(model, captions, sentences.unique(), batch)
    found = torch.empty(len(pictures), 2, dtype=torch.float32, device=gallery.views.device)
    lengths = captions.lengths[sentences]
    order = (pictures * (int(lengths.max()) + 1) + lengths).argsort(stable=True)  # by picture, then by length
    of_picture, counts = pictures[order].unique_consecutive(return_counts=True)
    for picture, mine in zip(of_picture.tolist(), order.split(counts.tolist()), strict=True):
        keys = tuple(model.memory_keys(gallery.views[picture : picture + 1]))
        for rows in mine.split(batch):
            met = asking.meet(model, sentences[rows], keys[0])
            # one position of each sentence is left to compute in the last layer, so that padding costs little there
            cuts = [len(rows)] if len(keys) < 3 else _cuts(lengths[rows].tolist(), batch)
            for part in torch.arange(len(rows), device=rows.device).split(cuts):
                states, mask = met.padded(part)
                whole = None if bool(mask.all()) else mask
                found[rows[part]] = match_logits(model, states, whole, keys).float()
    return found


@dataclass(frozen=True)
class _Asking:
    """Sentences in the first fusion layer, after their look at themselves: no picture has changed them yet."""

    captions: Captions
    queries: Float[Tensor, "M D"]
    """What their tokens ask a picture for."""

    def meet(self, model: Ranker, rows: Int[Tensor, " B"], keys: tuple[Tensor, Tensor]) -> Captions:
        """Some of them after they have met one picture, token after token: each asks for itself, so none is padded.

        Where there is no other layer, of each sentence the first token alone, which is all that is read of it.
        """
        layer, lengths = model.fusion_layers[0], self.captions.lengths[rows]
        if len(model.fusion_layers) == 1:
            lengths = torch.ones_like(lengths)
        ends = lengths.cumsum(0)
        moved = (self.captions.starts[rows] - ends + lengths).repeat_interleave(lengths)
        places = moved + torch.arange(len(moved), device=moved.device)  # of these tokens among those of all
        x = self.captions.states[places][None]  # (1, the tokens, D)
        with quick_products(x):
            x, _ = layer.meet(x, cached=keys, queries=self.queries[places][None])
            x = layer.think(x)
        return Captions(x[0], F.pad(ends, (1, 0)), self.captions.vectors[rows])


def _asking(model: Ranker, captions: Captions, needed: Int[Tensor, " N"], batch: int) -> _Asking:
    """The needed sentences in the first fusion layer."""
    layer = model.fusion_layers[0]
    states, queries = torch.empty_like(captions.states), torch.empty_like(captions.states)
    for rows in needed[captions.lengths[needed].argsort(stable=True)].split(batch):
        given, mask = captions.padded(rows)
        with quick_products(given):
            made, _ = layer.look(given, padding_mask(mask))
            asked = layer.meet.attention.query(made)
        places = captions.starts[rows][:, None] + torch.arange(mask.shape[1], device=mask.device)
        states[places[mask]], queries[places[mask]] = made[mask], asked[mask]
    return _Asking(replace(captions, states=states), queries)


def _cuts(lengths: Sequence[int], batch: int) -> list[int]:
    """How many sentences of rising lengths each pass takes: at most `batch`, none much longer than the first."""
    cuts, first = [], 0
    for at, length in enumerate(lengths):
        if at and (at - first == batch or length > LONGER * lengths[first]):
            cuts.append(at - first)
            first = at
    return [*cuts, len(lengths) - first]


@torch.inference_mode()
def rerank(
    model: Ranker,
    gallery: Gallery,
    captions: Captions,
    k: int,
    batch: int = 256,
    rank: int = 0,
    world_size: int = 1,
    others: Float[Tensor, "I C"] | None = None,
) -> Reranked:
    """Rank the k nearest of both directions by the matching head; `others`: a similarity in place of the vectors'.

    With several processes each scores its share of the pairs, and all get all scores.
    """
    similarity = gallery.vectors @ captions.vectors.T if others is None else others
    if k < 1:
        raise UserError(f"k = {k}: expected at least 1, the number of candidates that are ranked again")
    forth, back = nearest(similarity, k), nearest(similarity.T, k).T
    pairs = (forth | back).nonzero()
    scores = torch.zeros(len(pairs), device=similarity.device)
    mine = torch.arange(rank, len(pairs), world_size, device=similarity.device)
    scores[mine] = score_pairs(model, gallery, captions, pairs[mine, 0], pairs[mine, 1], batch)[:, 1]
    scores = sum_over_processes(scores, world_size)
    return _spread(similarity, forth, back, pairs, scores)


def _spread(similarity: Tensor, forth: Tensor, back: Tensor, pairs: Tensor, scores: Tensor) -> Reranked:
    """The two matrices; in float64, so that similarities behind BEHIND keep their order."""
    behind = similarity.double() + BEHIND
    full = torch.zeros_like(behind)
    full[pairs[:, 0], pairs[:, 1]] = scores.double()
    return Reranked(
        torch.where(forth, full, behind), torch.where(back, full, behind).T.contiguous(), len(pairs)
    )


@torch.inference_mode()
def rerank_plainly(model: Ranker, gallery: Gallery, captions: Captions, k: int, max_tokens: int) -> Reranked:
    """The same scores in the original's way: padded captions, keys anew for each pair, both directions apart.

    Attention is computed in the open, as there.
    """
    similarity = gallery.vectors @ captions.vectors.T
    forth, back = nearest(similarity, k), nearest(similarity.T, k)
    behind = similarity.double() + BEHIND
    to_captions, to_pictures, scored = behind.clone(), behind.T.clone(), 0
    for picture, wanted in enumerate(forth):
        rows = wanted.nonzero()[:, 0]
        views = gallery.views[picture].expand(len(rows), -1, -1)
        to_captions[picture, rows] = _plainly(model, *captions.padded(rows, max_tokens), views)
        scored += len(rows)
    for sentence, wanted in enumerate(back):
        rows = wanted.nonzero()[:, 0]
        texts = captions.padded(torch.full_like(rows, sentence), max_tokens)
        to_pictures[sentence, rows] = _plainly(model, *texts, gallery.views[rows])
        scored += len(rows)
    return Reranked(to_captions, to_pictures, scored)


def _plainly(
    model: Ranker, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"], views: Float[Tensor, "B S D"]
) -> Float[Tensor, " B"]:
    for layer in model.fusion_layers:
        x, _ = layer.look(x, padding_mask(mask), weights=True)
        x, _ = layer.meet(x, memory=views, weights=True)
        x = layer.think(x)
    return model.match(x)[:, 1].double()
