"""Wikipedia's three files, from WikiExtractor's output."""

import bz2
import gzip

import pytest

from vlpnb.errors import UserError
from vlpnb.text import wikipedia
from vlpnb.text.wikipedia import extracted_lines, prepare_wikipedia, strip_accents

PAGE = (
    '<doc id="{0}" url="x" title="T">\nTitle {0}\n\n  \nThe café’s {0}st line, here.\nMore of {0}.\n</doc>\n'
)


@pytest.fixture
def source(tmp_path):
    """Two folders of WikiExtractor, 30 lines of text."""
    for folder, first in (("AA", 0), ("AB", 5)):
        (tmp_path / "text" / folder).mkdir(parents=True)
        pages = "".join(PAGE.format(i) for i in range(first, first + 5))
        (tmp_path / "text" / folder / "wiki_00").write_text(pages, encoding="utf-8")
    return tmp_path / "text"


def read(folder):
    return {
        s: (folder / f"en.{s}.raw").read_text("utf-8").split("\n")[:-1] for s in ("train", "valid", "test")
    }


@pytest.mark.parametrize("tokenised", [True, False])
def test_text_is_cut_into_three(source, tmp_path, tokenised):
    counts = prepare_wikipedia(source, tmp_path / "out", tokenised=tokenised, held_out=4)
    found = read(tmp_path / "out")
    assert counts == {"train": 22, "valid": 4, "test": 4} == {s: len(lines) for s, lines in found.items()}
    said = ["Title {0}", "The cafe 's {0}st line , here .", "More of {0} ."]
    if not tokenised:
        said = ["Title {0}", "The cafe’s {0}st line, here.", "More of {0}."]
    whole = [line.format(i) for i in range(10) for line in said]
    assert [*found["train"], *found["valid"], *found["test"]] == whole
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "en.test.raw", "en.train.raw", "en.valid.raw"
    ]  # fmt: skip


def test_the_number_of_workers_and_the_chunks_change_nothing(source, tmp_path, monkeypatch):
    monkeypatch.setattr(wikipedia, "CHUNK", 7)
    done = []
    prepare_wikipedia(source, tmp_path / "one", held_out=4, progress=done.append)
    prepare_wikipedia(source, tmp_path / "two", held_out=4, workers=2)
    assert read(tmp_path / "one") == read(tmp_path / "two")
    assert done == [7, 14, 21, 28, 30]


def test_compressed_files_are_read(source, tmp_path):
    text = (source / "AA" / "wiki_00").read_bytes()
    (tmp_path / "a.gz").write_bytes(gzip.compress(text))
    (tmp_path / "a.bz2").write_bytes(bz2.compress(text))
    plain = list(extracted_lines(source / "AA" / "wiki_00"))
    assert list(extracted_lines(tmp_path / "a.gz")) == list(extracted_lines(tmp_path / "a.bz2")) == plain
    assert len(plain) == 15


def test_accents():
    assert strip_accents("Ångström naïve Zürich e\u0301 ß 東京") == "Angstrom naive Zurich e ß 東京"


def test_too_little_or_no_text(source, tmp_path):
    with pytest.raises(UserError, match=r"text: 30 lines of text, expected more than 10,000"):
        prepare_wikipedia(source, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none is empty"):
        prepare_wikipedia(tmp_path / "none", tmp_path / "out")
    (tmp_path / "latin").write_bytes("caf\xe9\n".encode("latin-1"))
    with pytest.raises(UserError, match="latin:1: not UTF-8"):
        prepare_wikipedia(tmp_path / "latin", tmp_path / "out")
    with pytest.raises(UserError, match="does not exist"):
        prepare_wikipedia(tmp_path / "gone", tmp_path / "out")


def test_a_stopped_run_leaves_no_file_that_looks_complete(source, tmp_path, monkeypatch):
    prepare_wikipedia(source, tmp_path / "out", held_out=4)
    before = read(tmp_path / "out")

    def stopped(line):
        raise KeyboardInterrupt

    monkeypatch.setattr(wikipedia, "moses", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare_wikipedia(source, tmp_path / "out", held_out=4)
    assert read(tmp_path / "out") == before


def letters(text):
    return [c for c in text if c.isalnum()]


def test_published_text(shared_data):
    """Real articles: every line stays one line, with its letters and digits."""
    lines = list(extracted_lines(shared_data / "text" / "enwiki_sample" / "enwiki_sample.part1.txt"))[:2000]
    made = wikipedia.prepared(lines, tokenised=True)
    assert len(made) == len(lines) > 100
    assert all(line == " ".join(line.split()) for line in made)
    plain = wikipedia.prepared(lines, tokenised=False)
    same = [letters(a) == letters(b) for a, b in zip(made, plain, strict=True)]
    assert all(same)
    assert sum(a != b for a, b in zip(made, plain, strict=True)) > 0.5 * len(made)


def test_the_command(source, tmp_path, monkeypatch, capsys):
    from vlpnb.course.cli import main

    monkeypatch.setattr(
        wikipedia.prepare_wikipedia,
        "__kwdefaults__",
        wikipedia.prepare_wikipedia.__kwdefaults__ | {"held_out": 3},
    )
    with pytest.raises(SystemExit) as caught:
        main(["data", "wikipedia", str(source), str(tmp_path / "out"), "--untokenised"])
    assert caught.value.code in (0, None)
    assert "24 train lines, 3 valid lines, 3 test lines" in capsys.readouterr().out
    assert "The cafe’s 0st line, here." in read(tmp_path / "out")["train"]
