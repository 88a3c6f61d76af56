"""Folders and names of models that do not hold what they should: said in words, and none of their code is run."""

import json
import time
from contextlib import suppress

import pytest
import requests
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

from vlpnb.errors import UserError
from vlpnb.nn.checkpoints import load_encoder, read_tensors, read_weights
from vlpnb.nn.folders import model_folder
from vlpnb.text.backbones import load_language
from vlpnb.text.tokenizers import MASKED, PAIRED, load_tokenizer, train_byte_bpe, train_wordpiece
from vlpnb.vision.backbones import load_backbone, read_state

LINES = ["the red car is near the box .", "a dog runs in the field ."] * 3
EVIL = "from pathlib import Path\nPath({marker!r}).write_text('ran')\n"


@pytest.fixture
def words(tmp_path):
    return train_wordpiece(LINES, 80, tmp_path / "words")


def change(file, **fields):
    settings = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({k: v for k, v in (settings | fields).items() if v is not None}))


def bert(folder, tokenizer, rows=None):
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=rows or len(tokenizer), **small)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def gpt2(folder, tokenizer):
    GPT2Model(GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=2)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("role", "said"), [("mask", r"\[MASK\]"), ("cls", r"\[CLS\]"), ("sep", r"\[SEP\]"), ("pad", r"\[PAD\]")]
)
def test_a_tokenizer_that_lacks_a_special_token_is_refused_where_it_is_needed(tmp_path, words, role, said):
    folder = tmp_path / "words"
    change(folder / "tokenizer_config.json", **{f"{role}_token": None})
    assert len(load_tokenizer(folder)) == len(words)  # not every model wants it
    with pytest.raises(
        UserError, match=rf"words: the tokenizer has no token for .*{said}.*tokenizer_config\.json"
    ):
        load_tokenizer(folder, MASKED)
    if role == "mask":
        load_tokenizer(folder, PAIRED)


def test_a_tokenizer_larger_than_the_embedding_is_refused_on_opening(tmp_path, words):
    folder = bert(tmp_path / "model", words)
    assert load_language(folder, [-1]).width == 8
    bert(folder, words, rows=len(words) - 3)
    said = rf"its tokenizer has the id {len(words) - 1}, its model {len(words) - 3} embeddings"
    for read in (load_tokenizer, lambda folder: load_language(folder, [-1])):
        with pytest.raises(UserError, match=said):
            read(folder)


def test_a_vocabulary_that_names_a_piece_twice(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "a"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    with pytest.raises(UserError, match=r"vocab\.txt:8: the piece 'a' is in the file already"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("train", [train_wordpiece, train_byte_bpe])
@pytest.mark.parametrize("word", ["abcdefghij" * 16_000, " " * 160_000, "汉字中文" * 40_000, "." * 160_000])
def test_one_unbroken_word_does_not_hold_a_tokenizer_up(tmp_path, train, word):
    """Training took a minute on a word of 160,000 characters: its time grows with their square."""
    since = time.monotonic()
    found = train([*LINES, f"the {word} car"], 300, tmp_path)
    assert time.monotonic() - since < 10
    assert found.tokenize("the car")
    if train is train_wordpiece and word.isascii():
        assert "car" in found.get_vocab()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_in_a_folder_is_never_run(tmp_path, words, monkeypatch, file):
    """Not even after a "y" to the question that the library would put."""
    folder, marker = gpt2(tmp_path / "model", words), tmp_path / "ran"
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    classes = {
        "AutoConfig": "evil.Config",
        "AutoModel": "evil.Model",
        "AutoTokenizer": ["evil.Slow", "evil.Fast"],
    }
    change(folder / "config.json", model_type="evil_one")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "EvilOne"}))
    change(folder / file, auto_map=classes)
    with pytest.raises(UserError, match=r"program code of its own|cannot open a model"):
        load_language(folder, [-1])
    with suppress(UserError):  # what the tokenizer's own file says may be enough
        load_tokenizer(folder)
    assert not marker.exists()


def test_weights_that_a_foreign_model_lacks_are_not_made_up(tmp_path, words):
    folder = gpt2(tmp_path / "model", words)
    assert load_language(folder, [-1]).width == 8
    state = load_file(folder / "model.safetensors")
    del state["h.0.mlp.c_fc.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"model: tensor 'h\.0\.mlp\.c_fc\.weight' is missing"):
        load_language(folder, [-1])


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_named(tmp_path, words, wrong):
    state = nn.Linear(3, 4).state_dict()
    state["weight"][2, 1] = wrong
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    said = r"tensor 'weight' holds a NaN or an infinity \(first in row 2\)"
    for read, name in ((read_weights, "a.safetensors"), (read_tensors, "a.pt"), (read_state, "a.pt")):
        with pytest.raises(UserError, match=rf"{name}: {said}"):
            read(tmp_path / name)
    for make, tensor in ((bert, "embeddings.word_embeddings.weight"), (gpt2, "wte.weight")):
        folder = make(tmp_path / make.__name__, words)
        state = load_file(folder / "model.safetensors")
        state[tensor][7, 0] = wrong
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match=rf"tensor '{tensor}' .*first in row 7"):
            load_language(folder, [-1])


@pytest.mark.parametrize("content", ["", "[]", '"bert"', "{", "[" * 100_000])
def test_settings_of_a_model_that_are_none(tmp_path, words, content):
    folder = bert(tmp_path / "model", words)
    (folder / "config.json").write_text(content)
    for read in (load_encoder, lambda folder: load_language(folder, [-1])):
        with pytest.raises(UserError, match=r"config\.json"):
            read(folder)


def test_without_a_network_vision_weights_are_named_with_their_place(tmp_path, monkeypatch):
    def refused(*arguments, **more):
        raise requests.ConnectionError("Name or service not known")

    monkeypatch.setattr(requests, "get", refused)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError) as caught:
        load_backbone("resnet18")
    said = str(caught.value)
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in said
    assert f"put it into {tmp_path / 'hub/checkpoints'}" in said
    assert "features.vision_weights" in said
    cached = tmp_path / "hub/checkpoints/resnet18-f37072fd.pth"
    torch.save(load_backbone("resnet18", None).net.state_dict(), cached)
    cached.write_bytes(cached.read_bytes()[:9000])
    with pytest.raises(UserError, match=r"resnet18-f37072fd\.pth: cannot be read as a state dict"):
        load_backbone("resnet18")


@pytest.mark.parametrize("read", [model_folder, load_tokenizer, lambda name: load_language(name, [-1])])
def test_without_a_network_a_hub_model_is_named_with_its_place(read):
    with pytest.raises(UserError) as caught:  # the tests run with HF_HUB_OFFLINE
        read("some-org/some-model")
    said = str(caught.value)
    assert "huggingface.co/some-org/some-model" in said
    assert "models--some-org--some-model" in said
    assert "hf download some-org/some-model" in said
