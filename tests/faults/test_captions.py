"""Captions without pictures, pictures without captions, captions without words: counted, listed, left out."""

import json

import pytest
from PIL import Image

from vlpnb.config import parse_config
from vlpnb.data.description import load_captions
from vlpnb.errors import UserError
from vlpnb.foundations.captions import CAPTIONS, CaptionsConfig
from vlpnb.foundations.distinct_pictures import pictures_of
from vlpnb.stage import StageContext


@pytest.fixture
def root(tmp_path):
    """A small dataset in COCO format: a good picture, one missing, one that nobody describes, one half described."""
    (tmp_path / "images").mkdir()
    images = ["good.png", "missing.png", "silent.png", "half.png"]
    for name in images:
        if name != "missing.png":
            Image.new("RGB", (8, 8)).save(tmp_path / "images" / name)
    said = {0: ["a dot", "a  black\tdot "], 1: ["nobody sees this"], 2: [], 3: ["", "  \n", "black"]}
    rows = [{"image_id": i, "caption": text} for i, texts in said.items() for text in texts]
    captions = {"images": [{"id": i, "file_name": n} for i, n in enumerate(images)], "annotations": rows}
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps(captions))
    return tmp_path


def describe(root, folder, sets=None, **captions):
    annotations = {split: f"{split}.json" for split in ("train", "valid", "test")}
    fields = {"annotations": annotations, "images": "images", "sets": sets, "scenes": "", **captions}
    config = CaptionsConfig.model_validate({"root": str(root), **fields})
    folder.mkdir(exist_ok=True)
    lines = []
    return CAPTIONS.run(StageContext(config, folder, {}, "cpu", say=lines.append)), lines


def test_what_cannot_be_used_is_counted_and_listed(root, tmp_path):
    folder = tmp_path / "stage"
    metrics, lines = describe(root, folder)
    assert (metrics["train_images"], metrics["train_captions"]) == (2, 3)
    assert metrics["missing_images"] == 3
    assert (folder / "missing.txt").read_text().count("missing.png") == 3
    assert metrics["left_out_captions"] == 6
    listed = (folder / "uncaptioned.txt").read_text().splitlines()
    assert listed.count("silent.png: a picture without a caption") == 3
    assert listed.count("half.png: 2 of its 3 captions are empty") == 3
    assert any("uncaptioned.txt" in line for line in lines)
    found = load_captions(folder).captioned("train")
    assert [(image.image_id, image.sentences) for image in found] == [
        ("good", ("a dot", "a black dot")),
        ("half", ("black",)),
    ]


def test_no_caption_at_all_is_an_error(root, tmp_path):
    content = json.loads((root / "valid.json").read_text())
    for row in content["annotations"]:
        row["caption"] = " "
    (root / "valid.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"valid\.json: no captioned picture for split 'valid'"):
        describe(root, tmp_path / "stage")


def test_no_picture_at_all_says_where_they_should_be(root, tmp_path):
    with pytest.raises(UserError, match=r"none of the 3 pictures.*good\.png.*correct `captions\.images"):
        describe(root, tmp_path / "stage", images="elsewhere")


def test_a_conceptual_set_lacks_pictures(root, tmp_path):
    """Many of the set's addresses are dead: what is there is used, what is not is counted and listed."""
    (root / "cc/images/validation").mkdir(parents=True)
    for n in (4, 7):
        Image.new("RGB", (8, 8)).save(root / f"cc/images/validation/validation_{n}", "png")
    table = root / "cc/validation.tsv"
    table.write_text("".join(f"picture {n}\tvalidation_{n}\n" for n in (7, 5, 4)))
    cc = {"format": "conceptual", "annotations": "cc/validation.tsv", "images": "cc/images"}
    folder = tmp_path / "stage"
    metrics, lines = describe(root, folder, sets={"cc_valid": cc})
    assert (metrics["cc_valid_images"], metrics["cc_valid_captions"]) == (2, 2)
    assert metrics["missing_images"] == 3 + 1
    assert "cc/images/validation/validation_5" in (folder / "missing.txt").read_text().splitlines()
    assert [i.image_id for i in load_captions(folder).captioned("cc_valid")] == [
        "validation_7",
        "validation_4",
    ]
    with pytest.raises(UserError, match="no captions for split 'cc'; there are train, valid, test, cc_valid"):
        load_captions(folder).captioned("cc")
    table.unlink()
    with pytest.raises(UserError, match=r"cc/validation\.tsv does not exist.*split 'cc_valid' in conceptual"):
        describe(root, folder, sets={"cc_valid": cc})
    metrics, lines = describe(root, folder, sets={"cc_valid": {**cc, "optional": True}})
    assert any("caption set 'cc_valid' is left out" in line and str(table) in line for line in lines)
    assert load_captions(folder).names == ("train", "valid", "test")
    table.write_text("nothing\tvalidation_5\n")
    with pytest.raises(UserError, match=r"none of the 1 pictures.*captions\.sets\.cc_valid\.images"):
        describe(root, folder, sets={"cc_valid": cc})


def write_conceptual(root):
    """VLP's layout of a set: Karpathy's JSON with two splits, and the pictures in a folder of their own."""
    (root / "cc/images").mkdir(parents=True)
    rows = []
    for n in range(4):
        Image.new("RGB", (8, 8)).save(root / f"cc/images/{n}.png")
        rows.append(
            {
                "filename": f"{n}.png",
                "split": ("train", "val")[n == 3],
                "imgid": n,
                "sentences": [{"raw": f"dot {n}"}],
            }
        )
    (root / "cc/dataset_cc.json").write_text(json.dumps({"images": rows}))
    return {
        "format": "karpathy",
        "annotations": "cc/dataset_cc.json",
        "images": "cc/images",
        "split": "train",
    }


def test_a_set_in_karpathys_layout_with_a_list_of_its_valid_pictures(root, tmp_path):
    cc, folder = write_conceptual(root), tmp_path / "stage"
    metrics, _ = describe(root, folder, sets={"conceptual": cc})
    assert (metrics["conceptual_images"], metrics["conceptual_captions"]) == (3, 3)
    listed = {**cc, "valid_images": "cc/valid.json"}
    with pytest.raises(UserError, match=r"cc/valid\.json does not exist"):
        describe(root, folder, sets={"conceptual": listed})
    (root / "cc/valid.json").write_text(json.dumps(["0.png", "2.png", "3.png"]))
    before = metrics["left_out_captions"]
    metrics, _ = describe(root, folder, sets={"conceptual": listed})
    assert (metrics["conceptual_images"], metrics["left_out_captions"]) == (2, before + 1)
    assert "1.png: a picture that" in (folder / "uncaptioned.txt").read_text()
    assert [(i.image_id, i.number) for i in load_captions(folder).captioned("conceptual")] == [
        ("0", 0),
        ("2", 2),
    ]


def test_captions_may_come_without_pictures(root, tmp_path):
    """Where regions of the pictures come from files, nobody looks for the pictures themselves."""
    cc, folder = write_conceptual(root), tmp_path / "stage"
    metrics, _ = describe(root, folder, images="", sets={"conceptual": {**cc, "images": ""}})
    assert (metrics["train_images"], metrics["conceptual_images"], metrics["missing_images"]) == (3, 3, 0)
    data = load_captions(folder)
    assert [image.image_id for image in data.captioned("train")] == ["good", "missing", "half"]
    found = pictures_of(["captions"], {"captions": folder})
    assert [(picture.names, picture.path) for picture in found] == [
        ([name], None) for name in ("good", "missing", "half", "0", "1", "2")
    ]


@pytest.mark.parametrize("name", ["train", "CC valid"])
def test_a_caption_set_has_a_name_of_its_own(name):
    cc = {"format": "conceptual", "annotations": "cc/validation.tsv", "images": "cc/images"}
    with pytest.raises(UserError, match=f"sets: '{name}' must be small letters"):
        parse_config(CaptionsConfig, {"sets": {name: cc}}, "captions")
