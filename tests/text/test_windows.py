"""Windows over long passages: labels point at the answer's own characters, spans are decoded by brute force."""

import itertools
import json

import numpy as np
import pytest
import torch

from vlpnb.errors import UserError
from vlpnb.text.tokenizers import load_tokenizer, train_wordpiece
from vlpnb.text.windows import QuestionWindows, best_spans, pair_template

WORDS = [f"word{i}" for i in range(40)]
PASSAGE = "Anna saw a big, red car near Zürich ; " + " ".join(WORDS) + " . Ben saw the   yellow tent !"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_wordpiece([PASSAGE, "who saw what where ?"] * 3, 200, tmp_path_factory.mktemp("words"))


def windows(tokenizer, answers, **sizes) -> QuestionWindows:
    spans = [None if a is None else (PASSAGE.index(a), PASSAGE.index(a) + len(a)) for a in answers]
    return QuestionWindows(
        ["who saw what ?"] * len(answers), [PASSAGE] * len(answers), spans, tokenizer, **sizes
    )


@pytest.mark.parametrize("answer", ["red", "a big, red car", "Zürich", "word17 word18", "yellow tent", "!"])
@pytest.mark.parametrize("sizes", [{"max_length": 200}, {"max_length": 40, "stride": 8}])
def test_labels_point_at_the_answer(tokenizer, answer, sizes):
    data = windows(tokenizer, [answer], **sizes)
    held = 0
    for row, (number, start, _, first, last) in enumerate(data.rows):
        if (first, last) == (0, 0):
            continue
        held += 1
        offset = data.passage_start(number) - start
        assert data.text(number, first - offset, last - offset) == answer
        ids = data.batch([row])["ids"][0, first : last + 1].tolist()
        assert tokenizer.decode(ids) == tokenizer.decode(
            tokenizer(answer, add_special_tokens=False)["input_ids"]
        )
    assert held >= 1


def test_windows_tile_the_passage(tokenizer):
    data = windows(tokenizer, ["red"], max_length=40, stride=8)
    starts, ends = data.rows[:, 1], data.rows[:, 2]
    count = len(data.passages[PASSAGE][0])
    assert starts[0] == 0
    assert (np.diff(starts) == 8).all()
    assert ends[-1] == count
    assert (ends[:-1] < count).all()
    assert (starts[1:] <= ends[:-1]).all()
    assert data.lengths.max() == 40
    owned = np.zeros(count, int)
    for start, mine in zip(starts, data.owned(0), strict=True):
        owned[start : start + len(mine)] += mine
    assert (owned == 1).all()  # each token has one window of most context
    assert not data.owned(0)[1][0]  # at an edge another window sees more


def test_one_window_equals_the_tokenizer(tokenizer):
    data = windows(tokenizer, ["red", None], max_length=300)
    made = tokenizer("who saw what ?", PASSAGE, return_token_type_ids=True)
    batch = data.batch([0, 1])
    assert batch["ids"][0].tolist() == made["input_ids"]
    assert batch["types"][0].tolist() == made["token_type_ids"]
    assert batch["mask"].all()
    assert (batch["starts"][1], batch["ends"][1]) == (0, 0)


def test_padding_and_mixed_lengths(tokenizer):
    data = QuestionWindows(
        ["who ?", "who saw what where ?"], ["Ben saw", PASSAGE], [None, None], tokenizer, 300
    )
    batch = data.batch([1, 0])
    assert batch["mask"].sum(1).tolist() == data.lengths[[1, 0]].tolist()
    assert (batch["ids"][1][~batch["mask"][1]] == tokenizer.pad_token_id).all()
    assert data.of_question.tolist() == [0, 1, 2]


def test_no_room_is_said(tokenizer):
    with pytest.raises(UserError, match="max_length 12 leaves"):
        windows(tokenizer, [None], max_length=12)
    assert len(windows(tokenizer, [None], max_length=24, max_question=2)) > 1


def test_roberta_template(tmp_path):
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "<mask>": 5}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    template = pair_template(load_tokenizer(tmp_path))
    assert (template.before, template.between, template.after) == ((0,), (2, 2), (2,))
    assert set(itertools.chain(*template.types)) == {0}


def test_best_spans_equal_brute_force():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        start, end = torch.randn(2, 12, generator=generator).numpy()
        may = torch.rand(12, generator=generator).numpy() < 0.7
        every = [
            (float(start[i] + end[j]), i, j) for i in range(12) for j in range(i, min(i + 4, 12)) if may[i]
        ]
        every.sort(key=lambda item: -item[0])
        assert best_spans(start, end, may, n_best=12, max_answer=4) == every[:12]
    assert best_spans(start, end, np.zeros(12, bool)) == []
