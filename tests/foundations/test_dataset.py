"""The dataset description and its stage, on a small folder in the world's layout and on the sample data."""

import json
import os

import pytest
from PIL import Image

from vlpnb.config import parse_config
from vlpnb.data.description import load_dataset
from vlpnb.errors import UserError
from vlpnb.foundations.dataset import DATASET, DatasetConfig, fingerprint
from vlpnb.stage import Run
from vlpnb.stage.profiles import Profile

PHOTOS = {
    "captions": {
        "format": "flickr",
        "annotations": {"train": "flickr8k", "valid": "flickr8k", "test": "flickr8k"},
        "images": "flickr8k/images",
    },
    "universe": ["train"],
    "corpus": {
        "rules": "wiki103",
        "train": ["text/wikitext-2-raw/wiki.test.raw", "text/enwiki_sample/enwiki_sample.part1.txt"],
        "valid": ["text/wikitext-2/valid.txt"],
        "test": [],
    },
    "glue_tasks": ["RTE", "MRPC", "CoLA", "STS-B"],
    "scenes": "",
    "knowledge": "",
}


@pytest.fixture
def world(tmp_path):
    root = tmp_path / "data"
    for split in ("train", "valid", "test", "universe"):
        (root / "images" / split).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8)).save(root / f"images/{split}/world_{split}_{i:07d}.png")
    for split in ("train", "valid", "test"):
        images = [{"id": i, "file_name": f"world_{split}_{i:07d}.png"} for i in range(3)]
        annotations = [{"image_id": i % 3, "caption": f"a red ball {i} ."} for i in range(6)]
        path = root / f"annotations/captions_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": annotations}))
        (root / "text").mkdir(exist_ok=True)
        (root / f"text/wiki.{split}.raw").write_text("one two three four five six .\n")
    (root / "glue/RTE").mkdir(parents=True)
    for name in ("train", "dev"):
        (root / f"glue/RTE/{name}.tsv").write_text(
            "index\tsentence1\tsentence2\tlabel\n0\ta b .\tc d .\tentailment\n"
        )
    (root / "scenes.jsonl").write_text("{}\n")
    (root / "commonsense").mkdir()
    return root


def run(tmp_path, root, **fields):
    profile = Profile("test", stages={"dataset": {"root": str(root), "glue_tasks": ["RTE"], **fields}})
    return Run(tmp_path / "runs", "r", profile, [DATASET], device="cpu", say=lambda _: None)


def test_world_layout(world, tmp_path):
    result = run(tmp_path, world).stage("dataset")
    assert result.metrics["train_images"] == 3
    assert result.metrics["train_captions"] == 6
    assert result.metrics["glue_RTE_train"] == 1
    data = load_dataset(result.folder)
    train = data.captioned("train")
    assert train[1].image_id == "world_train_0000001"
    assert train[1].path.is_file()
    universe = data.universe_images()
    assert [i.image_id for i in universe] == [f"world_universe_{i:07d}" for i in range(3)]
    assert universe[0].sentences == ()
    assert data.scenes == world / "scenes.jsonl"
    assert data.corpus.train == (world / "text/wiki.train.raw",)
    assert data.glue_tasks == ("RTE",)
    assert load_dataset(data.save(tmp_path)) == data
    with pytest.raises(UserError, match="no captions for split 'dev'; it has train, valid, test"):
        data.captioned("dev")


def test_missing_pictures_are_counted_and_listed(world, tmp_path):
    (world / "images/train/world_train_0000001.png").unlink()
    result = run(tmp_path, world, universe=["train", "images/universe"]).stage("dataset")
    assert result.metrics["missing_images"] == 1
    assert "world_train_0000001" in (result.folder / "missing.txt").read_text()
    assert result.metrics["universe_images"] == 5
    for path in (world / "images/valid").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="none of the 3 pictures of split 'valid' exists"):
        run(tmp_path, world, universe=["train"]).stage("dataset")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("annotations/captions_valid.json", "captions of split 'valid' in coco format"),
        ("text/wiki.train.raw", "raw text of the train corpus"),
        ("glue/RTE/dev.tsv", "the valid split of GLUE RTE"),
        ("scenes.jsonl", "set dataset.scenes to ''"),
    ],
)
def test_what_is_missing_is_named(world, tmp_path, path, message):
    (world / path).unlink()
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, world).stage("dataset")
    assert str(world / path) in str(caught.value)


def test_missing_root_and_empty_universe(world, tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist.*dataset\.root"):
        run(tmp_path, tmp_path / "nowhere").stage("dataset")
    (world / "images/none").mkdir()
    with pytest.raises(UserError, match="holds no picture"):
        run(tmp_path, world, universe=["images/none"]).stage("dataset")


def test_changed_files_change_the_identity(world, tmp_path):
    config = parse_config(DatasetConfig, {"root": str(world), "glue_tasks": ["RTE"]})
    before = fingerprint(config)
    first = run(tmp_path, world).stage("dataset")
    os.utime(world / "text/wiki.train.raw")  # the same content is the same dataset
    assert fingerprint(config) == before
    assert run(tmp_path, world).stage("dataset").reused
    with (world / "text/wiki.train.raw").open("a") as file:
        file.write("another line of text is here .\n")
    assert fingerprint(config) != before
    second = run(tmp_path, world).stage("dataset")
    assert not second.reused
    assert second.folder != first.folder
    assert fingerprint(parse_config(DatasetConfig, {})) == ""


def test_bad_fields_are_refused():
    with pytest.raises(UserError, match="rules"):
        parse_config(DatasetConfig, {"corpus.rules": "wiki-103"}, "dataset")
    with pytest.raises(UserError, match="format"):
        parse_config(DatasetConfig, {"captions.format": "voc"}, "dataset")


def test_damaged_description(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"root": "/x"}')
    with pytest.raises(UserError, match="field 'captions' is missing"):
        load_dataset(tmp_path)


def test_photos(shared_data, tmp_path):
    result = run(tmp_path, shared_data, **PHOTOS).stage("dataset")
    assert result.metrics["train_images"] == result.metrics["universe_images"] == 1450
    assert result.metrics["test_captions"] == 5 * 236
    assert result.metrics["missing_images"] == 0
    assert result.metrics["glue_STS-B_valid"] == 1500


def test_a_split_of_several_files(world, tmp_path):
    """The matcher's training split is COCO's training split and most of its validation split."""
    both = ["annotations/captions_train.json", "annotations/captions_valid.json"]
    rest = {split: f"annotations/captions_{split}.json" for split in ("valid", "test")}
    for split in ("train", "valid", "test"):
        for path in (world / "images" / split).iterdir():
            path.rename(world / "images" / path.name)
    result = run(
        tmp_path, world, captions={"annotations": {"train": both, **rest}, "images": "images"}
    ).stage("dataset")
    assert (result.metrics["train_images"], result.metrics["valid_images"]) == (6, 3)
    data = load_dataset(result.folder)
    found = [image.image_id for image in data.captioned("train")]
    assert found == [f"world_{split}_{i:07d}" for split in ("train", "valid") for i in range(3)]
    assert data.captions.files("train") == tuple(world / path for path in both)
    (world / both[1]).unlink()
    with pytest.raises(UserError, match="captions of split 'train'"):
        run(tmp_path, world, captions={"annotations": {"train": both, **rest}, "images": "images"}).stage(
            "dataset"
        )


def test_a_dry_run_reads_the_first_pictures_and_sentences(world, tmp_path):
    """The original's debug modes read 1,000 or 10,000 pictures, with one sentence each."""
    whole = run(tmp_path, world).stage("dataset")
    few = run(tmp_path, world, captions={"max_images": 2, "max_sentences": 1}).stage("dataset")
    for split in ("train", "valid", "test"):
        counts = [
            tuple(r.metrics[f"{split}_{kind}"] for kind in ("images", "captions")) for r in (whole, few)
        ]
        assert counts == [(3, 6), (2, 2)]
    first = load_dataset(whole.folder).captioned("train")[:2]
    assert [image.sentences[:1] for image in first] == [
        image.sentences for image in load_dataset(few.folder).captioned("train")
    ]
    assert whole.metrics["universe_images"] == few.metrics["universe_images"] == 3
    with pytest.raises(UserError, match="max_sentences"):
        parse_config(DatasetConfig, {"captions": {"max_sentences": 0}}, "dataset")


def test_conceptual_captions_train_the_matcher_and_become_vokens(tmp_path):
    root = tmp_path / "data"
    for split, numbers in (("training", (0, 1, 2)), ("validation", (0, 1))):
        (root / "cc/images" / split).mkdir(parents=True)
        for n in numbers:
            Image.new("RGB", (8, 8)).save(root / f"cc/images/{split}/{split}_{n}", "jpeg")
        (root / f"cc/{split}.tsv").write_text("".join(f"caption {n}\t{split}_{n}\n" for n in numbers))
    (root / "cc/again.tsv").write_text((root / "cc/validation.tsv").read_text())
    (root / "text.raw").write_text("one line of five words here .\n")
    valid = "cc/validation.tsv"
    fields = {
        "captions": {
            "format": "conceptual",
            "annotations": {"train": "cc/training.tsv", "valid": valid, "test": valid},
            "images": "cc/images",
        },
        "caption_sets": {"cc_valid": {"format": "conceptual", "annotations": "cc/again.tsv", "images": "cc/images"}},
        "universe": ["cc_valid", "cc_train=cc/training.tsv"],
        "corpus": {"train": ["text.raw"], "valid": ["text.raw"], "test": []},
        "glue": "", "scenes": "", "knowledge": "",
    }  # fmt: skip
    result = run(tmp_path, root, **fields).stage("dataset")
    assert [result.metrics[f"{split}_images"] for split in ("train", "valid", "cc_valid")] == [3, 2, 2]
    data = load_dataset(result.folder)
    assert load_dataset(data.save(tmp_path)) == data
    assert data.captioned("train")[1].sentences == ("caption 1",)
    sets = data.universe_sets()
    assert {name: [i.image_id for i in images] for name, images in sets.items()} == {
        "cc_train": ["training_0", "training_1", "training_2"],
        "cc_valid": ["validation_0", "validation_1"],
    }
    assert all(image.path.is_file() for image in data.universe_images())
    before = fingerprint(parse_config(DatasetConfig, {"root": str(root), **fields}))
    (root / "cc/again.tsv").write_text("another caption\tvalidation_0\n")
    assert fingerprint(parse_config(DatasetConfig, {"root": str(root), **fields})) != before


@pytest.mark.parametrize("name", ["Flickr8k.token.txt", "captions.txt", "results.csv"])
def test_the_captions_of_a_flickr_folder_enter_the_identity(tmp_path, name):
    fields = {"captions": {"format": "flickr", "annotations": {"train": "."}}, "corpus": {"train": "a.raw"}}
    config = parse_config(DatasetConfig, {"root": str(tmp_path), "glue": "", **fields})
    (tmp_path / name).write_text("one")
    before = fingerprint(config)
    (tmp_path / name).write_text("two")
    assert fingerprint(config) != before


def test_what_is_no_running_text_is_refused_before_it_is_tokenised(world, tmp_path):
    (world / "text/wiki.valid.raw").write_text('{"title": "Fish", "text": "A fish swims ."}\n')
    with pytest.raises(
        UserError, match=r"wiki\.valid\.raw: expected raw text of the valid corpus.*JSON lines"
    ):
        run(tmp_path, world).stage("dataset")
