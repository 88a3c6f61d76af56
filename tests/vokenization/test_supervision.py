"""Voken labels per kind of supervision, and the examples that they come from."""

import numpy as np
import pytest
import torch

from tests import tiny_lm
from vlpnb.data.store import mapped, write_store
from vlpnb.errors import UserError
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization.pretraining import PretrainingConfig
from vlpnb.vokenization.supervision import training_data, voken_targets


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return tiny_lm.make(tmp_path_factory.mktemp("lm"))


def examples(inputs, **settings):
    context = tiny_lm.context(
        PretrainingConfig(block=14, **settings), inputs["corpus"].parent / "stage", inputs
    )
    return training_data(context, "train", load_tokenizer(inputs["corpus"] / "tokenizer"))


IDS = torch.tensor([[2, 11, 12, 13, 14, 3]])
VOKENS = torch.tensor([[-100, 5, 6, 7, 8, -100]])
MASKED = torch.tensor([[False, True, False, False, True, False]])
SPECIAL = torch.tensor([[True, False, False, False, False, True]])


def targets(supervision, labels="all", vokens=VOKENS):
    generator = torch.Generator().manual_seed(0)
    found = voken_targets(IDS, vokens, MASKED, SPECIAL, supervision, labels, 9, generator)
    return None if found is None else found[0].tolist()


def test_labels_of_each_supervision():
    assert targets("mlm") is None
    assert targets("vokens") == targets("visual-only") == [-100, 5, 6, 7, 8, -100]
    assert targets("reverse") == [-100, 8, 7, 6, 5, -100]
    assert targets("token") == [-100, 11, 12, 13, 14, -100]
    shuffled = targets("shuffle")
    assert sorted(shuffled[1:-1]) == [5, 6, 7, 8]
    drawn = targets("random")
    assert drawn[0] == drawn[-1] == -100
    assert all(0 <= v < 9 for v in drawn[1:-1])


def test_labels_by_position():
    assert targets("vokens", "mask") == [-100, 5, -100, -100, 8, -100]
    assert targets("vokens", "nonmask") == [-100, -100, 6, 7, -100, -100]


def test_sentence_level_marks():
    marked = torch.tensor([[-100, 3, -4, 0, -1, -100]])  # sentences with vokens 3 and 0
    assert targets("sentence", vokens=marked) == [-100, 3, -100, 0, -100, -100]
    assert targets("propagated", vokens=marked) == [-100, 3, 3, 0, 0, -100]
    assert targets("propagated", "mask", vokens=marked) == [-100, 3, -100, -100, 0, -100]
    assert targets("sentence", "nonmask", vokens=marked) == [-100, -100, -100, 0, -100, -100]


def test_orders_leave_the_padding_where_it_is():
    """Lines of unlike length: shuffled and reversed within each, as if it stood alone."""
    ids = torch.tensor([[2, 11, 12, 13, 14, 3], [2, 15, 16, 3, 0, 0], [2, 17, 3, 0, 0, 0]])
    vokens = torch.tensor([[-100, 5, 6, 7, 8, -100], [-100, 1, 2, *[-100] * 3], [-100, 4, *[-100] * 4]])
    special, masked = vokens == -100, torch.zeros_like(ids, dtype=torch.bool)
    wanted = [[-100, 8, 7, 6, 5, -100], [-100, 2, 1, *[-100] * 3], [-100, 4, *[-100] * 4]]
    generator = torch.Generator().manual_seed(0)
    made = voken_targets(ids, vokens, masked, special, "reverse", "all", 9, generator)
    assert made.tolist() == wanted
    seen = set()
    for _ in range(20):
        made = voken_targets(ids, vokens, masked, special, "shuffle", "all", 9, generator)
        assert torch.equal(made == -100, special)
        assert [sorted(row) for row in made.tolist()] == [sorted(row) for row in vokens.tolist()]
        seen.add(tuple(made[1, 1:3].tolist()))
    assert seen == {(1, 2), (2, 1)}


def test_labels_are_drawn_anew_at_each_visit():
    """Random and shuffled labels differ from visit to visit, and shuffling stays within the block."""
    vokens = torch.arange(1, 41).expand(3, 40).clone()
    vokens[:, [0, -1]] = -100
    ids = torch.full((3, 40), 9)
    special = vokens == -100
    masked = torch.zeros_like(special)
    for supervision in ("random", "shuffle"):
        generator = torch.Generator().manual_seed(0)
        one, two = (
            voken_targets(ids, vokens, masked, special, supervision, "all", 50, generator) for _ in range(2)
        )
        assert not torch.equal(one, two)
        assert not torch.equal(one[0], one[1])
        if supervision == "shuffle":
            assert torch.equal(one[:, 1:-1].sort(dim=1).values, vokens[:, 1:-1])


def test_vokens_of_another_granularity_are_refused(inputs, tmp_path):
    """VOK-10: the original guessed it from the file's name."""
    folder = tmp_path / "vokens"
    folder.mkdir()
    for split in ("train", "valid"):
        (folder / f"{split}.ids").write_bytes((inputs["vokens"] / f"{split}.ids").read_bytes())
        values = np.asarray(mapped(inputs["vokens"] / f"{split}.hdf5", "vokens"))
        with write_store(folder / f"{split}.hdf5", "vokens", {"granularity": "sentence"}) as file:
            file["vokens"] = values
    with pytest.raises(UserError, match=r"train.hdf5: its vokens were retrieved per sentence; .*per token"):
        examples({**inputs, "vokens": folder})


def test_the_originals_count_of_blocks_is_a_switch(inputs):
    kept, legacy = (examples(inputs, original={"blocks": flag}) for flag in (False, True))
    assert len(legacy) in (len(kept) - 1, len(kept) - 2)


def test_foreign_vokens_are_refused(inputs, tmp_path):
    folder = tmp_path / "vokens"
    folder.mkdir()
    for name in ("train.hdf5", "valid.hdf5", "train.ids"):
        (folder / name).write_bytes((inputs["vokens"] / name).read_bytes())
    (folder / "valid.ids").write_text("universe/0\n")
    with pytest.raises(UserError, match=r"train.ids \(20 images\) and valid.ids \(1\) differ"):
        examples({**inputs, "vokens": folder})
