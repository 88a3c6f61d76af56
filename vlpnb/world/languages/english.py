"""English captions: a/an, plurals, adjective order (size, colour, pattern), agreement of the verb."""

from dataclasses import replace

from vlpnb.world.languages.sentence_plan import Phrase, SentencePlan, enumerated, pick, sentence

# Of every kind and category: (singular, plural) of its words, the usual word first.
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "strawberry": (("strawberry", "strawberries"),),
    "butterfly": (("butterfly", "butterflies"),),
    "plum": (("plum", "plums"),),
    "mouse": (("mouse", "mice"),),
    "potato": (("potato", "potatoes"),),
    "frog": (("frog", "frogs"),),
    "banana": (("banana", "bananas"),),
    "carrot": (("carrot", "carrots"),),
    "tulip": (("tulip", "tulips"),),
    "eggplant": (("eggplant", "eggplants"), ("aubergine", "aubergines")),
    "ball": (("ball", "balls"),),
    "fish": (("fish", "fish"),),
    "bottle": (("bottle", "bottles"),),
    "vase": (("vase", "vases"),),
    "bucket": (("bucket", "buckets"), ("pail", "pails")),
    "drum": (("drum", "drums"),),
    "box": (("box", "boxes"), ("crate", "crates")),
    "crow": (("crow", "crows"),),
    "lamp": (("lamp", "lamps"),),
    "cactus": (("cactus", "cactuses"),),
    "fox": (("fox", "foxes"),),
    "mirror": (("mirror", "mirrors"),),
    "kite": (("kite", "kites"),),
    "guitar": (("guitar", "guitars"),),
    "snake": (("snake", "snakes"), ("serpent", "serpents")),
    "swan": (("swan", "swans"),),
    "robot": (("robot", "robots"),),
    "pig": (("pig", "pigs"),),
    "sunflower": (("sunflower", "sunflowers"),),
    "bench": (("bench", "benches"),),
    "shelf": (("shelf", "shelves"),),
    "piano": (("piano", "pianos"),),
    "bear": (("bear", "bears"),),
    "sofa": (("sofa", "sofas"), ("couch", "couches")),
    "tent": (("tent", "tents"),),
    "igloo": (("igloo", "igloos"),),
    "car": (("car", "cars"), ("automobile", "automobiles")),
    "boat": (("boat", "boats"), ("ship", "ships")),
    "elephant": (("elephant", "elephants"),),
    "house": (("house", "houses"),),
    "barn": (("barn", "barns"),),
    "balloon": (("balloon", "balloons"),),
    "tower": (("tower", "towers"),),
    "rocket": (("rocket", "rockets"), ("spaceship", "spaceships")),
    "castle": (("castle", "castles"),),
    "animal": (("animal", "animals"),),
    "building": (("building", "buildings"),),
    "container": (("container", "containers"),),
    "fruit": (("fruit", "fruits"),),
    "furniture": (("piece of furniture", "pieces of furniture"),),
    "instrument": (("instrument", "instruments"),),
    "plant": (("plant", "plants"),),
    "toy": (("toy", "toys"),),
    "vegetable": (("vegetable", "vegetables"),),
    "vehicle": (("vehicle", "vehicles"),),
}
PATTERNS = {
    "plain": ("plain",),
    "striped": ("striped",),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "checkered"),
}
SIZES = {"small": ("small", "little"), "big": ("big", "large")}
SETTINGS = {
    "field": ("in a field", "in the field", "in a meadow"),
    "room": ("in a room", "in the room"),
    "night": ("at night",),
    "beach": ("on the beach", "on a beach"),
}
RELATIONS = {
    "left of": ("to the left of", "on the left of", "left of"),
    "right of": ("to the right of", "on the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}


def article(word: str) -> str:
    """The article before a word of this vocabulary (none begins with a silent h or a spoken "yu")."""
    return "an" if word[0] in "aeiou" else "a"


def third_person(verb: str) -> str:
    """The verb after "it": "grows", "hisses", "carries", "has"."""
    if verb == "have":
        return "has"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return f"{verb[:-1]}ies"
    return f"{verb}es" if verb.endswith(("s", "sh", "ch", "x", "o")) else f"{verb}s"


def adjectives(phrase: Phrase) -> list[str]:
    """The adjectives of a phrase in English order; the colours keep their own names."""
    words = []
    if phrase.size:
        words.append(pick(SIZES[phrase.size], phrase.synonym))
    if phrase.colour:
        words.append(phrase.colour)
    if phrase.pattern:
        words.append(pick(PATTERNS[phrase.pattern], phrase.synonym))
    return words


def noun(phrase: Phrase) -> str:
    """The noun of a phrase in its number."""
    return pick(NOUNS[phrase.kind], phrase.synonym)[phrase.count > 1]


def noun_phrase(phrase: Phrase) -> str:
    """ "a small red striped car", "two cars"."""
    words = [*adjectives(phrase), noun(phrase)]
    return " ".join([article(words[0]) if phrase.count == 1 else NUMBERS[phrase.count], *words])


def realise(plan: SentencePlan) -> str:
    """The English sentence of a plan."""
    first, wording = plan.phrases[0], plan.wording
    setting = pick(SETTINGS[plan.setting], wording) if plan.setting else ""
    listed = enumerated([noun_phrase(phrase) for phrase in plan.phrases], " and ")
    is_are = "is" if first.count == 1 else "are"
    match plan.form:
        case "bare":
            return sentence(listed, setting)
        case "there":
            return sentence(f"there {is_are}", listed, setting)
        case "see":
            return sentence(
                pick(("you can see", "we can see", "I see", "one can see"), wording), listed, setting
            )
        case "picture":
            opening = (
                "a picture of",
                "the picture shows",
                "a photo of",
                "this is a picture of",
                "here we have",
            )
            return sentence(pick(opening, wording), listed, setting)
        case "front":
            if wording % 3 or plan.setting == "night":
                return sentence(f"{setting} ,", f"there {is_are}", listed)
            return sentence(setting, is_are if len(plan.phrases) == 1 else "are", listed)
        case "relation":
            other = noun_phrase(plan.phrases[1])
            relation = pick(RELATIONS[plan.relation or ""], wording)
            if wording % 4 == 3:
                return sentence(noun_phrase(first), relation, other, setting)
            if setting and wording % 2:
                return sentence(f"{setting} ,", noun_phrase(first), is_are, relation, other)
            return sentence(noun_phrase(first), is_are, relation, other, setting)
        case "beside":
            beside = pick(("next to", "beside", "near"), wording)
            return sentence(noun_phrase(first), beside, noun_phrase(plan.phrases[1]), setting)
        case "predicate":
            said = enumerated(adjectives(replace(first, synonym=0)), " and ")
            return sentence("the", noun(first), setting, is_are, said)
        case "contrast":
            one, other = plan.colours
            return sentence(f"{noun_phrase(first)} {setting}".strip(), f", one {one} and one {other}")
    raise ValueError(f"unknown form {plan.form!r}")
