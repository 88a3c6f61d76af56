"""IGLUE's files: every layout, the real ones where they are there, and what is wrong with bad ones."""

import base64
import gzip
import json
import pickle
import re
from collections import Counter

import pytest

from vlpnb.data.iglue import LABELS, read_captions_by_picture, read_entailment, read_pair_rows
from vlpnb.data.picture_patterns import PicturePatterns, fixed_folder
from vlpnb.data.wit import by_picture, pixels_of, read_wit, wit_id
from vlpnb.data.xgqa import read_xgqa
from vlpnb.errors import UserError


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def listed(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


MARVL = {
    "concept": "39-Panci", "language": "id", "caption": "Dua panci.", "left_img": "39-n-5.jpg",
    "right_img": "39-n-2.jpg", "id": "id-0", "label": True,
}  # fmt: skip
NLVR2 = {
    "identifier": "dev-850-1-0",
    "sentence": "Two pots.",
    "label": "False",
    "left_url": "http://a.b/c/x.jpg?q=1",
}


# the sample of the benchmark's own files


def test_every_real_file_of_xvnli_is_read_and_its_undecided_rows_stay(shared_data):
    files = sorted((shared_data / "iglue/XVNLI/annotations").glob("*/*.jsonl"))
    assert len(files) == 35
    for path in files:
        rows = read_entailment(path)
        counts = Counter(row.label for row in rows)
        if path.name == "test.jsonl":
            assert len(rows) == 1164
            assert counts == {"entailment": 394, "neutral": 381, "contradiction": 375, None: 14}
            assert len({row.image_id for row in rows}) == 357
        else:
            shots = int(re.findall(r"\d+", path.name)[0])
            assert len({row.image_id for row in rows}) == shots
        assert all(row.hypothesis.strip() and row.image_id.isdigit() for row in rows)


def test_the_real_rows_of_esnlive_train_and_validate(shared_data):
    rows = {split: read_entailment(shared_data / f"snli_ve/esnlive_{split}.csv") for split in ("dev", "test")}
    assert {split: len(found) for split, found in rows.items()} == {"dev": 3182, "test": 4144}
    for found in rows.values():
        assert {row.label for row in found} == set(LABELS)
        assert all(row.image_id.isdigit() for row in found)
    assert any('"' in row.hypothesis or "," in row.hypothesis for row in rows["dev"])


def test_every_real_file_of_marvl_and_both_of_its_path_schemes_are_read(shared_data):
    root = shared_data / "iglue/marvl"
    zero = {path.stem: read_pair_rows(path) for path in (root / "zero_shot/annotations").glob("*.jsonl")}
    sizes = {"marvl-id": 1128, "marvl-sw": 1108, "marvl-ta": 1242, "marvl-tr": 1180, "marvl-zh": 1012}
    assert {name: len(rows) for name, rows in zero.items()} == sizes
    assert len({row.group for row in zero["marvl-id"]}) == 282
    assert sum(row.label for row in zero["marvl-id"]) == 564
    few = sorted((root / "few_shot/annotations").glob("*.jsonl"))
    assert len(few) == 15
    for path in few:
        rows = read_pair_rows(path)
        assert all("/" not in row.left + row.right and row.concept for row in rows)
        assert max(Counter(row.group for row in rows).values()) == 4
    shown = {row.left for row in zero["marvl-id"]}
    assert all("/" not in name and not name.endswith(".jpg") for name in shown)


def test_every_real_file_of_xflickrco_is_read_and_one_empty_sentence_is_told(shared_data):
    root = shared_data / "iglue"
    for path in sorted((root / "xFlickrCO/annotations").glob("*/test.jsonl")):
        told = []
        rows = read_captions_by_picture(path, told)
        language = path.parent.name
        assert (len(rows), len(told)) == ((1999, 1) if language in ("de", "id") else (2000, 0))
        assert sum(row.image_id.startswith("COCO_val2014_") for row in rows) in (999, 1000)
    few = sorted((root / "xFlickrCO/annotations").glob("*/train_*.jsonl"))
    assert len(few) == 42
    for path in few:
        assert len(read_captions_by_picture(path)) == int(path.stem.split("_")[1])
    assert len(read_captions_by_picture(root / "flickr30k/annotations/valid_ann.jsonl")) == 1014
    five = read_captions_by_picture(root / "flickr30k/annotations/test_ann.jsonl")
    assert len(five) == 1000
    assert {len(row.sentences) for row in five} == {5}


def test_real_questions_are_read_as_objects_and_as_lists(shared_data):
    root = shared_data / "iglue"
    for path in sorted((root / "xGQA/annotations/few_shot").glob("*/*.json")):
        rows = read_xgqa(path)
        assert len(rows) == {"train_1": 27, "train_5": 155, "train_10": 317}[path.stem]
        english = read_xgqa(path.parent.parent / "en" / path.name)
        assert [(r.question_id, r.image_id, r.answer) for r in rows] == [
            (r.question_id, r.image_id, r.answer) for r in english
        ]
    listed_ones = read_xgqa(root / "gqa/annotations/testdev.json")
    assert len(listed_ones) == 4000
    assert all(row.answer for row in listed_ones)


def test_real_rows_of_wit_join_captions_of_one_address(shared_data):
    root = shared_data / "iglue/wit/annotations"
    sizes = {
        "ar": (890, 792),
        "en": (1000, 685),
        "id": (901, 854),
        "ja": (1000, 842),
        "ko": (931, 889),
        "tr": (721, 681),
    }
    for language, (count, pictures) in sizes.items():
        told = []
        rows = read_wit(root / f"test_{language}.jsonl", told)
        assert len(rows) + len(told) == count
        assert len(told) == (language == "id")  # one caption is empty
        assert len(by_picture(rows)) == pictures - len(told)
        assert {row.language for row in rows} == {language}
    assert len(read_wit(root / "val_en.jsonl")) == 1000


# layouts and faults


def test_pairs_of_all_three_layouts_are_told_apart(tmp_path):
    few = {**MARVL, "left_img": "39-Panci/39-n-5.jpg", "right_img": "39-Panci/39-n-2.jpg"}
    assert read_pair_rows(lines(tmp_path / "m.jsonl", few)) == read_pair_rows(
        lines(tmp_path / "n.jsonl", MARVL)
    )
    row = read_pair_rows(lines(tmp_path / "o.jsonl", {**NLVR2, "right_url": "http://a.b/y.png"}))[0]
    assert (row.left, row.right, row.label, row.named) == (
        "dev-850-1-img0",
        "dev-850-1-img1",
        False,
        ("x", "y"),
    )
    other = read_pair_rows(lines(tmp_path / "p.jsonl", {**NLVR2, "identifier": "dev-850-0-0"}))[0]
    assert (other.group, other.named) == (row.group, None)
    converted = [{"sentence": "Two pots.", "label": True, "images": ["a/x.png", "y.png"]}] * 2
    found = read_pair_rows(listed(tmp_path / "q.json", converted))
    assert [(r.left, r.right, r.label, r.group) for r in found] == [("x", "y", True, "Two pots.")] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left_img": "../../etc/passwd"}, "left_img: found '../../etc/passwd'"),
        ({"concept": "../x"}, "concept: found '../x', expected the name of a folder"),
        ({"concept": ".."}, "concept: found '..', expected the name of a folder"),
        ({"label": "maybe"}, "label: found 'maybe', expected true or false"),
        ({"caption": None}, "caption: expected text"),
        ({"id": ["a"]}, "id: expected an id"),
    ],
)
def test_bad_rows_of_marvl_are_named(tmp_path, change, message):
    with pytest.raises(UserError, match=f"m.jsonl:1.{re.escape(message)}"):
        read_pair_rows(lines(tmp_path / "m.jsonl", {**MARVL, **change}))


def test_bad_statements_are_named(tmp_path):
    with pytest.raises(UserError, match="two rows have the id 'id-0'"):
        read_pair_rows(lines(tmp_path / "m.jsonl", MARVL, MARVL))
    with pytest.raises(UserError, match="identifier 'dev', expected the form split-set-pair-sentence"):
        read_pair_rows(lines(tmp_path / "n.jsonl", {**NLVR2, "identifier": "dev"}))
    with pytest.raises(UserError, match=r"\[0\].images: found 1 pictures, expected two"):
        read_pair_rows(listed(tmp_path / "o.json", [{"sentence": "a", "label": True, "images": ["x"]}]))


def test_a_sentence_that_is_no_list_is_refused(tmp_path):
    row = {"sentences": "A dog.", "id": "1", "img_path": "1.jpg"}
    with pytest.raises(UserError, match=r"x.jsonl:1.sentences: found the text 'A dog.', expected a list"):
        read_captions_by_picture(lines(tmp_path / "x.jsonl", row))


def test_ids_are_texts_and_numbers_and_one_picture_comes_once(tmp_path):
    rows = [
        {"sentences": ["a"], "id": "369771"},
        {"sentences": ["b", " "], "id": 369771},
        {"sentences": [""], "id": 7, "img_path": "7.jpg"},
        {"sentences": [], "id": 8, "img_path": "8.jpg"},
    ]
    told = []
    found = read_captions_by_picture(lines(tmp_path / "x.jsonl", *rows), told)
    assert [(r.image_id, r.sentences) for r in found] == [
        ("369771", ("a",)),
        ("COCO_val2014_000000369771", ("b",)),
    ]
    assert [line.split(" ", 1)[1] for line in told] == [
        "COCO_val2014_000000369771: 1 of 2 sentences are empty",
        "7: 1 of 1 sentences are empty",
        "8: a picture without a sentence",
    ]
    with pytest.raises(UserError, match="two rows have the id '369771'"):
        read_captions_by_picture(lines(tmp_path / "y.jsonl", rows[0], {**rows[0], "img_path": "369771.jpg"}))


def test_labels_of_hypotheses_are_checked(tmp_path):
    row = {"Flikr30kID": 12, "sentence2": "A dog.", "gold_label": "-"}
    found = read_entailment(lines(tmp_path / "x.jsonl", row))[0]
    assert (found.image_id, found.label, found.identifier) == ("12", None, "x.jsonl:1")
    with pytest.raises(
        UserError, match="gold_label: found 'maybe', expected contradiction, entailment, neutral or '-'"
    ):
        read_entailment(lines(tmp_path / "y.jsonl", {**row, "gold_label": "maybe"}))
    with pytest.raises(UserError, match="field 'Flikr30kID' is missing"):
        read_entailment(lines(tmp_path / "z.jsonl", {"gold_label": "neutral", "sentence2": "A dog."}))
    (tmp_path / "t.csv").write_text(",pairID,Flickr30kID,hypothesis,gold_label\n0,1.jpg#0,1.jpg,a\n")
    with pytest.raises(UserError, match=r"t.csv:2: another number of columns"):
        read_entailment(tmp_path / "t.csv")


def test_a_pickle_is_opened_for_the_trusting_alone_and_runs_nothing(tmp_path):
    item = {"image_id": "n1", "labels": [1], "scores": [1.0], "question_id": "q", "question": "Rot?"}
    path = tmp_path / "train_1.pkl"
    path.write_bytes(pickle.dumps([item], protocol=3))
    with pytest.raises(UserError, match="this file is a pickle"):
        read_xgqa(path, ("no", "yes"))
    row = read_xgqa(path, ("no", "yes"), trusted=True)[0]
    same = {"q": {"question": "Rot?", "imageId": "n1", "answer": "yes"}}
    assert [row] == read_xgqa(listed(tmp_path / "o.json", same))
    same = [{"question_id": "q", "img_id": "n1", "sent": "Rot?", "label": {"yes": 1.0}}]
    assert [row] == read_xgqa(listed(tmp_path / "l.json", same))
    with pytest.raises(UserError, match="found 1, expected a place in the list of 1 answers"):
        read_xgqa(path, ("no",), trusted=True)
    path.write_bytes(pickle.dumps([item, print], protocol=3))
    with pytest.raises(UserError, match=r"it would run builtins.print"):
        read_xgqa(path, ("no", "yes"), trusted=True)
    path.write_bytes(b"\x80\x03]")
    with pytest.raises(UserError, match="cannot be read"):
        read_xgqa(path, ("no", "yes"), trusted=True)


def test_questions_with_one_id_or_a_strange_weight_are_refused(tmp_path):
    row = {"question_id": 1, "img_id": "n1", "sent": "Red?", "label": {"yes": 1.0}}
    with pytest.raises(UserError, match="two questions have the id 1"):
        read_xgqa(listed(tmp_path / "a.json", [row, {**row, "question_id": "1"}]))
    with pytest.raises(UserError, match=r"label.yes: expected a number"):
        read_xgqa(listed(tmp_path / "b.json", [{**row, "label": {"yes": "1"}}]))
    with pytest.raises(UserError, match="field 'question' is missing"):
        read_xgqa(listed(tmp_path / "c.json", {"1": {"imageId": "n1"}}))
    unanswered = read_xgqa(listed(tmp_path / "d.json", [{**row, "label": {}}]))[0]
    assert unanswered.answer is None


def test_pixels_are_joined_by_address_and_what_has_none_is_seen(tmp_path):
    rows = [
        {"image_url": f"http://a/{i}.png", "caption_reference_description": "" if i == 2 else f"c{i}"}
        for i in range(4)
    ]
    told = []
    found = read_wit(lines(tmp_path / "w.jsonl", *rows, rows[0]), told)
    assert len(found) == 4
    assert len(told) == 1
    assert [row.sentences for row in by_picture(found)] == [("c0", "c0"), ("c1",), ("c3",)]
    assert by_picture(found)[0].image_id == wit_id("http://a/0.png")
    data = base64.b64encode(b"picture").decode()
    text = f"http://a/0.png\t{data}\tm\nhttp://a/1.png\t?!\tm\nhttp://a/9.png\t{data}\tm\nhttp://a/0.png\t{data}\tm\n"
    (tmp_path / "p.gz").write_bytes(gzip.compress(text.encode()))
    joined = list(pixels_of([tmp_path / "p.gz"], [row.url for row in found]))
    assert joined == [("http://a/0.png", b"picture")]
    (tmp_path / "q.tsv").write_text("http://a/0.png only\n")
    with pytest.raises(UserError, match=r"q.tsv:1: 1 columns, expected lines of an address"):
        list(pixels_of([tmp_path / "q.tsv"], ["x"]))
    with pytest.raises(UserError, match="image_url: is empty"):
        read_wit(lines(tmp_path / "v.jsonl", {"image_url": " ", "caption_reference_description": "c"}))


def test_pictures_are_found_by_patterns(tmp_path):
    names = (
        "flickr/12_a.b.jpg",
        "flickr/13.jpg",
        "marvl/id/images/3-x/n-1.jpeg",
        "marvl/id/all/n.2.png",
        "c/7.jpg",
        "c/7.png",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    about = {"split": "test", "language": "id", "concept": "3-x"}
    flickr = PicturePatterns((tmp_path,), ("flickr/{id}_*.jpg", "flickr/{id}.jpg"))
    assert flickr.find(["12"], about) == ("12_a.b", tmp_path / "flickr/12_a.b.jpg")
    assert flickr.find(["13"], about) == ("13", tmp_path / "flickr/13.jpg")
    assert flickr.find(["1", "13"], about)[0] == "13"
    assert flickr.find(["14"], about) is None
    marvl = PicturePatterns(
        (tmp_path / "nowhere", tmp_path),
        ("marvl/{language}/images/{concept}/{id}.*", "marvl/{language}/all/{id}.*"),
    )
    assert marvl.find(["n-1"], about)[0] == "id/3-x/n-1"
    assert marvl.find(["n.2"], about)[0] == "id/n.2"
    with pytest.raises(UserError, match=r"7.jpg and 7.png are both pictures of '7'"):
        PicturePatterns((tmp_path,), ("c/{id}.*",)).find(["7"], about)
    assert [fixed_folder(p) for p in ("a/b/{id}.jpg", "{language}/{id}.*", "a/{split}/b/{id}.png")] == [
        "a/b",
        "",
        "a",
    ]
