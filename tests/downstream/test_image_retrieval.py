"""What is asked in retrieval: sentences that say something."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn.functional import normalize

from vlpnb.data.multilingual import Picture
from vlpnb.downstream.image_retrieval import ask, look


def test_sentences_that_say_nothing_are_left_out_and_told():
    pieces = SimpleNamespace(encode=lambda texts, words, tokens: [np.arange(3) for _ in texts])
    pictures = [
        Picture("a", Path("a.png"), {"en": ("a red field", " . ")}),
        Picture("b", Path("b.png"), {"de": ("x",)}),
    ]
    found = ask(pictures, "en", pieces, 40, 40)
    assert (len(found), found.owner.tolist()) == (1, [0])
    assert found.left_out == ("a (en): ' . '",)


class Store:
    """Two pictures of one patch in three views."""

    def __init__(self, kept):
        self.seen = torch.randn(3, 2, 1, 4, generator=torch.Generator().manual_seed(0))
        self.kept = kept

    def __contains__(self, name):
        return True

    def views(self, rows):
        return np.full(len(rows), self.kept)

    def rows(self, ids):
        return np.array([int(name) for name in ids])

    def eval_views(self, rows):
        return self.kept

    def gather(self, rows, view=0):
        return self.seen[view][torch.from_numpy(rows)]


def test_a_picture_is_found_by_the_mean_of_its_views():
    never_asked = dict.fromkeys(
        ("text", "text_vector", "memory_keys", "match", "fusion_layers", "config"), len
    )
    model = SimpleNamespace(
        pictures=lambda seen: seen, image_vector=lambda view: normalize(view[:, 0], dim=-1), **never_asked
    )
    gallery, seen = look(model, Store(3), ["1", "0"], "cpu"), Store(3).seen
    each = normalize(seen[:, [1, 0], 0], dim=-1)
    assert torch.equal(gallery.views, seen[0, [1, 0]])
    torch.testing.assert_close(gallery.vectors, normalize(each.mean(0), dim=-1))
    torch.testing.assert_close(look(model, Store(1), ["1", "0"], "cpu").vectors, each[0])
