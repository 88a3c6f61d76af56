"""Recorded numbers of text hold, at any size, and a folder with a wrong one does not."""

import json
import os
from pathlib import Path

import pytest

from vlpnb.cclm.original.verify_text import CHECKS
from vlpnb.data.agreement import compare
from vlpnb.data.recorded import RecordedFolder

SHARED = Path(os.environ.get("VLPNB_SHARED_GOLDEN_CCLM", Path(__file__).parents[4] / "shared/golden/cclm"))
MINE = ("text.json", "masking.json")


def wrong_ones(folder: RecordedFolder) -> list[str]:
    found = [compare(case) for check in CHECKS for case in check(folder)]
    assert found
    return [agreement.first for agreement in found if agreement.beyond]


def test_the_originals_numbers_hold_and_none_is_passed_over():
    if not (SHARED / "text.json").is_file():
        pytest.skip(f"recorded numbers of CCLM not found at {SHARED}")
    folder = RecordedFolder(SHARED)
    assert wrong_ones(folder) == []
    assert all(folder.files()[name] == [] for name in MINE)


def small(folder: Path) -> tuple[dict, dict]:
    """A folder of other sizes, whose numbers follow from the rules by counting."""
    text = {
        "cleaning": [
            {
                "text": "One,  two-three FOUR",
                "max_words": 3,
                "caption": "one two three",
                "question": "one   two-three",
            },
            {"text": "?!", "max_words": 9, "caption": None, "question": ""},
        ],
        "token_preparation": [
            {"max_tokens": 5, "pieces": 2, "ids": [0, 4, 5, 2, 1], "mask": [1, 1, 1, 1, 0], "lengths": []},
            {"max_tokens": 5, "pieces": 9, "ids": [0, 4, 5, 6, 2], "mask": [1] * 5, "lengths": []},
        ],
    }
    text["cleaning"][0]["question"] = "one  "  # the spaces are words of their own
    masking = {
        "rule": "", "vocabulary": 50, "mask_probability": 0.4, "span_probability": 0.2, "span_lengths": [2, 3],
        "short": [{"tokens": 3, "selected": [1]}],
        "selected_for_length": {"2": 1, "5": 2, "30": 7},
        "selected_for_length_parallel": {"9": 4, "100": 9},
        "cases": [
            {
                "tokens": 2, "max_masks": 4, "draws": 3000, "number_selected": {"1": 3000}, "rate_by_position": [0, 1],
                "share_mask": 0.8, "share_random": 0.1, "share_unchanged": 0.1,
                "share_of_random_that_are_special": 4 / 50,
                "share_of_selected_whose_right_neighbour_is_selected": 0.0,
            }
        ],
    }  # fmt: skip
    write(folder, text, masking)
    return text, masking


def write(folder: Path, text: dict, masking: dict) -> None:
    for name, about in zip(MINE, (text, masking), strict=True):
        (folder / name).write_text(json.dumps(about))


def test_folders_of_other_sizes_hold_and_wrong_numbers_are_found(tmp_path):
    text, masking = small(tmp_path)
    assert wrong_ones(RecordedFolder(tmp_path)) == []
    text["cleaning"][0]["caption"] = "one two-three four"
    text["token_preparation"][0]["ids"][1] = 3
    masking["selected_for_length"]["5"] = 3
    masking["cases"][0]["share_mask"] = 0.9
    write(tmp_path, text, masking)
    found = wrong_ones(RecordedFolder(tmp_path))
    assert [line.split(":")[0].split("[")[0] for line in found] == [
        "cleaning", "token_preparation", "selected_for_length.5", "cases",
    ]  # fmt: skip
