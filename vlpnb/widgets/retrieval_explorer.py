"""Retrieval explorer: type a sentence and see every token's best pictures, fetched live from the kernel.

With `examples` the sentence may be in any of several languages: a button for each puts its example into the line, where
it can be changed. What stands for a token then may be the whole sentence, once for each way of searching.

The view sets `sentence`; this class asks a Python function for the tokens' pictures and answers with `tokens`,
`pictures` and `answered`. What the function raises is shown in the view, and the last good answer stays.
"""

import base64
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import traitlets

from vlpnb.errors import UserError
from vlpnb.lettering import HAN
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

LANGUAGES: Mapping[str, str] = {
    "ar": "العربية",
    "cs": "čeština",
    "de": "Deutsch",
    "en": "English",
    "es": "español",
    "fr": "français",
    "id": "Indonesia",
    "ja": "日本語",
    "ko": "한국어",
    "pt": "português",
    "ru": "русский",
    "tr": "Türkçe",
    "zh": "中文",
}
"""What languages call themselves; one that is not here is shown by its code."""
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
        examples: code of a language → a sentence in it. The first is what is shown where no `sentence` is given, and
            the static table has the best pictures of each: those of the first token, or way of searching.

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
    examples = traitlets.List(trait=traitlets.Dict()).tag(sync=True)  # code, name, sentence
    font = traitlets.Unicode("").tag(sync=True)  # data URI, where an example is written in Chinese

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
        examples: Mapping[str, str] | None = None,
    ):
        self._noun = noun
        sentence = sentence or next(iter((examples or {}).values()), "")
        self._retrieve, self._longest, self._good = retrieve, longest, sentence
        self._shown = functools.lru_cache(REMEMBERED)(
            lambda voken: shown_picture(pictures, names, voken, picture_size)
        )
        first = self._ask(sentence)
        self._answers = {code: self._ask(example) for code, example in (examples or {}).items()}
        super().__init__(
            title=title,
            sentence=sentence,
            answered=sentence,
            examples=[
                {"code": code, "name": LANGUAGES.get(code, code), "sentence": example}
                for code, example in (examples or {}).items()
            ],
            font=_han() if "zh" in (examples or {}) else "",
            **first,
        )

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
        """The sentence, and one line a token: its best pictures' names and scores; or one line a language."""
        return table_text(self._heading(), *self._table())

    def to_html(self) -> str:
        """The sentence, and a row a token with its best pictures; or a row a language."""
        first = "language" if self.examples else "token"
        return table_html(self._heading(), *self._table(), self._noun, first)

    def _heading(self) -> str:
        if self.examples:
            return self.title
        return f"{self.title}: {self._good}" if self.title else self._good

    def _table(self):
        if not self.examples:
            rows = [token["vokens"] for token in self.tokens]
            return [token["text"] for token in self.tokens], [("vokens", rows)], self.pictures
        answers = self._answers.values()
        rows = [answer["tokens"][answer["selected"]]["vokens"] for answer in answers]
        names = [f"{example['name']}: {example['sentence']}" for example in self.examples]
        shown = {key: picture for answer in answers for key, picture in answer["pictures"].items()}
        return names, [("pictures", rows)], shown


@functools.cache
def _han() -> str:
    """The shipped font as a data URI: a page may come from a machine that has no Chinese font, such as a server."""
    return "data:font/ttf;base64," + base64.b64encode(HAN.read_bytes()).decode()
