"""The updates of VaLM's pre-training: pure functions, whatever the processes; what is hidden, what stays."""

import numpy as np
import pytest
import torch

from vlpnb.nn.losses import IGNORE
from vlpnb.text.blocks import LanguageBlocks
from vlpnb.text.vocabulary import Vocabulary
from vlpnb.valm.examples import Batches, Hiding

PAD, END, MASK, SIZE = 0, 1, 2, 30
WORDS = Vocabulary(None, SIZE, END, PAD, MASK, (PAD, END, MASK))


class Drawn:
    """Three random rows for each word; each block's are its own."""

    count = 3

    def __call__(self, numbers, batch, seed):
        shape = (batch["ids"].shape[1], self.count)
        rows = [np.random.default_rng((*seed, int(n))).integers(5, size=shape) for n in numbers]
        return {
            "images": torch.eye(5),
            "rows": torch.from_numpy(np.array(rows, np.int64).reshape(-1, *shape)),
        }


@pytest.fixture(scope="module")
def blocks() -> LanguageBlocks:
    random = np.random.default_rng(0)
    lines = [[*random.integers(3, SIZE, size=n).tolist(), END] for n in (3, 9, 5, 12, 7, 4, 11)]
    offsets = np.cumsum([0] + [len(line) for line in lines])
    return LanguageBlocks(
        np.concatenate(lines), offsets, block=8, end_id=END, pad_id=PAD, lines=True, pictures=np.arange(7) - 3
    )


def batches(blocks, hiding=None, shown=None, **settings) -> Batches:
    return Batches(
        blocks, WORDS, shown, hiding or Hiding(), **{"batch": 4, "micro_batch": 4, "seed": 3} | settings
    )


def test_an_update_is_a_function_of_its_number(blocks):
    one, other = (batches(blocks, Hiding(word_rate=0.3), Drawn())(5).micro[0] for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_input_words_are_hidden_and_their_targets_stay(blocks):
    made = batches(blocks, Hiding(word_rate=0.5))
    for update in range(4):
        plain, hidden = (batches(blocks, Hiding(word_rate=rate))(update).micro[0] for rate in (0.0, 0.5))
        assert torch.equal(plain["targets"], hidden["targets"])
        assert not torch.equal(plain["ids"], hidden["ids"])
        special = torch.isin(plain["ids"], torch.tensor(WORDS.special))
        assert torch.equal(plain["ids"][special], hidden["ids"][special])
        assert made(update).counts == {"next": int((plain["targets"] != IGNORE).sum())}


def test_both_objectives_are_asked_of_the_same_texts(blocks):
    update = batches(blocks, Hiding("both"), Drawn(), masked_shown=Drawn())(0)
    (micro,) = update.micro
    changed = micro["labels"] != IGNORE
    assert update.counts["masked"] == int(changed.sum()) > 0
    assert torch.equal(micro["labels"][changed], micro["ids"][changed])
    assert {"images", "rows", "masked_images", "masked_rows"} < micro.keys()


def test_masked_words_alone_need_no_next_ones(blocks):
    update = batches(blocks, Hiding("masked"), Drawn(), masked_shown=Drawn())(0)
    assert update.counts.keys() == {"masked"}
    assert "targets" not in update.micro[0]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_one_update(blocks, processes):
    hiding = Hiding("both", word_rate=0.3, image_rate=0.5, all_rate=0.2)
    whole = batches(blocks, hiding, Drawn(), masked_shown=Drawn())(1)
    parts = [
        batches(
            blocks, hiding, Drawn(), masked_shown=Drawn(), rank=rank, world_size=processes, micro_batch=1
        )(1)
        for rank in range(processes)
    ]
    assert len({len(part.micro) for part in parts}) == 1
    assert all(part.counts == whole.counts and part.tokens == whole.tokens for part in parts)
    for name in (
        "ids",
        "targets",
        "rows",
        "image_mask",
        "masked_ids",
        "labels",
        "masked_rows",
        "masked_image_mask",
    ):
        rows = [
            row.flatten().tolist() for part in parts for micro in part.micro for row in micro.get(name, ())
        ]
        assert sorted(rows) == sorted(row.flatten().tolist() for row in whole.micro[0][name])


def test_all_pictures_of_a_word_are_hidden_together(blocks):
    (micro,) = batches(blocks, Hiding(all_rate=0.5), Drawn())(0).micro
    seen = micro["image_mask"].sum(-1)
    assert set(seen.unique().tolist()) == {0, 3}


def test_a_masked_word_keeps_its_pictures_where_that_is_asked(blocks):
    hiding = Hiding(word_rate=0.5, all_rate=0.9, exclusive=True)
    plain = batches(blocks, Hiding())(0).micro[0]["ids"]
    (micro,) = batches(blocks, hiding, Drawn())(0).micro
    assert micro["image_mask"][micro["ids"] != plain].any(-1).all()
