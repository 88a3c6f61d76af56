"""Stage `across.words`: what one model knows of the looks of things that its text never states, whichever system it is.

Not in the five papers; the questions are those of `downstream.probes`, after Norlund et al. 2021 and Zhang et al. 2022.
Every model is asked the same items, so that two of them can be compared answer by answer:

* **in words**: which candidate is likeliest in "the banana is [MASK] ."; calibrated, as a model that likes one word
  everywhere knows nothing. Models of masked words are asked so; VaLM, which knows the next word alone, is asked for
  what follows "the banana is".
* **in states**: is the attribute written in the state of the word "banana"? A linear classifier is trained on one half
  of the kinds and tested on the other. It needs no word for the answer.

With `setting: pictures` a model reads beside pictures that show the thing: what it can tell where it sees, beside what
it remembers. Comparisons of two things are not asked then, and no states are read. `words.json` holds every answer
(`open_words`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from vlpnb.across.models import MODELS, ModelName
from vlpnb.across.readers import Reader, open_reader
from vlpnb.config import Config, Name, Seed
from vlpnb.data.description import SPLITS, load_captions, load_folder
from vlpnb.downstream.commonsense import pictures_by_kind
from vlpnb.downstream.probes import probed_kinds, read_probes
from vlpnb.errors import UserError
from vlpnb.files import read_back, write_json
from vlpnb.stage import Request, Stage, StageContext

FILE = "words.json"
Setting = Literal["words", "pictures"]


class WordsConfig(Config):
    """Which model is asked, and how."""

    model: ModelName = "vokens"
    """A key of `across.MODELS`."""
    trained_with: Seed | None = None
    """Seed of its pre-training; none: the run's own."""
    setting: Setting = "words"
    """Asked in words alone, or beside pictures that show the thing."""
    splits: int = Field(50, ge=1)
    """Random halves of the kinds for the linear classifier."""
    shown: tuple[Name, ...] = ("train",)
    """With "pictures": splits or sets of the stage `captions` among whose pictures some show the thing."""
    shown_at_most: int = Field(4, ge=1)
    """With "pictures": pictures of a thing, those that show least else first."""


def inputs(config: WordsConfig) -> Mapping[str, Request]:
    """The model, the lists, and for pictures the captions and the regions of those that read regions."""
    model = MODELS[config.model]
    found = {"model": model.request(config.trained_with), "knowledge": Request("knowledge")}
    if config.setting == "pictures":
        found["captions"] = Request("captions", {"sets": None} if {*config.shown} <= {*SPLITS} else {})
        if model.system in ("lxmert", "vlp"):
            found["regions"] = Request("regions")
    return found


@dataclass(frozen=True)
class Asked:
    """What a model said to the items of one attribute, in their order."""

    kinds: tuple[str, ...]
    """What each item is about."""
    raw: tuple[bool, ...]
    """Whether the likeliest candidate was right …"""
    calibrated: tuple[bool, ...]
    """… and so after what each candidate gets anyway was taken off."""
    chance: float
    majority: float
    """Share of the most frequent answer."""
    whole: float
    """Share of the candidates that are one word piece of the model; 0: its text had none of these words."""
    linear: Mapping[str, float]
    """Kind → how often it was read off the states, of those that were tested; empty for comparisons and beside
    pictures."""
    linear_chance: float
    """The most frequent answer among the kinds that can be tested."""


def ask(
    reader: Reader, items: Sequence[dict], splits: int, shown: Mapping[str, Sequence[str]] | None
) -> Asked:
    """Ask for one attribute. `shown`: kind → pictures to show; kinds without one are left out."""
    if shown is None:
        scores, vectors = reader.scores(items), _vectors(reader, items)
    else:
        items = [item for item in items if shown.get(item["kind"])]
        scores, vectors = np.full((len(items), max(len(item["candidates"]) for item in items)), np.nan), {}
        for kind in dict.fromkeys(item["kind"] for item in items):
            rows = [i for i, item in enumerate(items) if item["kind"] == kind]
            scores[rows] = reader.beside(shown[kind]).scores([items[i] for i in rows])
    answers = Counter(item["answer"] for item in items)
    candidates = dict.fromkeys(word for item in items for word in item["candidates"])
    labels = {item["kind"]: item["answer"] for item in items}
    tested = probed_kinds(vectors, labels, splits) if vectors else {}
    of = [count for count in Counter(labels[kind] for kind in vectors).values() if count > 1]
    return Asked(
        tuple(item["kind"] for item in items),
        _right(items, scores),
        _right(items, scores - np.nanmean(scores, axis=0)),
        float(np.mean([1 / len(item["candidates"]) for item in items])),
        max(answers.values()) / len(items),
        float(np.mean([reader.pieces(word) == 1 for word in candidates])),
        {kind: float(np.mean(hits)) for kind, hits in tested.items()},
        max(of) / sum(of) if tested else float("nan"),
    )


def _vectors(reader: Reader, items: Sequence[dict]) -> dict[str, Float[np.ndarray, " D"]]:
    """States of the kinds' words; none for comparisons, which are no property of one kind."""
    return {} if any("other" in item for item in items) else reader.vectors(items)


def _right(items: Sequence[dict], scores: Float[np.ndarray, "P A"]) -> tuple[bool, ...]:
    best = np.nanargmax(scores, axis=1).tolist()
    return tuple(item["candidates"][j] == item["answer"] for item, j in zip(items, best, strict=True))


def run(context: StageContext) -> dict[str, float]:
    """Ask; writes `words.json`.

    Metrics, fractions of one, of each attribute: `<attribute>` (raw), `_calibrated`, `_chance`, `_majority`, `_whole`
    (`Asked.whole`), and where states are read `_linear` and `_linear_chance`.
    """
    config: WordsConfig = context.config
    lists = read_probes(load_folder(context.inputs["knowledge"], "knowledge").folder)
    system = MODELS[config.model].system
    reader = open_reader(system, context.inputs["model"], context.inputs.get("regions"), context.device)
    shown = None
    if config.setting == "pictures":
        shown = _showing(context)
        lists = {name: items for name, items in lists.items() if not any("other" in item for item in items)}
    found = {}
    for done, (attribute, items) in enumerate(lists.items(), 1):
        found[attribute] = ask(reader, items, config.splits, shown)
        context.progress(done, len(lists))
    write_json(context.folder / FILE, {name: asdict(each) for name, each in found.items()})
    metrics = {}
    for name, each in found.items():
        values = {"": np.mean(each.raw), "_calibrated": np.mean(each.calibrated), "_chance": each.chance,
                  "_majority": each.majority, "_whole": each.whole}  # fmt: skip
        if each.linear:
            values |= {"_linear": np.mean([*each.linear.values()]), "_linear_chance": each.linear_chance}
        metrics |= {f"{name}{end}": float(value) for end, value in values.items()}
    context.log(
        f"{MODELS[config.model].title}: "
        + ", ".join(f"{name} {metrics[f'{name}_calibrated']:.3f}" for name in found)
    )
    return metrics


def _showing(context: StageContext) -> dict[str, list[str]]:
    """Kind → pictures that show it. UserError where nobody knows what pictures show."""
    captions = load_captions(context.inputs["captions"])
    if captions.scenes is None:
        raise UserError(
            "across.words.setting: 'pictures' needs pictures of which it is known what they show; expected those of "
            "the visual world. Ask in words alone"
        )
    config: WordsConfig = context.config
    found = pictures_by_kind(captions, config.shown)
    return {kind: names[: config.shown_at_most] for kind, names in found.items()}


def open_words(folder: Path) -> dict[str, Asked]:
    """Attribute → what a model said, of a finished stage `across.words`."""
    content = read_back(Path(folder) / FILE)
    return {
        name: Asked(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in each.items()}
        )
        for name, each in content.items()
    }


WORDS = Stage(
    "across.words", WordsConfig, run, inputs, variant=("model", "setting", "trained_with"),
    doc="Ask a model of any system how things look that its text never describes.",
)  # fmt: skip
