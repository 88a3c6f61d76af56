"""The description of IGLUE's sets that the stage `iglue` writes: which files hold what, and where the pictures lie.

As `asked_data` for LXMERT's sets. Files are named by patterns, because there is one for each language and each number
of shots: `{language}` and `{shots}` in the name of an annotation file; for pictures see `picture_patterns`. Every name
is looked for in the stage's own folder (the world's sets are written there, and WIT's pictures), then below the root.

Training sees no evaluated picture: a training row whose picture is in the validation or test set of any task, or in a
further list, is left out (CCL-35), as Flickr30k's photographs are in several sets under other splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vlpnb.data.description import SPLITS, read_description, write_description
from vlpnb.data.evaluated import HOLDS, photo_key, read_evaluated
from vlpnb.data.fields import as_list, as_text
from vlpnb.data.fields import field as json_field
from vlpnb.data.iglue import (
    CaptionRow,
    EntailmentRow,
    PairRow,
    read_captions_by_picture,
    read_entailment,
    read_pair_rows,
)
from vlpnb.data.picture_patterns import PicturePatterns
from vlpnb.data.text_files import read_json, require
from vlpnb.data.wit import by_picture, read_wit
from vlpnb.data.xgqa import QuestionRow, read_xgqa
from vlpnb.errors import UserError, did_you_mean

TASKS = ("xvnli", "xgqa", "marvl", "xflickrco", "wit")
ENGLISH = "en"
Row = EntailmentRow | QuestionRow | PairRow | CaptionRow
_MOST_SHOTS = re.compile(r"\d+")


@dataclass(frozen=True)
class TaskFiles:
    """The files of one task by pattern; "" for what there is not."""

    train: tuple[str, ...] = ()  # English
    valid: tuple[str, ...] = ()  # English, or `{language}`
    test: str = ""  # `{language}`
    english_test: str = ""  # where English has a test file of another name
    few_shot: str = ""  # `{language}`, `{shots}`
    translated: str = ""  # `{language}`: the test set, machine-translated to English
    languages: tuple[str, ...] = ()  # the tested ones; empty: all that have a test file
    pictures: tuple[str, ...] = ()  # tried one after the other

    @classmethod
    def from_description(cls, values: Mapping[str, Any]) -> TaskFiles:
        """What `asdict` gave, after a journey through JSON."""
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


@dataclass(frozen=True)
class Iglue:
    """IGLUE's sets. `folder` is the stage's own; patterns are looked for there and below `root`.

    Rows name their pictures by their files' stems, so that one photograph has one id in every set; before it stand the
    language and the concept where MaRVL's folders have them.
    """

    root: Path
    folder: Path
    files: dict[str, TaskFiles]
    answer_file: str = ""  # xGQA's candidates
    trusted: bool = False  # xGQA's pickles may be opened
    exclude: tuple[str, ...] = ()  # files that name further photographs that are evaluated
    _read: dict[tuple, tuple[list, list, dict]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that are there, of `TASKS`."""
        return tuple(self.files)

    def task(self, name: str) -> TaskFiles:
        """The files of a task. UserError for one that is not there."""
        if name not in self.files:
            raise UserError(
                f"iglue: there is no task '{name}'{did_you_mean(name, self.files)}; there are {', '.join(self.tasks)}."
            )
        return self.files[name]

    def languages(self, task: str) -> tuple[str, ...]:
        """The languages of a task that have a test file, English first."""
        files = self.task(task)
        found = {values["language"] for values in self._matching(files.test)}
        if files.english_test and self._path(files.english_test).is_file():
            found.add(ENGLISH)
        return _english_first(found & (set(files.languages) or found))

    def translated(self, task: str) -> tuple[str, ...]:
        """The languages of a task that have a test file machine-translated to English."""
        return _english_first(values["language"] for values in self._matching(self.task(task).translated))

    def valid_languages(self, task: str) -> tuple[str, ...]:
        """The languages of a task that have a validation file: English, or those of `{language}`."""
        names = [name for name in self.task(task).valid if name]
        spoken = [v["language"] for name in names if "{language}" in name for v in self._matching(name)]
        return _english_first([*spoken, *(ENGLISH for name in names if "{language}" not in name)])

    def shots(self, task: str, language: str) -> tuple[str, ...]:
        """The names of a language's few-shot files, such as 1, 5, 10 and 10x2: fewest pictures first."""
        pattern = self.task(task).few_shot.replace("{language}", language)
        found = {values["shots"] for values in self._matching(pattern)}
        return tuple(sorted(found, key=lambda shots: ([int(n) for n in _MOST_SHOTS.findall(shots)], shots)))

    def xvnli(self, split: str, language: str = ENGLISH, **which: Any) -> list[EntailmentRow]:
        """XVNLI's rows, those without a label among them; see `rows`."""
        return self.rows("xvnli", split, language, **which)

    def xgqa(self, split: str, language: str = ENGLISH, **which: Any) -> list[QuestionRow]:
        """xGQA's questions; see `rows`."""
        return self.rows("xgqa", split, language, **which)

    def marvl(self, split: str, language: str = ENGLISH, **which: Any) -> list[PairRow]:
        """MaRVL's pairs of pictures, in English NLVR2's; see `rows`."""
        return self.rows("marvl", split, language, **which)

    def xflickrco(self, split: str, language: str = ENGLISH, **which: Any) -> list[CaptionRow]:
        """xFlickr&CO's pictures, in English those of Flickr30k to train on; see `rows`."""
        return self.rows("xflickrco", split, language, **which)

    def wit(self, split: str, language: str = ENGLISH, **which: Any) -> list[CaptionRow]:
        """WIT's pictures; see `rows`."""
        return self.rows("wit", split, language, **which)

    def rows(
        self,
        task: str,
        split: str,
        language: str = ENGLISH,
        *,
        shots: str | int | None = None,
        translated: bool = False,
        everything: bool = False,
    ) -> list:
        """The rows of a file in its order: those that can be used, or `everything`.

        A row cannot be used whose picture is missing, or that is to be trained on and has an evaluated picture.

        Args:
            split: train, valid or test. English alone is trained and validated on; xGQA validates in every language.
            shots: of the split train: the few-shot file of this language with so many pictures.
            translated: of the split test: this language's set, machine-translated to English.
        Raises:
            UserError: what is asked for is not there (the nearest that is there is named), or its file is damaged.
        """
        everyone, usable, _ = self.read(task, split, language, shots, translated)
        if split == "train" and not everything:
            known = self._evaluated_photographs
            usable = [row for row in usable if known.isdisjoint(map(_photograph, pictures_of(row)))]
        return list(everyone if everything else usable)

    def read(
        self,
        task: str,
        split: str,
        language: str = ENGLISH,
        shots: str | int | None = None,
        translated: bool = False,
    ) -> tuple[list, list, dict[str, Path]]:
        """All rows of a file, those whose pictures are there, and these pictures by id; see `rows`."""
        shots = None if shots is None else str(shots)
        key = (task, split, language, shots, translated)
        if key not in self._read:
            self._read[key] = self._found(task, split, language, self.paths(*key))
        return self._read[key]

    def paths(
        self,
        task: str,
        split: str,
        language: str = ENGLISH,
        shots: str | None = None,
        translated: bool = False,
    ) -> tuple[Path, ...]:
        """The files of some rows, which may not exist; see `rows`."""
        files = self.task(task)
        if split not in SPLITS:
            raise UserError(
                f"iglue: split '{split}'{did_you_mean(split, SPLITS)}; expected {', '.join(SPLITS)}."
            )
        if (shots and split != "train") or (translated and split != "test"):
            raise UserError(
                f"iglue: {task} {split}: shots are of the split train, translations of the split test."
            )
        if shots is not None:
            known = self.shots(task, language)
            if shots not in known:
                raise UserError(
                    f"iglue: {task} has no training file of {shots} shots in '{language}'; there are "
                    f"{', '.join(known) or 'none in this language'}."
                )
            names: tuple[str, ...] = (files.few_shot.replace("{shots}", shots),)
        elif split == "test":
            known = self.languages(task)
            if language not in known:
                raise UserError(
                    f"iglue: {task} is not tested in '{language}'{did_you_mean(language, known)}; there are "
                    f"{', '.join(known) or 'no test files'}."
                )
            english = language == ENGLISH and files.english_test and not translated
            names = (files.translated if translated else files.english_test if english else files.test,)
        else:
            names = files.train if split == "train" else files.valid
            if language != ENGLISH and not any("{language}" in name for name in names):
                raise UserError(
                    f"iglue: {task} has no split '{split}' in '{language}', but in English; few-shot files are asked "
                    "for with `shots`."
                )
        names = tuple(name for name in names if name)
        if not names:
            raise UserError(
                f"iglue: {task} has no {'translation' if translated else f'split {split!r}'}: no file is named."
            )
        return tuple(self._path(name.replace("{language}", language)) for name in names)

    def answers(self) -> tuple[str, ...]:
        """xGQA's candidates in file order; without a file those of the training questions, the frequent ones first."""
        return self._answers

    @cached_property
    def _answers(self) -> tuple[str, ...]:
        if not self.answer_file:
            said = [row.answer for row in self.xgqa("train", everything=True) if row.answer is not None]
            return tuple(sorted(set(said), key=lambda answer: (-said.count(answer), answer)))
        path = self._path(self.answer_file)
        data = read_json(path, "xGQA's answers: a list, or an object answer → class")
        if isinstance(data, dict):
            return tuple(data)
        return tuple(as_text(answer, f"{path}: [{i}]") for i, answer in enumerate(as_list(data, str(path))))

    def evaluated(self) -> frozenset[str]:
        """The ids of all pictures of validation and test sets, of every task: no training may see them."""
        return frozenset(self.pictures(splits=("valid", "test")))

    @cached_property
    def _evaluated_photographs(self) -> frozenset[str]:
        """What is evaluated here and elsewhere, under the names that photographs share."""
        elsewhere = (read_evaluated(require(self._path(name), HOLDS)) for name in self.exclude)
        return frozenset(map(_photograph, self.evaluated())).union(*elsewhere)

    def pictures(self, tasks: Iterable[str] | None = None, splits: Iterable[str] = SPLITS) -> dict[str, Path]:
        """Id → file of the pictures that some tasks' rows name and that are there, in the order of the rows."""
        found: dict[str, Path] = {}
        for task in self.tasks if tasks is None else tasks:
            for place in self.places(task, splits):
                found |= self.read(task, *place)[2]
        return found

    def places(self, task: str, splits: Iterable[str] = SPLITS) -> Iterator[tuple[str, str, str | None]]:
        """(split, language, shots) of every set of rows of a task that is there."""
        files = self.task(task)
        for split in splits:
            if split == "test":
                yield from ((split, language, None) for language in self.languages(task))
                continue
            names = files.train if split == "train" else files.valid
            if any(names):
                spoken = self.valid_languages(task) if split == "valid" else (ENGLISH,)
                yield from ((split, language, None) for language in spoken)
            if split == "train" and files.few_shot:
                spoken = {
                    values["language"] for values in self._matching(files.few_shot.replace("{shots}", "*"))
                }
                for language in sorted(spoken):
                    yield from ((split, language, shots) for shots in self.shots(task, language))

    @cached_property
    def _all_pictures(self) -> dict[str, Path]:
        return self.pictures()

    def forget(self) -> None:
        """Read files and look for pictures again when they are asked for: the folder has changed."""
        for name in ("_finders", "_all_pictures", "_evaluated_photographs", "_answers"):
            self.__dict__.pop(name, None)
        self._read.clear()

    def image_path(self, image_id: str) -> Path:
        """The file of a picture. UserError for an id that no row has."""
        if image_id not in self._all_pictures:
            raise UserError(f"iglue: no row has a picture '{image_id}' that is there.")
        return self._all_pictures[image_id]

    def _path(self, name: str) -> Path:
        """The file of a name: the stage's own, or else the one below the root, which may not exist."""
        own = self.folder / name
        return own if own.exists() else self.root / name

    def _matching(self, pattern: str) -> list[dict[str, str]]:
        """What the fields of a pattern stand for in each file that is there."""
        if not pattern:
            return []
        form = re.escape(pattern).replace(r"\*", "[^/]*")
        form = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", form)
        names = re.sub(r"\{\w+\}", "*", pattern)
        found = []
        for place in (self.folder, self.root):
            for path in sorted(place.glob(names)) if place.is_dir() else ():
                if match := re.fullmatch(form, path.relative_to(place).as_posix()):
                    found.append(match.groupdict())
        return found

    def _found(
        self, task: str, split: str, language: str, paths: tuple[Path, ...]
    ) -> tuple[list, list, dict[str, Path]]:
        rows = [row for path in paths for row in self._rows(task, require(path, f"IGLUE's rows of {task}"))]
        everyone, usable, pictures = [], [], {}
        for row in rows:
            about = {
                "split": split,
                "language": getattr(row, "language", "") or language,
                "concept": getattr(row, "concept", ""),
            }
            names = _named(row)
            there = [self._finders[task].find(each, about) for each in names]
            ids = [
                name if found is None else found[0] for found, (name, *_) in zip(there, names, strict=True)
            ]
            row = replace(row, **dict(zip(_fields(row), ids, strict=True)))
            everyone.append(row)
            if None not in there:
                usable.append(row)
                pictures |= dict(found for found in there if found is not None)
        return everyone, usable, pictures

    def _rows(self, task: str, path: Path) -> list:
        if task == "xgqa":
            answers = self.answers() if path.suffix == ".pkl" else ()
            return read_xgqa(path, answers, self.trusted)
        if task == "wit":
            return by_picture(read_wit(path))
        readers = {"xvnli": read_entailment, "marvl": read_pair_rows, "xflickrco": read_captions_by_picture}
        return readers[task](path)

    @cached_property
    def _finders(self) -> dict[str, PicturePatterns]:
        places = (self.folder, self.root)
        return {task: PicturePatterns(places, files.pictures) for task, files in self.files.items()}

    def save(self) -> Path:
        """Write `iglue.json` into the stage's folder."""
        about = {
            "tasks": {task: asdict(files) for task, files in self.files.items()},
            "answers": self.answer_file,
            "trusted": self.trusted,
            "exclude": self.exclude,
        }
        return write_description(self.folder, "iglue", self.root, about)


def load_iglue(folder: Path) -> Iglue:
    """Read the `iglue.json` of a folder. UserError if it is absent or lacks a field."""
    about, root, where = read_description(folder, "iglue")
    tasks = json_field(about, "tasks", where)
    return Iglue(
        root,
        Path(folder).absolute(),
        {task: TaskFiles.from_description(values) for task, values in tasks.items()},
        json_field(about, "answers", where),
        json_field(about, "trusted", where),
        tuple(json_field(about, "exclude", where)),
    )


def _english_first(languages: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(languages), key=lambda language: (language != ENGLISH, language)))


def _photograph(image_id: str) -> str:
    """The name that a photograph has in every set; pictures that are known by their folders keep theirs."""
    return image_id if "/" in image_id else photo_key(image_id)


def pictures_of(row: Row) -> tuple[str, ...]:
    """The ids of a row's pictures: one, or left and right."""
    return tuple(getattr(row, name) for name in _fields(row))


def _fields(row: Row) -> tuple[str, ...]:
    return ("left", "right") if isinstance(row, PairRow) else ("image_id",)


def _named(row: Row) -> list[tuple[str, ...]]:
    """The names under which each picture of a row may lie."""
    if isinstance(row, PairRow):
        return [
            tuple(filter(None, names))
            for names in zip((row.left, row.right), row.named or ("", ""), strict=True)
        ]
    return [(row.image_id,)]
