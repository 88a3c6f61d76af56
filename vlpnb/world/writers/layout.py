"""How large a world is, what its splits and pictures are called, and how to read its scenes back."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from vlpnb.config import Config, Seed
from vlpnb.data.text_files import lines_of
from vlpnb.errors import UserError
from vlpnb.world.grammar import LANGUAGES
from vlpnb.world.questions import STATEMENT_KINDS
from vlpnb.world.scene import SPLITS, Scene, Split

# splits with questions, statements and translations
ASKED_SPLITS: tuple[Split, ...] = ("train", "valid", "test")
# as Karpathy and Multi30k call them
PUBLIC_SPLITS = {"train": "train", "valid": "val", "test": "test"}


def _known_kind(name: str) -> str:
    if name not in STATEMENT_KINDS:
        raise ValueError(f"expected one of {', '.join(STATEMENT_KINDS)}")
    return name


StatementKind = Annotated[str, AfterValidator(_known_kind)]


class WorldConfig(Config):
    """How large the generated world is."""

    seed: Seed = 0
    """Everything in the world follows from this number and the sizes below."""
    train: int = Field(3000, ge=1)
    """Captioned pictures to train on."""
    valid: int = Field(400, ge=1)
    """Captioned pictures to validate on."""
    test: int = Field(400, ge=1)
    """Captioned pictures to test on; a quarter shows a colour-kind pair that training never shows."""
    universe: int = Field(1200, ge=1)
    """Pictures that may become vokens."""
    image_size: int = Field(128, ge=32)
    """Width and height of the pictures, in pixels."""
    captions: int = Field(5, ge=1)
    """Captions per picture and language."""
    languages: tuple[str, ...] = tuple(LANGUAGES)
    """Languages of the Multi30k-like files."""
    corpus_train: int = Field(400_000, ge=1)
    """Words of the training text; whole articles, so a little more."""
    corpus_valid: int = Field(20_000, ge=1)
    """Words of the validation text."""
    corpus_test: int = Field(20_000, ge=1)
    """Words of the test text."""
    glue_train: int = Field(800, ge=8)
    """Training examples per GLUE task."""
    glue_dev: int = Field(300, ge=8)
    """Development (and test) examples per GLUE task."""
    squad_train: int = Field(2000, ge=1)
    """SQuAD questions of each version to train on, and to develop on; whole articles, so a few more."""
    squad_dev: int = Field(400, ge=1)
    """Questions in the development set of each version of SQuAD."""
    swag_train: int = Field(2000, ge=4)
    """SWAG examples to train on, and to develop on."""
    swag_dev: int = Field(400, ge=4)
    """Examples in SWAG's development set."""
    questions: float = Field(3.0, ge=0)
    """VQA questions per picture, and as many GQA questions; fewer where too few can be balanced."""
    statements: float = Field(0.5, ge=0)
    """NLVR2 statements per picture, and as many entailment pairs."""
    statement_pairs: int = Field(2, ge=1)
    """Pairs of pictures of which an NLVR2 statement is true, and as many of which it is false."""
    statement_kinds: tuple[StatementKind, ...] = ()
    """Kinds of NLVR2 statements, such as left, right, both, count (`STATEMENT_KINDS`); empty: all."""
    statement_phrases: tuple[str, ...] = ()
    """What NLVR2 statements are about, such as fox and red thing, two at least; empty: all that pictures show."""
    workers: int = Field(1, ge=1, json_schema_extra={"hash": False})
    """Processes that draw pictures; worth raising from some ten thousand pictures."""

    def count(self, split: Split) -> int:
        """The number of pictures of a split."""
        return getattr(self, split)


def coco_id(scene: Scene) -> int:
    """The number of a picture in the COCO, VQA and GQA files: unique over all splits."""
    return (SPLITS.index(scene.split) + 1) * 10_000_000 + scene.index


def image_id(number: int) -> str:
    """The image id (the file's stem) of a number that `coco_id` gave."""
    rank, index = divmod(number, 10_000_000)
    if not 1 <= rank <= len(SPLITS):
        raise UserError(
            f"{number} is no picture number of the visual world; expected one that `coco_id` gives."
        )
    return f"world_{SPLITS[rank - 1]}_{index:07d}"


def load_scenes(folder: Path) -> dict[str, Scene]:
    """Image id → scene, for all pictures of a written world; `folder` may also be the `scenes.jsonl` itself.

    Raises UserError when it is absent or damaged.
    """
    path = Path(folder)
    path = path / "scenes.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; it should hold the scenes of a world. Write one with `vlpnb world`."
        )
    found = {}
    for number, text in lines_of(path, "the scenes of a world"):
        try:
            scene = Scene.from_json(text)
        except UserError as error:
            raise UserError(f"{path}:{number}: {error}") from error
        found[scene.image_id] = scene
    return found
