"""Recall and diversity, with small cases worked out by hand."""

import math

import pytest
import torch

from vlpnb.metrics.retrieval import (
    diversity,
    mean_token_scores,
    ranks,
    recall,
    retrieval_scores,
    token_batch_ranks,
)


def test_golden_vector_7_second_best_is_not_a_hit_at_one():
    own = ranks(torch.tensor([[0.3, 0.9, 0.5, 0.1]]), torch.tensor([2]))
    assert own.tolist() == [2]
    assert recall(own) == {"r1": 0.0, "r5": 1.0, "r10": 1.0}
    assert recall(own, legacy=True)["r1"] == 1.0  # the original counted rank ≤ k + 1


def test_golden_vector_5_diversity():
    pairs = [("w", "x")] * 3 + [("w", "y")] + [("v", "x")] * 2
    assert diversity(pairs) == {
        "images": 1.5, "max_count": 2.5, "mean_count": 2.0, "std_count": 0.5, "cover": 2, "types": 2,
    }  # fmt: skip
    assert math.isnan(diversity([])["images"])


def test_ties_count_by_index_so_a_constant_scorer_is_at_chance():
    own = torch.arange(10)
    assert ranks(torch.zeros(10, 10), own).tolist() == list(range(1, 11))
    assert recall(torch.empty(0, dtype=torch.int64)).keys() == {"r1", "r5", "r10"}


def test_token_ranks_and_sentence_scores():
    text = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [9.0, 9.0]]])
    images = torch.eye(2)
    mask = torch.tensor([[True, True], [True, False]])
    assert token_batch_ranks(text, images, mask).tolist() == [1, 2, 1]
    expected = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    torch.testing.assert_close(mean_token_scores(text, mask, images), expected)


def test_recalls_of_a_gallery_with_several_captions_and_a_picture_without():
    #          captions of 0, 0, 2; picture 1 has none
    scores = torch.tensor([[0.1, 0.2, 0.9], [0.8, 0.1, 0.2], [0.3, 0.5, 0.4]])
    found = retrieval_scores(scores, scores.T, torch.tensor([0, 0, 2]))
    # text to picture: caption 0 ranks pictures 1, 2, 0; caption 1: 2, 0, 1; caption 2: 0, 2, 1
    assert found["img_r1"] == 0
    assert found["img_r5"] == 1
    # picture to text: picture 0 ranks captions 2, 1, 0: rank 2; picture 2: 1, 2, 0: rank 2
    assert found["txt_r1"] == 0
    assert found["r_mean"] == pytest.approx((found["txt_mean"] + found["img_mean"]) / 2)
