"""What the questions about a scene need of it, counted once."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from vlpnb.world.phrases import descriptions
from vlpnb.world.scene import Scene, Thing


class CountedScene:
    """A scene with what its questions need counted once: phrases, unique references and relations."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.things = scene.things
        self.descriptions = [descriptions(thing) for thing in scene.things]
        self.counts = Counter(phrase for said in self.descriptions for phrase in said)
        # references to a thing that no other thing of the scene satisfies; "thing" alone refers to nothing
        self.unique = [
            [p for p in said if self.counts[p] == 1 and p != "thing"] for said in self.descriptions
        ]
        # (i, relation) -> every j that stands in this relation to i
        self.related: dict[tuple[int, str], list[int]] = defaultdict(list)
        for i, relation, j in scene.relations():
            self.related[j, relation].append(i)

    def unique_kinds(self) -> Iterator[tuple[int, Thing]]:
        """(index, thing) of the things that are alone of their kind."""
        return ((i, t) for i, t in enumerate(self.things) if self.counts[t.kind] == 1)
