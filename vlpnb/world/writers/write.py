"""Every file of a world, and the order in which they are written."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from vlpnb.errors import UserError
from vlpnb.world.corpus import CORPUS_SPLITS, corpus_lines
from vlpnb.world.glue import TASKS, glue_files
from vlpnb.world.grammar import LANGUAGES
from vlpnb.world.knowledge import ATTRIBUTES, knowledge_probes
from vlpnb.world.reading import reading_files
from vlpnb.world.scene import SPLITS
from vlpnb.world.writers import captions, lxmert, questions
from vlpnb.world.writers.content import World
from vlpnb.world.writers.disk import json_lines, json_text, write
from vlpnb.world.writers.layout import ASKED_SPLITS, PUBLIC_SPLITS, WorldConfig
from vlpnb.world.writers.pictures import draw, missing_pictures


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
    fields = config.model_dump(mode="json", include=set(config.hashed_fields()))
    identity = json.dumps({"format": 2, **fields}, indent=1)
    _claim(folder, identity)
    if unknown := [language for language in config.languages if language not in LANGUAGES]:
        raise UserError(
            f"world.languages: {unknown[0]!r} is unknown; expected some of {', '.join(LANGUAGES)}."
        )

    world = World(config)
    jobs = {name: job for name, job in _files(world) if not (folder / name).exists()}
    chunks = list(missing_pictures(config, folder))
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
            for _ in pool.map(draw, chunks):
                advance()
    else:
        for chunk in chunks:
            draw(chunk)
            advance()
    for name, make in jobs.items():
        write(folder / name, make())
        advance()
    questions.link_pairs(world, folder)
    write(folder / "world.json", [identity])
    (folder / "world.json.partial").unlink(missing_ok=True)
    return {f"{split}_images": config.count(split) for split in SPLITS}


def _claim(folder: Path, identity: str) -> None:
    """Make the folder this world's; `world.json.partial` marks one that is not finished."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("world.json", "world.json.partial"):
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") != identity:
            raise UserError(
                f"{folder} holds a world of another configuration (see {path}). "
                "Choose another folder, or delete it."
            )
    if not (folder / "world.json").exists():
        write(folder / "world.json.partial", [identity])


Content = bytes | Iterable[str]


def _files(world: World) -> Iterable[tuple[str, Callable[[], Content]]]:
    """(file name, function that gives its content) of every file."""
    config = world.config
    yield "scenes.jsonl", partial(captions.ground_truth, world)
    for split in SPLITS:
        yield f"annotations/captions_{split}.json", _json(captions.coco_captions, world, split)
        yield f"annotations/instances_{split}.json", _json(captions.coco_instances, world, split)
        yield f"lxmert/world_{split}.json", _json(lxmert.sentences, world, split)
    yield "annotations/dataset_world.json", _json(captions.karpathy, world)
    yield "conceptual/dataset_cc.json", _json(captions.conceptual, world)
    for split in ASKED_SPLITS:
        yield f"vqa/v2_OpenEnded_world_{split}_questions.json", _json(questions.vqa_questions, world, split)
        yield f"vqa/v2_world_{split}_annotations.json", _json(questions.vqa_annotations, world, split)
        yield f"gqa/{split}.json", _json(questions.gqa, world, split)
        yield f"gqa/{split}_sceneGraphs.json", _json(questions.gqa_scene_graphs, world, split)
        yield f"nlvr2/{split}.json", _json_lines(questions.nlvr2, world, split)
        yield f"lxmert/vqa/{split}.json", _json(lxmert.vqa, world, split)
        yield f"lxmert/gqa/{split}.json", _json(lxmert.gqa, world, split)
        yield f"lxmert/nlvr2/{split}.json", _json(lxmert.nlvr2, world, split)
        yield f"snli/{split}.jsonl", _json_lines(questions.snli, world, split)
        public, pictures = PUBLIC_SPLITS[split], partial(captions.image_list, world, split)
        yield f"multi30k/task1/image_splits/{public}.txt", pictures
        yield f"multi30k/task2/image_splits/{public}_images.txt", pictures
        for variant in range(config.captions):
            for language in config.languages:
                lines = partial(captions.translations, world, split, language, variant)
                yield f"multi30k/task2/raw/{public}.{variant + 1}.{language}.gz", lines
                if variant == 0:
                    yield f"multi30k/task1/raw/{public}.{language}.gz", lines
    yield "lxmert/all_ans.json", _json(lxmert.answer_table, world)
    for task in lxmert.TASKS:
        yield f"lxmert/{task}/trainval_label2ans.json", _json(lxmert.labels, world, task)
        yield f"lxmert/{task}/trainval_ans2label.json", _json(lxmert.classes, world, task)
    for split in CORPUS_SPLITS:
        yield f"text/wiki.{split}.raw", partial(_encyclopedia, config, split)
    for attribute in ATTRIBUTES:
        yield f"commonsense/{attribute}.jsonl", _json_lines(knowledge_probes, attribute)
    for task in TASKS:
        files = cache(partial(_glue, config, task))
        for name in _glue_names(task):
            yield f"glue/{task}/{name}", lambda files=files, name=name: [files()[name]]
    squad = {"train": config.squad_train, "dev": config.squad_dev}
    swag = {"train": config.swag_train, "dev": config.swag_dev}
    yield from reading_files(config.seed, squad, swag)


def _json(make: Callable[..., Any], *arguments: Any) -> Callable[[], Content]:
    return lambda: json_text(make(*arguments))


def _json_lines(make: Callable[..., Any], *arguments: Any) -> Callable[[], Content]:
    return lambda: json_lines(make(*arguments))


def _encyclopedia(config: WorldConfig, split: str) -> Iterable[str]:
    words = getattr(config, f"corpus_{split}")
    return (f"{line}\n" for line in corpus_lines(config.seed, split, words))


def _glue(config: WorldConfig, task: str) -> dict[str, str]:
    """File name → content of one task."""
    return dict(glue_files(task, config.seed, config.glue_train, config.glue_dev, config.glue_dev))


def _glue_names(task: str) -> list[str]:
    if task == "MNLI":
        return ["train.tsv", *(f"{s}_{m}.tsv" for s in ("dev", "test") for m in ("matched", "mismatched"))]
    return ["train.tsv", "dev.tsv", "test.tsv"]
