"""Text in every form that people bring: read as what it is, or refused by its name."""

import bz2
import gzip
import json
import lzma

import pytest

from vlpnb.data.captions import read_captions
from vlpnb.data.forms import open_text, refuse_markup
from vlpnb.data.glue import read_glue
from vlpnb.data.text_files import lines_of, read_json
from vlpnb.errors import UserError
from vlpnb.text.lines import lines_from, read_lines
from vlpnb.text.wikipedia import extracted_lines

TEXT = "the first line has words .\nthe sécond line has words .\n"
LINES = TEXT.splitlines()


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(path):
    return [line.text for line in lines_of(path, "words")]


def corpus(path):
    return list(read_lines(path, "none"))


@pytest.mark.parametrize("content", [TEXT, "\ufeff" + TEXT, TEXT.replace("\n", "\r\n"), TEXT.rstrip()])
def test_marks_and_line_ends_are_no_text(tmp_path, content):
    path = write(tmp_path / "a.raw", content)
    assert lines(path) == corpus(path) == list(extracted_lines(path)) == LINES


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compression_is_recognised_whatever_the_name(tmp_path, pack):
    path = write(tmp_path / "a.txt", pack(TEXT.encode()))
    assert lines(path) == list(extracted_lines(path)) == LINES
    assert read_json(write(tmp_path / "a.json", pack(b"\xef\xbb\xbf[1]")), "x") == [1]
    with pytest.raises(UserError, match=r"a\.txt is compressed \(.*unpack it first"):
        corpus(path)
    for cut in (path.read_bytes()[:20], path.read_bytes()[:-12]):
        with pytest.raises(UserError, match=r"b\.txt: the compressed file is damaged"):
            lines(write(tmp_path / "b.txt", cut))


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"), ("utf-32", "UTF-32"),
        ("latin-1", "not UTF-8"), ("cp1252", "not UTF-8"),
    ],
)  # fmt: skip
def test_other_encodings_are_refused_by_name_everywhere(tmp_path, encoding, said):
    folder = tmp_path / "RTE"
    folder.mkdir()
    for name, content in (
        ("a.raw", TEXT),
        ("Flickr8k.token.txt", f"a.jpg#0\t{TEXT}"),
        ("a.json", f'["{LINES[1]}"]'),
    ):
        write(tmp_path / name, content.encode(encoding))
    rows = "index\tsentence1\tsentence2\tlabel\n0\tIt is sécond .\tYes .\tentailment\n"
    write(folder / "train.tsv", rows.encode(encoding))
    reads = [
        lambda: corpus(tmp_path / "a.raw"),
        lambda: list(extracted_lines(tmp_path / "a.raw")),
        lambda: read_captions("flickr", tmp_path / "Flickr8k.token.txt", tmp_path),
        lambda: read_glue(tmp_path, "RTE", "train"),
    ]
    for read in reads:
        with pytest.raises(UserError, match=said) as caught:
            read()
        assert "iconv" in str(caught.value)
    with pytest.raises(UserError, match=f"{said}|not valid JSON"):
        read_json(tmp_path / "a.json", "x")


BINARY = {
    "zip": b"PK\x03\x04rest", "HDF5": b"\x89HDF\r\n\x1a\nrest", "Parquet": b"PAR1rest", "picture": b"\x89PNGrest",
    "HTML": b"\n<!DOCTYPE html><html>404</html>", "old Macintosh": b"one line .\rtwo lines .\r",
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_what_is_no_text_is_called_by_its_name(tmp_path, name):
    path = write(tmp_path / "wiki.train.raw", BINARY[name])
    for read in (lines, corpus, lambda path: read_json(path, "x"), lambda path: list(extracted_lines(path))):
        with pytest.raises(UserError, match=rf"wiki\.train\.raw.*{name}"):
            read(path)


FORMS = {
    "JSON lines with id, text, title, url": json.dumps({"id": "1", "url": "", "title": "A", "text": "words"}),
    "JSON lines with sentence": '{"sentence": "a dog runs in the field ."}\n{"sentence": "x"}',
    "JSON lines with label, text": '{"text": "' + "words " * 20_000 + '", "label": 1}',
    "the output of WikiExtractor": '<doc id="1" url="x" title="A">\nA\n\nWords here .\n</doc>',
    "a dump of MediaWiki": '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">\n<page>',
    "numbers only": "\n".join("101 2023 2003 102" for _ in range(40)),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_output_of_other_tools_does_not_become_a_corpus(tmp_path, form):
    path = write(tmp_path / "wiki.train.raw", FORMS[form] + "\n")
    found = form.replace("label, text", "text") if len(FORMS[form]) > 1 << 16 else form
    for read in (corpus, lambda path: refuse_markup(path, "raw text")):
        with pytest.raises(UserError, match=rf"wiki\.train\.raw: expected raw text.*found {found}"):
            read(path)


@pytest.mark.parametrize(
    "text", ["{ curly } words are text .", "1 2 3", "<unk> is a word .", "", "\n\n", "[1] a note ."]
)
def test_ordinary_lines_that_look_a_little_like_it_are_text(tmp_path, text):
    path = write(tmp_path / "a.raw", text)
    assert corpus(path) == [line for line in text.split("\n") if line.strip()]


def test_both_forms_of_the_wikipedia_tool_give_the_same_lines(tmp_path):
    plain = '<doc id="1" url="u" title="Fish">\nFish\n\nA fish swims .\nIt is wet .\n\n</doc>\n'
    page = {"id": "1", "revid": "2", "url": "u", "title": "Fish", "text": "A fish swims .\nIt is wet .\n"}
    expected = ["Fish", "A fish swims .", "It is wet ."]
    assert list(extracted_lines(write(tmp_path / "plain", plain))) == expected
    assert list(extracted_lines(write(tmp_path / "json", json.dumps(page)))) == expected
    with pytest.raises(UserError, match="dump of Wikipedia itself"):
        list(extracted_lines(write(tmp_path / "dump.xml.bz2", bz2.compress(b"<mediawiki>\n<page>\n"))))


def test_a_mark_moves_no_offset(tmp_path):
    """The corpus stage continues at byte offsets; they count the mark, which is no text."""
    plain, marked = write(tmp_path / "a", TEXT), write(tmp_path / "b", "\ufeff" + TEXT)
    first, second = (list(lines_from(path, "none", 0)) for path in (plain, marked))
    assert [(line, end + 3) for line, end in first] == second
    assert list(lines_from(marked, "none", second[0][1])) == second[1:]


def test_a_folder_and_a_file_without_rights_are_named(tmp_path):
    with pytest.raises(UserError, match="is a folder; expected a file with words"):
        open_text(tmp_path, "words")
    with pytest.raises(UserError, match=r"gone: cannot be read \(No such file"):
        open_text(tmp_path / "gone", "words")
    with open_text(write(tmp_path / "a", "x"), "words") as file:
        assert file.read() == b"x"
