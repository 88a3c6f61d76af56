"""Charts of pictures: with boxes, at places, in rows; and boxes with arrows. See `vlpnb.course.charts`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from vlpnb.course.charts import Chart, name_axes, span, upper
from vlpnb.course.plotting import GREEN, ORANGE, PALETTE, show


def picture(
    image: Any,
    boxes: Mapping[str, Sequence[float]] | None = None,
    *,
    title: str = "",
    size: tuple[float, float] = (1.0, 1.0),
    dots: Any = (),
    grid: bool = False,
    unit: str = "share of the side",
) -> Chart:
    """A picture, or a map of numbers, with named boxes (left, top, right, bottom).

    Args:
        size: width and height of the picture, in the unit of boxes and dots.
        dots: (N, 2) places.
        grid: a line at every whole number.
    """

    def paint(axis: Axes, _: Mapping[str, str]) -> None:
        axis.imshow(np.asarray(image), extent=(0, size[0], size[1], 0))
        for name, (left, top, right, bottom) in (boxes or {}).items():
            axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=ORANGE, lw=2))
            within = "top" if top < 0.1 * size[1] else "bottom"  # not over the title
            axis.text(left, top, name, color="white", fontsize=8, backgroundcolor="black", va=within)
        if len(dots):
            axis.scatter(*np.asarray(dots).T, s=14, color="white", edgecolors="black", zorder=3)
        if grid:
            axis.set(xticks=range(int(size[0]) + 1), yticks=range(int(size[1]) + 1))
            axis.grid(alpha=0.4)
        name_axes(axis, f"x ({unit})", f"y ({unit})", title)

    around = f" with boxes around {', '.join(boxes)}" if boxes else ""
    told = f"{upper(title or 'a picture')}{around}{f' and {len(dots)} sample points' if len(dots) else ''}."
    return Chart(paint, told, (4.2, 4.0))


def scattered(pictures: Sequence[Any], at: Any, *, x: str, y: str, title: str = "") -> Chart:
    """Small pictures at their places (N, 2)."""
    places = np.asarray(at)
    half = 0.028 * np.ptp(places, axis=0).max()

    def paint(axis: Axes, _: Mapping[str, str]) -> None:
        for image, (left, low) in zip(pictures, places, strict=True):
            axis.imshow(np.asarray(image), extent=(left - half, left + half, low - half, low + half))
        (left, low), (right, high) = places.min(0) - half, places.max(0) + half
        axis.set(xlim=(left, right), ylim=(low, high), aspect="equal")
        name_axes(axis, x, y, title)

    told = f"{len(places)} small pictures at their places{f', {title}' if title else ''}: "
    return Chart(paint, f"{told}{x} {span(places[:, 0])}, {y} {span(places[:, 1])}.", (8.0, 7.0))


def graph(places: Mapping[str, tuple[float, float]], reads: Mapping[str, Sequence[str]]) -> Chart:
    """Boxes at their places, with an arrow to each from those that it reads."""
    xs, ys = zip(*places.values(), strict=True)

    def paint(axis: Axes, _: Mapping[str, str]) -> None:
        style = {"arrowstyle": "->", "color": "gray", "shrinkA": 30, "shrinkB": 30}
        box = {"boxstyle": "round,pad=0.45", "fc": PALETTE[0], "ec": "none"}
        for name, place in places.items():
            shown = name.replace(".", ".\n")
            axis.text(*place, shown, ha="center", va="center", color="white", bbox=box, fontsize=9)
            for start in reads.get(name, ()):
                axis.annotate("", place, places[start], arrowprops=style, zorder=0)
        axis.set(xlim=(min(xs) - 0.6, max(xs) + 0.6), ylim=(min(ys) - 0.4, max(ys) + 0.4))
        axis.axis("off")

    edges = [f"{name} reads {', '.join(sorted(found))}" for name, found in reads.items() if found]
    size = (1.45 * (max(xs) - min(xs) + 1), 1.0 * (max(ys) - min(ys) + 1))
    return Chart(paint, f"Boxes with arrows from left to right: {'; '.join(edges)}.", size)


def show_rows(rows: Mapping[str, Sequence[tuple[Any, str, bool]]], *, about: str, size: float = 1.8) -> None:
    """Rows of pictures under their headings; each picture is (image, title, whether to frame it)."""
    columns = max(map(len, rows.values()))
    figure = plt.figure(figsize=(size * columns, 1.4 * size * len(rows)), layout="constrained")
    for (heading, row), part in zip(
        rows.items(), np.atleast_1d(figure.subfigures(len(rows), 1)), strict=True
    ):
        part.suptitle(heading, x=0.01, ha="left", fontsize=10)
        places = part.subplots(1, columns, squeeze=False)[0]
        for axis in places[len(row) :]:
            axis.axis("off")
        for axis, (image, title, framed) in zip(places, row, strict=False):
            axis.imshow(np.asarray(image))
            axis.set_title(title, color=GREEN if framed else "black", fontsize=9)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(visible=framed, color=GREEN, linewidth=4)
    told = "; ".join(f"{heading}: {', '.join(title for _, title, _ in row)}" for heading, row in rows.items())
    show(figure, f"{about} {told}.".replace("\n", " "))


def wrapped(sentence: str, width: int = 24, most: int = 3) -> str:
    """A sentence over a few short lines, as the title of a picture."""
    lines = [""]
    for word in sentence.split():
        joined = f"{lines[-1]} {word}".strip()
        keeps = len(joined) <= width or word in ".,"  # no line of a full stop alone
        lines[-1:] = [joined] if keeps else [lines[-1], word]
    return "\n".join(lines[:most])
