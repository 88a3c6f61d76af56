"""The student edition of one notebook of each part, executed as a student does who has filled in nothing yet."""

import nbformat
import pytest

from vlpnb.course import notebooks_folder, open_run
from vlpnb.course.runner import find_notebooks, run_notebooks
from vlpnb.course.student import write_student_edition

pytestmark = [pytest.mark.notebook, pytest.mark.slow]


@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    """Folder of the notebooks without solutions."""
    folder = tmp_path_factory.mktemp("edition")
    write_student_edition(notebooks_folder(), folder)
    return folder


@pytest.mark.parametrize("number", ["02", "12", "22", "30", "41", "51"])
def test_a_student_gets_through_a_notebook_and_reads_what_is_missing(smoke_run, edition, tmp_path, number):
    smoke_run.notebook(number)
    (tmp_path / "runs" / "class").mkdir(parents=True)
    with smoke_run.alone():
        for made in smoke_run.run.folder.iterdir():  # the class shares what the teacher's run has finished
            if (made / "manifest.json").is_file():
                (tmp_path / "runs" / "class" / made.name).symlink_to(made)
        [path] = find_notebooks(edition, [number])
        run = open_run("smoke", "class", root=tmp_path)
        [outcome] = run_notebooks(run, [path])
    assert outcome.problem == ""
    executed = nbformat.read(run.folder / "notebooks" / path.name, 4)
    checks = [cell for cell in executed.cells if "check" in cell.metadata.get("tags", [])]
    assert len(checks) >= 3
    for check in checks:
        said = [output.evalue for output in check.outputs if output.output_type == "error"]
        assert said, f"the check of an empty stub passes: {check.source}"
        assert all(len(words) > 20 for words in said), "it says what is missing, not only that something is"
