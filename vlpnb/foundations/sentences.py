"""Stage `sentences`: pictures with sentences by source, and the answers of those that are questions.

What LXMERT pre-trains on (Tan and Bansal 2019, section 3.2): captions, region phrases and questions of several data
sets, one entry a picture. Without such files the captions of the stage `captions` are sentences too.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from vlpnb.config import Name
from vlpnb.data.asked_data import SentenceData
from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.foundations.captions import splits_only
from vlpnb.foundations.datasets import (
    DatasetConfig,
    below_root,
    data_root,
    file_paths,
    point_to_root,
    world_unless_rooted,
)
from vlpnb.stage import Request, Stage, StageContext


class SentencesConfig(DatasetConfig):
    """Pictures with sentences by source, relative to the root."""

    format: Literal["lxmert", "captions"] = "lxmert"
    """LXMERT's files, or the captions of the stage `captions` in whatever format (no other field counts then)."""
    annotations: dict[Name, str | tuple[str, ...]] = Field(
        default_factory=lambda: {split: f"lxmert/world_{split}.json" for split in ("train", "valid")}
    )
    """File per split, or several files one after the other."""
    images: str = "images/{split}"
    """Folder of the pictures; {split} is replaced; empty: features come from files, without pictures."""
    sources: tuple[str, ...] = ()
    """Keep these sources of sentences (mscoco, vg, vqa, gqa, visual7w); empty keeps all."""
    answers: str = "lxmert/all_ans.json"
    """The answer table; empty: no sentence has answers."""


def describe(config: SentencesConfig, root: Path, captions: Path | None) -> SentenceData:
    """The description of configured sentences under a root; nothing is checked."""
    if config.format == "captions":
        return SentenceData(root, {}, captions=captions)
    images = str(root / config.images) if config.images else ""
    answers = root / config.answers if config.answers else None
    return SentenceData(root, file_paths(config.annotations, root), images, config.sources, answers)


def _read_files(config: SentencesConfig, root: Path) -> Iterator[Path]:
    data = describe(config, root, None)
    for split, paths in data.files.items():
        yield from paths
        if data.pictures:
            yield Path(data.pictures.replace("{split}", split))
    if data.answers is not None:
        yield data.answers


def inputs(config: SentencesConfig) -> Mapping[str, Request]:
    """The captions, or the world unless the sentences lie in a folder of their own."""
    return {"captions": splits_only} if config.format == "captions" else world_unless_rooted(config)


def run(context: StageContext) -> dict[str, float]:
    """Read all sentences and look for all pictures.

    Metrics: `<split>_images`, `<split>_sentences`, `<split>_questions` (sentences with answers), `<split>_unanswered`
    (those of them with no answer in the table: they stay, as sentences), `missing_images` (listed, and left out) and
    `answers`.
    """
    captions = context.inputs.get("captions")
    root = captions if captions is not None else data_root(context)
    data = describe(context.config, root, captions)
    for path in (path for paths in data.files.values() for path in paths):
        require(path, "pictures with sentences, in LXMERT's format")
    table = data.table()
    metrics: dict[str, float] = {"answers": float(len(table)) if table is not None else 0.0}
    absent: list[str] = []
    for split in data.splits:
        everything, images = data.annotated(split), data.read(split)
        if len(images) < len(everything):
            kept = {image.image_id for image in images}
            absent += [f"{split} {i.image_id}" for i in everything if i.image_id not in kept]
        if not images:
            raise UserError(
                f"none of the {len(everything):,} pictures of split '{split}' exists in {data.pictures or root}. Put "
                "them there, correct `sentences.images`, or leave it empty where features come from files."
            )
        answers = [label for image in images for labels in image.labels.values() for label in labels]
        metrics[f"{split}_images"] = float(len(images))
        metrics[f"{split}_sentences"] = float(sum(len(t) for i in images for t in i.sentences.values()))
        metrics[f"{split}_questions"] = float(len(answers))
        metrics[f"{split}_unanswered"] = float(
            sum(table is None or not table.prune(label) for label in answers)
        )
    metrics["missing_images"] = float(len(absent))
    context.list_left_out("missing.txt", absent, "pictures are missing and left out")
    data.save(context.folder)
    shown = ", ".join(f"{split} {metrics[f'{split}_sentences']:,.0f}" for split in data.splits)
    context.log(f"sentences about pictures: {shown}; {metrics['answers']:,.0f} answers")
    return metrics


def _below_root(config: SentencesConfig) -> dict[str, Path]:
    return {} if config.format == "captions" else below_root(_read_files)(config)


def _reused(config: SentencesConfig, folder: Path) -> None:
    if config.format != "captions":
        point_to_root(config, folder)


SENTENCES = Stage(
    "sentences", SentencesConfig, run, inputs, outside=_below_root, reused=_reused,
    doc="Check pictures with sentences by source and their answers, and describe them.",
)  # fmt: skip
