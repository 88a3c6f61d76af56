"""The caption stepper: what it takes from a trace, what is synced, its fallback, refusals."""

import re

import numpy as np
import pytest
import torch

from tests.browser import toys
from vlpnb.errors import UserError
from vlpnb.nn.beam import beam
from vlpnb.widgets.caption_stepper import CaptionStepper, path


def trace(width=2, steps=4, **more):
    table = torch.tensor(toys.CAPTIONS)
    step = lambda words, _: table[:1] if words is None else table[words]  # noqa: E731
    return beam(step, width, steps, 0, best=3, trace=True, **more).traces[0]


def stepper(searches=None, boxes=toys.BOXES, **more):
    return CaptionStepper(
        toys.scene(), np.array(boxes), searches or {"plain": trace()}, toys.PIECES.__getitem__, **more
    )


def test_a_path_follows_the_parents_and_its_log_probabilities_sum_to_the_total():
    view = toys.stepper()
    for sent, found in zip(view.searches, view.traces.values(), strict=True):
        for t, step in enumerate(sent["steps"]):
            for k, cell in enumerate(step):
                cells = path(found, t, k)
                assert len(cells) == t + 1
                along = sum(sent["steps"][a][b]["logProb"] for a, b in cells)
                assert along == pytest.approx(cell["total"], abs=0.01)


def test_the_text_joins_pieces_and_leaves_its_end_out():
    view = toys.stepper()
    found = next(iter(view.traces.values()))
    assert view.text(found, *found.texts[0].place) == "a red disc"
    assert any(text.endswith("discs") or "discs " in text for _, text, _ in view.searches[0]["ranked"])
    assert view.searches[0]["ranked"][0][0] == pytest.approx(found.texts[0].score, abs=1e-3)


def test_the_first_word_of_the_chosen_text_is_selected():
    view = toys.stepper()
    found = next(iter(view.traces.values()))
    assert (view.search, view.step) == (0, 0)
    assert path(found, *found.texts[0].place)[0] == (0, view.beam)


def test_attention_is_sent_search_by_search():
    view = toys.stepper()
    sizes = [one.size for one in view.maps.values()]
    sent = np.frombuffer(view.attention, "<f4")
    assert len(sent) == sum(sizes)
    assert np.array_equal(sent[: sizes[0]], next(iter(view.maps.values())).ravel())
    assert stepper().attention == b""
    assert stepper().searches[0]["maps"] is False


def test_the_fallback_tells_captions_words_and_steps():
    bundle, _ = toys.stepper()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    [image] = re.findall(r"<img [^>]+>", bundle["text/html"])
    assert 'alt="Picture with 5 regions: 1: field' in image
    assert "looks at" in bundle["text/html"]
    assert "with +1 for each word" in bundle["text/html"]
    assert "→    -2.55  a red disc" in bundle["text/plain"]
    assert "looks at" not in stepper().to_html()


def test_view_module_needs_no_network():
    for source in (CaptionStepper._esm, CaptionStepper._css):
        assert "http" not in str(source)


def test_what_does_not_fit_together_is_refused():
    good = trace()
    shape = (len(good.steps), 2, 5)
    uniform = np.full(shape, 0.2)
    assert stepper({"plain": good}, attention={"plain": uniform}).maps["plain"].shape == shape
    for given, message in (
        (
            {"attention": {"plain": uniform[:1]}},
            r"plain: attention has shape \(1, 2, 5\); expected \(T, K, R\)",
        ),
        ({"attention": {"plain": 2 * uniform}}, "plain: attention is no probability"),
        ({"attention": {"other": uniform}}, r"attention of \['other'\]; expected settings of \['plain'\]"),
        ({"names": ["sky"]}, "1 names of 5 regions"),
        ({"boxes": [[0, 0, 9, 9]]}, r"boxes\[0\].*divide pixels"),
    ):
        with pytest.raises(UserError, match=message):
            stepper({"plain": good}, **given)
    with pytest.raises(UserError, match="searches is empty"):
        CaptionStepper(toys.scene(), np.array(toys.BOXES), {}, str)
