"""Caption stepper: a beam search word by word, with the regions that each word looked at, drawn on the picture.

Lanes are beams, columns are steps. A cell is a word with its log-probability and the total so far, and an edge leads to
it from the beam that it continues. Beside the picture stand the likeliest words that may follow the chosen beam, with
those that a minimum length or the rule against repetitions had blocked. Several settings of one picture's search lie
beside or below each other. All of it comes from the search's own trace (`vlpnb.nn.beam`), and the attention from the
passes in which the words were chosen (VLP, Zhou et al. 2020).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
from PIL import Image

from vlpnb.errors import UserError
from vlpnb.nn.beam import BeamStep, BeamTrace, Continuation
from vlpnb.widgets.base import View, escape, host, module, picture_uri, style
from vlpnb.widgets.regions import SIDE, checked_boxes, with_boxes

STRONGEST = 3  # regions that a row of the static tables lists
PIECE = "##"
REASONS = {"ended": "has ended", "minimum": "too short to end", "repeated": "repeats itself", "": ""}


class CaptionStepper(View):
    """One picture, and one search or several of its caption.

    Args:
        picture: a PIL image, or (H, W, 3) in bytes.
        boxes: (R, 4) left, top, right, bottom, relative to the picture, in [0, 1].
        searches: setting → what its search saw.
        spell: a word's id → the word piece.
        attention: setting → (T, K, R), where the [MASK] looked that each beam's word of each step took the place of;
            settings that are not there are shown without.
        names: what each region is said to show; None: their numbers only.
        title: one line above.

    Raises:
        UserError: there is no search or no step, a shape disagrees with another, or attention is no probability.
    """

    _esm = module("regions", "caption_stepper")
    _css = style("vokens", "regions", "caption_stepper")

    title = traitlets.Unicode("").tag(sync=True)
    picture = traitlets.Dict().tag(sync=True)  # {"src": data URI, "alt": text, "ratio": width / height}
    boxes = traitlets.List().tag(sync=True)
    labels = traitlets.List(trait=traitlets.Unicode()).tag(sync=True)
    searches = traitlets.List().tag(sync=True)
    attention = traitlets.Bytes().tag(sync=True)  # float32, little-endian, (T, K, R) of each search in turn
    search = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    beam = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        picture: Any,
        boxes: Any,
        searches: Mapping[str, BeamTrace],
        spell: Callable[[int], str],
        attention: Mapping[str, Any] | None = None,
        names: Sequence[str] | None = None,
        title: str = "",
    ):
        self.image = picture if isinstance(picture, Image.Image) else Image.fromarray(host(picture))
        corners = checked_boxes(host(boxes))
        if names is not None and len(names) != len(corners):
            raise UserError(f"{len(names)} names of {len(corners)} regions; expected one a region")
        if not searches:
            raise UserError("searches is empty; expected at least one setting with its search")
        if unknown := set(attention or ()) - set(searches):
            raise UserError(f"attention of {sorted(unknown)}; expected settings of {list(searches)}")
        self.traces, self.spell = dict(searches), spell
        self.maps = {
            label: _checked(label, trace, (attention or {}).get(label), len(corners))
            for label, trace in self.traces.items()
        }
        first = next(iter(self.traces.values()))
        labels = [f"{i + 1}{f': {names[i]}' if names is not None else ''}" for i in range(len(corners))]
        about = f"Picture with {len(corners)} regions"
        super().__init__(
            title=title,
            picture={
                "src": picture_uri(self.image, SIDE),
                "alt": f"{about}: {', '.join(labels)}" if names is not None else about,
                "ratio": self.image.width / self.image.height,
            },
            boxes=corners.tolist(),
            labels=labels,
            searches=[self._sent(label, trace) for label, trace in self.traces.items()],
            attention=b"".join(one.tobytes() for one in self.maps.values()),
            beam=path(first, *first.texts[0].place)[0][1],
        )

    def text(self, trace: BeamTrace, step: int, beam: int) -> str:
        """The caption up to a cell, word pieces joined, without its end."""
        cells = path(trace, step, beam)
        pieces = [self.spell(trace.steps[t].words[k]) for t, k in cells if not trace.steps[t].ended[k]]
        return " ".join(pieces).replace(f" {PIECE}", "")

    def looked(self, label: str, step: int, beam: int) -> str:
        """The regions that a word looked at most, in words; empty without attention."""
        if not self.maps[label].size:
            return ""
        weights = self.maps[label][step, beam]
        best = np.argsort(-weights, kind="stable")[:STRONGEST]
        return ", ".join(f"{self.labels[r]} {weights[r]:.2f}" for r in best)

    def to_text(self) -> str:
        """The captions of every setting with their scores, the chosen one first and marked."""
        lines = [self.title] if self.title else []
        for label, trace in self.traces.items():
            lines.append(f"{label}:")
            for mark, one in zip(["→", *" " * len(trace.texts)], trace.texts, strict=False):
                lines.append(f"  {mark} {one.score:8.2f}  {self.text(trace, *one.place)}")
        return "\n".join(lines)

    def to_html(self) -> str:
        """The picture; for every setting the captions, the words of the chosen one, and a table a step."""
        drawn = picture_uri(with_boxes(self.image, self.boxes), SIDE)
        head = f"<p>{escape(self.title)}</p>" if self.title else ""
        parts = [f'{head}<img src="{drawn}" width="360" alt="{escape(self.picture["alt"])}">']
        for label, trace in self.traces.items():
            parts += [f"<p>{escape(label)}</p>", self._ranking(trace), self._chosen(label, trace)]
            parts += [self._step_table(trace.steps[t], t) for t in range(len(trace.steps))]
        return f"<div>{''.join(parts)}</div>"

    def _ranking(self, trace: BeamTrace) -> str:
        rows = [
            ["" if i else "chosen", f"{one.score:.2f}", self.text(trace, *one.place)]
            for i, one in enumerate(trace.texts)
        ]
        bonus = f", with {trace.length_bonus:+g} for each word" if trace.length_bonus else ""
        return _table(f"captions with their totals{bonus}", ["", "total", "caption"], rows)

    def _chosen(self, label: str, trace: BeamTrace) -> str:
        rows = [
            [
                self.spell(trace.steps[t].words[k]),
                f"{_chose(trace, t, k).log_prob:.2f}",
                self.looked(label, t, k),
            ]
            for t, k in path(trace, *trace.texts[0].place)
        ]
        columns = 3 if self.maps[label].size else 2
        heads = ["word", "log-probability", "looks at"][:columns]
        return _table("words of the chosen caption", heads, [row[:columns] for row in rows])

    def _step_table(self, step: BeamStep, number: int) -> str:
        rows = []
        for k, word in enumerate(step.words):
            parent = step.parents[k]
            others = [
                f"{self.spell(one.word)} {one.log_prob:.2f}"
                + (f" ({REASONS[one.blocked]})" if one.blocked else "")
                for one in step.continuations[parent]
            ]
            source = str(parent + 1) if number else "–"
            rows.append([str(k + 1), self.spell(word), f"{step.totals[k]:.2f}", source, ", ".join(others)])
        heads = ["beam", "word", "total", "continues", "likeliest words of the beam that it continues"]
        return f"<details><summary>step {number + 1}</summary>{_table('', heads, rows)}</details>"

    def _sent(self, label: str, trace: BeamTrace) -> dict[str, Any]:
        """A search as its view reads it."""
        scores = {one.place: one.score for one in trace.texts}
        steps = [
            [
                {
                    "word": self.spell(word),
                    "logProb": round(_chose(trace, t, k).log_prob, 3),
                    "total": round(step.totals[k], 3),
                    "parent": step.parents[k],
                    "ended": step.ended[k],
                    "score": round(scores.get((t, k), step.totals[k] + trace.length_bonus * (t + 1)), 3),
                    "text": self.text(trace, t, k),
                }
                for k, word in enumerate(step.words)
            ]
            for t, step in enumerate(trace.steps)
        ]
        following = [
            [
                [[self.spell(o.word), round(o.log_prob, 3), REASONS[o.blocked], o.kept] for o in options]
                for options in step.continuations
            ]
            for step in trace.steps
        ]
        ranked = [[round(one.score, 3), self.text(trace, *one.place), list(one.place)] for one in trace.texts]
        return {
            "label": label,
            "bonus": trace.length_bonus,
            "steps": steps,
            "next": following,
            "ranked": ranked,
            "maps": bool(self.maps[label].size),
        }


def path(trace: BeamTrace, step: int, beam: int) -> list[tuple[int, int]]:
    """The cells (step, beam) of a text, from its first word to the one given."""
    cells = []
    for t in range(step, -1, -1):
        cells.append((t, beam))
        beam = trace.steps[t].parents[beam]
    return cells[::-1]


def _chose(trace: BeamTrace, step: int, beam: int) -> Continuation:
    """The continuation that a beam is."""
    one = trace.steps[step]
    return next(o for o in one.continuations[one.parents[beam]] if o.word == one.words[beam])


def _checked(label: str, trace: BeamTrace, attention: Any, regions: int) -> np.ndarray:
    """The attention as (T, K, R) float32, empty where there is none."""
    if not trace.steps or not trace.texts:
        raise UserError(f"{label}: the search has no step; expected at least one word")
    if attention is None:
        return np.zeros((0,), "<f4")
    maps = host(attention).astype("<f4")
    shape = (len(trace.steps), len(trace.steps[0].words), regions)
    if maps.shape != shape:
        raise UserError(f"{label}: attention has shape {maps.shape}; expected (T, K, R) = {shape}")
    if (maps < 0).any() or (maps.sum(-1) > 1 + 1e-2).any():
        raise UserError(f"{label}: attention is no probability: a row may sum to 1 at most")
    return maps


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first cell of each row is its heading."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{above}<tr>{top}</tr>{body}</table>"
