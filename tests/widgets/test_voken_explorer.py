"""The voken explorer: what it syncs, its static fallback, and its refusal of misshapen input."""

import re

import numpy as np
import pytest
from PIL import Image

from vlpnb.errors import UserError
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
    with pytest.raises(UserError, match=message):
        VokenExplorer(["a", "b"], ids, scores, pictures)


@pytest.fixture
def compared(pictures):
    ids, scores = np.array([[0], [-1]]), np.array([[0.5], [0.0]])
    return VokenExplorer(
        ["a", "b"], ids, scores, pictures, name="in context", compare={"alone": (ids[::-1], scores[::-1])},
        context=[[0, 0.25], [-0.5, 0]], context_label="loss when masked",
    )  # fmt: skip


def test_models_stand_side_by_side_live_and_in_the_fallback(compared):
    assert [token["vokens"] for token in compared.tokens] == [[{"id": "0", "score": 0.5}], []]
    assert compared.compared == [{"name": "alone", "vokens": [[], [{"id": "0", "score": 0.5}]]}]
    assert "alone: picture 0 (0.50)" in compared.to_text()
    html = compared.to_html()
    assert html.index("in context: voken 1") < html.index("alone: voken 1")
    rows = html.split("<tr>")[2:]
    assert [row.count("<td") for row in rows] == [2, 2], "a model without a picture leaves its cell empty"


def test_pictures_that_are_no_vokens_are_called_what_they_are(pictures):
    page = VokenExplorer(["a"], [[2]], [[0.1]], pictures, noun="picture").to_html()
    assert '<th scope="col">picture 1</th>' in page
    assert "voken" not in page


def test_context_is_a_weight_for_every_pair_of_tokens(compared, pictures):
    assert compared.context == [[0, 0.25], [-0.5, 0]]
    with pytest.raises(UserError, match=r"context \(2, 1\): expected \(T, T\) = \(2, 2\)"):
        VokenExplorer(["a", "b"], [[0], [1]], [[0.0], [0.0]], pictures, context=[[1], [2]])


def test_pictures_may_come_from_a_function_asked_only_for_what_is_shown(pictures):
    asked = []
    VokenExplorer(["a"], [[2]], [[0.1]], lambda voken: asked.append(voken) or pictures[voken])
    assert asked == [2]
