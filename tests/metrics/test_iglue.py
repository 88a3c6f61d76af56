"""IGLUE's scores: both denominators, consistency, letter for letter, and averages without English."""

import json

import pytest
import torch
from safetensors.torch import load_file

from vlpnb.data.iglue import EntailmentRow, PairRow, read_entailment
from vlpnb.data.xgqa import QuestionRow
from vlpnb.errors import UserError
from vlpnb.metrics.iglue import LABELS, marvl_scores, without_english, xgqa_scores, xvnli_scores
from vlpnb.metrics.retrieval import first_own_ranks, retrieval_scores


def test_xvnli_has_both_denominators():
    rows = [EntailmentRow(str(i), "p", "h", label) for i, label in enumerate([*LABELS, None])]
    scores = xvnli_scores(["contradiction", "entailment", "contradiction", "neutral"], rows)
    assert scores == {"accuracy": 2 / 3, "accuracy_all": 2 / 4, "labelled": 3, "rows": 4}


def test_real_test_files_relate_the_denominators_as_published(shared_data):
    rows = read_entailment(shared_data / "iglue/XVNLI/annotations/fr/test.jsonl")
    scores = xvnli_scores(["entailment"] * len(rows), rows)
    assert (scores["labelled"], scores["rows"]) == (1150, 1164)
    assert scores["accuracy_all"] == pytest.approx(scores["accuracy"] * 1150 / 1164)
    assert scores["accuracy"] == 394 / 1150


def test_a_statement_counts_as_consistent_if_all_its_pairs_are_right():
    rows = [PairRow(f"{g}{i}", g, "l", "r", i % 2 == 0, g) for g in "ab" for i in range(4)]
    said = [True, False, True, False, True, False, True, True]
    assert marvl_scores(said, rows) == {"accuracy": 7 / 8, "consistency": 1 / 2, "captions": 2}
    assert marvl_scores(said[4:], rows[4:])["consistency"] == 0


def test_an_answer_counts_letter_for_letter_against_the_best_one():
    rows = [
        QuestionRow("1", "p", "q", {"red": 0.3, "dark red": 0.9}),
        QuestionRow("2", "p", "q", {"yes": 1.0}),
    ]
    assert xgqa_scores(["dark red", "Yes"], rows) == {"accuracy": 0.5, "questions": 2}


def test_english_is_no_part_of_an_average_and_languages_count_alike():
    assert without_english({"en": 1.0, "de": 0.5, "zh": 0.1}) == pytest.approx(0.3)
    with pytest.raises(UserError, match="found scores of en, expected one language besides English"):
        without_english({"en": 1.0})


@pytest.mark.parametrize(
    ("score", "rows", "said", "message"),
    [
        (xvnli_scores, [EntailmentRow("1", "p", "h", "neutral")], [], "0 predictions for 1 hypotheses"),
        (xvnli_scores, [EntailmentRow("1", "p", "h", "neutral")], ["Neutral"], "the prediction 'Neutral'"),
        (
            xvnli_scores,
            [EntailmentRow("1", "p", "h", None)],
            ["neutral"],
            "none of the 1 hypotheses has a label",
        ),
        (xgqa_scores, [QuestionRow("7", "p", "q", {})], ["yes"], r"1 questions have no answer \(7"),
        (marvl_scores, [PairRow("7", "s", "l", "r", None, "g")], [True], r"1 pairs have no label \(7"),
        (marvl_scores, [], [], "0 predictions for 0 pairs"),
    ],
)
def test_what_cannot_be_scored_is_said(score, rows, said, message):
    with pytest.raises(UserError, match=message):
        score(said, rows)


def test_recall_of_a_gallery_by_hand():
    """Three pictures, four captions: the first picture has two. Conformance by a table that a person can check."""
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.2], [0.8, 0.3, 0.4, 0.7], [0.6, 0.2, 0.3, 0.9]])
    owner = torch.tensor([0, 0, 1, 2])
    assert first_own_ranks(scores, owner).tolist() == [1, 3, 1]
    found = retrieval_scores(scores, scores.T, owner, (1, 2, 3))
    # captions to pictures: ranks 3, 1, 2, 1
    assert [found[f"txt_r{k}"] for k in (1, 2, 3)] == pytest.approx([2 / 3, 2 / 3, 1])
    assert [found[f"img_r{k}"] for k in (1, 2, 3)] == [0.5, 0.75, 1]
    assert found["txt_mean"] == pytest.approx(7 / 9)
    assert found["r_mean"] == pytest.approx((7 / 9 + 0.75) / 2)


def test_ties_go_to_the_lower_column_and_few_candidates_are_all_found():
    scores = torch.zeros(2, 4)
    owner = torch.tensor([1, 0, 0, 1])
    assert first_own_ranks(scores, owner).tolist() == [2, 1]
    found = retrieval_scores(scores, scores.T, owner)
    assert found["txt_r10"] == found["img_r10"] == 1
    assert found["img_r1"] == 0.5


def test_a_fill_of_minus_a_hundred_or_of_infinity_ranks_last():
    scores = torch.tensor([[-100.0, 1.0, -100.0], [float("-inf"), 0.5, 0.1]])
    owner = torch.tensor([0, 0, 1])
    assert first_own_ranks(scores, owner).tolist() == [1, 2]
    assert first_own_ranks(torch.full((1, 2), float("-inf")), torch.tensor([0, 0])).tolist() == [1]


def test_pictures_without_captions_can_be_found_and_are_not_asked():
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.1, 0.2]])  # picture 1 has no caption
    found = retrieval_scores(scores, scores.T, torch.tensor([0, 2]), (1, 2))
    assert (found["txt_r1"], found["img_r1"], found["img_r2"]) == (1, 0.5, 1)
    with pytest.raises(UserError, match="picture 1 has no caption among the 2"):
        first_own_ranks(torch.zeros(2, 2), torch.tensor([0, 0]))
    with pytest.raises(UserError, match="captions belong to pictures 0 to 2; there are 2 pictures"):
        first_own_ranks(torch.zeros(2, 2), torch.tensor([0, 2]))


def test_the_two_directions_may_have_scores_of_their_own():
    to_captions, to_pictures = torch.eye(3), torch.tensor([[0.0, 1, 2], [2, 1, 0], [0, 2, 1]])
    found = retrieval_scores(to_captions, to_pictures, torch.arange(3), (1, 2))
    assert (found["txt_r1"], found["img_r1"], found["img_r2"]) == (1, 0, 2 / 3)


def test_recalls_are_the_originals(shared_data):
    """Twelve pictures with up to five captions, recorded from the original's own function, in per cent."""
    folder = shared_data.parent / "golden" / "cclm"
    if not folder.is_dir():
        pytest.skip("the recorded tensors of CCLM are not there: ../shared/golden/cclm")
    recorded = json.loads((folder / "retrieval.json").read_text())["recall_function"]
    tensors = load_file(folder / "retrieval.safetensors")
    found = retrieval_scores(
        tensors["recall.scores_image_to_text"],
        tensors["recall.scores_text_to_image"],
        tensors["recall.image_of_caption"].long(),
    )
    assert len(recorded) == 9
    for name, value in recorded.items():
        assert 100 * found[name.replace("_r_mean", "_mean")] == pytest.approx(value)
