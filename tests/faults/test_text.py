"""Lines as they come: blank, endless, full of control characters, or in another encoding."""

import numpy as np
import pytest

from vlpnb.errors import UserError
from vlpnb.text.corpora import TokenCorpus, write_corpus
from vlpnb.text.tokenizers import encode_lines, train_wordpiece

GOOD = "the quick fox jumps over the lazy dog ."


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_wordpiece([GOOD] * 3, 80, tmp_path_factory.mktemp("words"))


@pytest.mark.slow
def test_odd_lines_are_kept_whole_or_dropped_and_nothing_else_changes(tmp_path, tokenizer):
    endless = " ".join([GOOD] * 20_000)  # 0.8 MB without a line end
    controls = "the\x00quick\x07 fox\x1b[31m jumps\u200b over\x0b\x0c\x1c\x85\u2028the lazy dog ."
    odd = ["", "   \t ", controls, "\x00\x01\x02 \x03", endless, "\ufeffthe fox", GOOD + "\r"]
    lines = [text for line in odd for text in (GOOD, line)]
    source = tmp_path / "odd.raw"
    source.write_bytes("\n".join(lines).encode() + b"\n")
    summary = write_corpus(source, tmp_path / "c.hdf5", tokenizer, "none", shard_bytes=100_000)
    corpus = TokenCorpus(tmp_path / "c.hdf5")
    # LF alone ends a line: none of the other separators of Unicode cuts one in two.
    kept = [
        ids for ids in encode_lines(tokenizer, [f"{line.strip(chr(13))}\n" for line in lines]) if len(ids)
    ]
    assert summary.lines == len(kept) == 11
    assert all(np.array_equal(corpus.line(i), ids) for i, ids in enumerate(kept))
    assert len(corpus.line(6)) == 20_000 * len(encode_lines(tokenizer, [GOOD])[0])
    assert np.diff(corpus.sentences).min() > 0


def test_a_line_in_another_encoding_is_found_and_the_work_before_it_kept(tmp_path, tokenizer):
    source = tmp_path / "a.raw"
    source.write_bytes((f"{GOOD}\n" * 20).encode() + "caf\xe9 au lait ce matin .\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.raw: not UTF-8 in line 21, which ends at byte 824.*convert"):
        write_corpus(source, tmp_path / "c.hdf5", tokenizer, "none", shard_bytes=200)
    assert not (tmp_path / "c.hdf5").exists()
    assert len(list((tmp_path / "checkpoint-c").glob("*.hdf5"))) >= 3
    source.write_bytes((f"{GOOD}\n" * 20).encode())
    assert write_corpus(source, tmp_path / "c.hdf5", tokenizer, "none", shard_bytes=200).lines == 20
    assert not (tmp_path / "checkpoint-c").exists()


@pytest.mark.parametrize("content", ["", "\n \n\t\n", "\x00\x01\n"])
def test_a_corpus_without_a_token_is_an_error(tmp_path, tokenizer, content):
    (tmp_path / "a.raw").write_text(content)
    with pytest.raises(UserError, match=r"a\.raw: no line is kept under rules 'none'"):
        write_corpus(tmp_path / "a.raw", tmp_path / "c.hdf5", tokenizer, "none")
    assert not (tmp_path / "c.hdf5").exists()


def test_a_finished_corpus_is_found_and_another_text_is_not(tmp_path, tokenizer, monkeypatch):
    source, target = tmp_path / "a.raw", tmp_path / "c.hdf5"
    source.write_text(f"{GOOD}\n" * 9)
    first = write_corpus(source, target, tokenizer, "none")
    with monkeypatch.context() as patched:
        patched.setattr("vlpnb.text.corpora._tokenise", lambda *a: pytest.fail("tokenised again"))
        assert write_corpus(source, target, tokenizer, "none") == first
    source.write_text(f"{GOOD}\n" * 5)
    assert write_corpus(source, target, tokenizer, "none").lines == 5
    target.write_bytes(target.read_bytes()[:700])
    assert write_corpus(source, target, tokenizer, "none").lines == 5
