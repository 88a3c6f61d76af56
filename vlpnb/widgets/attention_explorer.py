"""Attention explorer: all layers and heads as small maps, one of them large with its values.

The maps come from the forward pass that produced the output (`Encoder.forward(..., attentions=True)` in
`vlpnb/nn/transformer.py`); nothing is computed again for the picture.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from vlpnb.errors import UserError
from vlpnb.widgets.base import View, escape, figure_tag, module, style
from vlpnb.widgets.maps import stacked_maps

STRONGEST = 3  # keys a row of the static table


class AttentionExplorer(View):
    """L × H attention maps of one sequence.

    Args:
        tokens: the T tokens that look (queries).
        attentions: L maps, (H, T, S) or (1, H, T, S) each, as in `EncoderOutput.attentions`.
        keys: the S tokens (or names of regions) that are looked at; `tokens` when None.
        title: one line above.
        layer, head: which map is shown first, counted from 0.

    Raises:
        UserError: the shapes disagree with the tokens, a batch holds more than one sequence, or the rows are no
            attention (they must sum to one, or to zero where nothing may be seen).
    """

    _esm = module("attention_explorer")
    _css = style("attention_explorer")

    title = traitlets.Unicode("").tag(sync=True)
    tokens = traitlets.List(trait=traitlets.Unicode()).tag(sync=True)
    looked_at = traitlets.List(trait=traitlets.Unicode()).tag(sync=True)
    layers = traitlets.Int().tag(sync=True)
    heads = traitlets.Int().tag(sync=True)
    values = traitlets.Bytes().tag(sync=True)  # float32, little-endian, (L, H, T, S)
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    selected = traitlets.Int(0).tag(sync=True)  # the query whose lines are drawn

    def __init__(
        self,
        tokens: Sequence[str],
        attentions: Sequence[Any],
        keys: Sequence[str] | None = None,
        title: str = "",
        layer: int = 0,
        head: int = 0,
    ):
        keys = tokens if keys is None else keys
        self.maps = stacked_maps(attentions, len(tokens), len(keys))  # (L, H, T, S)
        layers, heads = self.maps.shape[:2]
        if not (0 <= layer < layers and 0 <= head < heads):
            raise UserError(f"layer {layer}, head {head}: expected 0 … {layers - 1} and 0 … {heads - 1}")
        super().__init__(
            title=title,
            tokens=list(tokens),
            looked_at=list(keys),
            layers=layers,
            heads=heads,
            values=self.maps.tobytes(),
            layer=layer,
            head=head,
        )

    def strongest(self, layer: int, head: int) -> list[tuple[str, list[tuple[str, float]]]]:
        """Every token of a map with the keys it looks at most, and their weights."""
        found = []
        for token, row in zip(self.tokens, self.maps[layer, head], strict=True):
            best = np.argsort(-row, kind="stable")[:STRONGEST]
            found.append((token, [(self.looked_at[j], float(row[j])) for j in best]))
        return found

    def to_text(self) -> str:
        """One line a token: what it looks at most in the shown map."""
        lines = [self.title] if self.title else []
        lines.append(f"layer {self.layer + 1} of {self.layers}, head {self.head + 1} of {self.heads}")
        for token, best in self.strongest(self.layer, self.head):
            lines.append(f"{token:>14} → " + ", ".join(f"{key} {weight:.2f}" for key, weight in best))
        return "\n".join(lines)

    def to_html(self) -> str:
        """All maps as one picture, and the shown map's strongest weights as a table."""
        shown = f"layer {self.layer + 1}, head {self.head + 1}"
        told = "; ".join(
            f"{token} looks at {best[0][0]} ({best[0][1]:.2f})"
            for token, best in self.strongest(self.layer, self.head)
        )
        alt = f"Attention maps of {self.layers} layers with {self.heads} heads each. In {shown}: {told}."
        rows = "".join(
            f'<tr><th scope="row" style="text-align:right">{escape(token)}</th>'
            + "".join(f"<td>{escape(key)} {weight:.2f}</td>" for key, weight in best)
            + "</tr>"
            for token, best in self.strongest(self.layer, self.head)
        )
        width = min(STRONGEST, len(self.looked_at))
        caption = f"{escape(self.title)}{': ' if self.title else ''}what each token looks at most in {shown}"
        return (
            f"<div>{figure_tag(self._figure(), alt)}<table><caption>{caption}</caption>"
            f'<tr><th scope="col">token</th><th scope="col" colspan="{width}">looks at</th></tr>{rows}</table></div>'
        )

    def _figure(self) -> Figure:
        figure = Figure(figsize=(0.6 + 0.9 * self.heads, 0.4 + 0.9 * self.layers), layout="constrained")
        axes = figure.subplots(self.layers, self.heads, squeeze=False)
        for layer, row in enumerate(axes):
            for head, axis in enumerate(row):
                axis.imshow(np.sqrt(self.maps[layer, head]), cmap="Blues", vmin=0, vmax=1, aspect="auto")
                axis.set(xticks=[], yticks=[])
                if layer == 0:
                    axis.set_title(f"head {head + 1}", fontsize=8)
                if head == 0:
                    axis.set_ylabel(f"layer {layer + 1}", fontsize=8)
                if (layer, head) == (self.layer, self.head):
                    axis.spines[:].set(color="#D55E00", linewidth=2.5)
        return figure
