"""French captions: gender and number, size before and colour after the noun, elision and contraction."""

from vlpnb.world.languages.sentence_plan import Phrase, SentencePlan, enumerated, pick, sentence

# Of every kind and category its words as (singular, gender, plural); none begins with an aspirated h.
NOUNS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "strawberry": (("fraise", "f", "fraises"),),
    "butterfly": (("papillon", "m", "papillons"),),
    "plum": (("prune", "f", "prunes"),),
    "mouse": (("souris", "f", "souris"),),
    "potato": (("pomme de terre", "f", "pommes de terre"), ("patate", "f", "patates")),
    "frog": (("grenouille", "f", "grenouilles"),),
    "banana": (("banane", "f", "bananes"),),
    "carrot": (("carotte", "f", "carottes"),),
    "tulip": (("tulipe", "f", "tulipes"),),
    "eggplant": (("aubergine", "f", "aubergines"),),
    "ball": (("balle", "f", "balles"), ("ballon", "m", "ballons")),
    "fish": (("poisson", "m", "poissons"),),
    "bottle": (("bouteille", "f", "bouteilles"),),
    "vase": (("vase", "m", "vases"),),
    "bucket": (("seau", "m", "seaux"),),
    "drum": (("tambour", "m", "tambours"),),
    "box": (("boîte", "f", "boîtes"), ("caisse", "f", "caisses")),
    "crow": (("corneille", "f", "corneilles"),),
    "lamp": (("lampe", "f", "lampes"),),
    "cactus": (("cactus", "m", "cactus"),),
    "fox": (("renard", "m", "renards"),),
    "mirror": (("miroir", "m", "miroirs"),),
    "kite": (("cerf-volant", "m", "cerfs-volants"),),
    "guitar": (("guitare", "f", "guitares"),),
    "snake": (("serpent", "m", "serpents"),),
    "swan": (("cygne", "m", "cygnes"),),
    "robot": (("robot", "m", "robots"),),
    "pig": (("cochon", "m", "cochons"), ("porc", "m", "porcs")),
    "sunflower": (("tournesol", "m", "tournesols"),),
    "bench": (("banc", "m", "bancs"),),
    "shelf": (("étagère", "f", "étagères"),),
    "piano": (("piano", "m", "pianos"),),
    "bear": (("ours", "m", "ours"),),
    "sofa": (("canapé", "m", "canapés"), ("sofa", "m", "sofas")),
    "tent": (("tente", "f", "tentes"),),
    "igloo": (("igloo", "m", "igloos"),),
    "car": (("voiture", "f", "voitures"), ("automobile", "f", "automobiles")),
    "boat": (("bateau", "m", "bateaux"),),
    "elephant": (("éléphant", "m", "éléphants"),),
    "house": (("maison", "f", "maisons"),),
    "barn": (("grange", "f", "granges"),),
    "balloon": (("montgolfière", "f", "montgolfières"),),
    "tower": (("tour", "f", "tours"),),
    "rocket": (("fusée", "f", "fusées"),),
    "castle": (("château", "m", "châteaux"),),
    "animal": (("animal", "m", "animaux"),),
    "building": (("bâtiment", "m", "bâtiments"),),
    "container": (("récipient", "m", "récipients"),),
    "fruit": (("fruit", "m", "fruits"),),
    "furniture": (("meuble", "m", "meubles"),),
    "instrument": (("instrument", "m", "instruments"),),
    "plant": (("plante", "f", "plantes"),),
    "toy": (("jouet", "m", "jouets"),),
    "vegetable": (("légume", "m", "légumes"),),
    "vehicle": (("véhicule", "m", "véhicules"),),
}
# masculine, feminine, masculine plural, feminine plural; "orange" and "marron" never change
COLOURS: dict[str, tuple[str, str, str, str]] = {
    "red": ("rouge", "rouge", "rouges", "rouges"),
    "orange": ("orange", "orange", "orange", "orange"),
    "yellow": ("jaune", "jaune", "jaunes", "jaunes"),
    "green": ("vert", "verte", "verts", "vertes"),
    "blue": ("bleu", "bleue", "bleus", "bleues"),
    "purple": ("violet", "violette", "violets", "violettes"),
    "pink": ("rose", "rose", "roses", "roses"),
    "brown": ("marron", "marron", "marron", "marron"),
    "black": ("noir", "noire", "noirs", "noires"),
    "white": ("blanc", "blanche", "blancs", "blanches"),
    "gray": ("gris", "grise", "gris", "grises"),
}
SIZES: dict[str, tuple[str, str, str, str]] = {
    "small": ("petit", "petite", "petits", "petites"),
    "big": ("grand", "grande", "grands", "grandes"),
}
PLAIN = ("uni", "unie", "unis", "unies")
PATTERNS = {"striped": "à rayures", "dotted": "à pois", "checked": "à carreaux"}
SETTINGS = {
    "field": ("dans un champ", "dans le champ", "dans un pré"),
    "room": ("dans une pièce", "dans la pièce"),
    "night": ("la nuit",),
    "beach": ("sur la plage", "sur une plage"),
}
RELATIONS = {  # those that end in "de" elide before "un"
    "left of": ("à gauche de",),
    "right of": ("à droite de",),
    "above": ("au-dessus de",),
    "below": ("au-dessous de", "sous"),
}
NUMBERS = {2: "deux", 3: "trois", 4: "quatre"}


def _form(phrase: Phrase) -> int:
    """Which of the four forms of an adjective agrees with the phrase."""
    return (gender(phrase) == "f") + 2 * (phrase.count > 1)


def gender(phrase: Phrase) -> str:
    """ "m" or "f"."""
    return pick(NOUNS[phrase.kind], phrase.synonym)[1]


def noun(phrase: Phrase) -> str:
    """The noun of a phrase in its number."""
    return pick(NOUNS[phrase.kind], phrase.synonym)[0 if phrase.count == 1 else 2]


def adjectives(phrase: Phrase) -> list[str]:
    """Size, colour and pattern as they agree with the noun."""
    form, words = _form(phrase), []
    if phrase.size:
        words.append(SIZES[phrase.size][form])
    if phrase.colour:
        words.append(COLOURS[phrase.colour][form])
    if phrase.pattern:
        words.append(PLAIN[form] if phrase.pattern == "plain" else PATTERNS[phrase.pattern])
    return words


def noun_phrase(phrase: Phrase) -> str:
    """ "une petite voiture rouge à rayures", "deux voitures rouges"."""
    article = "une" if gender(phrase) == "f" else "un"
    opening = article if phrase.count == 1 else NUMBERS[phrase.count]
    words = adjectives(phrase)
    before = 1 if phrase.size else 0
    return " ".join([opening, *words[:before], noun(phrase), *words[before:]])


def definite(phrase: Phrase) -> str:
    """The noun with its definite article, elided before a vowel: "la voiture", "l'ours", "les tours"."""
    word = noun(phrase)
    if phrase.count > 1:
        return f"les {word}"
    if word[0] in "aeiouéèêâîôh":
        return f"l'{word}"
    return f"{'la' if gender(phrase) == 'f' else 'le'} {word}"


def after(preposition: str, complement: str) -> str:
    """Preposition and complement; "de" before a vowel becomes "d'"."""
    if preposition.split()[-1] == "de" and complement[0] in "aeiouéèêâîôh":
        return f"{preposition[:-1]}'{complement}"
    return f"{preposition} {complement}"


def realise(plan: SentencePlan) -> str:
    """The French sentence of a plan."""
    first, wording = plan.phrases[0], plan.wording
    setting = pick(SETTINGS[plan.setting], wording) if plan.setting else ""
    phrases = [noun_phrase(phrase) for phrase in plan.phrases]
    listed = enumerated(phrases, " et ")
    est_sont = "est" if first.count == 1 else "sont"
    match plan.form:
        case "bare":
            return sentence(listed, setting)
        case "there":
            return sentence(pick(("il y a", "voici"), wording), listed, setting)
        case "see":
            return sentence(
                pick(("on voit", "on peut voir", "nous voyons", "je vois"), wording), listed, setting
            )
        case "picture":
            if wording % 2:
                return sentence(pick(("l'image montre", "la photo montre"), wording // 2), listed, setting)
            of = enumerated([after("de", phrase) for phrase in phrases], " et ")
            return sentence(pick(("une image", "une photo"), wording // 2), of, setting)
        case "front":
            return sentence(f"{setting} ,", pick(("il y a", "on voit"), wording), listed)
        case "relation":
            relation = after(pick(RELATIONS[plan.relation or ""], wording), phrases[1])
            if wording % 4 == 3:
                return sentence(phrases[0], relation, setting)
            if setting and wording % 2:
                return sentence(f"{setting} ,", phrases[0], est_sont, relation)
            return sentence(phrases[0], est_sont, relation, setting)
        case "beside":
            beside = pick(("à côté de", "près de"), wording)
            return sentence(phrases[0], after(beside, phrases[1]), setting)
        case "predicate":
            return sentence(definite(first), setting, est_sont, enumerated(adjectives(first), " et "))
        case "contrast":
            form, article = int(gender(first) == "f"), "une" if gender(first) == "f" else "un"
            one, other = (f"{article} {COLOURS[colour][form]}" for colour in plan.colours)
            return sentence(f"{listed} {setting}".strip(), f", {one} et {other}")
    raise ValueError(f"unknown form {plan.form!r}")
