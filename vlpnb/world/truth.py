"""Whether captions are true of their pictures, which only a generated world can tell.

CIDEr asks whether a caption says what people said. Here the scene itself is asked: of all kinds of things, colours, and
colours *of a thing* that captions name, what share does the picture show, and of the kinds in pictures, what share do
captions name? A caption that says little is right easily, so shares of what is said and recall belong together.
"""

import re
from collections.abc import Mapping

from vlpnb.errors import UserError
from vlpnb.world.knowledge import shows, shows_bound, visible_terms
from vlpnb.world.scene import COLOURS, Scene

_WORD = re.compile(r"\w+|[^\w\s]")


def caption_truth(captions: Mapping[str, str], scenes: Mapping[str, Scene]) -> dict[str, float]:
    """How true captions are, by picture.

    Returns:
        Of all that captions say, the share that the picture shows: `kinds` (car, automobile), `colours` (whatever they
        are said of), `bound` (a colour of a thing: red of a car, where a red car is); 0 where nothing is said.
        `recall`: of the kinds in pictures, the share that captions name. `said_kinds`, `said_colours`, `said_bound`:
        how many of each a caption says on average.

    Raises:
        UserError: a picture without a scene, or no caption.
    """
    unknown = [name for name in captions if name not in scenes]
    if unknown or not captions:
        raise UserError(
            f"{len(unknown):,} of {len(captions):,} captioned pictures have no scene ({', '.join(unknown[:3])} …); "
            "expected captions of pictures of the generated world, at least one"
        )
    said: dict[str, list[bool]] = {"kinds": [], "colours": [], "bound": []}
    named = there = 0
    for name, text in captions.items():
        found = judged(text, scenes[name])
        for what, row in found.items():
            said[what] += [true for _, true in row]
        kinds = {thing.kind for thing in scenes[name].things}
        named += len(kinds & {kind for kind, _ in found["kinds"]})
        there += len(kinds)
    shares = {what: sum(row) / max(1, len(row)) for what, row in said.items()}
    counts = {f"said_{what}": len(row) / len(captions) for what, row in said.items()}
    return {**shares, "recall": named / there, **counts}


def judged(text: str, scene: Scene) -> dict[str, list[tuple[str, bool]]]:
    """What an English caption says of `kinds`, `colours` and `bound` pairs, each with whether the scene shows it.

    A kind has its own name, whichever word the caption has for it: `("car", True)`, `("red", True)`,
    `("red car", True)`. Of a category ("a red vehicle") only the colour counts.
    """
    words = _WORD.findall(text.lower())
    terms = visible_terms(words)
    kinds = [(term.value, shows(scene, term)) for term in terms if term is not None and term.type == "kind"]
    colours = {thing.colour for thing in scene.things}
    bound = []
    for term in terms:
        if term is not None and term.type == "colour":
            noun = terms[term.of].value
            bound.append((f"{term.value} {noun}", shows_bound(scene, noun, term.value)))
    return {
        "kinds": kinds,
        "colours": [(word, word in colours) for word in words if word in COLOURS],
        "bound": bound,
    }
