"""The README's figures come out of a run, and its links lead somewhere."""

import base64
import re
from pathlib import Path

import nbformat
import pytest

from vlpnb.course.figures import FIGURES, copy_figures
from vlpnb.errors import UserError

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG what a figure begins with"


def executed(folder, name, *alts):
    """A notebook of a run with figures of these alt texts; the first of them is `PNG`."""
    new = nbformat.v4
    outputs = [
        new.new_output(
            "display_data",
            data={"image/png": base64.b64encode(PNG if i == 0 else b"other").decode(), "text/plain": alt},
        )
        for i, alt in enumerate(alts)
    ]
    (folder / "notebooks").mkdir(exist_ok=True)
    nbformat.write(
        new.new_notebook(cells=[new.new_code_cell("1", outputs=outputs)]),
        folder / "notebooks" / f"{name}.ipynb",
    )


def test_figures_are_taken_by_their_alt_text_from_the_notebooks_that_were_executed(tmp_path):
    beginning, words = FIGURES["vlp.png"]
    executed(tmp_path, f"{beginning}_captioning", f"Here: {words.upper()}, over pictures", "another")
    [path] = copy_figures(tmp_path, tmp_path / "figures")
    assert path == tmp_path / "figures" / "vlp.png"
    assert path.read_bytes() == PNG
    executed(tmp_path, f"{beginning}_captioning", "nothing of the kind")
    with pytest.raises(UserError, match=r"vlp\.png: no figure of 31_captioning"):
        copy_figures(tmp_path, tmp_path / "figures")


def test_a_run_without_these_notebooks_is_refused_and_leaves_nothing(tmp_path):
    executed(tmp_path, "00_start_here", "a picture")
    with pytest.raises(UserError, match="none of the notebooks 13, 21, 31, 42, 52 was executed"):
        copy_figures(tmp_path, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_the_readme_shows_every_figure_with_words_for_who_cannot_see_it():
    shown = dict(re.findall(r"!\[([^\]]*)\]\(figures/([^)]+)\)", (ROOT / "README.md").read_text()))
    assert set(shown.values()) == set(FIGURES)
    assert all(len(alt.split()) >= 8 for alt in shown)
    missing = [name for name in FIGURES if not (ROOT / "figures" / name).is_file()]
    assert sum((ROOT / "figures" / name).stat().st_size for name in set(FIGURES) - set(missing)) < 1e6
    if missing:
        pytest.skip(
            f"figures/{', '.join(missing)} missing: `make figures RUN=laptop` of a finished run, and commit"
        )


@pytest.mark.parametrize("page", ["README.md", "RESULTS.md", "CONTRIBUTING.md"])
def test_links_of_the_pages_lead_somewhere(page):
    text = (ROOT / page).read_text()
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("http"):
            assert (ROOT / target.partition("#")[0]).exists(), target
