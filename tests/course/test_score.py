"""`vlpnb score captions`: from two files to numbers that name their words."""

import json

import pytest

from vlpnb.course.cli import main
from vlpnb.metrics.cider import Frequencies


@pytest.fixture
def files(tmp_path):
    said = [{"image_id": 1, "caption": "a red boat"}, {"image_id": 2, "caption": "two dogs run"}]
    known = [
        {"image_id": i, "caption": text} for i, text in ((1, "A red boat."), (2, "Dogs."), (2, "Two dogs."))
    ]
    (tmp_path / "results.json").write_text(json.dumps(said))
    (tmp_path / "references.json").write_text(json.dumps({"annotations": known}))
    return tmp_path


def run(files, *more):
    with pytest.raises(SystemExit) as caught:
        main(
            [
                "score",
                "captions",
                str(files / "results.json"),
                "--references",
                str(files / "references.json"),
                *more,
            ]
        )
    return caught.value.code or 0


def test_scores_are_printed_with_their_words_and_what_was_skipped(files, capsys):
    assert run(files, "--out", str(files / "scores.json")) == 0
    out = capsys.readouterr().out
    assert "tokens = own; not comparable with published scores" in out
    assert "images = 2\n" in out
    assert "meteor skipped: " in out
    written = json.loads((files / "scores.json").read_text())
    assert f"cider = {written['overall']['CIDEr']:.6g}\n" in out
    assert written["imgToEval"]["2"]["caption"] == "two dogs run"


def test_stored_frequencies_score_a_single_picture(files, capsys):
    (files / "results.json").write_text(json.dumps([{"image_id": 1, "caption": "a red boat"}]))
    Frequencies.of([[["a", "red", "boat"]], [["two", "dogs"]], [["a", "cat"]]]).save(files / "f.json")
    assert run(files, "--partial") == 0
    out = capsys.readouterr().out
    assert "cider = 0\n" in out
    assert "1 pictures left out: they have no captions" in out
    assert run(files, "--partial", "--frequencies", str(files / "f.json")) == 0
    assert "cider = 7.5\n" in capsys.readouterr().out  # three words have no run of four


def test_references_that_are_missing_end_in_words(files, capsys):
    assert run(files, "--tokens", "moses") == 2
    assert 'tokens "moses" are unknown' in capsys.readouterr().err
    (files / "references.json").unlink()
    assert run(files) == 2
    assert "references.json does not exist" in capsys.readouterr().err
    (files / "references.json").write_text('{"images": []}')
    assert run(files) == 2
    assert "field 'annotations' is missing; found images" in capsys.readouterr().err
