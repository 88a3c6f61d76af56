"""The stage `multilingual`: one form whatever the layout, and no evaluated photograph among what is trained on."""

import base64
import csv
import gzip
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from vlpnb.course import open_run
from vlpnb.data.evaluated import photo_key, read_evaluated
from vlpnb.data.images import open_rgb
from vlpnb.errors import UserError
from vlpnb.foundations.multilingual import MULTILINGUAL, load_multilingual, open_multilingual
from vlpnb.foundations.stages import STAGES
from vlpnb.stage import Run
from vlpnb.stage.profiles import Profile

WORDS = {
    "en": "a red ball",
    "de": "ein roter Ball",
    "fr": "une balle rouge",
    "id": "bola merah",
    "zh": "一个红色的球",
}
PUBLIC = {"train": "train", "valid": "val", "test": "test"}


def pack(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


@pytest.fixture
def world(tmp_path):
    """Three pictures a split and two captions in each of five languages, as the world writes them."""
    root = tmp_path / "data"
    for split, public in PUBLIC.items():
        names = [f"world_{split}_{i:07d}.png" for i in range(3)]
        for name in names:
            picture(root / f"images/{split}/{name}")
        listed = root / f"multi30k/task2/image_splits/{public}_images.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{name}\n" for name in names))
        for variant in (1, 2):
            for language, words in WORDS.items():
                lines = [f"{words} {split} {i} {variant} ." for i in range(3)]
                pack(root / f"multi30k/task2/raw/{public}.{variant}.{language}.gz", lines)
    return root


def run(tmp_path, root, **section):
    stages = {"multilingual": {"root": str(root), **section}}
    return Run(
        tmp_path / "runs", "r", Profile("test", stages=stages), STAGES, device="cpu", say=lambda _: None
    )


def test_the_worlds_layout_is_the_default(world, tmp_path):
    opened = run(tmp_path, world)
    metrics, data = opened.stage("multilingual").metrics, open_multilingual(opened)
    assert data.splits == ("train", "valid", "test")
    assert data.languages == tuple(WORDS)
    train = data.pictures("train")
    assert [p.id for p in train] == [f"world_train_{i:07d}" for i in range(3)]
    assert train[1].captions["zh"] == ("一个红色的球 train 1 1 .", "一个红色的球 train 1 2 .")
    assert all(p.path.is_file() for p in data.all_pictures)
    assert len(data.all_pictures) == 9
    parallel = data.parallel("train")
    assert len(parallel.lines) == metrics["train_parallel"] == 6
    assert parallel.lines[0] == {name: f"{words} train 0 1 ." for name, words in WORDS.items()}
    assert len(parallel.pairs("en")) == 6 * 4
    assert data.parallel_splits == ("train", "valid")
    assert data.counts["test_captions_id"] == 6
    assert not {photo_key(p.id) for p in train} & data.evaluated
    with pytest.raises(
        UserError, match="no pictures for the split 'dev'; there is some for train, valid, test"
    ):
        data.pictures("dev")
    with pytest.raises(UserError, match="no parallel text for the split 'test'"):
        data.parallel("test")


def test_evaluated_pictures_are_in_no_training_and_no_parallel_line(world, tmp_path):
    """The list of the training pictures names a test picture, and a further set evaluates a training one."""
    test = "world_test_0000000.png"
    listed = world / "multi30k/task2/image_splits/train_images.txt"
    listed.write_text(listed.read_text().replace("world_train_0000000.png", test))
    picture(world / "images/train" / test)
    (world / "elsewhere.txt").write_text("world_train_0000002.png\nworld_valid_0000001.png\n")
    opened = run(tmp_path, world, exclude=["elsewhere.txt"])
    result = opened.stage("multilingual")
    data = open_multilingual(opened)
    assert [p.id for p in data.pictures("train")] == ["world_train_0000001"]
    assert [p.id for p in data.pictures("valid")] == ["world_valid_0000000", "world_valid_0000002"]
    assert len(data.pictures("test")) == 3
    assert {line["en"].split()[-3] for line in data.parallel("train").lines} == {"1"}
    assert result.metrics["excluded"] == 3 + 2 * 2 + 2
    told = (result.folder / "excluded.txt").read_text()
    assert "train: world_test_0000000" in told
    assert "valid: parallel line 2 of val.1.en.gz: world_valid_0000001" in told
    (world / "elsewhere.txt").write_text("".join(f"world_train_000000{i}.png\n" for i in (1, 2)))
    with pytest.raises(UserError, match="every picture of the split 'train' is evaluated on elsewhere"):
        run(tmp_path, world, exclude=["elsewhere.txt"]).stage("multilingual")


def test_what_is_missing_or_says_nothing_is_counted_listed_and_left_out(world, tmp_path):
    (world / "images/train/world_train_0000001.png").unlink()
    pack(world / "multi30k/task2/raw/train.1.de.gz", ["", "ein Ball", " ... "])
    result = run(tmp_path, world).stage("multilingual")
    data = load_multilingual(result.folder)
    assert result.metrics["missing_pictures"] == 1
    assert "images/train/world_train_0000001.png" in (result.folder / "missing.txt").read_text()
    assert result.metrics["silent_sentences"] == 2
    assert "train: world_train_0000002.png, de: ' ... '" in (result.folder / "silent.txt").read_text()
    assert data.pictures("train")[0].captions["de"] == ("ein roter Ball train 0 2 .",)
    assert "de" not in data.parallel("train").lines[0]
    for path in (world / "images/test").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="none of the 3 pictures of the split 'test' is there"):
        run(tmp_path, world).stage("multilingual")


def test_lists_join_sets_that_name_one_photograph_differently(tmp_path):
    root = tmp_path / "data"
    files = {"train": ["11_0000000a1b.jpg", "12_0000000a1b.jpg"], "test": ["13_0000000a1b.jpg"]}
    for split, names in files.items():
        (root / f"{split}.txt").parent.mkdir(exist_ok=True)
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            picture(root / "images" / name)
    tokens = [f"{name}#{i}\ta ball {i}" for names in files.values() for name in names for i in (0, 1)]
    (root / "tokens.txt").write_text("\n".join(tokens) + "\n")
    for part, numbers in (("train", (12, 13, 99)), ("val", (11,))):  # their splits are others
        (root / f"{part}_images.txt").write_text("".join(f"{number}.jpg\n" for number in numbers))
        pack(root / f"{part}.de.gz", [f"ein Ball {number}" for number in numbers])
        pack(root / f"{part}.en.gz", [f"one ball {number}" for number in numbers])
    section = {
        "languages": ["en", "de"],
        "images": "images",
        "pictures": {split: f"{split}.txt" for split in files},
        "captions": [
            {"languages": ["en"], "format": "flickr", "files": ["tokens.txt"]},
            {
                "languages": ["de"],
                "files": ["{part}.de.gz"],
                "parts": ["train", "val"],
                "listed": "{part}_images.txt",
            },
        ],
        "parallel": [
            {"languages": ["en", "de"], "files": ["train.{language}.gz"], "listed": "train_images.txt"}
        ],
    }
    data = open_multilingual(run(tmp_path, root, **section))
    assert data.splits == ("train", "test")
    assert {p.id: p.captions for p in data.all_pictures} == {
        f"{number}_0000000a1b": {"en": ("a ball 0", "a ball 1"), "de": (f"ein Ball {number}",)}
        for number in (11, 12, 13)
    }
    assert [line["de"] for line in data.parallel("train").lines] == ["ein Ball 12", "ein Ball 99"]
    (root / "train.txt").write_text("11_0000000a1b.jpg\n11_0000000a1c.jpg\n")
    with pytest.raises(UserError, match="are one photograph; expected it once"):
        run(tmp_path, root, **section).stage("multilingual")


def test_records_and_lists_for_retrieval_with_pictures_inside_or_beside(tmp_path):
    root = tmp_path / "data"
    drawn = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(drawn, "png")
    picture(root / "images/beside.jpg")
    picture(root / "images/test/t.jpg")
    rows = [
        {
            "binary": base64.b64encode(drawn.getvalue()).decode(),
            "caption": {"en": "a red picture", "ja": "赤い絵"},
        },
        {"binary": "beside.jpg", "caption": [{"en": "a black one"}, {"en": "black", "de": "schwarz"}]},
    ]
    (root / "cc.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (root / "test.json").write_text(
        json.dumps([{"image": "t.jpg", "caption": ["one", "two"], "image_id": 1}])
    )
    (root / "wiki.jsonl").write_text(json.dumps({"source_text": "a", "target_text": "ein"}) + "\n")
    section = {
        "languages": ["en", "de"],
        "captions": [
            {"format": "records", "files": ["cc.jsonl"], "splits": ["train"]},
            {"format": "retrieval", "languages": ["en"], "files": ["test.json"], "splits": ["test"]},
        ],
        "parallel": [{"format": "pairs", "languages": ["en", "de"], "files": ["*wiki.jsonl"]}],
    }
    opened = run(tmp_path, root, images="images", **section)
    with pytest.raises(UserError, match="none of the 1 pictures of the split 'test' is there"):
        run(tmp_path, root, images="elsewhere", **section).stage("multilingual")
    data = open_multilingual(opened)
    inside, beside = data.pictures("train")
    assert open_rgb(inside.path).size == (9, 7)
    assert inside.path.is_relative_to(data.folder)
    assert inside.captions == {"en": ("a red picture",)}, "Japanese is not asked for"
    assert beside.captions == {"en": ("a black one", "black"), "de": ("schwarz",)}
    assert data.pictures("test")[0].captions == {"en": ("one", "two")}
    assert data.parallel("train").lines == ({"en": "a", "de": "ein"},)


def coco(path, names, sentence):
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    said = [{"id": i, "image_id": i, "caption": f"{sentence} {i}"} for i in range(len(names))]
    path.write_text(json.dumps({"images": images, "annotations": said}))


@pytest.fixture
def own(tmp_path):
    """Pictures of one's own, with a COCO file for each split and language."""
    root = tmp_path / "own"
    for split in PUBLIC.values():
        names = [f"{split}_{i}.jpg" for i in range(2)]
        for name in names:
            picture(root / "images" / name)
        for language in ("en", "de"):
            coco(root / f"captions_{split}_{language}.json", names, f"{WORDS[language]} {split}")
    return root


def test_the_readmes_profile_reads_coco_captions_of_ones_own_without_other_data(own, tmp_path):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (text,) = re.findall(r"```yaml\n(extends: photos\n.*?)```", readme, flags=re.DOTALL)
    (tmp_path / "own.yaml").write_text(text)
    opened = open_run(str(tmp_path / "own.yaml"), "own", {"data.root": str(own)}, root=tmp_path / "data")
    opened.stage("multilingual")
    data = open_multilingual(opened)
    assert data.splits == ("train", "valid", "test")
    assert data.languages == ("en", "de")
    first = data.pictures("train")[0]
    assert first.captions == {"en": ("a red ball train 0",), "de": ("ein roter Ball train 0",)}
    assert opened.config("patches").sources == ("multilingual",)
    assert opened.config("cclm.results").tasks == ("retrieval",)


def test_one_coco_file_for_all_splits_is_divided_by_lists(own, tmp_path):
    names = [f"{split}_0.jpg" for split in PUBLIC.values()]
    coco(own / "all.json", names, "a ball")
    for split, name in zip(PUBLIC, names, strict=True):
        (own / f"{split}.txt").write_text(f"{name}\n")
    section = {
        "languages": ["en"],
        "images": "images",
        "captions": "[{format: coco, files: [all.json]}]",
        "pictures": {split: f"{split}.txt" for split in PUBLIC},
        "parallel": [],
    }
    data = open_multilingual(run(tmp_path, own, **section))
    assert [p.captions["en"] for p in data.all_pictures] == [("a ball 0",), ("a ball 1",), ("a ball 2",)]


def test_karpathys_json_divides_itself(own, tmp_path):
    images = [
        {"filename": f"{split}_0.jpg", "split": split, "sentences": [{"raw": f"a {split} ball"}]}
        for split in PUBLIC.values()
    ]
    (own / "dataset.json").write_text(json.dumps({"images": images}))
    source = {"format": "karpathy", "files": ["dataset.json"], "splits": list(PUBLIC)}
    section = {"languages": ["en"], "images": "images", "captions": [source], "parallel": []}
    data = open_multilingual(run(tmp_path, own, **section))
    assert [p.captions["en"] for p in data.all_pictures] == [
        ("a train ball",),
        ("a val ball",),
        ("a test ball",),
    ]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"captions": {"format": "coco"}}, r"expected a list, \[a, b\]"),
        ({"captions": "captions.json"}, "expected fields with values"),
        ({"languages": ["en", "xx"]}, "xx"),
        ({"languages": ["english"]}, "code of a language"),
        (
            {"captions": [{"files": ["a"], "languages": ["cs"], "splits": ["train"]}]},
            "'cs', which is none of",
        ),
        ({"captions": [{"files": ["a"], "splits": ["train"]}]}, "need `listed`"),
        ({"captions": [{"files": ["a"], "format": "flickr"}]}, "says in `splits` whose sentences"),
        ({"parallel": [{"files": ["a"], "format": "pairs"}]}, "two `languages`"),
        ({"max_pictures": 0}, "max_pictures"),
        ({"exclude": ["nowhere.jsonl"]}, "nowhere.jsonl"),
    ],
)
def test_wrong_settings_are_named(world, tmp_path, section, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, world, **section).stage("multilingual")


def test_a_language_without_a_sentence_and_files_that_do_not_go_together_are_named(world, tmp_path):
    for path in (world / "multi30k/task2/raw").glob("*.id.gz"):
        pack(path, [""] * 3)
    with pytest.raises(UserError, match="no sentence in the language 'id' in any file"):
        run(tmp_path, world).stage("multilingual")
    (world / "multi30k/task2/raw/train.2.id.gz").unlink()
    with pytest.raises(UserError, match=r"as many in each language"):
        run(tmp_path, world).stage("multilingual")


def test_a_dry_run_takes_the_first_of_everything(world, tmp_path):
    opened = run(tmp_path, world, max_pictures=2, max_captions=1, max_lines=4)
    data = open_multilingual(opened)
    assert [len(data.pictures(split)) for split in data.splits] == [2, 2, 2]
    assert {len(texts) for p in data.all_pictures for texts in p.captions.values()} == {1}
    assert len(data.parallel("train").lines) == 4


def test_the_same_files_elsewhere_are_the_same_result(world, tmp_path):
    first = run(tmp_path, world).stage("multilingual")
    moved = world.rename(tmp_path / "another disk")
    again = run(tmp_path, moved).stage("multilingual")
    assert again.reused
    assert again.folder == first.folder
    assert load_multilingual(again.folder).pictures("test")[0].path.is_file()
    pack(moved / "multi30k/task2/raw/val.2.zh.gz", ["别的"] * 3)
    assert not run(tmp_path, moved).stage("multilingual").reused


@pytest.fixture(scope="module")
def photographs(shared_data, tmp_path_factory):
    opened = open_run(
        "photos", settings={"data": {"root": str(shared_data)}}, root=tmp_path_factory.mktemp("photos")
    )
    return opened.stage(MULTILINGUAL.name)


@pytest.mark.slow
def test_no_real_photograph_is_both_trained_on_and_tested(photographs, shared_data):
    """The splits of the sets differ: most photographs of xFlickr&CO are training photographs of Flickr8k."""
    data = load_multilingual(photographs.folder)
    with (shared_data / "flickr8k/images.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    evaluated = {
        photo_key(r["file"]) for r in rows if r["xflickrco_test"] == "1" or int(r["xvnli_test_rows"])
    }
    evaluated |= {photo_key(r["file"]) for r in rows if r["split"] == "test"}
    for language in ("en", "de", "zh"):
        evaluated |= read_evaluated(shared_data / f"iglue/xFlickrCO/annotations/{language}/test.jsonl")
    for language in ("ar", "en", "fr"):
        evaluated |= read_evaluated(shared_data / f"iglue/XVNLI/annotations/{language}/test.jsonl")
    validated = {photo_key(p.id) for p in data.pictures("valid")}
    trained = {photo_key(p.id) for p in data.pictures("train")}
    assert trained
    assert not trained & (evaluated | validated)
    assert not validated & evaluated
    assert evaluated | validated <= data.evaluated

    listed = (shared_data / "multi30k/task1/image_splits/train.txt").read_text().split()
    english = (
        gzip.decompress((shared_data / "multi30k/task1/raw/train.en.gz").read_bytes()).decode().split("\n")
    )
    about: dict[str, set[str]] = {}
    for name, line in zip(listed, english, strict=False):
        about.setdefault(" ".join(line.split()), set()).add(photo_key(name))
    lines = data.parallel("train").lines
    assert len(lines) > 25_000
    held = evaluated | {photo_key(r["file"]) for r in rows if r["split"] != "train"}
    assert not [line for line in lines if "en" in line and about[line["en"]] <= held]
    assert sum(photo_key(name) not in held for name in listed) == len(lines)


def test_the_real_sets_meet_in_one_photograph(photographs, shared_data):
    """A test photograph of Flickr8k that Multi30k has among its training lines keeps the sentences of both."""
    metrics, data = photographs.metrics, load_multilingual(photographs.folder)
    assert data.languages == ("en", "de", "fr", "cs", "zh")
    assert [metrics[f"test_captions_{name}"] for name in data.languages] == [1180, 1165, 233, 233, 1180]
    with (shared_data / "flickr8k/images.tsv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file, delimiter="\t") if r["split"] == "test"]
    assert metrics["test_pictures"] == len(rows) == 236
    row = next(r for r in rows if r["multi30k_split"] == "train")
    found = {p.id: p.captions for p in data.pictures("test")}[row["file"].removesuffix(".jpg")]
    assert {name: len(texts) for name, texts in found.items()} == {
        "en": 5,
        "de": 5,
        "fr": 1,
        "cs": 1,
        "zh": 5,
    }
    for language in ("fr", "cs"):
        packed = (shared_data / f"multi30k/task1/raw/train.{language}.gz").read_bytes()
        line = gzip.decompress(packed).decode().split("\n")[int(row["multi30k_line"])]
        assert found[language] == (" ".join(line.split()),)
