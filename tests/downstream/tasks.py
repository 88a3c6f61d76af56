"""What the tests of all fine-tuning stages know of each, and the text, the examples and the model that they share."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tests import tiny_lm
from vlpnb.downstream import glue, squad, swag
from vlpnb.downstream.finetuning import FineTuningConfig
from vlpnb.nn.language_model import language_model_config
from vlpnb.nn.transformer import init_weights
from vlpnb.stage import Stage
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.text.windows import QuestionWindows
from vlpnb.vokenization.glue import GLUE
from vlpnb.vokenization.squad import SQUAD
from vlpnb.vokenization.swag import SWAG
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, save_snapshot


@dataclass(frozen=True)
class Task:
    """One fine-tuning stage."""

    stage: Stage
    data: str  # the input with its examples
    examples: type  # `finetuning.Examples`
    model: type[nn.Module]  # what is trained
    learns: dict  # fields with which it learns within seconds
    brief: dict  # and fields of four trainings of a few updates
    kept: int  # the models of these four
    published: dict  # defaults

    @property
    def name(self) -> str:
        return self.stage.name.rpartition(".")[2]

    def config(self, fields: dict) -> FineTuningConfig:
        return self.stage.config(**fields)


SHORT = {
    "seeds": (3, 4),
    "epochs": 1,
    "lr": 3e-3,
    "batch": 8,
    "max_train": 40,
    "max_valid": 8,
    "checkpoint_seconds": 0,
}
TASKS = (
    Task(
        GLUE,
        "glue_data",
        glue.Encoded,
        glue.SentenceClassifier,
        learns={"tasks": ("CoLA", "RTE"), "seeds": (1, 2), "lr": 3e-3, "epochs": 5, "batch": 8},
        brief={**SHORT, "tasks": ("CoLA", "RTE")},
        kept=4,
        published={
            "lr": 1e-4, "epochs": 3, "batch": 32, "max_length": 126,
            "tasks": ("WNLI", "RTE", "MRPC", "STS-B", "CoLA", "SST-2", "QNLI", "QQP", "MNLI"),
        },
    ),
    Task(
        SQUAD,
        "squad_data",
        QuestionWindows,
        squad.QuestionAnswerer,
        learns={"seeds": (1,), "lr": 3e-3, "epochs": 6, "batch": 16, "max_length": 40, "stride": 8},
        brief={**SHORT, "max_length": 40, "stride": 8},
        kept=4,
        published={"lr": 5e-5, "epochs": 3, "max_length": 384, "stride": 128, "versions": ("1.1", "2.0")},
    ),
    Task(
        SWAG,
        "swag_data",
        swag.Endings,
        swag.EndingChooser,
        learns={"seeds": (1, 2), "lr": 3e-3, "epochs": 3},
        brief=SHORT,
        kept=2,
        published={"lr": 2e-5, "epochs": 3, "batch": 16, "max_length": 128},
    ),
)  # fmt: skip


def make(root: Path) -> dict[str, Path]:
    """The inputs of all three stages in `root`: examples, and an untrained model that learns quickly."""
    made = tiny_lm.make(root, count=40)
    tiny_lm.add_squad(root, made)
    tiny_lm.add_swag(root, made)
    tokenizer = load_tokenizer(made["corpus"] / "tokenizer")
    torch.manual_seed(0)
    model = VisuallySupervisedLM(language_model_config("micro", tokenizer, 0.0))
    init_weights(model, 0.12)  # 1/√hidden: smaller ones take long to look at the question
    save_snapshot(root / "vlm" / "snapshot-0000001", model, tokenizer)
    return {**made, "pretraining": root / "vlm", "root": root}
