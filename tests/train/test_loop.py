"""The loop: a killed run continues to the bit, processes and accumulation do not matter, NaN stops it."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from vlpnb.errors import UserError
from vlpnb.train.checkpoint import NAME, save_checkpoint
from vlpnb.train.distributed import spawn, sum_of_dicts
from vlpnb.train.loop import Diverged, TrainingPlan, fit
from vlpnb.train.optim import adamw
from vlpnb.train.sampling import EpochSampler, Update, seed_of, share


class Regression(nn.Module):
    """Two losses with different numbers of targets: squares of every row, magnitudes of marked rows."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))

    def forward(self, x, y, marked):
        error = self.net(x)[:, 0] - y
        return {"square": error.square().sum(), "absolute": error[marked].abs().sum()}


DATA = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
TARGET = DATA.sum(1)
SAMPLER = EpochSampler(40, 12, seed=5, drop_last=True)


def batches(step: int, rank: int = 0, world_size: int = 1, micro: int = 1) -> Update:
    rows = torch.from_numpy(SAMPLER(step))
    marked = torch.rand(40, generator=torch.Generator().manual_seed(seed_of(7, step))) < 0.3
    parts = share(rows, rank, world_size, micro)
    return Update(
        [{"x": DATA[r], "y": TARGET[r], "marked": marked[r]} for r in parts],
        {"square": len(rows), "absolute": int(marked[rows].sum())},
        tokens=len(rows),
    )


PLAN = TrainingPlan(updates=20, lr=0.01, warmup=3, log_every=5, weights={"absolute": 0.5}, seed=4)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_it_learns_and_logs(tmp_path):
    seen = []
    records = fit(
        Regression(),
        batches,
        TrainingPlan(updates=100, lr=0.05, log_every=10, evaluate_at=frozenset({0, 50, 100})),
        tmp_path,
        evaluate=lambda step: seen.append(step) or {"score": step / 2},
        progress=lambda done, total, loss: seen.append((done, total)),
    )
    assert [s for s in seen if isinstance(s, int)] == [0, 50, 100]
    assert (100, 100) in seen
    assert records == [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [r["loss"] for r in records if "loss" in r]
    assert losses[-1] < 0.1 * losses[0]
    assert not (tmp_path / NAME).exists()


def test_accumulation_changes_nothing(tmp_path):
    results = []
    for micro in (1, 3):
        model = Regression()
        (tmp_path / str(micro)).mkdir()
        records = fit(model, lambda step, m=micro: batches(step, micro=m), PLAN, tmp_path / str(micro))
        results.append((weights(model), [r["absolute"] for r in records]))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-6, rtol=1e-5)
    assert results[0][1] == pytest.approx(results[1][1], abs=1e-5)


def train_on(rank: int, world_size: int, folder: str) -> None:
    model = Regression()
    records = fit(
        model,
        lambda step: batches(step, rank, world_size, micro=2),
        PLAN,
        Path(folder),
        rank=rank,
        world_size=world_size,
    )
    assert sum_of_dicts({"n": 1.0}, world_size, "cpu") == {"n": 2.0}
    if rank == 0:
        torch.save({"weights": weights(model), "loss": records[-1]["loss"]}, f"{folder}/result.pt")


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    spawn(train_on, 2, str(tmp_path / "store"), str(tmp_path))
    two = torch.load(tmp_path / "result.pt", weights_only=True)
    model = Regression()
    (tmp_path / "one").mkdir()
    records = fit(model, batches, PLAN, tmp_path / "one")
    torch.testing.assert_close(weights(model), two["weights"], atol=1e-6, rtol=1e-5)
    assert records[-1]["loss"] == pytest.approx(two["loss"], abs=1e-5)


class Stop(Exception):
    pass


def test_an_interrupted_run_continues_to_the_bit(tmp_path):
    plan = TrainingPlan(updates=30, lr=0.01, warmup=3, log_every=4, seed=4, checkpoint_seconds=0.0)
    whole = Regression(dropout=0.3)
    (tmp_path / "whole").mkdir()
    expected = fit(whole, batches, plan, tmp_path / "whole")
    (tmp_path / "parts").mkdir()
    for stop in (1, 9, 22):
        model = Regression(dropout=0.3)

        def interrupted(step, stop=stop):
            if step == stop:
                raise Stop
            return batches(step)

        with pytest.raises(Stop):
            fit(model, interrupted, plan, tmp_path / "parts")
    model = Regression(dropout=0.3)
    records = fit(model, batches, plan, tmp_path / "parts")
    assert torch.equal(weights(model), weights(whole))
    assert untimed(records) == untimed(expected)
    written = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert untimed(written) == untimed(expected)


def untimed(records: list[dict]) -> list[dict]:
    return [{name: value for name, value in r.items() if name != "tokens_per_second"} for r in records]


def test_a_finished_training_that_is_kept_is_not_repeated(tmp_path):
    model = Regression(dropout=0.3)
    expected = fit(model, batches, PLAN, tmp_path, keep=True)

    def never(step):
        raise AssertionError("trained again")

    again = Regression(dropout=0.3)
    assert fit(again, never, PLAN, tmp_path, keep=True) == expected
    assert torch.equal(weights(again), weights(model))


def test_nan_stops_with_a_clear_message_and_keeps_the_last_good_checkpoint(tmp_path):
    def poisoned(step):
        update = batches(step)
        if step == 7:
            update.micro[0]["x"] = update.micro[0]["x"] * math.nan
        return update

    plan = TrainingPlan(updates=20, lr=0.01, log_every=100, checkpoint_seconds=0.0)
    with pytest.raises(Diverged, match=r"square, absolute, gradient_norm became infinite .* update 8"):
        fit(Regression(), poisoned, plan, tmp_path)
    assert torch.load(tmp_path / NAME, weights_only=True)["step"] == 7
    assert torch.isfinite(torch.load(tmp_path / NAME, weights_only=True)["model"]["net.0.weight"]).all()


def test_a_foreign_checkpoint_is_explained(tmp_path):
    model = Regression()
    save_checkpoint(tmp_path, model, adamw(model, 0.1), step=3, seed=1)
    with pytest.raises(UserError, match="seed 1, this run has seed 4"):
        fit(model, batches, PLAN, tmp_path)


def one_byte_flipped(content):
    at = content.index(torch.ones(4).numpy().tobytes())
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage", [one_byte_flipped, lambda content: content[:100], lambda content: b"x" * 200]
)
def test_a_damaged_checkpoint_is_named_moved_aside_and_not_continued(tmp_path, damage):
    untouched = Regression()
    (tmp_path / "untouched").mkdir()
    fit(untouched, batches, PLAN, tmp_path / "untouched")
    model = Regression()
    save_checkpoint(tmp_path, model, adamw(model, 0.1), step=3, seed=PLAN.seed, log={"x": torch.ones(4)})
    content = damage((tmp_path / NAME).read_bytes())
    (tmp_path / NAME).write_bytes(content)
    with pytest.warns(
        UserWarning, match=f"{NAME} is damaged .*moved to {NAME}.damaged, training starts anew"
    ):
        fit(model, batches, PLAN, tmp_path)
    assert (tmp_path / f"{NAME}.damaged").read_bytes() == content
    for ours, theirs in zip(model.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_with_vlps_optimiser_tensors_are_clipped_and_the_whole_gradient_is_not(tmp_path):
    """A global clip far below every tensor's norm would show in the second moments."""
    plan = dataclasses.replace(PLAN, updates=1, optimiser="vlp_adam", schedule="bert", clip=1e-3, log_every=1)
    model, seen = Regression(), {}

    def hook(optimiser, *_):
        seen.update({p: p.grad.norm().item() for group in optimiser.param_groups for p in group["params"]})

    handle = register_optimizer_step_post_hook(hook)
    records = fit(model, batches, plan, tmp_path)
    handle.remove()
    assert records[-1]["gradient_norm"] > 0.1
    assert list(seen.values()) == pytest.approx([1e-3] * 4, rel=1e-2)
