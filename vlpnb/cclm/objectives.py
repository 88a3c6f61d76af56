"""What CCLM learns from: the same three questions about any two views of the same thing (Zeng et al. 2023, section 3).

| loss | of | question | targets |
|---|---|---|---|
| "itc", "ttc" | vectors | which picture (or translation) of the batch is a sentence's, and the reverse | rows |
| "itm", "ttm" | fused | do they belong together? with one hard negative in either direction | 3 × rows |
| "words", "parallel_words" | fused | which word pieces were masked, given the other view? | masked word pieces |
| "boxes", "giou" | fused | where in the whole picture is what a text is about? (regions alone) | boxes |

Two sentences have the layers and heads of pictures and sentences, each being the other's view: that is what makes one
language stand for another.

Costs less than it looks, with equal results: keys and values of a view are made once for all sentences that meet it,
those of a picture once for all of its regions; the last layer computes only positions that a head reads, and only
masked positions reach the vocabulary.

Differs from the original: samples of the same thing are no negatives of each other where `identity` says so (CCL-05);
the gather has its whole gradient (CCL-01); boxes are guarded one by one (`nn.boxes`). Hard negatives come from a
process's own rows, as in the original.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.cclm.model import Cclm, MemoryKeys
from vlpnb.errors import UserError, did_you_mean
from vlpnb.nn.boxes import box_losses
from vlpnb.nn.contrastive import contrastive, draw_negatives, negative_weights
from vlpnb.nn.decoding import precise
from vlpnb.nn.losses import IGNORE
from vlpnb.vision.patch_regions import region_views

PICTURES, BOXES, PARALLEL = ("itc", "itm", "words"), ("boxes", "giou"), ("ttc", "ttm", "parallel_words")
LOSSES = (*PICTURES, *BOXES, *PARALLEL)
PREFIX = "parallel_"


class CclmPretraining(nn.Module):
    """A CCLM with its losses, as `train.loop.fit` takes it.

    Args:
        model: the model to train.
        losses: names of the table above; the others are left out.
        encoders: factor of the contrastive gradient to the encoders; 1/W is the original's with W processes (CCL-01).
    """

    def __init__(self, model: Cclm, losses: Iterable[str] = LOSSES, *, encoders: float = 1.0):
        super().__init__()
        self.model, self.losses, self.encoders = model, frozenset(losses), encoders
        for name in sorted(self.losses):
            if name not in LOSSES:
                raise UserError(f"CCLM has no loss {name!r}{did_you_mean(name, LOSSES)}")
        if not self.losses:
            raise UserError(f"nothing to learn from; expected some of the losses {', '.join(LOSSES)}")

    def forward(self, **batch: Tensor) -> dict[str, Float[Tensor, ""]]:
        """The sum of each loss over its targets, `counts` of them.

        Args:
            batch: arguments of `image_text`, where there are pictures; and those of `parallel_text` with "parallel_" in
                front, where there are pairs of sentences.
        """
        if self.training:
            self.model.clamp_temperature()
        pictures, parallel = split(batch)
        found: dict[str, Tensor] = {}
        if pictures:
            found |= self.image_text(**pictures)
        if parallel:
            found |= self.parallel_text(**parallel)
        if not found:
            raise UserError(
                f"a batch of {', '.join(batch) or 'nothing'} asks for none of the losses "
                f"{', '.join(sorted(self.losses))}"
            )
        return self.touch(found) if self.training else found

    def image_text(
        self,
        patches: Tensor,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        masked_ids: Int[Tensor, "F T"] | None = None,
        masked_places: Int[Tensor, "F M"] | None = None,
        masked_labels: Int[Tensor, "F M"] | None = None,
        identity: Int[Tensor, " B"] | None = None,
        group: Int[Tensor, " B"] | None = None,
        patch_mask: Bool[Tensor, "B P1"] | None = None,
        boxes: Float[Tensor, "B 4"] | None = None,
        whole: Bool[Tensor, " B"] | None = None,
        negative_view: Int[Tensor, " F"] | None = None,
        negative_text: Int[Tensor, " F"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Sums of the losses of pictures and sentences, or of regions of pictures and their texts.

        Args:
            patches: as in `Cclm.pictures`: one a sentence, or G of them with `group`.
            ids, mask: word pieces, and True at real ones.
            masked_ids, masked_places, masked_labels: the same with some masked; which (0 beyond); what stood there
                (−100 beyond). Without them words are not asked for. Of F rows, fewer than B, they belong to the first
                F, and these alone are matched too: what is fused costs most.
            identity: which picture each row has, the same number on every process; None: all differ.
            group: which of the G pictures each text is about.
            patch_mask: the patches of each text's region, the mean in front always True.
            boxes: middle x, middle y, width, height of each text's region, as shares of the picture.
            whole: True for texts about whole pictures, whose boxes are no targets.
            negative_view, negative_text: hard negatives; None draws them.
        """
        model = self.model
        fused = len(ids) if masked_ids is None else len(masked_ids)
        full = view = model.pictures(patches)
        states = model.text(ids, mask)
        met = full if boxes is not None or group is not None else full[:fused]
        keys = whole_keys = self.keys(met, "itm", "words", *BOXES)
        if group is not None:
            view = region_views(full, group, patch_mask)
            if keys is not None:  # regions of a picture have its patches, and a first vector of their own
                whole_keys = keys.rows(group)
                keys = whole_keys.with_first(model.memory_keys(view[:, :1]))
        views = View(view, model.image_vector(view), patch_mask, keys)
        texts = View(states, model.text_vector(states), mask)
        found = self.find("itc", views, texts, identity)
        same = None if identity is None else identity[:fused]
        views, few = views.first(fused), texts.first(fused)
        found |= self.match("itm", views, few, same, negative_view, negative_text)
        found |= self.guess("words", views, few.mask, masked_ids, masked_places, masked_labels)
        if boxes is not None and self.losses.intersection(BOXES):
            read = model.fuse(states, mask, cached=whole_keys, places=ids.new_zeros(len(ids), 1))
            whole = ids.new_zeros(len(ids)).bool() if whole is None else whole
            sums = box_losses(precise(model.boxes(read)), precise(boxes), whole)
            found |= {name: sums[place] for place, name in enumerate(BOXES) if name in self.losses}
        return found

    def parallel_text(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        other_ids: Int[Tensor, "B S"],
        other_mask: Bool[Tensor, "B S"],
        masked_ids: Int[Tensor, "F T"] | None = None,
        masked_places: Int[Tensor, "F M"] | None = None,
        masked_labels: Int[Tensor, "F M"] | None = None,
        identity: Int[Tensor, " B"] | None = None,
        negative_view: Int[Tensor, " F"] | None = None,
        negative_text: Int[Tensor, " F"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Sums of the losses of pairs of sentences; arguments as in `image_text`.

        The first sentence is the view of "ttm" and the other one its text; words of the first are guessed with the
        other as memory. Which language comes first is for the batch to decide, by a coin.
        """
        model = self.model
        one, other = model.text(ids, mask), model.text(other_ids, other_mask)
        fused = len(ids) if masked_ids is None else len(masked_ids)
        views = View(one, model.text_vector(one), mask, self.keys(one[:fused], "ttm"))
        texts = View(other, model.text_vector(other), other_mask, self.keys(other[:fused], "parallel_words"))
        found = self.find("ttc", views, texts, identity)
        same = None if identity is None else identity[:fused]
        views, texts = views.first(fused), texts.first(fused)
        found |= self.match("ttm", views, texts, same, negative_view, negative_text)
        return found | self.guess(
            "parallel_words", texts, views.mask, masked_ids, masked_places, masked_labels
        )

    def keys(self, view: Float[Tensor, "B S D"], *losses: str) -> MemoryKeys | None:
        """Keys and values of views, where one of these losses is asked for."""
        return self.model.memory_keys(view) if self.losses.intersection(losses) else None

    def find(
        self, name: str, views: "View", texts: "View", identity: Int[Tensor, " B"] | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """Sum of the contrastive loss."""
        if name not in self.losses:
            return {}
        temperature = self.model.temperature
        return {
            name: contrastive(views.vectors, texts.vectors, temperature, identity, encoders=self.encoders)
        }

    def match(
        self,
        name: str,
        views: "View",
        texts: "View",
        identity: Int[Tensor, " B"] | None = None,
        negative_view: Int[Tensor, " B"] | None = None,
        negative_text: Int[Tensor, " B"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Sum of the matching loss; negatives that are not given are drawn."""
        if name not in self.losses:
            return {}
        v, t, temperature = views.vectors, texts.vectors, self.model.temperature
        if negative_view is None:
            negative_view = draw_negatives(negative_weights(t, v, temperature, identity))
        if negative_text is None:
            negative_text = draw_negatives(negative_weights(v, t, temperature, identity))
        scores = precise(self.matches(views, texts, negative_view, negative_text))
        labels = (torch.arange(len(scores), device=scores.device) < len(texts.states)).long()
        return {name: F.cross_entropy(scores, labels, reduction="sum")}

    def matches(
        self, views: "View", texts: "View", negative_view: Int[Tensor, " B"], negative_text: Int[Tensor, " B"]
    ) -> Float[Tensor, "B3 2"]:
        """Scores of the true pairs; of each text with a wrong view; of a wrong text with each view."""
        own = torch.arange(len(texts.states), device=texts.states.device)
        view, text = torch.cat([own, negative_view, own]), torch.cat([own, own, negative_text])
        fused = self.model.fuse(
            texts.states.index_select(0, text),
            texts.mask[text],
            cached=views.keys.rows(view),
            memory_mask=None if views.mask is None else views.mask[view],
            places=text.new_zeros(len(text), 1),
        )
        return self.model.match(fused)

    def guess(
        self,
        name: str,
        memory: "View",
        mask: Bool[Tensor, "B T"],
        ids: Int[Tensor, "B T"] | None,
        places: Int[Tensor, "B M"] | None,
        labels: Int[Tensor, "B M"] | None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Sum of the loss of masked word pieces: a second pass of the text, now with some masked."""
        if name not in self.losses or ids is None:
            return {}
        model = self.model
        fused = model.fuse(
            model.text(ids, mask), mask, cached=memory.keys, memory_mask=memory.mask, places=places
        )
        return {name: model.word_head.loss(fused, model.word_weight, labels, "sum")}

    def touch(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same sums, on which every parameter of the model depends: DDP waits for the gradient of each, and zeros
        keep one process and several alike.
        """
        model = self.model
        used = {"embeddings": True, "text_layers": True}
        used["vision"] = bool(found.keys() & {*PICTURES, *BOXES})
        used["image_projection"] = "itc" in found
        used["text_projection"] = bool(found.keys() & {"itc", "ttc"})
        used["fusion_layers"] = bool(found.keys() - {"itc", "ttc"})
        used["match_head"] = bool(found.keys() & {"itm", "ttm"})
        used["word_head"] = bool(found.keys() & {"words", "parallel_words"})
        used["box_head"] = bool(found.keys() & {*BOXES})
        idle = [part for name, part in model.named_children() if not used[name]]
        nothing = sum(p.sum() for part in idle for p in part.parameters() if p.requires_grad)
        nothing = nothing + (0.0 if used["text_projection"] else model.temperature)
        name = next(iter(found))
        return found | {name: found[name] + 0.0 * nothing}


@dataclass(frozen=True)
class View:
    """A batch of one of the two views: states, unit vectors, what is real of it, and its keys as memory."""

    states: Float[Tensor, "B S D"]
    vectors: Float[Tensor, "B E"]
    mask: Bool[Tensor, "B S"] | None
    keys: MemoryKeys | None = None

    def first(self, rows: int) -> "View":
        """The first of its rows."""
        mask = None if self.mask is None else self.mask[:rows]
        keys = None if self.keys is None else self.keys.rows(slice(rows))
        return View(self.states[:rows], self.vectors[:rows], mask, keys)


def split(batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a batch holds of pictures and sentences, and, without the "parallel_" in front, of pairs of sentences."""
    parallel = {name.removeprefix(PREFIX): value for name, value in batch.items() if name.startswith(PREFIX)}
    return {name: value for name, value in batch.items() if not name.startswith(PREFIX)}, parallel


def counts(batch: Mapping[str, Tensor], losses: Iterable[str] = LOSSES) -> dict[str, int]:
    """The targets of each loss that a batch asks for: what the sums are divided by, added up over an update."""
    found: dict[str, int] = {}
    for part, (find, match, words) in zip(split(batch), (PICTURES, PARALLEL), strict=True):
        if not part:
            continue
        found |= {find: len(part["ids"]), match: 3 * len(part.get("masked_ids", part["ids"]))}
        if "masked_labels" in part:
            found[words] = int((part["masked_labels"] != IGNORE).sum())
        if "boxes" in part:
            whole = part.get("whole")
            found |= dict.fromkeys(BOXES, len(part["ids"]) if whole is None else int((~whole).sum()))
    return {name: found[name] for name in LOSSES if name in found and name in losses}
