"""Charts in one call each: they draw data and describe it, so that no figure's alt text says something else.

`bars`, `curves`, `points`, `heat` and `histogram` return a `Chart`, as `vlpnb.course.picture_charts` does for
pictures; `draw(*charts)` shows them beside each other. Text that comes from data is drawn literally, `$` included.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from vlpnb.course.plotting import ORANGE, PALETTE, show

GREY = "0.7"
BASELINES = (
    "chance",
    "random",
    "any ",
    "all equally",
    "untrained",
    "other",
    "padding",
)  # series that begin so are drawn in grey
MOST = 12  # items of a series that the alt text lists
MARKS = "osD^vP*X<>d"


@dataclass(frozen=True)
class Chart:
    """What to draw on a pair of axes, and the same in words.

    Args:
        paint: draws on axes; the mapping gives each of `series` its colour.
        told: the chart in words.
        size: in inches.
        series: names of what is told apart by colour, alike in all charts that are drawn together.
    """

    paint: Callable[[Axes, Mapping[str, str]], None]
    told: str
    size: tuple[float, float] = (6.5, 3.6)
    series: tuple[str, ...] = ()


def draw(*charts: Chart, about: str = "", columns: int | None = None, save: str | Path | None = None) -> None:
    """Show charts beside each other, `columns` in a row; the alt text is `about` and what each chart says.

    Raises:
        ValueError: no chart.
    """
    if not charts:
        raise ValueError("nothing to draw: give at least one chart")
    columns = min(columns or len(charts), len(charts))
    rows = -(-len(charts) // columns)
    height = sum(max(c.size[1] for c in charts[r * columns : (r + 1) * columns]) for r in range(rows))
    width = min(12.0, sum(chart.size[0] for chart in charts[:columns]))
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")
    for axis in axes.flat[len(charts) :]:
        axis.axis("off")
    colours = palette([name for chart in charts for name in chart.series])
    for chart, axis in zip(charts, axes.flat, strict=False):
        chart.paint(axis, colours)
    show(figure, " ".join(filter(None, [about, *(chart.told for chart in charts)])), save)


def bars(
    values: Mapping[str, float] | Mapping[str, Mapping[str, float]],
    *,
    y: str,
    x: str = "",
    title: str = "",
    errors: Mapping[str, Any] | None = None,
    lines: Mapping[str, float] | None = None,
    dots: Mapping[str, Sequence[float]] | None = None,
    limits: tuple[float | None, float | None] = (0, None),
    lying: bool = False,
    stacked: bool = False,
    digits: int = 2,
) -> Chart:
    """Bars with their values: category → value, or series → (category → value).

    Args:
        y: what a value is, with its unit.
        x: what the categories are.
        errors: half widths, of the shape of `values`.
        lines: levels to compare with, by name.
        dots: single measurements of a category, beside its bar.
        limits: of the axis of the values.
        lying: horizontal bars, for long names.
        stacked: series at the same places, each drawn in front of the one before.
    """
    several = any(isinstance(value, Mapping) for value in values.values())
    table = dict(values) if several else {"": values}
    spreads = (errors or {}) if several else {"": errors or {}}
    names = list(dict.fromkeys(name for series in table.values() for name in series))
    width = 0.82 / (1 if stacked else len(table))

    def paint(axis: Axes, colour_of: Mapping[str, str]) -> None:
        for i, (series, found) in enumerate(table.items()):
            shift = 0 if stacked else width * (i - (len(table) - 1) / 2)
            at = [names.index(name) + shift for name in found]
            half = [_finite(spreads.get(series, {}).get(name)) for name in found]
            make = axis.barh if lying else axis.bar
            error = {"xerr" if lying else "yerr": half, "capsize": 3, "ecolor": "0.3"} if any(half) else {}
            drawn = make(
                at,
                list(found.values()),
                width * 0.94,
                color=colour_of[series],
                label=series,
                **error,
            )
            if len(names) * len(table) <= 15 and not dots:
                axis.bar_label(drawn, fmt=f"%.{digits}f", fontsize=8, padding=2)
        for name, several_values in (dots or {}).items():
            where, what = [names.index(name)] * len(several_values), list(several_values)
            axis.plot(*((what, where) if lying else (where, what)), "o", color="black", ms=4, alpha=0.7)
        _levels(axis, lines or {}, upright=lying)
        crowded = len(names) > 12 and not lying
        turned = {"rotation": 90, "fontsize": 8} if crowded else {"fontsize": 9}
        ticks = list(names) if len(names) <= 60 else []
        (axis.set_yticks if lying else axis.set_xticks)(range(len(ticks)), ticks, **turned)
        if lying:
            axis.invert_yaxis()
        (axis.set_xlim if lying else axis.set_ylim)(*limits)
        name_axes(axis, y if lying else x, x if lying else y, title)
        _legend(axis, above=not title)

    parts = [
        f"{series}: {_listed(found, digits)}" if series else _listed(found, digits)
        for series, found in table.items()
    ]
    told = f"Bars of {_of(y, title)}. {'; '.join(parts)}{_levels_told(lines or {}, digits)}."
    tall = (7.5, 0.42 * len(names) * max(1, 0.6 * len(table)) + 1.2)
    letters = [max(map(len, name.split("\n"))) for name in names]
    apart = max(
        [(one + next_) / 2 for one, next_ in itertools.pairwise(letters)], default=0
    )  # two names that meet
    named = 0.1 * apart * len(names) + 1.0 if len(names) <= 12 else 0
    wide = (max(5.0, 0.25 * len(names) * len(table) + 1.5, named), 3.5)
    return Chart(paint, told, tall if lying else wide, tuple(table))


def curves(
    lines: Mapping[str, tuple[Sequence[float], Any]],
    *,
    x: str,
    y: str,
    title: str = "",
    log: str = "",
    levels: Mapping[str, float] | None = None,
    places: Mapping[str, float] | None = None,
    limits: tuple[float | None, float | None] = (None, None),
) -> Chart:
    """Lines by name: (xs, ys), where ys may be (seeds, points): their mean, and a band from lowest to highest.

    Args:
        log: the axes that are logarithmic: "x", "y" or "xy".
        levels: horizontal lines to compare with, by name.
        places: vertical lines, by name.
        limits: of the axis of the ys.
    """
    found = {name: (np.asarray(xs), np.atleast_2d(np.asarray(ys))) for name, (xs, ys) in lines.items()}

    def paint(axis: Axes, colour_of: Mapping[str, str]) -> None:
        for i, (name, (xs, ys)) in enumerate(found.items()):
            style = {"color": colour_of[name], "label": name, "lw": 1.8}
            if name.startswith(BASELINES):
                style["ls"] = ("--", ":", "-.")[i % 3]
            elif len(xs) <= 30:
                style |= {"marker": MARKS[i % len(MARKS)], "ms": 4}
            axis.plot(xs, ys.mean(0), **style)
            if len(ys) > 1:
                axis.fill_between(xs, ys.min(0), ys.max(0), color=colour_of[name], alpha=0.2, lw=0)
        _scales(axis, log)
        _levels(axis, levels or {}, upright=False)
        _levels(axis, places or {}, upright=True)
        axis.set_ylim(*limits)
        name_axes(axis, x, y, title)
        if len(found) > 1 or levels or places:
            _legend(axis)

    parts = [f"{name} {_course(xs, ys.mean(0))}" for name, (xs, ys) in found.items() if len(xs)]
    told = f"Curves of {_of(y, title)} over {x}{_scales_told(log)}: {'; '.join(parts)}"
    told += f"{_levels_told(levels or {})}{_levels_told(places or {})}."
    return Chart(paint, told, series=tuple(found))


def points(
    groups: Mapping[str, tuple[Any, Any]],
    *,
    x: str,
    y: str,
    title: str = "",
    log: str = "",
    names: Mapping[str, tuple[float, float]] | None = None,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    colours: Sequence[Any] | None = None,
) -> Chart:
    """Points by group, each with its own colour and mark: (xs, ys).

    Args:
        log: the axes that are logarithmic: "x", "y" or "xy".
        names: text beside some places.
        lines: lines to compare with, by name: (xs, ys).
        colours: one colour a point, in the order of all groups together, instead of one a group.
    """
    found = {name: (np.asarray(xs), np.asarray(ys)) for name, (xs, ys) in groups.items()}

    def paint(axis: Axes, colour_of: Mapping[str, str]) -> None:
        start = 0
        for i, (name, (xs, ys)) in enumerate(found.items()):
            own = colours[start : start + len(xs)] if colours is not None else colour_of[name]
            start += len(xs)
            style = {"marker": MARKS[i % len(MARKS)], "s": 28, "alpha": 0.8, "edgecolors": "0.4"}
            axis.scatter(xs, ys, c=own, linewidths=0.5, label=name, **style)
        for i, (name, (xs, ys)) in enumerate((lines or {}).items()):
            axis.plot(xs, ys, color="0.5", ls=(":", "--", "-.")[i % 3], label=name)
        for name, place in (names or {}).items():
            axis.annotate(name, place, xytext=(3, 3), textcoords="offset points", fontsize=8)
        _scales(axis, log)
        name_axes(axis, x, y, title)
        _legend(axis)

    parts = [f"{len(xs)} of {name}" if name else f"{len(xs)}" for name, (xs, ys) in found.items()]
    ends = [span(np.concatenate([pair[k] for pair in found.values()])) for k in (0, 1)]
    told = f"Points{_scales_told(log)}{f', {title}' if title else ''}: {', '.join(parts)}"
    told += f"; {x} {ends[0]}, {y} {ends[1]}."
    return Chart(paint, told, (6.5, 4.4), tuple(found))


def heat(
    table: Any,
    *,
    rows: Sequence[str] | Mapping[int, str],
    columns: Sequence[str] | Mapping[int, str],
    label: str,
    y: str = "",
    x: str = "",
    title: str = "",
    marks: Sequence[tuple[int, int]] = (),
    split: int | None = None,
    limits: tuple[float | None, float | None] = (None, None),
    colours: str = "cividis",
    pictures: Sequence[Any] = (),
) -> Chart:
    """A table of numbers as colours.

    Args:
        table: (rows, columns).
        rows: their names, all of them or those at some positions.
        columns: the same for columns.
        label: what a number is.
        marks: (row, column) of cells to circle.
        split: a line above this row.
        limits: numbers of the darkest and the lightest colour.
        pictures: one a column, drawn above it.
    """
    values = np.asarray(table, dtype=float)
    named = [_positions(names) for names in (rows, columns)]

    def paint(axis: Axes, colour_of: Mapping[str, str]) -> None:
        image = axis.imshow(values, cmap=colours, aspect="auto", vmin=limits[0], vmax=limits[1])
        for row, column in marks:
            axis.plot(column, row, "o", mfc="none", mec="white", ms=10, mew=3)
            axis.plot(column, row, "o", mfc="none", mec="black", ms=10, mew=1)
        if split is not None:
            axis.axhline(split - 0.5, color=ORANGE)
        axis.set_yticks(list(named[0]), list(named[0].values()), fontsize=8)
        turn = 60 if len(named[1]) > 7 else 0
        axis.set_xticks(list(named[1]), list(named[1].values()), fontsize=9, rotation=turn)
        for i, one in enumerate(pictures):
            place = axis.inset_axes([(i + 0.05) / len(pictures), 1.02, 0.9 / len(pictures), 0.28])
            place.imshow(np.asarray(one))
            place.axis("off")
        axis.figure.colorbar(image, ax=axis, label=label)
        name_axes(axis, x, y, title)

    told = f"Heat map of {label}{f', {title}' if title else ''}: {values.shape[0]} rows"
    told += f"{f' ({y})' if y else ''} by {values.shape[1]} columns{f' ({x})' if x else ''}, {span(values)}"
    if len(named[0]) == len(values) <= 40 and len(named[1]) == values.shape[1]:
        best = [
            (named[0][i].replace("\n", " "), named[1][int(r.argmax())].replace("\n", " "))
            for i, r in enumerate(values)
        ]
        told += "; the highest of each row: " + ", ".join(f"{row} at {column}" for row, column in best)
    height = max(3.2, 0.24 * len(values) + 1.3) if len(named[0]) == len(values) else 5.0
    return Chart(paint, told + ".", (max(5.0, min(7.5, 0.6 * values.shape[1] + 2)), height))


def histogram(
    values: Any, *, x: str, y: str, bins: Any = 30, log: str = "", places: Mapping[str, float] | None = None
) -> Chart:
    """How often values occur; `places` are vertical lines by name."""
    found = np.asarray(values)

    def paint(axis: Axes, colour_of: Mapping[str, str]) -> None:
        axis.hist(found, bins=bins, color=PALETTE[0])
        _scales(axis, log)
        _levels(axis, places or {}, upright=True)
        name_axes(axis, x, y, "")
        _legend(axis)

    told = f"Histogram of {len(found):,} values of {x}{_scales_told(log)}: {span(found)}, "
    told += f"mean {_short(found.mean())}, median {_short(np.median(found))}{_levels_told(places or {})}."
    return Chart(paint, told, (7.0, 3.4))


def palette(series: Sequence[str]) -> dict[str, str]:
    """A colour for each name, grey for what is only compared with; a name that comes again keeps its colour."""
    names = dict.fromkeys(series)
    own = iter(PALETTE * (1 + len(names) // len(PALETTE)))
    return {name: GREY if name.startswith(BASELINES) else next(own) for name in names}


def _levels(axis: Axes, levels: Mapping[str, float], upright: bool) -> None:
    for i, (name, value) in enumerate(levels.items()):
        style = {"color": "0.35", "ls": ("--", ":", "-.")[i % 3], "label": name, "lw": 1.4}
        axis.axvline(value, **style) if upright else axis.axhline(value, **style)


def name_axes(axis: Axes, x: str, y: str, title: str) -> None:
    axis.set(xlabel=x, ylabel=y, title=title)


def _scales(axis: Axes, log: str) -> None:
    for name in log:
        axis.set(**{f"{name}scale": "log"})


def _scales_told(log: str) -> str:
    return {"": "", "x": " on a logarithmic x axis", "y": " on a logarithmic y axis"}.get(
        log, " on logarithmic axes"
    )


def _legend(axis: Axes, above: bool = False) -> None:
    """A legend where there is something to tell; above the axes, where it hides nothing, or where there is room."""
    if labels := axis.get_legend_handles_labels()[1]:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": min(3, len(labels))}
        axis.legend(fontsize=9, **place if above else {})


def _positions(names: Sequence[str] | Mapping[int, str]) -> dict[int, str]:
    return dict(names) if isinstance(names, Mapping) else dict(enumerate(map(str, names)))


def _finite(value: Any) -> float:
    return float(value) if value is not None and math.isfinite(value) else 0.0


def _short(value: float) -> str:
    value = float(value)
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value or 0) else f"{value:.3g}"


def span(values: np.ndarray) -> str:
    return f"from {_short(np.nanmin(values))} to {_short(np.nanmax(values))}" if values.size else "none"


def _course(xs: np.ndarray, ys: np.ndarray) -> str:
    """Where a curve begins and ends, and its extremes where these lie between."""
    words = f"from {_short(ys[0])} at {_short(xs[0])} to {_short(ys[-1])} at {_short(xs[-1])}"
    for what, at in (("lowest", int(ys.argmin())), ("highest", int(ys.argmax()))):
        if ys[at] not in (ys[0], ys[-1]):
            words += f", {what} {_short(ys[at])} at {_short(xs[at])}"
    return words


def _listed(found: Mapping[str, float], digits: int) -> str:
    if len(found) <= MOST:
        return ", ".join(f"{name} {value:.{digits}f}".replace("\n", " ") for name, value in found.items())
    low, high = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    words = f"{len(found)} bars, from {found[low]:.{digits}f} ({low}) to {found[high]:.{digits}f} ({high})"
    return words.replace("\n", " ")


def _levels_told(levels: Mapping[str, float], digits: int = 2) -> str:
    return "".join(f"; {name} at {value:.{digits}f}" for name, value in levels.items())


def _of(y: str, title: str) -> str:
    return f"{y}, {title}" if title else y


def upper(text: str) -> str:
    return text[:1].upper() + text[1:]
