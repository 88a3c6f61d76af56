"""What several files of a world are made of."""

from collections import defaultdict
from functools import cache, lru_cache

from vlpnb.world.grammar import caption, plan_caption
from vlpnb.world.languages.sentence_plan import SentencePlan
from vlpnb.world.questions import (
    Question,
    Statement,
    gqa_questions,
    human_answers,
    statements,
    vqa_questions,
)
from vlpnb.world.scene import Scene, Split, make_scene
from vlpnb.world.writers.layout import WorldConfig


class World:
    """The scenes of a world and what is said about them; each is made once, when it is first needed."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.scenes = cache(self._scenes)
        self.captions = cache(self._captions)
        self.statements = cache(self._statements)
        self.vqa = cache(self._vqa)
        self.vqa_answers = cache(self._vqa_answers)
        self.gqa = cache(self._gqa)
        self.plans = lru_cache(maxsize=1)(self._plans)  # one variant at a time, for all languages

    def _scenes(self, split: Split) -> list[Scene]:
        return [make_scene(self.config.seed, split, i) for i in range(self.config.count(split))]

    def _captions(self, split: Split) -> list[list[str]]:
        variants = range(self.config.captions)
        return [[caption(scene, "en", v) for v in variants] for scene in self.scenes(split)]

    def _plans(self, split: Split, variant: int) -> list[SentencePlan]:
        return [plan_caption(scene, variant) for scene in self.scenes(split)]

    def _vqa(self, split: Split) -> list[tuple[int, Question]]:
        wanted = round(self.config.questions * self.config.count(split))
        return numbered(vqa_questions(self.scenes(split), self.config.seed, wanted))

    def _vqa_answers(self, split: Split) -> list[list[tuple[str, str]]]:
        vocabulary: dict[str, set[str]] = defaultdict(set)
        for _, q in self.vqa(split):
            vocabulary[q.family].add(q.answer)
        others = {family: sorted(found) for family, found in vocabulary.items()}
        return [human_answers(q, others[q.family], self.config.seed) for _, q in self.vqa(split)]

    def _gqa(self, split: Split) -> list[tuple[int, Question]]:
        wanted = round(self.config.questions * self.config.count(split))
        return numbered(gqa_questions(self.scenes(split), self.config.seed, wanted))

    def _statements(self, split: Split) -> list[Statement]:
        wanted = round(self.config.statements * self.config.count(split))
        c = self.config
        about = (c.statement_pairs, c.statement_kinds, c.statement_phrases)
        return statements(self.scenes(split), c.seed, wanted, *about)


def numbered(questions: list[Question]) -> list[tuple[int, Question]]:
    """Questions with their number within their picture."""
    counts: dict[str, int] = defaultdict(int)
    found = []
    for question in questions:
        found.append((counts[question.image_id], question))
        counts[question.image_id] += 1
    return found
