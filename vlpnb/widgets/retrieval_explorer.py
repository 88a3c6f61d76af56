"""Retrieval explorer: type a sentence and see every token's best pictures, fetched live from the kernel.

The view sets `sentence`; this class asks a Python function for the tokens' pictures and answers with `tokens`,
`pictures` and `answered`. What the function raises is shown in the view, and the last good answer stays.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import traitlets

from vlpnb.errors import UserError
from vlpnb.widgets.base import Indexed, View, module, style
from vlpnb.widgets.vokens import (
    first_with_voken,
    shown_picture,
    table_html,
    table_text,
    used_ids,
    voken_lists,
)

Retrieve = Callable[[str], tuple[Sequence[str], Any, Any]]
"""A sentence → its T tokens, voken ids (T, K) with the best first, and scores (T, K)."""

REMEMBERED = 1024  # encoded pictures that are kept


class RetrievalExplorer(View):
    """A sentence to edit, and the K best pictures of each of its tokens.

    Args:
        retrieve: a sentence → (tokens, voken_ids (T, K), scores (T, K)).
        pictures: picture of any id: a function of the voken id (called when it is first shown), mapping or sequence.
        names: optional caption of any id, used as alt text.
        sentence: what is shown first, and in the static fallback.
        title: one line above.
        picture_size: longer side of the pictures that are sent, in pixels.
        longest: characters of a sentence that are accepted.
        noun: what a picture of a token is called in the static table.

    Raises:
        UserError: the first sentence is empty or too long, or what `retrieve` returns does not fit together. Later
            errors of any kind are shown in the view, and kept in `error`.
    """

    _esm = module("vokens", "retrieval_explorer")
    _css = style("vokens", "retrieval_explorer")

    title = traitlets.Unicode("").tag(sync=True)
    sentence = traitlets.Unicode("").tag(sync=True)  # what is asked
    answered = traitlets.Unicode("").tag(sync=True)  # what the tokens or the error below belong to
    error = traitlets.Unicode("").tag(sync=True)
    tokens = traitlets.List(trait=traitlets.Dict()).tag(sync=True)
    pictures = traitlets.Dict().tag(sync=True)
    selected = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        retrieve: Retrieve,
        pictures: Indexed,
        names: Indexed | None = None,
        sentence: str = "",
        title: str = "",
        picture_size: int = 112,
        longest: int = 400,
        noun: str = "voken",
    ):
        self._noun = noun
        self._retrieve, self._longest, self._good = retrieve, longest, sentence
        self._shown = functools.lru_cache(REMEMBERED)(
            lambda voken: shown_picture(pictures, names, voken, picture_size)
        )
        super().__init__(title=title, sentence=sentence, answered=sentence, **self._ask(sentence))

    def _ask(self, sentence: str) -> dict[str, Any]:
        """The traits that answer a sentence."""
        if not sentence.strip():
            raise UserError("the sentence is empty; type a few words")
        if len(sentence) > self._longest:
            raise UserError(f"the sentence has {len(sentence)} characters; at most {self._longest} are read")
        tokens, voken_ids, scores = self._retrieve(sentence)
        rows = voken_lists(tokens, voken_ids, scores)
        return {
            "tokens": [{"text": text, "vokens": row} for text, row in zip(tokens, rows, strict=True)],
            "pictures": {str(v): self._shown(v) for v in used_ids(rows)},
            "selected": first_with_voken(rows),
            "error": "",
        }

    @traitlets.observe("sentence")
    def _on_sentence(self, change) -> None:
        sentence = change["new"]
        if sentence == self.answered:  # the first sentence, answered before the widget existed
            return
        try:
            answer = self._ask(sentence)
            self._good = sentence
        except UserError as error:
            answer = {"error": str(error)}
        except Exception as error:  # in a message handler it would be lost in the kernel's log
            answer = {"error": f"{type(error).__name__}: {error}"}
        with self.hold_sync():  # one message, so that the view never sees tokens without their pictures
            for name, value in {**answer, "answered": sentence}.items():
                setattr(self, name, value)

    def to_text(self) -> str:
        """The sentence, and one line a token: its best pictures' names and scores."""
        return table_text(self._heading(), *self._table(), self.pictures)

    def to_html(self) -> str:
        """The sentence, and a row a token with its best pictures."""
        return table_html(self._heading(), *self._table(), self.pictures, self._noun)

    def _heading(self) -> str:
        return f"{self.title}: {self._good}" if self.title else self._good

    def _table(self):
        rows = [token["vokens"] for token in self.tokens]
        return [token["text"] for token in self.tokens], [("vokens", rows)]
