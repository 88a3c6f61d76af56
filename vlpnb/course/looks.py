"""What the models of a finished run make of a picture or a sentence: the arguments of the explorer's views.

One class for LXMERT (words and regions), VLP (captions, beam by beam), VaLM (pictures found for each word) and CCLM
(pictures found in any language); vokens are in the notebook itself, which derives them. Each is opened once from what a
run has finished, and never trains; called with what a visitor chooses, it gives the arguments of a view. Attention
comes from the very pass whose result is shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vlpnb.course.truth import examples
from vlpnb.data.images import open_rgb
from vlpnb.data.region_store import RegionStore
from vlpnb.downstream.seeds import kept_model
from vlpnb.errors import UserError
from vlpnb.foundations import open_captions
from vlpnb.foundations.regions import open_regions
from vlpnb.stage import Run
from vlpnb.text.tokenizers import load_tokenizer

MOST = 30  # pictures that are offered
LIKELIEST = 4  # guesses at a hidden word
GALLERY = 300  # pictures that are searched


@dataclass(frozen=True)
class Offered:
    """Test pictures of a run that have regions: what people say of each, which is its label, and its file."""

    store: RegionStore
    sentences: Mapping[str, str]
    paths: Mapping[str, Path]

    @property
    def choices(self) -> list[tuple[str, str]]:
        """(label, id) of each, as a dropdown takes them."""
        return [(f"{number}. {said}", name) for number, (name, said) in enumerate(self.sentences.items(), 1)]

    def view(self, name: str) -> dict[str, Any]:
        """Picture, boxes and names of regions, as the views of regions take them."""
        found = self.store.batch(self.store.rows([name]))
        objects, attributes = self.store.objects, self.store.attributes
        names = None
        if objects:
            kinds = [objects[o] for o in found.object_ids[0].tolist()]
            colours = (
                [attributes[a] for a in found.attribute_ids[0].tolist()] if attributes else [""] * len(kinds)
            )
            names = [f"{colour} {kind}".strip() for colour, kind in zip(colours, kinds, strict=True)]
        return {"picture": open_rgb(self.paths[name]), "boxes": found.boxes[0], "names": names}


def finished(run: Run, name: str) -> Path:
    """The folder of a finished stage.

    Raises:
        UserError: the run has not finished it; nothing is trained here.
    """
    result = run.find(name)
    if result is None:
        raise UserError(f"run {run.name}: {name} is not finished; `vlpnb run --run {run.name}` makes it")
    return result.folder


def offered(run: Run, split: str = "test") -> Offered:
    """The first pictures of a split of the captions that have a file and regions.

    Raises:
        UserError: none has.
    """
    store = open_regions(run)
    images = [i for i in open_captions(run).annotated(split) if i.image_id in store and i.path.is_file()][
        :MOST
    ]
    if not images:
        raise UserError(f"run {run.name}: no picture of the split '{split}' has both a file and regions")
    return Offered(
        store,
        {image.image_id: image.sentences[0] for image in images},
        {image.image_id: image.path for image in images},
    )


class LxmertLook:
    """LXMERT: a sentence beside a picture, with both directions of attention, and guesses at hidden words."""

    def __init__(self, run: Run):
        from vlpnb.lxmert import LxmertForPretraining
        from vlpnb.lxmert.original.weights import load_model

        folder = finished(run, "lxmert.pretraining") / "model"
        self.model, self.tokenizer = load_model(folder, LxmertForPretraining).eval(), load_tokenizer(folder)
        self.offered = offered(run)

    @torch.no_grad()
    def __call__(self, name: str, sentence: str = "") -> dict[str, Any]:
        """Arguments of `RegionExplorer`; without a sentence, what people say of the picture.

        Raises:
            UserError: the sentence is longer than the model reads.
        """
        sentence = sentence.strip() or self.offered.sentences[name]
        ids = torch.tensor([self.tokenizer(sentence)["input_ids"]])
        longest = self.model.config.max_positions
        if ids.shape[1] > longest:
            raise UserError(f"{ids.shape[1]} tokens are more than the model reads ({longest})")
        found = self.offered.store.batch(self.offered.store.rows([name]))
        out = self.model.backbone(ids, None, found.features, found.boxes, found.mask, maps=True)
        words = self.tokenizer.convert_ids_to_tokens(ids[0].tolist())
        hidden = (ids[0] == self.tokenizer.mask_token_id).nonzero().flatten().tolist()
        belongs = self.model.match(out.pooled).softmax(-1)[0, 1].item()
        spell = self.tokenizer.convert_ids_to_tokens
        told = [f"{sentence} (belongs to the picture: {belongs:.0%})"]
        told += [f"[MASK]: {likeliest(self.model.word_scores(out.text[0, at]), spell)}" for at in hidden]
        return {
            **self.offered.view(name),
            "words": words,
            "word_to_regions": out.maps.cross_text,
            "region_to_words": out.maps.cross_visual,
            "title": " · ".join(told),
            "word": hidden[0] if hidden else min(1, len(words) - 1),
        }


def likeliest(scores: Float[Tensor, " V"], spell: Callable[[int], str]) -> str:
    """The likeliest words by their scores, with their probabilities."""
    best = scores.softmax(-1).topk(min(LIKELIEST, len(scores)))
    chances = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return ", ".join(f"{spell(word)} {chance:.0%}" for word, chance in chances)


class VlpLook:
    """VLP: the search of a picture's caption, with where each word looked."""

    def __init__(self, run: Run):
        from vlpnb.vlp import VlpForGeneration, load_model
        from vlpnb.vlp.generating import VlpDecoder
        from vlpnb.vlp.pictures import Pictures

        folder = kept_model(finished(run, "vlp.captioning"))
        self.tokenizer = load_tokenizer(folder)
        self.decoder = VlpDecoder(load_model(folder, VlpForGeneration).eval(), self.tokenizer)
        self.offered = offered(run)
        self.pictures = Pictures(self.offered.store)

    @torch.no_grad()
    def __call__(self, name: str, width: int = 3, length_bonus: float = 0.0) -> dict[str, Any]:
        """Arguments of `CaptionStepper` for a search with so many beams."""
        prefix = self.decoder.see(**self.pictures.batch(self.pictures.rows([name], "the explorer")))
        [caption] = self.decoder.captions(
            prefix, width=width, maps=True, best=width, length_bonus=length_bonus
        )
        label = f"{width} beam{'s' if width > 1 else ''}, a bonus of {length_bonus:g} a word"
        said = self.offered.sentences[name]
        return {
            **self.offered.view(name),
            "searches": {label: caption.trace},
            "attention": {label: caption.looks},
            "spell": self.tokenizer.convert_ids_to_tokens,
            "title": f"{caption.text} (people say: {said})",
        }


class ValmLook:
    """VaLM: the pictures that each word of a text has found, with the attention they get, and what may come next."""

    def __init__(self, run: Run):
        from vlpnb.foundations.picture_vectors import picture_paths
        from vlpnb.valm.scoring import open_scorer

        self.scorer = open_scorer(finished(run, "valm.pretraining"))
        self.store = self.scorer.see.looks.retriever.store
        self.files = picture_paths(self.store.folder)
        self.first = examples(open_captions(run)).question.split(" [MASK]")[0]

    @torch.no_grad()
    def __call__(self, text: str) -> dict[str, Any]:
        """Arguments of `VokenExplorer`: pictures by the attention of the first layer that looks.

        Raises:
            UserError: there is no text.
        """
        if not text.strip():
            raise UserError("type a text")
        words, reader = self.scorer.words, self.scorer.model.model
        ids = torch.tensor([[words.end_id, *words.encode([text])[0].tolist()]])[
            :, : reader.config.max_positions
        ]
        out = reader(ids, maps=True, **self.scorer.see(ids))
        tokens = ["[end]", *(words.decode([i]) for i in ids[0, 1:].tolist())]
        mass = out.image_mass[0]
        joint = out.maps[min(reader.config.fused)][0].mean(0)  # [T, T + K], mean over heads
        following = likeliest(self.scorer.model.scores(out.last[0, -1]), lambda i: words.decode([i]))
        return {
            "tokens": [f"{token} {share:.0%}" for token, share in zip(tokens, mass.tolist(), strict=True)],
            "voken_ids": self.scorer.see.rows(ids)[0],
            "scores": joint[:, ids.shape[1] :],
            "pictures": lambda row: open_rgb(self.files[row]),
            "names": lambda row: next(iter(self.store.captions(row)), self.files[row].stem),
            "title": f"Next: {following}. Attention to each picture; its sum stands beside the token",
            "noun": "picture",
            "context": mass.expand(len(tokens), len(tokens)),
            "context_label": "attention that goes to pictures",
        }


class CclmLook:
    """CCLM: the test pictures that a sentence in any language finds, by the vectors and read closely."""

    def __init__(self, run: Run):
        from vlpnb.cclm.scoring import open_scorer
        from vlpnb.foundations.multilingual import load_multilingual

        self.scorer = open_scorer(finished(run, "cclm.pretraining"))
        pictures = load_multilingual(finished(run, "multilingual")).pictures("test")
        self.shown = [picture for picture in pictures if picture.id in self.scorer.store][:GALLERY]
        if not self.shown:
            raise UserError(
                f"run {run.name}: no test picture of the stage `multilingual` was seen by the model"
            )

    @cached_property
    def gallery(self) -> Any:
        """The pictures as the model sees them."""
        return self.scorer.gallery([picture.id for picture in self.shown])

    @property
    def examples(self) -> dict[str, str]:
        """A caption in every language of the picture that has the most, English first."""
        most = max(self.shown, key=lambda picture: len(picture.captions))
        languages = sorted(most.captions, key=lambda name: (name != "en", name))
        return {language: most.captions[language][0] for language in languages}

    @torch.no_grad()
    def find(self, sentence: str, k: int = 6, near: int = 24) -> tuple[Sequence[str], Any, Any]:
        """Ways of searching, rows [2, k] of the gallery, and cosines and probabilities [2, k]: a `Retrieve`."""
        gallery, near = self.gallery, min(near, len(self.shown))
        row_of = {picture.id: row for row, picture in enumerate(self.shown)}
        hits = self.scorer.find(sentence, gallery, list(row_of), near)
        ways = [sorted(hits, key=lambda hit: -hit.similarity), sorted(hits, key=lambda hit: -hit.match)]
        rows = np.array([[row_of[hit.id] for hit in way[:k]] for way in ways])
        scores = [[hit.similarity for hit in ways[0][:k]], [hit.match for hit in ways[1][:k]]]
        return ["by the vectors", "read closely"], rows, np.array(scores)

    def view(self) -> dict[str, Any]:
        """Arguments of `RetrievalExplorer`."""
        return {
            "retrieve": self.find,
            "pictures": lambda row: open_rgb(self.shown[row].path),
            "names": lambda row: next(iter(self.shown[row].captions.values()))[0],
            "title": "Search in your language",
            "noun": "picture",
            "examples": self.examples,
        }
