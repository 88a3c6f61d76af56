"""What a notebook needs to know of its pictures: their ground truth, their words, and examples that suit them.

The generated world has a ground truth, photographs have none. A cell that needs it begins with `if truth:`; that it
does nothing on photographs is said once, by `ground_truth`.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass

from IPython.display import display

from vlpnb.data.description import CaptionData, PictureData
from vlpnb.world.scene import Scene
from vlpnb.world.writers import load_scenes

MISSING = (
    "This run reads photographs, of which nobody knows all that they show. Cells that begin with `if truth:` count "
    "on the generated world and do nothing here; run this notebook in the profile `laptop` to see them."
)


@dataclass(frozen=True)
class Examples:
    """Words to try a model with; what they name occurs in the pictures."""

    word: str
    phrases: tuple[str, ...]  # the word in several contexts
    sentence: str
    question: str  # with a [MASK]


WORLD = Examples(
    "car",
    ("a red car .", "a blue car .", "a green car ."),
    "a big red car is near the yellow banana .",
    "the banana is [MASK] .",
)
PHOTOGRAPHS = Examples(
    "dog",
    ("a dog in the water .", "a dog in the snow .", "a dog with a ball ."),
    "a brown dog runs on the beach with a red ball .",
    "a dog runs on the [MASK] .",
)


def ground_truth(dataset: CaptionData) -> dict[str, Scene]:
    """Image id → its scene. Empty for photographs; a box then says what that means for the notebook."""
    if dataset.scenes is not None:
        return load_scenes(dataset.scenes)
    style = "border-left:0.3em solid #0072B2; padding:0.5em 1em; margin:0.5em 0"
    said = re.sub("`(.*?)`", r"<code>\1</code>", html.escape(MISSING))
    box = f'<aside role="note" style="{style}">{said}</aside>'
    display({"text/html": box, "text/plain": MISSING}, raw=True)
    return {}


def examples(dataset: CaptionData) -> Examples:
    """The examples for this data set."""
    return WORLD if dataset.scenes is not None else PHOTOGRAPHS


def describer(dataset: CaptionData, pictures: PictureData) -> Callable[[str], str]:
    """A function from a picture of the universe, by its id, to words: its ground truth, or its first caption."""
    scenes = load_scenes(dataset.scenes) if dataset.scenes is not None else {}
    captions = {image.image_id: image.sentences for image in pictures.images()}

    def describe(image_id: str) -> str:
        if image_id in scenes:
            scene = scenes[image_id]
            return f"{', '.join(f'{t.size} {t.colour} {t.kind}' for t in scene.things)} ({scene.setting})"
        return captions[image_id][0] if captions.get(image_id) else image_id

    return describe
