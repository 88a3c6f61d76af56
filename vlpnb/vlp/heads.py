"""What VLP is asked for: words (pre-training, captioning) and answers (VQA), and the losses (Zhou et al. 2020).

| loss | from | summed here over |
|---|---|---|
| words | text rows that carry a target, bi and seq2seq alike | the targets |
| regions | pooled [CLS] and the masked regions; off in the paper | the pictures |
| answers | [CLS] ⊙ the [SEP] behind the regions, both of the last block | the questions |

The training loop divides each sum by the count of the whole update. There is no matching loss. How words are asked for
in training is in `objectives.py`, how they are written in `generating.py`.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.labelled import assumed_of, full_precision, has_data, places_of
from vlpnb.nn.losses import IGNORE, AnswerObjective, answer_loss, linear_cross_entropy
from vlpnb.nn.transformer import EncoderOutput, init_weights
from vlpnb.vlp.model import Vlp, VlpConfig

WRITES = (4, 5)  # segments of prefix and text, of seq2seq
SLOT = {"bi": 0, "s2s": 3}  # of a word head with four
Regions = Literal["off", "hidden", "visible"]


class WordHead(nn.Module):
    """Dense, GELU, norm, and the word table as decoder; with four slots a transform for each kind of example.

    "Relaxed projection" of the original, which no published recipe uses. It trains with one norm over the four slots
    and decodes with a norm for each (VLP-08); here it is a norm for each, unless the configuration's `joint_norm`.
    """

    def __init__(self, config: VlpConfig):
        super().__init__()
        self.slots, self.joint = config.slots, config.joint_norm
        self.dense = nn.Linear(config.hidden, config.slots * config.hidden)
        self.norm = nn.LayerNorm(config.slots * config.hidden, config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        init_weights(self, config.init_std)

    def forward(
        self, hidden: Float[Tensor, "*N D"], slot: int | Int[Tensor, "*N"] = 0
    ) -> Float[Tensor, "*N D"]:
        """The transformed states, before the decoder; `slot` is not read where there is one alone."""
        x = F.gelu(self.dense(hidden))
        if self.slots == 1:
            return self.norm(x)
        split = (self.slots, -1)
        if self.joint:
            return _pick(self.norm(x).unflatten(-1, split), slot)
        x = _pick(x.unflatten(-1, split), slot)
        weight, bias = (p.unflatten(0, split)[slot] for p in (self.norm.weight, self.norm.bias))
        return F.layer_norm(x, x.shape[-1:], eps=self.norm.eps) * weight + bias

    def scores(
        self, hidden: Float[Tensor, "*N D"], table: Float[Tensor, "V D"], slot: int | Int[Tensor, "*N"] = 0
    ) -> Float[Tensor, "*N V"]:
        """A score for every word of the vocabulary."""
        return F.linear(self(hidden, slot), table, self.bias)


def _pick(x: Float[Tensor, "*N S D"], slot: int | Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
    """One slot of each row."""
    if isinstance(slot, int):
        return x[..., slot, :]
    return x.take_along_dim(slot[..., None, None].long(), dim=-2)[..., 0, :]


def slots_of(s2s: Bool[Tensor, " B"]) -> Int[Tensor, " B"]:
    """The slot of each example's mode."""
    return torch.where(s2s, SLOT["s2s"], SLOT["bi"])


def smoothed_loss(
    scores: Float[Tensor, "N V"], targets: Int[Tensor, " N"], smoothing: float, pad_id: int
) -> Float[Tensor, " N"]:
    """Divergence from a target with 1 − ε at the word, 0 at the padding's id, ε / (V − 2) at every other word."""
    chances = scores.float().log_softmax(dim=-1)
    each = smoothing / (scores.shape[1] - 2)
    gold = chances.gather(1, targets[:, None])[:, 0]
    others = chances.sum(dim=1) - gold - chances[:, pad_id]
    entropy = (1 - smoothing) * math.log(1 - smoothing) + smoothing * math.log(each)
    return entropy - (1 - smoothing) * gold - each * others


def keep_best(
    losses: Float[Tensor, "B K"], counted: Bool[Tensor, "B K"], ratio: float | Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The sum over all but the worst examples, scaled as if all had been kept.

    ⌊B (1 − ratio)⌋ examples with the smallest summed loss count, at least one. Scaled by (targets of all) / (targets of
    those kept), so that the loop, which divides by all, gets the mean over the kept.
    """
    rows = losses.sum(dim=1)
    kept = len(rows) * (1 - ratio)
    kept = kept if isinstance(kept, Tensor) else torch.full((), kept, device=rows.device)
    good = rows.detach().argsort().argsort() < kept.floor().clamp(min=1)  # (B,)
    targets = counted.sum(dim=1)
    return (rows * good).sum() * targets.sum() / (targets * good).sum().clamp(min=1)


def region_loss(
    seen: tuple[Float[Tensor, "B R D"], Float[Tensor, "B R D"]],
    pooled: Float[Tensor, "B D"],
    masked: Bool[Tensor, "B R"],
) -> Float[Tensor, ""]:
    """Which of the masked features belongs to a masked geometry: mean over a picture's, summed over pictures.

    Of masked regions a and b the score is (ψ_a + pooled) · φ_b, with φ and ψ as they were before masking; the loss is
    the cross-entropy of b = a among the masked regions of the picture. A picture without any counts 0.
    """
    phi, psi = (part.float() for part in seen)
    with full_precision(phi.device):  # a loss is in float32
        scores = (psi + pooled.float()[:, None]) @ phi.transpose(1, 2)  # (B, R, R)
    scores = scores.masked_fill(~masked[:, None], torch.finfo(scores.dtype).min)
    right = scores.diagonal(dim1=1, dim2=2) - scores.logsumexp(dim=2)  # (B, R)
    return -((right * masked).sum(dim=1) / masked.sum(dim=1).clamp(min=1)).sum()


def labelled(labels: Int[Tensor, "B T"]) -> tuple[Int[Tensor, "B K"], Int[Tensor, "B K"]]:
    """Columns of each row's labels and the labels, K the most of any row; fewer are filled up with IGNORE."""
    found = labels != IGNORE
    most = int(found.sum(dim=1).max()) if has_data(found) else assumed_of(found.shape[1], "words")
    columns = found.int().argsort(dim=1, descending=True, stable=True)[:, : max(1, most)]
    return columns, labels.gather(1, columns)


class VlpForGeneration(nn.Module):
    """The backbone and the word head: pre-training (`objectives.Guessing`) and captioning (`generating.VlpDecoder`).

    Args:
        config: of the model.
        label_smoothing: ε of `smoothed_loss`.
        regions: the pretext of masked regions: "off"; "hidden", where nobody sees a masked region; "visible", where all
            see its segment, as in the original, whose mask has no effect (VLP-07).
    """

    def __init__(self, config: VlpConfig, label_smoothing: float = 0.0, regions: Regions = "off"):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing = {label_smoothing}; expected 0 or more, and below 1")
        self.config, self.label_smoothing, self.regions = config, label_smoothing, regions
        self.backbone = Vlp(config)
        self.words = WordHead(config)
        self.backbone.pooler.requires_grad_(regions != "off")

    def word_scores(
        self, hidden: Float[Tensor, "*N D"], slot: int | Int[Tensor, "*N"] = SLOT["s2s"]
    ) -> Float[Tensor, "*N V"]:
        """A score for every word of the vocabulary, from states of the last block."""
        return self.words.scores(hidden, self.backbone.word_weight, slot)

    def word_loss(
        self,
        hidden: Float[Tensor, "B K D"],
        targets: Int[Tensor, "B K"],
        slot: Int[Tensor, " B"],
        drop_worst: float | Float[Tensor, ""] | None,
    ) -> Float[Tensor, ""]:
        """The loss of words, summed over the targets."""
        counted = targets != IGNORE
        at = places_of(counted, "filled")
        slots, wanted = (x.flatten().index_select(0, at) for x in (slot[:, None].expand_as(targets), targets))
        x = self.words(hidden.flatten(0, 1).index_select(0, at), slots)
        table, bias = self.backbone.word_weight, self.words.bias
        if not self.label_smoothing and drop_worst is None:
            return linear_cross_entropy(x, table, bias, wanted, reduction="sum", ignore_index=None)
        scores = F.linear(x, table, bias).float()
        if self.label_smoothing:
            each = smoothed_loss(scores, wanted, self.label_smoothing, self.config.pad_id)
        else:
            each = F.cross_entropy(scores, wanted, reduction="none")
        if drop_worst is None:
            return each.sum()
        losses = each.new_zeros(targets.numel()).index_copy(0, at, each)
        return keep_best(losses.view(targets.shape), counted, drop_worst)


class AnswerHead(nn.Module):
    """Dense, ReLU, dense, twice as wide inside as the stream; without dropout."""

    def __init__(self, hidden: int, answers: int):
        super().__init__()
        self.inner = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(2 * hidden, answers)

    def forward(self, joint: Float[Tensor, "B D"]) -> Float[Tensor, "B A"]:
        """A score for each answer."""
        return self.out(F.relu(self.inner(joint)))


class VlpForAnswers(nn.Module):
    """The backbone in bidirectional mode and a head of answers: VQA. Row 0 is no answer (VLP-18)."""

    def __init__(self, config: VlpConfig, answers: int, objective: AnswerObjective = "soft"):
        super().__init__()
        self.config, self.objective = config, objective
        self.backbone = Vlp(config)
        self.answers = AnswerHead(config.hidden, answers)

    def joint(
        self,
        features: Float[Tensor, "B R F"],
        geometry: Float[Tensor, "B R G"],
        ids: Int[Tensor, "B T"],
        lengths: Int[Tensor, " B"],
        visual_mask: Bool[Tensor, "B R"] | None = None,
    ) -> Float[Tensor, "B D"]:
        """[CLS] ⊙ the [SEP] behind the regions, of the last block; arguments as in `Vlp.forward`."""
        seen = self.backbone.look(features, geometry)
        rows = (torch.arange(2, device=ids.device) * (features.shape[1] + 1)).expand(len(ids), 2)
        reads = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        out: EncoderOutput = self.backbone.read(seen, ids, lengths, reads, visual_mask, rows=rows)
        return out.last.prod(dim=1)

    def scores(
        self,
        features: Float[Tensor, "B R F"],
        geometry: Float[Tensor, "B R G"],
        ids: Int[Tensor, "B T"],
        lengths: Int[Tensor, " B"],
        visual_mask: Bool[Tensor, "B R"] | None = None,
    ) -> Float[Tensor, "B A"]:
        """A score for every row of the answer table; arguments as in `Vlp.forward`."""
        return self.answers(self.joint(features, geometry, ids, lengths, visual_mask))

    def forward(
        self,
        features: Float[Tensor, "B R F"],
        geometry: Float[Tensor, "B R G"],
        ids: Int[Tensor, "B T"],
        lengths: Int[Tensor, " B"],
        visual_mask: Bool[Tensor, "B R"] | None = None,
        *,
        targets: Float[Tensor, "B A"],
    ) -> dict[str, Float[Tensor, ""]]:
        """The loss "answers", summed over the questions; `targets` are soft scores between 0 and 1."""
        scores = self.scores(features, geometry, ids, lengths, visual_mask)
        return {"answers": answer_loss(scores, targets, self.objective)}


def best_answers(scores: Float[Tensor, "B A"]) -> Int[Tensor, " B"]:
    """The best row of each question; never row 0, "no answer of the table" (VLP-18)."""
    return scores[:, 1:].argmax(dim=1) + 1
