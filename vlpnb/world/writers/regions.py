"""Region lines of the world: its pictures, their boxes, and what each box shows, in all languages.

In the layout of CCLM's 4M variant (`data.region_text`). A thing is described as captions describe it, and so its
canonical colour stays unsaid; the texts of one box are translations of one another.
"""

import random
from collections.abc import Iterable, Sequence

from vlpnb.world.grammar import LANGUAGES, phrase_of, plan_caption
from vlpnb.world.languages.sentence_plan import SentencePlan
from vlpnb.world.render import pixel_box
from vlpnb.world.scene import Scene, Thing


def region_rows(scenes: Iterable[Scene], image_size: int, languages: Sequence[str]) -> Iterable[dict]:
    """The lines of some scenes: `binary` is a picture's name in the folder of its split, boxes are in its pixels."""
    for scene in scenes:
        whole = plan_caption(scene, 0)
        yield {
            "binary": f"{scene.image_id}.png",
            "caption": {language: LANGUAGES[language].realise(whole) for language in languages},
            "elems": [
                _element(scene, number, thing, image_size, languages)
                for number, thing in enumerate(scene.things)
            ],
        }


def _element(scene: Scene, number: int, thing: Thing, image_size: int, languages: Sequence[str]) -> dict:
    left, top, right, bottom = pixel_box(thing, image_size)
    plan = region_plan(scene, number)
    return {
        "bb": [left, top, right - left, bottom - top],
        "caption": {language: LANGUAGES[language].realise(plan) for language in languages},
    }


def region_plan(scene: Scene, number: int) -> SentencePlan:
    """What is said of a thing of a scene: a pure function, equal in every process."""
    rng = random.Random(f"region/{scene.image_id}/{scene.content}/{number}")
    return SentencePlan("bare", (phrase_of([scene.things[number]], rng),))
