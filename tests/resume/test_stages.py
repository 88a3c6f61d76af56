"""SIGKILL at any moment: every stage of the pipeline, re-run until it is done, leaves what an undisturbed run leaves.

Each stage once: at a moment of its work, between two operations on files that belong together (where moments hardly
ever hit), and on a disk that is full. Every moment of what they are made of is in the tests of the engine
(`tests/stage`), of sharded work (`tests/data/test_shards.py`), of the training loop (`tests/train/test_kills.py`), of
the runner of jobs (`tests/downstream/test_jobs.py`) and of the export.
"""

import random
import shutil

import pytest

from tests.resume.attempts import content
from vlpnb.course.pipeline import STAGES
from vlpnb.stage.folder import MANIFEST

pytestmark = pytest.mark.slow  # all its tests together
NAMES = [stage.name for stage in STAGES]
pytestmark = pytest.mark.slow  # a minute for all of them


def run_on(driver, stage: str) -> dict:
    """The attempt that nobody kills; it must finish."""
    answer = driver.attempt(stage)
    assert answer["outcome"] == "finished", answer
    return answer


def same(found: dict, expected: dict) -> None:
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("stage", NAMES)
def test_killed_in_the_work_and_between_two_operations_on_files(driver, spare, stage):
    reference = driver.reference(stage)
    folder = spare(stage)
    dice = random.Random(stage)
    for most in (0.8, 0.4, 0.2, 0.1, 0.05):  # earlier where the work was over before the kill
        answer = driver.attempt(stage, after=dice.uniform(0, most) * reference["seconds"])
        if answer["outcome"] == "killed" and not (folder / MANIFEST).is_file():
            break
        shutil.rmtree(folder)
    assert answer["outcome"] == "killed", f"no kill fell into {reference['seconds']:.2f} s of work"

    # Renames and removals are where a result becomes visible or its source disappears; the manifest's comes last.
    decisive = sorted({(kind, name) for kind, name in reference["events"] if kind != "open"})
    for fatal in ([dice.choice(decisive), ("rename", MANIFEST)], [("rename", MANIFEST)]):
        answer = driver.attempt(stage, events=fatal)
        assert answer["outcome"] == "killed", answer
        if answer["events"] == [["rename", MANIFEST]]:
            break
    run_on(driver, stage)
    same(content(folder), reference["content"])


@pytest.mark.parametrize("stage", NAMES)
def test_a_full_disk_is_named_and_the_next_attempt_succeeds(driver, spare, stage):
    """Simulated by a limit on the size of a file, which every library under the stage meets as it meets a full disk."""
    reference = driver.reference(stage)
    folder = spare(stage)
    sizes = [len(value) for value in reference["content"].values() if isinstance(value, bytes)]
    largest = max(sizes, default=300)  # a stage without files of its own still writes a manifest
    answer = driver.attempt(stage, limit=largest * 2 // 3)
    assert answer["outcome"] == "failed", answer
    assert answer["kind"] == "UserError"
    assert answer["message"].startswith(str(folder))
    assert "File too large" in answer["message"]
    assert "make room" in answer["message"]
    assert not (folder / MANIFEST).is_file()
    assert [path.name for path in folder.rglob("*.tmp")] == []
    run_on(driver, stage)
    same(content(folder), reference["content"])
