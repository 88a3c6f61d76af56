"""Stage `dataset`: check that a dataset is all there, and describe it for the stages that follow.

With an empty `root` the dataset is the generated world. The defaults are the layout that the world writes;
for real data the fields name the files of the distribution. Annotation, text and GLUE files enter the stage's
identity through `fingerprint`, so that a changed file changes every later result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import Field, model_validator

from vlpnb.config import Config
from vlpnb.data.captions import CaptionFormat, split_missing
from vlpnb.data.description import Captions, Corpus, Dataset
from vlpnb.data.forms import refuse_markup
from vlpnb.data.glue import GLUE_TASKS, glue_task, read_glue
from vlpnb.data.squad import VERSIONS, read_squad, squad_file
from vlpnb.data.swag import read_swag, swag_file
from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.files import fingerprint_files, write_text
from vlpnb.stage import Request, Stage, StageContext

NAME = re.compile("[a-z][a-z0-9_]*")  # of a caption set; it becomes part of the metrics' names


class CaptionsConfig(Config):
    """Captioned pictures, relative to `root`."""

    format: CaptionFormat = "coco"
    # annotation file (flickr: folder) per split, or several files one after the other
    annotations: dict[str, str | tuple[str, ...]] = Field(
        default_factory=lambda: {s: f"annotations/captions_{s}.json" for s in ("train", "valid", "test")}
    )
    # folder of the pictures; {split} is replaced by the split's name
    images: str = "images/{split}"
    # lxmert only: keep one sentence source (mscoco, vg, …); empty keeps all
    source: str = ""
    # only the first pictures of each split, and the first sentences of each picture: for a dry run on real data
    max_images: int | None = Field(None, ge=1)
    max_sentences: int | None = Field(None, ge=1)


class CaptionSetConfig(Config):
    """Captioned pictures beside the splits, for the benchmark or the universe; relative to `root`."""

    format: CaptionFormat
    # annotation file (flickr: folder), or several files one after the other
    annotations: str | tuple[str, ...]
    # folder of the pictures
    images: str
    # lxmert only: keep one sentence source (mscoco, vg, …); empty keeps all
    source: str = ""
    # without its annotation files the set is left out, and said so
    optional: bool = False


class CorpusConfig(Config):
    """Raw text files, relative to `root`."""

    # which lines are kept: wiki103, wiki or none
    rules: str = Field("wiki103", pattern="^(wiki103|wiki|none)$")
    train: tuple[str, ...] = ("text/wiki.train.raw",)
    valid: tuple[str, ...] = ("text/wiki.valid.raw",)
    test: tuple[str, ...] = ("text/wiki.test.raw",)


class DatasetConfig(Config):
    """Where a dataset's parts lie; the defaults are the layout of the generated world."""

    # folder of the data; empty: the world stage's folder
    root: str = ""
    captions: CaptionsConfig = CaptionsConfig()
    # further captioned pictures by name, such as Conceptual Captions beside COCO
    caption_sets: dict[str, CaptionSetConfig] = Field(default_factory=dict)
    # splits and sets with captions, folders of pictures, lists `….ids`, lxmert files `….json`, or conceptual
    # files `….tsv`, whose pictures become vokens; `name=entry` names the image set, and sets come in
    # alphabetical order
    universe: tuple[str, ...] = ("images/universe",)
    corpus: CorpusConfig = CorpusConfig()
    # folder of the GLUE tasks; empty: none
    glue: str = "glue"
    # tasks to fine-tune; MNLI brings MNLI-MM with it where its file exists
    glue_tasks: tuple[str, ...] = tuple(name for name in GLUE_TASKS if name != "MNLI-MM")
    # folders of SQuAD's JSON and of SWAG's CSV files; empty: none; nothing said: the world's, none for real data
    squad: str | None = None
    swag: str | None = None
    # world only: the scenes behind the pictures, and the commonsense lists; empty: none
    scenes: str = "scenes.jsonl"
    knowledge: str = "commonsense"

    @model_validator(mode="after")
    def _names_differ(self) -> DatasetConfig:
        for name in self.caption_sets:
            if name in self.captions.annotations or not NAME.fullmatch(name):
                raise ValueError(
                    f"caption_sets: '{name}' must be small letters, digits and _, and no split of the captions"
                )
        return self


def describe(config: DatasetConfig, root: Path) -> Dataset:
    """The description of a configured dataset under `root`; nothing is checked."""
    tasks = tuple(glue_task(name).name for name in config.glue_tasks) if config.glue else ()
    t = config.corpus
    sets = config.caption_sets
    return Dataset(
        root=root,
        captions=_captions(config.captions, config.captions.annotations, root),
        caption_sets={name: _captions(c, {name: c.annotations}, root) for name, c in sets.items()},
        universe=config.universe,
        corpus=Corpus(t.rules, *(tuple(root / p for p in paths) for paths in (t.train, t.valid, t.test))),
        glue=root / config.glue if config.glue else None,
        glue_tasks=tasks,
        squad=_optional(config, root, "squad"),
        swag=_optional(config, root, "swag"),
        scenes=root / config.scenes if config.scenes else None,
        knowledge=root / config.knowledge if config.knowledge else None,
    )


def _captions(
    config: CaptionsConfig | CaptionSetConfig, annotations: Mapping[str, str | tuple[str, ...]], root: Path
) -> Captions:
    files = {
        split: tuple(root / path for path in ([paths] if isinstance(paths, str) else paths))
        for split, paths in annotations.items()
    }
    limits = (getattr(config, name, None) for name in ("max_images", "max_sentences"))
    return Captions(config.format, files, str(root / config.images), config.source or None, *limits)


def _optional(config: DatasetConfig, root: Path, name: str) -> Path | None:
    """The folder of a set that the world always has and real data has when it is named."""
    chosen = getattr(config, name)
    if chosen is None:
        chosen = "" if config.root else name
    return root / chosen if chosen else None


def fingerprint(config: DatasetConfig) -> str:
    """A hash of the annotation, text and GLUE files of real data; "" for the world, whose stage is hashed."""
    if not config.root:
        return ""
    return fingerprint_files(_files(describe(config, Path(config.root).absolute())))


def _files(data: Dataset) -> Iterator[Path]:
    for path in (path for split in data.captioned_names for path in data.captions_of(split).files(split)):
        flickr = (*path.glob("*.t*"), *path.glob("*.csv"))  # .txt, .token and .csv
        yield from sorted(flickr) if path.is_dir() else [path]
    for paths in (data.corpus.train, data.corpus.valid, data.corpus.test):
        yield from paths
    if data.glue is not None:
        for name in data.glue_tasks:
            task = GLUE_TASKS[name]
            yield from (data.glue / task.folder / task.file(split) for split in ("train", "valid"))
    if data.squad is not None:
        yield from (squad_file(data.squad, v, split) for v in VERSIONS for split in ("train", "valid"))
    if data.swag is not None:
        yield from (swag_file(data.swag, split) for split in ("train", "valid"))
    if data.scenes is not None:
        yield data.scenes


def _inputs(config: DatasetConfig) -> Mapping[str, Request]:
    return {} if config.root else {"world": Request("world")}


def _with_sets_that_are_there(data: Dataset, config: DatasetConfig, context: StageContext) -> Dataset:
    """The description without the optional caption sets whose files are absent; each is said."""
    kept = {}
    for name, captions in data.caption_sets.items():
        absent = [path for path in captions.files(name) if not path.exists()]
        if absent and config.caption_sets[name].optional:
            context.log(f"caption set '{name}' is left out: {absent[0]} does not exist")
        else:
            kept[name] = captions
    return replace(data, caption_sets=kept)


def _run(context: StageContext) -> dict[str, float]:
    config: DatasetConfig = context.config
    root = Path(config.root).absolute() if config.root else context.inputs["world"]
    require(root, "the dataset (`dataset.root`)")
    data = _with_sets_that_are_there(describe(config, root), config, context)
    metrics: dict[str, float] = {}
    absent: list[str] = []
    uncaptioned: list[str] = []

    for split in data.captioned_names:
        captions = data.captions_of(split)
        for path in captions.files(split):
            require(path, f"the captions of split '{split}' in {captions.format} format")
        present, missing = split_missing(data.annotated(split, uncaptioned))
        data.captioned(split)  # raises when there is no picture at all
        absent += [str(image.path) for image in missing]
        metrics[f"{split}_images"] = len(present)
        metrics[f"{split}_captions"] = sum(len(image.sentences) for image in present)
    universe = [image for images in data.universe_sets(context.log).values() for image in images]
    metrics["universe_images"] = len(universe)
    metrics["missing_images"] = len(absent)
    metrics["left_out_captions"] = len(uncaptioned)
    if uncaptioned:
        write_text(context.folder / "uncaptioned.txt", "\n".join(uncaptioned) + "\n")
        context.log(
            f"{len(uncaptioned):,} empty captions or pictures without one are left out (listed in "
            f"uncaptioned.txt): {uncaptioned[0]} …"
        )
    if absent:
        write_text(context.folder / "missing.txt", "\n".join(absent) + "\n")
        context.log(
            f"{len(absent):,} pictures are missing and left out (listed in missing.txt): {absent[0]} …"
        )

    for split in ("train", "valid", "test"):
        paths = getattr(data.corpus, split)
        for path in paths:
            require(path, f"raw text of the {split} corpus, one paragraph a line")
            if path.stat().st_size == 0:
                raise UserError(f"{path} is empty; expected raw text of the {split} corpus.")
            refuse_markup(path, f"raw text of the {split} corpus, one paragraph a line")
        metrics[f"{split}_text_bytes"] = sum(path.stat().st_size for path in paths)
    if not data.corpus.train or not data.corpus.valid:
        raise UserError("dataset.corpus: name at least one train and one valid file; found none.")

    tasks: list[str] = []
    for name in data.glue_tasks:
        for split in ("train", "valid"):
            metrics[f"glue_{name}_{split}"] = len(read_glue(data.glue, name, split))
        tasks.append(name)
        mismatched = GLUE_TASKS["MNLI-MM"]
        if name == "MNLI" and (data.glue / mismatched.folder / mismatched.dev).is_file():
            metrics["glue_MNLI-MM_valid"] = len(read_glue(data.glue, "MNLI-MM", "valid"))
    if data.squad is not None:
        for version in VERSIONS:
            for split in ("train", "valid"):
                metrics[f"squad_{version}_{split}"] = len(read_squad(data.squad, version, split))
    if data.swag is not None:
        for split in ("train", "valid"):
            metrics[f"swag_{split}"] = len(read_swag(data.swag, split))
    if data.scenes is not None:
        require(data.scenes, "the scenes behind the pictures (real data has none: set dataset.scenes to '')")
    if data.knowledge is not None:
        require(data.knowledge, "the commonsense lists (real data has none: set dataset.knowledge to '')")

    data.save(context.folder)
    shown = ", ".join(f"{split} {metrics[f'{split}_images']:,}" for split in data.captioned_names)
    context.log(
        f"captioned pictures: {shown}; universe {len(universe):,}; GLUE: {', '.join(tasks) or 'none'}"
    )
    return metrics


DATASET = Stage(
    name="dataset",
    config=DatasetConfig,
    run=_run,
    inputs=_inputs,
    fingerprint=fingerprint,
    doc="Check that a dataset is all there, and describe it for the stages that follow.",
)
