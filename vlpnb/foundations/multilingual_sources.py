"""Where pictures with sentences in several languages and parallel text are, and how they are read, for `multilingual`.

A source is a pattern of files in one layout (`vlpnb.data.multilingual`, `vlpnb.data.parallel`). Sentences meet their
picture by what all sets call it alike (`photo_key`), so that Multi30k's German describes Flickr8k's photographs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from vlpnb.config import Config, Name
from vlpnb.data.captions import PictureFinder, read_rows, refuse_outside, split_missing
from vlpnb.data.description import SPLITS, within
from vlpnb.data.evaluated import photo_key
from vlpnb.data.images import picture_id
from vlpnb.data.multilingual import (
    LANGUAGE,
    Picture,
    Said,
    read_flickr_sentences,
    read_image_list,
    read_lines_about,
    read_records,
)
from vlpnb.data.parallel import read_line_parallel, read_pairs
from vlpnb.data.retrieval_lists import read_retrieval_list
from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.files import atomic
from vlpnb.foundations.datasets import DatasetConfig
from vlpnb.text.cleaning import says_nothing

WORLD = {"train": "train", "valid": "val", "test": "test"}  # as Multi30k calls the splits
LANGUAGES = ("en", "de", "fr", "id", "zh")


def _code(code: str) -> str:
    if not LANGUAGE.fullmatch(code):
        raise ValueError(f"expected the code of a language such as en or zh, found {code!r}")
    return code


Language = Annotated[str, AfterValidator(_code)]


class CaptionSource(Config):
    """Files with sentences about pictures, relative to the root."""

    format: Literal["lines", "coco", "karpathy", "flickr", "retrieval", "records"] = "lines"
    """How they are laid out: lines (Multi30k), coco (a file of annotations for each language), karpathy, flickr,
    retrieval or records (CCLM's JSON lines)."""
    files: tuple[str, ...]
    """The files; {language} and {part} are replaced, and * stands for anything."""
    languages: tuple[Language, ...] = ()
    """Which languages they have; empty: all of the stage's. Records say it themselves."""
    parts: tuple[str, ...] = ("",)
    """What {part} stands for, one after the other."""
    listed: str = ""
    """Lines only: the list of the pictures that the lines describe; {part} is replaced."""
    splits: tuple[Name, ...] = ()
    """Which splits take sentences from here; empty: all, each those of its pictures."""


class ParallelSource(Config):
    """Files with sentences of one meaning, relative to the root."""

    format: Literal["lines", "pairs"] = "lines"
    """A file for each language, line by line; or JSON lines {source_text, target_text}, in the order of `languages`."""
    files: tuple[str, ...]
    """The files; {language} and {part} are replaced, and * stands for anything."""
    languages: tuple[Language, ...] = Field((), min_length=0)
    """Which languages they have, two or more; empty: all of the stage's."""
    parts: tuple[str, ...] = ("",)
    """What {part} stands for, one after the other."""
    listed: str = ""
    """The list of the pictures that the lines describe; empty: they describe none that is evaluated on."""
    split: Name = "train"
    """The split of the lines."""


class MultilingualConfig(DatasetConfig):
    """Pictures with sentences in several languages, relative to the root."""

    languages: tuple[Language, ...] = Field(LANGUAGES, min_length=1)
    """The languages that are kept."""
    captions: tuple[CaptionSource, ...] = tuple(
        CaptionSource(
            files=("multi30k/task2/raw/{part}.*.{language}.gz",),
            parts=(public,),
            listed="multi30k/task2/image_splits/{part}_images.txt",
            splits=(split,),
        )
        for split, public in WORLD.items()
    )
    """Where the sentences about pictures are."""
    images: str = "images/{split}"
    """Folder of the pictures; {split} is replaced by the split's name."""
    pictures: dict[Name, str] | None = Field(default_factory=dict)
    """For each split the list of its pictures; empty or null: those that its sentences describe."""
    parallel: tuple[ParallelSource, ...] = tuple(
        ParallelSource(
            files=("multi30k/task2/raw/{part}.*.{language}.gz",),
            parts=(public,),
            listed="multi30k/task2/image_splits/{part}_images.txt",
            split=split,
        )
        for split, public in list(WORLD.items())[:2]
    )
    """Where parallel text is."""
    exclude: tuple[str, ...] = ()
    """Files that name photographs on which models are evaluated: none is in a training or validation split."""
    max_pictures: int | None = Field(None, ge=1)
    """Only the first pictures of each split: for a dry run."""
    max_captions: int | None = Field(None, ge=1)
    """Only the first sentences of each picture and language."""
    max_lines: int | None = Field(None, ge=1)
    """Only the first parallel lines of each split."""

    @model_validator(mode="after")
    def _known(self) -> "MultilingualConfig":
        for source in (*self.captions, *self.parallel):
            if unknown := [language for language in source.languages if language not in self.languages]:
                raise ValueError(
                    f"languages: a source has '{unknown[0]}', which is none of {', '.join(self.languages)}"
                )
        for source in self.captions:
            if source.format == "lines" and not source.listed:
                raise ValueError(
                    "captions: `lines` need `listed`, the list of the pictures that they describe"
                )
            if not source.splits and not self.pictures:
                raise ValueError(
                    "captions: without `pictures`, a source says in `splits` whose sentences it has"
                )
            if named := [split for split in source.splits if self.pictures and split not in self.pictures]:
                raise ValueError(f"captions: the split '{named[0]}' has no list in `pictures`")
        for source in self.parallel:
            if source.format == "pairs" and len(source.languages) != 2:
                raise ValueError("parallel: `pairs` have two `languages`, that of source_text first")
        return self

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, training first, testing last."""
        named = [*(self.pictures or ()), *(split for source in self.captions for split in source.splits)]
        return tuple(sorted(dict.fromkeys(named), key=lambda split: (order_of(split), split)))


def order_of(split: str) -> int:
    """Training first, testing last."""
    return SPLITS.index(split) if split in SPLITS else 1


def _meant(pattern: str, root: Path, part: str = "", language: str = "") -> list[Path]:
    """The files that a pattern of a source means, whether they are there or not."""
    name = pattern.replace("{part}", part).replace("{language}", language)
    found = sorted(root.glob(name)) if "*" in name else []
    return found or [root / name]


def places(pattern: str, root: Path, part: str = "", language: str = "") -> list[Path]:
    """The files that a pattern of a source means. UserError where there is none."""
    return [
        require(path, "what the stage `multilingual` reads") for path in _meant(pattern, root, part, language)
    ]


def _languages(source: CaptionSource | ParallelSource, config: MultilingualConfig) -> tuple[str, ...]:
    return source.languages or config.languages


def read_files(config: MultilingualConfig, root: Path) -> Iterator[Path]:
    """Every file and folder that a configuration means, whether it is there or not."""
    for source in (*config.captions, *config.parallel):
        for part in source.parts:
            for pattern in source.files:
                for language in _languages(source, config) if "{language}" in pattern else ("",):
                    yield from _meant(pattern, root, part, language)
            if source.listed:
                yield from _meant(source.listed, root, part)
    for name in (*(config.pictures or {}).values(), *config.exclude):
        yield root / name
    yield from dict.fromkeys(root / config.images.replace("{split}", split) for split in config.splits)


def _said(
    source: CaptionSource, config: MultilingualConfig, root: Path, kind: str, folder: Path
) -> Iterator[Said]:
    """The sentences of a source; pictures that records bring along are written below `folder`."""
    for part in source.parts:
        for pattern in source.files:
            if source.format == "records":
                for path in places(pattern, root, part):
                    yield from _of_records(path, config.languages, folder)
                continue
            for language in _languages(source, config):
                for path in places(pattern, root, part, language):
                    if source.format == "lines":
                        (listed,) = places(source.listed, root, part)
                        yield from read_lines_about(path, listed, language)
                    elif source.format == "flickr":
                        yield from read_flickr_sentences(path, language)
                    elif source.format in ("coco", "karpathy"):
                        inside = None if config.pictures or source.format == "coco" else kind
                        for found in read_rows(source.format, path, inside):
                            yield from (Said(found.name, language, caption) for caption in found.sentences)
                    else:
                        for row in read_retrieval_list(path, "train" if kind == "train" else "test"):
                            yield from (Said(row.image, language, caption) for caption in row.captions)


def _of_records(path: Path, languages: Iterable[str], folder: Path) -> Iterator[Said]:
    for record in read_records(path):
        image = record.image
        if record.binary is not None:
            image = f"{image}.{'png' if record.binary.startswith(bytes.fromhex('89504e47')) else 'jpg'}"
            if not (folder / image).exists():
                with atomic(folder / image, flush=False) as temporary:
                    temporary.write_bytes(record.binary)
            image = str(folder / image)
        for captions in record.captions:
            yield from (
                Said(image, language, text) for language, text in captions.items() if language in languages
            )


@dataclass
class Reading:
    """What is found on the way, for lists and metrics."""

    silent: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)


def pictures_of(
    config: MultilingualConfig, root: Path, split: str, folder: Path, found: Reading
) -> dict[str, Picture]:
    """The pictures of a split by `photo_key`, whether they are evaluated on or not, with one sentence at least."""
    names: dict[str, str] = {}
    if config.pictures:
        listed = require(root / config.pictures[split], f"the pictures of the split '{split}', one a line")
        for name in filter(None, read_image_list(listed)):
            if names.setdefault(photo_key(name), name) != name:
                raise UserError(
                    f"{listed}: {names[photo_key(name)]} and {name} are one photograph; expected it once."
                )
    captions: dict[str, dict[str, list[str]]] = {}
    for source in config.captions:
        if source.splits and split not in source.splits:
            continue
        for said in _said(source, config, root, split, folder / "pictures"):
            key = photo_key(said.image)
            if config.pictures and key not in names:
                continue
            sentence = " ".join(said.sentence.split())
            names.setdefault(key, said.image)
            if says_nothing(sentence):
                found.silent.append(f"{split}: {said.image}, {said.language}: {said.sentence[:60]!r}")
                continue
            captions.setdefault(key, {}).setdefault(said.language, []).append(sentence)
    images = Path(root / config.images.replace("{split}", split))
    finder = PictureFinder(images, split)
    pictures = {}
    for key, name in names.items():
        if key not in captions:
            continue
        own = Path(name).is_absolute()
        if not own:
            refuse_outside(name, f"multilingual: split '{split}'")
        path = Path(name) if own else finder.path(name)
        kept = {
            language: tuple(captions[key][language][: config.max_captions])
            for language in config.languages
            if language in captions[key]
        }
        pictures[key] = Picture(picture_id(path.name if own else name), path, kept)
    present, missing = split_missing(pictures.values())
    found.missing += [f"{split}: {within(picture.path, root)}" for picture in missing]
    if not present:
        raise UserError(
            f"multilingual: none of the {len(missing):,} pictures of the split '{split}' is there; expected the first "
            f"at {missing[0].path if missing else images}. Put the pictures there or correct `multilingual.images`."
        )
    there = {picture.id for picture in present}
    return {key: picture for key, picture in pictures.items() if picture.id in there}


def parallel_of(
    config: MultilingualConfig, root: Path, split: str, evaluated: frozenset[str], found: Reading
) -> list[dict[str, str]]:
    """The parallel lines of a split that describe no evaluated photograph, in two languages at least."""
    lines: list[dict[str, str]] = []
    for source in config.parallel:
        if source.split != split:
            continue
        for part in source.parts:
            about: list[str] | None = None
            if source.listed:
                about = [
                    photo_key(name)
                    for path in places(source.listed, root, part)
                    for name in read_image_list(path)
                ]
            for where, read in _parallel_files(source, config, root, part):
                rows = list(read)
                if about is not None and len(about) != len(rows):
                    raise UserError(
                        f"{where}: has {len(rows):,} lines, and the list of their pictures {len(about):,}; expected an "
                        "image for each line."
                    )
                for i, row in enumerate(rows):
                    if about is not None and about[i] in evaluated:
                        found.excluded.append(f"{split}: parallel line {i + 1} of {where.name}: {about[i]}")
                        continue
                    kept = {
                        language: " ".join(text.split())
                        for language, text in row.items()
                        if not says_nothing(text)
                    }
                    if len(kept) > 1:
                        lines.append(kept)
                    else:
                        found.silent.append(f"{split}: parallel line {i + 1} of {where.name}")
    return lines[: config.max_lines]


def _parallel_files(
    source: ParallelSource, config: MultilingualConfig, root: Path, part: str
) -> Iterator[tuple[Path, Iterable[dict[str, str]]]]:
    languages = _languages(source, config)
    for pattern in source.files:
        if source.format == "pairs":
            for path in places(pattern, root, part):
                yield path, read_pairs(path, (languages[0], languages[1]))
            continue
        files = {language: places(pattern, root, part, language) for language in languages}
        if len({len(paths) for paths in files.values()}) > 1:
            told = ", ".join(f"{language} {len(paths)}" for language, paths in files.items())
            raise UserError(f"{root / pattern}: found {told} files; expected as many in each language.")
        for several in zip(*files.values(), strict=True):
            yield several[0], read_line_parallel(dict(zip(files, several, strict=True)))
