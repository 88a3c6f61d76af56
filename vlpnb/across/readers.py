"""The five systems as readers of words: masked words or the next one, with or without a picture of the thing.

Each function opens a finished pre-training and gives a `Reader`. Four of them guess masked words, as the cloze probes
of `downstream.probes` ask; VaLM guesses the next word, so that it is asked with what stands before the gap.

| system | what it reads where no picture is shown |
|---|---|
| Vokenization | the text, as always |
| LXMERT | the text beside one region of zeros |
| VLP | the text behind an empty picture, [CLS] [SEP], both ways |
| VaLM | the text; it looks pictures up itself, as it was trained |
| CCLM | the text; its fusion layers skip the attention to a view |

LXMERT, VLP and CCLM were never trained without another view, so that this is harder for them; `beside` shows them one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vlpnb.across.models import System
from vlpnb.cclm.scoring import Scorer as CclmScorer
from vlpnb.cclm.scoring import open_scorer as open_cclm
from vlpnb.downstream.probes import candidate_scores, kind_vectors
from vlpnb.errors import UserError
from vlpnb.foundations.regions import load_regions
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.original.weights import load_model as load_lxmert
from vlpnb.lxmert.start import MODEL
from vlpnb.nn.language_model import load_masked_lm
from vlpnb.text.cleaning import clean_question
from vlpnb.text.tokenizers import MASKED, load_tokenizer
from vlpnb.valm.scoring import LanguageScorer, open_scorer
from vlpnb.vlp.heads import SLOT, VlpForGeneration
from vlpnb.vlp.original.weights import load_model as load_vlp
from vlpnb.vlp.pictures import Pictures, no_pictures
from vlpnb.vokenization.pretraining import snapshots_made

MASK = "[MASK]"
MOST_WORDS = 1000  # of a prompt that is cleaned: all of it
Items = Sequence[dict]
"""Cloze items {prompt, answer, candidates, kind}, perhaps with `other`, of `downstream.probes.read_probes`."""
States = Callable[[Int[Tensor, "B T"], Bool[Tensor, "B T"]], Float[Tensor, "B T D"]]


@runtime_checkable
class Reader(Protocol):
    """A model that is asked for words."""

    def scores(self, items: Items) -> Float[np.ndarray, "P A"]:
        """Mean log-probability of the pieces of each item's candidates, NaN where it has fewer than others."""
        ...

    def vectors(self, items: Items) -> dict[str, Float[np.ndarray, " D"]]:
        """Kind → mean hidden state of its word over the prompts, last layer."""
        ...

    def pieces(self, word: str) -> int:
        """Into how many pieces it cuts a word; 0: it has none for a part of it."""
        ...

    def beside(self, pictures: Sequence[str]) -> "Reader":
        """The same beside pictures of the run, named by their ids. UserError: it takes none, or one is unknown."""
        ...


@dataclass(frozen=True)
class Guesser:
    """A model of masked words in one situation (`probes.GuessesWords`)."""

    states: States
    word_scores: Callable[[Float[Tensor, "N D"]], Float[Tensor, "N V"]]


@dataclass(frozen=True)
class MaskedReader:
    """A model of masked words; beside several pictures its scores and states are the means over them."""

    model: nn.Module
    tokenizer: Any
    guessers: tuple[Guesser, ...]
    shown: Callable[[str], Guesser] | None = None
    """A picture's id → the model beside it; None: it takes no picture."""
    cleaned: bool = False
    """Prompts are cleaned as CCLM cleans text."""
    device: str = "cpu"

    def scores(self, items: Items) -> Float[np.ndarray, "P A"]:
        """See `Reader`."""
        items = self._read(items)
        return np.mean(
            [candidate_scores(g, self.tokenizer, items, self.device) for g in self.guessers], axis=0
        )

    def vectors(self, items: Items) -> dict[str, Float[np.ndarray, " D"]]:
        """See `Reader`."""
        items = self._read(items)
        found = [kind_vectors(g, self.tokenizer, items, self.device) for g in self.guessers]
        return {kind: np.mean([each[kind] for each in found], axis=0) for kind in found[0]}

    def pieces(self, word: str) -> int:
        """See `Reader`."""
        return _pieces(self.tokenizer, word)

    def beside(self, pictures: Sequence[str]) -> "MaskedReader":
        """See `Reader`."""
        if self.shown is None:
            raise UserError("this model reads text alone; no picture can be shown to it")
        return replace(self, guessers=tuple(map(self.shown, pictures)))

    def _read(self, items: Items) -> Items:
        if not self.cleaned:
            return items
        return [{**item, "prompt": _cleaned(item["prompt"])} for item in items]


def _cleaned(prompt: str) -> str:
    """A prompt without punctuation, as CCLM reads text; the gap stays."""
    return MASK.join(f" {clean_question(part, MOST_WORDS)} " for part in prompt.split(MASK)).strip()


def _pieces(tokenizer: Any, word: str) -> int:
    ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    return 0 if tokenizer.unk_token_id in ids else len(ids)


@dataclass(frozen=True)
class NextWordReader:
    """VaLM: asked for what follows the text before the gap; a comparison is followed by the rest of its sentence."""

    scorer: LanguageScorer
    pictures: tuple[str, ...] | None = None
    """Shown at every word in place of those that it finds; the scorer's setting is "oracle" then."""
    oracle: Callable[[], LanguageScorer] | None = None

    @property
    def model(self) -> nn.Module:
        """The language model."""
        return self.scorer.model

    def scores(self, items: Items) -> Float[np.ndarray, "P A"]:
        """See `Reader`."""
        asked = [_before_and_answers(item) for item in items]
        shown = None if self.pictures is None else [self.pictures] * len(asked)
        found = np.full((len(items), max(len(answers) for _, answers in asked)), np.nan)
        for count in sorted({len(answers) for _, answers in asked}):  # the scorer wants equally many
            rows = [i for i, (_, answers) in enumerate(asked) if len(answers) == count]
            given = None if shown is None else [shown[i] for i in rows]
            found[rows, :count] = self.scorer([asked[i][0] for i in rows], [asked[i][1] for i in rows], given)
        return found

    @torch.no_grad()
    def vectors(self, items: Items) -> dict[str, Float[np.ndarray, " D"]]:
        """See `Reader`; a word's state knows the words before it alone."""
        words, sums = self.scorer.words, {}
        given = None if self.pictures is None else self.scorer._rows([self.pictures])
        for item in items:
            text, kind = _before_and_answers(item)[0], item["kind"]
            start = text.find(kind)
            if start < 0:  # an irregular plural, or the gap stands before the word
                continue
            spans = words.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
                "offset_mapping"
            ]
            ids = torch.tensor([[words.end_id, *words.encode([text])[0].tolist()]], device=self.scorer.device)
            end = start + len(kind)
            places = [i for i, (a, b) in enumerate(spans, 1) if a < end and b > start and b > a]
            seen = {
                name: value.to(self.scorer.device)
                for name, value in self.scorer.see(ids.cpu(), given).items()
            }
            hidden = self.model.model(ids, **seen).last[0]
            sums.setdefault(kind, []).append(hidden[places].mean(0).float().cpu().numpy())
        return {kind: np.mean(rows, axis=0) for kind, rows in sums.items()}

    def pieces(self, word: str) -> int:
        """See `Reader`."""
        return _pieces(self.scorer.words.tokenizer, word)

    def beside(self, pictures: Sequence[str]) -> "NextWordReader":
        """See `Reader`."""
        if self.oracle is None or self.scorer.rows_of is None:
            raise UserError("this model was trained on text alone; no picture can be shown to it")
        return replace(self, scorer=self.oracle(), pictures=tuple(pictures))


def _before_and_answers(item: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What stands before the gap, and what may follow: of a comparison with the thing that is compared with."""
    before, after = item["prompt"].split(MASK)
    rest = after.strip() if "other" in item else ""
    return before.strip(), [f"{candidate} {rest}".strip() for candidate in item["candidates"]]


def open_reader(system: System, folder: Path, regions: Path | None = None, device: str = "cpu") -> Reader:
    """The model of a finished pre-training as a reader of words.

    Args:
        folder: of the system's stage `pretraining`.
        regions: folder of the stage `regions`, to show pictures to LXMERT and VLP.
    """
    return _OPENERS[system](Path(folder), regions, device)


def _vokenization(folder: Path, regions: Path | None, device: str) -> MaskedReader:
    source = snapshots_made(folder)[-1]
    model = load_masked_lm(source).to(device)
    guesser = Guesser(model.states, model.word_scores)
    return MaskedReader(model, load_tokenizer(source, MASKED), (guesser,), device=device)


def _lxmert(folder: Path, regions: Path | None, device: str) -> MaskedReader:
    model = load_lxmert(folder / MODEL, LxmertForPretraining).to(device)

    def guesser(features: Tensor, boxes: Tensor) -> Guesser:
        def states(ids: Tensor, mask: Tensor) -> Tensor:
            seen = (part.to(device).expand(len(ids), -1, -1) for part in (features, boxes))
            return model.backbone(ids, mask, *seen).text

        return Guesser(states, model.word_scores)

    def shown(picture: str) -> Guesser:
        found = store.batch(store.rows([picture]))
        return guesser(found.features, found.boxes)

    store = None if regions is None else load_regions(regions)
    blind = guesser(torch.zeros(1, 1, model.config.feature_width), torch.zeros(1, 1, 4))
    tokenizer = load_tokenizer(folder / MODEL, MASKED)
    return MaskedReader(model, tokenizer, (blind,), None if store is None else shown, device=device)


def _vlp(folder: Path, regions: Path | None, device: str) -> MaskedReader:
    model = load_vlp(folder / MODEL, VlpForGeneration).to(device)
    pictures = None if regions is None else Pictures(load_regions(regions))

    def guesser(seen: Mapping[str, Tensor]) -> Guesser:
        def states(ids: Tensor, mask: Tensor) -> Tensor:
            """The text's [CLS] is not read: the prefix has one. Its column is that of the prefix's [SEP]."""
            features, geometry = (
                seen[name].to(device).expand(len(ids), -1, -1) for name in ("features", "geometry")
            )
            lengths, reads = mask.sum(1) - 2, torch.zeros(len(ids), dtype=torch.bool, device=device)
            last = model.backbone(features, geometry, ids[:, 1:], lengths, reads).last
            return last[:, features.shape[1] + 1 :]

        return Guesser(states, partial(model.word_scores, slot=SLOT["bi"]))

    def shown(picture: str) -> Guesser:
        return guesser(pictures.batch(pictures.rows([picture], "a picture to show")))

    blind = guesser(no_pictures(1, model.config.feature_width, model.config.classes))
    tokenizer = load_tokenizer(folder / MODEL, MASKED)
    return MaskedReader(model, tokenizer, (blind,), None if pictures is None else shown, device=device)


def _valm(folder: Path, regions: Path | None, device: str) -> NextWordReader:
    return NextWordReader(
        open_scorer(folder, "trained", device), None, cache(partial(open_scorer, folder, "oracle", device))
    )


def _cclm(folder: Path, regions: Path | None, device: str) -> MaskedReader:
    scorer = open_cclm(folder, device)
    return MaskedReader(
        scorer.model,
        scorer.pieces.tokenizer,
        (_cclm_guesser(scorer),),
        partial(_cclm_guesser, scorer),
        True,
        device,
    )


def _cclm_guesser(scorer: CclmScorer, picture: str | None = None) -> Guesser:
    """Without a picture the attention to a view is skipped."""
    model = scorer.model
    view = None if picture is None else scorer.gallery([picture]).views

    def states(ids: Tensor, mask: Tensor) -> Tensor:
        memory = None if view is None else view.expand(len(ids), -1, -1)
        return model.fuse(model.text(ids, mask), mask, memory)

    return Guesser(states, model.words)


_OPENERS: Mapping[System, Callable[[Path, Path | None, str], Reader]] = {
    "vokenization": _vokenization, "lxmert": _lxmert, "vlp": _vlp, "valm": _valm, "cclm": _cclm,
}  # fmt: skip
