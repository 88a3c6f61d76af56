"""Text of the data in figures and views, drawn as it stands, whatever it says and in whatever script.

Matplotlib takes what is between two dollar signs for a formula, fails at what is no formula, and draws boxes for what
its own font lacks. Labels here come from captions, questions and words, so nothing is a formula (write `λ`, not
`$\\lambda$`), and a script that the font lacks is drawn with whatever font of the machine has it, or with the one that
the package ships: it has the Chinese characters of the visual world (`fonts/han.ttf`, a subset of Noto Sans SC).
"""

import io
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.category import StrCategoryFormatter
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, Formatter, FuncFormatter, LogFormatter

MISSING = re.compile(r"Glyph (\d+) ")  # how matplotlib warns
HAN = Path(__file__).parent / "fonts" / "han.ttf"  # under the SIL Open Font License, `fonts/OFL.txt`
RAISED = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")


def png(figure: Figure, **options: Any) -> bytes:
    """A figure as PNG, its text drawn as it stands; `options` are those of `savefig`.

    Where no font of the machine has a character, one printed line says so: a description of the figure has the text.
    """
    for text in figure.findobj(Text):
        text.set(text=literal(text.get_text()), parse_math=False)
    for axes in figure.axes:
        for axis in axes._axis_map.values():
            for kind in ("major", "minor"):
                found = getattr(axis, f"get_{kind}_formatter")()
                if isinstance(found, _OF_TEXT):
                    getattr(axis, f"set_{kind}_formatter")(_Literal(found))
    with mpl.rc_context(
        {"text.parse_math": False}
    ):  # for the labels of ticks that are only made when they are drawn
        made, missing = _drawn(figure, options)
        if missing and (families := fonts_with(missing)):
            for text in figure.findobj(Text):
                text.set_fontfamily([*text.get_fontfamily(), *families])
            made, missing = _drawn(figure, options)
    if missing:
        print(
            f"No font of this machine has {' '.join(sorted(missing)[:12])}, so the figure shows boxes there; its "
            "description has the text. The Noto fonts (fonts-noto, fonts-noto-cjk) have every script."
        )
    return made


def literal(text: str) -> str:
    """Text without what cannot be drawn: control characters but line ends, and halves of surrogate pairs."""
    return "".join(" " if c in "\t\r" else "�" if _undrawable(c) else c for c in text)


def without_formulas(markup: str) -> str:
    """HTML in which MathJax (2 and 3) looks for no formulas: between dollar signs of the data there is text."""
    return f'<div class="tex2jax_ignore mathjax_ignore">{markup}</div>'


def _undrawable(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") and character != "\n"


class _Literal(Formatter):
    """The labels of another formatter, as they stand; powers of ten without a formula."""

    def __init__(self, inner: Formatter):
        self.inner = inner

    def set_axis(self, axis: Any) -> None:
        super().set_axis(axis)
        self.inner.set_axis(axis)

    def set_locs(self, locs: Sequence[float]) -> None:
        self.inner.set_locs(locs)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        return [self._plain(label) for label in self.inner.format_ticks(values)]

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._plain(self.inner(x, pos))

    def get_offset(self) -> str:
        return self.inner.get_offset()

    def _plain(self, label: str) -> str:
        if not isinstance(self.inner, LogFormatter):
            return literal(label)
        raised = re.sub(r"\^\{([^}]*)\}", lambda power: power[1].translate(RAISED), label)
        return re.sub(r"\\mathdefault|[${}]", "", raised.replace(r"\times", "×"))


_OF_TEXT = (FixedFormatter, FuncFormatter, LogFormatter, StrCategoryFormatter)


def _drawn(figure: Figure, options: dict[str, Any]) -> tuple[bytes, set[str]]:
    """The PNG, and the characters that its fonts lack."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure.savefig(buffer, format="png", **options)
    missing = set()
    for warning in said:
        if match := MISSING.match(str(warning.message)):
            missing.add(chr(int(match[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return buffer.getvalue(), missing


def fonts_with(characters: Iterable[str]) -> list[str]:
    """Families of this machine's fonts that have the characters, the shipped one last; what nobody has is left out."""
    wanted, families = {ord(c) for c in characters}, []
    _know_shipped()
    fonts = sorted(
        font_manager.fontManager.ttflist,
        key=lambda f: (f.fname == str(HAN), not f.name.startswith("Noto Sans"), f.name, f.weight != 400),
    )
    for font in fonts:
        if not wanted:
            break
        if (
            font.style == "normal"
            and "Last Resort" not in font.name
            and (has := wanted & _characters(font.fname))
        ):
            families.append(font.name)
            wanted -= has
    return families


@cache
def _know_shipped() -> None:
    """Let matplotlib know of the shipped font, once."""
    font_manager.fontManager.addfont(HAN)


@cache
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # a font that cannot be read
        return frozenset()
