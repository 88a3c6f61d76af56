"""Stage `across.results`: the same questions to five systems, in one table with seeds, intervals and controls.

Not in the five papers. Rows are models (`models.MODELS`) and matchers (`matchers.MATCHERS`), columns are questions:

| question | asked by | a value for each |
|---|---|---|
| `colour`, `shape`, `material`, `size` | `across.words`, calibrated | item; drawn by kind |
| `colour_states`, … | `across.words`, linear classifier | kind |
| `seen_colour`, … | `across.words` beside pictures of the thing | item; drawn by kind |
| `caption`, `picture`, `word` | `across.pictures` | picture, picture, kind |
| `answers` | `lxmert.vqa`, `vlp.vqa`, the same questions | question; drawn by picture |
| `xgqa` | `cclm.xgqa`, other questions | question; drawn by picture |
| `written` | `vlp.captioning`, CIDEr | picture |
| `languages` | `cclm.retrieval`, recall at 10 in all languages but English | sentence; drawn by picture |

Intervals are drawn over what each value is about, values being averaged over seeds first; differences are paired and
are claimed only where their interval leaves out 0. With `seeds` every model is trained with each of them; else there is
one of most, whose luck no interval shows.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from vlpnb.across.answers import (
    Said,
    captions_of,
    found_of,
    joined,
    languages_asked,
    questions_of,
    translations_of,
    words_of,
)
from vlpnb.across.matchers import MATCHERS, MatcherName
from vlpnb.across.models import MODELS, ModelName
from vlpnb.across.reading_results import FOUND, results_page, sentence
from vlpnb.config import Config, Seed
from vlpnb.downstream.results import difference, folders_by_row, named, shares
from vlpnb.files import write_json, write_text
from vlpnb.foundations.captions import splits_only
from vlpnb.stage import Request, Stage, StageContext

SEEN: tuple[ModelName, ...] = ("lxmert", "vlp", "valm", "cclm")


class AcrossResultsConfig(Config):
    """What is asked of whom."""

    models: tuple[ModelName, ...] = tuple(MODELS)
    """Models that are asked for words; a model whose control is not among them is compared with none."""
    matchers: tuple[MatcherName, ...] = tuple(MATCHERS)
    """Matchers that look for pictures."""
    seen: bool = True
    """Also ask for words beside pictures that show the thing; only in the visual world."""
    further: bool = True
    """Also what the systems' own fine-tunings made of questions, captions and languages."""
    seeds: tuple[Seed, ...] = ()
    """Every model is pre-trained with each of them; empty: once, with the run's own."""


def _words_requests(config: AcrossResultsConfig, seed: int | None) -> dict[str, Request]:
    found = {f"words.{name}": Request("across.words", {"model": name}) for name in config.models}
    if config.seen:
        seen = [name for name in SEEN if name in config.models]
        found |= {
            f"seen.{name}": Request("across.words", {"model": name, "setting": "pictures"}) for name in seen
        }
    found |= {f"found.{name}": Request("across.pictures", {"matcher": name}) for name in config.matchers}
    if seed is not None:
        found = {
            key: Request(one.stage, {**one.overrides, "trained_with": seed}) for key, one in found.items()
        }
    return found


def _further_requests(seed: int | None) -> dict[str, Request]:
    """Fine-tunings: with seeds one of each pre-training, else the run's own seeds."""
    each = {} if seed is None else {"seed": seed, "seeds": (seed,)}
    return {
        "answers.lxmert": Request("lxmert.vqa", each),
        "answers.vlp": Request("vlp.vqa", each),
        "xgqa.cclm": Request("cclm.xgqa", each),
        "written.vlp": Request("vlp.captioning", each),
        "languages.cclm": Request("cclm.retrieval", {**each, "start": "all"}),
        "languages.no_parallel": Request("cclm.retrieval", {**each, "start": "no_parallel"}),
    }


def inputs(config: AcrossResultsConfig) -> Mapping[str, Request]:
    """Every model and matcher with every seed, and what the systems' fine-tunings said."""
    found = {}
    for seed in config.seeds or (None,):
        asked = _words_requests(config, seed) | (_further_requests(seed) if config.further else {})
        found |= {key if seed is None else f"{key}.{seed}": request for key, request in asked.items()}
    if config.further:
        found |= {"questions": Request("questions"), "captions": splits_only}
    return found


def gathered(folders: Mapping[str, Path]) -> dict[tuple[str, str], Said]:
    """(question, row) → what was said, of the inputs of this stage."""
    seeds: dict[tuple[str, str], list[Said]] = {}
    for kind, rows in folders_by_row(folders).items():
        for row, each in rows.items():
            for folder in each:
                for question, said in _said(kind, row, folder, folders).items():
                    seeds.setdefault(question, []).append(said)
    return {key: joined(each) for key, each in seeds.items()}


def _said(kind: str, row: str, folder: Path, folders: Mapping[str, Path]) -> dict[tuple[str, str], Said]:
    if kind in ("words", "seen"):
        return {(question, row): said for question, said in words_of(folder, kind == "seen").items()}
    if kind == "found":
        return {(question, row): said for question, said in found_of(folder).items()}
    if kind == "answers":
        return {("answers", row): questions_of(folder, folders["questions"])}
    if kind == "xgqa":
        return {("xgqa", row): languages_asked(folder)}
    if kind == "written":
        said = captions_of(folder, folders["captions"])
        return {("written", row): said["caption"], ("written", "shuffled"): said["shuffled"]}
    others = translations_of(folder).get("others")
    return {} if others is None else {("languages", row): others}


def comparisons(rows: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of rows that a question is answered by: each with its control, then the systems' own among each other."""
    own = [row for row in rows if row not in MODELS or MODELS[row].control is not None]
    own = [row for row in own if row not in ("shuffled", "no_parallel")]
    controls = {name: model.control for name, model in MODELS.items() if model.control is not None}
    against = [(row, controls[row]) for row in own if controls.get(row) in rows]
    against += [(row, other) for other in ("shuffled", "no_parallel") if other in rows for row in own]
    return against + list(combinations(own, 2))


def run(context: StageContext) -> dict[str, float]:
    """Collect, average, compare; writes `results.json` and `results.md`.

    Metrics: `<question>.<row>` with `_low`, `_high` (95 %), `_std` (over seeds) and `_chance`;
    `difference_<question>.<row>_minus_<row>.{mean,low,high}`.
    """
    said = gathered(context.inputs)
    rows: dict[str, list[str]] = {}
    metrics: dict[str, float] = {}
    for (question, row), one in said.items():
        rows.setdefault(question, []).append(row)
        values = shares(one.judged) | {"_chance": one.chance}
        metrics |= {f"{question}.{row}{end}": value for end, value in values.items()}
    sentences, between = [], []
    for question, known in rows.items():
        for a, b in comparisons(known):
            one, other = said[question, a], said[question, b]
            if one.groups == other.groups:
                found = difference([(one.judged, other.judged)])
                metrics |= named(f"difference_{question}.{a}_minus_{b}", found)
                told = between if _of_two_systems(question, a, b) else sentences
                told.append(sentence(question, a, b, found))
    seeds = {f"{question}.{row}": one.seeds for (question, row), one in said.items()}
    write_text(context.folder / "results.md", results_page(metrics, rows, seeds, sentences, between))
    content = {"metrics": metrics, "verdict": [*sentences, *between], "rows": rows, "seeds": seeds}
    write_json(context.folder / "results.json", content)
    context.log(
        f"{len(said)} scores, {len(sentences) + len(between)} paired differences (results.md)"
    )  # too many to log each
    return metrics


def _of_two_systems(question: str, a: str, b: str) -> bool:
    """Whether two rows of a question are two systems; a row that no system has by itself is a control."""
    known = MATCHERS if question in FOUND else MODELS
    return a in known and b in known and known[a].system != known[b].system


RESULTS = Stage(
    name="across.results",
    config=AcrossResultsConfig,
    run=run,
    inputs=inputs,
    doc="The same questions to all five systems, side by side.",
)
