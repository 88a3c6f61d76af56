"""Questions about a picture and statements about two, in German, French, Indonesian and Chinese.

Nothing here comes from a paper; xGQA and MaRVL ask what translation does to a model that was trained in English. The
English sentence is the one that `vlpnb/world/questions` makes, beside its plan; one file a language turns the plan into
its own sentence, with genders, cases, articles and word order. A translation depends on the plan alone, so that what is
balanced in English stays balanced.
"""

from types import ModuleType

from vlpnb.errors import UserError
from vlpnb.world.languages.asking import chinese, french, german, indonesian
from vlpnb.world.languages.sentence_plan import QuestionPlan, StatementPlan

TRANSLATORS: dict[str, ModuleType] = {"de": german, "fr": french, "id": indonesian, "zh": chinese}


def translated(english: str, plan: QuestionPlan | StatementPlan, language: str) -> str:
    """The sentence of a plan in a language; `english` is it in English. UserError for an unknown language."""
    if language == "en":
        return english
    if language not in TRANSLATORS:
        raise UserError(
            f"Unknown language {language!r} of questions; expected one of en, {', '.join(TRANSLATORS)}."
        )
    module = TRANSLATORS[language]
    return module.question(plan) if isinstance(plan, QuestionPlan) else module.statement(plan)
