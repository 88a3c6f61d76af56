"""Embedding map: tokens and pictures of the joint space on the plane of their greatest spread.

The plane is that of the two first principal components; a plane keeps only a part of the distances (the share of
the variance is written beside it), so the neighbours that the view lists are computed in the whole space.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from jaxtyping import Float
from matplotlib.figure import Figure

from vlpnb.errors import UserError
from vlpnb.widgets.base import Indexed, View, at, escape, figure_tag, host, module, picture_uri, style


def principal_plane(vectors: Float[np.ndarray, "N d"]) -> tuple[Float[np.ndarray, "N 2"], float]:
    """Coordinates on the two directions of greatest spread, and the share of the variance they keep.

    Signs are fixed (the largest coordinate of each axis is positive), so that equal vectors give equal maps.
    """
    centred = vectors - vectors.mean(0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(vectors), 2))
    places[:, : min(2, len(spread))] = (left * spread)[:, :2]
    places *= np.where(places[np.abs(places).argmax(0), [0, 1]] < 0, -1, 1)
    total = (spread**2).sum()
    return places, float((spread[:2] ** 2).sum() / total) if total else 1.0


class EmbeddingMap(View):
    """M tokens and N pictures on one plane.

    Args:
        tokens: M words; `token_vectors`: (M, d), their unit vectors.
        picture_vectors: (N, d) unit vectors; `pictures`: picture of 0 … N − 1; `names`: their captions, as alt text.
        apart: subtract the mean of tokens and that of pictures before looking for the plane. The two often lie in
            different parts of the sphere, and the first axis then only tells words from pictures.
        neighbours: how many tokens and how many pictures are listed as nearest, by cosine.
        title: one line above.
        picture_size: longer side of the pictures that are sent, in pixels.

    Raises:
        UserError: the shapes disagree, there are fewer than three points, or a picture is missing.
    """

    _esm = module("vokens", "embedding_map")
    _css = style("vokens", "embedding_map")

    title = traitlets.Unicode("").tag(sync=True)
    axes = traitlets.Unicode("").tag(sync=True)
    points = traitlets.List(trait=traitlets.Dict()).tag(
        sync=True
    )  # x, y in [−1, 1], kind, label, src of a picture
    neighbours = traitlets.List().tag(sync=True)  # for every point [[index, cosine], ...]
    selected = traitlets.Int(-1).tag(sync=True)

    def __init__(
        self,
        tokens: Sequence[str],
        token_vectors: Any,
        picture_vectors: Any,
        pictures: Indexed,
        names: Indexed | None = None,
        title: str = "",
        apart: bool = False,
        neighbours: int = 5,
        picture_size: int = 96,
    ):
        words, keys = host(token_vectors).astype(float), host(picture_vectors).astype(float)
        if words.ndim != 2 or keys.ndim != 2 or words.shape[1] != keys.shape[1] or len(words) != len(tokens):
            raise UserError(
                f"tokens ({len(tokens)}), token_vectors {words.shape} and picture_vectors {keys.shape}: expected M, "
                "(M, d) and (N, d)"
            )
        if len(words) + len(keys) < 3:
            raise UserError(f"{len(words)} tokens and {len(keys)} pictures: a map needs three points")
        try:
            self._pictures = [at(pictures, i) for i in range(len(keys))]
            labels = [str(at(names, i)) if names is not None else f"picture {i}" for i in range(len(keys))]
        except (KeyError, IndexError) as error:
            raise UserError(f"a picture or its name is missing: {error}") from error
        centred = [group - group.mean(0) if apart and len(group) else group for group in (words, keys)]
        places, explained = principal_plane(np.concatenate(centred))
        low, high = places.min(0), places.max(0)
        places = (2 * places - low - high) / np.maximum(high - low, 1e-9)  # the whole plane is used
        every = np.concatenate([words, keys])
        unit = every / np.maximum(np.linalg.norm(every, axis=1, keepdims=True), 1e-9)
        kinds = ["token"] * len(words) + ["picture"] * len(keys)
        sources = [None] * len(words) + [picture_uri(picture, picture_size) for picture in self._pictures]
        super().__init__(
            title=title,
            axes=f"first and second principal component, {explained:.0%} of the variance",
            points=[
                {"x": round(float(x), 4), "y": round(float(y), 4), "kind": kind, "label": label}
                | ({"src": source} if source else {})
                for (x, y), kind, label, source in zip(
                    places, kinds, [*tokens, *labels], sources, strict=True
                )
            ],
            neighbours=_nearest(unit, len(words), neighbours),
        )

    def to_text(self) -> str:
        """One line a token: its nearest tokens and pictures with cosines."""
        lines = [line for line in (self.title, f"map: {self.axes}") if line]
        for point, near in zip(self.points, self.neighbours, strict=True):
            if point["kind"] == "token":
                told = ", ".join(f"{self.points[i]['label']} ({cosine:.2f})" for i, cosine in near)
                lines.append(f"{point['label']:>14}  {told}")
        return "\n".join(lines)

    def to_html(self) -> str:
        """The map as one picture, and a table of the tokens' nearest pictures."""
        kinds = [point["kind"] for point in self.points]
        alt = f"Map of {kinds.count('token')} tokens and {kinds.count('picture')} pictures; {self.axes}. "
        rows, told = "", []
        for point, near in zip(self.points, self.neighbours, strict=True):
            found = [(self.points[i], cosine) for i, cosine in near if self.points[i]["kind"] == "picture"][
                :3
            ]
            if point["kind"] != "token" or not found:
                continue
            told.append(f"{point['label']}: {found[0][0]['label']}")
            cells = "".join(
                f'<td style="text-align:center"><img src="{p["src"]}" width="48" alt="{escape(p["label"])}"><br>'
                f"{cosine:.2f}</td>"
                for p, cosine in found
            )
            rows += f'<tr><th scope="row" style="text-align:right">{escape(point["label"])}</th>{cells}</tr>'
        image = figure_tag(self._figure(), alt + "Nearest pictures: " + "; ".join(told[:12]) + ".")
        caption = f"{escape(self.title)}{': ' if self.title else ''}nearest pictures by cosine"
        return f"<div>{image}<details><summary>{caption}</summary><table>{rows}</table></details></div>"

    def _figure(self) -> Figure:
        figure = Figure(figsize=(8, 6), layout="constrained")
        axis = figure.subplots()
        pictures = iter(self._pictures)
        for point in self.points:
            x, y = point["x"], point["y"]
            if point["kind"] == "picture":
                thumbnail = np.asarray(next(pictures).convert("RGB").resize((48, 48)))
                axis.imshow(thumbnail, extent=(x - 0.03, x + 0.03, y - 0.04, y + 0.04), aspect="auto")
            else:
                box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
                axis.text(x, y, point["label"], fontsize=8, ha="center", va="center", bbox=box)
        axis.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xticks=[], yticks=[], title=self.title, xlabel=self.axes)
        return figure


def _nearest(unit: Float[np.ndarray, "N d"], tokens: int, k: int) -> list[list[list]]:
    """For every point its k nearest tokens, then its k nearest pictures: [index, cosine]."""
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    found = []
    for i, row in enumerate(cosines):
        near = []
        for start, stop in ((0, tokens), (tokens, len(row))):
            order = start + np.argsort(-row[start:stop], kind="stable")
            near += [[int(j), round(float(row[j]), 4)] for j in order if j != i][:k]
        found.append(near)
    return found
