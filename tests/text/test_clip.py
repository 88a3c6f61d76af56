"""CLIP's tokenizer: ids as recorded, cleaning, files whole and broken."""

import gzip
import json
import os
from pathlib import Path

import pytest

from vlpnb.errors import UserError
from vlpnb.text import clip
from vlpnb.text.tokenizers import encode_lines, load_tokenizer

SHARED = Path(__file__).parents[3] / "shared"
RECORDED = Path(os.environ.get("VLPNB_SHARED_GOLDEN", SHARED / "golden")) / "valm/tokenizer.json"
MERGES = SHARED / "data/vocab/clip" / f"{clip.NAME}.gz"
HEADER = '"bpe_simple_vocab_16e6.txt#version: 0.2\n'


@pytest.fixture
def small(tmp_path):
    file = tmp_path / clip.NAME
    file.write_text(HEADER + "r e\nre d</w>\nb l\nu e</w>\nbl ue</w>\n", encoding="utf-8")
    return file


def test_ids_are_bytes_then_ends_of_words_then_merges_then_marks(small):
    tokenizer = clip.clip_tokenizer(small)
    assert len(tokenizer) == 512 + 5 + 2
    assert encode_lines(tokenizer, ["red blue", "RED re!"])[0].tolist() == [513, 516]
    assert encode_lines(tokenizer, ["!", "a!a"])[0].tolist() == [256]  # "!" alone ends a word
    assert tokenizer.convert_tokens_to_ids(clip.START_MARK) == 517
    assert encode_lines(tokenizer, [f"red {clip.END_MARK}"])[0].tolist() == [513, 518]


def test_a_saved_folder_a_bare_folder_and_the_file_read_alike(small, tmp_path):
    tokenizer = load_tokenizer(small)
    tokenizer.save_pretrained(tmp_path / "saved")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()))
    (bare / "merges.txt").write_text("#version: 0.2\n" + small.read_text().split("\n", 1)[1])
    only = tmp_path / "only"
    only.mkdir()
    (only / f"{clip.NAME}.gz").write_bytes(gzip.compress(small.read_bytes()))
    lines = ["Red  &amp;amp; blue's", "x2y 33"]
    wanted = [ids.tolist() for ids in encode_lines(tokenizer, lines)]
    for folder in (tmp_path / "saved", bare, only):
        assert [ids.tolist() for ids in encode_lines(load_tokenizer(folder), lines)] == wanted
        assert clip.is_clip(load_tokenizer(folder))


def test_text_is_unescaped_twice_and_lower_cased():
    assert clip.clean("  A&amp;lt;B\n\tc &quot;D&quot; ") == 'a<b c "d"'
    assert clip.clean("ΑΣ") == "ας"  # a final sigma, which lower-casing letter by letter would miss


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("it\u2019s \u201cso\u201d", 'it\'s "so"'),
        ("\ufb01ne \uff21\uff22\u3000\u00bd", "fine ab \u00bd"),
        ("bell\x07 \x1b[31mred\ufeff", "bell red"),
        ("cafe\u0301 &amp;amp; \u2026", "caf\u00e9 & \u2026"),
    ],
)
def test_quotes_ligatures_wide_and_control_characters_are_written_plainly_without_ftfy_too(
    text, cleaned, monkeypatch
):
    assert clip.clean(text) == cleaned  # by ftfy where it is installed
    monkeypatch.setattr(clip, "_repair", lambda: None)
    assert clip.clean(text) == cleaned


def test_it_says_which_repair_it_does(monkeypatch):
    assert clip.cleaning().startswith(("ftfy ", "none"))
    monkeypatch.setattr(clip, "_repair", lambda: lambda text: text.replace("’", "'"))
    assert clip.clean("It’s") == "it's"


def test_ids_are_those_that_were_recorded():
    if not (RECORDED.is_file() and MERGES.is_file()):
        pytest.skip(f"CLIP's merges or recorded ids not found: {MERGES}, {RECORDED}")
    about, tokenizer = json.loads(RECORDED.read_text(encoding="utf-8")), load_tokenizer(MERGES)
    assert len(tokenizer) == about["vocabulary"]
    assert [tokenizer.convert_tokens_to_ids(m) for m in clip.MARKS] == [about["start"], about["end"]]
    for word, ids in about["single_words"].items():
        assert encode_lines(tokenizer, [word])[0].tolist() == ids
    repaired = clip.cleaning().startswith("ftfy")
    # Text that was decoded by a wrong table is ftfy's to mend.
    items = [i for i in about["items"] if repaired or "\u00e2\u20ac" not in i["text"]]
    assert len(items) >= len(about["items"]) - 1
    for item, ids in zip(items, encode_lines(tokenizer, [i["text"] for i in items]), strict=True):
        assert ids.tolist() == item["ids"], item["text"]


def test_a_broken_line_is_named(small):
    small.write_text(HEADER + "r e\nred\n")
    with pytest.raises(UserError, match=r"bpe_simple_vocab_16e6.txt:3: found 'red'"):
        clip.clip_tokenizer(small)


def test_merges_of_what_is_not_there_are_refused(small):
    small.write_text(HEADER + "r zz\n")
    with pytest.raises(UserError, match="do not belong together"):
        clip.clip_tokenizer(small)


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    file = tmp_path / f"{clip.NAME}.gz"
    file.write_bytes(gzip.compress(b"r e\n" * 999)[:20])
    with pytest.raises(UserError, match="cannot be read"):
        clip.clip_tokenizer(file)
