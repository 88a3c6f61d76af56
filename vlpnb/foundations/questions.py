"""Stage `questions`: questions about pictures with the answers that a model chooses from, for VQA and GQA.

Five formats: VQA v2's pair of files, GQA's, LXMERT's own of either, easy-VQA, and the pickled arrays of VLP. Nothing is
dropped without a word: questions whose picture is missing (LXM-20) and answers that no class stands for (LXM-D06) are
counted and listed.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field, model_validator

from vlpnb.config import Config, Name
from vlpnb.data.asked import AskedQuestion, QuestionFormat
from vlpnb.data.asked_data import VALID, QuestionData, QuestionFiles, answers_file
from vlpnb.data.description import SPLITS
from vlpnb.data.lxmert import read_labels
from vlpnb.data.text_files import require
from vlpnb.data.vqa_labels import frequent, most_peoples
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.foundations.datasets import (
    DatasetConfig,
    below_root,
    data_root,
    file_paths,
    point_to_root,
    world_unless_rooted,
)
from vlpnb.stage import Request, Stage, StageContext


class VqaFilesConfig(Config):
    """The files of VQA, relative to the root; another data set than the world says all that differs."""

    format: QuestionFormat = "vqa"
    """How they are laid out: VQA v2's pair of files, LXMERT's JSON (lxmert), easy_vqa, or VLP's arrays (imdb)."""
    questions: dict[Name, str | tuple[str, ...]] = Field(
        default_factory=lambda: {s: f"vqa/v2_OpenEnded_world_{s}_questions.json" for s in SPLITS}
    )
    """File per split (easy_vqa: folder), or several one after the other."""
    annotations: dict[Name, str | tuple[str, ...]] = Field(
        default_factory=lambda: {s: f"vqa/v2_world_{s}_annotations.json" for s in SPLITS}
    )
    """Of the format vqa: the answers of people per split; a split without them is a test set. Of imdb: the types of
    answers alone.
    """
    images: str = "images/{split}"
    """Folder of the pictures; {split} is replaced; empty: features come from files, without pictures."""
    image_names: str = "annotations/captions_{split}.json"
    """Of the format vqa: what a picture's number stands for: a COCO file, a pattern such as COCO_train2014_{:012d}, or
    empty: the picture whose name ends with the number.
    """
    answers: str = "lxmert/vqa/trainval_label2ans.json"
    """The answers by class: trainval_label2ans.json, or a text with one a line (.txt); empty: those of the training
    split.
    """
    min_answers: int = Field(1, ge=1)
    """Without a file of answers: how many training questions an answer must be the best one of (VQA v2: 9)."""
    hold_out: float = Field(0, ge=0, lt=1)
    """The share of the training pictures, by the hashes of their ids, that become the split `valid`."""
    choices: dict[Name, str | tuple[str, ...]] = Field(default_factory=dict)
    """Of the format gqa: the valid and plausible answers per split."""
    trusted: bool = False
    """Of the format imdb: open its files though they are pickles; only of files whose maker you know."""


class GqaFilesConfig(VqaFilesConfig):
    """The files of GQA, relative to the root."""

    format: QuestionFormat = "gqa"
    """How they are laid out: the official files, or LXMERT's JSON (lxmert)."""
    questions: dict[Name, str | tuple[str, ...]] = Field(
        default_factory=lambda: {split: f"gqa/{split}.json" for split in SPLITS}
    )
    """File per split, or several one after the other."""
    annotations: dict[Name, str | tuple[str, ...]] = Field(default_factory=dict)
    """Of the format vqa alone."""
    image_names: str = ""
    """Of the format vqa alone."""
    answers: str = "lxmert/gqa/trainval_label2ans.json"
    """The answers by class (trainval_label2ans.json); empty: those of the training split."""


class QuestionsConfig(DatasetConfig):
    """Questions about pictures; a task that is none is left out."""

    vqa: VqaFilesConfig | None = VqaFilesConfig()
    """VQA v2, or what is shaped like it."""
    gqa: GqaFilesConfig | None = GqaFilesConfig()
    """GQA."""

    @model_validator(mode="after")
    def _one_validation_set(self) -> "QuestionsConfig":
        for task, files in self.tasks().items():
            if files.hold_out and VALID in files.questions:
                raise ValueError(
                    f"{task}.hold_out: `questions` has a file for the split '{VALID}'; leave one of them out"
                )
        return self

    def tasks(self) -> dict[str, VqaFilesConfig]:
        """The tasks that are there."""
        return {task: files for task in ("vqa", "gqa") if (files := getattr(self, task)) is not None}


def describe(config: QuestionsConfig, root: Path, folder: Path) -> QuestionData:
    """The description of configured questions under a root; nothing is checked."""
    tasks = {}
    for task, files in config.tasks().items():
        named = files.image_names if files.format == "vqa" else ""
        tasks[task] = QuestionFiles(
            files.format,
            file_paths(files.questions, root),
            file_paths(files.annotations, root) if files.format in ("vqa", "imdb") else {},
            str(root / files.images) if files.images and files.format != "easy_vqa" else "",
            str(root / named) if named.endswith(".json") else named,
            files.hold_out,
            file_paths(files.choices, root),
            files.trusted,
        )
    return QuestionData(root, folder, tasks)


def _read_files(config: QuestionsConfig, root: Path) -> Iterator[Path]:
    for task, files in describe(config, root, Path()).tasks.items():
        for group in (files.questions, files.annotations, files.choices):
            yield from (path for paths in group.values() for path in paths)
        for split in files.questions:
            if files.images:
                yield Path(files.images.replace("{split}", split))
            if files.image_names.endswith(".json"):
                yield Path(files.image_names.replace("{split}", split))
        if answers := config.tasks()[task].answers:
            yield root / answers


def inputs(config: QuestionsConfig) -> Mapping[str, Request]:
    """The world, unless the questions lie in a folder of their own."""
    return world_unless_rooted(config)


def _best(question: AskedQuestion) -> str:
    """What most people say, or else the answer of the highest score."""
    if question.human:
        return most_peoples(question.human)
    return max(question.targets, key=question.targets.__getitem__)


def run(context: StageContext) -> dict[str, float]:
    """Read all questions, look for all pictures, and settle the answers.

    Metrics per task and split: `<task>_<split>_questions`, `<task>_<split>_images`, `<task>_<split>_outside` (questions
    none of whose answers is a class: they stay, without a target), `<task>_answers`, `missing_questions` (those without
    their picture: listed, and left out).
    """
    root = data_root(context)
    data = describe(context.config, root, context.folder)
    if not data.tasks:
        raise UserError("questions: neither `vqa` nor `gqa` is there; expected one of them at least.")
    metrics: dict[str, float] = {}
    absent: list[str] = []
    outside: list[str] = []
    for task, files in data.tasks.items():
        for group in (files.questions, files.annotations, files.choices):
            for path in (path for paths in group.values() for path in paths):
                require(
                    path, f"the questions, answers or choices of the task {task} in {files.format} format"
                )
        answers = _settle_answers(context, data, task)
        metrics[f"{task}_answers"] = float(len(answers))
        known = set(answers)
        for split in files.splits:
            everything, questions = data.annotated(task, split), data.read(task, split)
            kept = {q.question_id for q in questions}
            absent += [
                f"{task} {split} {q.question_id} {q.image_id}"
                for q in everything
                if q.question_id not in kept
            ]
            if not questions:
                raise UserError(
                    f"{task}: of {len(everything):,} questions of split '{split}' none has its picture"
                    f"{f' in {files.images}' if files.images else ''}. Put the pictures there, or correct "
                    f"`questions.{task}.images` or `.image_names`."
                )
            strange = [q for q in questions if q.targets and not known & q.targets.keys()]
            outside += [f"{task} {split} {q.question_id} {', '.join(q.targets)}" for q in strange]
            metrics[f"{task}_{split}_questions"] = float(len(questions))
            metrics[f"{task}_{split}_images"] = float(len({q.image_id for q in questions}))
            metrics[f"{task}_{split}_outside"] = float(len(strange))
    metrics["missing_questions"] = float(len(absent))
    context.list_left_out("missing.txt", absent, "questions whose picture is missing are left out")
    context.list_left_out(
        "outside.txt", outside, "questions stay without a target, as no class is their answer"
    )
    data.save()
    shown = ", ".join(
        f"{task} {split} {metrics[f'{task}_{split}_questions']:,.0f}"
        for task, files in data.tasks.items()
        for split in files.splits
    )
    context.log(f"questions about pictures: {shown}")
    return metrics


def _settle_answers(context: StageContext, data: QuestionData, task: str) -> list[str]:
    """Write a task's answers into the stage's folder: those of the file, or the frequent ones of the training split."""
    config = context.config.tasks()[task]
    if config.answers:
        path = require(data.root / config.answers, f"the answers of the task {task}")
        answers = list(read_labels(path))
        if len(answers) < 2:
            raise UserError(f"{path}: {len(answers)} answers; expected 2 at least to choose from.")
    else:
        answers = frequent((_best(q) for q in data.read(task, "train") if q.targets), config.min_answers)
        if len(answers) < 2:
            raise UserError(
                f"questions.{task}: {len(answers)} answers occur {config.min_answers} times or more in the training "
                f"split; expected 2 at least. Lower `questions.{task}.min_answers`, or name a file of `answers`."
            )
    write_json(context.folder / answers_file(task), answers)
    return answers


QUESTIONS = Stage(
    "questions", QuestionsConfig, run, inputs, outside=below_root(_read_files), reused=point_to_root,
    doc="Check questions about pictures and their answers, and describe them.",
)  # fmt: skip
