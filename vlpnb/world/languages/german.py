"""German captions: gender, case, adjective endings (mixed after ein, strong after numerals), weak nouns."""

from vlpnb.world.languages.sentence_plan import Phrase, SentencePlan, enumerated, pick, sentence

# Of every kind and category its words as (singular, gender, plural); a weak masculine noun has a fourth part,
# its accusative and dative singular.
NOUNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "strawberry": (("Erdbeere", "f", "Erdbeeren"),),
    "butterfly": (("Schmetterling", "m", "Schmetterlinge"), ("Falter", "m", "Falter")),
    "plum": (("Pflaume", "f", "Pflaumen"),),
    "mouse": (("Maus", "f", "Mäuse"),),
    "potato": (("Kartoffel", "f", "Kartoffeln"),),
    "frog": (("Frosch", "m", "Frösche"),),
    "banana": (("Banane", "f", "Bananen"),),
    "carrot": (("Karotte", "f", "Karotten"), ("Möhre", "f", "Möhren")),
    "tulip": (("Tulpe", "f", "Tulpen"),),
    "eggplant": (("Aubergine", "f", "Auberginen"),),
    "ball": (("Ball", "m", "Bälle"),),
    "fish": (("Fisch", "m", "Fische"),),
    "bottle": (("Flasche", "f", "Flaschen"),),
    "vase": (("Vase", "f", "Vasen"),),
    "bucket": (("Eimer", "m", "Eimer"), ("Kübel", "m", "Kübel")),
    "drum": (("Trommel", "f", "Trommeln"),),
    "box": (("Kiste", "f", "Kisten"), ("Schachtel", "f", "Schachteln")),
    "crow": (("Krähe", "f", "Krähen"),),
    "lamp": (("Lampe", "f", "Lampen"),),
    "cactus": (("Kaktus", "m", "Kakteen"),),
    "fox": (("Fuchs", "m", "Füchse"),),
    "mirror": (("Spiegel", "m", "Spiegel"),),
    "kite": (("Drachen", "m", "Drachen"),),
    "guitar": (("Gitarre", "f", "Gitarren"),),
    "snake": (("Schlange", "f", "Schlangen"),),
    "swan": (("Schwan", "m", "Schwäne"),),
    "robot": (("Roboter", "m", "Roboter"),),
    "pig": (("Schwein", "n", "Schweine"),),
    "sunflower": (("Sonnenblume", "f", "Sonnenblumen"),),
    "bench": (("Bank", "f", "Bänke"),),
    "shelf": (("Regal", "n", "Regale"),),
    "piano": (("Klavier", "n", "Klaviere"),),
    "bear": (("Bär", "m", "Bären", "Bären"),),
    "sofa": (("Sofa", "n", "Sofas"), ("Couch", "f", "Couchs")),
    "tent": (("Zelt", "n", "Zelte"),),
    "igloo": (("Iglu", "n", "Iglus"),),
    "car": (("Auto", "n", "Autos"), ("Wagen", "m", "Wagen")),
    "boat": (("Boot", "n", "Boote"), ("Schiff", "n", "Schiffe")),
    "elephant": (("Elefant", "m", "Elefanten", "Elefanten"),),
    "house": (("Haus", "n", "Häuser"),),
    "barn": (("Scheune", "f", "Scheunen"),),
    "balloon": (("Ballon", "m", "Ballons"), ("Heißluftballon", "m", "Heißluftballons")),
    "tower": (("Turm", "m", "Türme"),),
    "rocket": (("Rakete", "f", "Raketen"),),
    "castle": (("Burg", "f", "Burgen"), ("Schloss", "n", "Schlösser")),
    "animal": (("Tier", "n", "Tiere"),),
    "building": (("Gebäude", "n", "Gebäude"),),
    "container": (("Behälter", "m", "Behälter"),),
    "fruit": (("Frucht", "f", "Früchte"),),
    "furniture": (("Möbelstück", "n", "Möbelstücke"),),
    "instrument": (("Instrument", "n", "Instrumente"),),
    "plant": (("Pflanze", "f", "Pflanzen"),),
    "toy": (("Spielzeug", "n", "Spielzeuge"),),
    "vegetable": (("Gemüse", "n", "Gemüse"),),
    "vehicle": (("Fahrzeug", "n", "Fahrzeuge"),),
}
# All can be declined: "orange", "rosa" and "lila" cannot, so other words for these colours are taken.
COLOURS = {
    "red": "rot",
    "orange": "orangefarben",
    "yellow": "gelb",
    "green": "grün",
    "blue": "blau",
    "purple": "violett",
    "pink": "rosafarben",
    "brown": "braun",
    "black": "schwarz",
    "white": "weiß",
    "gray": "grau",
}
PATTERNS = {
    "plain": ("einfarbig",),
    "striped": ("gestreift",),
    "dotted": ("gepunktet", "getupft"),
    "checked": ("kariert",),
}
SIZES = {"small": "klein", "big": "groß"}
SETTINGS = {
    "field": ("auf einem Feld", "auf dem Feld", "auf einer Wiese"),
    "room": ("in einem Zimmer", "im Zimmer"),
    "night": ("bei Nacht", "in der Nacht"),
    "beach": ("am Strand", "an einem Strand"),
}
RELATIONS = {  # all take the dative
    "left of": ("links von", "links neben"),
    "right of": ("rechts von", "rechts neben"),
    "above": ("über",),
    "below": ("unter",),
}
NUMBERS = {2: "zwei", 3: "drei", 4: "vier"}
INDEFINITE = {
    "nominative": {"m": "ein", "f": "eine", "n": "ein"},
    "accusative": {"m": "einen", "f": "eine", "n": "ein"},
    "dative": {"m": "einem", "f": "einer", "n": "einem"},
}
DEFINITE = {"m": "der", "f": "die", "n": "das", "plural": "die"}  # nominative
MIXED = {  # endings of an adjective after ein
    "nominative": {"m": "er", "f": "e", "n": "es"},
    "accusative": {"m": "en", "f": "e", "n": "es"},
    "dative": {"m": "en", "f": "en", "n": "en"},
}
STRONG_PLURAL = {"nominative": "e", "accusative": "e", "dative": "en"}  # after zwei, drei, vier


def adjectives(phrase: Phrase) -> list[str]:
    """The adjectives of a phrase without endings, as a predicate has them."""
    words = []
    if phrase.size:
        words.append(SIZES[phrase.size])
    if phrase.colour:
        words.append(COLOURS[phrase.colour])
    if phrase.pattern:
        words.append(pick(PATTERNS[phrase.pattern], phrase.synonym))
    return words


def gender(phrase: Phrase) -> str:
    """ "m", "f" or "n"."""
    return pick(NOUNS[phrase.kind], phrase.synonym)[1]


def noun(phrase: Phrase, case: str) -> str:
    """The noun of a phrase in its number and case (nominative, accusative, dative)."""
    singular, _, plural, *weak = pick(NOUNS[phrase.kind], phrase.synonym)
    if phrase.count == 1:
        return weak[0] if weak and case != "nominative" else singular
    return plural if case != "dative" or plural[-1] in "ns" else plural + "n"


def noun_phrase(phrase: Phrase, case: str = "nominative") -> str:
    """ "ein rotes Auto", "einem roten Auto", "zwei roten Autos"."""
    if phrase.count == 1:
        opening, ending = INDEFINITE[case][gender(phrase)], MIXED[case][gender(phrase)]
    else:
        opening, ending = NUMBERS[phrase.count], STRONG_PLURAL[case]
    return " ".join([opening, *(word + ending for word in adjectives(phrase)), noun(phrase, case)])


def realise(plan: SentencePlan) -> str:
    """The German sentence of a plan."""
    first, wording = plan.phrases[0], plan.wording
    setting = pick(SETTINGS[plan.setting], wording) if plan.setting else ""
    ist_sind = "ist" if len(plan.phrases) == 1 and first.count == 1 else "sind"

    def listed(case: str) -> str:
        return enumerated([noun_phrase(phrase, case) for phrase in plan.phrases], " und ")

    match plan.form:
        case "bare":
            return sentence(listed("nominative"), setting)
        case "there":
            if wording % 2:
                return sentence("hier", ist_sind, setting, listed("nominative"))
            return sentence("es gibt", setting, listed("accusative"))
        case "see":
            opening = pick(("man sieht", "wir sehen", "ich sehe", "hier sieht man"), wording)
            return sentence(opening, setting, listed("accusative"))
        case "picture":
            match wording % 4:
                case 0:
                    return sentence("ein Bild von", listed("dative"), setting)
                case 1:
                    return sentence("das Bild zeigt", listed("accusative"), setting)
                case 2:
                    return sentence("ein Foto von", listed("dative"), setting)
            return sentence("auf dem Bild", ist_sind, setting, listed("nominative"))
        case "front":
            if wording % 3 or plan.setting == "night":
                return sentence(setting, "gibt es", listed("accusative"))
            return sentence(setting, ist_sind, listed("nominative"))
        case "relation":
            ist_sind = "ist" if first.count == 1 else "sind"
            relation = (
                f"{pick(RELATIONS[plan.relation or ''], wording)} {noun_phrase(plan.phrases[1], 'dative')}"
            )
            if wording % 4 == 3:
                return sentence(noun_phrase(first), relation, setting)
            if setting:
                return sentence(setting, ist_sind, noun_phrase(first), relation)
            return sentence(noun_phrase(first), ist_sind, relation)
        case "beside":
            return sentence(noun_phrase(first), "neben", noun_phrase(plan.phrases[1], "dative"), setting)
        case "predicate":
            article = DEFINITE[gender(first) if first.count == 1 else "plural"]
            said = enumerated(adjectives(first), " und ")
            return sentence(article, noun(first, "nominative"), setting, ist_sind, said)
        case "contrast":
            article, ending = INDEFINITE["nominative"][gender(first)], MIXED["nominative"][gender(first)]
            one, other = (f"{article} {COLOURS[colour]}{ending}" for colour in plan.colours)
            return sentence(f"{noun_phrase(first)} {setting}".strip(), f", {one} und {other}")
    raise ValueError(f"unknown form {plan.form!r}")
