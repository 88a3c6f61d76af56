"""Voken explorer: hover, focus or tap a token and see its top pictures with their scores.

Several models stand side by side (contextual beside context-free, say), and the tokens that a token's picture
depends on are shaded. Retrieval itself is not done here: the widget shows the ids and scores that a matcher returned.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from vlpnb.errors import UserError
from vlpnb.widgets.base import Indexed, View, host, module, style
from vlpnb.widgets.vokens import (
    Column,
    first_with_voken,
    shown_picture,
    table_html,
    table_text,
    used_ids,
    voken_lists,
)


class VokenExplorer(View):
    """Tokens of one sentence with the K best pictures of each.

    Args:
        tokens: the T word pieces of the sentence, in order (continuation pieces start with `##`).
        voken_ids: (T, K) integer array, best picture first; `-1` marks "no voken" (special tokens).
        scores: (T, K) cosine scores in [−1, 1], aligned with `voken_ids`.
        pictures: picture of every id that occurs: a mapping, a sequence or a function of the voken id.
        names: optional caption of every id that occurs, used as alt text.
        title: one line above the sentence.
        picture_size: longer side of the pictures that are sent, in pixels.
        name: what these vokens are called when others stand beside them.
        compare: more models: name → (voken_ids (T, K'), scores (T, K')).
        context: (T, T) array; row t says what each token contributes to token t, of either sign (for example how far
            the score of its picture falls when that token is masked). None shades all other tokens alike.
        context_label: what `context` measures, in a few words.
        noun: what a picture of a token is called in the static table.

    Raises:
        UserError: the shapes disagree, or an id has no picture.
    """

    _esm = module("vokens", "voken_explorer")
    _css = style("vokens")

    title = traitlets.Unicode("").tag(sync=True)
    name = traitlets.Unicode("").tag(sync=True)
    tokens = traitlets.List(trait=traitlets.Dict()).tag(sync=True)
    compared = traitlets.List(trait=traitlets.Dict()).tag(sync=True)  # {"name", "vokens": a list a token}
    context = traitlets.List().tag(sync=True)
    context_label = traitlets.Unicode("").tag(sync=True)
    pictures = traitlets.Dict().tag(sync=True)  # voken id as text -> {"src": data URI, "alt": text}
    selected = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        tokens: Sequence[str],
        voken_ids: Any,
        scores: Any,
        pictures: Indexed,
        names: Indexed | None = None,
        title: str = "",
        picture_size: int = 128,
        *,
        name: str = "",
        compare: Mapping[str, tuple[Any, Any]] | None = None,
        context: Any = None,
        context_label: str = "what each token contributes",
        noun: str = "voken",
    ):
        self._noun = noun
        rows = voken_lists(tokens, voken_ids, scores)
        others = {other: voken_lists(tokens, *found) for other, found in (compare or {}).items()}
        weights = [] if context is None else host(context).astype(float)
        if context is not None and weights.shape != (len(tokens), len(tokens)):
            raise UserError(
                f"context {weights.shape}: expected (T, T) = ({len(tokens)}, {len(tokens)}), a row and a column a token"
            )
        super().__init__(
            title=title,
            name=name,
            tokens=[{"text": text, "vokens": row} for text, row in zip(tokens, rows, strict=True)],
            compared=[{"name": other, "vokens": found} for other, found in others.items()],
            context=[[round(w, 4) for w in row] for row in weights],
            context_label=context_label,
            pictures={
                str(v): shown_picture(pictures, names, v, picture_size)
                for v in used_ids(rows, *others.values())
            },
            selected=first_with_voken(rows),
        )

    def to_text(self) -> str:
        """One line a token and model: its best pictures' names and scores."""
        return table_text(self.title, *self._table(), self.pictures)

    def to_html(self) -> str:
        """A row a token, its best pictures with scores; models side by side."""
        return table_html(self.title, *self._table(), self.pictures, self._noun)

    def _table(self) -> tuple[list[str], list[Column]]:
        mine = (self.name or f"{self._noun}s", [token["vokens"] for token in self.tokens])
        others = [(other["name"], other["vokens"]) for other in self.compared]
        return [token["text"] for token in self.tokens], [mine, *others]
