"""The inputs of the fine-tuning stages, and of each one training that learns: once for the session."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import tiny_lm
from tests.downstream.tasks import TASKS, Task, make


@dataclass(frozen=True)
class Finished:
    """A stage's folder, its metrics, the lines that it said, and how often it asked for examples."""

    folder: Path
    metrics: dict[str, float]
    said: list[str]
    asked: int


class Asked:
    """Counts the batches that a task's stage asks for, and interrupts it after some."""

    def __init__(self, patch: pytest.MonkeyPatch, task: Task):
        self.count, self.limit = 0, math.inf
        batch = task.examples.batch

        def counted(examples, rows):
            self.count += 1
            if self.count > self.limit:
                raise KeyboardInterrupt
            return batch(examples, rows)

        patch.setattr(task.examples, "batch", counted)

    def during(self, work: Callable[[], dict], limit: float = math.inf) -> dict:
        self.count, self.limit = 0, limit
        return work()


def run(task: Task, fields: dict, folder: Path, inputs: dict[str, Path]) -> Finished:
    """A task's stage in a folder."""
    context = tiny_lm.context(task.config(fields), folder, inputs, said := [])
    with pytest.MonkeyPatch.context() as patch:
        asked = Asked(patch, task)
        return Finished(folder, task.stage.run(context), said, asked.count)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> dict[str, Path]:
    return make(tmp_path_factory.mktemp("downstream"))


@pytest.fixture(scope="session")
def finished(inputs, tmp_path_factory):
    """Gives the finished training of "glue", "squad" or "swag"."""
    made: dict[str, Finished] = {}

    def finished(name: str) -> Finished:
        if name not in made:
            [task] = [task for task in TASKS if task.name == name]
            made[name] = run(task, task.learns, tmp_path_factory.mktemp(name), inputs)
        return made[name]

    return finished


@pytest.fixture(scope="session", params=TASKS, ids=lambda task: task.name)
def task(request) -> Task:
    return request.param


@pytest.fixture(scope="session")
def brief(task, inputs, tmp_path_factory) -> Finished:
    """A task's training of a few updates."""
    return run(task, task.brief, tmp_path_factory.mktemp("brief"), inputs)
