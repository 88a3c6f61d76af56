"""Stage `iglue`: IGLUE's sets (Bugliarello et al. 2022) checked and described: XVNLI, xGQA, MaRVL, xFlickr&CO, WIT.

From a folder with the benchmark's files, or, without a root, written by this stage itself from the world's scenes into
its own folder, so that no other part waits for them. The pictures of WIT, which are known by their addresses, are taken
out of the pixel files into the stage's folder too. Whatever cannot be used is counted and listed: rows without their
picture, sentences that are empty, addresses without pixels, training rows with an evaluated picture.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image
from pydantic import model_validator

from vlpnb.config import Config
from vlpnb.data.iglue import read_captions_by_picture
from vlpnb.data.iglue_data import TASKS, Iglue, TaskFiles, load_iglue
from vlpnb.data.images import FORMATS
from vlpnb.data.picture_patterns import fixed_folder
from vlpnb.data.text_files import require
from vlpnb.data.wit import pixels_in_rows, pixels_of, read_wit, wit_id
from vlpnb.errors import UserError
from vlpnb.files import atomic
from vlpnb.foundations.datasets import (
    DatasetConfig,
    below_root,
    data_root,
    point_to_root,
    world_unless_rooted,
)
from vlpnb.stage import Request, Run, Stage, StageContext
from vlpnb.world.writers.iglue import IglueSizes, write_iglue

__all__ = ["IGLUE", "Iglue", "IglueConfig", "load_iglue", "open_iglue"]

WIT_PICTURES = "wit/pictures"
_WORLD = ("images/{split}/{id}.png", "images/universe/{id}.png")
_CURTAINS = ("curtains/{split}/{id}.png", "curtains/universe/{id}.png")


class TaskConfig(Config):
    """The files of one task below the root; {language} and {shots} in their names stand for any."""

    train: str | tuple[str, ...] = ""
    """English rows to train on, in one file or several; empty: there are none."""
    valid: str | tuple[str, ...] = ""
    """Rows to select on: English, or one file per {language}."""
    test: str = ""
    """Test file per {language}."""
    english_test: str = ""
    """English's test file where it has another name."""
    few_shot: str = ""
    """Training files of few pictures per {language} and number of {shots}."""
    translated: str = ""
    """Test file per {language}, machine-translated to English."""
    languages: tuple[str, ...] = ()
    """The languages to test; empty: all that have a test file."""
    pictures: tuple[str, ...] = _WORLD
    """Where a picture may lie, tried in order: a path with {id}, and {split}, {language}, {concept} or * as needed."""


class XvnliConfig(TaskConfig):
    """XVNLI; a file whose name ends with .csv is e-SNLI-VE's table."""

    train: str | tuple[str, ...] = "XVNLI/annotations/en/train.jsonl"
    """English rows to train on, in one file or several; empty: there are none."""
    valid: str | tuple[str, ...] = "XVNLI/annotations/en/dev.jsonl"
    """Rows to select on: English, or one file per {language}."""
    test: str = "XVNLI/annotations/{language}/test.jsonl"
    """Test file per {language}."""
    few_shot: str = "XVNLI/annotations/{language}/train_{shots}.jsonl"
    """Training files of few pictures per {language} and number of {shots}."""
    translated: str = "XVNLI/annotations_machine-translate/{language}/test.jsonl"
    """Test file per {language}, machine-translated to English."""
    pictures: tuple[str, ...] = (*_WORLD, *_CURTAINS)
    """Where a picture may lie, tried in order: a path with {id}, and {split}, {language}, {concept} or * as needed."""


class XgqaConfig(TaskConfig):
    """xGQA: its JSON objects, LXMERT's JSON lists, or pickles."""

    train: str | tuple[str, ...] = "gqa/annotations/train.json"
    """English rows to train on, in one file or several; empty: there are none."""
    valid: str | tuple[str, ...] = "xGQA/annotations/few_shot/{language}/dev.json"
    """Rows to select on: English, or one file per {language}."""
    test: str = "xGQA/annotations/few_shot/{language}/test.json"
    """Test file per {language}."""
    few_shot: str = "xGQA/annotations/few_shot/{language}/train_{shots}.json"
    """Training files of few pictures per {language} and number of {shots}."""
    translated: str = "xGQA/annotations_machine-translate/{language}/test.json"
    """Test file per {language}, machine-translated to English."""
    answers: str = "gqa/annotations/trainval_label2ans.json"
    """The answers to choose from, a list or an object answer → class; empty: those of the training questions."""
    trusted: bool = False
    """Open files that are pickles (.pkl); only of files whose maker you know."""


class MarvlConfig(TaskConfig):
    """MaRVL, and NLVR2 for English; or CCLM's JSON lists of either."""

    train: str | tuple[str, ...] = "nlvr2/annotations/train.jsonl"
    """English rows to train on, in one file or several; empty: there are none."""
    valid: str | tuple[str, ...] = "nlvr2/annotations/dev.jsonl"
    """Rows to select on: English, or one file per {language}."""
    test: str = "marvl/zero_shot/annotations/marvl-{language}.jsonl"
    """Test file per {language}."""
    english_test: str = "nlvr2/annotations/test.jsonl"
    """English's test file where it has another name."""
    few_shot: str = "marvl/few_shot/annotations/marvl-{language}_train{shots}.jsonl"
    """Training files of few pictures per {language} and number of {shots}."""
    translated: str = "marvl/zero_shot/annotations_machine-translate/marvl-{language}_gmt.jsonl"
    """Test file per {language}, machine-translated to English."""


class XflickrcoConfig(TaskConfig):
    """xFlickr&CO, and Flickr30k for English."""

    train: str | tuple[str, ...] = "flickr30k/annotations/train_ann.jsonl"
    """English rows to train on, in one file or several; empty: there are none."""
    valid: str | tuple[str, ...] = "flickr30k/annotations/valid_ann.jsonl"
    """Rows to select on: English, or one file per {language}."""
    test: str = "xFlickrCO/annotations/{language}/test.jsonl"
    """Test file per {language}."""
    few_shot: str = "xFlickrCO/annotations/{language}/train_{shots}.jsonl"
    """Training files of few pictures per {language} and number of {shots}."""
    translated: str = "xFlickrCO/annotations_machine-translate/{language}/test_gmt.jsonl"
    """Test file per {language}, machine-translated to English."""


class WitConfig(TaskConfig):
    """WIT: captions of addresses, joined to files of pixels."""

    train: str | tuple[str, ...] = "wit/annotations/train_en.jsonl"
    """English rows to train on, in one file or several; empty: there are none."""
    valid: str | tuple[str, ...] = "wit/annotations/val_en.jsonl"
    """Rows to select on: English, or one file per {language}."""
    test: str = "wit/annotations/test_{language}.jsonl"
    """Test file per {language}."""
    translated: str = "wit/annotations_machine-translate/test_{language}_gmt.jsonl"
    """Test file per {language}, machine-translated to English."""
    pictures: tuple[str, ...] = (f"{WIT_PICTURES}/{{id}}.*",)
    """Where a picture may lie, tried in order; this stage puts those of the pixel files into its own folder."""
    pixels: str = "wit/image_pixels/*.gz"
    """The files of pixels, by a pattern; empty: the rows hold their pictures, or the pictures lie there already."""


class IglueConfig(DatasetConfig):
    """IGLUE's sets relative to the root; a task that is none is left out."""

    xvnli: XvnliConfig | None = XvnliConfig()
    """Visual entailment."""
    xgqa: XgqaConfig | None = XgqaConfig()
    """Questions about pictures."""
    marvl: MarvlConfig | None = MarvlConfig()
    """Statements about two pictures."""
    xflickrco: XflickrcoConfig | None = XflickrcoConfig()
    """Retrieval of photographs."""
    wit: WitConfig | None = WitConfig()
    """Retrieval of Wikipedia's pictures."""
    exclude: tuple[str, ...] = ()
    """Files that name photographs evaluated elsewhere, such as the lists of a retrieval set: no row of them is trained
    on.
    """
    sizes: IglueSizes = IglueSizes()
    """How large the sets are that are made of the world."""

    @model_validator(mode="after")
    def _one_task(self) -> "IglueConfig":
        if not self.tasks():
            raise ValueError(f"none of {', '.join(TASKS)} is there; expected one at least")
        return self

    def tasks(self) -> dict[str, TaskConfig]:
        """The tasks that are there."""
        return {task: files for task in TASKS if (files := getattr(self, task)) is not None}


def describe(config: IglueConfig, root: Path, folder: Path) -> Iglue:
    """The description of the configured sets under a root; nothing is checked."""
    tasks = {}
    for task, files in config.tasks().items():
        named = {name: getattr(files, name) for name in TaskFiles.__dataclass_fields__}
        for split in ("train", "valid"):
            names = named[split]
            named[split] = tuple(n for n in ([names] if isinstance(names, str) else names) if n)
        tasks[task] = TaskFiles(**named)
    answers = config.xgqa.answers if config.xgqa else ""
    trusted = bool(config.xgqa and config.xgqa.trusted)
    return Iglue(root, Path(folder).absolute(), tasks, answers, trusted, config.exclude)


def _read_files(config: IglueConfig, root: Path) -> Iterator[Path]:
    """The annotation files that are there, and the folders of the pictures."""
    yield from (root / name for name in config.exclude)
    for files in config.tasks().values():
        names = [
            getattr(files, name)
            for name in ("train", "valid", "test", "english_test", "few_shot", "translated")
        ]
        names += [getattr(files, "answers", ""), getattr(files, "pixels", "")]
        for name in (n for group in names for n in ([group] if isinstance(group, str) else group) if n):
            pattern = name.replace("{language}", "*").replace("{shots}", "*")
            yield from sorted(root.glob(pattern)) if "*" in pattern else [root / name]
        for folder in dict.fromkeys(fixed_folder(pattern) for pattern in files.pictures):
            if folder and folder != WIT_PICTURES:
                yield root / folder


def inputs(config: IglueConfig) -> Mapping[str, Request]:
    """The world, unless the sets lie in a folder of their own."""
    return world_unless_rooted(config)


def run(context: StageContext) -> dict[str, float]:
    """Write the sets where they are made of the world; read every row, look for every picture, and describe them.

    Metrics: `<task>_<split>_rows` (the test sets in English, or else in their first language), `<task>_languages`,
    `<task>_pictures`; `missing_rows` (of all files of training, validation and test: without their picture),
    `evaluated_rows` (training rows of an evaluated picture), `empty_sentences`, `unmatched_addresses`; all of these are
    listed, and left out.
    """
    config, root = context.config, data_root(context)
    if not config.root:
        write_iglue(config.sizes, root, context.folder, context.progress)
    data = describe(config, root, context.folder)
    unmatched = _extract(context, data) if config.wit else []
    metrics: dict[str, float] = {}
    missing: list[str] = []
    for task in data.tasks:
        for split, language, shots in data.places(task):
            for path in data.paths(task, split, language, shots):
                require(path, f"IGLUE's rows of {task}")
            everyone, usable, _ = data.read(task, split, language, shots)
            name = " ".join(part for part in (task, split, language, shots and f"{shots} shots") if part)
            if shots is None:
                kept = set(map(id, usable))
                missing += [f"{name} {_shown(row)}" for row in everyone if id(row) not in kept]
                if not everyone:
                    raise UserError(f"iglue: {name} has no row that can be read; expected one at least.")
                if not usable:
                    raise UserError(
                        f"iglue: of {len(everyone):,} rows of {name} none has its picture by the patterns "
                        f"{', '.join(data.task(task).pictures)}. Put the pictures there, correct "
                        f"`iglue.{task}.pictures`, or leave the task out with `iglue.{task}: null`."
                    )
                metrics.setdefault(f"{task}_{split}_rows", float(len(usable)))
        metrics[f"{task}_languages"] = float(len(data.languages(task)))
        metrics[f"{task}_pictures"] = float(len(data.pictures([task])))
    evaluated = [
        f"{task} {_shown(row)}"
        for task in data.tasks
        if data.task(task).train
        for row in _dropped(data, task)
    ]
    for task in data.tasks:
        if f"{task}_train_rows" in metrics:
            metrics[f"{task}_train_rows"] = float(len(data.rows(task, "train")))
    empty = list(_empty(data)) if config.xflickrco else []
    counts = (
        ("missing", missing, "missing_rows", "rows are left out, of which a picture is missing"),
        ("evaluated", evaluated, "evaluated_rows", "training rows are left out, whose picture is evaluated"),
        ("empty", empty, "empty_sentences", "empty sentences are left out, and pictures without another"),
        (
            "unmatched",
            unmatched,
            "unmatched_addresses",
            "addresses of WIT have no picture in the pixel files",
        ),
    )
    for file, lines, metric, what in counts:
        metrics[metric] = float(len(lines))
        context.list_left_out(f"{file}.txt", lines, what)
    data.save()
    shown = ", ".join(f"{task} in {', '.join(data.languages(task))}" for task in data.tasks)
    context.log(f"IGLUE: {shown}")
    return metrics


def _shown(row) -> str:
    """A row in few words."""
    name = getattr(row, "identifier", None) or getattr(row, "question_id", None) or row.image_id
    return f"{name} {getattr(row, 'image_id', '')}".strip()


def _dropped(data: Iglue, task: str) -> list:
    """Training rows that are there and not trained on."""
    usable, kept = data.read(task, "train")[1], data.rows(task, "train")
    names = set(map(id, kept))
    return [row for row in usable if id(row) not in names]


def _empty(data: Iglue) -> Iterator[str]:
    for split, language, shots in data.places("xflickrco"):
        name = " ".join(part for part in (split, language, shots and f"{shots} shots") if part)
        for path in data.paths("xflickrco", split, language, shots):
            left_out: list[str] = []
            read_captions_by_picture(path, left_out)
            yield from (f"{name} {path.name}{line.removeprefix(str(path))}" for line in left_out)


def _extract(context: StageContext, data: Iglue) -> list[str]:
    """Put the pictures of WIT's addresses into the stage's folder, unless they are there; returns those without one."""
    captions = [path for place in data.places("wit") for path in data.paths("wit", *place[:2])]
    urls = dict.fromkeys(row.url for path in captions for row in read_wit(path))
    there = {path.stem for path in (context.folder / WIT_PICTURES).glob("*.*")} | set(data.pictures(["wit"]))
    data.forget()
    wanted = [url for url in urls if wit_id(url) not in there]
    found: set[str] = set()
    pattern = context.config.wit.pixels
    files = (
        [path for place in (context.folder, data.root) for path in sorted(place.glob(pattern))]
        if pattern
        else []
    )
    if pattern and wanted and not files:
        raise UserError(
            f"iglue.wit.pixels: no file in {data.root} is called {pattern}, and the pictures of {len(wanted):,} "
            "addresses are wanted. Put the pixel files there, or leave the task out with `iglue.wit: null`."
        )
    need = set(wanted)
    for source in (pixels_in_rows(captions, need), pixels_of(files, need)):
        for url, content in source:
            if url in need and url not in found and (suffix := _suffix(content)):
                found.add(url)
                with atomic(
                    context.folder / WIT_PICTURES / f"{wit_id(url)}.{suffix}", flush=False
                ) as temporary:
                    temporary.write_bytes(content)
                context.progress(len(found), len(wanted))
    return [url for url in wanted if url not in found]


def _suffix(content: bytes) -> str:
    """What the bytes are, if they begin a picture; else empty."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return (image.format or "").lower()
    except Exception:  # each decoder refuses in its own way
        return ""


def open_iglue(run: Run) -> Iglue:
    """IGLUE's sets of a run, checked if they are not yet."""
    return load_iglue(run.stage("iglue").folder)


IGLUE = Stage(
    "iglue", IglueConfig, run, inputs, outside=below_root(_read_files), reused=point_to_root,
    doc="Check IGLUE's five sets, made of the world unless a folder has them, and describe them.",
)  # fmt: skip
