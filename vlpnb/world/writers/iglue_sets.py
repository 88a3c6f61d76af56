"""What the files of the world's IGLUE are made of (see `iglue`): hypotheses, questions and statements by split."""

import io
import random
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from vlpnb.config import Config, Seed
from vlpnb.data.text_files import read_json
from vlpnb.world.languages.sentence_plan import QUESTION_FORMS, Phrase
from vlpnb.world.questions import Question, Statement, statements
from vlpnb.world.questions.balance import asked
from vlpnb.world.questions.entailment_pictures import PictureHypothesis, picture_hypotheses
from vlpnb.world.questions.gqa import gqa_candidates
from vlpnb.world.questions.vqa import vqa_candidates
from vlpnb.world.render import render
from vlpnb.world.scene import KINDS, Scene, Thing
from vlpnb.world.writers.layout import StatementKind, load_scenes

UNIVERSE = 300  # scenes of the split `universe` that few-shot sets are made of, at most
FEW = {"xvnli": 3 * 48, "xgqa": 600, "marvl": 4 * 20}  # rows of them that are drawn
PER_SCENE = 4  # questions that one scene is worth looking through for
UNDECIDED = 83  # one of so many rows more has the label "-", as 14 of 1,164 are


def _known_form(name: str) -> str:
    if name not in QUESTION_FORMS:
        raise ValueError(f"expected one of {', '.join(QUESTION_FORMS)}")
    return name


class IglueSizes(Config):
    """How large the world's IGLUE is; without effect where the files come from a folder."""

    seed: Seed = 0
    """Which hypotheses, questions and statements are drawn; the pictures are the world's."""
    xvnli: int = Field(6000, ge=3)
    """English hypotheses to train on."""
    curtains: int = Field(800, ge=1)
    """Of how many training pictures there is a curtained one too, at most."""
    xgqa: int = Field(6000, ge=2)
    """English questions to train on."""
    question_forms: tuple[Annotated[str, AfterValidator(_known_form)], ...] = ()
    """Forms of questions, such as colour of, exists, neighbour (`QUESTION_FORMS`); empty: all."""
    marvl: int = Field(4000, ge=4)
    """English statements about pairs of pictures to train on."""
    statement_kinds: tuple[StatementKind, ...] = ()
    """Kinds of statements, such as left, both, count (`STATEMENT_KINDS`); empty: all."""
    statement_pairs: int = Field(2, ge=1)
    """Pairs of pictures of which a training statement is true, and as many of which it is false; tests have two."""
    tested: int = Field(600, ge=6)
    """Hypotheses, questions and pairs in each validation and test set; fewer where there are too few pictures."""
    wit: int = Field(150, ge=2)
    """Pictures with an address in each split of WIT."""


class IglueSets:
    """What is drawn from the scenes of the world in a folder; each is made once, when it is first needed."""

    def __init__(self, sizes: IglueSizes, world: Path) -> None:
        about = read_json(world / "world.json", "the configuration of a written world")
        self.sizes, self.world = sizes, world
        self.image_size, self.seed = int(about["image_size"]), int(about["seed"])
        self.by_split: dict[str, list[Scene]] = {}
        for scene in load_scenes(world).values():
            self.by_split.setdefault(scene.split, []).append(scene)
        self.hypotheses = cache(self._hypotheses)
        self.questions = cache(self._questions)
        self.statements = cache(self._statements)
        self.undecided = cache(self._undecided)

    def scenes(self, split: str) -> list[Scene]:
        """The scenes of a split, in order."""
        return self.by_split.get(split, [])[: UNIVERSE if split == "universe" else None]

    def wanted(self, task: str, split: str) -> int:
        """How many rows of a task a split has, if there are pictures enough."""
        if split == "universe":
            return FEW[task]
        return getattr(self.sizes, task) if split == "train" else self.sizes.tested

    def _hypotheses(self, split: str) -> list[PictureHypothesis]:
        curtains = self.sizes.curtains if split == "train" else None
        wanted = self.wanted("xvnli", split)
        return picture_hypotheses(self.scenes(split), self.sizes.seed, wanted, curtains)

    def _questions(self, split: str) -> list[Question]:
        forms, wanted = set(self.sizes.question_forms), self.wanted("xgqa", split)

        def candidates(scene: Scene, rng: random.Random) -> list[Question]:
            everything = (*vqa_candidates(scene, rng), *gqa_candidates(scene, rng))
            return [q for q in everything if q.plan is not None and (not forms or q.plan.form in forms)]

        scenes = self.scenes(split)[: max(300, wanted // PER_SCENE)]
        return asked(scenes, f"xgqa-{self.sizes.seed}-{split}", wanted, candidates)

    def _statements(self, split: str) -> list[Statement]:
        wanted, kinds = self.wanted("marvl", split), self.sizes.statement_kinds
        pairs = self.sizes.statement_pairs if split == "train" else 2  # MaRVL has four of each sentence
        # an eighth more, for a few are about a mere "thing"
        found = statements(self.scenes(split), self.sizes.seed, wanted + wanted // 8, pairs, kinds)
        return [s for s in found if s.plan is not None][: max(1, wanted // (2 * pairs)) * 2 * pairs]

    def curtained(self) -> dict[str, PictureHypothesis]:
        """File → a hypothesis about the picture, of every curtained picture."""
        rows = [h for split in self.by_split for h in (*self.hypotheses(split), *self.undecided(split))]
        return {f"curtains/{h.scene.split}/{h.image_id}.png": h for h in rows if h.curtain is not None}

    def _undecided(self, split: str) -> list[PictureHypothesis]:
        """Test rows without a label: hypotheses whose thing is behind the curtain, where there are such."""
        if split != "test":
            return []
        others = picture_hypotheses(self.scenes(split), self.sizes.seed + 1, self.sizes.tested)
        rows = [h for h in others if h.label == "neutral"]
        hidden = [h for h in rows if any(_is(h.plan.phrases[0], thing) for thing in h.scene.things)]
        return (hidden or rows)[: max(1, len(self.hypotheses(split)) // UNDECIDED)]

    def picture(self, scene: Scene) -> bytes:
        """The file of a scene's picture in the world."""
        return (self.world / "images" / scene.split / f"{scene.image_id}.png").read_bytes()

    def curtained_picture(self, hypothesis: PictureHypothesis) -> bytes:
        """The file of a curtained picture."""
        data = io.BytesIO()
        render(hypothesis.scene, self.image_size, self.seed, hypothesis.curtain).save(data, "PNG")
        return data.getvalue()


def _is(phrase: Phrase, thing: Thing) -> bool:
    """Whether a hypothesis's phrase is true of a thing."""
    kind = KINDS[thing.kind]
    looks = phrase.colour in (None, thing.colour) and phrase.pattern in (None, thing.pattern)
    return phrase.kind in (kind.name, kind.category) and looks
