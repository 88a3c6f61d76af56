"""Stage `valm.language_tasks`: how well VaLM foretells text, with the pictures of one setting (`shown.py`).

Paper: VaLM (Wang et al. 2023), its tables of language modelling and of zero-shot classification; what is asked and kept
is in `downstream/language_tasks.py`. The held-out splits are those of the model's corpus.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from vlpnb.downstream import language_tasks
from vlpnb.foundations.blocks import load_corpus
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.valm.scoring import open_scorer
from vlpnb.valm.shown import Setting


class LanguageTasksConfig(language_tasks.LanguageTasksConfig):
    """What is asked of which model."""

    model: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `valm.pretraining` that are other than the run's: {variant: none, seed: 2}."""
    setting: Setting = "trained"
    """Which pictures the model is asked with."""
    splits: tuple[Literal["captions", "text"], ...] = ("captions", "text")
    """Held-out texts of the model's corpus."""


def inputs(config: LanguageTasksConfig) -> Mapping[str, Request]:
    """The model, its corpus, and where they are asked for texts of one's own and SST-2."""
    return {
        "model": Request("valm.pretraining", config.model),
        "corpus": Request("blocks", config.model.get("corpus", {})),
        **language_tasks.wanted(config),
    }


def run(context: StageContext) -> dict[str, float]:
    """Ask (`downstream.language_tasks.run`)."""
    config: LanguageTasksConfig = context.config
    scorer = open_scorer(context.inputs["model"], config.setting, context.device)
    corpus = load_corpus(context.inputs["corpus"])
    held_out = {split: corpus.texts(split) for split in config.splits if split in corpus.splits}
    return language_tasks.run(context, scorer, held_out, {"setting": config.setting})


LANGUAGE_TASKS = Stage(
    "valm.language_tasks", LanguageTasksConfig, run, inputs, variant=("model", "setting"),
    doc="Ask VaLM for perplexity, last words and zero-shot classes.",
)  # fmt: skip
