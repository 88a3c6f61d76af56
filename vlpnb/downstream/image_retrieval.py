"""What is asked of a model in retrieval: pictures and sentences about them in several languages, and the recalls.

Paper: Zeng et al., "Cross-View Language Modeling" (ACL 2023), section 4: text→picture and picture→text recall at 1, 5
and 10; a picture counts as found by any of its captions. `vectors_` are the recalls of the two vectors alone, the
others those after the matching head has ranked the k nearest again (`reranking.py`).

Differs from the original: what cleaning leaves nothing of is left out and told, not an error in the night; no recall
depends on the order of ties.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from vlpnb.data.multilingual import Picture
from vlpnb.downstream.pictured import PictureStore
from vlpnb.downstream.reranking import Captions, Gallery, Ranker, read, rerank, see, together
from vlpnb.errors import UserError
from vlpnb.metrics.retrieval import ranks, retrieval_scores
from vlpnb.text.cleaning import says_nothing
from vlpnb.text.pieces import Pieces


@dataclass(frozen=True)
class Asked:
    """Sentences in one language about some of the pictures."""

    texts: Sequence[Int[np.ndarray, " _"]]
    """Ids with special tokens."""
    owner: Int[np.ndarray, " C"]
    """The picture of each, counted in the gallery."""
    left_out: tuple[str, ...] = ()
    """Sentences of which cleaning leaves nothing."""

    def __len__(self) -> int:
        return len(self.texts)


def ask(
    pictures: Sequence[Picture],
    language: str,
    pieces: Pieces,
    words: int,
    tokens: int,
    most: int | None = None,
) -> Asked:
    """The sentences of some pictures in a language, at most `most` of each picture."""
    said = [
        (number, picture.id, line)
        for number, picture in enumerate(pictures)
        for line in picture.captions.get(language, ())[:most]
    ]
    empty = [says_nothing(line) for _, _, line in said]
    kept = [each for each, nothing in zip(said, empty, strict=True) if not nothing]
    return Asked(
        pieces.encode([line for _, _, line in kept], words, tokens),
        np.array([number for number, _, _ in kept], np.int64),
        tuple(
            f"{id} ({language}): {line!r}"
            for (_, id, line), nothing in zip(said, empty, strict=True)
            if nothing
        ),
    )


def look(model: Ranker, store: PictureStore, ids: Sequence[str], device: str | torch.device) -> Gallery:
    """Pictures as the model sees them; each once, in this order. UserError: one is not in the store.

    Where the store has several views to evaluate by, a vector is the mean of theirs.
    """
    rows = store.rows(ids)
    views = range(store.eval_views(rows))
    return together(
        [see(model, lambda part, v=v: store.gather(rows[part], v).to(device), len(rows)) for v in views]
    )


def hear(model: Ranker, texts: Sequence[Int[np.ndarray, " _"]], device: str | torch.device) -> Captions:
    """Sentences, as ids, as the model reads them. UserError where there is none."""
    return read(model, [torch.from_numpy(np.asarray(text, np.int64)) for text in texts], device)


@dataclass(frozen=True)
class Found:
    """What a model finds by the sentences of a language."""

    metrics: Mapping[str, float]
    """Recalls; those of the vectors alone with `vectors_` in front."""
    owner: Int[np.ndarray, " C"]
    """The picture of each sentence."""
    near: Int[np.ndarray, " C"]
    """The rank of its picture among all by the vectors, best = 1 …"""
    again: Int[np.ndarray, " C"]
    """… and after re-ranking; the same where nothing is ranked again."""

    def kept(self) -> dict[str, list[int]]:
        """Owners and ranks as JSON has them."""
        return {name: getattr(self, name).tolist() for name in ("owner", "near", "again")}


def compare(
    model: Ranker,
    gallery: Gallery,
    asked: Mapping[str, Asked],
    k: int,
    device: str | torch.device,
) -> dict[str, Found]:
    """Language → what is found after re-ranking and before; k = 0: by the vectors alone."""
    found = {}
    for language, about in asked.items():
        if not len(about):
            raise UserError(
                f"no picture has a sentence in {language!r}; expected one in every language that is asked"
            )
        captions, own = hear(model, about.texts, device), torch.from_numpy(about.owner)
        near = (gallery.vectors @ captions.vectors.T).float().cpu()
        metrics = {f"vectors_{name}": v for name, v in retrieval_scores(near, near.T, own).items()}
        near_ranks = again_ranks = ranks(near.T, own).numpy()
        if k:
            again = rerank(model, gallery, captions, k)
            to_pictures = again.captions_to_pictures.cpu()
            metrics |= retrieval_scores(again.pictures_to_captions.cpu(), to_pictures, own)
            again_ranks = ranks(to_pictures, own).numpy()
        counts = {"pictures": float(len(gallery)), "sentences": float(len(about))}
        found[language] = Found({**metrics, **counts}, about.owner, near_ranks, again_ranks)
    return found
