"""VLP writes: a [MASK] behind what is written asks for the next word (Zhou et al. 2020).

A step feeds two tokens, the word that was chosen last and a [MASK] at the place of the next one:

    prefix | y₁ … y_{s−2}    y_{s−1}   [MASK]
    ───── kept ──────────    ───── new ──────
                             sees all  sees all before it and itself; is forgotten after the step
                             up to itself, not the [MASK]

The prefix never sees the text, so that a picture is read once for all of its beams, samples and steps; keys and values
of the words are kept as well (`vlpnb.nn.cache`).

Differs from the original, which keeps the layers' inputs, projects them again at each step and copies the prefix for
every beam: same numbers (VLP-09). Given texts need no steps: `log_probs_of` scores all of their words in one pass.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vlpnb.nn.beam import BeamTrace, Text, beam
from vlpnb.nn.cache import Cache
from vlpnb.nn.decoding import Step
from vlpnb.nn.labelled import places_of
from vlpnb.nn.masks import causal_mask
from vlpnb.text.caption_table import text_of
from vlpnb.vlp.heads import SLOT, WRITES, VlpForGeneration
from vlpnb.vlp.masks import EDGES, prefix_keys


@dataclass(frozen=True)
class Caption:
    """What a picture's search found."""

    text: str
    ids: tuple[int, ...]
    """Its word pieces, with the closing [SEP] where it has ended."""
    score: float
    """Sum of log-probabilities, and the bonus for each word."""
    others: tuple[Text, ...] = ()
    """The next best texts, when more than one was asked for."""
    trace: BeamTrace | None = None
    """The whole search, when asked for."""
    looks: Float[Tensor, "S K R"] | None = None
    """Where each word of the trace looked: share of the last block's attention of its [MASK] that went to each region,
    mean over heads, of the pass that chose it; [s, k] belongs to word k of step s."""


class VlpDecoder:
    """Writes with a model, which should be in evaluation mode.

    Args:
        model: the captioner.
        tokenizer: turns ids into text; None where nobody asks for text.
        steps: T, the most word pieces, the closing [SEP] included; the model's `text_length` when None, as in the
            original (which leaves a text of full length without its end).
    Raises:
        UserError: more steps than the position table allows.
    """

    def __init__(self, model: VlpForGeneration, tokenizer: Any = None, steps: int | None = None):
        self.model, self.tokenizer, self.config = model, tokenizer, model.config
        self.steps = model.config.text_length if steps is None else steps
        model.backbone.refuse_too_long(0, self.steps)

    def see(
        self,
        features: Float[Tensor, "B R F"],
        geometry: Float[Tensor, "B R G"],
        visual_mask: Bool[Tensor, "B R"] | None = None,
    ) -> Cache:
        """Read pictures, once: keys and values of their prefixes. Arguments as in `Vlp.forward`."""
        backbone, pictures = self.model.backbone, len(features)
        backbone.refuse_too_long(features.shape[1], self.steps)
        keys = None
        if visual_mask is not None:
            keys = prefix_keys(visual_mask, pictures, features.shape[1] + EDGES, features.device)
        cache = Cache(self.config.layers)
        x = backbone.prefix(features, geometry, WRITES[0])
        none = torch.zeros(pictures, 0, dtype=torch.long, device=features.device)
        # Of the last block nobody reads more of the prefix than keys and values.
        backbone.encode(x, None if keys is None else keys[:, None, None], none, cache=cache)
        cache.share(keys)
        return cache

    def step(
        self,
        prefix: Cache,
        *,
        mask: Bool[Tensor, "B T T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
        looks: list[Tensor] | None = None,
    ) -> Step:
        """The step function of a new text for each picture (`vlpnb.nn.decoding`), with gradients where they are on.

        Args:
            prefix: what `see` returned; it can be used again.
            mask: which places of a text each place sees; None: those before it, and itself. (The original's SCST takes
                that of the reference, VLP-01.)
            segments: of the text's places; None: seq2seq's.
            looks: gets a tensor (N, R) at each step, the attention of the step's [MASK] to the regions.
        """
        model, cache, device = self.model, prefix.fork(), self.model.backbone.word_weight.device
        order = causal_mask(self.steps, device)[:, 0] if mask is None else mask  # (1 or B, T, T)

        def step(words: Tensor | None, parents: Tensor | None) -> Tensor:
            rows = prefix.pictures if words is None else len(words)
            ids = torch.full((rows, 1), self.config.mask_id, device=device)
            if words is not None:
                cache.reorder(parents)
                ids = torch.cat([words[:, None], ids], dim=1)
            new = slice(cache.length, cache.length + ids.shape[1])
            own = _for_rows(order[:, new, : new.stop], rows, prefix.pictures)[:, None]
            segment = WRITES[1] if segments is None else _for_rows(segments[:, new], rows, prefix.pictures)
            places = self.config.prefix + torch.arange(new.start, new.stop, device=device)[None]
            x = model.backbone.words(ids, segment, places)
            last = None if looks is not None else torch.full((rows, 1), ids.shape[1] - 1, device=device)
            out = model.backbone.encode(x, cache.mask(own, rows), last, maps=looks is not None, cache=cache)
            cache.drop(1)
            if looks is not None:
                looks.append(out.attentions[-1][:, :, -1, 1 : prefix.width - 1].mean(dim=1))
            return model.word_scores(out.last[:, -1], SLOT["s2s"])

        return step

    @torch.no_grad()
    def captions(
        self, prefix: Cache, *, width: int = 5, maps: bool = False, trace: bool = False, **options: Any
    ) -> list[Caption]:
        """The best caption of each picture, by beam search (of one beam: greedily).

        Args:
            prefix: what `see` returned.
            width: beams.
            maps: also where each word looked; with a `trace`, which this then makes.
            trace: also everything that the search saw.
            options: of `vlpnb.nn.beam.beam`: `length_bonus`, `min_length`, `no_repeat`, `ignore`, `best`, ….
        """
        looks: list[Tensor] | None = [] if maps else None
        step = self.step(prefix, looks=looks)
        pad = self.config.pad_id
        found = beam(step, width, self.steps, self.config.sep_id, trace=trace or maps, pad_id=pad, **options)
        where: list[Tensor | None] = [None] * prefix.pictures
        if looks is not None:
            # A word looked where the [MASK] behind the beam did that it continues (at the first step one for all).
            each = [look.unflatten(0, (prefix.pictures, -1)) for look in looks]  # (B, 1 or K, R)
            rows = found.parents.unbind(dim=1)
            chosen = [
                look.take_along_dim(row[..., None], dim=1) for look, row in zip(each, rows, strict=True)
            ]
            where = list(torch.stack(chosen, dim=1))  # (S, K, R) of each picture
        return [
            Caption(
                text_of(self.tokenizer, texts[0].ids, self.config.sep_id, pad),
                texts[0].ids,
                texts[0].score,
                texts[1:],
                found.traces[picture] if found.traces else None,
                where[picture],
            )
            for picture, texts in enumerate(found.texts)
        ]


def _for_rows(each: Tensor, rows: int, pictures: int) -> Tensor:
    """What belongs to a picture, for each of its rows; what belongs to all stays one."""
    return each if len(each) == 1 else each.repeat_interleave(rows // pictures, dim=0)


def log_probs_of(
    model: VlpForGeneration,
    prefix: Cache,
    ids: Int[Tensor, "N T"],
    *,
    mask: Bool[Tensor, "B T T"] | None = None,
    segments: Int[Tensor, "B T"] | None = None,
    counted: Bool[Tensor, "N T"] | None = None,
) -> Float[Tensor, "N T"]:
    """Log-probability of every word of given texts, as if each had been written word by word; in one pass.

    Behind the words stands a [MASK] for each place: it sees the prefix, the words before its place and itself, and
    nobody sees it. Gradients flow, through the prefix too where `see` ran with them.

    Args:
        prefix: what `VlpDecoder.see` returned for B pictures; N is a multiple of B, texts of a picture side by side.
        ids: words; what stands behind a text's end is scored as well.
        mask, segments: as in `VlpDecoder.step`.
        counted: places that are scored; 0 elsewhere. None: all.
    """
    (rows, length), config, cache = ids.shape, model.config, prefix.fork()
    model.backbone.refuse_too_long(0, length)
    order = causal_mask(length, ids.device)[:, 0] if mask is None else mask[:, :length, :length]
    itself = torch.eye(length, dtype=torch.bool, device=ids.device)
    words = torch.cat([order[:, :-1, :-1], torch.zeros_like(order[:, :-1])], dim=2)  # (1 or B, T − 1, 2T − 1)
    queries = torch.cat([order[:, :, :-1] & itself[:, :-1].logical_not(), order & itself], dim=2)
    own = _for_rows(torch.cat([words, queries], dim=1), rows, prefix.pictures)[:, None]

    places = config.prefix + torch.arange(length, device=ids.device)
    text = torch.cat([ids[:, :-1], torch.full_like(ids, config.mask_id)], dim=1)
    segment = WRITES[1]
    if segments is not None:
        segment = torch.cat([segments[:, : length - 1], segments[:, :length]], dim=1)
        segment = _for_rows(segment, rows, prefix.pictures)
    x = model.backbone.words(text, segment, torch.cat([places[:-1], places])[None])
    asked = torch.arange(length - 1, 2 * length - 1, device=ids.device).expand(rows, -1)
    hidden = model.backbone.encode(x, cache.mask(own, rows), asked, cache=cache).last  # (N, T, D)
    if counted is None:
        counted = torch.ones_like(ids, dtype=torch.bool)
    at = places_of(counted)
    states, wanted = hidden.flatten(0, 1).index_select(0, at), ids.flatten().index_select(0, at)
    found = _word_log_probs(model, states, wanted)
    return found.new_zeros(ids.numel()).index_copy(0, at, found).view(ids.shape)


def _word_log_probs(
    model: VlpForGeneration, hidden: Float[Tensor, "M D"], words: Int[Tensor, " M"]
) -> Float[Tensor, " M"]:
    """Log-probabilities of words, some rows at a time, whose scores are computed again in the backward pass."""

    def some(x: Tensor, y: Tensor) -> Tensor:
        return -F.cross_entropy(model.word_scores(x, SLOT["s2s"]).float(), y, reduction="none")

    most = max(1, (2**22 if hidden.device.type == "cpu" else 2**27) // model.config.vocab_size)
    parts = zip(hidden.split(most), words.split(most), strict=True)
    return torch.cat([checkpoint(some, x, y, use_reentrant=False) for x, y in parts])
