"""Tokenizers from bare vocabularies, from folders, and trained on the spot."""

import pytest
from transformers import AutoTokenizer

from vlpnb.errors import UserError
from vlpnb.text.tokenizers import (
    byte_pieces,
    encode_lines,
    load_tokenizer,
    piece_texts,
    train_byte_bpe,
    train_wordpiece,
    trim_wordpiece,
)

LINES = ["The red apple lies on a small table .", "Zwei Äpfel, 3.5 kg!", "a dog and a cat ran"] * 5


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wordpiece")
    return folder, train_wordpiece(iter(LINES), 120, folder)


def test_trained_wordpiece_is_a_hugging_face_folder(trained):
    folder, tokenizer = trained
    loaded = AutoTokenizer.from_pretrained(str(folder))
    assert loaded.is_fast
    assert [loaded.pad_token_id, loaded.unk_token_id, loaded.cls_token_id] == [0, 1, 2]
    assert [loaded.sep_token_id, loaded.mask_token_id] == [3, 4]
    text = ("The red apple", "a dog!")
    assert loaded(*text)["input_ids"] == tokenizer(*text)["input_ids"]
    assert loaded(*text)["token_type_ids"] == [0] * (len(loaded(text[0])["input_ids"])) + [1] * (
        len(loaded(text[1])["input_ids"]) - 1
    )
    assert loaded.decode(loaded("THE red Apple", add_special_tokens=False)["input_ids"]) == "the red apple"
    assert (folder / "vocab.txt").read_text().split("\n")[:5] == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    ]


def test_a_trimmed_vocabulary_reads_its_text_as_before(trained, tmp_path):
    _, tokenizer = trained
    line = "The red apple and a dog ran ."
    used = tokenizer(line, add_special_tokens=False)["input_ids"]
    small, kept = trim_wordpiece(tokenizer, used, tmp_path)
    assert len(small) == len(kept) < len(tokenizer)
    for text, other in ((line, None), (line, "a dog")):
        before, after = tokenizer(text, other), small(text, other)
        assert [kept[i] for i in after["input_ids"]] == before["input_ids"]
        assert after["token_type_ids"] == before["token_type_ids"]
    assert small.tokenize("table") == ["t", *(f"##{c}" for c in "able")]  # a word that the line does not use
    loaded = AutoTokenizer.from_pretrained(str(tmp_path))
    assert loaded(line)["input_ids"] == small(line)["input_ids"]
    assert [loaded.pad_token_id, loaded.unk_token_id, loaded.mask_token_id] == [0, 1, 4]


def test_only_word_pieces_are_trimmed(tmp_path):
    with pytest.raises(UserError, match="expected BERT's word pieces"):
        trim_wordpiece(train_byte_bpe(LINES, 300, tmp_path), [5], tmp_path)


@pytest.mark.parametrize("vocab_size", [300, 40])
def test_byte_level_ids_are_in_the_published_order(tmp_path, vocab_size):
    """<s> <pad> </s> <unk>, the pieces, <mask>: its published id 50,264 is the last of 50,265."""
    trained = train_byte_bpe(LINES, vocab_size, tmp_path)
    size = max(vocab_size, 4 + 256 + 1)  # without the bytes not every text could be written
    for tokenizer in (trained, load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(str(tmp_path))):
        assert len(tokenizer) == size
        assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, size - 1]) == [
            "<s>", "<pad>", "</s>", "<unk>", "<mask>",
        ]  # fmt: skip
        assert tokenizer.mask_token_id == size - 1
        assert sorted(tokenizer.all_special_ids) == [0, 1, 2, 3, size - 1]
        pieces = byte_pieces(tokenizer)[4:-1]
        assert {bytes([b]) for b in range(256)} <= set(pieces)
        assert len(set(pieces)) == len(pieces)
        # RoBERTa's <mask> takes the space before it, and is no text.
        ids = tokenizer("a dog <mask> .", add_special_tokens=False)["input_ids"]
        assert ids.count(size - 1) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == "a dog ."


def test_training_is_repeatable(trained, tmp_path):
    folder, _ = trained
    for i in range(3):
        train_wordpiece(iter(LINES), 120, tmp_path / str(i))
        assert (tmp_path / str(i) / "vocab.txt").read_bytes() == (folder / "vocab.txt").read_bytes()


def test_training_on_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="no text"):
        train_wordpiece([], 100, tmp_path)


def test_bare_vocab_txt_equals_the_trained_one(trained, tmp_path):
    folder, tokenizer = trained
    (tmp_path / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())
    bare = load_tokenizer(tmp_path)
    assert bare("The red ÄPFEL")["input_ids"] == tokenizer("The red ÄPFEL")["input_ids"]
    assert load_tokenizer(tmp_path / "vocab.txt").get_vocab() == bare.get_vocab()


def test_encode_lines_equals_the_slow_way(trained):
    _, tokenizer = trained
    many = encode_lines(tokenizer, LINES)
    assert [ids.tolist() for ids in many] == [
        tokenizer(line, add_special_tokens=False)["input_ids"] for line in LINES
    ]
    # leaves truncation switched on in the backend
    tokenizer(LINES, truncation=True, max_length=4, padding=True)
    assert len(encode_lines(tokenizer, LINES[:1])[0]) == len(many[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: None, "holds no tokenizer"),
        (lambda f: (f / "vocab.txt").write_text("hello\nworld\n"), r"\[PAD\].*missing"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "cannot be loaded"),
    ],
)
def test_unusable_folders(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(UserError, match=message):
        load_tokenizer(tmp_path)


def test_unknown_name():
    with pytest.raises(UserError, match="no-such/model-anywhere"):
        load_tokenizer("no-such/model-anywhere")


def test_published_vocabularies(shared_data):
    uncased = load_tokenizer(shared_data / "vocab/bert-base-uncased")
    cased = load_tokenizer(shared_data / "vocab/bert-base-cased")
    gpt2 = load_tokenizer(shared_data / "vocab/gpt2")
    assert uncased("Héllo, embeddings!")["input_ids"] == [
        101, 7592, 1010, 7861, 8270, 4667, 2015, 999, 102,
    ]  # fmt: skip
    assert cased.tokenize("Hello World") == ["Hello", "World"]
    assert gpt2("Hello world")["input_ids"] == [15496, 995]
    assert (len(uncased), len(cased), len(gpt2)) == (30522, 28996, 50257)
    assert gpt2.pad_token == "<|endoftext|>"
    texts = piece_texts(gpt2)
    assert (texts[995], texts[15496]) == (" world", "Hello")
    assert piece_texts(uncased)[2015] == "s"
