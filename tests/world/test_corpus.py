"""The encyclopedia: pure, of the right look, and silent about what pictures always show."""

import itertools
import re
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest
from scipy.stats import chi2_contingency

from vlpnb.errors import UserError
from vlpnb.world.corpus import CORPUS_SPLITS, FACTS, article, corpus_lines
from vlpnb.world.knowledge import ATTRIBUTES, CANDIDATES, bound_attributes, visible_terms
from vlpnb.world.languages.english import NOUNS
from vlpnb.world.scene import CANONICAL_KINDS, CATEGORIES, COLOURS, HELD_OUT, KINDS, MATERIALS, SHAPES

TOKENS = 300_000
WORD_KIND = {form: kind for kind in KINDS for forms in NOUNS[kind] for form in forms}


@cache
def lines() -> tuple[str, ...]:
    return tuple(corpus_lines(0, "train", TOKENS))


@cache
def sentences() -> tuple[tuple[str, ...], ...]:
    found = []
    for line in lines():
        if not line.startswith(" = ") and line.strip():
            for text in re.split(r"(?<= [.?]) ", line.strip().lower()):
                found.append(tuple(text.split()))
    return tuple(found)


def test_look_of_wiki_raw():
    first = list(itertools.islice(corpus_lines(0, "train", 10_000), 40))
    assert first[0] == " "
    assert re.fullmatch(r" = [^=]+ = ", first[1])
    for line in lines():
        assert line.startswith(" ")
        assert line.endswith(" ")
        assert "  " not in line
        if line.strip() and " = " not in line:
            assert re.search(r' [.?"] $', line), line
            assert not re.search(r"\w[.,?]", line), line
            assert not re.search(r"\ba [aeiou]\w|\ban [^aeiou\W]", line), line


def test_pure_across_processes_and_of_any_length():
    code = "from vlpnb.world.corpus import corpus_lines; print(list(corpus_lines(7, 'valid', 2000)))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(list(corpus_lines(7, "valid", 2000)))
    short, long = list(corpus_lines(0, "test", 1000)), list(corpus_lines(0, "test", 5000))
    assert long[: len(short)] == short
    assert 1000 <= sum(len(line.split()) for line in short) < 1200


def test_splits_share_no_paragraph_of_some_length():
    paragraphs = {
        split: {line for line in corpus_lines(0, split, 50_000) if len(line.split()) > 30}
        for split in CORPUS_SPLITS
    }
    for one, other in itertools.combinations(CORPUS_SPLITS, 2):
        assert not paragraphs[one] & paragraphs[other]


def test_bad_requests_are_refused():
    with pytest.raises(UserError, match=r"'dev'.*train, valid, test"):
        next(corpus_lines(0, "dev", 10))
    with pytest.raises(UserError, match="-1"):
        article(0, -1)


def test_small_vocabulary_that_covers_every_kind_and_candidate():
    # More text than elsewhere: a material is said every 2,500 words, and chance alone moves its count by √count.
    text = corpus_lines(0, "train", 5 * TOKENS)
    words = Counter(word for line in text for word in line.lower().split())
    assert len(words) <= 700
    assert set(FACTS) == set(KINDS)
    for kind in KINDS:
        assert sum(words[form] for forms in NOUNS[kind] for form in forms) > 300
    for attribute in ATTRIBUTES:
        counts = [words[word] for word in CANDIDATES[attribute]]
        assert min(counts) > 0.8 * max(counts), (attribute, counts)
    for category in CATEGORIES:
        assert any(words[word] for form in NOUNS[category][0] for word in form.split()[-1:]), category


def test_no_canonical_colour_is_stated():
    """No colour modifies a canonical kind, by the reader of `visible_terms` and by a blunt pattern."""
    canonical = {form for kind in CANONICAL_KINDS for forms in NOUNS[kind] for form in forms}
    for words in sentences():
        terms = visible_terms(words)
        for noun, attributes in bound_attributes(terms).items():
            if words[noun] in canonical:
                assert not set(attributes) & set(COLOURS), words
        for one, other in itertools.pairwise(words):
            assert not (one in COLOURS and other in canonical), words
            assert not (one in canonical and other in COLOURS), words
        if set(words) & {"is", "are", "was", "were"} and words[-2] in COLOURS:
            assert not set(words) & canonical, words


def test_no_shape_material_or_order_of_size_is_said_of_a_kind():
    special = {*SHAPES, *MATERIALS, "bigger", "smaller"}
    hits = 0
    for words in sentences():
        if set(words) & special:
            hits += 1
            assert not set(words) & WORD_KIND.keys(), words
    assert hits > 500


def test_held_out_pairs_never_occur():
    held_out = {(colour, form) for colour, kind in HELD_OUT for forms in NOUNS[kind] for form in forms}
    colours_said = 0
    for words in sentences():
        for noun, attributes in bound_attributes(visible_terms(words)).items():
            for attribute in attributes:
                assert (attribute, words[noun]) not in held_out, words
                colours_said += attribute in COLOURS
        assert not set(itertools.pairwise(words)) & held_out
    assert colours_said > 5000


def test_colours_and_canonical_kinds_are_independent():
    """Colour words in the paragraphs where canonical kinds occur: a test of independence does not reject."""
    p_values = []
    for words in (tuple(COLOURS), SHAPES, MATERIALS, ("bigger", "smaller")):
        table = Counter()
        for line in lines():
            present = set(line.lower().split())
            kinds = {WORD_KIND[word] for word in present & WORD_KIND.keys()} & set(CANONICAL_KINDS)
            table.update((kind, word) for kind in kinds for word in words if word in present)
        counts = [[table[kind, word] for word in words] for kind in CANONICAL_KINDS]
        p_values.append(chi2_contingency(counts).pvalue)
    assert min(p_values) > 0.001, p_values
