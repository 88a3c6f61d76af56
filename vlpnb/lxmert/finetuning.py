"""What fine-tuning LXMERT on VQA, GQA and NLVR2 shares: the configuration, and which model fits the data.

Paper: LXMERT (Tan and Bansal 2019), section 4.2 and appendix. Batches of 32, four epochs, BertAdam with the first tenth
of the updates as warm-up, gradients clipped at norm 5, sentences of 20 tokens; validated after each epoch, and the
weights with the highest score are kept. Seeds, splits and results are those of `vlpnb.downstream.seeds`.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from vlpnb.data.region_store import RegionStore
from vlpnb.downstream.pictured import PicturedConfig, something_to_answer_with
from vlpnb.errors import UserError
from vlpnb.lxmert.start import StartConfig, StartingPoint, pretraining_of
from vlpnb.stage import Request


class LxmertFineTuningConfig(StartConfig, PicturedConfig):
    """How to fine-tune, and what. Defaults: the paper's."""

    optimiser: Literal["bert_adam", "adamw"] = "bert_adam"
    """The original's, with its schedule, whose first rate is 0; or AdamW with the course's, for short trainings."""
    epochs: float = Field(4.0, ge=0)
    """Passes over the training examples. 0: none are read; `model` is a fine-tuned one, and answers as it is."""
    batch: int = Field(32, ge=1)
    """Examples per update; what fills no batch at the end of an epoch is left out."""
    weight_decay: float = Field(0.01, ge=0)
    """Decay of all weights, biases and norms too."""
    clip: float = Field(5.0, gt=0)
    """Largest gradient norm."""
    max_length: int = Field(20, ge=3, le=512)
    """Tokens of a sentence, with the two special ones."""

    _answers = model_validator(mode="after")(something_to_answer_with)


def inputs(data: str, config: LxmertFineTuningConfig) -> Mapping[str, Request]:
    """The stage of the examples, the regions, and unless a model is named the pre-training that `start` says."""
    return {data: Request(data), "regions": Request("regions"), **pretraining_of(config)}


def check_fits(model: nn.Module, start: StartingPoint, store: RegionStore, max_length: int) -> None:
    """UserError where a model cannot read these regions or sentences, because it has learnt with others."""
    config = model.config
    if store.feature_width != config.feature_width:
        raise UserError(
            f"{start.name}: reads features of {config.feature_width:,} numbers, and the stage `regions` has "
            f"{store.feature_width:,}; expected regions of the detector that the model has learnt with"
        )
    largest = max(start.tokenizer.get_vocab().values(), default=-1)
    if largest >= config.vocab_size:
        raise UserError(
            f"{start.name}: knows {config.vocab_size:,} word pieces, and the tokenizer has the id {largest:,}; name "
            "the model's own in `tokenizer`"
        )
    if max_length > config.max_positions:
        raise UserError(
            f"max_length: {max_length} tokens, and {start.name} reads {config.max_positions} at most; lower it"
        )
