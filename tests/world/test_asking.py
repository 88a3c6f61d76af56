"""Questions and statements in five languages: grammatical in each, and translations of the English ones."""

import random
import re
from collections import defaultdict

import pytest

from vlpnb.errors import UserError
from vlpnb.world.languages import chinese, french, german, indonesian
from vlpnb.world.languages.asking import TRANSLATORS, translated
from vlpnb.world.languages.sentence_plan import QUESTION_FORMS, Phrase, QuestionPlan, StatementPlan
from vlpnb.world.phrases import descriptions, planned
from vlpnb.world.questions import STATEMENT_KINDS, statements
from vlpnb.world.questions.gqa import gqa_candidates
from vlpnb.world.questions.vqa import vqa_candidates
from vlpnb.world.scene import CANONICAL_KINDS, COLOURS, KINDS, PATTERNS, SETTINGS, make_scene


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(0, "train", i) for i in range(300)]


@pytest.fixture(scope="module")
def questions(scenes):
    found = {}
    for scene in scenes:
        for q in (*vqa_candidates(scene, random.Random(0)), *gqa_candidates(scene, random.Random(0))):
            found[q.text] = q.plan
    return found


@pytest.fixture(scope="module")
def stated(scenes):
    return {s.text: s.plan for s in statements(scenes, 0, 2000, 1)}


def said(plans, language):
    return {text: translated(text, plan, language) for text, plan in plans.items() if plan is not None}


EXPECTED = [
    (
        QuestionPlan("exists", (Phrase("fox"),)),
        ("Gibt es einen Fuchs?", "Y a-t-il un renard ?", "Apakah ada seekor rubah?", "有一只狐狸吗？"),
    ),
    (
        QuestionPlan("exists in the picture", (Phrase("car", colour="green"),)),
        (
            "Gibt es auf dem Bild ein grünes Auto?",
            "Y a-t-il une voiture verte sur l'image ?",
            "Apakah ada sebuah mobil hijau di gambar?",
            "图片里有一辆绿色的汽车吗？",
        ),
    ),
    (
        QuestionPlan("colour is", (Phrase("boat"),), ("white",)),
        ("Ist das Boot weiß?", "Le bateau est-il blanc ?", "Apakah perahu itu berwarna putih?", "这艘船是白色的吗？"),
    ),
    (
        QuestionPlan("choose colour", (Phrase("house"),), ("purple", "white")),
        (
            "Ist das Haus violett oder weiß?",
            "La maison est-elle violette ou blanche ?",
            "Apakah rumah itu berwarna ungu atau putih?",
            "这座房子是紫色的还是白色的？",
        ),
    ),
    (
        QuestionPlan("both attributes", (Phrase("lamp"),), ("gray", "plain")),
        (
            "Ist die Lampe grau und einfarbig?",
            "La lampe est-elle grise et unie ?",
            "Apakah lampu itu berwarna abu-abu dan polos?",
            "这盏灯既是灰色的又是纯色的吗？",
        ),
    ),
    (
        QuestionPlan("neighbour", (Phrase("bear"),), relation="below"),
        (
            "Was ist unter dem Bären?",
            "Qu'y a-t-il au-dessous de l'ours ?",
            "Apa yang ada di bawah beruang itu?",
            "这只熊下方是什么？",
        ),
    ),
    (
        QuestionPlan("neighbour exists", (Phrase("elephant"), Phrase("boat", pattern="dotted")), relation="right of"),
        (
            "Gibt es rechts neben dem gepunkteten Boot einen Elefanten?",
            "Y a-t-il un éléphant à droite du bateau à pois ?",
            "Apakah ada seekor gajah di sebelah kanan perahu bermotif bintik itu?",
            "这艘波点的船右边有一头大象吗？",
        ),
    ),
    (
        QuestionPlan("choose relation", (Phrase("tower"), Phrase("elephant")), relation="above"),
        (
            "Ist der Turm über oder unter dem Elefanten?",
            "La tour est-elle au-dessus ou au-dessous de l'éléphant ?",
            "Apakah menara itu berada di atas atau di bawah gajah itu?",
            "这座塔在这头大象的上方还是下方？",
        ),
    ),
    (
        QuestionPlan("same colour", (Phrase("car"), Phrase("house"))),
        (
            "Haben das Auto und das Haus dieselbe Farbe?",
            "La voiture et la maison sont-elles de la même couleur ?",
            "Apakah mobil itu dan rumah itu berwarna sama?",
            "这辆汽车和这座房子的颜色一样吗？",
        ),
    ),
    (
        QuestionPlan("how many", (Phrase("elephant"),)),
        ("Wie viele Elefanten gibt es?", "Combien d'éléphants y a-t-il ?", "Ada berapa gajah?", "有几头大象？"),
    ),
    (
        StatementPlan("count", (Phrase("ball", colour="red"),), 2),
        (
            "Auf den zwei Bildern sind genau zwei rote Bälle.",
            "Il y a exactement deux balles rouges sur les deux images.",
            "Ada tepat dua buah bola merah di kedua gambar.",
            "两张图片里一共恰好有两个红色的球。",
        ),
    ),
    (
        StatementPlan("setting and", (Phrase("igloo"),), setting="night"),
        (
            "Das rechte Bild wurde bei Nacht aufgenommen und zeigt ein Iglu.",
            "L'image de droite a été prise la nuit et montre un igloo.",
            "Gambar sebelah kanan diambil pada malam hari dan menunjukkan sebuah iglo.",
            "右边的图片是在夜里拍的，里面有一座冰屋。",
        ),
    ),
    (
        StatementPlan("more", (Phrase("animal"),)),
        (
            "Das linke Bild zeigt mehr Tiere als das rechte.",
            "L'image de gauche montre plus d'animaux que celle de droite.",
            "Gambar sebelah kiri menunjukkan lebih banyak hewan daripada gambar sebelah kanan.",
            "左边图片里的动物比右边图片里的多。",
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("plan", "sentences"), EXPECTED, ids=[plan.form for plan, _ in EXPECTED])
def test_sentences_are_what_a_speaker_would_say(plan, sentences):
    assert tuple(translated("", plan, language) for language in TRANSLATORS) == sentences


def test_every_form_and_kind_is_said_in_every_language(questions, stated):
    assert {plan.form for plan in questions.values() if plan} == set(QUESTION_FORMS)
    assert {plan.form for plan in stated.values() if plan} == set(STATEMENT_KINDS)
    for language in TRANSLATORS:
        assert all(said(questions, language).values())
        assert all(said(stated, language).values())


def test_only_sizes_settings_and_what_is_about_a_mere_thing_are_left_to_english(questions, stated):
    for text, plan in (questions | stated).items():
        if plan is None:
            assert re.search(r"\bthings?\b|^How big|^What is the setting", text), text


@pytest.mark.parametrize("language", TRANSLATORS)
def test_different_questions_have_different_translations(questions, stated, language):
    """Else two questions that are balanced one by one would be one that is not."""
    for plans in (questions, stated):
        english = defaultdict(set)
        for text, sentence in said(plans, language).items():
            english[sentence].add(text)
        clashes = {sentence: texts for sentence, texts in english.items() if len(texts) > 1}
        assert not clashes


@pytest.mark.parametrize("language", TRANSLATORS)
def test_no_translation_states_a_canonical_colour(questions, stated, language):
    for plan in (p for p in (*questions.values(), *stated.values()) if p):
        for phrase in plan.phrases:
            assert phrase.kind not in CANONICAL_KINDS or phrase.colour is None
        if plan.form in ("colour is", "choose colour", "both attributes"):
            assert plan.phrases[0].kind not in CANONICAL_KINDS


def test_german_agrees(questions, stated):
    genders = {word[0]: word[1] for words in german.NOUNS.values() for word in words}
    capital = r"([A-ZÄÖÜ]\w+)"
    articles = {"einen": "m", "ein": "mn", "eine": "f", "der": "mf", "die": "f", "das": "n", "dem": "mn"}
    checked = 0
    for sentence in (*said(questions, "de").values(), *said(stated, "de").values()):
        for article, noun in re.findall(rf"\b(einen|eine|ein|der|die|das|dem) (?:\w+ )?{capital}", sentence):
            known = genders.get(noun) or genders.get(noun.removesuffix("en"))
            if known is not None:
                assert known in articles[article], sentence
                checked += 1
    assert checked > 1000


def test_french_agrees_elides_and_contracts(questions, stated):
    feminine = {word[0] for words in french.NOUNS.values() for word in words if word[1] == "f"}
    masculine = {word[0] for words in french.NOUNS.values() for word in words if word[1] == "m"}
    checked = 0
    for sentence in (*said(questions, "fr").values(), *said(stated, "fr").values()):
        assert not re.search(r"\bde le\b|\bde les\b|\b(de|le|la|ne|que) [aeiouéèêh]\w*", sentence.lower()), (
            sentence
        )
        assert sentence[0].isupper()
        for article, noun in re.findall(r"\b(une?) ([a-zéèêîôç-]+)", sentence.lower()):
            if noun in feminine | masculine:
                assert (article == "une") == (noun in feminine), sentence
                checked += 1
        if "-elle " in sentence or "-il " in sentence:
            subject = re.split(r"[ ']", sentence.split(" est-")[0].lower())
            if subject[0] in ("le", "la", "l") and " est-" in sentence and subject[1] in feminine | masculine:
                assert (subject[1] in feminine) == ("-elle" in sentence), sentence
    assert checked > 500


def test_indonesian_and_chinese_have_their_particles(questions):
    for text, sentence in said(questions, "zh").items():
        closed = text.split()[0] in ("Is", "Are", "Do", "Was") and " or " not in text
        closed |= text.startswith("Is there either")
        assert sentence.endswith("吗？") == closed, (text, sentence)
        assert not re.search(r"[A-Za-z ,.?]", sentence), sentence
    for text, sentence in said(questions, "id").items():
        closed = text.split()[0] in ("Is", "Are", "Do", "Was")
        assert sentence.startswith("Apakah ") == closed, (text, sentence)
    assert len(set(indonesian.NOUNS)) == len(set(chinese.NOUNS)) == len(set(german.NOUNS))


def test_phrases_are_planned_as_they_are_described(scenes):
    for scene in scenes[:100]:
        for thing in scene.things:
            for text in descriptions(thing):
                plan = planned(text)
                if text.split()[-1] == "thing":
                    assert plan == ()
                    continue
                (phrase,) = plan
                assert phrase.kind in (thing.kind, KINDS[thing.kind].category)
                assert phrase.colour in (None, thing.colour)
                assert phrase.pattern in (None, thing.pattern)
                assert (phrase.colour or phrase.pattern or "") in text
    assert planned("car", "red thing") == ()


def test_english_stays_itself_and_unknown_languages_and_forms_are_refused():
    plan = QuestionPlan("exists", (Phrase("car"),))
    assert translated("Is there a car?", plan, "en") == "Is there a car?"
    with pytest.raises(
        UserError, match="Unknown language 'dr' of questions; expected one of en, de, fr, id, zh"
    ):
        translated("Is there a car?", plan, "dr")
    for module in TRANSLATORS.values():
        for ask, strange in ((module.question, QuestionPlan), (module.statement, StatementPlan)):
            with pytest.raises((ValueError, KeyError)):
                ask(strange("sung", (Phrase("car"),)))
        assert set(module.SETTINGS if hasattr(module, "SETTINGS") else chinese.PLACES) == set(SETTINGS)
        assert all(module.question(QuestionPlan("colour is", (Phrase("car"),), (c,))) for c in COLOURS)
        assert all(module.question(QuestionPlan("pattern is", (Phrase("car"),), (p,))) for p in PATTERNS)
