"""The world on disk: read back by the public formats' readers, resumable, equal bytes in every process."""

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vlpnb.config import parse_config
from vlpnb.data.captions import read_captions
from vlpnb.data.gqa import read_gqa
from vlpnb.data.lxmert import read_lxmert
from vlpnb.data.nlvr2 import read_nlvr2
from vlpnb.data.vqa import read_vqa
from vlpnb.data.vqa_labels import soft_targets
from vlpnb.errors import UserError
from vlpnb.foundations.world import WORLD
from vlpnb.stage import StageContext
from vlpnb.world.alt_text import alt_text
from vlpnb.world.scene import KINDS, SPLITS, make_scene
from vlpnb.world.writers import WorldConfig, coco_id, image_id, load_scenes, write_world

TINY = {
    "train": 150, "valid": 60, "test": 60, "universe": 30, "image_size": 32, "languages": ("en", "zh"),
    "corpus_train": 2000, "corpus_valid": 500, "corpus_test": 500, "glue_train": 24, "glue_dev": 12,
}  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(WorldConfig(**TINY), folder)
    return folder


@pytest.mark.slow
def test_two_processes_write_equal_bytes(world, tmp_path):
    code = (
        "import sys, json; from vlpnb.world.writers import WorldConfig, write_world;"
        "write_world(WorldConfig(**json.loads(sys.argv[2])), sys.argv[1])"
    )
    for hash_seed in ("1", "2"):
        folder = tmp_path / hash_seed
        subprocess.run(
            [sys.executable, "-c", code, str(folder), json.dumps(TINY)],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
            check=True,
        )
        assert digests(folder) == digests(world)


def test_captions_read_alike_from_coco_karpathy_and_lxmert(world):
    for split in ("train", "valid", "test"):
        images = world / "images" / split
        coco = read_captions("coco", world / f"annotations/captions_{split}.json", images)
        karpathy = read_captions("karpathy", world / "annotations/dataset_world.json", images, split)
        lxmert = read_captions("lxmert", world / f"lxmert/world_{split}.json", images, source="mscoco")
        assert coco == karpathy == lxmert
        assert len(coco) == TINY[split]
        assert all(image.path.is_file() and len(image.sentences) == 5 for image in coco)


def test_the_webs_texts_leave_the_first_twentieth_of_the_pictures_out(world):
    found = read_captions("karpathy", world / "conceptual/dataset_cc.json", world / "images", "train")
    assert [image.image_id for image in found] == [f"world_train_{i:07d}" for i in range(8, TINY["train"])]
    scenes = load_scenes(world)
    assert all(
        image.path.is_file() and image.sentences == (alt_text(scenes[image.image_id]),) for image in found
    )
    assert all(image.number == coco_id(scenes[image.image_id]) for image in found)


def test_pictures_and_scenes_belong_together(world):
    scenes = load_scenes(world)
    assert len(scenes) == sum(TINY[split] for split in SPLITS)
    for name, scene in scenes.items():
        assert scene == make_scene(0, scene.split, scene.index)
        assert image_id(coco_id(scene)) == name
    with Image.open(world / "images/universe/world_universe_0000007.png") as picture:
        assert (picture.size, picture.mode) == ((32, 32), "RGB")
    assert len({coco_id(s) for s in scenes.values()}) == len(scenes)


def test_boxes_lie_in_their_pictures(world):
    data = json.loads((world / "annotations/instances_valid.json").read_text())
    names = {c["id"]: c["name"] for c in data["categories"]}
    assert set(names.values()) == set(KINDS)
    scenes = load_scenes(world)
    assert len(data["annotations"]) == sum(len(s.things) for s in scenes.values() if s.split == "valid")
    for row in data["annotations"]:
        x, y, w, h = row["bbox"]
        assert 0 <= x <= x + w <= 32
        assert 0 <= y <= y + h <= 32
        assert names[row["category_id"]] in {t.kind for t in scenes[image_id(row["image_id"])].things}


def test_questions_read_back(world):
    scenes = load_scenes(world)
    for split in ("train", "valid", "test"):
        questions = world / f"vqa/v2_OpenEnded_world_{split}_questions.json"
        vqa = read_vqa(questions, world / f"vqa/v2_world_{split}_annotations.json")
        assert len(vqa) > 60
        assert len({q.question_id for q in vqa}) == len(vqa)
        for q in vqa:
            assert scenes[image_id(q.image_id)].split == split
            assert q.answers.count(q.answer) >= 8
            assert len(q.answers) == 10
        gqa = read_gqa(world / f"gqa/{split}.json")
        graphs = json.loads((world / f"gqa/{split}_sceneGraphs.json").read_text())
        assert len(gqa) > 40
        assert all(q.structural and q.answer and q.full_answer and q.image_id in graphs for q in gqa)


def test_gqa_rows_have_the_public_fields(world):
    rows = json.loads((world / "gqa/train.json").read_text())
    public = {
        "semantic", "entailed", "equivalent", "question", "imageId", "isBalanced", "groups", "answer",
        "semanticStr", "annotations", "types", "fullAnswer",
    }  # fmt: skip
    scenes = load_scenes(world)
    for name, row in rows.items():
        assert set(row) == public
        assert name in row["equivalent"]
        assert all(other in rows and rows[other]["imageId"] == row["imageId"] for other in row["entailed"])
        for step, needs in enumerate(s["dependencies"] for s in row["semantic"]):
            assert all(0 <= n < step for n in needs)
        words = row["question"].rstrip("?").split()
        for place, thing in row["annotations"]["question"].items():
            start, _, end = place.partition(":")
            said = words[int(start) : int(end or int(start) + 1)]
            found = scenes[row["imageId"]].things[int(thing)]
            assert said[-1] in (found.kind, KINDS[found.kind].category, "thing")


def test_statements_have_their_pictures(world):
    for split in ("train", "valid", "test"):
        found = read_nlvr2(world / f"nlvr2/{split}.json")
        assert len(found) >= 28
        assert sum(e.label for e in found) * 2 == len(found)
        pictures = world / "nlvr2/images" / split
        rows = [json.loads(line) for line in (world / f"nlvr2/{split}.json").read_text().splitlines()]
        for example, row in zip(found, rows, strict=True):
            assert (pictures / example.left).read_bytes() == (world / row["left_url"]).read_bytes()
            assert (pictures / example.right).read_bytes() == (world / row["right_url"]).read_bytes()


def test_lxmerts_sentences_are_the_captions_and_questions_of_the_split(world):
    for split in ("train", "valid", "test"):
        found = read_lxmert(world / f"lxmert/world_{split}.json")
        vqa = read_vqa(
            world / f"vqa/v2_OpenEnded_world_{split}_questions.json",
            world / f"vqa/v2_world_{split}_annotations.json",
        )
        expected = {
            "vqa": [(image_id(q.image_id), q.question, soft_targets(q.answers)) for q in vqa],
            "gqa": [(q.image_id, q.question, {q.answer: 1.0}) for q in read_gqa(world / f"gqa/{split}.json")],
        }
        for source, rows in expected.items():
            assert rows == [
                (image.image_id, sentence, label)
                for image in found
                for sentence, label in zip(
                    image.sentences.get(source, ()), image.labels.get(source, ()), strict=True
                )
            ]


def test_unknown_kinds_of_statements_are_refused():
    with pytest.raises(UserError, match=r"statement_kinds.*found 'lefd'.*expected one of both, one"):
        parse_config(WorldConfig, {"statement_kinds": ["lefd"]}, "world")


def test_translations_are_line_parallel(world):
    with gzip.open(world / "multi30k/task1/raw/val.en.gz", "rt", encoding="utf-8") as file:
        english = file.read().splitlines()
    with gzip.open(world / "multi30k/task1/raw/val.zh.gz", "rt", encoding="utf-8") as file:
        chinese = file.read().splitlines()
    images = (world / "multi30k/task1/image_splits/val.txt").read_text().split()
    assert len(english) == len(chinese) == len(images) == TINY["valid"]
    assert chinese != english


def test_text_and_commonsense_are_there(world):
    raw = (world / "text/wiki.train.raw").read_text()
    assert len(raw.split()) >= TINY["corpus_train"]
    assert "\n = " in raw
    for attribute in ("colour", "shape", "material", "size"):
        lines = (world / f"commonsense/{attribute}.jsonl").read_text().splitlines()
        assert all(json.loads(line)["answer"] for line in lines)


@pytest.mark.slow
def test_a_killed_writer_continues(world, tmp_path):
    config = WorldConfig(**TINY)

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 12:
            raise Killed

    with pytest.raises(Killed):
        write_world(config, tmp_path, progress=kill)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("images/*/*.png")}
    assert kept
    steps = []
    write_world(config, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1]
    assert digests(tmp_path) == digests(world)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.slow
def test_worker_processes_draw_the_same_pictures(tmp_path):
    sizes = {**TINY, "train": 210, "languages": (), "questions": 0, "statements": 0}
    write_world(WorldConfig(**sizes), tmp_path / "one")
    write_world(WorldConfig(**sizes, workers=2), tmp_path / "two")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_another_configuration_is_refused(world):
    with pytest.raises(UserError, match="another configuration"):
        write_world(WorldConfig(**TINY | {"seed": 1}), world)


def test_unknown_language_and_absent_scenes_are_said(tmp_path):
    with pytest.raises(UserError, match="languages"):
        write_world(WorldConfig(**TINY | {"languages": ("en", "xx")}), tmp_path / "x")
    with pytest.raises(UserError, match="vlpnb world"):
        load_scenes(tmp_path)
    with pytest.raises(UserError, match="picture number"):
        image_id(12)


def test_stage(tmp_path):
    sizes = {**TINY, "train": 8, "valid": 4, "test": 4, "universe": 4, "languages": "en"}
    config = parse_config(WORLD.config, sizes)
    lines = []
    metrics = WORLD.run(StageContext(config, tmp_path, {}, "cpu", say=lines.append))
    assert metrics["universe_images"] == 4
    assert (tmp_path / "world.json").is_file()
    assert any("pictures" in line for line in lines)
