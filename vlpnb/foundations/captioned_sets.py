"""Sets of pictures with sentences in several languages, by name and split, whatever stage has checked them.

The run's own pictures are those of the stage `multilingual`; xFlickr&CO and WIT are sets of IGLUE (Bugliarello et al.
2022), which have pictures of their own for every language, and English rows alone to learn from and to choose on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vlpnb.data.multilingual import Picture
from vlpnb.foundations.iglue import Iglue, load_iglue
from vlpnb.foundations.multilingual import Multilingual, load_multilingual
from vlpnb.foundations.picture_store import PatchStore

SetName = Literal["multilingual", "xflickrco", "wit"]


@dataclass(frozen=True)
class Sets:
    """The pictures with sentences of a run, by set and split."""

    multilingual: Multilingual | None
    iglue: Iglue | None
    store: PatchStore

    def pictures(self, name: SetName, split: str) -> dict[str, list[Picture]]:
        """Language → the pictures of a split that have patches; of `multilingual` all languages have the same."""
        if name == "multilingual":
            found = [p for p in self.multilingual.pictures(split) if p.id in self.store]
            return dict.fromkeys(sorted({lang for p in found for lang in p.captions}), found)
        languages = self.iglue.languages(name) if split == "test" else ("en",)
        return {language: self.rows(name, split, language) for language in languages}

    def rows(self, name: SetName, split: str, language: str, **which: Any) -> list[Picture]:
        """The rows of one of IGLUE's sets as pictures with captions; what is translated counts as its language."""
        rows = self.iglue.rows(name, split, language, **which)
        return [
            Picture(row.image_id, self.iglue.image_path(row.image_id), {language: row.sentences})
            for row in rows
            if row.image_id in self.store
        ]


def open_sets(folders: Mapping[str, Path], store: PatchStore) -> Sets:
    """What the inputs of a stage hold."""
    return Sets(
        load_multilingual(folders["multilingual"]) if "multilingual" in folders else None,
        load_iglue(folders["iglue"]) if "iglue" in folders else None,
        store,
    )
