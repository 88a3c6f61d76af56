"""Tokens with their best pictures: checked input, what is synced to a view, and the static table.

Shared by the voken explorer and the retrieval explorer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vlpnb.errors import UserError
from vlpnb.widgets.base import Indexed, at, escape, host, picture_uri

FALLBACK_PICTURES = 3  # pictures a row of the static table; the live view shows all K


def voken_lists(tokens: Sequence[str], voken_ids: Any, scores: Any) -> list[list[dict]]:
    """For each of T tokens its pictures `{"id", "score"}`, best first; an id of −1 is left out.

    Raises:
        UserError: `voken_ids` and `scores` are not both (T, K).
    """
    voken_ids, scores = host(voken_ids), host(scores)
    if voken_ids.ndim != 2 or voken_ids.shape != scores.shape or len(tokens) != len(voken_ids):
        raise UserError(
            f"tokens ({len(tokens)}), voken_ids {voken_ids.shape} and scores {scores.shape} must share T and K"
        )
    return [
        [{"id": str(int(v)), "score": round(float(s), 4)} for v, s in zip(ids, row, strict=True) if v >= 0]
        for ids, row in zip(voken_ids, scores, strict=True)
    ]


def shown_picture(pictures: Indexed, names: Indexed | None, voken: int, size: int) -> dict[str, str]:
    """`{"src": data URI, "alt": text}` of one voken; UserError if it has no picture or name."""
    try:
        alt = str(at(names, voken)) if names is not None else f"picture {voken}"
        return {"src": picture_uri(at(pictures, voken), size), "alt": alt}
    except (KeyError, IndexError) as error:
        raise UserError(f"a voken id has no picture or name: {error}") from error


def used_ids(*lists: Sequence[Sequence[Mapping]]) -> list[int]:
    """All ids that occur, ascending."""
    return sorted({int(v["id"]) for rows in lists for row in rows for v in row})


def first_with_voken(rows: Sequence[Sequence[Mapping]]) -> int:
    """Index of the first token that has a picture."""
    return next((i for i, row in enumerate(rows) if row), 0)


Column = tuple[str, Sequence[Sequence[Mapping]]]
"""Name of a model, and its list of pictures for every token."""


def table_text(title: str, tokens: Sequence[str], columns: Sequence[Column], pictures: Mapping) -> str:
    """One line a token and model: the best pictures' names and scores."""
    lines = [title] if title else []
    for i, token in enumerate(tokens):
        for name, rows in columns:
            best = ", ".join(
                f"{pictures[v['id']]['alt']} ({v['score']:.2f})" for v in rows[i][:FALLBACK_PICTURES]
            )
            model = f"{name}: " if len(columns) > 1 else ""
            lines.append(f"{token:>14}  {model}{best or '–'}")
    return "\n".join(lines)


def table_html(
    title: str,
    tokens: Sequence[str],
    columns: Sequence[Column],
    pictures: Mapping,
    noun: str = "voken",
    first: str = "token",
) -> str:
    """A table that needs neither scripts nor styles: a row a token, the best pictures of every model.

    Args:
        noun: what a picture of a token is called.
        first: what a row is.
    """
    wide = [max(1, min(FALLBACK_PICTURES, max(map(len, rows), default=1))) for _, rows in columns]
    body = []
    for i, token in enumerate(tokens):
        cells = ""
        for (_, rows), width in zip(columns, wide, strict=True):
            best = rows[i][:width]
            cells += "".join(
                f'<td style="text-align:center"><img src="{pictures[v["id"]]["src"]}" width="72" '
                f'alt="{escape(pictures[v["id"]]["alt"])}"><br>{v["score"]:.2f}</td>'
                for v in best
            ) + "<td></td>" * (width - len(best))
        if any(rows[i] for _, rows in columns):
            body.append(f'<tr><th scope="row" style="text-align:right">{escape(token)}</th>{cells}</tr>')
    heads = "".join(
        f'<th scope="col">{escape(f"{name}: " if len(columns) > 1 else "")}{noun} {k + 1}</th>'
        for (name, _), width in zip(columns, wide, strict=True)
        for k in range(width)
    )
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    return f'<table>{caption}<tr><th scope="col">{first}</th>{heads}</tr>{"".join(body)}</table>'
