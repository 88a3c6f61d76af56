"""What the dataset stages share: the data's root, its place in a stage's identity, and opening their results.

There is one stage per kind of file (`DATASETS`), and other stages ask for what they read, so that a further GLUE task
makes nothing again but what reads GLUE. All of them take the generated world unless `root` names a folder; `data.root`
in a profile or in settings, and `--data` on the command line, stand for the root of every one of them.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from vlpnb.config import Config
from vlpnb.data.asked_data import (
    PairData,
    QuestionData,
    SentenceData,
    load_pairs,
    load_questions,
    load_sentences,
)
from vlpnb.data.description import (
    CaptionData,
    FolderData,
    PictureData,
    TextData,
    load_captions,
    load_folder,
    load_pictures,
    load_text,
    point,
    within,
)
from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.outside import OutsidePath
from vlpnb.stage import Request, Run, StageContext

DATASETS = (
    "captions", "sentences", "questions", "pairs", "pictures", "text", "glue_data", "squad_data", "swag_data",
    "knowledge", "multilingual", "iglue", "region_text",
)  # fmt: skip


class DatasetConfig(Config):
    """Where a dataset's files lie; the other fields are relative to the root, and their defaults the world's layout."""

    root: OutsidePath = Field("", json_schema_extra={"hash": False})
    """Folder of the data; empty: the world stage's. It names no result: the files' content does, wherever they
    lie.
    """


def with_root(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Profile or settings with `data: {root: FOLDER}` as the root of every dataset stage that does not name its own.

    Raises:
        UserError: `data` holds anything else.
    """
    result = dict(sections)
    if "data" not in result:
        return result
    about = result.pop("data")
    if not isinstance(about, Mapping) or set(about) - {"root"}:
        raise UserError(f"data: expected `root`, the folder of the datasets, found {about!r}")
    root = about.get("root") or ""
    return {**result, **{name: {"root": root, **(result.get(name) or {})} for name in DATASETS}}


def world_unless_rooted(config: DatasetConfig) -> Mapping[str, Request]:
    """The stage that writes the world, unless a root is given."""
    return {} if config.root else {"world": Request("world")}


def data_root(context: StageContext) -> Path:
    """The checked root of a dataset stage that runs."""
    if not context.config.root:
        return context.inputs["world"]
    root = Path(context.config.root).absolute()
    return require(root, f"the data of the stage `{context.name}`; its place is given with --data FOLDER")


def below_root(files: Callable[[Any, Path], Iterable[Path]]) -> Callable[[Any], dict[str, Path]]:
    """These files and folders by their places below the root; none for the world, whose stage says what they hold."""

    def outside(config: DatasetConfig) -> dict[str, Path]:
        root = Path(config.root).absolute()
        return {within(path, root): path for path in files(config, root)} if config.root else {}

    return outside


def point_to_root(config: DatasetConfig, folder: Path) -> None:
    """The same files may lie elsewhere than when they were described."""
    if config.root:
        point(folder, Path(config.root).absolute())


def file_paths(files: Mapping[str, str | tuple[str, ...]], root: Path) -> dict[str, tuple[Path, ...]]:
    """The configured files per split (one, or several one after the other) under a root."""
    return {
        split: tuple(root / path for path in ([paths] if isinstance(paths, str) else paths))
        for split, paths in files.items()
    }


def open_captions(run: Run) -> CaptionData:
    """The captioned pictures of a run, checked if they are not yet."""
    return load_captions(run.stage("captions").folder)


def open_sentences(run: Run) -> SentenceData:
    """The pictures of a run with sentences by source, and the answer table."""
    return load_sentences(run.stage("sentences").folder)


def open_questions(run: Run) -> QuestionData:
    """The questions of a run about pictures."""
    return load_questions(run.stage("questions").folder)


def open_pairs(run: Run) -> PairData:
    """The statements of a run about two pictures."""
    return load_pairs(run.stage("pairs").folder)


def open_pictures(run: Run) -> PictureData:
    """The pictures of a run that can become vokens."""
    return load_pictures(run.stage("pictures").folder)


def open_text(run: Run) -> TextData:
    """The raw text of a run."""
    return load_text(run.stage("text").folder)


def open_folder(run: Run, name: str) -> FolderData:
    """The folder behind `glue_data`, `squad_data`, `swag_data` or `knowledge` of a run."""
    return load_folder(run.stage(name).folder, name)
