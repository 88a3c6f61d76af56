"""Pictures for every token of a text, looked up while it is read (VaLM, section 2).

A frozen text tower makes a query of the text up to a token; the K nearest rows of a store of picture vectors are what
the model sees at that token. Which text a query is made of is the mode (`text/query_texts.py`).

Differs from the original: the default mode sees the past alone; a place that is not filled is masked (VAL-23). What is
found for a text does not depend on what else is in a batch, so that tables made once (`queries.py`) hold the same.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from vlpnb.config import Seed
from vlpnb.errors import UserError
from vlpnb.foundations.tower_pair import TextTower
from vlpnb.retrieval.nearest import Search, exact_search, nearest
from vlpnb.retrieval.store import VectorStore
from vlpnb.text.chunking import Reading
from vlpnb.text.query_texts import SEARCHED, ReadingRules, Words, reading_of
from vlpnb.train.sampling import seed_of


class QueryRules(ReadingRules):
    """How pictures are looked up for the tokens of a text."""

    k: int = Field(4, ge=1, le=1024)
    """Pictures for each token (K; the paper has 4 and 8)."""
    exclude_own: bool = False
    """A text that is a picture's caption never retrieves that picture."""
    seed: Seed = 0
    """Of the rows of mode `random`."""


@dataclass(frozen=True)
class Retrieved:
    """What was found: rows of the store (−1: nothing) and their scores, best first (−∞: nothing)."""

    rows: Int[Tensor, "B T K"]  # int32
    scores: Float[Tensor, "B T K"]  # float32


@dataclass(frozen=True)
class Asked:
    """The distinct queries of some texts, and which of them each position asks (−1: none)."""

    vectors: Float[Tensor, "U E"]
    which: Int[Tensor, "B T"]


class Retriever:
    """Looks pictures up, live.

    Args:
        store: where; of the towers that the tower belongs to.
        tower: makes the queries; None for the modes random, none and oracle.
        words: how the tower reads the language model's ids (`words_of`).
        search: how; exactly if it is not given.
        device: of the search.
    Raises:
        UserError: the store is of other towers, or the tower cannot do what the mode asks.
    """

    def __init__(
        self,
        store: VectorStore,
        tower: TextTower | None,
        rules: QueryRules,
        words: Words,
        search: Search | None = None,
        device: str = "cpu",
    ):
        self.store, self.tower, self.rules, self.words, self.device = store, tower, rules, words, device
        self.k = 1 if rules.mode == "self" else rules.k
        self.longest = rules.longest if tower is None else min(rules.longest, tower.longest)
        if rules.mode in (*SEARCHED, "self"):
            if tower is None:
                raise UserError(f"queries.mode {rules.mode}: needs a text tower, and there is none")
            store.check_encoder(tower.name, tower.hash, tower.width)
            if rules.mode == "token_compat" and (words.lookup is None or not tower.causal):
                raise UserError(
                    "queries.mode token_compat: the original's rule needs a causal tower with the language model's own "
                    "pieces; take mode token_causal"
                )
        self._search = search
        if search is None and rules.mode in SEARCHED:
            self._search = exact_search(store, device)

    @property
    def every(self) -> int:
        """Positions that share a query."""
        return self.rules.shared(self.longest)

    @property
    def value_width(self) -> int:
        """How wide is what the model reads of a picture."""
        return self.store.meta.width if self.rules.mode == "self" else self.store.value_width

    def readings(self, ids: Int[np.ndarray, "B T"]) -> list[Reading]:
        """What the tower reads for each text."""
        return [reading_of(row, self.rules, self.words, self.longest) for row in ids]

    def queries(self, ids: Int[Tensor, "B T"]) -> Asked:
        """The queries of some texts (padded on the right), each distinct one once."""
        texts: dict[bytes, int] = {}
        chunks: list[np.ndarray] = []
        places: dict[tuple[int, int], int] = {}
        which = np.full(ids.shape, -1, np.int64)
        for row, reading in enumerate(self.readings(np.asarray(ids.cpu()))):
            numbers = []
            for chunk in reading.texts:
                number = texts.setdefault(chunk.tobytes(), len(chunks))
                if number == len(chunks):
                    chunks.append(chunk)
                numbers.append(number)
            for at in np.flatnonzero(reading.text >= 0):
                key = (numbers[reading.text[at]], int(reading.place[at]))
                which[row, at] = places.setdefault(key, len(places))
        states = self.tower.states(chunks) if chunks else []
        found = [states[text][place] for text, place in places]
        vectors = np.stack(found) if found else np.empty((0, self.tower.width), np.float32)
        return Asked(torch.from_numpy(vectors), torch.from_numpy(which))

    @torch.no_grad()
    def rows(
        self,
        ids: Int[Tensor, "B T"],
        own: Int[Tensor, " B"] | Int[Tensor, "B T"] | None = None,
        given: Int[Tensor, "B J"] | Int[Tensor, "B T J"] | None = None,
        keys: Int[Tensor, " B"] | None = None,
    ) -> Retrieved:
        """The pictures of every token; no gradients. Padding has none.

        Args:
            ids: what the language model reads, padded on the right.
            own: rows of the pictures that the texts describe (−1: none); they do not come if `exclude_own`.
            given: mode oracle: the rows that every token of a text, or each token, sees: the first K (−1: fewer).
            keys: mode random: numbers of the texts, of which the rows are a function; 0, 1, … if not given.
        """
        rules, shape = self.rules, (*ids.shape, self.k)
        rows, scores = torch.full(shape, -1, dtype=torch.int32), torch.full(shape, -torch.inf)
        if rules.mode == "self":
            raise UserError(
                "queries.mode self: nothing is looked up, so that there are no rows; ask for `images`"
            )
        if rules.mode in SEARCHED:
            self._look_up(ids, own if rules.exclude_own else None, rows, scores)
        elif rules.mode == "random":
            for i, key in enumerate(range(len(ids)) if keys is None else keys.tolist()):
                dice = np.random.default_rng(seed_of(rules.seed, int(key)))
                rows[i] = torch.from_numpy(dice.integers(len(self.store), size=shape[1:]).astype(np.int32))
            scores[:] = 0
        elif rules.mode == "oracle":
            if given is None:
                raise UserError("queries.mode oracle: the rows of the pictures must be given, and are not")
            first = (given if given.ndim == 3 else given[:, None])[:, :, : self.k].to(torch.int32)
            rows[:, :, : first.shape[2]] = first
            scores[rows >= 0] = 0
        nothing = (ids == self.words.pad).cpu()
        if rules.mode in ("random", "oracle"):
            rows[nothing], scores[nothing] = -1, -torch.inf
        return Retrieved(rows, scores)

    def _look_up(self, ids: Tensor, own: Tensor | None, rows: Tensor, scores: Tensor) -> None:
        asked = self.queries(ids)
        at = (asked.which >= 0).nonzero(as_tuple=True)
        wanted = asked.which[at]
        if own is not None:
            mine = own.cpu()[:, None].expand(ids.shape) if own.ndim == 1 else own.cpu()
            if self.every > 1:  # what shares a query shares its pictures: those of the first token count
                mine = mine[:, :: self.every].repeat_interleave(self.every, dim=1)[:, : ids.shape[1]]
            pairs, back = torch.stack([wanted, mine[at].long()], 1).unique(dim=0, return_inverse=True)
            queries, mine = asked.vectors[pairs[:, 0]], pairs[:, 1].to(self.device)
        else:
            queries, mine, back = asked.vectors, None, wanted
        found = nearest(self._search, queries.to(self.device), self.k, len(self.store), mine)
        scores[at], rows[at] = found[0].cpu()[back], found[1].cpu().to(torch.int32)[back]

    @torch.no_grad()
    def images(
        self, ids: Int[Tensor, "B T"], **about: Tensor | None
    ) -> tuple[Float[Tensor, "B T K E"], Bool[Tensor, "B T K"]]:
        """What the model reads at every token, float32, and where there is something; arguments as of `rows`."""
        if self.rules.mode != "self":
            found = self.rows(ids, **about).rows
            return self.store.gather(found), found >= 0
        asked = self.queries(ids)
        there = asked.which >= 0
        vectors = asked.vectors.half().float()  # as a table holds them
        images = torch.zeros(*ids.shape, self.value_width)
        images[there] = vectors[asked.which[there]]
        return images[:, :, None], there[:, :, None]


def rows_at(rows: Int[Tensor, "B S K"], index: Int[Tensor, "B T"]) -> Int[Tensor, "B T K"]:
    """The rows of the queries that positions take (−1: none): where a text is asked without its masked words."""
    found = rows.gather(1, index.clamp(min=0)[:, :, None].expand(-1, -1, rows.shape[2]))
    return found.masked_fill(index[:, :, None] < 0, -1)
