"""Beam search beside brute force over all texts, with every option; stopping early; what a trace tells."""

from itertools import product

import pytest
import torch

from tests.nn.toy_writer import ToyWriter
from vlpnb.errors import UserError
from vlpnb.nn.beam import PENALTY, beam
from vlpnb.nn.decoding import greedy

V, T, END = 6, 4, 0
OPTIONS = {
    "plain": {},
    "bonus": {"length_bonus": 0.8},
    "malus": {"length_bonus": -0.7},
    "minimum": {"min_length": 2},
    "single words": {"no_repeat": 1},
    "pairs": {"no_repeat": 2},
    "triples": {"no_repeat": 3},
    "pairs but of some words": {"no_repeat": 2, "ignore": (2, 3)},
    "triples but of some words": {"no_repeat": 3, "ignore": (1,)},
    "all": {"length_bonus": 0.6, "min_length": 2, "no_repeat": 2, "ignore": (4,)},
}


def log_probability(model, picture, text, min_length=0, no_repeat=0, ignore=(), length_bonus=0.0) -> float:
    """A text's total, from nothing but the text: the rules one word after the other."""
    total = 0.0
    for place, word in enumerate(text):
        before = text[:place]
        paid = model.scores(picture, before).log_softmax(0)[word].item()
        tail = before[len(before) - no_repeat + 1 :]
        if no_repeat and len(before) >= no_repeat and not set(tail) & set(ignore) and word not in ignore:
            runs = {before[i : i + no_repeat] for i in range(len(before) - no_repeat + 1)}
            paid -= PENALTY * ((*tail, word) in runs)
        if word == END and place < min_length:
            paid = -PENALTY
        total += paid - PENALTY * (END in before[-1:])
    return total


def brute_force(model, picture, width, steps=T, best=3, **options):
    """All texts of each length whose beginnings survived, the K best of them; then the best that may be returned."""
    bonus = options.get("length_bonus", 0.0)
    survivors, found = [()], []
    for length in range(1, steps + 1):
        texts = [text for text in product(range(V), repeat=length) if text[:-1] in survivors]
        texts = sorted(texts, key=lambda t: -log_probability(model, picture, t, **options))
        survivors = texts[:width]
        last = length == steps or all(text[-1] == END for text in survivors)
        for text in survivors:
            if text[-1] == END or last:
                found.append((log_probability(model, picture, text, **options) + bonus * length, text))
        if last:
            break
    return sorted(found, key=lambda pair: -pair[0])[:best]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_beam_equals_brute_force(width, options):
    for seed, (sharpness, ending) in enumerate([(1.0, 0.0), (2.0, 1.0), (0.7, 1.5), (1.5, -1.0)]):
        model = ToyWriter(3, V, seed, sharpness, ending)
        found = beam(model.step(), width, T, END, best=3, **options)
        for picture, texts in enumerate(found.texts):
            expected = brute_force(model, picture, width, **options)
            assert [text.ids for text in texts] == [text for _, text in expected]
            assert [text.score for text in texts] == pytest.approx([score for score, _ in expected], rel=1e-9)
            assert [text.ended for text in texts] == [text.ids[-1] == END for text in texts]


@pytest.mark.parametrize("bonus", [0.0, 0.5, -0.5])
def test_a_beam_as_wide_as_the_vocabulary_finds_the_best_of_all_texts_of_two_words(bonus):
    for seed in range(20):
        model = ToyWriter(1, V, seed, ending=0.5)
        everything = [(END,), *product(range(1, V), range(V))]
        scores = {text: log_probability(model, 0, text) + bonus * len(text) for text in everything}
        assert beam(model.step(), V, 2, END, length_bonus=bonus).texts[0][0].ids == max(
            scores, key=scores.get
        )


def test_a_search_never_finds_more_than_there_is_and_a_wide_one_mostly_finds_the_best():
    hits = 0
    for seed in range(20):
        model = ToyWriter(1, V, seed, 1.5)
        texts = [t for n in range(1, T + 1) for t in product(range(V), repeat=n)]
        whole = [t for t in texts if END not in t[:-1] and (t[-1] == END or len(t) == T)]
        most = max(log_probability(model, 0, text) for text in whole)
        found = beam(model.step(), V, T, END).texts[0][0].score
        assert found <= most + 1e-9
        hits += found == pytest.approx(most)
    assert hits >= 18


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("best", [1, 3])
def test_stopping_early_changes_nothing(options, best):
    saved = 0
    for seed in range(12):
        model = ToyWriter(2, 9, seed, sharpness=2.0, ending=2.0)
        full = beam(model.step(), 4, 12, END, best=best, stop_early=False, **options)
        quick = beam(model.step(), 4, 12, END, best=best, **options)
        assert quick.texts == full.texts
        assert torch.equal(quick.ids, full.ids)
        made = quick.words.shape[1]
        for part in ("words", "parents", "totals"):
            assert torch.equal(getattr(quick, part), getattr(full, part)[:, :made])
        saved += 12 - made
    assert saved > 0 or options.get("length_bonus", 0) > 0


def test_one_beam_is_greedy():
    model = ToyWriter(5, 9, ending=1.0)
    assert torch.equal(beam(model.step(), 1, 8, END).ids, greedy(model.step(), 8, END).ids)


def test_a_picture_is_decoded_alike_alone_and_among_others():
    model = ToyWriter(4, 9, sharpness=1.5, ending=1.0)
    together = beam(model.step(), 3, 8, END, best=2)
    for picture in range(4):
        assert beam(model.step(picture), 3, 8, END, best=2).texts[0] == together.texts[picture]


def test_totals_and_back_pointers_tell_the_chosen_texts():
    model = ToyWriter(3, 9, ending=0.5)
    found = beam(model.step(), 4, 7, END, length_bonus=0.3, pad_id=8)
    for picture, (text, *_) in enumerate(found.texts):
        step, k = text.place
        assert len(text.ids) == step + 1
        assert (
            found.totals[picture, step, k].item()
            == text.total
            == pytest.approx(text.score - 0.3 * len(text.ids))
        )
        walked = []
        while step >= 0:
            walked.insert(0, found.words[picture, step, k].item())
            k, step = found.parents[picture, step, k].item(), step - 1
        assert tuple(walked) == text.ids
        assert found.ids[picture].tolist() == [*text.ids, *[8] * (7 - len(text.ids))]


def test_no_run_of_words_comes_twice_and_no_text_is_too_short():
    model = ToyWriter(6, 9, sharpness=3.0, ending=-1.0)
    free = beam(model.step(), 3, 12, END)
    assert any(_repeats(text[0].ids, 1) for text in free.texts)
    for n in (1, 2, 3):
        for text, *_ in beam(model.step(), 3, 8, END, no_repeat=n).texts:
            assert not _repeats(text.ids, n)
    short = ToyWriter(6, 9, ending=3.0)
    assert min(len(text[0].ids) for text in beam(short.step(), 3, 8, END).texts) < 6
    assert min(len(text[0].ids) for text in beam(short.step(), 3, 8, END, min_length=5).texts) == 6


def _repeats(ids, n):
    runs = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return len(runs) > len(set(runs))


def test_half_precision_scores_are_added_up_in_float32():
    model = ToyWriter(2, 9)
    step = model.step()
    found = beam(lambda *given: step(*given).bfloat16(), 3, 5, END)
    assert found.totals.dtype == torch.float32


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="NaN"):
        beam(lambda words, rows: torch.full((2 if words is None else 6, 9), torch.nan), 3, 5, END)


def test_nothing_to_write_about_is_nothing_written():
    found = beam(lambda words, rows: torch.zeros(0, 9), 3, 5, END, pad_id=7)
    assert found.ids.shape == (0, 5)
    assert found.texts == []


def test_a_trace_explains_every_step():
    model = ToyWriter(2, 9, seed=3, sharpness=2.0, ending=2.0)
    found = beam(model.step(), 3, 9, END, trace=True, min_length=2, no_repeat=1, best=2, length_bonus=0.1)
    reasons = set()
    for picture, trace in enumerate(found.traces):
        assert trace.texts == found.texts[picture]
        assert trace.length_bonus == 0.1
        for number, step in enumerate(trace.steps):
            assert list(step.words) == found.words[picture, number].tolist()
            assert list(step.parents) == found.parents[picture, number].tolist()
            assert list(step.totals) == found.totals[picture, number].tolist()
            assert step.ended == tuple(word == END for word in step.words)
            assert len(step.continuations) == (1 if number == 0 else 3)
            kept = {
                (beam_number, way.word): way.total
                for beam_number, ways in enumerate(step.continuations)
                for way in ways
                if way.kept
            }
            entries = dict(zip(zip(step.parents, step.words, strict=True), step.totals, strict=True))
            assert kept == pytest.approx(entries)
            for beam_number, ways in enumerate(step.continuations):
                assert len(ways) >= 5
                for way in ways:
                    reasons.add(way.blocked)
                    before = 0.0 if number == 0 else trace.steps[number - 1].totals[beam_number]
                    assert (way.total < before + way.log_prob - 9000) == (
                        way.blocked in ("ended", "repeated", "minimum")
                    )
                    if number:
                        assert (way.blocked == "ended") == trace.steps[number - 1].ended[beam_number]
                    if way.blocked == "minimum":
                        assert (way.word, number < 2) == (END, True)
    assert reasons == {"", "ended", "minimum", "repeated"}
    assert beam(model.step(), 3, 9, END).traces is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10}, "width = 10 beams, but there are only 9 words"),
        ({"width": 0}, "width = 0; expected at least 1"),
        ({"steps": 0}, "steps = 0"),
        ({"min_length": -1}, "min_length = -1; expected at least 0"),
        ({"no_repeat": -2}, "no_repeat = -2"),
        ({"best": 0}, "best = 0"),
    ],
)
def test_numbers_without_meaning_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        beam(ToyWriter(1, 9).step(), **{"width": 2, "steps": 3, "end_id": END} | options)
