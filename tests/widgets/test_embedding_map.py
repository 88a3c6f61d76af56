"""The embedding map: its plane, its neighbours in the whole space, its fallback, refusals."""

import numpy as np
import pytest
from PIL import Image

from vlpnb.errors import UserError
from vlpnb.widgets.embedding_map import EmbeddingMap, principal_plane

WORDS = np.array([[1.0, 0, 0], [0, 1, 0], [0.8, 0.6, 0]])
KEYS = np.array([[0.6, 0.8, 0], [0, 0, 1]])
PICTURES = [Image.new("RGB", (30, 30), "red")] * 2
NAMES = ["a <sea>", "sand"]


@pytest.fixture
def embedding():
    return EmbeddingMap(["x", "y", "z"], WORDS, KEYS, PICTURES, NAMES, title="map", neighbours=1)


def test_the_plane_is_that_of_the_greatest_spread_whatever_the_rotation():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(40, 2)) * [5, 2]
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    noise = 1e-3 * rng.normal(size=(40, 6))
    places, explained = principal_plane(np.pad(flat, ((0, 0), (0, 4))) @ rotation + noise)
    assert explained > 0.999
    distances, expected = (np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (places, flat))
    assert np.allclose(distances, expected, atol=0.02)
    assert np.all(places[np.abs(places).argmax(0), [0, 1]] > 0), "signs are fixed"


def test_equal_vectors_have_a_plane_too():
    places, explained = principal_plane(np.ones((3, 1)))
    assert places.tolist() == [[0, 0]] * 3
    assert explained == 1


def test_neighbours_are_those_of_the_whole_space(embedding):
    # x = (1, 0, 0): of the tokens z has cosine 0.8; of the pictures the first has 0.6
    assert embedding.neighbours[0] == [[2, 0.8], [3, 0.6]]
    # picture 0: z by 0.48 + 0.48, and the only other picture by 0
    assert embedding.neighbours[3] == [[2, 0.96], [4, 0.0]]


def test_centring_apart_removes_the_gap_between_tokens_and_pictures():
    gap = np.array([0, 0, 9.0])
    places = {}
    for apart in (False, True):
        points = EmbeddingMap(["x", "y", "z"], WORDS + gap, KEYS * [1, 1, 0], PICTURES, apart=apart).points
        by_kind = [[p["x"] for p in points if p["kind"] == kind] for kind in ("token", "picture")]
        places[apart] = abs(np.mean(by_kind[0]) - np.mean(by_kind[1]))
    assert places[False] > 1
    assert places[True] < 0.6


def test_fallback_has_the_map_and_the_nearest_pictures(embedding):
    bundle, _ = embedding._repr_mimebundle_()
    html = bundle["text/html"]
    assert "Map of 3 tokens and 2 pictures" in html
    assert "x: a &lt;sea&gt;" in html
    assert html.count('alt="a &lt;sea&gt;"') == 3, "the picture is every token's nearest"
    assert "x  z (0.80), a <sea> (0.60)" in bundle["text/plain"]


@pytest.mark.parametrize(
    ("tokens", "words", "pictures", "message"),
    [
        (["x"], WORDS, PICTURES, r"tokens \(1\), token_vectors \(3, 3\)"),
        (["x", "y", "z"], WORDS[:, :2], PICTURES, r"\(3, 2\) and picture_vectors \(2, 3\)"),
        (["x", "y", "z"], WORDS, PICTURES[:1], "a picture or its name is missing"),
    ],
)
def test_misshapen_input_is_refused(tokens, words, pictures, message):
    with pytest.raises(UserError, match=message):
        EmbeddingMap(tokens, words, KEYS, pictures)


def test_a_map_needs_three_points():
    with pytest.raises(UserError, match="needs three points"):
        EmbeddingMap(["x"], WORDS[:1], KEYS[:1], PICTURES)
