"""What CCLM's stages of XVNLI, xGQA and MaRVL have in common: their configuration, inputs and run.

Paper: CCLM (Zeng et al., ACL 2023), section 4.1. How they learn in English and are asked in every language is
`downstream.transfer`.
"""

from collections.abc import Callable, Mapping

from vlpnb.cclm.start import StartConfig, start_inputs, starting_point
from vlpnb.downstream import transfer
from vlpnb.downstream.transfer_rows import Benchmark, TaskName, TransferConfig
from vlpnb.stage import Request, Stage, StageContext


class CclmFineTuningConfig(StartConfig, TransferConfig):
    """How to fine-tune, and what to ask then. Defaults: the paper's."""


def inputs(config: CclmFineTuningConfig) -> Mapping[str, Request]:
    """The benchmark's rows, the patches, the word pieces, and the pre-training unless a model is named."""
    return {"iglue": Request("iglue"), **start_inputs(config)}


def task_stage(
    name: TaskName, config: type[CclmFineTuningConfig], benchmark: Callable[..., Benchmark], doc: str
) -> Stage:
    """The stage `cclm.<name>`: fine-tune with every seed, and ask (`transfer.run`)."""

    def run(context: StageContext) -> dict[str, float]:
        return transfer.run(context, benchmark, starting_point(context))

    variant = ("start", "model", "blind", "fewshot", "finetuned")
    return Stage(f"cclm.{name}", config, run, inputs, variant=variant, distributed=True, doc=doc)
