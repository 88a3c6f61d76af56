"""Line filters, sentences, splitting, and the token stream on disk."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlpnb.data.store import write_store
from vlpnb.errors import UserError
from vlpnb.text import corpora
from vlpnb.text.corpora import (
    TokenCorpus,
    add_sentences,
    export_original,
    keeps,
    read_lines,
    sentence_ends,
    sentence_lengths,
    split_long,
    write_corpus,
)
from vlpnb.text.lines import line_start, lines_from
from vlpnb.text.tokenizers import encode_lines, train_wordpiece

WORDS = ["the", "a", "dog", "cat", "saw", "red", "apple", "and", "3", "5", "17"]
WORDS += ["@", ".", "!", "?", ",", '"', "'", ")", "(", ";", "U", "S"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_wordpiece([" ".join(WORDS)] * 9, 200, tmp_path_factory.mktemp("tokenizer"))


def lengths(tokenizer, text):
    return sentence_lengths(encode_lines(tokenizer, [text])[0], tokenizer)


@pytest.mark.parametrize(
    ("line", "wiki103", "wiki", "none"),
    [
        (" = Robert Boulter the first = ", False, True, True),
        ("one two three four", False, False, True),
        ("one two three four five", True, True, True),
        ("= a b c d e =", True, True, True),  # only " = " at the start is a heading
        (" =a b c d e", True, True, True),
        ("   ", False, False, False),
        ("", False, False, False),
    ],
)
def test_line_rules(line, wiki103, wiki, none):
    assert [keeps(line, rule) for rule in ("wiki103", "wiki", "none")] == [wiki103, wiki, none]


def test_read_lines_names_the_place_of_a_bad_byte(tmp_path):
    path = tmp_path / "raw.txt"
    path.write_bytes(b"one two three four five\r\n\n = heading of five words = \nok a b c d\n\xff\xfe x\n")
    lines = read_lines(path, "wiki103")
    assert [next(lines), next(lines)] == ["one two three four five", "ok a b c d"]
    with pytest.raises(UserError, match=r"raw\.txt: not UTF-8"):
        next(lines)
    with pytest.raises(UserError, match="unknown"):
        next(read_lines(path, "wiki-103"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the dog saw . a cat !", [4, 3]),
        ('the dog . " ) a cat', [5, 2]),  # closing marks belong to the sentence before
        ("the dog ? ! a cat", [4, 2]),
        ("3 . 5 apple and 3 @ . @ 5 apple .", [12]),  # decimal points
        ("the 3 . the", [3, 1]),
        ("the dog", [2]),
        (". . the", [2, 1]),
        ('" the dog "', [4]),
        ("", []),
    ],
)
def test_sentences(tokenizer, text, expected):
    assert lengths(tokenizer, text) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12), min_size=1, max_size=6))
def test_sentences_never_cross_lines(tokenizer, lines):
    encoded = encode_lines(tokenizer, [" ".join(line) for line in lines])
    ends = np.cumsum([len(ids) for ids in encoded])
    together = sentence_ends(np.concatenate(encoded), ends, tokenizer)
    apart = [n for ids in encoded for n in sentence_lengths(ids, tokenizer)]
    assert np.diff(together, prepend=0).tolist() == apart
    assert set(ends.tolist()) <= set(together.tolist())


@pytest.mark.parametrize(
    ("length", "legacy"),
    [
        (128, [128]),
        (129, [64, 64, 1]),
        (200, [100, 100]),
        (255, [127, 127, 1]),
        (257, [85, 85, 85, 2]),
        (300, [100, 100, 100]),
        (385, [96, 96, 96, 96, 1]),
        (1000, [125] * 8),
    ],
)
def test_golden_piece_lengths(length, legacy):
    assert split_long(length, 128, legacy=True) == legacy


@given(st.integers(0, 5000), st.integers(1, 200))
def test_balanced_pieces(length, limit):
    pieces = split_long(length, limit)
    assert sum(pieces) == length
    assert len(pieces) == -(-length // limit)
    assert not pieces or (max(pieces) <= limit and max(pieces) - min(pieces) <= 1)


def text_file(path, count, seed=0):
    rng = np.random.default_rng(seed)
    lines = [" ".join(rng.choice(WORDS, rng.integers(1, 25))) for _ in range(count)]
    lines[1::7] = [" = a heading of five words = "] * len(lines[1::7])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def assert_equals_plain_way(corpus, sources, tokenizer, rules):
    kept = [line for source in sources for line in read_lines(source, rules)]
    encoded = encode_lines(tokenizer, [line + "\n" for line in kept])
    assert np.array_equal(corpus.tokens[:], np.concatenate(encoded))
    assert corpus.lines.tolist() == [0, *np.cumsum([len(ids) for ids in encoded]).tolist()]
    apart = [n for ids in encoded for n in sentence_lengths(ids, tokenizer)]
    assert corpus.sentences.tolist() == [0, *np.cumsum(apart).tolist()]


@pytest.mark.parametrize("shard_bytes", [20, 333, 1 << 20])
def test_write_corpus_equals_the_plain_way(tmp_path, tokenizer, shard_bytes, monkeypatch):
    monkeypatch.setattr(corpora, "CHUNK_LINES", 5)
    sources = [text_file(tmp_path / "a.raw", 40), text_file(tmp_path / "b.raw", 23, 1)]
    seen = []
    target = tmp_path / "out" / "corpus.hdf5"
    summary = write_corpus(
        sources, target, tokenizer, "wiki103", shard_bytes=shard_bytes, progress=lambda *p: seen.append(p)
    )
    corpus = TokenCorpus(target)
    assert_equals_plain_way(corpus, sources, tokenizer, "wiki103")
    assert (len(corpus), len(corpus.lines) - 1) == (summary.tokens, summary.lines)
    assert isinstance(corpus.tokens, np.memmap)
    assert corpus.tokens.dtype == np.uint16
    assert corpus.attributes["sources"] == ["a.raw", "b.raw"]
    assert seen[-1][0] == seen[-1][1]
    assert sorted(p.name for p in target.parent.iterdir()) == ["corpus.hdf5"]


def test_lines_belong_to_the_shard_that_they_start_in(tmp_path):
    source = tmp_path / "a.raw"
    source.write_text("one\n\ntwo\nthe third is long\nlast")
    for width in range(1, 40):
        starts = range(0, source.stat().st_size, width)
        parts = [lines_from(source, "none", line_start(source, at), at + width) for at in starts]
        assert [line for part in parts for line, _ in part] == ["one", "two", "the third is long", "last"]


def killed_before_joining(monkeypatch, *arguments, **options):
    """`write_corpus` up to the joining of its shards."""
    with monkeypatch.context() as patched:
        patched.setattr(corpora, "_rows", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises((KeyboardInterrupt, threading.BrokenBarrierError)):
            write_corpus(*arguments, **options)


def test_shards_of_other_settings_are_not_reused(tmp_path, tokenizer, monkeypatch):
    source = text_file(tmp_path / "a.raw", 30)
    killed_before_joining(monkeypatch, source, tmp_path / "c.hdf5", tokenizer, "wiki103", shard_bytes=300)
    options = {"shard_bytes": 300, "lines_are_sentences": True}
    killed_before_joining(monkeypatch, source, tmp_path / "c.hdf5", tokenizer, "none", **options)
    summary = write_corpus(source, tmp_path / "c.hdf5", tokenizer, "none", shard_bytes=300)
    assert summary.shards_reused == 0
    assert_equals_plain_way(TokenCorpus(tmp_path / "c.hdf5"), [source], tokenizer, "none")


def test_self_check_notices_a_wrong_store(tmp_path, tokenizer, monkeypatch):
    source = text_file(tmp_path / "a.raw", 30)
    original = corpora.encode_lines
    shuffled = lambda t, lines: original(t, list(lines)[::-1])  # noqa: E731
    monkeypatch.setattr(corpora, "encode_lines", shuffled)
    with pytest.raises(UserError, match="line 0 of the store"):
        write_corpus(source, tmp_path / "c.hdf5", tokenizer, "none")


def test_max_tokens_and_empty_input(tmp_path, tokenizer):
    source = text_file(tmp_path / "a.raw", 50)
    summary = write_corpus(source, tmp_path / "c.hdf5", tokenizer, "none", max_tokens=60, shard_bytes=200)
    assert 60 <= summary.tokens < 90
    whole = write_corpus(source, tmp_path / "w.hdf5", tokenizer, "none")
    assert np.array_equal(
        TokenCorpus(tmp_path / "w.hdf5").tokens[: summary.tokens], TokenCorpus(tmp_path / "c.hdf5").tokens
    )
    assert whole.tokens > summary.tokens
    (tmp_path / "empty.raw").write_text("\n\n")
    with pytest.raises(UserError, match="no line is kept"):
        write_corpus(tmp_path / "empty.raw", tmp_path / "e.hdf5", tokenizer, "none")
    with pytest.raises(UserError, match="does not exist"):
        write_corpus(tmp_path / "none.raw", tmp_path / "e.hdf5", tokenizer, "none")


def test_original_layout_round_trip(tmp_path, tokenizer):
    source = text_file(tmp_path / "wiki.raw", 40)
    write_corpus(source, tmp_path / "c.hdf5", tokenizer, "wiki103")
    native = TokenCorpus(tmp_path / "c.hdf5")
    path = export_original(native, tmp_path / "wiki.raw.bert-base-uncased")
    other = TokenCorpus(path)
    for name in ("tokens", "lines", "sentences"):
        assert np.array_equal(getattr(other, name)[:], getattr(native, name)[:])
    assert other.tokens.dtype == np.int32
    first = (tmp_path / "wiki.raw.bert-base-uncased").read_text().split("\n")[0]
    assert [int(i) for i in first.split()] == native.line(0).tolist()
    sentences = tmp_path / "wiki.raw.bert-base-uncased.sent"
    expected = sentences.read_text()
    sentences.unlink()
    with pytest.raises(UserError, match="add_sentences"):
        _ = TokenCorpus(path).sentences
    add_sentences(path, tokenizer)
    assert sentences.read_text() == expected
    sentences.write_text("0\n5\n")
    with pytest.raises(UserError, match="do not run from 0"):
        _ = TokenCorpus(path).sentences


def test_damaged_corpus(tmp_path):
    with write_store(tmp_path / "x.hdf5", "keys") as file:
        file["keys"] = np.zeros((2, 2))
    with pytest.raises(UserError, match="no dataset 'tokens'"):
        TokenCorpus(tmp_path / "x.hdf5")


@pytest.mark.slow
def test_published_text(shared_data, tmp_path):
    from vlpnb.text.tokenizers import load_tokenizer

    for name in ("bert-base-uncased", "gpt2"):
        tokenizer = load_tokenizer(shared_data / "vocab" / name)
        source = shared_data / "text/wikitext-2-raw/wiki.test.raw"
        summary = write_corpus(source, tmp_path / f"{name}.hdf5", tokenizer, "wiki103", max_tokens=60_000)
        corpus = TokenCorpus(tmp_path / f"{name}.hdf5")
        size = np.diff(corpus.sentences)
        assert size.min() > 0
        assert 15 < size.mean() < 35  # the paper counts 26.5 tokens a sentence in WikiText-103
        assert summary.tokens >= 60_000


@pytest.mark.parametrize("max_tokens", [None, 260])
@pytest.mark.parametrize("processes", [2, 20])
def test_processes_share_the_shards_where_a_kill_left_some(
    tmp_path, tokenizer, monkeypatch, processes, max_tokens
):
    """Each process in a thread of its own."""
    monkeypatch.setattr(corpora, "CHUNK_LINES", 3)
    sources = [text_file(tmp_path / "a.raw", 40), text_file(tmp_path / "b.raw", 23, 1)]
    options = {"max_tokens": max_tokens, "shard_bytes": 333}
    one = write_corpus(sources, tmp_path / "one.hdf5", tokenizer, "wiki103", **options)
    target, whole = tmp_path / "many.hdf5", (tmp_path / "one.hdf5").read_bytes()
    killed_before_joining(monkeypatch, sources, target, tokenizer, "wiki103", **options)
    shards = sorted((tmp_path / "checkpoint-many").glob("*.hdf5"))
    for lost in shards[1::3]:
        lost.unlink()
    barrier = threading.Barrier(processes)

    def process(rank):
        return write_corpus(
            sources, target, tokenizer, "wiki103", **options,
            rank=rank, world_size=processes, wait=lambda: barrier.wait(60),
        )  # fmt: skip

    with ThreadPoolExecutor(processes) as pool:
        summaries = [future.result() for future in [pool.submit(process, r) for r in range(processes)]]
    assert {(s.tokens, s.lines, s.sentences) for s in summaries} == {(one.tokens, one.lines, one.sentences)}
    assert sum(s.shards_reused for s in summaries) == len(shards) - len(shards[1::3])
    assert target.read_bytes() == whole
    assert not (tmp_path / "checkpoint-many").exists()
