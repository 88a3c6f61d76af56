"""The loop killed before every operation on files: what it continues from is whole, and the result is the same."""

import json

import pytest
import torch

from tests.kills import attempt, files, killed_everywhere
from tests.train.test_loop import Regression, batches, untimed, weights
from vlpnb.files import write_text
from vlpnb.stage.folder import remove_leftovers
from vlpnb.train.checkpoint import NAME
from vlpnb.train.loop import TrainingPlan, fit

PLAN = TrainingPlan(
    updates=5,
    lr=0.01,
    warmup=2,
    log_every=3,
    seed=4,
    checkpoint_seconds=0.0,
    evaluate_at=frozenset({0, 2, 5}),
)

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(),
    reason="bit-identical results are promised on a CPU; a GPU's process cannot fork",
)


def train(folder, keep=True):
    """Trains, with a snapshot at each evaluation as stages write it; the model and the lines of its log."""
    model = Regression(dropout=0.3)

    def evaluate(step):
        write_text(folder / f"snapshot-{step}", json.dumps(weights(model).tolist()))
        return {"score": float(weights(model).sum())}

    return model, fit(model, batches, PLAN, folder, evaluate=evaluate, keep=keep)


@pytest.fixture
def alone(tmp_path):
    """The folder of an undisturbed training."""
    (tmp_path / "alone").mkdir()
    return tmp_path / "alone"


@pytest.mark.parametrize(("keep", "since"), [(True, 0), (False, -4)])  # they differ at the end
@pytest.mark.slow
def test_killed_before_every_operation_on_files(alone, tmp_path, keep, since):
    model, records = train(alone, keep)
    count = 0
    for event, folder in killed_everywhere(lambda folder: train(folder, keep), tmp_path / "kills", since):
        remove_leftovers(folder)  # as the engine does
        again, found = train(folder, keep)
        assert torch.equal(weights(again), weights(model)), event
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert untimed(lines) == untimed(found) == untimed(records), event
        for name, content in files(alone).items():
            assert name in files(folder), event
            assert not name.startswith("snapshot") or files(folder)[name] == content, event
        assert len(files(folder)) == len(files(alone)), event
        assert (NAME in files(folder)) == keep
        count += 1
    assert count > (2 * PLAN.updates if keep else 3)


def test_a_full_disk_is_named_and_the_next_attempt_goes_on(alone, tmp_path):
    model, _ = train(alone)
    size = (alone / NAME).stat().st_size
    for limit in (100, size // 2, size - 1):
        folder = tmp_path / str(limit)
        found = attempt(train, folder, limit=limit)
        assert found.end.startswith("UserError: "), found.end
        assert "make room" in found.end
        assert not list(folder.glob(".*.tmp"))
        again, _ = train(folder)
        assert torch.equal(weights(again), weights(model))
