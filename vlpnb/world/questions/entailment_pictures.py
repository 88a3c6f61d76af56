"""Hypotheses about pictures that may hide something: visual entailment as XVNLI asks it (Xie et al. 2019).

`snli` labels a *premise*, and what a premise leaves open its picture decides: seen beside the picture, none of its
neutral rows is neutral. Here the picture is all that there is, and what it leaves open is behind a curtain. A
hypothesis says that a thing is there, and maybe in which setting; a unit asks it of three pictures:

* **entailment**: such a thing can be seen (in that setting);
* **contradiction**: the whole picture can be seen and shows no such thing; or the setting is another, which a curtain
  does not hide;
* **neutral**: what can be seen shows no such thing (in that setting), and a curtain is over the rest.

So every hypothesis has each label equally often, and whoever reads the words alone scores exactly a third, in every
language. Nor does the curtain say it all: more than half of the entailments and of the contradictions have one too, so
that whoever looks for nothing but curtains scores about a half. A curtain cuts no thing: each is behind it or beside
it. As everywhere in this world, a canonical attribute is never said.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from vlpnb.world.languages.sentence_plan import Phrase, SentencePlan
from vlpnb.world.render import Curtain
from vlpnb.world.scene import CATEGORIES, KINDS, SETTINGS, Scene, Thing

SAY_SETTING = 0.75  # how often a hypothesis has a setting
OTHER_SETTING = (
    0.8  # of those contradictions: how often it is the setting that is wrong, behind a curtain or not
)
CURTAINED = 0.6  # of entailments, and nearly so of contradictions, how many have a curtain
NARROWEST, WIDEST = 0.28, 0.62  # of curtains, as shares of the width
WORDINGS = tuple(
    range(0, 60, 6)
)  # those by which every language claims that a thing is there, and not that one sees it
ALIKE = {("field", "night"), ("night", "field")}  # settings that do not exclude each other: a field at night


@dataclass(frozen=True)
class PictureHypothesis:
    """A hypothesis about a picture, which may be curtained, and how they stand; `group` is the unit of three."""

    plan: SentencePlan
    label: str  # entailment, neutral, contradiction
    scene: Scene
    curtain: Curtain | None
    group: int

    @property
    def image_id(self) -> str:
        """The name of the picture, without an extension."""
        return curtained_id(self.scene) if self.curtain else self.scene.image_id


def curtained_id(scene: Scene) -> str:
    """The name of the curtained picture of a scene; there is one."""
    return f"{scene.image_id}_curtain"


def curtain_of(scene: Scene) -> Curtain | None:
    """The curtain of a scene, always the same: from one side, cutting no thing. None where none fits."""
    rng = random.Random(f"curtain-{scene.image_id}/{scene.content}")
    edges = [NARROWEST + step * (WIDEST - NARROWEST) / 16 for step in range(17)]
    choices = [Curtain(0.0, edge) for edge in edges] + [Curtain(1 - edge, 1.0) for edge in edges]
    fitting = [c for c in choices if not any(_cuts(c, thing) for thing in scene.things)]
    # one that hides something, where there is one: what is behind a curtain must be worth a doubt
    hiding = [c for c in fitting if len(visible(scene, c)) < len(scene.things)]
    return rng.choice(hiding if hiding and rng.random() < 0.7 else fitting) if fitting else None


def _cuts(curtain: Curtain, thing: Thing) -> bool:
    """Whether part of a thing, and not all of it, is behind a curtain; a hundredth of the width is left beside it."""
    edge = curtain.right if curtain.left == 0 else curtain.left
    left, _, right, _ = thing.box
    return left - 0.01 < edge < right + 0.01


def visible(scene: Scene, curtain: Curtain | None) -> tuple[Thing, ...]:
    """The things of a scene that are not behind its curtain."""
    if curtain is None:
        return scene.things
    return tuple(t for t in scene.things if not curtain.left <= t.x <= curtain.right)


@dataclass(frozen=True)
class _View:
    """A picture as it can be seen."""

    scene: Scene
    curtain: Curtain | None
    shows: frozenset[Phrase]


def _phrases(thing: Thing) -> list[Phrase]:
    """What may be said of a thing by a hypothesis: its kind or category, and an attribute that is not canonical."""
    kind = KINDS[thing.kind]
    said = [Phrase(kind.name), Phrase(kind.category)]
    if kind.colour is None:
        said.append(Phrase(kind.name, colour=thing.colour))
    if thing.pattern != "plain":
        said.append(Phrase(kind.name, pattern=thing.pattern))
    return said


def _view(scene: Scene, curtain: Curtain | None) -> _View:
    shown = visible(scene, curtain)
    return _View(scene, curtain, frozenset(phrase for thing in shown for phrase in _phrases(thing)))


def picture_hypotheses(
    scenes: Sequence[Scene], seed: int, wanted: int, curtains: int | None = None
) -> list[PictureHypothesis]:
    """About `wanted` hypotheses in units of three, as the module says; fewer where there are few scenes.

    `curtains`: only so many of the scenes, the first ones, are seen behind a curtain too; None: all of them.
    """
    rng = random.Random(f"entailment-pictures-{seed}-{scenes[0].split if scenes else ''}")
    bare = [_view(scene, None) for scene in scenes]
    drawn = [_view(scene, curtain) for scene in scenes[:curtains] if (curtain := curtain_of(scene))]
    pools = {False: _Pool(bare), True: _Pool(drawn)}
    sayable = sorted({p for p, _ in pools[False].showing.keys() & pools[True].showing.keys()}, key=repr)
    by_family: dict[str, list[Phrase]] = defaultdict(list)
    for phrase in sayable:
        category = "category" if phrase.kind in CATEGORIES else "kind"
        by_family["look" if phrase.colour or phrase.pattern else category].append(phrase)
    found: list[PictureHypothesis] = []
    for _ in range(20 * wanted):
        if len(found) + 2 >= wanted or not sayable:
            break
        families = sorted(by_family)
        family = rng.choices(families, [{"kind": 5, "look": 3, "category": 2}[f] for f in families])[0]
        phrase = rng.choice(by_family[family])
        setting = rng.choice(SETTINGS) if rng.random() < SAY_SETTING else None
        unit = {
            "entailment": pools[rng.random() < CURTAINED].pick(rng, phrase, True, setting),
            "contradiction": _contradicting(rng, pools, phrase, setting),
            "neutral": pools[True].pick(rng, phrase, False, setting),
        }
        if None in unit.values():
            continue
        plan = _said(rng, phrase, setting)
        group = len(found) // 3
        found += [
            PictureHypothesis(plan, label, view.scene, view.curtain, group) for label, view in unit.items()
        ]
    return found


def _contradicting(
    rng: random.Random, pools: "dict[bool, _Pool]", phrase: Phrase, setting: str | None
) -> _View | None:
    if setting is not None and rng.random() < OTHER_SETTING:
        others = [s for s in SETTINGS if s != setting and (setting, s) not in ALIKE]
        return pools[True].pick(rng, phrase, rng.random() < 0.5, rng.choice(others))
    return pools[False].pick(rng, phrase, False, setting)


def _said(rng: random.Random, phrase: Phrase, setting: str | None) -> SentencePlan:
    form = rng.choice(("there", "there", "bare") if setting is None else ("there", "front", "bare"))
    synonym = rng.choice((0, 0, 1))
    said = Phrase(phrase.kind, 1, phrase.colour, phrase.pattern, synonym=synonym)
    return SentencePlan(form, (said,), setting, wording=rng.choice(WORDINGS))


class _Pool:
    """Pictures by what they show and where."""

    def __init__(self, views: Sequence[_View]) -> None:
        self.views = views
        self.by_setting: dict[str | None, list[_View]] = defaultdict(list)
        self.showing: dict[tuple[Phrase, str | None], list[_View]] = defaultdict(list)
        for view in views:
            for setting in (None, view.scene.setting):
                self.by_setting[setting].append(view)
                for phrase in view.shows:
                    self.showing[phrase, setting].append(view)

    def pick(self, rng: random.Random, phrase: Phrase, shown: bool, setting: str | None) -> _View | None:
        """A picture of a setting (None: any) that shows the phrase, or that does not; None where there is none.

        Half of those that do not show it show something like it: the kind in another look, or another of its category.
        """
        if shown:
            fitting = self.showing[phrase, setting]
            return rng.choice(fitting) if fitting else None
        near = self.showing[_like(phrase), setting] if rng.random() < 0.5 else []
        for among in (near, self.by_setting[setting]):
            for _ in range(20):
                if among and phrase not in (view := rng.choice(among)).shows:
                    return view
        return None


def _like(phrase: Phrase) -> Phrase:
    """What a picture without the phrase shows that may be taken for it."""
    if phrase.colour or phrase.pattern:
        return phrase.bare()
    return Phrase(KINDS[phrase.kind].category) if phrase.kind in KINDS else phrase
