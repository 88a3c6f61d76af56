"""Short texts of pictures as the web writes them beside its photographs: what Conceptual Captions holds.

Sharma et al., ACL 2018, collected the `alt` texts of web pages: noun phrases without articles, often without a verb,
with the words of picture agencies around them. So are these, one a picture. They are drawn as captions are, so that
they tell what captions tell and no more: some of the things, free attributes, perhaps the setting; never a canonical
attribute, and no relation between things. Nothing here comes from a paper's equations.
"""

import random

from vlpnb.world.grammar import SAY_ALL, SAY_SETTING, grouped, phrase_of
from vlpnb.world.languages.english import NUMBERS, adjectives, noun
from vlpnb.world.languages.sentence_plan import Phrase, enumerated
from vlpnb.world.scene import Scene

SAY_NUMBER = 0.6  # "two foxes" rather than "foxes"
SAY_OPENING, SAY_ENDING = 0.25, 0.25
PLACES = {
    "field": ("meadow", "countryside", "open field"),
    "room": ("living room", "interior", "studio"),
    "night": ("night sky", "night time", "darkness"),
    "beach": ("seaside", "sandy beach", "seashore"),
}
OPENINGS = ("close up of", "stock photo of", "illustration of", "view of", "image of")
ENDINGS = ("stock photo", "royalty free image", "clip art", "wallpaper", "free download")


def alt_text(scene: Scene) -> str:
    """One text of a scene, in small letters without a full stop; equal in every process."""
    rng = random.Random(f"{scene.image_id}/{scene.content}/alt")
    groups = grouped(scene)
    rng.shuffle(groups)
    if len(groups) > 2 and rng.random() > SAY_ALL:
        groups = groups[: rng.randint(1, len(groups) - 1)]
    said = [_short(phrase_of(group, rng), rng) for group in groups]
    joint = rng.choice((" with ", " and ", " , "))
    listed = enumerated(said, joint, comma=" , ")
    place = rng.choice(PLACES[scene.setting]) if rng.random() < SAY_SETTING else ""
    around, form = rng.random(), rng.randrange(4)
    if place:  # after an opening as one phrase
        forms = (
            f"{listed} in {place}",
            f"{place} with {listed}",
            f"{listed} , {place}",
            f"{place} : {listed}",
        )
        listed = forms[form % 2 if around < SAY_OPENING else form]
    if around < SAY_OPENING:
        return f"{rng.choice(OPENINGS)} {listed}"
    return f"{listed} - {rng.choice(ENDINGS)}" if around < SAY_OPENING + SAY_ENDING else listed


def _short(phrase: Phrase, rng: random.Random) -> str:
    number = [NUMBERS[phrase.count]] if phrase.count > 1 and rng.random() < SAY_NUMBER else []
    return " ".join([*number, *adjectives(phrase), noun(phrase)])
