"""Fixtures shared by all tests: the optional sample data, and a quiet, repeatable torch."""

import os
from pathlib import Path

# One thread per test process: the suite runs on two workers, and oversubscription makes it crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

from tests import shapes

shapes.install("vlpnb")

SAMPLE_DATA = Path(os.environ.get("VLPNB_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with sample data of the public datasets; the tests that need it skip where it is absent."""
    if not SAMPLE_DATA.is_dir():
        pytest.skip(f"sample data not found at {SAMPLE_DATA}; set VLPNB_SHARED_DATA to its folder")
    return SAMPLE_DATA


@pytest.fixture(autouse=True)
def _seeded():
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """The undisturbed run of the notebooks at `smoke`, the same one in every test process (`notebooks/shared.py`)."""
    from tests.notebooks.shared import SmokeRun

    base = tmp_path_factory.getbasetemp()
    return SmokeRun((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "smoke-run")


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The stages of the matcher, run once on one-coloured pictures (`small.py`)."""
    from tests.small import make

    return make(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def small_world(tmp_path_factory):
    """A tiny visual world with the stages `sentences`, `questions` and `pairs` (`small_world.py`)."""
    from tests.small_world import make_small_world

    return make_small_world(tmp_path_factory.mktemp("small-world"))
