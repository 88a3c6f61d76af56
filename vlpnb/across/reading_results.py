"""The results across the systems: their questions, what a system cannot be asked and why, the page, and the reader."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlpnb.across.matchers import MATCHERS
from vlpnb.across.models import MODELS, TITLES, System
from vlpnb.downstream.comparison import Difference
from vlpnb.downstream.results import Score, read_kept, shown, table, with_interval

QUESTIONS: Mapping[str, str] = {
    "colour": "colour, in words",
    "shape": "shape, in words",
    "material": "material, in words",
    "size": "size, in words",
    "colour_states": "colour, in states",
    "shape_states": "shape, in states",
    "material_states": "material, in states",
    "seen_colour": "colour, beside pictures",
    "seen_shape": "shape, beside pictures",
    "seen_material": "material, beside pictures",
    "caption": "pictures found by captions",
    "picture": "captions found by pictures",
    "word": "pictures found by words",
    "answers": "questions about pictures",
    "xgqa": "questions (xGQA, English)",
    "written": "captions written (CIDEr)",
    "languages": "pictures found in four other languages",
}
MAIN = (
    "colour",
    "colour_states",
    "seen_colour",
    "caption",
    "word",
    "answers",
    "xgqa",
    "written",
    "languages",
)
"""Columns of the table of systems."""
OWN: Mapping[System, Mapping[str, str]] = {
    "vokenization": {"found": "vokenization", "other": "vokens"},
    "lxmert": {"found": "lxmert", "other": "lxmert"},
    "vlp": {"found": "vlp", "other": "vlp"},
    "valm": {"found": "valm", "other": "valm"},
    "cclm": {"found": "cclm", "other": "cclm"},
}
"""Which row answers for a system: of what is found in pictures, and of all else."""
FOUND = ("caption", "picture", "word")
NO_PICTURE = "no picture enters its language model"
ENGLISH = "read English alone"
WHY: Mapping[tuple[System, str], str] = {
    ("vokenization", "seen_colour"): NO_PICTURE,
    ("vokenization", "answers"): NO_PICTURE,
    ("vokenization", "xgqa"): NO_PICTURE,
    ("vokenization", "written"): NO_PICTURE,
    ("vokenization", "languages"): ENGLISH,
    ("lxmert", "xgqa"): "asked VQA's questions instead",
    ("lxmert", "written"): "every word sees the later ones; it fills gaps",
    ("lxmert", "languages"): ENGLISH,
    ("vlp", "xgqa"): "asked VQA's questions instead",
    ("vlp", "languages"): ENGLISH,
    ("valm", "answers"): "pictures come by search, none can be asked about",
    ("valm", "xgqa"): "pictures come by search, none can be asked about",
    ("valm", "written"): "pictures come by search, none is to be described",
    ("valm", "languages"): ENGLISH,
    ("cclm", "answers"): "asked xGQA's questions instead",
    ("cclm", "written"): "learnt no writing; its decoder ranks answers",
}
"""Why a system has no answer, by construction."""
UNSAID = "its text has no such word"


@dataclass(frozen=True)
class Results:
    """A finished stage `across.results`."""

    metrics: Mapping[str, float]
    rows: Mapping[str, Sequence[str]]
    """Question → who answers it."""
    seeds: Mapping[str, int]
    """`<question>.<row>` → seeds."""
    verdict: tuple[str, ...] = ()
    page: str = ""  # Markdown

    def score(self, question: str, row: str) -> Score:
        """A share with its interval."""
        return Score.read(self.metrics, f"{question}.{row}")

    def chance(self, question: str) -> float:
        """What somebody gets who knows nothing; NaN where nobody can say."""
        return self.metrics[f"{question}.{self.rows[question][0]}_chance"]

    @property
    def differences(self) -> dict[tuple[str, str, str], Difference]:
        """(question, row, other row) → the paired difference."""
        found = {}
        for name in self.metrics:
            if name.startswith("difference_") and name.endswith(".mean"):
                question, pair, _ = name.removeprefix("difference_").split(".")
                one, other = pair.split("_minus_")
                found[question, one, other] = Difference.read(self.metrics, name.removesuffix(".mean"))
        return found

    def cell(self, system: System, question: str) -> str:
        """A system's answer to a question as the table has it: the score, or why there is none."""
        row = OWN[system]["found" if question in FOUND else "other"]
        if row in self.rows.get(question, ()):
            return with_interval(self.metrics, f"{question}.{row}", 100)
        return f"— {WHY.get((system, question), UNSAID)}"


def read_results(folder: Path) -> Results:
    """The results in the folder of the finished stage."""
    kept = read_kept(Path(folder))
    return Results(kept.metrics, kept.content["rows"], kept.content["seeds"], kept.verdict, kept.page)


def title_of(question: str, row: str) -> str:
    """How a row of a question is called."""
    if row == "shuffled":
        return "its captions, each of another picture"
    if row == "no_parallel":
        return "CCLM without parallel text"
    return (MATCHERS if question in FOUND else MODELS)[row].title


def sentence(question: str, a: str, b: str, found: Mapping[str, float]) -> str:
    """What a difference shows, and no more than its interval allows."""
    points = f"{100 * found['mean']:+.1f} ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"
    what = QUESTIONS.get(question, question.replace("_", " "))
    one, other = title_of(question, a), title_of(question, b)
    if found["low"] > 0 or found["high"] < 0:
        return f"{what}: {one} {'above' if found['low'] > 0 else 'below'} {other}, {points}."
    return f"{what}: {one} and {other} cannot be told apart, {points}."


def results_page(
    metrics: Mapping[str, float],
    rows: Mapping[str, Sequence[str]],
    seeds: Mapping[str, int],
    sentences: Sequence[str],
    between: Sequence[str] = (),
) -> str:
    """The page `results.md`: the table of systems, each question with its controls, what the differences show.

    `between` are sentences on two systems, which differ in much at once: they come last, under a heading of their own.
    """
    results = Results(metrics, rows, seeds)
    columns = [question for question in MAIN if question in rows]
    lines = [
        "# Side by side",
        "",
        "Shares and CIDEr × 100, in brackets the 95 % interval over what was asked.",
        "",
    ]
    lines += table(
        ["", *(QUESTIONS[question] for question in columns)],
        [
            [title, *(results.cell(system, question) for question in columns)]
            for system, title in TITLES.items()
        ],
    )
    for question, known in rows.items():
        lines += ["", f"{QUESTIONS.get(question, question.replace('_', ' ')).capitalize()}:", ""]
        body = []
        for row in known:
            name = f"{question}.{row}"
            body.append([title_of(question, row), with_interval(metrics, name, 100), str(seeds[name])])
        chance = results.chance(question)
        body += [] if math.isnan(chance) else [["*chance*", f"{100 * chance:.1f}", ""]]
        lines += table(["", "score", "seeds"], body)
    last = ["", "## Between systems", "", *(f"* {line}" for line in between)] if between else []
    return "\n".join([*lines, *shown(sentences), *last, ""])
