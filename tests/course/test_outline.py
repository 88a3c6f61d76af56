"""Which notebook needs which, from what each says it reads and writes."""

import nbformat
import pytest

from vlpnb.course import notebooks_folder, open_run
from vlpnb.course.outline import PARTS, direct, prerequisites, stated

PATHS = sorted(notebooks_folder().glob("[0-9]*.ipynb"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return open_run("smoke", "x", root=tmp_path_factory.mktemp("data"))


def test_both_ways_to_say_it_are_understood(run):
    new = nbformat.v4

    def read(text):
        return stated(new.new_notebook(cells=[new.new_markdown_cell(text)]), run.stages)

    table = read(
        "| Reads | stages `vokenization.matching`, `vokenization.keys` (`universe.hdf5`) |\n"
        "| Writes | stage `vokenization.vokens`: `train.hdf5` |"
    )
    assert (table.reads, table.writes) == (
        {"vokenization.matching", "vokenization.keys"},
        {"vokenization.vokens"},
    )
    line = read("**Reads:** the stage `world`. **Writes:** the stages `captions` and `vision`.")
    assert (line.reads, line.writes) == ({"world"}, {"captions", "vision"})
    assert read("**Reads:** nothing. **Writes:** nothing.").said
    assert not read("# A title").said


def test_every_notebook_says_what_it_reads_and_belongs_to_a_part(run):
    for path in PATHS:
        assert stated(nbformat.read(path, as_version=4), run.stages).said, path.name
        assert path.name[0] in PARTS, path.name


def test_notebooks_wait_for_what_they_read(run):
    books = [nbformat.read(path, as_version=4) for path in PATHS]
    number = {path.name[:2]: i for i, path in enumerate(PATHS)}
    needs = prerequisites(run, books)
    assert needs[number["00"]] == frozenset()
    assert {number[n] for n in ("01", "10", "11", "12")} <= needs[number["13"]]
    assert number["14"] not in needs[number["15"]], "the benchmark is not needed to train with vokens"
    assert number["15"] in needs[number["16"]]
    assert number["21"] in needs[number["22"]], "the table of results has VQA and GQA"
    assert number["15"] not in needs[number["22"]], "no system needs another"
    near = direct(needs)
    assert number["15"] in near[number["16"]]
    assert number["10"] not in near[number["16"]], "implied by 15"
    assert all(near[i] <= needs[i] for i in range(len(needs)))
