"""The visual world on disk, in the formats of the public datasets.

    images/<split>/<image id>.png              pictures of train, valid, test and universe
    scenes.jsonl                               ground truth, one scene a line (`load_scenes`)
    annotations/captions_<split>.json          COCO captions; instances_<split>.json: boxes
    annotations/dataset_world.json             Karpathy's dataset JSON
    lxmert/world_<split>.json                  LXMERT captions, under the key of COCO's ("mscoco")
    multi30k/task{1,2}/…                       captions in five languages, line-parallel, as Multi30k has them
    vqa/ gqa/ nlvr2/ snli/                     questions, statements about two pictures, entailment pairs
    text/wiki.<split>.raw                      the encyclopedia, like WikiText's raw files
    glue/<TASK>/*.tsv                          a GLUE-shaped suite
    commonsense/<attribute>.jsonl              what pictures show and the text never says
    world.json                                 the configuration, written last

Every file is a pure function of the configuration, is written to a temporary name and renamed when complete,
and is kept when it is there, so that a killed writer continues where it stopped.
"""

import gzip
import io
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache, lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pydantic import Field

from vlpnb.config import Config
from vlpnb.errors import UserError, writing
from vlpnb.world.corpus import CORPUS_SPLITS, corpus_lines
from vlpnb.world.glue import TASKS, glue_files
from vlpnb.world.grammar import LANGUAGES, caption, plan_caption
from vlpnb.world.knowledge import ATTRIBUTES, knowledge_probes
from vlpnb.world.languages.plan import Plan
from vlpnb.world.questions import (
    RELATION_PHRASES,
    Question,
    entailments,
    gqa_questions,
    human_answers,
    statements,
    vqa_questions,
)
from vlpnb.world.render import pixel_box, render
from vlpnb.world.scene import KINDS, SPLITS, Scene, Split, make_scene

ASKED_SPLITS: tuple[Split, ...] = (
    "train",
    "valid",
    "test",
)  # splits with questions, statements and translations
_PUBLIC_SPLITS = {"train": "train", "valid": "val", "test": "test"}  # as Karpathy and Multi30k call them
_NLVR2_SPLITS = {"train": "train", "valid": "dev", "test": "test1"}
_CATEGORY_IDS = {name: i for i, name in enumerate(KINDS, start=1)}
_CHUNK = 200  # pictures per piece of work


class WorldConfig(Config):
    """How large the generated world is."""

    # everything in the world follows from this number and the sizes below
    seed: int = 0
    # captioned pictures to train on
    train: int = Field(3000, ge=1)
    # captioned pictures to validate on
    valid: int = Field(400, ge=1)
    # captioned pictures to test on; a quarter shows a colour-kind pair that training never shows
    test: int = Field(400, ge=1)
    # pictures that may become vokens
    universe: int = Field(1200, ge=1)
    # width and height of the pictures, in pixels
    image_size: int = Field(128, ge=32)
    # captions per picture and language
    captions: int = Field(5, ge=1)
    # languages of the Multi30k-like files
    languages: tuple[str, ...] = tuple(LANGUAGES)
    # words of the training text; whole articles, so a little more
    corpus_train: int = Field(400_000, ge=1)
    # words of the validation text
    corpus_valid: int = Field(20_000, ge=1)
    # words of the test text
    corpus_test: int = Field(20_000, ge=1)
    # training examples per GLUE task
    glue_train: int = Field(800, ge=8)
    # development (and test) examples per GLUE task
    glue_dev: int = Field(300, ge=8)
    # VQA questions per picture, and as many GQA questions; fewer where too few can be balanced
    questions: float = Field(3.0, ge=0)
    # NLVR2 statements per picture, and as many entailment pairs
    statements: float = Field(0.5, ge=0)
    # processes that draw pictures; worth raising from some ten thousand pictures
    workers: int = Field(1, ge=1, json_schema_extra={"hash": False})

    def count(self, split: Split) -> int:
        """The number of pictures of a split."""
        return getattr(self, split)


def coco_id(scene: Scene) -> int:
    """The number of a picture in the COCO, VQA and GQA files: unique over all splits."""
    return (SPLITS.index(scene.split) + 1) * 10_000_000 + scene.index


def image_id(number: int) -> str:
    """The image id (the file's stem) of a number that `coco_id` gave."""
    rank, index = divmod(number, 10_000_000)
    if not 1 <= rank <= len(SPLITS):
        raise UserError(
            f"{number} is no picture number of the visual world; expected one that `coco_id` gives."
        )
    return f"world_{SPLITS[rank - 1]}_{index:07d}"


def load_scenes(folder: Path) -> dict[str, Scene]:
    """Image id → scene, for all pictures of a written world; `folder` may also be the `scenes.jsonl` itself.

    Raises UserError when it is absent or damaged.
    """
    path = Path(folder)
    path = path / "scenes.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; it should hold the scenes of a world. Write one with `vlpnb world`."
        )
    with open(path, encoding="utf-8") as file:
        scenes = (Scene.from_json(line) for line in file)
        return {scene.image_id: scene for scene in scenes}


def write_world(
    config: WorldConfig,
    folder: Path,
    log: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Write the world of `config` into `folder`, or what of it is missing; returns its counts.

    `progress` is called with the number of finished and of all units of work (files, and chunks of pictures).
    Raises UserError where the folder holds a world of another configuration, or for an unknown language.
    """
    folder = Path(folder)
    identity = json.dumps({"format": 1, **config.hashed()}, indent=1)
    _claim(folder, identity)
    if unknown := [language for language in config.languages if language not in LANGUAGES]:
        raise UserError(
            f"world.languages: {unknown[0]!r} is unknown; expected some of {', '.join(LANGUAGES)}."
        )

    files = _Files(config)
    jobs = {name: job for name, job in files.jobs() if not (folder / name).exists()}
    chunks = list(_missing_pictures(config, folder))
    done, total = 0, len(jobs) + len(chunks)

    def advance() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    if log and total:
        log(f"writing {len(jobs)} files and {sum(len(c[2]) for c in chunks):,} pictures to {folder}")
    if config.workers > 1 and len(chunks) > 1:
        with ProcessPoolExecutor(config.workers, mp_context=get_context("spawn")) as pool:
            for _ in pool.map(_draw, chunks):
                advance()
    else:
        for chunk in chunks:
            _draw(chunk)
            advance()
    for name, make in jobs.items():
        _write(folder / name, make())
        advance()
    files.link_pairs(folder)
    _write(folder / "world.json", [identity])
    (folder / "world.json.partial").unlink(missing_ok=True)
    return {f"{split}_images": config.count(split) for split in SPLITS}


def _claim(folder: Path, identity: str) -> None:
    """Make the folder this world's; `world.json.partial` marks one that is not finished."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("world.json", "world.json.partial"):
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") != identity:
            raise UserError(
                f"{folder} holds a world of another configuration (see {path}). Choose another folder, or delete it."
            )
    if not (folder / "world.json").exists():
        _write(folder / "world.json.partial", [identity])


def _write(path: Path, content: bytes | Iterable[str]) -> None:
    """Write bytes, or text piece by piece, under a temporary name and rename it when complete."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    file.writelines(piece.encode() for piece in content)
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


# Pictures


Chunk = tuple[WorldConfig, Path, list[tuple[Split, int]]]


def _picture(split: Split, index: int) -> str:
    return f"images/{split}/world_{split}_{index:07d}.png"


def _missing_pictures(config: WorldConfig, folder: Path) -> Iterable[Chunk]:
    for split in SPLITS:
        there = set(os.listdir(folder / "images" / split)) if (folder / "images" / split).is_dir() else set()
        todo = [(split, i) for i in range(config.count(split)) if Path(_picture(split, i)).name not in there]
        for start in range(0, len(todo), _CHUNK):
            yield config, folder, todo[start : start + _CHUNK]


def _draw(chunk: Chunk) -> None:
    """Draw the pictures of a chunk; runs in any process."""
    config, folder, todo = chunk
    for split, index in todo:
        data = io.BytesIO()
        picture = render(make_scene(config.seed, split, index), config.image_size, config.seed)
        picture.save(data, "PNG")
        _write(folder / _picture(split, index), data.getvalue())


# Files about the pictures


class _Files:
    """All other files of a world by name; what several of them need is made once, when it is first needed."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.scenes = cache(self._scenes)
        self.captions = cache(self._captions)
        self.statements = cache(self._statements)
        self.vqa = cache(self._vqa)
        self.plans = lru_cache(maxsize=1)(self._plans)  # one variant at a time, for all languages

    def _scenes(self, split: Split) -> list[Scene]:
        return [make_scene(self.config.seed, split, i) for i in range(self.config.count(split))]

    def _captions(self, split: Split) -> list[list[str]]:
        variants = range(self.config.captions)
        return [[caption(scene, "en", v) for v in variants] for scene in self.scenes(split)]

    def _plans(self, split: Split, variant: int) -> list[Plan]:
        return [plan_caption(scene, variant) for scene in self.scenes(split)]

    def _vqa(self, split: Split) -> list[tuple[int, Question]]:
        wanted = round(self.config.questions * self.config.count(split))
        return _numbered(vqa_questions(self.scenes(split), self.config.seed, wanted))

    def _statements(self, split: Split):
        wanted = round(self.config.statements * self.config.count(split))
        return statements(self.scenes(split), self.config.seed, wanted)

    def jobs(self) -> Iterable[tuple[str, Callable[[], bytes | Iterable[str]]]]:
        """(file name, function that gives its content) of every file."""
        config = self.config
        yield "scenes.jsonl", self.ground_truth
        for split in SPLITS:
            yield f"annotations/captions_{split}.json", lambda s=split: _json(self.coco_captions(s))
            yield f"annotations/instances_{split}.json", lambda s=split: _json(self.coco_instances(s))
            yield f"lxmert/world_{split}.json", lambda s=split: _json(self.lxmert(s))
        yield "annotations/dataset_world.json", lambda: _json(self.karpathy())
        for split in ASKED_SPLITS:
            name = f"world_{split}"
            yield f"vqa/v2_OpenEnded_{name}_questions.json", lambda s=split: _json(self.vqa_questions(s))
            yield f"vqa/v2_{name}_annotations.json", lambda s=split: _json(self.vqa_annotations(s))
            yield f"gqa/{split}.json", lambda s=split: _json(self.gqa(s))
            yield f"gqa/{split}_sceneGraphs.json", lambda s=split: _json(self.gqa_scene_graphs(s))
            yield f"nlvr2/{split}.json", lambda s=split: _json_lines(self.nlvr2(s))
            yield f"snli/{split}.jsonl", lambda s=split: _json_lines(self.snli(s))
            public = _PUBLIC_SPLITS[split]
            yield f"multi30k/task1/image_splits/{public}.txt", lambda s=split: self.image_list(s)
            yield f"multi30k/task2/image_splits/{public}_images.txt", lambda s=split: self.image_list(s)
            for variant in range(config.captions):
                for language in config.languages:
                    lines = lambda s=split, lang=language, v=variant: self.translations(s, lang, v)  # noqa: E731
                    yield f"multi30k/task2/raw/{public}.{variant + 1}.{language}.gz", lines
                    if variant == 0:
                        yield f"multi30k/task1/raw/{public}.{language}.gz", lines
        for split in CORPUS_SPLITS:
            words = getattr(config, f"corpus_{split}")
            yield (
                f"text/wiki.{split}.raw",
                lambda s=split, n=words: (f"{line}\n" for line in corpus_lines(config.seed, s, n)),
            )
        for attribute in ATTRIBUTES:
            yield f"commonsense/{attribute}.jsonl", lambda a=attribute: _json_lines(knowledge_probes(a))
        for task in TASKS:
            content = cache(
                lambda t=task: dict(glue_files(t, config.seed, config.glue_train, *2 * [config.glue_dev]))
            )
            for name in _glue_names(task):
                yield f"glue/{task}/{name}", lambda make=content, n=name: [make()[n]]

    def ground_truth(self) -> Iterable[str]:
        return (f"{scene.to_json()}\n" for split in SPLITS for scene in self.scenes(split))

    def image_rows(self, split: Split) -> list[dict]:
        size = self.config.image_size
        return [
            {"license": 1, "file_name": f"{s.image_id}.png", "height": size, "width": size, "id": coco_id(s)}
            for s in self.scenes(split)
        ]

    def coco_captions(self, split: Split) -> dict:
        pairs = zip(self.scenes(split), self.captions(split), strict=True)
        annotations = [
            {"image_id": coco_id(scene), "id": coco_id(scene) * 100 + v, "caption": text}
            for scene, texts in pairs
            for v, text in enumerate(texts)
        ]
        return {**_about(split), "images": self.image_rows(split), "annotations": annotations}

    def coco_instances(self, split: Split) -> dict:
        annotations = []
        for scene in self.scenes(split):
            for number, thing in enumerate(scene.things):
                left, top, right, bottom = pixel_box(thing, self.config.image_size)
                width, height = right - left, bottom - top
                annotations.append(
                    {
                        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                        "area": width * height,
                        "iscrowd": 0,
                        "image_id": coco_id(scene),
                        "bbox": [left, top, width, height],
                        "category_id": _CATEGORY_IDS[thing.kind],
                        "id": coco_id(scene) * 100 + number,
                        "attributes": [
                            thing.colour,
                            thing.pattern,
                            thing.size,
                        ],  # not in COCO; as Visual Genome's
                    }
                )
        categories = [
            {"supercategory": KINDS[name].category, "id": number, "name": name}
            for name, number in _CATEGORY_IDS.items()
        ]
        return {
            **_about(split),
            "images": self.image_rows(split),
            "annotations": annotations,
            "categories": categories,
        }

    def karpathy(self) -> dict:
        images = []
        sentid = 0
        for split in ASKED_SPLITS:
            for scene, texts in zip(self.scenes(split), self.captions(split), strict=True):
                number, sentids = len(images), list(range(sentid, sentid + len(texts)))
                sentid += len(texts)
                sentences = [
                    {
                        "tokens": re.findall(r"[^\W_]+", text.lower()),
                        "raw": text,
                        "imgid": number,
                        "sentid": i,
                    }
                    for i, text in zip(sentids, texts, strict=True)
                ]
                images.append(
                    {
                        "filepath": split,
                        "sentids": sentids,
                        "filename": f"{scene.image_id}.png",
                        "imgid": number,
                        "split": _PUBLIC_SPLITS[split],
                        "sentences": sentences,
                        "cocoid": coco_id(scene),
                    }
                )
        return {"images": images, "dataset": "world"}

    def lxmert(self, split: Split) -> list[dict]:
        pairs = zip(self.scenes(split), self.captions(split), strict=True)
        return [
            {"img_id": scene.image_id, "labelf": {}, "sentf": {"mscoco": texts}} for scene, texts in pairs
        ]

    def image_list(self, split: Split) -> Iterable[str]:
        return (f"{scene.image_id}.png\n" for scene in self.scenes(split))

    def translations(self, split: Split, language: str, variant: int) -> bytes:
        realise = LANGUAGES[language].realise
        text = "".join(f"{realise(plan)}\n" for plan in self.plans(split, variant))
        return gzip.compress(text.encode(), mtime=0)  # no time stamp: equal bytes every time

    def vqa_questions(self, split: Split) -> dict:
        numbers = {scene.image_id: coco_id(scene) for scene in self.scenes(split)}
        rows = [
            {
                "image_id": numbers[q.image_id],
                "question": q.text,
                "question_id": numbers[q.image_id] * 1000 + i,
            }
            for i, q in self.vqa(split)
        ]
        return {**_vqa_about(split), "task_type": "Open-Ended", "questions": rows}

    def vqa_annotations(self, split: Split) -> dict:
        numbers = {scene.image_id: coco_id(scene) for scene in self.scenes(split)}
        vocabulary: dict[str, set[str]] = defaultdict(set)
        for _, q in self.vqa(split):
            vocabulary[q.family].add(q.answer)
        answers = {family: sorted(found) for family, found in vocabulary.items()}
        rows = [
            {
                "question_type": q.family,
                "multiple_choice_answer": q.answer,
                "answers": [
                    {"answer": answer, "answer_confidence": confidence, "answer_id": person}
                    for person, (answer, confidence) in enumerate(
                        human_answers(q, answers[q.family], self.config.seed), start=1
                    )
                ],
                "image_id": numbers[q.image_id],
                "answer_type": q.answer_type,
                "question_id": numbers[q.image_id] * 1000 + i,
            }
            for i, q in self.vqa(split)
        ]
        return {**_vqa_about(split), "annotations": rows}

    def gqa(self, split: Split) -> dict[str, dict]:
        wanted = round(self.config.questions * self.config.count(split))
        numbers = {scene.image_id: coco_id(scene) for scene in self.scenes(split)}
        asked = _numbered(gqa_questions(self.scenes(split), self.config.seed, wanted))
        named = [(f"{numbers[q.image_id]}{i:03d}", q) for i, q in asked]
        of_image: dict[str, list[tuple[str, Question]]] = defaultdict(list)
        for name, q in named:
            of_image[q.image_id].append((name, q))
        return {name: _gqa_row(name, q, of_image[q.image_id]) for name, q in named}

    def gqa_scene_graphs(self, split: Split) -> dict[str, dict]:
        size = self.config.image_size
        graphs = {}
        for scene in self.scenes(split):
            objects = {}
            for i, thing in enumerate(scene.things):
                left, top, right, bottom = pixel_box(thing, size)
                objects[str(i)] = {
                    "name": thing.kind,
                    "x": left,
                    "y": top,
                    "w": right - left,
                    "h": bottom - top,
                    "attributes": [thing.colour, thing.pattern, thing.size],
                    "relations": [
                        {"name": RELATION_PHRASES[r], "object": str(k)}
                        for j, r, k in scene.relations()
                        if j == i
                    ],
                }
            graphs[scene.image_id] = {
                "width": size,
                "height": size,
                "location": scene.setting,
                "objects": objects,
            }
        return graphs

    def nlvr2(self, split: Split) -> Iterable[dict]:
        for s in self.statements(split):
            truth = str(s.truth)
            yield {
                "identifier": f"{_pair_name(split, s)}-0",
                "sentence": s.text,
                "label": truth,
                "left_url": f"images/{split}/{s.left}.png",
                "right_url": f"images/{split}/{s.right}.png",
                "writer": "0",
                "validation": {"0": truth},
                "synset": s.subject,
                "query": s.subject,
            }

    def link_pairs(self, folder: Path) -> None:
        """The pictures of NLVR2 under the names that its identifiers stand for: links to those of the split."""
        for split in ASKED_SPLITS:
            target = folder / "nlvr2" / "images" / split
            target.mkdir(parents=True, exist_ok=True)
            there = set(os.listdir(target))
            for s in self.statements(split):
                for side, name in enumerate((s.left, s.right)):
                    file = f"{_pair_name(split, s)}-img{side}.png"
                    if file not in there:
                        _link(folder / "images" / split / f"{name}.png", target / file)

    def snli(self, split: Split) -> Iterable[dict]:
        wanted = round(self.config.statements * self.config.count(split))
        for e in entailments(self.scenes(split), self.config.seed, wanted):
            yield {
                "gold_label": e.label,
                "sentence1": e.premise,
                "sentence2": e.hypothesis,
                "captionID": f"{e.image_id}.png#{e.group}",
                "pairID": f"{e.image_id}.png#{e.group}r1{e.label[0]}",
                "Flikr30kID": e.image_id,  # spelt as the public files spell it
            }


def _glue_names(task: str) -> list[str]:
    if task == "MNLI":
        return ["train.tsv", *(f"{s}_{m}.tsv" for s in ("dev", "test") for m in ("matched", "mismatched"))]
    return ["train.tsv", "dev.tsv", "test.tsv"]


def _numbered(questions: list[Question]) -> list[tuple[int, Question]]:
    """Questions with their number within their picture."""
    counts: dict[str, int] = defaultdict(int)
    numbered = []
    for question in questions:
        numbered.append((counts[question.image_id], question))
        counts[question.image_id] += 1
    return numbered


def _gqa_row(name: str, q: Question, others: list[tuple[str, Question]]) -> dict:
    """One question in the public layout; `others`: all questions about its picture."""
    steps = [{"operation": op, "dependencies": list(needs), "argument": arg} for op, needs, arg in q.program]
    words = re.findall(r"[^\W_]+", q.text.lower())
    mentioned = {}
    for phrase, thing in q.mentions:
        parts = phrase.lower().split()
        start = next(i for i in range(len(words)) if words[i : i + len(parts)] == parts)
        mentioned[str(start) if len(parts) == 1 else f"{start}:{start + len(parts)}"] = str(thing)
    structural, semantic = q.types
    return {
        "semantic": steps,
        "entailed": [n for n, other in others if n != name and other.claims <= q.claims],
        "equivalent": [n for n, other in others if other.claims == q.claims],
        "question": q.text,
        "imageId": q.image_id,
        "isBalanced": True,
        "groups": {"global": None if q.answer_type == "yes/no" else q.family, "local": q.text},
        "answer": q.answer,
        "semanticStr": "->".join(
            f"{s['operation']}: {s['argument']} {s['dependencies'] or ''}".rstrip() for s in steps
        ),
        "annotations": {"answer": {}, "question": mentioned, "fullAnswer": {}},
        "types": {"detailed": q.family, "semantic": semantic, "structural": structural},
        "fullAnswer": q.full_answer,
    }


def _pair_name(split: Split, statement) -> str:
    return f"{_NLVR2_SPLITS[split]}-{statement.group}-{statement.pair}"


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:
        shutil.copyfile(source, target)


def _about(split: Split) -> dict:
    info = {"description": f"Visual world, {split}", "version": "1.0", "contributor": "vlpnb"}
    return {"info": info, "licenses": [{"url": "", "id": 1, "name": "generated by a program"}]}


def _vqa_about(split: Split) -> dict:
    info = {"description": f"Visual world questions, {split}", "version": "2.0", "contributor": "vlpnb"}
    licence = {"url": "", "name": "generated by a program"}
    return {"info": info, "license": licence, "data_type": "world", "data_subtype": split}


def _json(value: Any) -> list[str]:
    return [json.dumps(value, ensure_ascii=False), "\n"]


def _json_lines(rows: Iterable[Mapping]) -> Iterable[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
