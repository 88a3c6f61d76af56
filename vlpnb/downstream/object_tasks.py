"""The questions of VaLM's object commonsense, from published lists and from the visual world.

| task | list | asked |
|---|---|---|
| `memory_colour`, `colour_terms` | MemoryColor, ColorTerms | nine prompts; the colours that occur in the list |
| `relative_size`, `relative_size_choice` | RelativeSize | six prompts, both orders, yes or no; or which of two |
| `shape`, `vicomte_colour`, `vicomte_material` | ViComTe's test lists | its labels |
| `vicomte_larger`, `vicomte_smaller` | ViComTe's sizes | what a thing is larger (smaller) than, of two |
| `world_colour`, `world_shape`, `world_material`, `world_size` | stage `knowledge` | 10, 4, 5, 2 answers |

The world's text never states what is asked of these kinds: colours of the twenty kinds that have one in all pictures
(four prompts each, chance 0.10), their shape, material and order of size.

Differs from the release: size questions are asked in both orders, where every right answer of the release is yes
(VAL-31); a descriptor that a list has not leaves no placeholder (VAL-32). Both can be had as they were.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vlpnb.data.commonsense import KnownThing, read_colours, read_sizes, read_vicomte
from vlpnb.data.text_files import require
from vlpnb.downstream.asking import Question, Task, choice_task, label_task
from vlpnb.downstream.probes import read_probes
from vlpnb.downstream.prompting import PromptSet, load_prompts
from vlpnb.errors import UserError, did_you_mean
from vlpnb.world.languages.english import NOUNS

COLOURS = (
    "black",
    "blue",
    "brown",
    "gray",
    "green",
    "orange",
    "pink",
    "purple",
    "red",
    "silver",
    "white",
    "yellow",
)
SHAPES = (
    "cross", "heart", "octagon", "oval", "polygon", "rectangle", "rhombus", "round", "semicircle", "square", "star",
    "triangle",
)  # fmt: skip
MATERIALS = (
    "bronze", "ceramic", "cloth", "concrete", "cotton", "denim", "glass", "gold", "iron", "jade", "leather", "metal",
    "paper", "plastic", "rubber", "stone", "tin", "wood",
)  # fmt: skip
PLACE_OF_DESCRIPTOR = "[DESCRIPTOR]"  # what the release leaves in prompts of lists without descriptors

# task: (prompts, file below the folder of lists)
LISTS: dict[str, tuple[str, str]] = {
    "memory_colour": ("colour", "valm/memory_color_data.csv"),
    "colour_terms": ("colour", "valm/color-concrete-objects.csv"),
    "relative_size": ("size", "valm/sizePairsFull.txt"),
    "relative_size_choice": ("size_choice", "valm/sizePairsFull.txt"),
    "shape": ("shape", "vicomte/db/shape/test.jsonl"),
    "vicomte_colour": ("colour", "vicomte/db/color/test.jsonl"),
    "vicomte_material": ("material", "vicomte/db/material/test.jsonl"),
    "vicomte_larger": ("larger", "vicomte/db/size_larger/test.jsonl"),
    "vicomte_smaller": ("smaller", "vicomte/db/size_smaller/test.jsonl"),
    "world_colour": ("world_colour", "colour.jsonl"),
    "world_shape": ("world_shape", "shape.jsonl"),
    "world_material": ("world_material", "material.jsonl"),
    "world_size": ("world_size", "size.jsonl"),
}
VICOMTE_LABELS = {"shape": SHAPES, "vicomte_colour": COLOURS, "vicomte_material": MATERIALS}


def load_task(
    name: str,
    folder: Path,
    *,
    prompts: str = "",
    file: str = "",
    placeholder_left: bool = False,
    one_order: bool = False,
) -> Task:
    """The questions of one task.

    Args:
        folder: of the lists.
        prompts: a name or file in place of the task's own (`prompting.load_prompts`).
        file: the list's place below the folder, where it is another.
        placeholder_left: colours of things without descriptors are asked as the release does (VAL-32).
        one_order: sizes are asked bigger first alone, in the release's four prompts unless others are named (VAL-31).
    Raises:
        UserError: an unknown task, a list that is missing or damaged, prompts that do not fit.
    """
    if name not in LISTS:
        raise UserError(f"there is no task '{name}'{did_you_mean(name, LISTS)}.")
    usual, place = LISTS[name]
    if one_order and name == "relative_size":
        usual = "size_original"
    asked = load_prompts(prompts or usual)
    path = require(Path(folder) / (file or place), f"the list of the task '{name}'")
    if name.startswith("world_"):
        return _world(name, asked, path, folder)
    if name.startswith("relative_size"):
        return _sizes(name, asked, path, one_order)
    if name in ("vicomte_larger", "vicomte_smaller"):
        return _vicomte_sizes(name, asked, path)
    things = read_vicomte(path) if name in VICOMTE_LABELS else read_colours(path)
    left = PLACE_OF_DESCRIPTOR if placeholder_left and not any(t.descriptor for t in things) else ""
    return label_task(name, asked, [_described(t, left) for t in things], VICOMTE_LABELS.get(name, ()))


def _described(thing: KnownThing, placeholder: str) -> dict[str, str]:
    item = f"{thing.descriptor} {thing.thing}".strip()
    return {"d": thing.descriptor or placeholder, "x": thing.thing, "item": item, "answer": thing.answer}


def _sizes(name: str, asked: PromptSet, path: Path, one_order: bool) -> Task:
    """Yes is right where the bigger thing comes first; of two names, the bigger one's."""
    pairs = read_sizes(path)
    bigger = [{"a": p.bigger, "b": p.smaller, "right": "0", "order": "bigger_first"} for p in pairs]
    smaller = [{"a": p.smaller, "b": p.bigger, "right": "1", "order": "smaller_first"} for p in pairs]
    orders = [bigger] if one_order else [bigger, smaller]
    made = [choice_task(name, asked, [_of_pair(item) for item in order]) for order in orders]
    return Task(name, tuple(question for task in made for question in task.questions), asked)


def _of_pair(item: Mapping[str, str]) -> dict[str, str]:
    both = sorted((item["a"], item["b"]))
    return {**item, "item": " ".join(both), "things": "\n".join(both)}


def _vicomte_sizes(name: str, asked: PromptSet, path: Path) -> Task:
    items = []
    for number, thing in enumerate(read_vicomte(path)):
        both = (thing.answer, thing.unlikely)[:: -1 if number % 2 else 1]  # no place is right more often
        about = {"x": thing.thing, "y": both[0], "z": both[1], "item": thing.thing}
        items.append({**about, "right": str(number % 2)})
    return choice_task(name, asked, items)


def _world(name: str, asked: PromptSet, path: Path, folder: Path) -> Task:
    """A kind's attribute; the list gives kinds, answers and candidates, its own prompts are left alone."""
    found: dict[tuple[str, str], dict] = {}
    for item in read_probes(folder)[path.stem]:
        found.setdefault((item["kind"], item.get("other", "")), item)
    unknown = sorted({kind for pair in found for kind in pair if kind} - NOUNS.keys())
    if unknown:
        raise UserError(
            f"{path}: {unknown[0]!r} is no kind of the visual world; expected the world's own list."
        )
    items = []
    for (kind, other), item in found.items():
        one, many = NOUNS[kind][0]
        about = {"one": one, "many": many, "item": kind, "answer": item["answer"]}
        if other:
            about |= {"other": NOUNS[other][0][0], "right": str(item["candidates"].index(item["answer"]))}
            about["order"] = f"{item['answer']}_first"
            about["things"] = f"{kind}\n{other}"
        items.append(about)
    if asked.answers:
        return choice_task(name, asked, items)
    return label_task(name, asked, items, next(iter(found.values()))["candidates"])


def with_pictures(task: Task, showing: Callable[[Question], Sequence[str]]) -> Task:
    """A task that knows which pictures show what its questions are about; where there are none, none are shown."""
    found = {q.about: tuple(showing(q)) for q in {q.about: q for q in task.questions}.values()}
    return Task(task.name, task.questions, task.prompts, found)
