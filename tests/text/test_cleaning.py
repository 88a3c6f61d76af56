"""Cleaning of sentences: the release's to the letter, and one that knows other scripts."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vlpnb.errors import UserError
from vlpnb.text.cleaning import clean_caption, clean_question, says_nothing

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize(
    ("text", "caption", "question"),
    [
        ("A man, with a (red) hat!", "a man with a red hat", "a man  with a  red  hat"),
        ("well-known black/white", "well known black white", "well known black white"),
        ("<PERSON> waves", "person waves", "<person> waves"),
        ("  two   spaces\tand\u00a0more ", "two spaces\tand\u00a0more", "  two   spaces\tand\u00a0more"),
        ("左圖，右圖。", "左圖，右圖。", "左圖，右圖。"),
        ("«é»… İ", "«é»… i̇", "«é»… i̇"),
    ],
)
def test_the_releases_cleaning_is_kept_with_all_its_effects(text, caption, question):
    assert clean_caption(text, 40) == caption
    assert clean_question(text, 40) == question


def test_the_word_limit_counts_spaces_in_questions_and_does_not_cut_chinese():
    assert clean_caption("one, two three four", 3) == "one two three"
    assert clean_question("one, two three four", 3) == "one  two"
    assert clean_caption("红" * 50, 3) == "红" * 50
    assert clean_caption("红" * 50, 3, "unicode") == "红" * 3
    assert clean_caption("a 红球 b c", 4, "unicode") == "a 红球 b"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("L'été, c'est «beau»… non ?", "L été c est beau non"),
        ("¿Qué? ¡Sí!", "Qué Sí"),
        ("赤い、帽子「の」男性！（笑）", "赤い 帽子 の 男性 笑"),
        ("İstanbul IŞIK", "İstanbul IŞIK"),
        ("zero\u200bwidth\u00a0nbsp\u3000ideographic", "zerowidth nbsp ideographic"),
        ("ｆｕｌｌ－ｗｉｄｔｈ", "full width"),
        ("নির\u200dক্ষর।", "নির\u200dক্ষর"),
        ("<Person> waves 🙂", "person waves 🙂"),
        (
            "赤い帽子1の男性",
            "赤い帽子1の男性",
        ),  # stray digits of a source corpus stay: they may be the text's own
    ],
)
def test_the_other_cleaning_knows_punctuation_and_spaces_of_all_scripts_and_keeps_case(text, cleaned):
    assert clean_caption(text, 40, "unicode") == clean_question(text, 40, "unicode") == cleaned


@pytest.mark.parametrize("text", ["", "   ", "...", "?!", "'''"])
@pytest.mark.parametrize("cleaning", ["cclm_v1", "unicode"])
def test_a_sentence_without_a_word_is_refused_and_a_question_is_empty(text, cleaning):
    with pytest.raises(UserError, match=r"has no word.*Remove it"):
        clean_caption(text, 40, cleaning)
    assert clean_question(text, 40, cleaning) == ""
    assert says_nothing(text)


def test_an_unknown_cleaning_is_named():
    with pytest.raises(UserError, match="'cclm_v2' is unknown; expected cclm_v1 or unicode"):
        clean_caption("a", 1, "cclm_v2")


@given(ANY)
@example("´\x1b𑩇")  # two marks that combine in another order once nothing is between them
def test_what_says_something_can_be_cleaned_either_way_and_cleaning_again_changes_nothing(text):
    if says_nothing(text):
        assert not any(c.isalnum() for c in text)
        return
    assert clean_caption(text, 40)
    cleaned = clean_caption(text, 40, "unicode")
    assert clean_caption(cleaned, 40, "unicode") == cleaned
    assert not any(unicodedata.category(c)[0] == "P" or (c.isspace() and c != " ") for c in cleaned)
