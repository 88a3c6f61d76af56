"""Pictures for every token of a text, looked up while it is read (VaLM, section 2).

A frozen text tower makes a query of the text up to a token; the K nearest rows of a store of picture vectors are what
the model sees at that token. Which text a query is made of is the mode (`QueryRules.mode`), behind one name:

| mode | the query of a token |
|---|---|
| `token_causal` | the state at the token, of a chunk that ends where the past alone says (the default) |
| `token_window` | the same of the last `window` tokens: more context right after an end |
| `token_compat` | the original's: chunks whose ends are looked for ahead, which leaks a little of the future (VAL-24) |
| `chunk` | the end of the `every` tokens before those in which it lies: fewer searches |
| `sentence` | the end of the text up to the sentence before: the tower as it was trained |
| `self` | as `token_causal`, and the query itself is the picture: no search |
| `random`, `none`, `oracle` | any rows, no rows, the rows that the caller gives |

Differs from the original: the default sees the past alone; padding is no text and asks nothing (there it takes part in
the cutting, so that chunks depend on the width of a batch); a place that is not filled is masked (VAL-23). What is
found for a text does not depend on what else is in a batch, so that tables made once (`queries.py`) hold the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from vlpnb.config import Config, Count, Seed
from vlpnb.errors import UserError
from vlpnb.retrieval.nearest import Search, exact_search, nearest
from vlpnb.retrieval.store import VectorStore
from vlpnb.text.tokenizers import encode_lines, piece_texts
from vlpnb.train.sampling import seed_of
from vlpnb.valm.chunking import (
    LONGEST,
    Prefixes,
    Reading,
    causal_lengths,
    compat_lengths,
    other_pieces,
    read_before,
    read_chunks,
    read_windows,
    same_pieces,
    sentence_marks,
    separators_of,
)
from vlpnb.valm.vocabulary import Vocabulary

QueryMode = Literal[
    "token_causal", "token_compat", "token_window", "chunk", "sentence", "self", "random", "none", "oracle"
]
SEARCHED = ("token_causal", "token_compat", "token_window", "chunk", "sentence")


class TextTower(Protocol):
    """What makes queries: the text tower of `valm.towers`."""

    name: str
    hash: str  # of the pair of towers
    width: int
    longest: int  # tokens of a text beside its start and end
    causal: bool  # whether the state at a token knows the tokens up to it only
    tokenizer: Any
    end_id: int
    pad_id: int

    def states(self, chunks: Sequence[Int[np.ndarray, " _"]]) -> list[Float[np.ndarray, "_ E"]]:
        """Unit rows, float32 on the host: of the start, of every token, of the end. They do not depend on what else
        is in the call.
        """

    def lookup(self, tokenizer: Any) -> Int[np.ndarray, " V"] | None:
        """The tower's id of each id of a language model with the same pieces; None: its pieces are others."""


class QueryRules(Config):
    """How pictures are looked up for the tokens of a text."""

    mode: QueryMode = "token_causal"
    """What the query of a token is made of; see the head of `valm/retriever.py`."""
    k: int = Field(4, ge=1, le=1024)
    """Pictures for each token (K; the paper has 4 and 8)."""
    close_at: Literal["eos", "sentence"] = "eos"
    """Where a query's text begins anew: at the end of a text, or at every end of a sentence, too."""
    longest: int = Field(LONGEST, ge=1, le=LONGEST)
    """Most tokens of a text that the tower reads."""
    window: int = Field(LONGEST, ge=1, le=LONGEST)
    """Mode `token_window`: most tokens of a query."""
    stride: Count = 16
    """Mode `token_window`: the window moves every so many tokens."""
    every: int = Field(32, ge=1, le=LONGEST)
    """Mode `chunk`: tokens that share a query (16, 32 or 64)."""
    exclude_own: bool = False
    """A text that is a picture's caption never retrieves that picture."""
    seed: Seed = 0
    """Of the rows of mode `random`."""

    @model_validator(mode="after")
    def _windows_overlap(self) -> "QueryRules":
        if self.mode == "token_window" and self.stride > self.window:
            raise ValueError(f"stride: {self.stride} is more than the window of {self.window} tokens")
        return self


@dataclass(frozen=True)
class Words:
    """What retrieval must know of a language model's ids."""

    pad: int
    eos: int
    marks: tuple[int, ...]  # ids that end a sentence
    prefixes: Prefixes
    lookup: np.ndarray | None  # the tower's ids, where the pieces are the same
    separators: tuple[int, ...] = ()  # of the original's rule, in the tower's ids


def words_of(vocabulary: Vocabulary, tower: TextTower | None, longest: int = LONGEST) -> Words:
    """How a tower reads the ids of a language model: by its own pieces where they are the same, else as text."""
    words = vocabulary
    marks = tuple(i + words.first for i in sentence_marks(piece_texts(words.tokenizer)))
    if tower is None:
        return Words(words.pad_id, words.end_id, marks, same_pieces(np.arange(words.size)), None)
    lookup = tower.lookup(words.tokenizer)
    if lookup is not None:
        pieces = tower.tokenizer.convert_ids_to_tokens(range(len(tower.tokenizer)))
        separators = separators_of(pieces, tower.end_id, tower.pad_id)
        prefixes = same_pieces(lookup, tower.causal)
        return Words(words.pad_id, words.end_id, marks, prefixes, lookup, separators)

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        return encode_lines(tower.tokenizer, texts)

    prefixes = other_pieces(words.decode, encode, min(longest, tower.longest), tower.causal)
    return Words(words.pad_id, words.end_id, marks, prefixes, None)


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
        if rules.mode in (*SEARCHED, "self"):
            if tower is None:
                raise UserError(f"queries.mode {rules.mode}: needs a text tower, and there is none")
            store.check_encoder(tower.name, tower.hash, tower.width)
            self.longest = min(rules.longest, tower.longest)
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
        return min(self.rules.every, self.longest) if self.rules.mode == "chunk" else 1

    @property
    def value_width(self) -> int:
        """How wide is what the model reads of a picture."""
        return self.store.meta.width if self.rules.mode == "self" else self.store.value_width

    def readings(self, ids: Int[np.ndarray, "B T"]) -> list[Reading]:
        """What the tower reads for each text."""
        return [self._reading(row) for row in ids]

    def _reading(self, ids: np.ndarray) -> Reading:
        rules, words = self.rules, self.words
        whole = len(ids)
        ids = ids[: len(ids) - int((ids[::-1] != words.pad).argmax()) if (ids != words.pad).any() else 0]
        closes = ids == words.eos
        if rules.close_at == "sentence":
            closes |= np.isin(ids, words.marks)
        if rules.mode == "token_compat":
            lengths = compat_lengths(words.lookup[ids], words.separators, self.longest)
            found = read_chunks(ids, lengths, words.prefixes)
        elif rules.mode == "token_window":
            lengths = causal_lengths(closes, None)
            window, stride = min(rules.window, self.longest), min(rules.stride, self.longest)
            found = read_windows(ids, lengths, words.prefixes, window, stride)
        elif rules.mode == "chunk":
            begins = np.arange(len(ids)) - (self.every - 1)
            ends = range(self.every - 1, len(ids), self.every)
            found = read_before(ids, ends, begins, words.prefixes)
        elif rules.mode == "sentence":
            found = self._sentences(ids)
        else:
            found = read_chunks(ids, causal_lengths(closes, self.longest), words.prefixes)
        found.text[ids == words.pad] = -1  # padding asks nothing
        rest = whole - len(ids)
        return Reading(
            found.texts, np.pad(found.text, (0, rest), constant_values=-1), np.pad(found.place, (0, rest))
        )

    def _sentences(self, ids: np.ndarray) -> Reading:
        """The end of the text up to each sentence's end, for the sentence after it in the same text."""
        texts: list[np.ndarray] = []
        parts, first = [], 0
        for length in causal_lengths(ids == self.words.eos, None):
            part = ids[first : first + length]
            ends = np.flatnonzero(np.isin(part, self.words.marks)).tolist()
            begins = np.maximum(np.arange(length) - (self.longest - 1), 0)
            found = read_before(part, ends, begins, self.words.prefixes)
            parts.append((np.where(found.text < 0, -1, found.text + len(texts)), found.place))
            texts += found.texts
            first += length
        text, place = (np.concatenate(arrays) for arrays in zip(*parts, strict=True)) if parts else (ids, ids)
        return Reading(texts, text, place)

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
