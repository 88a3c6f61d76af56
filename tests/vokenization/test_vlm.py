"""The visually supervised language model: its variants, its losses, its snapshots."""

import math

import pytest
import torch
from torch.nn import functional as F

from tests.vokenization.tiny_lm import lines
from vlpnb.errors import UserError
from vlpnb.nn.transformer import TransformerConfig
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vokenization.vlm import (
    SIZES,
    VisuallySupervisedLM,
    language_model_config,
    load_snapshot,
    save_snapshot,
)

CONFIG = TransformerConfig(vocab_size=40, hidden=16, layers=1, heads=2, ffn=32, max_positions=16)
FEATURES = F.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), dim=1)
VARIANTS = [("cls", False), ("cls", True), ("ctr", False), ("ctr", True), ("reg", False)]


def batch():
    ids = torch.randint(5, 40, (3, 10))
    labels = torch.where(torch.rand(3, 10) < 0.4, ids, -100)
    vokens = torch.where(torch.rand(3, 10) < 0.7, torch.randint(0, 7, (3, 10)), -100)
    return ids, labels, vokens


@pytest.mark.parametrize(("objective", "shared"), VARIANTS)
def test_every_variant_trains_all_its_parameters(objective, shared):
    model = VisuallySupervisedLM(CONFIG, 7, objective, shared, FEATURES)
    losses = model(*batch())
    assert set(losses) == {"mlm", "voken"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(("objective", "shared"), VARIANTS[:4])
def test_losses_equal_plain_cross_entropy(objective, shared):
    model = VisuallySupervisedLM(CONFIG, 7, objective, shared, FEATURES).eval()
    ids, labels, vokens = batch()
    hidden = model.encoder(ids).last
    losses = model(ids, labels, vokens)
    words = model.mlm.logits(hidden, model.encoder.word_weight)
    torch.testing.assert_close(
        losses["mlm"], F.cross_entropy(words.flatten(0, 1), labels.flatten(), reduction="sum")
    )
    states = model.mlm.transform(hidden) if shared else hidden
    scores = model.voken.scores(states.flatten(0, 1))
    assert scores.shape == (30, 7)
    torch.testing.assert_close(losses["voken"], F.cross_entropy(scores, vokens.flatten(), reduction="sum"))


def test_regression_is_smooth_l1_summed_over_dimensions():
    model = VisuallySupervisedLM(CONFIG, 7, "reg", features=FEATURES).eval()
    ids, _, vokens = batch()
    hidden = model.encoder(ids).last[vokens != -100]
    made = model.voken.out(model.voken.transform(hidden))
    expected = F.smooth_l1_loss(made, FEATURES[vokens[vokens != -100]], reduction="none").sum()
    torch.testing.assert_close(model(ids, None, vokens)["voken"], expected)


def test_no_labels_give_zero_with_a_gradient():
    model = VisuallySupervisedLM(CONFIG, 7)
    ids = torch.randint(5, 40, (2, 6))
    nothing = torch.full_like(ids, -100)
    losses = model(ids, nothing, nothing)
    assert losses["mlm"].item() == losses["voken"].item() == 0
    sum(losses.values()).backward()


def test_measure_counts_hits():
    model = VisuallySupervisedLM(CONFIG, 7).eval()
    ids, labels, vokens = batch()
    found = model.measure(ids, labels, vokens, chunk=4)
    scores = model.voken.scores(model.encoder(ids).last[vokens != -100])
    target = vokens[vokens != -100]
    assert found["voken_count"] == len(target)
    assert found["top1"] == (scores.argmax(1) == target).sum()
    assert found["top5"] == (scores.topk(5).indices == target[:, None]).any(1).sum()
    assert found["voken"] == pytest.approx(model(ids, None, vokens)["voken"].item(), rel=1e-5)


def test_variants_that_cannot_be_are_explained():
    with pytest.raises(UserError, match="needs features of 7 vokens, found none"):
        VisuallySupervisedLM(CONFIG, 7, "ctr")
    with pytest.raises(UserError, match="shared_head to false"):
        VisuallySupervisedLM(CONFIG, 7, "reg", shared=True, features=FEATURES)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_wordpiece(lines(50), 100, tmp_path_factory.mktemp("words"))


def test_sizes_are_the_papers(tokenizer):
    assert SIZES["small"] == (6, 512, 8, 2048)
    assert SIZES["base"] == (12, 768, 12, 3072)
    with torch.device("meta"):
        small = TransformerConfig(30522, *[512, 6, 8, 2048])
        model = VisuallySupervisedLM(small, 50_000)
    count = sum(p.numel() for p in model.parameters())
    # spec 9.1, which counts neither the pooler nor a second decoder
    assert count == pytest.approx(61.0e6, rel=0.01)
    with pytest.raises(UserError, match="did you mean 'small'"):
        language_model_config("smal", tokenizer)


def test_snapshots_open_in_transformers_with_equal_scores(tokenizer, tmp_path):
    from transformers import AutoModelForMaskedLM

    model = VisuallySupervisedLM(language_model_config("micro", tokenizer), 7).eval()
    save_snapshot(tmp_path, model, tokenizer)
    ids = torch.tensor([tokenizer("the car is [MASK] .")["input_ids"]])
    ours = model.mlm.logits(model.encoder(ids).last, model.encoder.word_weight)
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()(ids).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    again = load_snapshot(tmp_path)
    torch.testing.assert_close(
        again.voken.scores(again.encoder(ids).last), model.voken.scores(model.encoder(ids).last)
    )
    assert math.isfinite(ours.sum().item())
