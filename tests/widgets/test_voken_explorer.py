"""The voken explorer: what it syncs, its static fallback, and its refusal of misshapen input."""

import re

import numpy as np
import pytest
from PIL import Image

from vlpnb.widgets.voken_explorer import VokenExplorer


@pytest.fixture
def pictures():
    return [Image.new("RGB", (300, 200), colour) for colour in ("red", "green", "blue")]


@pytest.fixture
def explorer(pictures):
    return VokenExplorer(
        ["[CLS]", "a", "zeb", "##ra"],
        np.array([[-1, -1], [0, 1], [2, 0], [2, 1]]),
        np.array([[0.0, 0.0], [0.4, 0.1], [0.9, 0.3], [0.8, -0.2]]),
        pictures,
        names=["a <red> thing", "grass", "sea"],
        title="zebra & co",
    )


def test_only_used_pictures_are_sent_and_special_tokens_have_none(explorer):
    assert set(explorer.pictures) == {"0", "1", "2"}
    assert explorer.tokens[0]["vokens"] == []
    assert explorer.selected == 1, "starts at the first token that has vokens"
    assert explorer.tokens[2]["vokens"][0] == {"id": "2", "score": 0.9}


def test_fallback_has_alt_text_on_every_image_and_no_request_leaves_the_page(explorer):
    bundle, _ = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    images = re.findall(r"<img [^>]+>", bundle["text/html"])
    assert len(images) == 6
    assert all(re.search(r'alt="[^"]+"', tag) and 'src="data:image/' in tag for tag in images)
    assert "&lt;red&gt;" in bundle["text/html"], "names are escaped"
    assert "zebra &amp; co" in bundle["text/html"]
    assert "sea (0.90)" in bundle["text/plain"]


def test_view_module_needs_no_network():
    sources = VokenExplorer._esm, VokenExplorer._css
    for source in sources:
        assert "http" not in str(source).replace("http-equiv", "")


@pytest.mark.parametrize(
    ("ids", "scores", "message"),
    [
        (np.zeros((2, 1), int), np.zeros((2, 2)), "must share T and K"),
        (np.zeros((3, 1), int), np.zeros((3, 1)), "must share T and K"),
        (np.full((2, 1), 7), np.zeros((2, 1)), "no picture"),
    ],
)
def test_misshapen_input_is_refused(pictures, ids, scores, message):
    with pytest.raises(ValueError, match=message):
        VokenExplorer(["a", "b"], ids, scores, pictures)
