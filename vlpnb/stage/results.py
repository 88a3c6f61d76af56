"""Finished results of a run: one by its plan, and all that the run as it is configured stands for."""

import math
from collections.abc import Mapping
from typing import Any

from vlpnb.errors import UserError
from vlpnb.stage.definition import StageResult
from vlpnb.stage.folder import Damaged, manifests, read_manifest
from vlpnb.stage.plan import Plan, Planner, in_order


def result_of(plan: Plan, reused: bool) -> StageResult:
    """The finished result of a plan. Damaged when its manifest is; UserError when the folder holds another result."""
    manifest = read_manifest(plan.folder)
    if manifest["hash"] != plan.digest:
        raise UserError(
            f"{plan.folder}: holds another result ({manifest['hash'][:16]}); remove it and run again"
        )
    return _result(plan, manifest, reused)


def results_of(planner: Planner) -> list[StageResult]:
    """The result per stage and variant that the run's profile and settings ask for, in the order of the pipeline.

    What decides is the planned identity, whatever else lies in the folder: for each stage and each of its variants
    that is there the one of the run's configuration, else the one that another of these was made from.
    """
    finished = {manifest["hash"]: manifest for _, manifest in manifests(planner.folder)}
    known: dict[str, Plan] = {}
    plans = []
    for stage, overrides in [*((name, {}) for name in planner.stages), *_variants(planner, finished)]:
        try:
            plan = planner.plan(stage, overrides, known)
        except UserError:  # a variant that this configuration does not allow, files that are not there
            continue
        plans.append(plan)
    chosen: dict[tuple[str, str], Plan] = {}
    for plan in [*plans, *in_order(plans)]:
        if plan.digest in finished:
            chosen.setdefault((plan.stage.name, plan.label), plan)
    order = list(planner.stages)
    found = sorted(chosen.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
    return [_result(plan, finished[plan.digest], reused=True) for _, plan in found]


def _variants(planner: Planner, finished: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The variants that finished results have, as overrides of their stages."""
    return [
        (
            name,
            {
                key: manifest["config"][key]
                for key in planner.stages[name].variant
                if key in manifest["config"]
            },
        )
        for manifest in finished.values()
        if (name := manifest["stage"]) in planner.stages and planner.stages[name].variant
    ]


def find_result(plan: Plan) -> StageResult | None:
    """The finished result of a plan, or None."""
    try:
        return result_of(plan, reused=True) if plan.finished else None
    except Damaged:
        return None


def _result(plan: Plan, manifest: dict[str, Any], reused: bool) -> StageResult:
    metrics = {key: math.nan if value is None else float(value) for key, value in manifest["metrics"].items()}
    seconds = manifest["seconds"]
    return StageResult(
        plan.stage.name, plan.folder, manifest, metrics, plan.config, seconds, reused, plan.label
    )
