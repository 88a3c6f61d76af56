"""What all views share: one ES module from several files, the static fallback in the mime bundle, pictures as text.

A view class names its files in `_esm = module(...)` and `_css = style(...)`; the files are put one after the other,
`base` first, so that there is one module and no build step. Beside the live view the mime bundle carries `to_html()`
(neither scripts nor styles are needed to read it) and `to_text()`, so an executed notebook reads well where no kernel
runs: on GitHub, on nbviewer and in the course's own HTML pages.
"""

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from vlpnb.lettering import png, without_formulas

HERE = Path(__file__).parent
Indexed = Mapping[int, Any] | Sequence[Any] | Callable[[int], Any]
"""Something for every id: a mapping, a sequence, or a function (called when an id is shown for the first time)."""


def module(*names: str) -> str:
    """Source of one ES module: `base.js`, then `<name>.js` of every name; the last one exports the view."""
    return "\n".join((HERE / f"{name}.js").read_text(encoding="utf-8") for name in ("base", *names))


def style(*names: str) -> str:
    """`base.css`, then `<name>.css` of every name."""
    return "\n".join((HERE / f"{name}.css").read_text(encoding="utf-8") for name in ("base", *names))


class View(anywidget.AnyWidget):
    """An anywidget whose mime bundle also holds a static fallback."""

    def to_html(self) -> str:
        """The view as HTML that needs neither scripts nor styles, with alt text on every image."""
        raise NotImplementedError

    def to_text(self) -> str:
        """The view in plain text."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        live = super()._repr_mimebundle_(**kwargs)
        data, metadata = live if isinstance(live, tuple) else (live or {}, {})
        return {**data, "text/html": without_formulas(self.to_html()), "text/plain": self.to_text()}, metadata


def at(source: Indexed, index: int) -> Any:
    """`source[index]`, or `source(index)`; KeyError or IndexError where there is nothing."""
    return source(index) if callable(source) else source[index]


def picture_uri(picture: Image.Image, size: int = 128) -> str:
    """JPEG data URI of a picture, its longer side at most `size` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((size, size))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def figure_tag(figure: Figure, alt: str) -> str:
    """An `<img>` of a matplotlib figure, as PNG in the page."""
    data = base64.b64encode(png(figure, dpi=110, facecolor="white", bbox_inches="tight")).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'


def escape(text: str) -> str:
    """Text for HTML, in attributes too."""
    return html.escape(str(text), quote=True)


def host(values: Any) -> np.ndarray:
    """A tensor on any device, or anything array-like, as a NumPy array."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
