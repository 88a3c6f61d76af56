"""The tiny run of `attempts.py`, once per test file."""

import shutil
from pathlib import Path

import pytest

from tests.resume.attempts import Driver


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    driver = Driver(tmp_path_factory.mktemp("resume"))
    yield driver
    driver.close()


@pytest.fixture
def spare(driver):
    """Puts a stage's reference folder aside for a test that makes the stage anew, and back at its end."""
    moved = []

    def spare(stage: str) -> Path:
        reference = driver.reference(stage)
        folder = driver.folders[stage]
        aside = folder.with_name(f".{folder.name}.reference")
        folder.rename(aside)
        moved.append((folder, aside))
        assert reference["begun"]
        return folder

    yield spare
    for folder, aside in moved:
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
