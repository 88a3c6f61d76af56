"""Where a fine-tuned model starts: from the run's pre-training, from one with less, from nothing, or from outside.

Paper: LXMERT (Tan and Bansal 2019), tables 3 to 5. "From scratch" and "from BERT" are pre-trainings of no update, so
that the shape of the model and its words are those of the pre-trained one. From scratch every fine-tuning seed draws
weights of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config, Seed
from vlpnb.data.lxmert import AnswerTable
from vlpnb.errors import UserError
from vlpnb.lxmert.heads import AnsweringModel, LxmertForPretraining, PairModel
from vlpnb.lxmert.model import Lxmert, LxmertConfig
from vlpnb.lxmert.original.weights import load_answers, load_model
from vlpnb.lxmert.reading_results import NAMES
from vlpnb.nn.losses import AnswerObjective
from vlpnb.outside import ModelName, OutsidePath
from vlpnb.stage import Request, StageContext
from vlpnb.text.tokenizers import PAIRED, load_tokenizer

MODEL, TABLE = "model", "answers.json"  # in the folder of a pre-training
Model = TypeVar("Model", AnsweringModel, PairModel)
Start = Literal[
    "pretrained", "scratch", "bert", "from_bert", "no_vision", "features", "labels", "no_qa",
    "mismatch_0", "mismatch_50",
]  # fmt: skip
STARTS: Mapping[Start, Mapping[str, Any]] = {
    "pretrained": {},
    "scratch": {"updates": 0},
    "bert": {"updates": 0, "start": "bert"},
    "from_bert": {"start": "bert"},
    "no_vision": {"visual_losses": ()},
    "features": {"visual_losses": ("features",)},
    "labels": {"visual_losses": ("objects", "attributes")},
    "no_qa": {"tasks": ("words", "match", "objects")},
    "mismatch_0": {"mismatch_rate": 0.0},
    "mismatch_50": {"mismatch_rate": 0.5},
}  # what the stage `lxmert.pretraining` does otherwise
NO_ANSWERS = ("scratch", "bert", "no_qa")  # whose head of answers learnt nothing


class StartConfig(Config):
    """Which weights are fine-tuned."""

    start: Start = "pretrained"
    """The run's pre-training; "scratch", nothing was learnt; "bert", nothing but BERT; or a pre-training with less."""
    model: ModelName = ""
    """Instead: a folder of HuggingFace or of a pre-training, or an original checkpoint."""
    tokenizer: ModelName = ""
    """Of a `model` that has none in its folder, such as bert-base-uncased."""
    answer_table: OutsidePath = ""
    """Of a `model` that has no answers.json beside it: the original's all_ans.json, to start the head of answers."""
    seed: Seed = 9595
    """Of the pre-training."""


def pretraining_of(config: StartConfig) -> Mapping[str, Request]:
    """The pre-training that `start` says, unless a model is named."""
    if config.model:
        return {}
    return {"pretraining": Request("lxmert.pretraining", {**STARTS[config.start], "seed": config.seed})}


@dataclass(frozen=True)
class StartingPoint:
    """Where the weights of a fine-tuned model come from, and what came with them."""

    name: str  # as the log says it
    weights: str
    """A folder or file."""
    tokenizer: PreTrainedTokenizerFast
    table: AnswerTable | None
    """Of the head of answers; None, or without an answer, where that head learnt nothing."""
    fresh: bool = False
    """Take the shape alone: every fine-tuning seed draws weights of its own."""

    def answering(
        self, answers: Sequence[str], load_head: bool, objective: AnswerObjective
    ) -> AnsweringModel:
        """A model for these answers.

        Raises:
            UserError: the weights lack names, or have no head of answers where one is to be loaded.
        """
        if not load_head or not self.table:
            return self._filled(lambda config: AnsweringModel(config, len(answers), objective))
        source = load_model(self.weights, LxmertForPretraining)
        model = AnsweringModel(source.config, len(answers), objective)
        model.backbone.load_state_dict(source.backbone.state_dict())
        load_answers(model.answers, source.answers, answers, self.table)
        return model

    def finished(self, kind: type[Model]) -> Model:
        """A fine-tuned model as it is, with its head. UserError when the weights are of another kind."""
        return load_model(self.weights, kind)

    def pairs(self) -> PairModel:
        """A model for pairs of pictures. UserError when the weights lack names."""
        return self._filled(PairModel)

    def _filled(self, new: Callable[[LxmertConfig], Model]) -> Model:
        """A new model with the backbone of the weights."""
        backbone = load_model(self.weights, Lxmert)
        model = new(backbone.config)
        if not self.fresh:
            model.backbone.load_state_dict(backbone.state_dict())
        return model


def starting_point(context: StageContext) -> StartingPoint:
    """What the configuration says: the run's pre-training, or a model from outside.

    Raises:
        UserError: a model from outside has no tokenizer, and none is named.
    """
    config: StartConfig = context.config
    name = config.model or NAMES[config.start]
    folder = Path(config.model) if config.model else context.inputs["pretraining"]
    weights = str(folder / MODEL) if (folder / MODEL).is_dir() else config.model
    if not config.model:
        table = None if config.start in NO_ANSWERS else AnswerTable.read(folder / TABLE)
        tokenizer = load_tokenizer(weights, PAIRED)
        return StartingPoint(name, weights, tokenizer, table, fresh=config.start == "scratch")
    if Path(weights).is_file() and not config.tokenizer:
        raise UserError(
            f"{context.name}.tokenizer: {weights} has no tokenizer beside it; name it, such as bert-base-uncased"
        )
    given = config.answer_table or (str(folder / TABLE) if (folder / TABLE).is_file() else "")
    table = AnswerTable.read(Path(given)) if given else None
    return StartingPoint(name, weights, load_tokenizer(config.tokenizer or weights, PAIRED), table)
