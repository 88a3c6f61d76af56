"""Voken explorer: hover, focus or tap a token and see its top pictures with their scores.

The view is one plain ES module on anywidget, with no network at display time. The same object carries a static
fallback (an HTML table with alt text, and plain text), so an executed notebook reads well where no kernel runs:
on GitHub, on nbviewer and in the course's own HTML pages.

Retrieval itself is not done here: the widget shows the ids and scores that a matcher returned.
"""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image

FALLBACK_PICTURES = 3  # pictures a row of the static table; the live view shows all K


class VokenExplorer(anywidget.AnyWidget):
    """Tokens of one sentence with the K best pictures of each.

    Args:
        tokens: the T word pieces of the sentence, in order (continuation pieces start with `##`).
        voken_ids: (T, K) integer array, best picture first; `-1` marks "no voken" (special tokens).
        scores: (T, K) cosine scores in [−1, 1], aligned with `voken_ids`.
        pictures: picture of every id that occurs, as a mapping or sequence indexed by voken id.
        names: optional caption of every id that occurs, used as alt text.
        title: one line above the sentence.

    Raises:
        ValueError: the shapes disagree, or an id has no picture.
    """

    _esm = Path(__file__).with_name("voken_explorer.js")
    _css = Path(__file__).with_name("voken_explorer.css")

    title = traitlets.Unicode("").tag(sync=True)
    tokens = traitlets.List(trait=traitlets.Dict()).tag(sync=True)
    pictures = traitlets.Dict().tag(sync=True)  # voken id as text -> {"src": data URI, "alt": text}
    selected = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        tokens: Sequence[str],
        voken_ids: np.ndarray,
        scores: np.ndarray,
        pictures: Any,
        names: Any = None,
        title: str = "",
        picture_size: int = 128,
    ):
        voken_ids, scores = np.asarray(voken_ids), np.asarray(scores)
        if voken_ids.ndim != 2 or voken_ids.shape != scores.shape or len(tokens) != len(voken_ids):
            raise ValueError(
                f"tokens ({len(tokens)}), voken_ids {voken_ids.shape} and scores {scores.shape} must share T and K"
            )
        rows = [
            {
                "text": text,
                "vokens": [
                    {"id": str(int(v)), "score": round(float(s), 4)}
                    for v, s in zip(ids, row, strict=True)
                    if v >= 0
                ],
            }
            for text, ids, row in zip(tokens, voken_ids, scores, strict=True)
        ]
        used = sorted({int(v) for v in voken_ids.ravel() if v >= 0})
        try:
            shown = {
                str(v): {"src": _data_uri(pictures[v], picture_size), "alt": _alt(names, v)} for v in used
            }
        except (KeyError, IndexError) as error:
            raise ValueError(f"a voken id has no picture or name: {error}") from error
        first = next((i for i, row in enumerate(rows) if row["vokens"]), 0)
        super().__init__(title=title, tokens=rows, pictures=shown, selected=first)

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        live = super()._repr_mimebundle_(**kwargs)
        data, metadata = live if isinstance(live, tuple) else (live or {}, {})
        return {**data, "text/html": self.to_html(), "text/plain": self.to_text()}, metadata

    def to_text(self) -> str:
        """One line a token: its best pictures' names and scores."""
        lines = [self.title] if self.title else []
        for token in self.tokens:
            best = ", ".join(
                f"{self.pictures[v['id']]['alt']} ({v['score']:.2f})"
                for v in token["vokens"][:FALLBACK_PICTURES]
            )
            lines.append(f"{token['text']:>14}  {best or '–'}")
        return "\n".join(lines)

    def to_html(self) -> str:
        """A table that needs neither scripts nor styles: a row a token, its best pictures with scores."""
        rows = []
        for token in self.tokens:
            cells = "".join(
                f'<td style="text-align:center"><img src="{self.pictures[v["id"]]["src"]}" width="72" '
                f'alt="{html.escape(self.pictures[v["id"]]["alt"], quote=True)}"><br>{v["score"]:.2f}</td>'
                for v in token["vokens"][:FALLBACK_PICTURES]
            )
            if cells:
                rows.append(
                    f'<tr><th scope="row" style="text-align:right">{html.escape(token["text"])}</th>{cells}</tr>'
                )
        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        heads = "".join(f'<th scope="col">voken {k + 1}</th>' for k in range(FALLBACK_PICTURES))
        body = "".join(rows)
        return f'<table>{caption}<tr><th scope="col">token</th>{heads}</tr>{body}</table>'


def _alt(names: Any, voken: int) -> str:
    return str(names[voken]) if names is not None else f"picture {voken}"


def _data_uri(picture: Image.Image, size: int) -> str:
    """JPEG data URI of a picture, its longer side at most `size` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((size, size))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
