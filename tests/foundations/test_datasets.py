"""The dataset stages and their descriptions, on a small folder in the world's layout and on the sample data."""

import json
import os
import shutil

import pytest
from PIL import Image

from vlpnb.config import parse_config
from vlpnb.course import open_run
from vlpnb.course.report import reopen
from vlpnb.data.description import load_captions, load_folder, load_pictures, load_text
from vlpnb.errors import UserError
from vlpnb.foundations.captions import CaptionsConfig
from vlpnb.foundations.datasets import (
    DATASETS,
    open_captions,
    open_folder,
    open_pictures,
    open_text,
    with_root,
)
from vlpnb.foundations.stages import STAGES
from vlpnb.foundations.text import TextConfig
from vlpnb.stage import Run
from vlpnb.stage.profiles import Profile


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
    (root / "commonsense/colour.jsonl").write_text("{}\n")
    return root


def run(tmp_path, root, **sections):
    stages = with_root({"data": {"root": str(root)}, "glue_data": {"tasks": ["RTE"]}, **sections})
    return Run(
        tmp_path / "runs", "r", Profile("test", stages=stages), STAGES, device="cpu", say=lambda _: None
    )


def test_the_worlds_layout_is_the_default(world, tmp_path):
    opened = run(tmp_path, world)
    metrics = {
        name: opened.stage(name).metrics
        for name in ("captions", "pictures", "text", "glue_data", "knowledge")
    }
    assert metrics["captions"]["train_images"] == metrics["pictures"]["images"] == 3
    assert metrics["captions"]["train_captions"] == 6
    assert metrics["glue_data"] == {"RTE_train": 1, "RTE_valid": 1}
    assert metrics["knowledge"] == {"lists": 1}
    captions, pictures, text = open_captions(opened), open_pictures(opened), open_text(opened)
    train = captions.captioned("train")
    assert train[1].image_id == "world_train_0000001"
    assert train[1].path.is_file()
    assert captions.scenes == world / "scenes.jsonl"
    assert [i.image_id for i in pictures.images()] == [f"world_universe_{i:07d}" for i in range(3)]
    assert pictures.images()[0].sentences == ()
    assert text.train == (world / "text/wiki.train.raw",)
    glue = open_folder(opened, "glue_data")
    assert (glue.folder, glue.tasks) == (world / "glue", ("RTE",))
    with pytest.raises(UserError, match="no captions for split 'dev'; there are train, valid, test"):
        captions.captioned("dev")
    assert load_captions(captions.save(tmp_path).parent) == captions
    assert load_pictures(pictures.save(tmp_path).parent) == pictures
    assert load_text(text.save(tmp_path).parent) == text
    assert load_folder(glue.save(tmp_path, "glue_data").parent, "glue_data") == glue


def identities(opened):
    return {name: opened.plan(name).digest for name in opened.stages}


def changed(one, other):
    """The names of the stages whose identity differs."""
    before, after = identities(one), identities(other)
    return {name for name in before if before[name] != after[name]}


BACKBONES = {"features": {"language": "stage", "vision": "stage"}}


@pytest.mark.slow
def test_another_glue_task_makes_nothing_again_but_what_reads_glue(world, tmp_path):
    before = identities(open_run("smoke", root=tmp_path))
    after = identities(open_run("smoke", settings="glue_data.tasks=RTE,MRPC", root=tmp_path))
    assert {name for name in before if before[name] != after[name]} == {
        "glue_data", "vokenization.glue", "vokenization.results",
    }  # fmt: skip


@pytest.mark.slow
def test_every_stage_depends_on_what_it_reads_alone(world, tmp_path):
    def names(settings):
        return changed(open_run("smoke", root=tmp_path), open_run("smoke", settings=settings, root=tmp_path))

    assert names("squad_data.folder=squad2") == {"squad_data", "vokenization.squad"}
    assert names("swag_data.folder=swag2") == {"swag_data", "vokenization.swag"}
    assert names("knowledge.folder=lists") == {
        "knowledge", "vokenization.probes", "vokenization.results", "valm.commonsense", "valm.results",
        "across.words", "across.results",
    }  # fmt: skip
    assert not names("pictures.sets=images/test") & {"vokenization.matching", "features", "corpus"}
    assert not names("text.test=a.raw") & {"captions", "pictures", "vision"}
    further = {"captions": {"sets": {"cc": {"format": "conceptual", "annotations": "a.tsv", "images": "i"}}}}
    vlp = {f"vlp.{name}" for name in ("pretraining", "captioning", "scst", "vqa", "results")}
    ends = {"vokenization.benchmark", "across.results"}
    assert names(further) == {"captions", *ends, *vlp}, "all of VLP begins with a set"


def test_one_word_says_where_all_real_data_lies(world, tmp_path):
    opened = open_run("photos", settings={"data": {"root": str(world)}}, root=tmp_path)
    assert {name: opened.config(name).root for name in DATASETS} == dict.fromkeys(DATASETS, str(world))
    assert all("world" not in opened.plan(name).inputs for name in DATASETS)
    own = open_run(
        "photos", settings={"data": {"root": str(world)}, "text": {"root": "/elsewhere"}}, root=tmp_path
    )
    assert (own.config("text").root, own.config("captions").root) == ("/elsewhere", str(world))
    assert open_run("smoke", root=tmp_path).config("text").root == ""
    (tmp_path / "mine.yaml").write_text(f"extends: photos\ndata: {{root: {world}}}\n")
    assert open_run(str(tmp_path / "mine.yaml"), root=tmp_path).config("swag_data").root == str(world)
    with pytest.raises(UserError, match="data: expected `root`"):
        open_run("smoke", settings="data.folder=/x", root=tmp_path)


def test_the_same_files_elsewhere_are_the_same_data(world, tmp_path):
    first = {name: run(tmp_path, world).stage(name) for name in ("captions", "pictures", "text", "glue_data")}
    moved = tmp_path / "another disk"
    shutil.copytree(world, moved)
    shutil.rmtree(world)
    opened = run(tmp_path, moved)
    for name, result in first.items():
        again = opened.stage(name)
        assert again.reused
        assert again.folder == result.folder
    assert open_captions(opened).captioned("train")[0].path == moved / "images/train/world_train_0000000.png"
    assert open_pictures(opened).images()[0].path.is_file()
    assert open_text(opened).valid == (moved / "text/wiki.valid.raw",)
    assert open_folder(opened, "glue_data").folder == moved / "glue"
    shutil.rmtree(moved)
    with pytest.raises(UserError, match=r"another disk: does not exist.*--data FOLDER"):
        load_captions(first["captions"].folder)


def test_missing_pictures_are_counted_and_listed(world, tmp_path):
    (world / "images/train/world_train_0000001.png").unlink()
    opened = run(tmp_path, world, pictures={"sets": ["train", "images/universe"]})
    result = opened.stage("captions")
    assert result.metrics["missing_images"] == 1
    assert "images/train/world_train_0000001.png\n" in (result.folder / "missing.txt").read_text()
    assert opened.stage("pictures").metrics == {"images": 5, "images_train": 2, "images_universe": 3}
    assert open_pictures(opened).sets()["train"][0].sentences[0] == "a red ball 0 ."
    for path in (world / "images/valid").iterdir():
        path.unlink()
    (world / "annotations/captions_test.json").write_text("{}")
    with pytest.raises(UserError, match="none of the 3 pictures of split 'valid' exists"):
        run(tmp_path, world).stage("captions")


@pytest.mark.parametrize(
    ("stage", "path", "message"),
    [
        ("captions", "annotations/captions_valid.json", "captions of split 'valid' in coco format"),
        ("captions", "scenes.jsonl", "set captions.scenes to ''"),
        ("text", "text/wiki.train.raw", "raw text of the train corpus"),
        ("glue_data", "glue/RTE/dev.tsv", "the valid split of GLUE RTE"),
        ("squad_data", "squad/train-v1.1.json", "SQuAD"),
        ("swag_data", "swag/train.csv", "SWAG"),
        ("knowledge", "commonsense", "the commonsense lists"),
    ],
)
def test_what_is_missing_is_named(world, tmp_path, stage, path, message):
    if (world / path).is_dir():
        shutil.rmtree(world / path)
    (world / path).unlink(missing_ok=True)
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, world).stage(stage)
    assert str(world / path) in str(caught.value)


def test_missing_root_and_empty_picture_sets(world, tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist.*--data FOLDER"):
        run(tmp_path, tmp_path / "nowhere").stage("text")
    (world / "images/none").mkdir()
    with pytest.raises(UserError, match="holds no picture"):
        run(tmp_path, world, pictures={"sets": ["images/none"]}).stage("pictures")
    with pytest.raises(UserError, match=r"'images' is no split or set with captions.*'\./images'"):
        run(tmp_path, world, pictures={"sets": ["images"]}).stage("pictures")
    assert run(tmp_path, world, pictures={"sets": ["./images"]}).stage("pictures").metrics["images"] == 12


def test_pictures_are_known_by_what_they_show(world, tmp_path):
    before = run(tmp_path, world)
    old = identities(before)
    picture = next((world / "images/train").iterdir())
    whole, status = picture.read_bytes(), picture.stat()
    for content in (
        whole[: len(whole) // 2],
        whole[:-1] + bytes([whole[-1] ^ 1]),
    ):  # cut; replaced by another
        picture.write_bytes(content)
        os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
        new = identities(run(tmp_path, world))
        assert new["captions"] != old["captions"]
        assert new["text"] == old["text"]
    picture.write_bytes(whole)
    assert identities(run(tmp_path, world)) == old


def test_changed_files_change_the_identity(world, tmp_path):
    first = run(tmp_path, world).stage("text")
    os.utime(world / "text/wiki.train.raw")  # the same content is the same data
    assert run(tmp_path, world).stage("text").reused
    captions = run(tmp_path, world).plan("captions").digest
    with (world / "text/wiki.train.raw").open("a") as file:
        file.write("another line of text is here .\n")
    second = run(tmp_path, world).stage("text")
    assert not second.reused
    assert second.folder != first.folder
    assert run(tmp_path, world).plan("captions").digest == captions


def test_bad_fields_are_refused():
    with pytest.raises(UserError, match="rules"):
        parse_config(TextConfig, {"rules": "wiki-103"}, "text")
    with pytest.raises(UserError, match="format"):
        parse_config(CaptionsConfig, {"format": "voc"}, "captions")


def test_damaged_description(tmp_path):
    with pytest.raises(UserError, match=r"captions\.json does not exist.*the stage `captions`"):
        load_captions(tmp_path)
    (tmp_path / "captions.json").write_text('{"root": "x"}')
    with pytest.raises(UserError, match="field 'splits' is missing"):
        load_captions(tmp_path)
    (tmp_path / "captions.json").write_text('{"root": null}')
    with pytest.raises(UserError, match="--data FOLDER"):
        load_captions(tmp_path)


@pytest.mark.slow
def test_photos(shared_data, tmp_path):
    opened = open_run("photos", settings={"data": {"root": str(shared_data)}}, root=tmp_path)
    captions = opened.stage("captions").metrics
    assert captions["train_images"] == opened.stage("pictures").metrics["images"] == 1450
    assert captions["test_captions"] == 5 * 236
    assert captions["missing_images"] == 0
    assert opened.stage("glue_data").metrics["STS-B_valid"] == 1500
    assert opened.stage("text").metrics["valid_bytes"] > 1e5


def test_a_split_of_several_files(world, tmp_path):
    """The matcher's training split is COCO's training split and most of its validation split."""
    both = ["annotations/captions_train.json", "annotations/captions_valid.json"]
    rest = {split: f"annotations/captions_{split}.json" for split in ("valid", "test")}
    for split in ("train", "valid", "test"):
        for path in (world / "images" / split).iterdir():
            path.rename(world / "images" / path.name)
    section = {"annotations": {"train": both, **rest}, "images": "images"}
    result = run(tmp_path, world, captions=section).stage("captions")
    assert (result.metrics["train_images"], result.metrics["valid_images"]) == (6, 3)
    data = load_captions(result.folder)
    found = [image.image_id for image in data.captioned("train")]
    assert found == [f"world_{split}_{i:07d}" for split in ("train", "valid") for i in range(3)]
    assert data.splits.annotations["train"] == tuple(world / path for path in both)
    (world / both[1]).unlink()
    with pytest.raises(UserError, match="captions of split 'train'"):
        run(tmp_path, world, captions=section).stage("captions")


def test_a_dry_run_reads_the_first_pictures_and_sentences(world, tmp_path):
    """The original's debug modes read 1,000 or 10,000 pictures, with one sentence each."""
    whole = run(tmp_path, world).stage("captions")
    few = run(tmp_path, world, captions={"max_images": 2, "max_sentences": 1}).stage("captions")
    for split in ("train", "valid", "test"):
        counts = [
            tuple(r.metrics[f"{split}_{kind}"] for kind in ("images", "captions")) for r in (whole, few)
        ]
        assert counts == [(3, 6), (2, 2)]
    first = load_captions(whole.folder).captioned("train")[:2]
    assert [image.sentences[:1] for image in first] == [
        image.sentences for image in load_captions(few.folder).captioned("train")
    ]
    with pytest.raises(UserError, match="max_sentences"):
        parse_config(CaptionsConfig, {"max_sentences": 0}, "captions")


def test_conceptual_captions_train_the_matcher_and_become_vokens(tmp_path):
    root = tmp_path / "data"
    for split, numbers in (("training", (0, 1, 2)), ("validation", (0, 1))):
        (root / "cc/images" / split).mkdir(parents=True)
        for n in numbers:
            Image.new("RGB", (8, 8)).save(root / f"cc/images/{split}/{split}_{n}", "jpeg")
        (root / f"cc/{split}.tsv").write_text("".join(f"caption {n}\t{split}_{n}\n" for n in numbers))
    (root / "cc/again.tsv").write_text((root / "cc/validation.tsv").read_text())
    valid = "cc/validation.tsv"
    sections = {
        "captions": {
            "format": "conceptual",
            "annotations": {"train": "cc/training.tsv", "valid": valid, "test": valid},
            "images": "cc/images",
            "sets": {"cc_valid": {"format": "conceptual", "annotations": "cc/again.tsv", "images": "cc/images"}},
            "scenes": "",
        },
        "pictures": {"sets": ["cc_valid", "cc_train=cc/training.tsv"]},
    }  # fmt: skip
    opened = run(tmp_path, root, **sections)
    metrics = opened.stage("captions").metrics
    assert [metrics[f"{split}_images"] for split in ("train", "valid", "cc_valid")] == [3, 2, 2]
    data = open_captions(opened)
    assert load_captions(data.save(tmp_path).parent) == data
    assert data.captioned("train")[1].sentences == ("caption 1",)
    sets = open_pictures(opened).sets()
    assert {name: [i.image_id for i in images] for name, images in sets.items()} == {
        "cc_train": ["training_0", "training_1", "training_2"],
        "cc_valid": ["validation_0", "validation_1"],
    }
    assert all(image.path.is_file() for image in open_pictures(opened).images())
    before = identities(opened)
    (root / "cc/again.tsv").write_text("another caption\tvalidation_0\n")
    after = identities(run(tmp_path, root, **sections))
    assert {name for name in before if before[name] != after[name]} == {"captions", "pictures"}


@pytest.mark.parametrize("name", ["Flickr8k.token.txt", "captions.txt", "results.csv"])
def test_the_captions_of_a_flickr_folder_enter_the_identity(tmp_path, name):
    def identity():
        opened = run(tmp_path, tmp_path, captions={"format": "flickr", "annotations": {"train": "."}})
        return opened.plan("captions").digest

    (tmp_path / name).write_text("one")
    before = identity()
    (tmp_path / name).write_text("two")
    assert identity() != before


def test_what_is_no_running_text_is_refused_before_it_is_tokenised(world, tmp_path):
    (world / "text/wiki.valid.raw").write_text('{"title": "Fish", "text": "A fish swims ."}\n')
    with pytest.raises(
        UserError, match=r"wiki\.valid\.raw: expected raw text of the valid corpus.*JSON lines"
    ):
        run(tmp_path, world).stage("text")


def test_a_run_is_opened_again_with_its_data_elsewhere(world, tmp_path, monkeypatch):
    monkeypatch.setenv("VLPNB_DATA", str(tmp_path))
    made = open_run("photos", "mine", {"data": {"root": str(world)}})
    made.note()
    assert reopen("mine").config("captions").root == str(world)
    again = reopen("mine", tmp_path / "another disk")
    assert {again.config(name).root for name in DATASETS} == {str(tmp_path / "another disk")}
