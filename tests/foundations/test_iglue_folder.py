"""The stage `iglue` on a folder of real data: layouts, photographs' names, pixels inside files, what is missing."""

import base64
import gzip
import io
import json
import pickle
import shutil

import pytest
from PIL import Image

from tests.small import run_stage
from vlpnb.config import parse_config
from vlpnb.data.images import open_rgb
from vlpnb.errors import UserError
from vlpnb.foundations.iglue import IGLUE, IglueConfig, load_iglue
from vlpnb.stage.profiles import load_profile


@pytest.fixture
def real(tmp_path):
    """A folder with rows in the benchmark's layouts and photographs as Flickr8k names them; two are missing."""
    root = tmp_path / "data"
    for name in ("11_ab", "12_cd", "13_ef", "14_gh"):
        path = root / f"flickr8k/images/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path)
    row = {"gold_label": "neutral", "sentence1": "A man.", "sentence2": "A person.", "pairID": "x"}

    def write(path, rows):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("".join(json.dumps(r) + "\n" for r in rows))

    for language in ("en", "es"):
        rows = [{**row, "pairID": f"t{i}", "Flikr30kID": i} for i in (11, 99)]
        write(f"iglue/XVNLI/annotations/{language}/test.jsonl", rows)
    table = "".join(f"{i},{i}.jpg#0,{i}.jpg,A person.,neutral,why\n" for i in (11, 12, 98))
    (root / "dev.csv").write_text(",pairID,Flickr30kID,hypothesis,gold_label,explanation\n" + table)
    (root / "test.csv").write_text(
        ",pairID,Flickr30kID,hypothesis,gold_label,explanation\n0,p,13.jpg,A.,neutral,y\n"
    )
    captions = [{"sentences": ["A."], "id": "14", "img_path": "14.jpg"}, {"sentences": ["B."], "id": 5}]
    write("iglue/xFlickrCO/annotations/ja/test.jsonl", captions)
    section = {
        "root": str(root), "xgqa": None, "marvl": None, "wit": None,
        "xvnli": {
            "train": "dev.csv", "valid": "test.csv", "test": "iglue/XVNLI/annotations/{language}/test.jsonl",
            "few_shot": "", "translated": "", "pictures": ["flickr8k/images/{id}_*.jpg"],
        },
        "xflickrco": {
            "train": "", "valid": "", "test": "iglue/xFlickrCO/annotations/{language}/test.jsonl",
            "few_shot": "", "translated": "", "pictures": ["flickr8k/images/{id}_*.jpg"],
        },
    }  # fmt: skip
    return root, section


def test_a_folder_is_read_with_photographs_under_flickr8ks_names(real, tmp_path):
    _, section = real
    metrics = run_stage(IGLUE, parse_config(IglueConfig, section), tmp_path / "stage")
    data = load_iglue(tmp_path / "stage")
    assert data.languages("xvnli") == ("en", "es")
    assert data.languages("xflickrco") == ("ja",)
    # 11 is evaluated, 98 is missing
    assert [row.image_id for row in data.xvnli("train")] == ["12_cd"]
    assert [row.image_id for row in data.xvnli("valid")] == ["13_ef"]
    assert [row.image_id for row in data.xvnli("test", "es", everything=True)] == ["11_ab", "99"]
    assert data.image_path("14_gh").name == "14_gh.jpg"
    assert data.evaluated() == {"11_ab", "13_ef", "14_gh"}
    assert not data.evaluated() & {row.image_id for row in data.xvnli("train")}
    assert (metrics["missing_rows"], metrics["evaluated_rows"], metrics["xvnli_train_rows"]) == (4, 1, 1)
    assert "xflickrco_train_rows" not in metrics
    listed = (tmp_path / "stage/missing.txt").read_text().splitlines()
    assert listed == [
        "xvnli train en 98.jpg#0 98",
        "xvnli test en t99 99",
        "xvnli test es t99 99",
        "xflickrco test ja COCO_val2014_000000000005 COCO_val2014_000000000005",
    ]
    assert (tmp_path / "stage/evaluated.txt").read_text() == "xvnli 11.jpg#0 11_ab\n"


def test_photographs_that_are_evaluated_elsewhere_are_not_trained_on(real, tmp_path):
    root, section = real
    (root / "retrieval.txt").write_text("12_" + "a" * 10 + ".jpg\n")
    table = "".join(f"{i},{i}.jpg#0,{i}.jpg,A person.,neutral,why\n" for i in (12, 15))
    (root / "dev.csv").write_text(",pairID,Flickr30kID,hypothesis,gold_label,explanation\n" + table)
    for name in (f"12_{'b' * 10}", "15_cd"):
        Image.new("RGB", (8, 8)).save(root / f"flickr8k/images/{name}.jpg")
    (root / "flickr8k/images/12_cd.jpg").unlink()
    config = parse_config(IglueConfig, {**section, "exclude": ["retrieval.txt"]})
    metrics = run_stage(IGLUE, config, tmp_path / "stage")
    assert [row.image_id for row in load_iglue(tmp_path / "stage").xvnli("train")] == ["15_cd"]
    assert metrics["evaluated_rows"] == 1
    assert "retrieval.txt" in IGLUE.content(config)
    with pytest.raises(UserError, match=r"gone\.txt does not exist"):
        run_stage(IGLUE, parse_config(IglueConfig, {**section, "exclude": ["gone.txt"]}), tmp_path / "b")


def png(colour):
    data = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(data, "PNG")
    return data.getvalue()


def test_pictures_of_addresses_come_from_pixel_files_and_from_rows(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    rows = [{"image_url": f"u{i}", "caption_reference_description": f"c{i}"} for i in range(5)]
    rows[3]["image_content"] = base64.b64encode(png("blue")).decode()
    (root / "test_ja.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    pixels = {"u0": png("red"), "u1": b"no picture", "u9": png("red")}
    lines = "".join(f"{url}\t{base64.b64encode(data).decode()}\tm\n" for url, data in pixels.items())
    (root / "part.csv.gz").write_bytes(gzip.compress(lines.encode()))
    wit = {"train": "", "valid": "", "test": "test_{language}.jsonl", "translated": "", "pixels": "part*.gz"}
    section = {"root": str(root), **dict.fromkeys(("xvnli", "xgqa", "marvl", "xflickrco")), "wit": wit}
    metrics = run_stage(IGLUE, parse_config(IglueConfig, section), tmp_path / "stage")
    data = load_iglue(tmp_path / "stage")
    assert [row.sentences for row in data.wit("test", "ja")] == [("c0", "c0"), ("c3",)]
    red, blue = (open_rgb(data.image_path(row.image_id)).getpixel((0, 0)) for row in data.wit("test", "ja"))
    assert (red, blue) == ((255, 0, 0), (0, 0, 255))
    assert (metrics["unmatched_addresses"], metrics["missing_rows"]) == (3, 3)
    assert (tmp_path / "stage/unmatched.txt").read_text().split() == ["u1", "u2", "u4"]
    wrong = parse_config(IglueConfig, {**section, "wit": {**wit, "pixels": "nothing*"}})
    with pytest.raises(UserError, match=r"is called nothing\*, and the pictures of 5 addresses are wanted"):
        run_stage(IGLUE, wrong, tmp_path / "other")


def test_pickled_questions_need_trust_and_say_what_the_json_beside_them_says(tmp_path):
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "images/n1.jpg")
    item = {"image_id": "n1", "labels": [1], "scores": [1.0], "question_id": "q", "question": "Rot?"}
    (root / "few_de_1.pkl").write_bytes(pickle.dumps([item], protocol=3))
    (root / "answers.json").write_text(json.dumps({"no": 0, "yes": 1}))
    question = {"q": {"question": "Rot?", "imageId": "n1", "answer": "yes"}}
    (root / "few_de_2.json").write_text(json.dumps(question))
    (root / "test_de.json").write_text(json.dumps({"t": question["q"]}))
    xgqa = {
        "train": "", "valid": "", "test": "test_{language}.json", "few_shot": "few_{language}_{shots}.pkl",
        "translated": "", "answers": "answers.json", "pictures": ["images/{id}.jpg"],
    }  # fmt: skip
    section = {"root": str(root), **dict.fromkeys(("xvnli", "wit", "marvl", "xflickrco")), "xgqa": xgqa}
    with pytest.raises(UserError, match="this file is a pickle"):
        run_stage(IGLUE, parse_config(IglueConfig, section), tmp_path / "a")
    trusting = {**section, "xgqa": {**xgqa, "trusted": True}}
    run_stage(IGLUE, parse_config(IglueConfig, trusting), tmp_path / "b")
    plain = {**section, "xgqa": {**xgqa, "few_shot": "few_{language}_{shots}.json"}}
    run_stage(IGLUE, parse_config(IglueConfig, plain), tmp_path / "c")
    pickled, listed = load_iglue(tmp_path / "b"), load_iglue(tmp_path / "c")
    assert pickled.answers() == ("no", "yes")
    assert pickled.rows("xgqa", "train", "de", shots=1, everything=True) == listed.rows(
        "xgqa", "train", "de", shots=2, everything=True
    )
    assert pickled.xgqa("train", "de", shots=1) == []  # its picture is tested


def test_the_folder_may_move(real, tmp_path):
    root, section = real
    run_stage(IGLUE, parse_config(IglueConfig, section), tmp_path / "run" / "stage")
    shutil.move(root, tmp_path / "elsewhere")
    config = parse_config(IglueConfig, {**section, "root": str(tmp_path / "elsewhere")})
    IGLUE.reused(config, tmp_path / "run" / "stage")
    assert load_iglue(tmp_path / "run" / "stage").image_path("12_cd").is_file()
    assert IGLUE.content(config) == IGLUE.content(
        parse_config(IglueConfig, {**section, "root": str(tmp_path / "elsewhere")})
    )
    names = set(IGLUE.content(config))
    assert names == {
        "dev.csv",
        "test.csv",
        "flickr8k/images",
        "iglue/XVNLI/annotations/en/test.jsonl",
        "iglue/XVNLI/annotations/es/test.jsonl",
        "iglue/xFlickrCO/annotations/ja/test.jsonl",
    }


@pytest.mark.slow
def test_no_real_photograph_is_both_trained_on_and_evaluated(shared_data, tmp_path):
    """The profile `photos` on the sample: e-SNLI-VE trains and validates XVNLI, and Flickr8k has the photographs."""
    section = {**load_profile("photos").stages["iglue"], "root": str(shared_data)}
    config = parse_config(IglueConfig, section)
    metrics = run_stage(IGLUE, config, tmp_path / "stage")
    data = load_iglue(tmp_path / "stage")
    assert data.tasks == ("xvnli", "xflickrco")
    trained = {row.image_id for row in data.xvnli("train")}
    assert not trained & data.evaluated()
    official = (shared_data / "flickr8k/Flickr_8k.testImages.txt").read_text().split()
    assert not trained & {name.removesuffix(".jpg") for name in official}
    assert len(trained) > 100
    for task, count in (("xvnli", 294), ("xflickrco", 239)):
        for language in data.languages(task):
            rows = data.rows(task, "test", language)
            assert len(rows) == count
            assert {row.image_id for row in rows} <= data.evaluated()
    assert len(data.languages("xflickrco")) == 8
    assert metrics["xvnli_train_rows"] + metrics["evaluated_rows"] == 3182
    assert metrics["xvnli_valid_rows"] == 4144
    assert all(data.image_path(name).is_file() for name in trained)


def test_a_set_without_pictures_and_an_absent_file_are_said(real, tmp_path):
    _, section = real
    nowhere = {**section["xvnli"], "pictures": ["nowhere/{id}.jpg"]}
    with pytest.raises(
        UserError, match="of 3 rows of xvnli train en none has its picture by the patterns nowhere"
    ):
        run_stage(IGLUE, parse_config(IglueConfig, {**section, "xvnli": nowhere}), tmp_path / "a")
    absent = {**section["xvnli"], "train": "gone.csv"}
    with pytest.raises(UserError, match=r"gone\.csv does not exist"):
        run_stage(IGLUE, parse_config(IglueConfig, {**section, "xvnli": absent}), tmp_path / "b")
    with pytest.raises(UserError, match=r"at/all does not exist"):
        run_stage(IGLUE, parse_config(IglueConfig, {**section, "root": "/nowhere/at/all"}), tmp_path / "c")
