"""SIGKILL at any moment: every stage of the pipeline, re-run until it is done, leaves what an undisturbed run leaves.

Two kinds of moments. Seeded random times fall inside the work. Seeded file operations (opened, renamed, removed)
fall between two writes that belong together, where random times hardly ever hit. A disk that is full is one more way
to be interrupted.
"""

import random

import pytest

from tests.resume.attempts import content
from vlpnb.course.pipeline import STAGES
from vlpnb.stage.folder import MANIFEST

pytestmark = pytest.mark.slow  # all its tests together
NAMES = [stage.name for stage in STAGES]
TIMES, EVENTS = 3, 12  # kills of each kind per stage, at most


def run_on(driver, stage: str) -> dict:
    """The attempt that nobody kills; it must finish."""
    answer = driver.attempt(stage)
    assert answer["outcome"] == "finished", answer
    return answer


def same(found: dict, expected: dict) -> None:
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("stage", NAMES)
def test_killed_at_random_moments(driver, spare, stage):
    reference = driver.reference(stage)
    folder = spare(stage)
    dice = random.Random(stage)
    inside = 0
    for part in range(TIMES):
        moment = (part + dice.random()) / TIMES * 0.8 * reference["seconds"]
        answer = driver.attempt(stage, after=moment)
        if answer["outcome"] == "finished":
            break
        assert answer["outcome"] == "killed", answer
        inside += answer["begun"] and not (folder / MANIFEST).is_file()
    assert inside >= 1, f"no kill fell into {reference['seconds']:.2f} s of work"
    run_on(driver, stage)
    same(content(folder), reference["content"])


@pytest.mark.parametrize("stage", NAMES)
def test_killed_between_two_operations_on_files(driver, spare, stage):
    reference = driver.reference(stage)
    folder = spare(stage)
    dice = random.Random(stage)
    events = list(dict.fromkeys(map(tuple, reference["events"])))
    # Renames and removals are where a result becomes visible or its source disappears.
    decisive = [event for event in events if event[0] != "open"]
    chosen = set(dice.sample(decisive, min(EVENTS - 2, len(decisive))))
    chosen |= set(dice.sample(events, min(2, len(events)))) | {("rename", MANIFEST)}
    while chosen:
        answer = driver.attempt(stage, events=sorted(chosen))
        if answer["outcome"] == "finished":
            break
        assert answer["outcome"] == "killed", answer
        [event] = map(tuple, answer["events"])
        chosen.remove(event)
    assert ("rename", MANIFEST) not in chosen  # every chain of kills ends at the very end
    run_on(driver, stage)
    same(content(folder), reference["content"])


@pytest.mark.parametrize("stage", NAMES)
def test_a_full_disk_is_named_and_the_next_attempt_succeeds(driver, spare, stage):
    """Simulated by a limit on the size of a file, which every library under the stage meets as it meets a full disk."""
    reference = driver.reference(stage)
    folder = spare(stage)
    sizes = [len(value) for value in reference["content"].values() if isinstance(value, bytes)]
    largest = max(sizes, default=300)  # a stage without files of its own still writes a manifest
    for limit in (60, largest * 2 // 3):
        answer = driver.attempt(stage, limit=limit)
        assert answer["outcome"] == "failed", answer
        assert answer["kind"] == "UserError"
        assert answer["message"].startswith(str(folder))
        assert "File too large" in answer["message"]
        assert "make room" in answer["message"]
        assert not (folder / MANIFEST).is_file()
        assert [path.name for path in folder.rglob("*.tmp")] == []
    run_on(driver, stage)
    same(content(folder), reference["content"])
