"""Questions about the visual world: VQA, GQA, NLVR2 statements and SNLI-like entailment pairs.

The formats are those of VQA v2 (Goyal et al. 2017), GQA (Hudson and Manning 2019), NLVR2 (Suhr et al. 2019)
and SNLI (Bowman et al. 2015); `vlpnb/world/writers` puts them on disk.

Balance, the promise of this package: **nothing can be guessed from the words**. Questions come in *units*. A
unit is one text asked about several pictures, with a different answer for each, so that every answer that a
text has in a split is right equally often, and any function of the text alone scores exactly chance. (VQA v2
balances by complementary pairs as well; here there is nothing else.) A unit of statements is one sentence
with as many true as false pairs of pictures, and a unit of entailments is one hypothesis with one premise for
each of the three labels.

`entailment_pictures` asks hypotheses of pictures rather than of premises, for XVNLI; in the four other languages
questions and statements are said by `vlpnb/world/languages/asking`.

A question never says a canonical attribute ("Is there a yellow banana?"): like all text of this world it
leaves that to the pictures. "What is the yellow thing?" is fair, since the answer needs the picture.
"""

from vlpnb.world.questions.balance import Question, balanced
from vlpnb.world.questions.counted_scene import CountedScene
from vlpnb.world.questions.gqa import gqa_candidates, gqa_questions
from vlpnb.world.questions.nlvr2 import STATEMENT_KINDS, Statement, statement_forms, statements
from vlpnb.world.questions.snli import LABELS, Entailment, entailments, premise
from vlpnb.world.questions.vqa import human_answers, vqa_candidates, vqa_questions

__all__ = [
    "LABELS",
    "STATEMENT_KINDS",
    "CountedScene",
    "Entailment",
    "Question",
    "Statement",
    "balanced",
    "entailments",
    "gqa_candidates",
    "gqa_questions",
    "human_answers",
    "premise",
    "statement_forms",
    "statements",
    "vqa_candidates",
    "vqa_questions",
]
