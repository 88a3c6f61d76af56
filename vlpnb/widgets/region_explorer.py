"""Region explorer: a picture with its regions, a sentence with its words, and where each of them looks in the other.

A word's regions come from the attention of the text over the regions, a region's words from the attention of the
regions over the text. Both are maps of one forward pass (LXMERT, Tan & Bansal 2019, section 3.2: every cross-modality
layer has both directions); nothing is computed again for the picture.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from PIL import Image

from vlpnb.errors import UserError
from vlpnb.widgets.base import View, escape, host, module, picture_uri, style
from vlpnb.widgets.maps import stacked_maps
from vlpnb.widgets.regions import SIDE, checked_boxes, with_boxes

STRONGEST = 3  # what a row of the static tables lists
MEAN = -1  # as `head`: the mean of all heads


class RegionExplorer(View):
    """R regions of one picture and T words of one sentence, with L × H maps in each direction.

    Args:
        picture: a PIL image, or (H, W, 3) in bytes.
        boxes: (R, 4) left, top, right, bottom, relative to the picture, in [0, 1].
        words: the T word pieces, special tokens included; no padding.
        word_to_regions: L maps (H, T, R) or (1, H, T, R): where each word looks in the picture.
        region_to_words: L maps (H, R, T) or (1, H, R, T): where each region looks in the sentence.
        names: what each region is said to show, for its label; None: their numbers only.
        title: one line above.
        layer: which layer is shown first, counted from 0; −1 is the last.
        head: which head, counted from 0; −1 is the mean of all.
        word: the word that is chosen first.

    Raises:
        UserError: the shapes disagree, a box is empty or leaves the picture, or the maps are no attention.
    """

    _esm = module("regions", "region_explorer")
    _css = style("vokens", "regions", "region_explorer")

    title = traitlets.Unicode("").tag(sync=True)
    picture = traitlets.Dict().tag(sync=True)  # {"src": data URI, "alt": text, "ratio": width / height}
    boxes = traitlets.List().tag(sync=True)
    words = traitlets.List(trait=traitlets.Unicode()).tag(sync=True)
    labels = traitlets.List(trait=traitlets.Unicode()).tag(sync=True)
    layers = traitlets.Int().tag(sync=True)
    heads = traitlets.Int().tag(sync=True)
    to_regions = traitlets.Bytes().tag(sync=True)  # float32, little-endian, (L, H, T, R)
    to_words = traitlets.Bytes().tag(sync=True)  # float32, little-endian, (L, H, R, T)
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(MEAN).tag(sync=True)
    word = traitlets.Int(0).tag(sync=True)  # what is chosen: a word, or, where this is −1, a region
    region = traitlets.Int(-1).tag(sync=True)

    def __init__(
        self,
        picture: Any,
        boxes: Any,
        words: Sequence[str],
        word_to_regions: Sequence[Any],
        region_to_words: Sequence[Any],
        names: Sequence[str] | None = None,
        title: str = "",
        layer: int = -1,
        head: int = MEAN,
        word: int = 0,
    ):
        self.image = picture if isinstance(picture, Image.Image) else Image.fromarray(host(picture))
        corners = checked_boxes(host(boxes))
        if names is not None and len(names) != len(corners):
            raise UserError(f"{len(names)} names of {len(corners)} regions; expected one a region")
        T, R = len(words), len(corners)
        self.from_words = stacked_maps(word_to_regions, T, R, "word_to_regions")  # (L, H, T, R)
        self.from_regions = stacked_maps(region_to_words, R, T, "region_to_words")  # (L, H, R, T)
        layers, heads = self.from_words.shape[:2]
        if self.from_regions.shape[:2] != (layers, heads):
            raise UserError(
                f"word_to_regions has {layers} layers with {heads} heads, region_to_words has "
                f"{self.from_regions.shape[0]} with {self.from_regions.shape[1]}; expected maps of the same pass"
            )
        if not (-layers <= layer < layers and MEAN <= head < heads and 0 <= word < T):
            raise UserError(
                f"layer {layer}, head {head}, word {word}: expected at most {layers - 1}, {heads - 1} and {T - 1}"
            )
        labels = [f"{i + 1}{f': {names[i]}' if names is not None else ''}" for i in range(R)]
        about = f"Picture with {R} regions: {', '.join(labels)}"
        super().__init__(
            title=title,
            picture={
                "src": picture_uri(self.image, SIDE),
                "alt": about if names is not None else f"Picture with {R} regions",
                "ratio": self.image.width / self.image.height,
            },
            boxes=corners.tolist(),
            words=list(words),
            labels=labels,
            layers=layers,
            heads=heads,
            to_regions=self.from_words.tobytes(),
            to_words=self.from_regions.tobytes(),
            layer=layer % layers,
            head=head,
            word=word,
        )

    def strongest(self, direction: str) -> list[tuple[str, list[tuple[str, float]]]]:
        """Every word with the regions it looks at most ("words"), or every region with its words ("regions")."""
        maps, rows, columns = (
            (self.from_words, self.words, self.labels)
            if direction == "words"
            else (self.from_regions, self.labels, self.words)
        )
        shown = maps[self.layer].mean(0) if self.head == MEAN else maps[self.layer, self.head]
        best = np.argsort(-shown, axis=1, kind="stable")[:, :STRONGEST]
        return [
            (row, [(columns[j], float(weights[j])) for j in chosen])
            for row, weights, chosen in zip(rows, shown, best, strict=True)
        ]

    def shown(self) -> str:
        """The layer and head that are shown, in words."""
        head = "mean of the heads" if self.head == MEAN else f"head {self.head + 1} of {self.heads}"
        return f"layer {self.layer + 1} of {self.layers}, {head}"

    def to_text(self) -> str:
        """One line a word with its regions, then one line a region with its words."""
        lines = [self.title] if self.title else []
        for direction, said in (("words", "words look at regions"), ("regions", "regions look at words")):
            lines.append(f"{said} ({self.shown()})")
            for row, best in self.strongest(direction):
                lines.append(f"{row:>18} → " + ", ".join(f"{name} {weight:.2f}" for name, weight in best))
        return "\n".join(lines)

    def to_html(self) -> str:
        """The picture with numbered boxes, and a table for each direction."""
        drawn = picture_uri(with_boxes(self.image, self.boxes), SIDE)
        tables = "".join(
            f"<table><caption>{said}</caption>"
            f'<tr><th scope="col">{of}</th><th scope="col" colspan="{STRONGEST}">looks at</th></tr>'
            + "".join(
                f'<tr><th scope="row" style="text-align:right">{escape(row)}</th>'
                + "".join(f"<td>{escape(name)} {weight:.2f}</td>" for name, weight in best)
                + "</tr>"
                for row, best in self.strongest(direction)
            )
            + "</table>"
            for direction, of, said in (
                ("words", "word", "words look at regions"),
                ("regions", "region", "regions look at words"),
            )
        )
        head = f"<p>{escape(self.title)}{': ' if self.title else ''}{escape(self.shown())}</p>"
        return f'<div>{head}<img src="{drawn}" width="360" alt="{escape(self.picture["alt"])}">{tables}</div>'
