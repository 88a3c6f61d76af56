"""Readers of many languages: records, lines, lists for retrieval, parallel text, evaluated photographs."""

import base64
import gzip
import json

import pytest

from vlpnb.data.evaluated import photo_key, read_evaluated
from vlpnb.data.multilingual import (
    check_language,
    read_flickr_sentences,
    read_lines_about,
    read_records,
    shards_of,
)
from vlpnb.data.parallel import read_line_parallel, read_pairs
from vlpnb.data.retrieval_lists import RetrievalRow, read_retrieval_list
from vlpnb.errors import UserError

PICTURE = base64.b64encode(b"\xff\xd8\xff" + bytes(300)).decode()


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def test_records_have_pictures_by_path_or_inside_and_captions_of_one_or_several(tmp_path):
    path = lines(
        tmp_path / "cc.jsonl",
        [
            {"binary": "a/b.jpg", "caption": {"en": "a ball", "zh": "一个球"}},
            {"binary": PICTURE, "caption": [{"en": "one"}, {"en": "two", "de": "zwei"}]},
        ],
    )
    first, second = read_records(path)
    assert (first.image, first.binary, first.captions) == (
        "a/b.jpg",
        None,
        ({"en": "a ball", "zh": "一个球"},),
    )
    assert (second.image, len(second.binary)) == ("cc_0000002", 303)
    assert second.captions == ({"en": "one"}, {"en": "two", "de": "zwei"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"binary": "a.jpg", "caption": "a ball"}, r"found the text 'a ball'; expected captions by language"),
        ({"binary": "a.jpg", "caption": ["a ball"]}, r"caption: expected an object, found text"),
        ({"binary": "a.jpg", "caption": {"english": "a ball"}}, r"code of a language such as en.*'english'"),
        ({"binary": "a.jpg", "caption": {"en": 3}}, r"caption.en: expected text"),
        ({"caption": {"en": "a"}}, "field 'binary' is missing"),
        ({"binary": "no picture", "caption": {"en": "a"}}, "neither the path of a picture nor base64"),
        ({"binary": "", "caption": {"en": "a"}}, "binary: is empty"),
    ],
)
def test_a_wrong_record_is_named_with_file_line_and_field(tmp_path, row, message):
    path = lines(tmp_path / "x.jsonl", [{"binary": "b.jpg", "caption": {"en": "b"}}, row])
    with pytest.raises(UserError, match=message) as caught:
        list(read_records(path))
    assert f"{path}:2" in str(caught.value)


def test_one_pass_over_shards_reads_every_record_once_in_the_order_of_names(tmp_path):
    for shard in (3, 0, 2, 1):
        rows = [{"binary": f"{shard}_{i}.jpg", "caption": {"en": "a"}} for i in range(4)]
        lines(tmp_path / f"shards/part-{shard}.jsonl", rows)
    (tmp_path / "shards/_SUCCESS").touch()
    (tmp_path / "shards/.hidden").touch()
    found = [record.image for record in read_records(tmp_path / "shards")]
    assert found == [f"{shard}_{i}.jpg" for shard in range(4) for i in range(4)]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no file"):
        shards_of(tmp_path / "empty")


def test_lines_are_about_the_pictures_of_their_list(tmp_path):
    with gzip.open(tmp_path / "train.1.de.gz", "wt", encoding="utf-8") as file:
        file.write("ein Ball\n\nein Hund\n")
    (tmp_path / "images.txt").write_text("1.jpg\n2.jpg\n3.jpg\n")
    found = list(read_lines_about(tmp_path / "train.1.de.gz", tmp_path / "images.txt", "de"))
    assert [(said.image, said.sentence) for said in found] == [
        ("1.jpg", "ein Ball"),
        ("2.jpg", ""),
        ("3.jpg", "ein Hund"),
    ]
    (tmp_path / "images.txt").write_text("1.jpg\n2.jpg\n")
    with pytest.raises(UserError, match=r"has 3 lines, and .*images.txt names 2 images"):
        list(read_lines_about(tmp_path / "train.1.de.gz", tmp_path / "images.txt", "de"))


def test_chinese_and_english_flickr_lines_are_told_apart(tmp_path):
    (tmp_path / "zh.txt").write_text("1_ab.jpg#zhc#0 一个球。\n1_ab.jpg#zhc#1 红 球\n", encoding="utf-8")
    (tmp_path / "en.txt").write_text("1_ab.jpg#0\ta ball\n")
    assert [tuple(said) for said in read_flickr_sentences(tmp_path / "zh.txt", "zh")] == [
        ("1_ab.jpg", "zh", "一个球。"), ("1_ab.jpg", "zh", "红 球"),
    ]  # fmt: skip
    assert [tuple(said) for said in read_flickr_sentences(tmp_path / "en.txt", "en")] == [
        ("1_ab.jpg", "en", "a ball")
    ]
    (tmp_path / "zh.txt").write_text("1_ab.jpg#zhc#0 一个球。\n1_ab.jpg 红球\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"zh.txt:2: expected 'image.jpg#zhc#0 sentence'"):
        list(read_flickr_sentences(tmp_path / "zh.txt", "zh"))


def test_lists_for_retrieval_refuse_a_text_for_a_list_and_a_list_for_a_text(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(
        json.dumps(
            [{"image": "a.jpg", "caption": "a ball", "image_id": 7}, {"image": "b.jpg", "caption": ""}]
        )
    )
    assert read_retrieval_list(path, "train") == [
        RetrievalRow("a.jpg", ("a ball",), 7),
        RetrievalRow("b.jpg", ("",)),
    ]
    with pytest.raises(UserError, match=r"\[0\].caption: found the text 'a ball'; expected the list"):
        read_retrieval_list(path, "test")
    path.write_text(json.dumps([{"image": "a.jpg", "caption": ["a ball", "a toy"], "image_id": "7"}]))
    assert read_retrieval_list(path, "test") == [RetrievalRow("a.jpg", ("a ball", "a toy"), "7")]
    with pytest.raises(UserError, match=r"\[0\].caption: expected text, found a list"):
        read_retrieval_list(path, "train")
    path.write_text(json.dumps({"image": "a.jpg"}))
    with pytest.raises(UserError, match="expected a list, found an object"):
        read_retrieval_list(path, "train")


def test_parallel_text_is_pairs_or_files_that_go_line_by_line(tmp_path):
    path = lines(tmp_path / "wiki.jsonl", [{"source_text": "a ball", "target_text": "ein Ball"}])
    assert list(read_pairs(path, ("en", "de"))) == [{"en": "a ball", "de": "ein Ball"}]
    lines(path, [{"source_text": "a ball"}])
    with pytest.raises(UserError, match=r"wiki.jsonl:1: field 'target_text' is missing"):
        list(read_pairs(path, ("en", "de")))
    for name, text in (("en", "a\nb\n"), ("de", "ein\nzwei\n"), ("fr", "un\n")):
        (tmp_path / name).write_text(text)
    files = {name: tmp_path / name for name in ("en", "de")}
    assert list(read_line_parallel(files)) == [{"en": "a", "de": "ein"}, {"en": "b", "de": "zwei"}]
    with pytest.raises(UserError, match=r"en 2, .*fr 1 lines: expected as many of each"):
        list(read_line_parallel({**files, "fr": tmp_path / "fr"}))


@pytest.mark.parametrize("code", ["en", "zh", "zh-TW", "fil", "pt-BR"])
def test_codes_of_languages_are_known_by_their_form(code):
    assert check_language(code, "x") == code
    for wrong in (f"{code}_", "English", "", "e", 7):
        with pytest.raises(UserError, match="expected the code of a language"):
            check_language(wrong, "x")


def test_one_photograph_has_one_key_in_all_sets():
    assert {
        photo_key(name)
        for name in ("1007129816_e794419615.jpg", "1007129816.jpg", "1007129816", "images/1007129816.jpg")
    } == {"1007129816"}
    assert photo_key("COCO_val2014_000000391895.jpg") == photo_key("000000391895.jpg") == "coco 391895"
    assert photo_key("000000391895.jpg") != photo_key("391895.jpg"), "Flickr's number is none of COCO's"
    assert photo_key("world_test_0000012.png") == "world_test_0000012"


def test_evaluated_photographs_are_read_from_every_sets_files(tmp_path):
    lines(tmp_path / "x.jsonl", [{"sentences": ["a"], "id": 5, "img_path": "COCO_val2014_000000000005.jpg"}])
    lines(tmp_path / "n.jsonl", [{"Flikr30kID": "12", "sentence2": "a"}])
    (tmp_path / "e.csv").write_text('pairID,Flickr30kID,hypothesis\n1,13.jpg,"a, b"\n')
    (tmp_path / "l.txt").write_text("14_0123456789.jpg\n\n15.jpg\n")
    found = [read_evaluated(tmp_path / name) for name in ("x.jsonl", "n.jsonl", "e.csv", "l.txt")]
    assert found == [{"coco 5"}, {"12"}, {"13"}, {"14", "15"}]
    (tmp_path / "e.csv").write_text("pairID,hypothesis\n1,a\n")
    with pytest.raises(UserError, match=r"e.csv:1: found the columns pairID, hypothesis"):
        read_evaluated(tmp_path / "e.csv")
    (tmp_path / "l.txt").write_text("\n")
    with pytest.raises(UserError, match="names no photograph"):
        read_evaluated(tmp_path / "l.txt")
    lines(tmp_path / "n.jsonl", [{"sentence2": "a"}])
    with pytest.raises(UserError, match=r"n.jsonl:1: field 'img_path' is missing"):
        read_evaluated(tmp_path / "n.jsonl")
