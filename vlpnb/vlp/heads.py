"""What VLP is asked for: words (pre-training, captioning) and answers (VQA), and the losses (Zhou et al. 2020).

| loss | from | summed here over |
|---|---|---|
| words | text rows that carry a target, bi and seq2seq alike | the targets |
| regions | pooled [CLS] and the masked regions; off in the paper | the pictures |
| answers | [CLS] ⊙ the [SEP] behind the regions, both of the last block | the questions |

The training loop divides each sum by the count of the whole update. There is no matching loss. How words are asked for
in training is in `objectives.py`, how they are written in `generating.py`.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.errors import UserError
from vlpnb.nn.labelled import places_of
from vlpnb.nn.losses import (
    IGNORE,
    AnswerObjective,
    Smoothing,
    answer_loss,
    keep_best,
    linear_cross_entropy,
    smoothed_loss,
)
from vlpnb.nn.transformer import EncoderOutput, init_weights
from vlpnb.vlp.model import Vlp, VlpConfig
from vlpnb.vlp.original.unpublished import RelaxedWordHead

WRITES = (4, 5)  # segments of prefix and text, of seq2seq
SLOT = {"bi": 0, "s2s": 3}  # of a word head with four
Regions = Literal["off", "hidden", "visible"]


class WordHead(nn.Module):
    """Dense, GELU and norm; the word table is the decoder."""

    def __init__(self, config: VlpConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        init_weights(self, config.init_std)

    def forward(
        self, hidden: Float[Tensor, "*N D"], slot: int | Int[Tensor, "*N"] = 0
    ) -> Float[Tensor, "*N D"]:
        """The transformed states, before the decoder; `slot` is that of `RelaxedWordHead`, and not read."""
        return self.norm(F.gelu(self.dense(hidden)))


def slots_of(s2s: Bool[Tensor, " B"]) -> Int[Tensor, " B"]:
    """The slot of each example's mode."""
    return torch.where(s2s, SLOT["s2s"], SLOT["bi"])


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
        self.words = WordHead(config) if config.slots == 1 else RelaxedWordHead(config)
        self.backbone.pooler.requires_grad_(regions != "off")

    def word_scores(
        self, hidden: Float[Tensor, "*N D"], slot: int | Int[Tensor, "*N"] = SLOT["s2s"]
    ) -> Float[Tensor, "*N V"]:
        """A score for every word of the vocabulary, from states of the last block."""
        return F.linear(self.words(hidden, slot), self.backbone.word_weight, self.words.bias)

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
        smoothing = Smoothing(self.label_smoothing, self.config.pad_id) if self.label_smoothing else None
        if drop_worst is None:
            options = {"reduction": "sum", "ignore_index": None, "smoothing": smoothing}
            return linear_cross_entropy(x, table, bias, wanted, **options)
        scores = F.linear(x, table, bias)
        if smoothing is None:
            each = F.cross_entropy(scores.float(), wanted, reduction="none")
        else:
            each = smoothed_loss(scores, wanted, smoothing)
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
