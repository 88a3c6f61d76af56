"""What LXMERT predicts: the five pre-training tasks (section 3.1), answers (VQA, GQA), pairs of pictures (NLVR2).

| task | from | loss, summed here over |
|---|---|---|
| words | text, masked positions | cross-entropy of the word; the positions |
| match | pooled | cross-entropy of "the sentence is about the picture"; the pairs |
| objects, attributes | visual, *all* regions (LXM-03) | confidence × cross-entropy of the label; the regions |
| features | visual, masked regions | mean over F of smooth-L1, where the paper says L2 (LXM-05); the regions |
| answers | pooled | cross-entropy of the answer; the labelled pairs |

The training loop divides each sum by the count of the whole update: masked words, pairs, regions (thrice), labelled
pairs. That is the original's mean, without its NaN where nothing is labelled (LXM-07). The factor 1/0.15 of the
regions' losses is a weight of the plan (LXM-04).

Heads compute only the positions that carry a loss: equal results, and (B, T, V) scores never exist.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.lxmert.model import EPSILON, Lxmert, LxmertConfig, LxmertOutput, Stream
from vlpnb.nn.heads import MLMHead, Transform
from vlpnb.nn.labelled import places_of
from vlpnb.nn.losses import IGNORE, AnswerObjective, answer_loss
from vlpnb.nn.transformer import init_weights

LOSSES = ("words", "match", "objects", "attributes", "features", "answers")
FeatureLoss = Literal["smooth_l1", "l2"]


class PooledHead(nn.Module):
    """Dense, GELU, layer norm, dense: scores of answers from a pooled vector (I = D), of pairs from two (I = 2D)."""

    def __init__(self, inputs: int, inner: int, labels: int):
        super().__init__()
        self.inner = nn.Linear(inputs, inner)
        self.norm = nn.LayerNorm(inner, EPSILON)
        self.out = nn.Linear(inner, labels)

    def forward(self, pooled: Float[Tensor, "B I"]) -> Float[Tensor, "B C"]:
        """A score for each label."""
        return self.out(self.norm(F.gelu(self.inner(pooled))))


def answer_head(config: LxmertConfig, answers: int) -> PooledHead:
    """The head for so many answers, of pre-training and of VQA and GQA; twice as wide inside as the streams."""
    return PooledHead(config.hidden, 2 * config.hidden, answers)


class RegionHead(nn.Module):
    """What a region shows: its object, its attribute, its feature; one trunk for the three."""

    def __init__(self, config: LxmertConfig):
        super().__init__()
        self.transform = Transform(config.transformer)
        self.objects = nn.Linear(config.hidden, config.objects)
        self.attributes = nn.Linear(config.hidden, config.attributes)
        self.features = nn.Linear(config.hidden, config.feature_width)

    def forward(
        self, visual: Float[Tensor, "*N D"]
    ) -> tuple[Float[Tensor, "*N objects"], Float[Tensor, "*N attributes"], Float[Tensor, "*N F"]]:
        """Scores of the object and attribute classes, and the feature."""
        x = self.transform(visual)
        return self.objects(x), self.attributes(x), self.features(x)


def label_loss(
    head: nn.Linear,
    hidden: Float[Tensor, "B R D"],
    labels: Int[Tensor, "B R"],
    confidence: Float[Tensor, "B R"] | None,
    name: str = "objects",
) -> Float[Tensor, ""]:
    """Σ confidence · cross-entropy over the regions; labels below 0 are none. `name`: of `labelled.assumed`."""
    carries = labels >= 0
    if confidence is not None:
        carries = carries & (confidence > 0)
    at = places_of(carries, name)
    scores = head(hidden.flatten(0, 1).index_select(0, at)).float()
    losses = F.cross_entropy(scores, labels.flatten().index_select(0, at), reduction="none")
    return losses.sum() if confidence is None else (losses * confidence.flatten().index_select(0, at)).sum()


def feature_loss(
    head: nn.Linear,
    hidden: Float[Tensor, "B R D"],
    targets: Float[Tensor, "B R F"],
    masked: Bool[Tensor, "B R"],
    kind: FeatureLoss = "smooth_l1",
) -> Float[Tensor, ""]:
    """Σ over the masked regions of the mean over F of smooth-L1 (its corner at 1), or of the squared error (L2)."""
    at = places_of(masked, "features")
    predicted, wanted = (x.flatten(0, 1).index_select(0, at) for x in (hidden, targets))
    each = {"smooth_l1": F.smooth_l1_loss, "l2": F.mse_loss}[kind]
    return each(head(predicted).float(), wanted, reduction="none").mean(-1).sum()


class LxmertForPretraining(nn.Module):
    """The backbone and the heads of the five tasks (objects, attributes and features are one of them)."""

    def __init__(self, config: LxmertConfig, feature_loss: FeatureLoss = "smooth_l1"):
        super().__init__()
        self.config, self.feature_loss, layer = config, feature_loss, config.transformer
        self.backbone = Lxmert(config)
        self.words = MLMHead(layer)
        self.match = nn.Linear(config.hidden, 2)
        self.regions = RegionHead(config)
        self.answers = answer_head(config, config.answers)
        for head in (self.words, self.match, self.regions, self.answers):
            init_weights(head, config.init_std)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None,
        features: Float[Tensor, "B R F"],
        boxes: Float[Tensor, "B R 4"],
        visual_mask: Bool[Tensor, "B R"] | None = None,
        **labels: Tensor | None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The `losses` beside these inputs, which are those of `Lxmert.forward`, words and features masked already."""
        return self.losses(self.backbone(ids, mask, features, boxes, visual_mask), **labels)

    def losses(
        self,
        out: LxmertOutput,
        word_labels: Int[Tensor, "B T"] | None = None,
        matched: Int[Tensor, " B"] | Bool[Tensor, " B"] | None = None,
        object_ids: Int[Tensor, "B R"] | None = None,
        object_conf: Float[Tensor, "B R"] | None = None,
        attribute_ids: Int[Tensor, "B R"] | None = None,
        attribute_conf: Float[Tensor, "B R"] | None = None,
        targets: Float[Tensor, "B R F"] | None = None,
        object_masked: Bool[Tensor, "B R"] | None = None,
        answer: Int[Tensor, " B"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The *sum* of each loss whose labels are given, by the names of `LOSSES`.

        Args:
            out: of the backbone.
            word_labels: ids of the masked words; −100 elsewhere.
            matched: 1 where the sentence belongs to the picture.
            object_ids, attribute_ids: the detector's classes; below 0 where there is none.
            object_conf, attribute_conf: their confidences; 1 everywhere when None.
            targets: the features before masking; with `object_masked`, which regions were masked.
            answer: rows of the answer table; −100 where there is no question or no answer in the table.
        """
        losses = {}
        if word_labels is not None:
            losses["words"] = self.words.loss(out.text, self.backbone.word_weight, word_labels, "sum")
        if matched is not None:
            losses["match"] = F.cross_entropy(self.match(out.pooled).float(), matched.long(), reduction="sum")
        if object_ids is not None or attribute_ids is not None or targets is not None:
            x = self.regions.transform(out.visual)
            if object_ids is not None:
                losses["objects"] = label_loss(self.regions.objects, x, object_ids, object_conf)
            if attribute_ids is not None:
                losses["attributes"] = label_loss(
                    self.regions.attributes, x, attribute_ids, attribute_conf, "attributes"
                )
            if targets is not None:
                losses["features"] = feature_loss(
                    self.regions.features, x, targets, object_masked, self.feature_loss
                )
        if answer is not None:
            scores = self.answers(out.pooled).float()
            losses["answers"] = F.cross_entropy(scores, answer, ignore_index=IGNORE, reduction="sum")
        return losses

    def word_scores(self, text: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """A score for every word of the vocabulary, from hidden states of the text."""
        return self.words.logits(text, self.backbone.word_weight)

    def freeze_what_lacks_a_loss(self, losses: tuple[str, ...]) -> None:
        """Freeze what none of these losses trains; processes that train together wait for the others' gradients."""
        regions = {"objects", "attributes", "features"} & set(losses)
        trained = {
            self.words: "words" in losses,
            self.match: "match" in losses,
            self.answers: "answers" in losses,
            self.backbone.pooler: {"match", "answers"} & set(losses),
            self.regions.transform: regions,
            self.backbone.cross_layers[-1].visual: regions,
            self.backbone.cross_layers[-1].text: set(losses) - regions,
        } | {getattr(self.regions, name): name in losses for name in ("objects", "attributes", "features")}
        for part, wanted in trained.items():
            part.requires_grad_(bool(wanted))


class AnsweringModel(nn.Module):
    """The backbone and a head of answers: VQA and GQA (appendix of the paper). Only the pooled vector is computed."""

    def __init__(self, config: LxmertConfig, answers: int, objective: AnswerObjective = "soft"):
        super().__init__()
        self.config, self.objective = config, objective
        self.backbone = Lxmert(config)
        self.answers = answer_head(config, answers)
        init_weights(self.answers, config.init_std)
        freeze_unread(self.backbone)

    def scores(
        self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None, seen: Stream
    ) -> Float[Tensor, "B Q"]:
        """A score for every answer, for questions on pictures that `backbone.see` saw, a row for each question."""
        ids, mask = trim(ids, mask)
        return self.answers(self.backbone.read(ids, mask, seen, pooled_only=True).pooled)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None,
        features: Float[Tensor, "B R F"],
        boxes: Float[Tensor, "B R 4"],
        visual_mask: Bool[Tensor, "B R"] | None = None,
        *,
        targets: Float[Tensor, "B Q"],
    ) -> dict[str, Float[Tensor, ""]]:
        """The loss "answers", summed over the questions; `targets` are soft scores between 0 and 1."""
        scores = self.scores(ids, mask, self.backbone.see(features, boxes, visual_mask))
        return {"answers": answer_loss(scores, targets, self.objective)}


class PairModel(nn.Module):
    """The backbone over each of two pictures beside one sentence, and a head on both pooled vectors: NLVR2.

    The pictures do not see each other inside the backbone. The language stream runs once for both, so in training
    they share its dropout (LXM-D02).
    """

    def __init__(self, config: LxmertConfig):
        super().__init__()
        self.config = config
        self.backbone = Lxmert(config)
        self.pair = PooledHead(2 * config.hidden, 2 * config.hidden, 2)
        init_weights(self.pair, config.init_std)
        freeze_unread(self.backbone)

    def pooled(
        self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None, seen: Stream
    ) -> Float[Tensor, "2*B D"]:
        """A vector for each sentence and picture, in the order of `seen`: sentence 0 left, right, sentence 1 left, …"""
        ids, mask = trim(ids, mask)
        twice = torch.arange(len(ids), device=ids.device).repeat_interleave(2)
        heard = self.backbone.listen(ids, mask).rows(twice)
        return self.backbone.meet(heard, seen, pooled_only=True).pooled

    def scores(
        self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None, seen: Stream
    ) -> Float[Tensor, "B 2"]:
        """Scores of false and true; `seen` has two rows for a sentence, left and right."""
        return self.pair(self.pooled(ids, mask, seen).reshape(len(ids), -1))  # (B, 2D)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None,
        features: Float[Tensor, "B 2 R F"],
        boxes: Float[Tensor, "B 2 R 4"],
        visual_mask: Bool[Tensor, "B 2 R"] | None = None,
        *,
        label: Int[Tensor, " B"],
    ) -> dict[str, Float[Tensor, ""]]:
        """The loss "pairs", summed over the sentences; `label` is 1 where the sentence is true of the pictures."""
        both = [None if x is None else x.flatten(0, 1) for x in (features, boxes, visual_mask)]  # (2B, R, …)
        scores = self.scores(ids, mask, self.backbone.see(*both))
        return {"pairs": F.cross_entropy(scores.float(), label, reduction="sum")}


def freeze_unread(backbone: Lxmert) -> None:
    """Freeze the 16 tensors of the last cross layer that the pooled vector does not depend on (LXM-16)."""
    backbone.cross_layers[-1].visual.requires_grad_(False)


def trim(
    ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None
) -> tuple[Int[Tensor, "B t"], Bool[Tensor, "B t"] | None]:
    """The batch cut to its longest sentence, and no mask where that leaves no padding. Padding stands at the end.

    On a CPU alone, which pays for padding most; of another device somebody would have to ask how long that is.
    """
    if mask is None or mask.device.type != "cpu":
        return ids, mask
    longest = int(mask.sum(dim=1).max())
    ids, mask = ids[:, :longest], mask[:, :longest]
    return ids, None if bool(mask.all()) else mask
