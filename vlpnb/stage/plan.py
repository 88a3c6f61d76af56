"""A stage with everything decided, and the order of what it needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlpnb.stage.definition import Stage


@dataclass(frozen=True)
class Plan:
    """One stage with everything decided: its configuration, inputs and folder."""

    stage: Stage
    config: Any
    digest: str
    folder: Path
    inputs: Mapping[str, "Plan"]


def in_order(plans: Sequence[Plan]) -> list[Plan]:
    """The plans and all they need, each once, inputs first."""
    order: dict[str, Plan] = {}

    def add(plan: Plan) -> None:
        for item in plan.inputs.values():
            add(item)
        order.setdefault(plan.digest, plan)

    for plan in plans:
        add(plan)
    return list(order.values())
