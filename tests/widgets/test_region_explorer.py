"""The region explorer: both directions of one pass, what is synced, its fallback, refusals."""

import re

import numpy as np
import pytest
import torch

from tests.browser import toys
from vlpnb.errors import UserError
from vlpnb.widgets.region_explorer import RegionExplorer

WORDS = ["[CLS]", "a <b>", "car"]
BOXES = [[0, 0, 0.5, 1], [0.25, 0.25, 1.0004, 0.75]]


def uniform(*shape):
    return torch.full(shape, 1 / shape[-1])


def maps(layers=2, heads=2):
    """A pair of maps, batched as a model returns them."""
    return [uniform(1, heads, 3, 2)] * layers, [uniform(1, heads, 2, 3)] * layers


def explorer(**more):
    return RegionExplorer(np.zeros((20, 30, 3), np.uint8), BOXES, WORDS, *maps(), **more)


def test_each_direction_keeps_its_own_maps():
    to_regions, to_words = maps()
    to_regions[1] = torch.eye(2)[[0, 1, 1]].expand(1, 2, 3, 2)
    to_words[1] = torch.eye(3)[[2, 0]].expand(1, 2, 2, 3)
    view = RegionExplorer(np.zeros((20, 30, 3), np.uint8), BOXES, WORDS, to_regions, to_words, ["sky", "sea"])
    assert dict(view.strongest("words"))["car"][0] == ("2: sea", 1.0)
    assert dict(view.strongest("regions"))["1: sky"][0] == ("car", 1.0)
    sent = np.frombuffer(view.to_words, "<f4").reshape(2, 2, 2, 3)
    assert np.array_equal(sent[1, 0], to_words[1][0, 0])
    assert view.layer == 1, "the last layer is shown first"


def test_the_mean_of_the_heads_is_shown_until_a_head_is_chosen():
    view = toys.regions()
    mean = view.from_words[1].mean(0)[2]
    assert view.strongest("words")[2][1][0] == (view.labels[mean.argmax()], pytest.approx(mean.max()))
    view.head = 1
    one = view.from_words[1, 1][2]
    assert view.strongest("words")[2][1][0] == (view.labels[one.argmax()], pytest.approx(one.max()))
    assert view.shown() == "layer 2 of 2, head 2 of 3"


def test_fallback_tells_both_directions_and_draws_the_boxes():
    bundle, _ = explorer(title="t & u", names=["sky", "<sea>"])._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    [image] = re.findall(r"<img [^>]+>", bundle["text/html"])
    assert 'alt="Picture with 2 regions: 1: sky, 2: &lt;sea&gt;"' in image
    assert 'src="data:image/' in image
    assert bundle["text/html"].count("<table>") == 2
    assert "t &amp; u: layer 2 of 2, mean of the heads" in bundle["text/html"]
    assert "<td>a &lt;b&gt; 0.33</td>" in bundle["text/html"]
    assert "car → 1: sky 0.50, 2: <sea> 0.50" in bundle["text/plain"]
    assert "1: sky → [CLS] 0.33, a <b> 0.33, car 0.33" in bundle["text/plain"]


def test_what_rounding_puts_outside_the_picture_is_moved_to_its_edge():
    assert explorer().boxes[1] == [0.25, 0.25, 1.0, 0.75]
    assert explorer().labels == ["1", "2"]


def test_view_module_needs_no_network():
    for source in (RegionExplorer._esm, RegionExplorer._css):
        assert "http" not in str(source)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boxes": [[0, 0, 1, 1]]}, r"word_to_regions\[0\] has shape \(2, 3, 2\)"),
        ({"boxes": [0, 0, 1, 1]}, r"boxes has shape \(4,\); expected \(R, 4\)"),
        ({"boxes": [[0, 0, 1, 1], [4, 4, 20, 20]]}, r"boxes\[1\].*divide pixels by the picture's width"),
        ({"boxes": [[0, 0, 1, 1], [0.5, 0, 0.5, 1]]}, r"boxes\[1\].*expected left < right"),
        ({"boxes": [[0, 0, 1, 1], [0.5, 0, float("nan"), 1]]}, r"boxes\[1\].*expected left < right"),
        ({"names": ["sky"]}, "1 names of 2 regions"),
        ({"word_to_regions": []}, "word_to_regions is empty"),
        ({"region_to_words": [uniform(1, 2, 2, 3)]}, "expected maps of the same pass"),
        ({"region_to_words": 2 * [uniform(1, 2, 3, 2)]}, r"region_to_words\[0\] has shape \(2, 3, 2\)"),
        ({"region_to_words": 2 * [2 * uniform(1, 2, 2, 3)]}, "region_to_words are no probabilities"),
        ({"layer": 2}, "layer 2, head -1, word 0: expected at most 1, 1 and 2"),
        ({"word": 3}, "word 3"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed, message):
    to_regions, to_words = maps()
    given = {"boxes": BOXES, "word_to_regions": to_regions, "region_to_words": to_words, **changed}
    given["boxes"] = np.array(given["boxes"], float)
    with pytest.raises(UserError, match=message):
        RegionExplorer(np.zeros((20, 30, 3), np.uint8), words=WORDS, **given)
