"""The notebooks that show text of the data, on captions and sentences as real data has them.

The data is the world's, written as it stands in a folder of its own, with a few texts changed.
"""

import json
import shutil

import pytest

from vlpnb.course import notebooks_folder, open_run
from vlpnb.course.runner import find_notebooks, run_notebooks

pytestmark = [pytest.mark.notebook, pytest.mark.slow]
NUMBERS = ["10", "12", "13", "14"]
CAPTIONS = [
    "A sign says $_5_$",
    "costs $5 and not $6",
    "a tab\tand a <b>",
    "ein rotes Auto, красная машина, 红色的车",
]
CLAUSE = "the red car is near the blue ball and "


@pytest.fixture
def hostile(smoke_run, tmp_path):
    """A run on the changed data."""
    folder = tmp_path / "data"
    shutil.copytree(smoke_run.run.stage("world").folder, folder)
    for split in ("train", "valid", "test", "universe"):
        path = folder / f"annotations/captions_{split}.json"
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            for annotation, text in zip(content["annotations"], 4 * CAPTIONS, strict=False):
                annotation["caption"] = text
            path.write_text(json.dumps(content), encoding="utf-8")
    text = folder / "text/wiki.valid.raw"
    long = "".join(
        f" {CLAUSE * n}the boat .\n" for n in (15, 70)
    )  # more than 128 word pieces, and more than 512
    text.write_text(long + text.read_text(encoding="utf-8"), encoding="utf-8")
    return open_run("smoke", "hostile", {"data": {"root": str(folder)}}, root=tmp_path, device="cpu")


def test_notebooks_show_every_text_as_it_stands(hostile):
    for path in find_notebooks(notebooks_folder(), NUMBERS):
        (outcome,) = run_notebooks(hostile, [path])
        assert outcome.problem == "", path.name
    shown = (hostile.folder / "notebooks" / "10_contextual_matching.ipynb").read_text(encoding="utf-8")
    assert all(json.dumps(text, ensure_ascii=False)[1:-1] in shown for text in CAPTIONS[:2])
