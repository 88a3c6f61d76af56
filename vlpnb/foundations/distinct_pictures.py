"""The distinct pictures of several stages: each once, under all the ids that they have there."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vlpnb.data.asked_data import load_pairs, load_questions, load_sentences
from vlpnb.data.description import load_captions
from vlpnb.errors import UserError

Dataset = Literal["captions", "sentences", "questions", "pairs"]


@dataclass
class Picture:
    """A picture under all its ids; without a file where only its regions are there."""

    names: list[str]
    path: Path | None
    file: object = field(default=None, repr=False)  # which one it is, whatever its names and links

    def __str__(self) -> str:
        return str(self.path) if self.path is not None else self.names[0]


def pictures_of(datasets: Iterable[str], inputs: Mapping[str, Path]) -> list[Picture]:
    """The distinct pictures of some stages, in the order of stages, splits and files.

    Args:
        inputs: the folder of each stage.
    Raises:
        UserError: two files have one id.
    """
    return distinct(entry for dataset in datasets for entry in _listed(dataset, inputs[dataset]))


def distinct(entries: Iterable[tuple[str, Path | None]]) -> list[Picture]:
    """Pictures from ids and files, either of which may come several times; errors as in `pictures_of`."""
    by_name: dict[str, Picture] = {}
    by_file: dict[object, Picture] = {}
    for name, path in entries:
        file = _identity(path) if path is not None else None
        known, same = by_name.get(name), by_file.get(file) if file is not None else None
        if known is None:
            picture = by_name[name] = same or Picture([], path, file)
            picture.names.append(name)
        elif file is None or known.file == file:
            continue
        elif known.file is not None:
            raise UserError(
                f"regions.of: picture '{name}' is {known} and {path}; expected one file for an id, because regions are "
                "found by it. Rename one of them"
            )
        elif same is None:  # until now only its name was known
            picture, known.path, known.file = known, path, file
        else:
            picture = same
            same.names += known.names
            by_name |= dict.fromkeys(known.names, same)
        if file is not None:
            by_file[file] = picture
    return list({id(picture): picture for picture in by_name.values()}.values())


def _identity(path: Path) -> object:
    """Which file this is: two names or links of one have the same."""
    try:
        about = os.stat(path)
    except OSError:
        return os.path.abspath(path)  # it is found missing when it is read
    return about.st_dev, about.st_ino


def _listed(dataset: str, folder: Path) -> Iterator[tuple[str, Path | None]]:
    """Ids and files of the pictures of one stage; no file where features come without pictures."""
    if dataset == "captions":
        captions = load_captions(folder)
        for name in captions.names:
            there = bool(captions.files(name).images)
            yield from ((i.image_id, i.path if there else None) for i in captions.captioned(name))
    elif dataset == "sentences":
        sentences = load_sentences(folder)
        for split in sentences.splits:
            images = sentences.images(split)
            yield from ((entry.image_id, images.get(entry.image_id)) for entry in sentences.read(split))
    elif dataset == "questions":
        questions = load_questions(folder)
        for task in questions.tasks:
            for split in questions.splits(task):
                images = questions.images(task, split)
                names = (question.image_id for question in questions.read(task, split))
                yield from ((name, images.get(name)) for name in dict.fromkeys(names))
    else:
        pairs = load_pairs(folder)
        for split in pairs.splits:
            images = pairs.images(split)
            names = (name for pair in pairs.read(split) for name in (pair.left, pair.right))
            yield from ((name, images.get(name)) for name in dict.fromkeys(names))
