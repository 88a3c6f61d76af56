"""The visual world's ontology and its scenes: what exists, what it looks like, and one scene per index.

A *kind* (banana, car, …) belongs to a category and has a shape, a material, a real-world size rank and either
a canonical colour or none. A *scene* is a setting and one to four things. `make_scene` is a pure function of
(seed, split, index): the same in every process and on every machine.

The ontology is balanced so that visual knowledge cannot be guessed from the form of a question: ten colours
are canonical for two kinds each, four shapes describe six kinds each, five materials four kinds each, and no
category decides any of the three. Pictures always show the canonical attributes; the text corpus never states
them (Paik et al., 2021, "The World of an Octopus", describe this reporting bias in real text).
"""

import hashlib
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, get_args

from vlpnb.errors import UserError

RGB = tuple[int, int, int]
Split = Literal["train", "valid", "test", "universe"]
Relation = Literal["left of", "right of", "above", "below"]

# Far apart in hue or lightness, so that shading and antialiasing do not turn one into another.
COLOURS: dict[str, RGB] = {
    "red": (214, 32, 38),
    "orange": (255, 138, 20),
    "yellow": (252, 218, 36),
    "green": (46, 150, 62),
    "blue": (36, 96, 214),
    "purple": (126, 52, 168),
    "pink": (250, 150, 190),
    "brown": (124, 72, 36),
    "black": (38, 38, 44),
    "white": (246, 246, 244),
    "gray": (142, 146, 150),
}
PATTERNS = ("plain", "striped", "dotted", "checked")
SIZES = ("small", "big")
SETTINGS = ("field", "room", "night", "beach")
SHAPES = ("round", "long", "square", "pointed")
MATERIALS = ("wood", "metal", "stone", "cloth", "glass")
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Kind:
    """One kind of thing. An empty shape or material: none describes it well, so it is never asked for."""

    name: str
    category: str
    colour: str | None  # canonical colour; None: free to take any colour
    shape: str  # one of SHAPES or ""
    material: str  # one of MATERIALS or ""
    size_rank: int  # position in the real-world order of size, 0 is the smallest
    patterns_allowed: bool  # free kinds may be striped, dotted or checked; canonical kinds are plain
    aspect: float  # width / height of the drawing
    flies: bool  # may be drawn in the air


# From the smallest to the largest in the real world:
# name, category, canonical colour, shape, material, width / height, may be in the air
_TABLE: tuple[tuple[str, str, str | None, str, str, float, bool], ...] = (
    ("strawberry", "fruit", "red", "pointed", "", 0.85, False),
    ("butterfly", "animal", None, "", "", 1.2, True),
    ("plum", "fruit", "purple", "round", "", 0.95, False),
    ("mouse", "animal", None, "", "", 1.6, False),
    ("potato", "vegetable", "brown", "", "", 1.4, False),
    ("frog", "animal", "green", "", "", 1.2, False),
    ("banana", "fruit", "yellow", "long", "", 1.7, False),
    ("carrot", "vegetable", "orange", "pointed", "", 0.5, False),
    ("tulip", "plant", "pink", "", "", 0.6, False),
    ("eggplant", "vegetable", "purple", "long", "", 0.55, False),
    ("ball", "toy", None, "round", "glass", 1.0, True),
    ("fish", "animal", None, "", "", 1.6, False),
    ("bottle", "container", None, "", "glass", 0.5, False),
    ("vase", "container", None, "", "stone", 0.7, False),
    ("bucket", "container", None, "", "metal", 0.9, False),
    ("drum", "instrument", None, "round", "", 1.1, False),
    ("box", "container", None, "square", "", 1.05, False),
    ("crow", "animal", "black", "", "", 1.3, True),
    ("lamp", "furniture", None, "pointed", "glass", 0.7, False),
    ("cactus", "plant", "green", "", "", 0.75, False),
    ("fox", "animal", "orange", "", "", 1.4, False),
    ("mirror", "furniture", None, "round", "glass", 0.75, False),
    ("kite", "toy", None, "pointed", "cloth", 0.65, True),
    ("guitar", "instrument", None, "long", "wood", 0.5, False),
    ("snake", "animal", None, "long", "", 2.0, False),
    ("swan", "animal", "white", "", "", 1.1, False),
    ("robot", "toy", None, "square", "metal", 0.75, False),
    ("pig", "animal", "pink", "", "", 1.4, False),
    ("sunflower", "plant", "yellow", "round", "", 0.65, False),
    ("bench", "furniture", None, "", "stone", 1.8, False),
    ("shelf", "furniture", None, "square", "wood", 0.85, False),
    ("piano", "instrument", "black", "square", "", 1.15, False),
    ("bear", "animal", "brown", "", "", 0.85, False),
    ("sofa", "furniture", None, "long", "cloth", 1.9, False),
    ("tent", "building", None, "pointed", "cloth", 1.3, False),
    ("igloo", "building", "white", "", "", 1.5, False),
    ("car", "vehicle", None, "", "metal", 1.9, False),
    ("boat", "vehicle", None, "", "wood", 1.2, False),
    ("elephant", "animal", "gray", "", "", 1.3, False),
    ("house", "building", None, "square", "", 1.0, False),
    ("barn", "building", "red", "", "wood", 1.1, False),
    ("balloon", "vehicle", None, "round", "cloth", 0.75, True),
    ("tower", "building", None, "long", "stone", 0.5, False),
    ("rocket", "vehicle", None, "pointed", "metal", 0.5, True),
    ("castle", "building", "gray", "square", "stone", 1.15, False),
)

KINDS: dict[str, Kind] = {
    name: Kind(name, category, colour, shape, material, rank, colour is None, aspect, flies)
    for rank, (name, category, colour, shape, material, aspect, flies) in enumerate(_TABLE)
}
CATEGORIES: tuple[str, ...] = tuple(sorted({kind.category for kind in KINDS.values()}))
CANONICAL_KINDS: tuple[str, ...] = tuple(name for name, kind in KINDS.items() if kind.colour is not None)
FREE_KINDS: tuple[str, ...] = tuple(name for name, kind in KINDS.items() if kind.colour is None)

# One colour per free kind is kept for compositional test scenes. Step 4 is prime to the number of colours,
# 11, so the held-out colours are spread evenly.
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    (list(COLOURS)[(4 * i + 3) % len(COLOURS)], kind) for i, kind in enumerate(FREE_KINDS)
)
COMPOSITIONAL_SHARE = 0.25  # share of test scenes that get one held-out pair

_THING_COUNTS = (1, 2, 3, 4)
_THING_COUNT_WEIGHTS = (50, 25, 15, 10)
_REPEAT = 0.4  # chance that a further thing repeats a kind of the scene: counting is worth a question, plurals are seen
_PATTERN_WEIGHTS = (70, 10, 10, 10)
_SMALLEST, _LARGEST = 0.32, 0.56  # √(w·h) of the lowest and the highest size rank, in a scene of one thing
_SIZE_FACTOR = {"small": 0.86, "big": 1.14}
_CROWD_FACTOR = {1: 1.0, 2: 0.8, 3: 0.68, 4: 0.6}
_MAX_OVERLAP = 0.06  # of the smaller box
_MARGIN = 0.02
_GROUND = (0.52, 0.97)  # where the lower edge of a standing thing may be; the horizon is just above
# Every content (see Scene.content) belongs to one split, drawn by its hash: cumulative per cent.
_SPLIT_SHARES: dict[Split, tuple[int, int]] = {
    "train": (0, 60),
    "universe": (60, 80),
    "valid": (80, 90),
    "test": (90, 100),
}


@dataclass(frozen=True)
class Thing:
    """One thing in a scene. Its box has centre `x`, `y` and size `w`, `h`, relative to the picture."""

    kind: str
    colour: str
    size: str  # "small" or "big" for its kind
    pattern: str
    x: float
    y: float
    w: float
    h: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom), relative to the picture."""
        return (self.x - self.w / 2, self.y - self.h / 2, self.x + self.w / 2, self.y + self.h / 2)


@dataclass(frozen=True)
class Scene:
    """A setting with one to four things, and where it comes from."""

    index: int
    split: Split
    setting: str
    things: tuple[Thing, ...]

    @property
    def image_id(self) -> str:
        """The name of the picture of this scene, without an extension."""
        return f"world_{self.split}_{self.index:07d}"

    @property
    def compositional(self) -> bool:
        """Whether a thing shows a (colour, kind) pair that training never shows."""
        return any((thing.colour, thing.kind) in HELD_OUT for thing in self.things)

    @cached_property
    def content(self) -> str:
        """What the scene shows, up to small shifts: scenes of different splits never share it."""
        things = sorted(
            f"{t.size} {t.colour} {t.pattern} {t.kind} {int(t.x * 3)}{int(t.y * 3)}" for t in self.things
        )
        return "; ".join((self.setting, *things))

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """(left, top, right, bottom) of every thing, relative to the picture."""
        return [thing.box for thing in self.things]

    def relations(self) -> list[tuple[int, Relation, int]]:
        """Every relation (i, relation, j) that a person would agree with, both directions.

        Boxes must be apart along the axis, up to a fifth of the smaller side: a mouse beside a castle is
        not below it.
        """
        found: list[tuple[int, Relation, int]] = []
        for i, a in enumerate(self.things):
            for j, b in enumerate(self.things):
                if a.x + a.w / 2 <= b.x - b.w / 2 + 0.2 * min(a.w, b.w):
                    found += [(i, "left of", j), (j, "right of", i)]
                if a.y + a.h / 2 <= b.y - b.h / 2 + 0.2 * min(a.h, b.h):
                    found += [(i, "above", j), (j, "below", i)]
        return found

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives an equal scene."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Scene":
        """The scene written by `to_json`. Raises UserError when the text is not one."""
        try:
            fields = json.loads(text)
            things = tuple(Thing(**thing) for thing in fields.pop("things"))
            return cls(things=things, **fields)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(
                f"A scene was expected (one line of scenes.jsonl), found {text[:60]!r}: {error}. "
                "Write the world again with `vlpnb world`."
            ) from error


def free_colours(kind: str) -> list[str]:
    """The colours that a free kind takes outside the compositional test scenes, in palette order."""
    return [colour for colour in COLOURS if (colour, kind) not in HELD_OUT]


def make_scene(seed: int, split: Split, index: int) -> Scene:
    """The scene number `index` of a split: a pure function, equal in every process.

    Raises UserError for an unknown split or a negative index.
    """
    if split not in _SPLIT_SHARES:
        raise UserError(f"Unknown split {split!r} of the visual world; expected one of {', '.join(SPLITS)}.")
    if index < 0:
        raise UserError(f"Scene index {index} is negative; scenes are numbered from 0.")
    rng = random.Random(f"{seed}/{split}/{index}")  # a string seed is hashed with SHA-512, not with hash()
    setting = rng.choice(SETTINGS)
    n = rng.choices(_THING_COUNTS, _THING_COUNT_WEIGHTS)[0]
    compositional = split == "test" and rng.random() < COMPOSITIONAL_SHARE
    low, high = _SPLIT_SHARES[split]
    while True:
        things = _sample_things(rng, n, compositional)
        if things is None:
            continue
        scene = Scene(index, split, setting, things)
        if low <= _bucket(scene.content) < high:
            return scene


def _bucket(content: str) -> int:
    """A hash of the content in 0…99, equal in every process."""
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=4).digest(), "big") % 100


def _sample_things(rng: random.Random, n: int, compositional: bool) -> tuple[Thing, ...] | None:
    """n things with places, or None where they did not fit."""
    kinds = [KINDS[rng.choice(FREE_KINDS if compositional else tuple(KINDS))]]
    while len(kinds) < n:
        kinds.append(rng.choice(kinds) if rng.random() < _REPEAT else KINDS[rng.choice(tuple(KINDS))])
    colours = [kind.colour or rng.choice(free_colours(kind.name)) for kind in kinds]
    if compositional:
        colours[0] = next(colour for colour, name in sorted(HELD_OUT) if name == kinds[0].name)
    patterns = [
        rng.choices(PATTERNS, _PATTERN_WEIGHTS)[0] if kind.patterns_allowed else "plain" for kind in kinds
    ]
    zoom = _CROWD_FACTOR[n] * rng.uniform(0.96, 1.04)
    sizes, extents = _sample_sizes(rng, kinds, zoom)
    things: list[Thing] = []
    for kind, colour, pattern, size, extent in zip(kinds, colours, patterns, sizes, extents, strict=True):
        w, h = extent * math.sqrt(kind.aspect), extent / math.sqrt(kind.aspect)
        for _ in range(20):
            x, y = _sample_place(rng, kind, w, h)
            thing = Thing(kind.name, colour, size, pattern, x, y, round(w, 4), round(h, 4))
            if all(_overlap(thing, other) <= _MAX_OVERLAP for other in things):
                things.append(thing)
                break
        else:
            return None
    rng.shuffle(things)
    return tuple(things)


def _sample_sizes(rng: random.Random, kinds: Sequence[Kind], zoom: float) -> tuple[list[str], list[float]]:
    """Size words and drawn sizes √(w·h) in real-world order: a small elephant is larger than a big mouse."""
    step = math.log(_LARGEST / _SMALLEST) / (len(KINDS) - 1)
    usual = [zoom * _SMALLEST * math.exp(step * kind.size_rank) for kind in kinds]
    while True:  # ends: equal words keep the order of the ranks
        sizes = [rng.choice(SIZES) for _ in kinds]
        extents = [u * _SIZE_FACTOR[size] for u, size in zip(usual, sizes, strict=True)]
        ordered = sorted(zip(kinds, extents, strict=True), key=lambda pair: (pair[0].size_rank, pair[1]))
        if all(a[1] <= b[1] for a, b in pairwise(ordered)):
            return sizes, extents


def _sample_place(rng: random.Random, kind: Kind, w: float, h: float) -> tuple[float, float]:
    """A centre that keeps the box in the picture: on the ground or, for what flies, also in the air."""
    x = rng.uniform(_MARGIN + w / 2, 1 - _MARGIN - w / 2)
    if kind.flies and rng.random() < 0.7:
        bottom = rng.uniform(_MARGIN + h, max(_MARGIN + h, 0.6))
    else:
        bottom = rng.uniform(max(_GROUND[0], _MARGIN + h), _GROUND[1])
    return round(x, 4), round(bottom - h / 2, 4)


def _overlap(a: Thing, b: Thing) -> float:
    """The share of the smaller box that the other box covers."""
    left, top, right, bottom = a.box
    left2, top2, right2, bottom2 = b.box
    width, height = min(right, right2) - max(left, left2), min(bottom, bottom2) - max(top, top2)
    return max(width, 0.0) * max(height, 0.0) / min(a.w * a.h, b.w * b.h)
