"""Corpora, vokens and tokenizers that do not belong together are refused before any work is done with them."""

import numpy as np
import pytest

from tests import tiny_lm
from vlpnb.data.store import write_store
from vlpnb.errors import UserError
from vlpnb.text.corpora import TokenCorpus, check_tokenizer
from vlpnb.text.tokenizers import load_tokenizer, save_tokenizer, train_wordpiece
from vlpnb.vokenization import pretraining
from vlpnb.vokenization.pretraining import PretrainingConfig


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return tiny_lm.make(tmp_path_factory.mktemp("mismatches"), count=60)


def train(inputs, folder, **fields):
    config = PretrainingConfig(
        size="micro", block=14, batch=8, micro_batch=8, updates=1, snapshots=1, **fields
    )
    return pretraining.run(tiny_lm.context(config, folder, inputs))


def test_a_saved_tokenizer_is_the_same_tokenizer(inputs, tmp_path):
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    save_tokenizer(tokenizer, tmp_path)
    check_tokenizer(TokenCorpus(inputs["corpus"] / "train.hdf5"), load_tokenizer(tmp_path), "the copy")


@pytest.mark.parametrize("words", [["the kite is near the box ."], [*tiny_lm.lines(60)[::-1], "zebra quiz"]])
def test_a_corpus_of_another_tokenizer(inputs, tmp_path, words):
    """Smaller, or as large but with other pieces: ids would be out of range, or mean something else in silence."""
    other = train_wordpiece(words, 120, tmp_path)
    with pytest.raises(
        UserError, match=r"train\.hdf5 was written with another tokenizer .* that of the matcher"
    ):
        check_tokenizer(TokenCorpus(inputs["corpus"] / "train.hdf5"), other, "the matcher")


def test_a_foreign_corpus_is_judged_by_its_largest_id(inputs, tmp_path):
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    with write_store(tmp_path / "x.hdf5", "someone") as file:
        file["tokens"] = np.array([1, len(tokenizer), 2], dtype=np.int32)
    with pytest.raises(
        UserError, match=rf"x\.hdf5 holds token id {len(tokenizer)}; the matcher has {len(tokenizer)}"
    ):
        check_tokenizer(TokenCorpus(tmp_path / "x.hdf5"), tokenizer, "the matcher")


def test_pre_training_refuses_a_tokenizer_from_elsewhere(inputs, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for split in ("train", "valid"):
        (corpus / f"{split}.hdf5").write_bytes((inputs["corpus"] / f"{split}.hdf5").read_bytes())
    train_wordpiece(["quite another text ."], 60, corpus / "tokenizer")
    with pytest.raises(UserError, match=r"another tokenizer.*stage `corpus`"):
        train({**inputs, "corpus": corpus}, tmp_path / "vlm", supervision="mlm")


def vokens(inputs, folder, change):
    """A copy of the vokens' folder with `change` made to the array of the training split."""
    folder.mkdir()
    for path in inputs["vokens"].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tokens = np.asarray(TokenCorpus(inputs["corpus"] / "train.hdf5").tokens)
    with write_store(folder / "train.hdf5", "vokens") as file:
        file["vokens"] = change((tokens % tiny_lm.VOKENS).astype(np.int32))
    return {**inputs, "vokens": folder}


def beyond(array):
    array[7] = tiny_lm.VOKENS
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (beyond, r"train\.hdf5 holds voken 20, but .*train\.ids lists 20 images.*Run `vokens` again"),
        (lambda array: -beyond(array) - 1, r"holds voken 20, but .* lists 20 images"),
        (lambda array: array[:-1], r"train\.hdf5 has \d+ labels but .*train\.hdf5 has \d+ tokens"),
    ],
)
def test_vokens_that_do_not_fit(inputs, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        train(vokens(inputs, tmp_path / "vokens", change), tmp_path / "vlm")


@pytest.mark.parametrize("damage", [lambda data: data[:900], lambda data: b"CSV,not,HDF5\n" * 99])
def test_vokens_that_are_cut_short_or_foreign(inputs, tmp_path, damage):
    made = vokens(inputs, tmp_path / "vokens", lambda array: array)
    path = made["vokens"] / "train.hdf5"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"train\.hdf5 \([\d,]+ bytes\) is not a complete HDF5 file"):
        train(made, tmp_path / "vlm")
