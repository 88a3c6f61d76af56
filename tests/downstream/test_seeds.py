"""What is said of a fine-tuning with several seeds."""

import math

from vlpnb.downstream.seeds import MAJORITY, told


def test_the_line_of_a_seed_names_the_split_and_the_metric_of_its_score():
    result = {"seed": 2, "value": 0.2133, "metrics": {"bleu_4": 0.3, "cider": 0.2133}, "note": ""}
    assert told("captioning", "valid", result) == "captioning seed 2: valid cider 0.213"


def test_a_split_without_labels_has_a_score_without_a_name_and_a_note_stands_at_the_end():
    result = {"seed": 1, "value": math.nan, "metrics": {}, "note": MAJORITY}
    assert told("VQA", "test", result) == f"VQA seed 1: test score nan   {MAJORITY}"
