"""Stage `multilingual`: pictures with sentences in several languages, and parallel text, in one form.

CCLM (Zeng et al. 2023, sections 3.2 and 4.1) learns from both. Sets that share photographs divide them differently, so
that a training photograph of one is evaluated in another: what `exclude` names, and the pictures of the later splits,
are taken out of the earlier ones, as pictures and as parallel lines that describe them.

| file | holds |
|---|---|
| `multilingual.json` | languages, splits, and the photographs that are evaluated on |
| `<split>.jsonl` | the pictures of a split: id, place, captions by language |
| `parallel_<split>.jsonl` | parallel lines: the sentence of every language that a line has |
| `pictures/` | pictures that records brought along |
| `missing.txt`, `excluded.txt` | pictures that are not there; that are evaluated on, and their lines |
| `silent.txt` | sentences without words |
"""

import json
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path

from vlpnb.data.description import SPLITS, read_description, within, write_description
from vlpnb.data.evaluated import read_evaluated
from vlpnb.data.multilingual import Picture
from vlpnb.data.parallel import ParallelText
from vlpnb.data.text_files import read_json_lines, require
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.foundations.datasets import below_root, data_root, point_to_root, world_unless_rooted
from vlpnb.foundations.multilingual_sources import (
    MultilingualConfig,
    Reading,
    order_of,
    parallel_of,
    pictures_of,
    read_files,
)
from vlpnb.stage import Request, Run, Stage, StageContext


def inputs(config: MultilingualConfig) -> Mapping[str, Request]:
    """The world, unless the data lies in a folder of its own."""
    return world_unless_rooted(config)


def run(context: StageContext) -> dict[str, float]:
    """Read everything, and write it in one form.

    Metrics: `<split>_pictures`, `<split>_captions_<language>`, `<split>_parallel`, and what was left out.
    """
    config: MultilingualConfig = context.config
    root, found = data_root(context), Reading()
    metrics: dict[str, float] = {}
    excluded: frozenset[str] = frozenset()
    for name in config.exclude:
        excluded |= read_evaluated(require(root / name, "photographs that are evaluated on"))
    later, seen = excluded, dict[str, str]()
    spoken: set[str] = set()
    parallel_splits = []
    for split in reversed(config.splits):  # what is tested on is not validated on, and neither is trained on
        pictures = pictures_of(config, root, split, context.folder, found)
        mine = frozenset(pictures)
        if order_of(split) < SPLITS.index("test"):
            found.excluded += [f"{split}: {pictures[key].id}" for key in pictures if key in later]
            pictures = {key: picture for key, picture in pictures.items() if key not in later}
            if not pictures:
                raise UserError(
                    f"multilingual: every picture of the split '{split}' is evaluated on elsewhere; expected some "
                    "that are not in the later splits or in `exclude`."
                )
        kept = list(pictures.values())[: config.max_pictures]
        for picture in kept:
            if seen.setdefault(picture.id, split) != split:
                raise UserError(
                    f"{picture.path}: the id '{picture.id}' is in the split '{seen[picture.id]}' too."
                )
        write_text(
            context.folder / f"{split}.jsonl",
            "".join(_row(picture, root, context.folder) for picture in kept),
        )
        metrics[f"{split}_pictures"] = len(kept)
        for language in config.languages:
            count = sum(len(picture.captions.get(language, ())) for picture in kept)
            metrics[f"{split}_captions_{language}"] = count
            spoken |= {language} if count else set()
        lines = parallel_of(config, root, split, later, found)
        if lines:
            parallel_splits.append(split)
            spoken |= {language for line in lines for language in line}
            write_text(
                context.folder / f"parallel_{split}.jsonl",
                "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines),
            )
        metrics[f"{split}_parallel"] = len(lines)
        if split != "train":
            later |= mine
    if silent := [language for language in config.languages if language not in spoken]:
        raise UserError(
            f"multilingual: no sentence in the language '{silent[0]}' in any file; expected some, "
            "or its code is another."
        )
    metrics |= {"missing_pictures": len(found.missing), "silent_sentences": len(found.silent)}
    metrics["excluded"] = len(found.excluded)
    context.list_left_out("missing.txt", found.missing, "pictures are not there and left out")
    context.list_left_out("silent.txt", found.silent, "sentences have no word and are left out")
    context.list_left_out(
        "excluded.txt", found.excluded, "pictures and lines are evaluated on and not trained on"
    )
    about = {
        "languages": config.languages,
        "splits": config.splits,
        "parallel": [split for split in config.splits if split in parallel_splits],
        "evaluated": sorted(later),
        "counts": metrics,
    }
    write_description(context.folder, "multilingual", root, about)
    told = ", ".join(f"{split} {int(metrics[f'{split}_pictures']):,}" for split in config.splits)
    context.log(f"pictures: {told}; parallel lines: {int(metrics.get('train_parallel', 0)):,}")
    return metrics


def _row(picture: Picture, root: Path, folder: Path) -> str:
    own = picture.path.is_relative_to(folder)
    place = within(picture.path, folder if own else root)
    row = {"id": picture.id, "path": place, "captions": picture.captions} | ({"own": True} if own else {})
    return f"{json.dumps(row, ensure_ascii=False)}\n"


MULTILINGUAL = Stage(
    "multilingual", MultilingualConfig, run, inputs, outside=below_root(read_files), reused=point_to_root,
    doc="Bring pictures with sentences in several languages, and parallel text, into one form.",
)  # fmt: skip


class Multilingual:
    """A finished stage `multilingual`. UserError where the folder holds none, or its pictures are gone."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        about, self.root, _ = read_description(self.folder, "multilingual")
        self.languages: tuple[str, ...] = tuple(about["languages"])
        self.splits: tuple[str, ...] = tuple(about["splits"])
        self.parallel_splits: tuple[str, ...] = tuple(about["parallel"])
        self.counts: dict[str, float] = about["counts"]
        """The stage's metrics."""
        self.evaluated = frozenset(about["evaluated"])
        """`photo_key` of every photograph that is validated or tested on, here or elsewhere."""
        self.pictures = cache(self._pictures)
        self.parallel = cache(self._parallel)

    @cached_property
    def all_pictures(self) -> tuple[Picture, ...]:
        """Those of all splits, one after the other."""
        return tuple(picture for split in self.splits for picture in self.pictures(split))

    def _pictures(self, split: str) -> tuple[Picture, ...]:
        """The pictures of a split, in order. UserError for an unknown one."""
        self._known(split, self.splits, "pictures")
        rows = read_json_lines(self.folder / f"{split}.jsonl", "pictures of the stage `multilingual`")
        return tuple(
            Picture(
                row["id"],
                (self.folder if row.get("own") else self.root) / row["path"],
                {language: tuple(texts) for language, texts in row["captions"].items()},
            )
            for _, row in rows
        )

    def _parallel(self, split: str) -> ParallelText:
        """The parallel text of a split. UserError where there is none."""
        self._known(split, self.parallel_splits, "parallel text")
        path = self.folder / f"parallel_{split}.jsonl"
        return ParallelText(tuple(row for _, row in read_json_lines(path, "parallel lines")))

    def _known(self, split: str, splits: tuple[str, ...], what: str) -> None:
        if split not in splits:
            raise UserError(
                f"{self.folder}: has no {what} for the split '{split}'; there is some for "
                f"{', '.join(splits) or 'none'}."
            )


def load_multilingual(folder: Path) -> Multilingual:
    """The pictures and parallel text in a folder of the stage `multilingual`."""
    return Multilingual(folder)


def open_multilingual(run: Run) -> Multilingual:
    """Those of a run, made if they are not there yet."""
    return load_multilingual(run.stage("multilingual").folder)
