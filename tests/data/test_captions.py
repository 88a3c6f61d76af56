"""The caption layouts, on small files and on the sample data."""

import json

import pytest

from vlpnb.data.captions import (
    CaptionedImage,
    conceptual_ids,
    original_image_path,
    read_captions,
    split_missing,
)
from vlpnb.data.submissions import official_id
from vlpnb.errors import UserError


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def dump(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_coco(tmp_path):
    name = "COCO_train2014_000000000009.jpg"
    path = dump(
        tmp_path / "captions.json",
        {
            "images": [
                {"id": 9, "file_name": name},
                {"id": 4, "file_name": "b.png"},
                {"id": 5, "file_name": "c.png"},
            ],
            "annotations": [
                {"image_id": 4, "caption": " two\n words "},
                {"image_id": 9, "caption": "first"},
                {"image_id": 9, "caption": "second"},
            ],
        },
    )
    touch(tmp_path / "images/train2014" / name)
    images = read_captions("coco", path, tmp_path / "images")
    assert images[0] == CaptionedImage(name[:-4], tmp_path / "images/train2014" / name, ("first", "second"))
    assert images[1].sentences == ("two words",)
    assert len(images) == 2  # c.png has no caption
    present, missing = split_missing(images)
    assert [i.image_id for i in present] == [name[:-4]]
    assert missing[0].path == tmp_path / "images/b.png"


def test_karpathy(tmp_path):
    rows = [
        {"filename": f"{split}.jpg", "split": split, "sentences": [{"raw": f"a {split} ."}]}
        for split in ("train", "restval", "val", "test")
    ]
    path = dump(tmp_path / "dataset.json", {"images": rows, "dataset": "coco"})
    for split, names in (
        ("train", ["train", "restval"]),
        ("valid", ["val"]),
        (None, [r["split"] for r in rows]),
    ):
        assert [i.image_id for i in read_captions("karpathy", path, tmp_path, split)] == names


def karpathy_row(name, raw="a dog .", **fields):
    return {"filename": name, "split": "train", "sentences": [{"raw": raw}], **fields}


def test_karpathys_pictures_lie_where_their_entry_says(tmp_path):
    names = {
        "COCO_val2014_000000000042.jpg": "val2014",  # the folder of the entry
        "99.jpg": "trainval",  # that of an entry without one
        "b.jpg": "",  # the folder itself
    }
    rows = [
        karpathy_row("COCO_val2014_000000000042.jpg", filepath="val2014"),
        karpathy_row("99.jpg"),
        karpathy_row("b.jpg"),
    ]
    for name, folder in names.items():
        touch(tmp_path / "images" / folder / name)
    path = dump(tmp_path / "dataset.json", {"images": rows})
    found = read_captions("karpathy", path, tmp_path / "images", "train")
    assert [i.path for i in found] == [tmp_path / "images" / folder / name for name, folder in names.items()]
    dump(path, {"images": [karpathy_row("b.jpg", filepath="../elsewhere")]})
    with pytest.raises(UserError, match=r"images\[0\]: picture '\.\./elsewhere/b\.jpg' lies outside"):
        read_captions("karpathy", path, tmp_path)


def test_pictures_are_known_to_official_evaluations_by_numbers(tmp_path):
    rows = [
        karpathy_row("COCO_val2014_000000000042.jpg", cocoid=42, imgid=7),
        karpathy_row("000123.jpg", imgid=8),  # Conceptual Captions: the number of the entry
        karpathy_row("b_c.jpg"),
    ]
    found = read_captions("karpathy", dump(tmp_path / "d.json", {"images": rows}), tmp_path)
    assert [official_id(image) for image in found] == [42, 8, "b_c"]
    flickr = {"dataset": "flickr30k", "images": [karpathy_row("1000092795.jpg", imgid=0)]}
    (image,) = read_captions("karpathy", dump(tmp_path / "f.json", flickr), tmp_path)
    assert official_id(image) == 1000092795
    coco = {"images": [{"id": 5, "file_name": "x.png"}], "annotations": [{"image_id": 5, "caption": "a"}]}
    (image,) = read_captions("coco", dump(tmp_path / "c.json", coco), tmp_path)
    assert official_id(image) == 5
    assert official_id(CaptionedImage("COCO_val2014_000000000042", tmp_path, ())) == 42
    assert official_id(CaptionedImage("36979", tmp_path, ())) == 36979
    assert official_id(CaptionedImage("667626_18933d713e", tmp_path, ())) == "667626_18933d713e"


@pytest.mark.parametrize("content", [["b.jpg", "c.jpg"], {"b.jpg": 1, "c.jpg": 0}, ["b", "c"]])
def test_a_list_of_valid_pictures_keeps_only_those(tmp_path, content):
    rows = [karpathy_row(f"{name}.jpg") for name in "abd"]
    path, listed = dump(tmp_path / "dataset.json", {"images": rows}), dump(tmp_path / "valid.json", content)
    left_out = []
    found = read_captions("karpathy", path, tmp_path, left_out=left_out, valid=listed)
    assert [image.image_id for image in found] == ["b"]
    assert left_out == [f"{name}.jpg: a picture that {listed} does not list" for name in "ad"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "lists no picture, so that nothing would be left"),
        ("{}", "lists no picture"),
        ('"a.jpg"', "expected a JSON list of file names"),
        ("[7]", r"\[0\]: expected text, found a number"),
        ('["x.jpg"]', "no captioned picture in karpathy format among the 1 pictures that .*valid.json lists"),
        ("[", "not valid JSON"),
    ],
)
def test_a_list_of_valid_pictures_that_is_wrong_is_an_error(tmp_path, content, message):
    path = dump(tmp_path / "dataset.json", {"images": [karpathy_row("a.jpg")]})
    listed = tmp_path / "valid.json"
    with pytest.raises(UserError, match=r"valid\.json does not exist"):
        read_captions("karpathy", path, tmp_path, valid=listed)
    assert not listed.exists()  # the original would write an empty one here
    listed.write_text(content)
    with pytest.raises(UserError, match=message):
        read_captions("karpathy", path, tmp_path, valid=listed)


def test_flickr30k_names(tmp_path):
    (tmp_path / "results_20130124.token").write_text("1.jpg#0\tA dog .\n2.jpg#0\tA cat .\n1.jpg#1\tTwo .\n")
    (tmp_path / "val.txt").write_text("1\n")
    images = read_captions("flickr", tmp_path, tmp_path / "images", "valid")
    assert [(i.image_id, i.sentences) for i in images] == [("1", ("A dog .", "Two ."))]
    with pytest.raises(UserError, match=r"none of Flickr_8k\.testImages\.txt, test\.txt"):
        read_captions("flickr", tmp_path, tmp_path, "test")


def test_lxmert(tmp_path):
    coco, vg = "COCO_val2014_000000000042", "2345"
    path = dump(
        tmp_path / "minival.json",
        [
            {"img_id": coco, "labelf": {}, "sentf": {"mscoco": ["a", "b"], "vqa": ["q ?"]}},
            {"img_id": vg, "labelf": {}, "sentf": {"vg": ["c"]}},
        ],
    )
    touch(tmp_path / "images/val2014" / f"{coco}.jpg")
    touch(tmp_path / "images" / f"{vg}.png")
    images = read_captions("lxmert", path, tmp_path / "images")
    assert [i.sentences for i in images] == [("a", "b", "q ?"), ("c",)]
    assert all(i.path.is_file() for i in images)
    assert [i.image_id for i in read_captions("lxmert", path, tmp_path, source="mscoco")] == [coco]
    with pytest.raises(UserError, match="source 'mscooc'; the file has mscoco, vg, vqa"):
        read_captions("lxmert", path, tmp_path, source="mscooc")


def test_conceptual(tmp_path):
    path = tmp_path / "cc/training.tsv"
    images = tmp_path / "cc/images"
    touch(images / "training/training_10")
    touch(images / "training/training_2.jpg")  # somebody's download keeps suffixes
    path.write_text('a "red"  ball \ttraining_10\r\ntwo kites\ttraining_2\ngone\ttraining_3\n\n')
    found = read_captions("conceptual", path, images, "train")
    assert [(i.image_id, i.sentences) for i in found] == [
        ("training_10", ('a "red" ball',)),
        ("training_2", ("two kites",)),
        ("training_3", ("gone",)),
    ]
    present, missing = split_missing(found)
    assert [i.path.name for i in present] == ["training_10", "training_2.jpg"]
    assert [i.path for i in missing] == [original_image_path("training_3", tmp_path)]
    assert conceptual_ids(path) == ["training_10", "training_2", "training_3"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"a caption alone", "1 columns, expected 2, .*'a caption alone'"),
        (b"one\ttwo\ttraining_9", "3 columns, expected 2"),
        (b" \ttraining_9", "the caption of training_9 is empty"),
        (b"again\ttraining_0", "image id training_0 is in line 1 already"),
        (
            b"a dog\thttp://a.example/dog.jpg",
            "'http://a.example/dog.jpg', expected an image id <split>_<number>",
        ),
        (b"training_9\tswapped columns", "second column is 'swapped columns'"),
        (b"caf\xe9\ttraining_9", "not UTF-8"),
    ],
)
def test_broken_conceptual_lines(tmp_path, line, message):
    path = tmp_path / "training.tsv"
    path.write_bytes(b"fine\ttraining_0\nfine too\ttraining_1\n" + line + b"\n")
    for read in (conceptual_ids, lambda path: read_captions("conceptual", path, tmp_path)):
        with pytest.raises(UserError, match=rf"training\.tsv:3: .*{message}"):
            read(path)


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        ("coco", '{"images": [', "not valid JSON"),
        ("coco", '{"annotations": []}', "field 'images' is missing; found annotations"),
        (
            "coco",
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"caption": "x"}]}',
            r"annotations\[0\]",
        ),
        ("coco", '{"images": [], "annotations": [{"image_id": 7, "caption": "x"}]}', "image_id 7"),
        ("coco", '{"images": [], "annotations": []}', "no captioned picture"),
        ("karpathy", '{"images": [{"filename": "a"}]}', r"images\[0\]: field 'split'"),
        ("lxmert", '{"a": 1}', "expected a JSON list"),
        ("conceptual", "", "no captioned picture"),
        ("voc", "{}", "format 'voc' is unknown"),
    ],
)
def test_broken_files_name_the_place(tmp_path, format, content, message):
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_captions(format, path, tmp_path, "train")


def test_broken_flickr_line(tmp_path):
    (tmp_path / "Flickr8k.token.txt").write_text("1.jpg#0\tfine\n1.jpg no tab\n")
    with pytest.raises(UserError, match=r"Flickr8k\.token\.txt:2: expected"):
        read_captions("flickr", tmp_path, tmp_path)


def test_published_flickr8k(shared_data):
    folder = shared_data / "flickr8k"
    for split, count in (("train", 1450), ("valid", 234), ("test", 236)):
        images = read_captions("flickr", folder, folder / "images", split)
        present, missing = split_missing(images)
        assert (len(present), len(missing)) == (count, 0)
        assert all(len(image.sentences) == 5 for image in images)


def test_published_coco(shared_data):
    folder = shared_data / "coco"
    train = read_captions("coco", folder / "annotations/captions_train2017.json", folder / "images")
    assert not split_missing(train)[1]
    whole = read_captions("coco", folder / "annotations/captions_val2017_all.json", folder / "images")
    assert (len(whole), sum(len(i.sentences) for i in whole)) == (5000, 25014)
    assert 0 < len(split_missing(whole)[0]) < 5000
