"""Indonesian captions: classifiers (sebuah, seekor, setangkai), adjectives after the noun, no plurals."""

from vlpnb.world.languages.sentence_plan import Phrase, SentencePlan, enumerated, pick, sentence

# Of every kind and category its words as (noun, classifier).
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "strawberry": (("stroberi", "buah"),),
    "butterfly": (("kupu-kupu", "ekor"),),
    "plum": (("plum", "buah"),),
    "mouse": (("tikus", "ekor"),),
    "potato": (("kentang", "buah"),),
    "frog": (("katak", "ekor"), ("kodok", "ekor")),
    "banana": (("pisang", "buah"),),
    "carrot": (("wortel", "buah"),),
    "tulip": (("bunga tulip", "tangkai"), ("tulip", "tangkai")),
    "eggplant": (("terong", "buah"),),
    "ball": (("bola", "buah"),),
    "fish": (("ikan", "ekor"),),
    "bottle": (("botol", "buah"),),
    "vase": (("vas", "buah"), ("vas bunga", "buah")),
    "bucket": (("ember", "buah"),),
    "drum": (("gendang", "buah"),),
    "box": (("kotak", "buah"), ("peti", "buah")),
    "crow": (("burung gagak", "ekor"), ("gagak", "ekor")),
    "lamp": (("lampu", "buah"),),
    "cactus": (("kaktus", "buah"),),
    "fox": (("rubah", "ekor"),),
    "mirror": (("cermin", "buah"),),
    "kite": (("layang-layang", "buah"), ("layangan", "buah")),
    "guitar": (("gitar", "buah"),),
    "snake": (("ular", "ekor"),),
    "swan": (("angsa", "ekor"),),
    "robot": (("robot", "buah"),),
    "pig": (("babi", "ekor"),),
    "sunflower": (("bunga matahari", "tangkai"),),
    "bench": (("bangku", "buah"),),
    "shelf": (("rak", "buah"),),
    "piano": (("piano", "buah"),),
    "bear": (("beruang", "ekor"),),
    "sofa": (("sofa", "buah"),),
    "tent": (("tenda", "buah"), ("kemah", "buah")),
    "igloo": (("iglo", "buah"),),
    "car": (("mobil", "buah"),),
    "boat": (("perahu", "buah"), ("kapal", "buah")),
    "elephant": (("gajah", "ekor"),),
    "house": (("rumah", "buah"),),
    "barn": (("lumbung", "buah"),),
    "balloon": (("balon udara", "buah"),),
    "tower": (("menara", "buah"),),
    "rocket": (("roket", "buah"),),
    "castle": (("kastel", "buah"), ("puri", "buah")),
    "animal": (("hewan", "ekor"), ("binatang", "ekor")),
    "building": (("bangunan", "buah"),),
    "container": (("wadah", "buah"),),
    "fruit": (("buah-buahan", "jenis"),),
    "furniture": (("perabot", "buah"),),
    "instrument": (("alat musik", "buah"),),
    "plant": (("tanaman", "buah"),),
    "toy": (("mainan", "buah"),),
    "vegetable": (("sayuran", "jenis"),),
    "vehicle": (("kendaraan", "buah"),),
}
COLOURS = {
    "red": "merah",
    "orange": "oranye",
    "yellow": "kuning",
    "green": "hijau",
    "blue": "biru",
    "purple": "ungu",
    "pink": "merah muda",
    "brown": "cokelat",
    "black": "hitam",
    "white": "putih",
    "gray": "abu-abu",
}
PATTERNS = {
    "plain": "polos",
    "striped": "bermotif garis",
    "dotted": "bermotif bintik",
    "checked": "bermotif kotak-kotak",
}
SIZES = {"small": "kecil", "big": "besar"}
SETTINGS = {
    "field": ("di padang", "di sebuah padang", "di padang rumput"),
    "room": ("di sebuah ruangan", "di dalam ruangan"),
    "night": ("pada malam hari", "di malam hari"),
    "beach": ("di pantai", "di tepi pantai"),
}
RELATIONS = {
    "left of": "di sebelah kiri",
    "right of": "di sebelah kanan",
    "above": "di atas",
    "below": "di bawah",
}
NUMBERS = {2: "dua", 3: "tiga", 4: "empat"}


def noun(phrase: Phrase) -> str:
    """The noun of a phrase; it has no plural after a number."""
    return pick(NOUNS[phrase.kind], phrase.synonym)[0]


def noun_phrase(phrase: Phrase) -> str:
    """ "sebuah mobil merah kecil", "dua ekor ikan biru"."""
    classifier = pick(NOUNS[phrase.kind], phrase.synonym)[1]
    opening = f"se{classifier}" if phrase.count == 1 else f"{NUMBERS[phrase.count]} {classifier}"
    words = [opening, noun(phrase)]
    if phrase.colour:
        words.append(COLOURS[phrase.colour])
    if phrase.size:
        words.append(SIZES[phrase.size])
    if phrase.pattern:
        words.append(PATTERNS[phrase.pattern])
    return " ".join(words)


def predicates(phrase: Phrase) -> list[str]:
    """The attributes of a phrase as a predicate has them."""
    words = []
    if phrase.size:
        words.append(SIZES[phrase.size])
    if phrase.colour:
        words.append(f"berwarna {COLOURS[phrase.colour]}")
    if phrase.pattern:
        words.append(PATTERNS[phrase.pattern])
    return words


def realise(plan: SentencePlan) -> str:
    """The Indonesian sentence of a plan."""
    first, wording = plan.phrases[0], plan.wording
    setting = pick(SETTINGS[plan.setting], wording) if plan.setting else ""
    phrases = [noun_phrase(phrase) for phrase in plan.phrases]
    listed = enumerated(phrases, " dan ", serial=",")
    match plan.form:
        case "bare":
            return sentence(listed, setting)
        case "there":
            return sentence(pick(("ada", "terdapat"), wording), listed, setting)
        case "see":
            opening = ("terlihat", "kita dapat melihat", "saya melihat", "tampak")
            return sentence(pick(opening, wording), listed, setting)
        case "picture":
            opening = ("gambar", "gambar ini menunjukkan", "foto", "foto ini memperlihatkan")
            return sentence(pick(opening, wording), listed, setting)
        case "front":
            return sentence(setting, pick(("ada", "terdapat"), wording), listed)
        case "relation":
            relation = f"{RELATIONS[plan.relation or '']} {phrases[1]}"
            if wording % 4 == 3:
                return sentence(phrases[0], relation, setting)
            if setting and wording % 2:
                return sentence(f"{setting} ,", phrases[0], "berada", relation)
            return sentence(phrases[0], "berada", relation, setting)
        case "beside":
            beside = pick(("di samping", "di dekat"), wording)
            return sentence(phrases[0], beside, phrases[1], setting)
        case "predicate":
            return sentence(noun(first), setting, "itu", enumerated(predicates(first), " dan ", serial=","))
        case "contrast":
            one, other = (f"satu {COLOURS[colour]}" for colour in plan.colours)
            return sentence(f"{listed} {setting}".strip(), f", {one} dan {other}")
    raise ValueError(f"unknown form {plan.form!r}")
