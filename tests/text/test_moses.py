"""Moses' rules for English, each by the case that it is there for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlpnb.text.moses import moses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world!", "Hello , world !"),
        ("It isn't Tom's, it's the dogs' bone.", "It isn 't Tom 's , it 's the dogs ' bone ."),
        ("in the 1990's and at 5'b", "in the 1990 's and at 5'b"),
        ("1,234.5 apples, 3,000 pears,", "1,234.5 apples , 3,000 pears ,"),
        ("Mr. Smith met Dr. No. 5 at No. 10.", "Mr. Smith met Dr. No. 5 at No. 10 ."),
        ("He said No. Then he left.", "He said No . Then he left ."),
        ("The U.S.A. is big. It is.", "The U.S.A. is big . It is ."),
        ("born c. 1900 approx. five", "born c . 1900 approx. five"),
        ("wait... what....", "wait ... what ...."),
        ("a well-known (1990) thing ( here ).", "a well-known ( 1990 ) thing ( here ) ."),
        ("„quoted“ “quoted” ‘quoted’ «quoted»", '" quoted " " quoted " " quoted \' " quoted "'),
        ('He said "yes", then "no".', 'He said " yes , " then " no . "'),
        ("1914–1918 — a war…", "1914-1918 - a war ..."),
        ("full，width：１２３（x）。Next", "full , width : 123 ( x ) . Next"),
        ("50 % of 3 : 4 ; why ? so !", "50 % of 3 : 4 ; why ? so !"),
        ("a\u200bb\tc\x07d\u00a0e", "a b c d e"),
        ("snake_case & <b> a@b.org", "snake _ case & < b > a @ b.org"),
        ("", ""),
    ],
)
def test_rules(text, expected):
    assert moses(text) == expected


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_line_stays_one_line_of_single_spaces(text):
    made = moses(text)
    assert made == " ".join(made.split())
    assert len(made.splitlines()) <= 1


@settings(max_examples=300, deadline=None)
@given(st.text("abcN dé ,.'\"()12_«»—:%", max_size=30))
def test_letters_and_digits_are_never_changed(text):
    assert [c for c in moses(text) if c.isalnum()] == [c for c in text if c.isalnum()]
