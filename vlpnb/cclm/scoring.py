"""One's own picture and one's own sentences: how well do they match, and which pictures does a sentence find?

Paper: Zeng et al., "Cross-View Language Modeling" (ACL 2023): the cosine of the two vectors, and the matching head's
probability. Not in the released code, which reads benchmark files only.

    scorer = open_scorer(run.stage("cclm.pretraining").folder)
    scorer.score("my.jpg", ["a dog on the grass", "ein Hund auf der Wiese"]).match
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from vlpnb.cclm.model import Cclm
from vlpnb.cclm.original.weights import load_model
from vlpnb.cclm.start import ABOUT, saved_model
from vlpnb.data.images import open_rgb
from vlpnb.data.text_files import read_json
from vlpnb.downstream.image_retrieval import hear, look
from vlpnb.downstream.reranking import Captions, Gallery, score_pairs, see, together
from vlpnb.errors import UserError
from vlpnb.foundations.patches import open_patches, open_reader
from vlpnb.foundations.picture_store import PatchStore
from vlpnb.foundations.pieces import load_pieces
from vlpnb.text.cleaning import says_nothing
from vlpnb.text.pieces import Pieces


@dataclass(frozen=True)
class Scores:
    """What a model says of a picture and n sentences."""

    similarity: Float[np.ndarray, " n"]
    """Cosines of the vectors, −1 to 1."""
    match: Float[np.ndarray, " n"]
    """Probability of the matching head that a sentence belongs to the picture."""


@dataclass(frozen=True)
class Hit:
    """A picture that a sentence finds."""

    id: str
    similarity: float
    match: float


@dataclass(frozen=True)
class Scorer:
    """A finished model with its word pieces and its pictures; made by `open_scorer`."""

    model: Cclm
    pieces: Pieces
    patches: Path
    device: str
    max_words: int
    max_tokens: int

    @cached_property
    def store(self) -> PatchStore:
        """The patches of the run's pictures."""
        return open_patches(self.patches)

    def read(self, sentences: Sequence[str]) -> Captions:
        """Sentences as the model reads them. UserError where one says nothing."""
        for line in sentences:
            if says_nothing(line):
                raise UserError(f"the sentence {line!r} says nothing; expected at least one letter or digit")
        ids = self.pieces.encode(list(sentences), self.max_words, self.max_tokens)
        return hear(self.model, ids, self.device)

    def gallery(self, ids: Sequence[str]) -> Gallery:
        """Pictures of the run as the model sees them. UserError where one has no patches."""
        return look(self.model, self.store, ids, self.device)

    def look(self, pictures: Sequence[str | Path | Image.Image]) -> Gallery:
        """Pictures from anywhere, files or PIL's. UserError where a file is no picture."""
        opened = [p if isinstance(p, Image.Image) else open_rgb(Path(p)) for p in pictures]
        if not opened:
            raise UserError("no picture is given; expected at least one")
        seen = open_reader(self.patches, self.device)([picture.convert("RGB") for picture in opened])
        return together([see(self.model, lambda part, v=v: v[part].to(self.device), len(v)) for v in seen])

    def score(self, picture: str | Path | Image.Image, sentences: Sequence[str]) -> Scores:
        """A picture with some sentences, in whatever languages.

        Raises:
            UserError: the file is no picture; a sentence says nothing; a string is given in place of a list of them.
        """
        if isinstance(sentences, str):
            raise UserError(f"sentences: found the text {sentences!r}; expected a list of sentences")
        return self.scores(self.look([picture]), self.read(sentences))

    def scores(self, gallery: Gallery, captions: Captions, row: int = 0) -> Scores:
        """One picture of a gallery with all sentences."""
        similarity = captions.vectors @ gallery.vectors[row]
        everyone = torch.arange(len(captions), device=similarity.device)
        logits = score_pairs(self.model, gallery, captions, torch.full_like(everyone, row), everyone)
        return Scores(similarity.float().cpu().numpy(), logits.softmax(dim=1)[:, 1].cpu().numpy())

    def find(self, sentence: str, gallery: Gallery, ids: Sequence[str], k: int = 10) -> list[Hit]:
        """The k pictures that a sentence finds: the nearest by the vectors, in the order of the matching head."""
        captions = self.read([sentence])
        near = (gallery.vectors @ captions.vectors[0]).float()
        rows = near.argsort(descending=True, stable=True)[:k]
        logits = score_pairs(self.model, gallery, captions, rows, torch.zeros_like(rows))
        match = logits.softmax(dim=1)[:, 1]
        order = logits[:, 1].argsort(descending=True, stable=True)
        return [Hit(ids[int(rows[i])], float(near[rows[i]]), float(match[i])) for i in order.tolist()]


def open_scorer(folder: Path | str, device: str = "cpu") -> Scorer:
    """The model of a finished `cclm.pretraining` or `cclm.retrieval` with what it was made with.

    Raises:
        UserError: the folder is of another stage.
    """
    folder = Path(folder)
    about = read_json(folder / ABOUT, "what a model of CCLM was made with (stage `cclm.pretraining`)")
    where = {name: folder / path for name, path in about["inputs"].items()}
    model = load_model(saved_model(folder), dropout=0.0).eval().to(device)
    pieces = load_pieces(where["pieces"])
    return Scorer(model, pieces, where["patches"], device, about["max_words"], about["max_tokens"])
