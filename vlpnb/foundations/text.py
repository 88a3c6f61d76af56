"""Stage `text`: raw text files, checked and described with the rules for their lines."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field, model_validator

from vlpnb.data.description import SPLITS, TextData
from vlpnb.data.forms import refuse_markup
from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.foundations.datasets import (
    DatasetConfig,
    below_root,
    data_root,
    point_to_root,
    world_unless_rooted,
)
from vlpnb.stage import Request, Stage, StageContext


class TextConfig(DatasetConfig):
    """Raw text files, relative to the root."""

    rules: str = Field("wiki103", pattern="^(wiki103|wiki|none)$")
    """Which lines are kept: wiki103, wiki or none."""
    train: tuple[str, ...] = ("text/wiki.train.raw",)
    """Files of the training text, one after the other."""
    valid: tuple[str, ...] = ("text/wiki.valid.raw",)
    """Likewise of the validation text."""
    test: tuple[str, ...] = ("text/wiki.test.raw",)
    """Likewise of the test text; there may be none."""
    images: tuple[str, ...] = ()
    """Of text whose lines describe pictures, as Multi30k's: for each training file the list of its lines' images. Such
    text may be compressed.
    """

    @model_validator(mode="after")
    def _a_list_for_each(self) -> "TextConfig":
        if self.images and len(self.images) != len(self.train):
            raise ValueError(
                f"images: {len(self.images)} lists and {len(self.train)} training files; expected a list for each"
            )
        return self


def describe(config: TextConfig, root: Path) -> TextData:
    """The description of configured text under a root; nothing is checked."""
    files = (tuple(root / path for path in getattr(config, split)) for split in SPLITS)
    return TextData(root, config.rules, *files, images=tuple(root / path for path in config.images))


def _read_files(config: TextConfig, root: Path) -> Iterator[Path]:
    data = describe(config, root)
    yield from (*data.train, *data.valid, *data.test, *data.images)


def inputs(config: TextConfig) -> Mapping[str, Request]:
    """The world, unless the text lies in a folder of its own."""
    return world_unless_rooted(config)


def run(context: StageContext) -> dict[str, float]:
    """See that the files are there and not empty. Metrics: `train_bytes`, `valid_bytes`, `test_bytes`."""
    data = describe(context.config, data_root(context))
    metrics: dict[str, float] = {}
    for split in SPLITS:
        paths = getattr(data, split)
        for path in paths:
            require(path, f"raw text of the {split} corpus, one paragraph a line")
            if path.stat().st_size == 0:
                raise UserError(f"{path} is empty; expected raw text of the {split} corpus.")
            refuse_markup(path, f"raw text of the {split} corpus, one paragraph a line", bool(data.images))
        metrics[f"{split}_bytes"] = float(sum(path.stat().st_size for path in paths))
    for path in data.images:
        require(path, "the image of each line of a training file, one a line")
    if not data.train or not (data.valid or data.images):  # what describes pictures may be for training alone
        raise UserError("text: name at least one train and one valid file; found none.")
    data.save(context.folder)
    return metrics


TEXT = Stage(
    "text", TextConfig, run, inputs, outside=below_root(_read_files), reused=point_to_root,
    doc="Check the raw text, and describe it for the stages that follow.",
)  # fmt: skip
