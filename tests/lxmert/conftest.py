"""Fixtures of the tests of LXMERT's fine-tuning: the small stages that it reads, and a way to run one of its own."""

import pytest

from tests.lxmert import small_finetuning as small


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Folders of the stages that fine-tuning reads, by name."""
    return small.make(tmp_path_factory.mktemp("lxmert") / "made")


@pytest.fixture
def run(inputs, tmp_path):
    """Run a stage of fine-tuning on them."""
    return small.runner(inputs, tmp_path)
