"""One look for every figure of the course: colour-blind safe, readable, with alt text on every picture.

`show(fig, alt)` puts a figure into the notebook as PNG and as an `<img>` with alt text, so that JupyterLab,
GitHub and the exported pages all describe it to a reader who cannot see it.
"""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython.display import display
from matplotlib.figure import Figure

from vlpnb.lettering import png

# Okabe & Ito (2008): eight colours told apart by people with any common colour vision deficiency.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW, BLACK = "#56B4E9", "#D55E00", "#F0E442", "#000000"
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, BLACK)


def use_style() -> None:
    """Set matplotlib's defaults for the course; call once in a notebook's set-up cell."""
    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 12,
            "axes.labelsize": 11,
            "font.size": 11,
            "legend.frameon": False,
            "figure.dpi": 100,
            "savefig.dpi": 120,
            "savefig.bbox": "tight",
            "image.cmap": "viridis",
        }
    )


def show(fig: Figure, alt: str, save: str | Path | None = None) -> None:
    """Display a figure with alt text, and close it. Its text is drawn as it stands: `$` begins no formula.

    Args:
        fig: the figure.
        alt: what the figure shows, in a sentence, for readers who cannot see it.
        save: also write the PNG to this file.

    Raises:
        ValueError: the alt text is empty.
    """
    if not alt.strip():
        raise ValueError("a figure needs alt text: say in a sentence what it shows")
    made = png(fig)
    plt.close(fig)
    if save is not None:
        Path(save).parent.mkdir(parents=True, exist_ok=True)
        Path(save).write_bytes(made)
    data = base64.b64encode(made).decode()
    image = f'<img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{data}" style="max-width:100%">'
    display({"text/html": image, "image/png": data, "text/plain": alt}, raw=True)


def picture_grid(
    pictures: Sequence,
    titles: Sequence[str] | None = None,
    columns: int = 6,
    size: float = 1.7,
) -> Figure:
    """Pictures in rows of `columns`, each under its title.

    Args:
        pictures: N PIL images or (H, W, 3) arrays.
        titles: N short texts, or None.
        columns: pictures in a row.
        size: side of a picture in inches.
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    height = size * (1.22 if titles is not None else 1.02)
    fig, axes = plt.subplots(
        rows, columns, figsize=(columns * size, rows * height), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        axis.imshow(np.asarray(picture))
        if titles is not None:
            axis.set_title(titles[i], fontsize=9)
    return fig


def show_pictures(
    pictures: Sequence,
    titles: Sequence[str] | None = None,
    *,
    alt: str,
    columns: int = 6,
    size: float = 1.7,
    save: str | Path | None = None,
) -> None:
    """`picture_grid` and `show` in one call."""
    show(picture_grid(pictures, titles, columns, size), alt, save)
