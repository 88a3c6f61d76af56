"""What is asked in retrieval: sentences that say something."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from vlpnb.data.multilingual import Picture
from vlpnb.downstream.image_retrieval import ask


def test_sentences_that_say_nothing_are_left_out_and_told():
    pieces = SimpleNamespace(encode=lambda texts, words, tokens: [np.arange(3) for _ in texts])
    pictures = [
        Picture("a", Path("a.png"), {"en": ("a red field", " . ")}),
        Picture("b", Path("b.png"), {"de": ("x",)}),
    ]
    found = ask(pictures, "en", pieces, 40, 40)
    assert (len(found), found.owner.tolist()) == (1, [0])
    assert found.left_out == ("a (en): ' . '",)
