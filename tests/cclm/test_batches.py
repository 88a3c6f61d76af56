"""Batches of CCLM: functions of (seed, update) alone, whatever the number of processes; every record once in a pass."""

import numpy as np
import pytest
import torch

from vlpnb.cclm.batches import PICTURES, ImageText, Parallel, Reading, Regions
from vlpnb.data.multilingual import Picture
from vlpnb.data.parallel import ParallelText
from vlpnb.data.region_text import Region, RegionPicture
from vlpnb.downstream.pictured import Sentences
from vlpnb.errors import UserError
from vlpnb.nn.losses import IGNORE
from vlpnb.text.pieces import Pieces
from vlpnb.text.unigram import train_unigram

ENGLISH = ("a red ball", "a dog in the snow", "two green birds on a tree")
GERMAN = ("ein roter Ball", "ein Hund im Schnee", "zwei grüne Vögel auf einem Baum")
CHINESE = ("一个红色的球", "雪地里的一只狗", "树上的两只绿色的鸟")


class Store:
    """Patches of pictures p0, p1, …: number of the row and of the view everywhere; every second has random views."""

    patches, width, grid, frames = 4, 3, 2, False

    def __init__(self, count):
        self.ids = [f"p{i}" for i in range(count)]

    def __contains__(self, name):
        return name in self.ids

    def rows(self, ids):
        return np.array([self.ids.index(name) for name in ids], np.int64)

    def views(self, rows):
        return np.where(np.asarray(rows) % 2 == 0, 3, 1)

    def gather(self, rows, view=0):
        made = np.zeros((len(rows), 1 + self.patches, self.width), np.float32)
        made[..., 0] = np.asarray(rows)[:, None]
        made[..., 1] = np.broadcast_to(view, np.shape(rows))[:, None]
        return torch.from_numpy(made)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    lines = [line.lower() for line in (*ENGLISH, *GERMAN, *CHINESE)]
    return Pieces(train_unigram(lines * 4, 120, folder))


@pytest.fixture
def pictures(tmp_path):
    said = {"en": ENGLISH, "de": GERMAN[:1], "zh": CHINESE}
    return [
        Picture(
            f"p{i}",
            tmp_path / f"p{i}.jpg",
            {name: texts for name, texts in said.items() if i or name != "de"},
        )
        for i in range(10)
    ]


def parallel():
    rows = [{"en": en, "de": de, "zh": zh} for en, de, zh in zip(ENGLISH, GERMAN, CHINESE, strict=True)]
    return ParallelText(
        (*rows, {"de": "ein Hund", "zh": "一只狗"}, {"en": ENGLISH[0], "de": "der rote Ball"})
    )


def decoded(pieces, ids):
    return [pieces.tokenizer.decode(row, skip_special_tokens=True) for row in ids]


def test_sentences_are_padded_to_the_longest_of_the_batch(pieces):
    texts = Sentences.of_pieces(["a red ball", "A dog, in the SNOW!", "a"], pieces, max_tokens=8)
    found = texts.batch([0, 2])
    assert found["ids"].shape == found["mask"].shape == (2, texts.lengths[[0, 2]].max())
    assert found["ids"][:, 0].tolist() == [0, 0]
    assert (found["ids"][~found["mask"]] == 1).all()
    assert (found["ids"][torch.arange(2), found["mask"].sum(1) - 1] == 2).all()
    assert decoded(pieces, texts.batch([1])["ids"])[0] == "a dog in the snow"[: len("a dog in the snow")]
    assert texts.lengths.max() <= 8
    with pytest.raises(UserError, match="has no word"):
        Sentences.of_pieces(["..."], pieces)
    assert Sentences.of_pieces(["..."], pieces, question=True).lengths.tolist() == [2]


def test_one_pass_sees_every_picture_once_whatever_the_number_of_processes(pieces, pictures):
    """Records of the shards are numbered in one order, and processes take rows of the same batches."""
    for world in (1, 2, 3):
        seen = []
        for rank in range(world):
            batches = ImageText(pictures, Store(10), Reading(pieces, rank=rank, world_size=world), batch=4)
            assert batches.per_epoch == 3
            seen += [int(i) for update in range(3) for i in batches(update).batch["identity"]]
        assert sorted(seen) == list(range(10))


def test_processes_together_have_what_one_has(pieces, pictures):
    kinds = {
        "pictures": lambda **of: ImageText(
            pictures, Store(10), Reading(pieces, fused=5, seed=3, **of), ("en", "zh"), batch=7
        ),
        "parallel": lambda **of: Parallel(
            parallel(), Reading(pieces, fused=3, seed=3, **of), ("en", "de", "zh"), batch=5
        ),
    }
    for name, make in kinds.items():
        whole = make()(4)
        parts = [make(rank=rank, world_size=2)(4) for rank in range(2)]
        assert all(part.counts == whole.counts and part.tokens == whole.tokens for part in parts), name
        for field, value in whole.batch.items():
            for rank, part in enumerate(parts):
                assert torch.equal(part.batch[field], value[rank::2]), (name, field)
        again = make()(4)
        assert all(torch.equal(again.batch[field], value) for field, value in whole.batch.items())
        assert not torch.equal(make()(5).batch["masked_ids"], whole.batch["masked_ids"])


def test_languages_are_drawn_uniformly_among_those_a_picture_has(pieces, pictures):
    batches = ImageText(pictures[1:], Store(10), Reading(pieces), ("en", "de", "zh"), batch=9)
    chosen = np.concatenate([batches.captions(u, batches.reading.random(PICTURES, u)) for u in range(600)])
    of = (
        np.searchsorted(batches.spoken, chosen, side="right") - 1
    )  # English, German, Chinese of each picture in turn
    shares = np.bincount(of % 3) / len(of)
    assert np.abs(shares - 1 / 3).max() < 0.02, "German has one caption and the others three"
    part = ImageText(pictures, Store(10), Reading(pieces), ("de",), batch=9)
    assert len(part) == 9, "the first picture has no German"
    assert set(decoded(pieces, part(0).batch["ids"])) == {"ein roter ball"}
    with pytest.raises(UserError, match="no picture has a caption in fr"):
        ImageText(pictures, Store(10), Reading(pieces), ("fr",))


def test_training_sees_random_views_where_there_are_some(pieces, pictures):
    batches = ImageText(pictures, Store(10), Reading(pieces), batch=10)
    seen = torch.cat([batches(update).batch["patches"][:, 0, :2] for update in range(20)])
    even = seen[:, 0] % 2 == 0
    assert set(seen[even, 1].tolist()) == {1.0, 2.0}
    assert set(seen[~even, 1].tolist()) == {0.0}


def test_fine_tuning_takes_every_caption_once(pieces, pictures):
    batches = ImageText(pictures, Store(10), Reading(pieces), ("en",), each="caption", batch=8)
    assert batches.per_epoch == 4
    rows = [int(i) for update in range(4) for i in batches(update).batch["identity"]]
    assert np.bincount(rows).tolist() == [3] * 10


def test_hidden_words_belong_to_the_fused_rows(pieces, pictures):
    part = ImageText(pictures, Store(10), Reading(pieces, fused=4), batch=10)(0)
    batch = part.batch
    labels, places = batch["masked_labels"], batch["masked_places"]
    assert len(batch["ids"]) == 10
    assert len(labels) == len(batch["masked_ids"]) == 4
    real = labels != IGNORE
    assert (batch["ids"][:4].gather(1, places)[real] == labels[real]).all()
    assert part.counts == {"itc": 10, "itm": 12, "words": int(real.sum())}
    assert part.tokens == int(batch["mask"].sum())
    assert (batch["masked_ids"] != batch["ids"][:4]).sum() <= real.sum()


def test_parallel_pairs_have_english_on_one_side_and_either_first(pieces):
    text = parallel()
    assert text.languages == ("de", "en", "zh")
    pairs = text.pairs("en")
    assert len(pairs) == 7, "the line without English is no pair"
    assert all(one == "en" for _, one, _ in pairs)
    assert len(text.pairs("")) == 3 * 3 + 2
    assert {other for _, _, other in text.pairs("en", without=("zh",))} == {"de"}
    batches = Parallel(text, Reading(pieces), ("en", "de"), batch=4)
    assert len(batches) == 4
    first = [line for u in range(30) for line in decoded(pieces, batches(u).batch["ids"])]
    share = np.mean([line in ENGLISH for line in first])
    assert 0.35 < share < 0.65
    batch = batches(0).batch
    for one, other in zip(decoded(pieces, batch["ids"]), decoded(pieces, batch["other_ids"]), strict=True):
        english, german = (one, other) if one in ENGLISH else (other, one)
        assert {"en": english, "de": german} in [
            {name: line[name].lower() for name in ("en", "de")} for line in text.lines if "en" in line
        ]
    assert len(set(batch["identity"].tolist())) == 3, "two lines say the same in English"
    with pytest.raises(UserError, match="no line is in two of the languages"):
        Parallel(text, Reading(pieces), ("en",))


class Boxes:
    def __init__(self, pictures):
        self.all = pictures

    def pictures(self, split):
        return self.all


def test_regions_of_one_picture_read_it_once(pieces, tmp_path):
    def region(i):
        return Region((8.0 * i, 4.0, 16.0, 12.0), {"en": ENGLISH[i]}, {})

    boxes = Boxes(
        [
            RegionPicture(f"p{i}", tmp_path / "x", 64, 64, ({"en": ENGLISH[0]},), (region(1), region(2)))
            for i in range(6)
        ]
    )
    whole = Regions(boxes, Store(6), Reading(pieces), ("en",), batch=12, pictures=4)(2)
    batch = whole.batch
    assert len(batch["ids"]) == len(batch["boxes"]) == len(batch["group"]) == 12
    assert len(batch["patches"]) == 4
    assert whole.counts["itc"] == 12
    assert whole.counts["boxes"] == whole.counts["giou"] == int((~batch["whole"]).sum())
    assert batch["patch_mask"].shape == (12, 5)
    assert (batch["boxes"][batch["whole"]] == torch.tensor([0.5, 0.5, 1.0, 1.0])).all()
    parts = [
        Regions(boxes, Store(6), Reading(pieces, rank=r, world_size=2), ("en",), batch=12, pictures=4)(2)
        for r in (0, 1)
    ]
    for rank, part in enumerate(parts):
        assert part.counts == whole.counts
        assert torch.equal(
            part.batch["patches"][part.batch["group"]], batch["patches"][batch["group"]][rank::2]
        )
    lines = decoded(pieces, batch["ids"])
    assert {
        (a == b)
        for a, b in zip(batch["identity"].tolist(), np.unique(lines, return_inverse=True)[1], strict=True)
    } == {True}


class Pixels(Store):
    """Pictures that can be cut: what is given back says what was asked for."""

    frames = True

    def framed(self, rows, frames, seed):
        asked = [[row, *frame.crop, frame.flip, seed] for row, frame in zip(rows, frames, strict=True)]
        return torch.tensor(asked, dtype=torch.float32)


def test_pixels_are_cut_as_the_boxes_of_their_texts_say(pieces, tmp_path):
    """The whole of a thing is in its crop; where it lies there and which patches it sees follows from the crop."""
    region = Region((24.0, 16.0, 16.0, 16.0), {"en": ENGLISH[1]}, {})
    boxes = Boxes([RegionPicture(f"p{i}", tmp_path / "x", 64, 48, (), (region,)) for i in range(6)])
    batch = Regions(boxes, Pixels(6), Reading(pieces), ("en",), batch=6, pictures=6)(3).batch
    asked = batch["patches"][batch["group"]]
    left, top, right, bottom, flip, seed = asked[:, 1:].T
    assert (seed == 3).all()
    assert len({tuple(crop) for crop in asked[:, 1:5].tolist()}) > 1
    assert ((left <= 24) & (top <= 16) & (right >= 40) & (bottom >= 32)).all()
    x = (32 - left) / (right - left)
    expected = torch.stack(
        [
            torch.where(flip > 0, 1 - x, x),
            (24 - top) / (bottom - top),
            16 / (right - left),
            16 / (bottom - top),
        ],
        1,
    )
    torch.testing.assert_close(batch["boxes"], expected)
