"""Descriptions of what LXMERT learns from: sentences by picture, questions, and statements about two pictures.

Beside those of `description`; each is written by the stage of its name and read back by the stages that follow.
`annotated` is all that the files say; `read` is what can be used, that is, whose pictures are there. Without a folder
of pictures (features may come from files) everything can be used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlpnb.data.asked import AskedQuestion, PictureNames, QuestionFormat, read_questions
from vlpnb.data.captions import PictureFinder, refuse_outside
from vlpnb.data.description import load_captions, read_description, within, write_description
from vlpnb.data.fields import field as json_field
from vlpnb.data.gqa import GqaChoices, read_gqa_choices
from vlpnb.data.images import picture_id
from vlpnb.data.limits import held_out
from vlpnb.data.lxmert import AnswerTable, LxmertImage, read_labels, read_lxmert, read_lxmert_pairs
from vlpnb.data.nlvr import read_nlvr
from vlpnb.data.nlvr2 import Nlvr2Example, read_nlvr2
from vlpnb.errors import UserError

PairFormat = Literal["nlvr2", "lxmert", "nlvr"]
CAPTIONS = "captions"  # the source of sentences that come from the stage of this name
VALID = "valid"  # the split that is held out of `train`


def _known(split: str, splits: Mapping[str, Any], what: str) -> None:
    if split not in splits:
        raise UserError(f"there are no {what} for split '{split}'; there are {', '.join(splits)}.")


def _places(files: Mapping[str, tuple[Path, ...]], root: Path) -> dict[str, list[str]]:
    return {split: [within(path, root) for path in paths] for split, paths in files.items()}


def _paths(values: Mapping[str, list[str]], root: Path) -> dict[str, tuple[Path, ...]]:
    return {split: tuple(root / path for path in paths) for split, paths in values.items()}


def _present(paths: Mapping[str, Path]) -> dict[str, Path]:
    """Those whose file exists; a folder is listed once."""
    names: dict[Path, frozenset[str]] = {}
    for folder in {path.parent for path in paths.values()}:
        names[folder] = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
    return {name: path for name, path in paths.items() if path.name in names[path.parent]}


def _folder(images: str, split: str) -> Path | None:
    return Path(images.replace("{split}", split)) if images else None


@dataclass(frozen=True)
class SentenceData:
    """Pictures with sentences by source, and the answer table of their questions."""

    root: Path
    files: dict[str, tuple[Path, ...]]  # of the lxmert layout, per split
    pictures: str = (
        ""  # folder of the pictures, `{split}` is replaced; empty: there are features and no pictures
    )
    sources: tuple[str, ...] = ()  # keep these; empty: all
    answers: Path | None = None
    captions: Path | None = None  # the folder of the stage `captions`, whose sentences these are

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        if self.captions is not None:
            return tuple(load_captions(self.captions).splits.annotations)
        return tuple(self.files)

    def annotated(self, split: str) -> list[LxmertImage]:
        """The pictures of a split that have a sentence, in file order, whether their files exist or not."""
        if self.captions is not None:
            captioned = load_captions(self.captions).annotated(split)
            return [LxmertImage(image.image_id, {CAPTIONS: image.sentences}, {}) for image in captioned]
        _known(split, self.files, "sentences")
        found = []
        for path in self.files[split]:
            for image in read_lxmert(path):
                refuse_outside(image.image_id, str(path))
                kept = {
                    s: texts for s, texts in image.sentences.items() if not self.sources or s in self.sources
                }
                labels = {source: answers for source, answers in image.labels.items() if source in kept}
                if any(kept.values()):
                    found.append(LxmertImage(picture_id(image.image_id), kept, labels))
        return found

    def paths(self, split: str) -> dict[str, Path]:
        """The places of the pictures by id, whether they exist or not; none without a folder of pictures."""
        if self.captions is not None:
            return {image.image_id: image.path for image in load_captions(self.captions).annotated(split)}
        folder = _folder(self.pictures, split)
        if folder is None:
            return {}
        finder = PictureFinder(folder, split)
        return {image.image_id: finder.path(image.image_id) for image in self.annotated(split)}

    def images(self, split: str) -> dict[str, Path]:
        """The pictures of a split that exist, by id."""
        return _present(self.paths(split))

    def read(self, split: str) -> list[LxmertImage]:
        """The pictures of a split with their sentences, those left out whose file does not exist."""
        everything = self.annotated(split)
        if self.captions is None and not self.pictures:
            return everything
        present = self.images(split)
        return [image for image in everything if image.image_id in present]

    def table(self) -> AnswerTable | None:
        """The answer table, or None where the sentences have no answers."""
        return AnswerTable.read(self.answers) if self.answers is not None else None

    def save(self, folder: Path) -> Path:
        """Write `sentences.json` into a stage's folder."""
        about = {
            "files": _places(self.files, self.root),
            "images": self.pictures and within(Path(self.pictures), self.root),
            "sources": self.sources,
            "answers": self.answers and within(self.answers, self.root),
            "captions": self.captions and os.path.relpath(self.captions, folder),
        }
        return write_description(folder, "sentences", self.root, about)


def load_sentences(folder: Path) -> SentenceData:
    """Read the `sentences.json` of a folder. UserError if it is absent or lacks a field."""
    about, root, where = read_description(folder, "sentences")
    images, answers, captions = (json_field(about, name, where) for name in ("images", "answers", "captions"))
    return SentenceData(
        root,
        _paths(json_field(about, "files", where), root),
        str(root / images) if images else "",
        tuple(json_field(about, "sources", where)),
        root / answers if answers else None,
        Path(os.path.normpath(Path(folder) / captions)) if captions else None,
    )


@dataclass(frozen=True)
class QuestionFiles:
    """The files of one task, all in one format."""

    format: QuestionFormat
    questions: dict[str, tuple[Path, ...]]  # files per split; easy_vqa: folders
    annotations: dict[str, tuple[Path, ...]] = field(
        default_factory=dict
    )  # vqa: as many files as of questions
    images: str = (
        ""  # folder of the pictures, `{split}` is replaced; empty: there are features and no pictures
    )
    image_names: str = ""  # see `PictureNames`; `{split}` is replaced
    hold_out: float = 0.0  # the share of the training pictures that become the split `valid`
    choices: dict[str, tuple[Path, ...]] = field(default_factory=dict)  # gqa: answers that fit
    trusted: bool = False  # imdb: its pickles may be opened

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(dict.fromkeys([*self.questions, *([VALID] if self.hold_out else [])]))

    def described(self, root: Path) -> dict[str, Any]:
        """This as plain values, paths relative to the root."""
        named = self.image_names
        return {
            **vars(self),
            **{kind: _places(getattr(self, kind), root) for kind in ("questions", "annotations", "choices")},
            "images": self.images and within(Path(self.images), root),
            "image_names": within(Path(named), root) if named.endswith(".json") else named,
        }

    @classmethod
    def from_description(cls, values: dict[str, Any], root: Path) -> QuestionFiles:
        """What `described` gave."""
        values = dict(values)
        for kind in ("questions", "annotations", "choices"):
            values[kind] = _paths(values[kind], root)
        values["images"] = str(root / values["images"]) if values["images"] else ""
        if values["image_names"].endswith(".json"):
            values["image_names"] = str(root / values["image_names"])
        return cls(**values)

    def asked(self, split: str) -> tuple[list[AskedQuestion], dict[str, Path]]:
        """The questions of a split and the places of their pictures by id."""
        _known(split, dict.fromkeys(self.splits), "questions")
        file_split = "train" if self.hold_out and split == VALID else split
        named = self.image_names.replace("{split}", file_split)
        names = PictureNames(
            _folder(self.images, file_split), Path(named) if named.endswith(".json") else named
        )
        answers = self.annotations.get(file_split, ())
        asked, paths = read_questions(
            self.format, self.questions[file_split], answers, names, file_split, self.trusted
        )
        if self.hold_out and split in ("train", VALID):
            asked = [q for q in asked if held_out(q.image_id, self.hold_out) == (split == VALID)]
            kept = {q.image_id for q in asked}
            paths = {name: path for name, path in paths.items() if name in kept}
        return asked, paths


@dataclass(frozen=True)
class QuestionData:
    """Questions about pictures by task (`vqa`, `gqa`) and split, with the answers that a model chooses from.

    `folder` is the stage's, which holds the answers of each task.
    """

    root: Path
    folder: Path
    tasks: dict[str, QuestionFiles]

    def files(self, task: str) -> QuestionFiles:
        """The files of a task. UserError for an unknown one."""
        if task not in self.tasks:
            raise UserError(f"there are no questions of task '{task}'; there are {', '.join(self.tasks)}.")
        return self.tasks[task]

    def splits(self, task: str) -> tuple[str, ...]:
        """The names of a task's splits."""
        return self.files(task).splits

    def annotated(self, task: str, split: str) -> list[AskedQuestion]:
        """All questions of a split in file order, whether their pictures exist or not."""
        return self.files(task).asked(split)[0]

    def read(self, task: str, split: str) -> list[AskedQuestion]:
        """The questions of a split in file order, those left out whose picture does not exist."""
        asked, paths = self.files(task).asked(split)
        if not paths:
            return asked
        present = _present(paths)
        return [question for question in asked if question.image_id in present]

    def images(self, task: str, split: str) -> dict[str, Path]:
        """The pictures of a split that exist, by id."""
        return _present(self.files(task).asked(split)[1])

    def answers(self, task: str) -> tuple[str, ...]:
        """Class → answer of a task."""
        self.files(task)
        return read_labels(self.folder / answers_file(task))

    def choices(self, task: str, split: str) -> dict[str, GqaChoices] | None:
        """GQA's valid and plausible answers by question, where the files were given."""
        files = self.files(task).choices.get(split, ())
        found = {name: choice for path in files for name, choice in read_gqa_choices(path).items()}
        return found or None

    def save(self) -> Path:
        """Write `questions.json` into the stage's folder."""
        about = {"tasks": {task: files.described(self.root) for task, files in self.tasks.items()}}
        return write_description(self.folder, "questions", self.root, about)


def answers_file(task: str) -> str:
    """The file of a task's answers in the folder of the stage `questions`."""
    return f"{task}_label2ans.json"


def load_questions(folder: Path) -> QuestionData:
    """Read the `questions.json` of a folder. UserError if it is absent or lacks a field."""
    about, root, where = read_description(folder, "questions")
    tasks = json_field(about, "tasks", where)
    files = {task: QuestionFiles.from_description(values, root) for task, values in tasks.items()}
    return QuestionData(root, Path(folder), files)


@dataclass(frozen=True)
class Pair:
    """A statement about a left and a right picture (ids). `label` is None in unlabelled test files."""

    identifier: str  # split-set-pair-sentence
    sentence: str
    left: str
    right: str
    label: bool | None


@dataclass(frozen=True)
class PairData:
    """Statements about two pictures, by split. `folder` is the stage's, which holds the pictures cropped from NLVR."""

    root: Path
    folder: Path
    format: PairFormat
    statements: dict[str, tuple[Path, ...]]
    pictures: str = ""  # folder of the pictures, `{split}` is replaced; nlvr's lie beside its files
    boxes: tuple[int, int] = (0, 1)  # nlvr: which two of the three are shown
    hold_out: float = 0.0  # the share of the training sets of pictures that become the split `valid`

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(dict.fromkeys([*self.statements, *([VALID] if self.hold_out else [])]))

    def pairs(self, split: str) -> tuple[list[Pair], dict[str, Path]]:
        """The statements of a split and the places of their pictures by id, which may not exist."""
        _known(split, dict.fromkeys(self.splits), "statements")
        file_split = "train" if self.hold_out and split == VALID else split
        found, paths = [], {}
        for file in self.statements[file_split]:
            for pair, places in self._file(file, file_split):
                if self.hold_out and split in ("train", VALID):
                    set_of_pictures = "-".join(pair.identifier.split("-")[:2])
                    if held_out(set_of_pictures, self.hold_out) != (split == VALID):
                        continue
                found.append(pair)
                paths |= places
        return found, paths

    def _file(self, file: Path, split: str) -> list[tuple[Pair, dict[str, Path]]]:
        if self.format == "nlvr":
            return [self._boxes(file.stem, e.identifier, e.sentence, e.label) for e in read_nlvr(file)]
        examples = read_nlvr2(file) if self.format == "nlvr2" else read_lxmert_pairs(file)
        folder = _folder(self.pictures, split)
        finder = PictureFinder(folder, split) if folder is not None else None
        return [_two_pictures(example, finder, str(file)) for example in examples]

    def _boxes(self, name: str, identifier: str, sentence: str, label: bool) -> tuple[Pair, dict[str, Path]]:
        places = self.box_files(name, identifier)
        return Pair(f"{name}-{identifier}-0", sentence, *places, label), places

    def box_files(self, name: str, identifier: str) -> dict[str, Path]:
        """Id → file of the two boxes of a picture of NLVR; `name` is that of its file of statements."""
        ids = [f"{name}-{identifier}-box{box}" for box in self.boxes]
        return {image: self.folder / "pictures" / f"{image}.png" for image in ids}

    def annotated(self, split: str) -> list[Pair]:
        """All statements of a split in file order, whether their pictures exist or not."""
        return self.pairs(split)[0]

    def read(self, split: str) -> list[Pair]:
        """The statements of a split in file order, those left out of whose pictures one does not exist."""
        pairs, paths = self.pairs(split)
        if not paths:
            return pairs
        present = _present(paths)
        return [pair for pair in pairs if pair.left in present and pair.right in present]

    def images(self, split: str) -> dict[str, Path]:
        """The pictures of a split that exist, by id."""
        return _present(self.pairs(split)[1])

    def save(self) -> Path:
        """Write `pairs.json` into the stage's folder."""
        about = {
            "format": self.format,
            "statements": _places(self.statements, self.root),
            "images": self.pictures and within(Path(self.pictures), self.root),
            "boxes": self.boxes,
            "hold_out": self.hold_out,
        }
        return write_description(self.folder, "pairs", self.root, about)


def _two_pictures(
    example: Nlvr2Example, finder: PictureFinder | None, where: str
) -> tuple[Pair, dict[str, Path]]:
    ids = []
    places = {}
    for name in (example.left, example.right):
        refuse_outside(name, where)
        ids.append(picture_id(name))
        if finder is not None:
            nested = finder.images / example.directory / name
            places[ids[-1]] = nested if example.directory and nested.is_file() else finder.path(name)
    return Pair(example.identifier, example.sentence, *ids, example.label), places


def load_pairs(folder: Path) -> PairData:
    """Read the `pairs.json` of a folder. UserError if it is absent or lacks a field."""
    about, root, where = read_description(folder, "pairs")
    images = json_field(about, "images", where)
    return PairData(
        root,
        Path(folder),
        json_field(about, "format", where),
        _paths(json_field(about, "statements", where), root),
        str(root / images) if images else "",
        tuple(json_field(about, "boxes", where)),
        json_field(about, "hold_out", where),
    )
