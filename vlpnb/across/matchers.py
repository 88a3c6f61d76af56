"""The five systems as matchers: a score for every sentence with every picture of a small gallery.

| matcher | score of a sentence and a picture |
|---|---|
| Vokenization | mean over the words of word vector · picture vector; no word sees the picture |
| LXMERT | logit of "belong together", of the pooled vector: every word saw every region |
| VLP | log-probability of writing the sentence; it learnt no matching, so that this is what it has |
| VaLM | text vector · picture vector of the frozen towers with which it looks pictures up |
| CCLM, vectors | text vector · picture vector |
| CCLM, head | logit of "belong together": every word saw every patch |

What a sentence is likely to get with any picture is no news of this one: where captions are found by pictures, the mean
over the gallery is taken off VLP's log-probabilities (`Matcher.centred`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.utils.rnn import pad_sequence

from vlpnb.across.models import System
from vlpnb.cclm.scoring import Scorer
from vlpnb.cclm.scoring import open_scorer as open_cclm
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.images import open_rgb
from vlpnb.downstream.reranking import score_pairs
from vlpnb.foundations.regions import load_regions
from vlpnb.foundations.tower_pair import load_towers
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.original.weights import load_model as load_lxmert
from vlpnb.lxmert.start import MODEL
from vlpnb.metrics.retrieval import mean_token_scores
from vlpnb.stage import Request
from vlpnb.text.tokenizers import MASKED, load_tokenizer
from vlpnb.vlp.generating import VlpDecoder, log_probs_of
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.original.weights import load_model as load_vlp
from vlpnb.vlp.pictures import Pictures
from vlpnb.vokenization.benchmark import scored_queries
from vlpnb.vokenization.matcher import load_matcher
from vlpnb.vokenization.vokeniser import Vokeniser

MatcherName = Literal["vokenization", "lxmert", "vlp", "valm", "cclm", "cclm_head"]
Score = Callable[[Sequence[str], Sequence[CaptionedImage]], Float[torch.Tensor, "C I"]]
PICTURES_AT_ONCE = 8  # beside all sentences


@dataclass(frozen=True)
class Matcher:
    """What scores sentences with pictures."""

    system: System
    title: str
    stage: str
    """The stage whose model it is."""
    open: Callable[[Path, Path | None, str], Score]
    centred: bool = False
    """Its scores are to be compared between sentences less each one's mean over pictures."""

    def request(self, seed: int | None = None) -> Request:
        """What it is a part of, with a seed or with the run's own."""
        return Request(self.stage, {} if seed is None else {"seed": seed})


def _vokenization(folder: Path, regions: Path | None, device: str) -> Score:
    matcher = load_matcher(folder, device)

    def score(sentences: Sequence[str], images: Sequence[CaptionedImage]) -> torch.Tensor:
        keys = torch.cat([matcher.keys([open_rgb(image.path)]).cpu() for image in images])
        language = matcher.language
        wrapped = language.encode(list(sentences), matcher.max_length)
        rows = [ids[len(language.prefix) : len(ids) - len(language.suffix)] for ids in wrapped]
        found = [query.cpu() for query in scored_queries(Vokeniser(matcher, keys), rows)]
        lengths = torch.tensor([len(query) for query in found])
        padded = pad_sequence(found, batch_first=True)  # (C, T, d)
        return mean_token_scores(padded, torch.arange(padded.shape[1]) < lengths[:, None], keys)

    return score


def _ids(tokenizer, sentences: Sequence[str], longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of sentences with their special tokens, padded."""
    made = tokenizer([text.strip() for text in sentences], truncation=True, max_length=longest, padding=True)
    return torch.tensor(made["input_ids"]), torch.tensor(made["attention_mask"], dtype=torch.bool)


def _lxmert(folder: Path, regions: Path | None, device: str) -> Score:
    model, tokenizer = (
        load_lxmert(folder / MODEL, LxmertForPretraining).to(device),
        load_tokenizer(folder / MODEL, MASKED),
    )
    store = load_regions(regions)

    def score(sentences: Sequence[str], images: Sequence[CaptionedImage]) -> torch.Tensor:
        seen = store.batch(store.rows([image.image_id for image in images]))
        mask = None if seen.mask is None else seen.mask.to(device)
        visual = model.backbone.see(seen.features.to(device), seen.boxes.to(device), mask)
        ids, real = (each.to(device) for each in _ids(tokenizer, sentences, model.config.max_positions))
        columns = []
        for i in range(len(images)):
            beside = visual.rows(torch.full((len(ids),), i, device=device))
            logits = model.match(model.backbone.read(ids, real, beside, pooled_only=True).pooled)
            columns.append((logits[:, 1] - logits[:, 0]).float().cpu())
        return torch.stack(columns, dim=1)

    return score


def _vlp(folder: Path, regions: Path | None, device: str) -> Score:
    model, tokenizer = (
        load_vlp(folder / MODEL, VlpForGeneration).to(device),
        load_tokenizer(folder / MODEL, MASKED),
    )
    pictures, decoder = Pictures(load_regions(regions)), VlpDecoder(model)

    def score(sentences: Sequence[str], images: Sequence[CaptionedImage]) -> torch.Tensor:
        ids, real = (
            each[:, 1:].to(device) for each in _ids(tokenizer, sentences, decoder.steps + 1)
        )  # without [CLS]
        rows = pictures.rows([image.image_id for image in images], "across.pictures")
        parts = []
        for first in range(0, len(rows), PICTURES_AT_ONCE):
            seen = {
                name: part.to(device)
                for name, part in pictures.batch(rows[first : first + PICTURES_AT_ONCE]).items()
            }
            count = len(seen["features"])
            found = log_probs_of(
                model, decoder.see(**seen), ids.repeat(count, 1), counted=real.repeat(count, 1)
            )
            parts.append(found.sum(1).view(count, len(ids)).float().cpu())
        return torch.cat(parts).T

    return score


def _valm(folder: Path, regions: Path | None, device: str) -> Score:
    towers = load_towers(folder, device)

    def score(sentences: Sequence[str], images: Sequence[CaptionedImage]) -> torch.Tensor:
        pixels = [towers.image.pixels(open_rgb(image.path)) for image in images]
        vectors = torch.cat([towers.image.encode(one[None]) for one in pixels])
        return torch.from_numpy(np.asarray(towers.text.encode(sentences))) @ vectors.T

    return score


def _cclm(folder: Path, regions: Path | None, device: str) -> Score:
    scorer = open_cclm(folder, device)

    def score(sentences: Sequence[str], images: Sequence[CaptionedImage]) -> torch.Tensor:
        gallery, captions = scorer.gallery([image.image_id for image in images]), scorer.read(sentences)
        return (captions.vectors @ gallery.vectors.T).float().cpu()

    return score


def _cclm_head(folder: Path, regions: Path | None, device: str) -> Score:
    scorer: Scorer = open_cclm(folder, device)

    def score(sentences: Sequence[str], images: Sequence[CaptionedImage]) -> torch.Tensor:
        gallery, captions = scorer.gallery([image.image_id for image in images]), scorer.read(sentences)
        pairs = torch.cartesian_prod(torch.arange(len(captions)), torch.arange(len(gallery))).to(device)
        logits = score_pairs(scorer.model, gallery, captions, pairs[:, 1], pairs[:, 0])
        return (logits[:, 1] - logits[:, 0]).view(len(captions), len(gallery)).cpu()

    return score


MATCHERS: Mapping[MatcherName, Matcher] = {
    "vokenization": Matcher(
        "vokenization", "Vokenization, its matcher", "vokenization.matching", _vokenization
    ),
    "lxmert": Matcher("lxmert", "LXMERT, its matching head", "lxmert.pretraining", _lxmert),
    "vlp": Matcher("vlp", "VLP, likelihood of the caption", "vlp.pretraining", _vlp, True),
    "valm": Matcher("valm", "VaLM, its frozen towers", "towers", _valm),
    "cclm": Matcher("cclm", "CCLM, its two vectors", "cclm.pretraining", _cclm),
    "cclm_head": Matcher("cclm", "CCLM, its matching head", "cclm.pretraining", _cclm_head),
}


def open_matcher(name: MatcherName, folder: Path, regions: Path | None = None, device: str = "cpu") -> Score:
    """What scores sentences (rows) with pictures (columns), of a finished stage `Matcher.stage`."""
    return torch.no_grad()(MATCHERS[name].open(Path(folder), regions, device))
