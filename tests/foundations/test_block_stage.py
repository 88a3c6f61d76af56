"""The stage `blocks` on a tiny world and on real captions: paragraphs, pictures, splits, and what is refused."""

import numpy as np
import pytest

from tests.small import run_stage
from vlpnb.data.description import load_captions
from vlpnb.errors import UserError
from vlpnb.foundations.blocks import BLOCKS, BlocksConfig, load_corpus, paragraphs
from vlpnb.foundations.captions import CAPTIONS, CaptionsConfig
from vlpnb.foundations.text import TEXT, TextConfig
from vlpnb.text.binarised import write_binarised
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.text.vocabulary import open_vocabulary


@pytest.fixture(scope="module")
def inputs(small_world, tmp_path_factory):
    """Folders of the stages `captions`, `text` and `language` on the tiny world."""
    root = small_world.world.parent
    folders = {name: root / f"valm-{name}" for name in ("captions", "text", "language")}
    run_stage(CAPTIONS, CaptionsConfig(), folders["captions"], world=small_world.world)
    run_stage(TEXT, TextConfig(), folders["text"], world=small_world.world)
    lines = (small_world.world / "text" / "wiki.train.raw").read_text().splitlines()
    train_wordpiece(lines, 400, folders["language"] / "model")
    return folders


def made(inputs, folder, **fields):
    return run_stage(BLOCKS, BlocksConfig(**fields), folder, **inputs)


def test_captions_of_a_picture_are_one_line_that_knows_its_picture(inputs, tmp_path):
    metrics = made(inputs, tmp_path, sets=("train",), block=48, by_line=True)
    corpus = load_corpus(tmp_path)
    assert corpus.splits == ("train", "captions", "text")
    assert metrics["pictures"] == len(corpus.pictures)
    lines = list(paragraphs(BlocksConfig(sets=("train",)), inputs, "train"))
    pictured = [line for line in lines if line.picture]
    assert len(pictured) == 60
    assert all(line.text.count(".") >= 2 for line in pictured)
    blocks = corpus.blocks("train")
    found = blocks.batch(range(len(blocks)))
    real = found["targets"] != -100
    at = int(np.flatnonzero(blocks.starts == blocks.offsets[7])[0])
    own = found["own"][at][real[at]]
    assert {corpus.pictures[i] for i in own.tolist()} == {pictured[7].picture}
    said = corpus.words.decode(found["targets"][at][real[at]].tolist())
    assert said.replace(" ", "")[:20] == pictured[7].text.lower().replace(" ", "")[:20]
    assert found["own"][-1].max() == -1  # running text describes no picture


def test_held_out_lines_are_those_of_their_tokens(inputs, tmp_path):
    made(inputs, tmp_path, block=32, held_out_lines=3)
    corpus = load_corpus(tmp_path)
    for split in ("captions", "text"):
        texts, blocks = corpus.texts(split), corpus.blocks(split)
        assert len(texts) == 3
        ids = np.concatenate([np.append(i, corpus.end_id) for i in corpus.encode(texts)])
        assert np.array_equal(blocks.tokens, ids)


def test_pictures_of_the_text_and_of_a_database_can_be_others(inputs):
    config = BlocksConfig(sets=("train",), skip=20, pictures=10)
    all_of_them = [p.picture for p in paragraphs(BlocksConfig(sets=("train",)), inputs, "train") if p.picture]
    some = [p.picture for p in paragraphs(config, inputs, "train") if p.picture]
    assert some == all_of_them[20:30]


@pytest.mark.parametrize("own_held_out", [False, True])
def test_what_is_described_of_held_out_pictures_is_not_trained_on(inputs, tmp_path, own_held_out):
    data = load_captions(inputs["captions"])
    seen, unseen = (data.annotated(split)[0].image_id for split in ("train", "valid"))
    (tmp_path / "said.raw").write_text("a line about one\na line about another\n")
    (tmp_path / "images.txt").write_text(f"{seen}.png\n{unseen}.png\n")
    files = {"train": ("said.raw",), "valid": ("said.raw",) if own_held_out else (), "test": ()}
    config = TextConfig(root=str(tmp_path), rules="none", images=("images.txt",), **files)
    run_stage(TEXT, config, tmp_path / "described")
    folders = {**inputs, "described": tmp_path / "described"}
    pictured = [p.picture for p in paragraphs(BlocksConfig(), folders, "train") if p.picture]
    assert pictured == ([seen, unseen] if own_held_out else [seen])
    held_out = list(paragraphs(BlocksConfig(), folders, "captions"))
    assert (held_out[0].picture == "") if own_held_out else (held_out[0].picture == unseen)


def test_the_same_folder_again_is_the_same_corpus(inputs, tmp_path):
    for name in ("a", "b"):
        made(inputs, tmp_path / name, sets=("train",), block=32)
    for file in ("train.bin", "train.idx", "captions.txt", "pictures.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_nothing_to_train_on_is_said(inputs, tmp_path):
    (tmp_path / "short.raw").write_text("too short\n")
    text = tmp_path / "text"
    config = TextConfig(root=str(tmp_path), train=("short.raw",), valid=("short.raw",), test=())
    run_stage(TEXT, config, text)
    with pytest.raises(UserError, match="no line to train on"):
        made({**inputs, "text": text}, tmp_path / "made")


def test_text_binarised_elsewhere_is_read_where_it_lies(inputs, tmp_path):
    words = open_vocabulary(inputs["language"] / "model")
    ids = [np.append(line, words.end_id) for line in words.encode(["the car is red .", "a fox is here ."])]
    write_binarised(tmp_path / "there", ids, words.size)
    outside = {"train": str(tmp_path / "there.bin"), "text": str(tmp_path / "there.bin")}
    fields = {"tokenizer": str(inputs["language"] / "model"), "original": outside, "block": 4}
    run_stage(BLOCKS, BlocksConfig(**fields), tmp_path / "made")
    corpus = load_corpus(tmp_path / "made")
    assert corpus.splits == ("train", "text")
    assert np.array_equal(corpus.blocks("train").tokens, np.concatenate(ids))
    said = [text.replace(" ", "") for text in corpus.texts("text")]  # how words are spaced is lost
    assert said == ["thecarisred.", "afoxishere."]
    write_binarised(tmp_path / "there", [np.array([words.size])], words.size + 1)
    with pytest.raises(UserError, match="expected ids of the tokenizer's"):
        run_stage(BLOCKS, BlocksConfig(**fields), tmp_path / "again")
    with pytest.raises(ValueError, match="name the one that made the ids"):
        BlocksConfig(original=outside)
