"""Towers, a corpus and a database of the small dataset, for the tests of `picture_vectors` and `valm.queries`."""

from dataclasses import dataclass
from pathlib import Path

from tests.small import Small
from vlpnb.foundations.blocks import BLOCKS, BlocksConfig
from vlpnb.foundations.picture_vectors import PICTURE_VECTORS, PictureVectorsConfig
from vlpnb.foundations.towers import TOWERS, TowersConfig
from vlpnb.valm.queries import QUERIES, QueriesConfig

SIZE = {"hidden": 16, "layers": 1, "heads": 2, "width": 8, "longest": 12, "batch": 15}


@dataclass
class Database:
    """Folders of the stages; more of them are made with `images` and `queries`."""

    small: Small
    root: Path
    towers: Path
    corpus: Path

    def images(self, name: str, **fields) -> dict[str, float]:
        config = PictureVectorsConfig(**({"shard": 4, "batch": 3} | fields))
        return self.small.run(
            PICTURE_VECTORS, config, self.root / name, towers=self.towers, **self.small.data
        )

    def queries(self, name: str, images: str = "images", **fields) -> dict[str, float]:
        config = QueriesConfig(**({"k": 3, "tokens": 60} | fields))
        return self.small.run(QUERIES, config, self.root / name, **self.inputs(images))

    def inputs(self, images: str = "images") -> dict[str, Path]:
        return {"towers": self.towers, "corpus": self.corpus, "images": self.root / images}


def make(small: Small, root: Path) -> Database:
    words = str(small.root / "words")
    config = TowersConfig(tokenizer=words, updates=20, **SIZE)
    small.run(TOWERS, config, root / "towers", captions=small.dataset, features=small.features)
    corpus = BlocksConfig(tokenizer=words, sets=("train",), block=10, by_line=True)
    small.run(BLOCKS, corpus, root / "corpus", **small.data)
    database = Database(small, root, root / "towers", root / "corpus")
    database.images("images")
    return database
