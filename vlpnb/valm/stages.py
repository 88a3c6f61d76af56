"""The stages of part 4, in the order of the pipeline; each is defined beside its code."""

from vlpnb.stage import Stage
from vlpnb.valm.commonsense import COMMONSENSE
from vlpnb.valm.language_tasks import LANGUAGE_TASKS
from vlpnb.valm.pretraining import PRETRAINING
from vlpnb.valm.queries import QUERIES
from vlpnb.valm.results import RESULTS

STAGES: tuple[Stage, ...] = (
    QUERIES, PRETRAINING, COMMONSENSE, LANGUAGE_TASKS, RESULTS,
)  # fmt: skip
