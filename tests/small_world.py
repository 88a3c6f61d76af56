"""A tiny visual world, and the stages on it that say what LXMERT reads: sentences, questions and pairs of pictures."""

from dataclasses import dataclass
from pathlib import Path

from tests.small import run_stage
from vlpnb.foundations.pairs import PAIRS, PairsConfig
from vlpnb.foundations.questions import QUESTIONS, QuestionsConfig
from vlpnb.foundations.sentences import SENTENCES, SentencesConfig
from vlpnb.world.writers import WorldConfig, write_world

SIZES = {
    "train": 60, "valid": 24, "test": 24, "universe": 4, "image_size": 48, "languages": ("en",), "captions": 2,
    "corpus_train": 200, "corpus_valid": 100, "corpus_test": 100, "glue_train": 8, "glue_dev": 8, "squad_train": 1,
    "squad_dev": 1, "swag_train": 4, "swag_dev": 4, "questions": 2.0, "statements": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class SmallWorld:
    """The world's folder and those of the three stages; `inputs` is them by the stages' names."""

    world: Path
    sentences: Path
    questions: Path
    pairs: Path

    @property
    def inputs(self) -> dict[str, Path]:
        """The folders by the names of their stages, as a stage's inputs."""
        return dict(vars(self))


def make_small_world(root: Path, **sizes) -> SmallWorld:
    """Write the world and run the three stages below `root`; `sizes` are fields of `WorldConfig`."""
    made = SmallWorld(root / "world", root / "sentences", root / "questions", root / "pairs")
    write_world(WorldConfig(**SIZES | sizes), made.world)
    run_stage(SENTENCES, SentencesConfig(), made.sentences, world=made.world)
    run_stage(QUESTIONS, QuestionsConfig(), made.questions, world=made.world)
    run_stage(PAIRS, PairsConfig(), made.pairs, world=made.world)
    return made
