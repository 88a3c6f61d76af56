"""The visually supervised language model: its variants, its losses, its snapshots."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from tests.tiny_lm import lines
from vlpnb.errors import UserError
from vlpnb.nn.language_model import SIZES, language_model_config
from vlpnb.nn.transformer import TransformerConfig
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vokenization.visual_lm import HEAD_FILE, VisuallySupervisedLM, load_snapshot, save_snapshot

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
    torch.testing.assert_close(model.voken_scores(hidden.flatten(0, 1)), scores)
    torch.testing.assert_close(losses["voken"], F.cross_entropy(scores, vokens.flatten(), reduction="sum"))


def test_regression_is_smooth_l1_summed_over_dimensions():
    model = VisuallySupervisedLM(CONFIG, 7, "reg", features=FEATURES).eval()
    ids, _, vokens = batch()
    hidden = model.encoder(ids).last[vokens != -100]
    made = model.voken.out(model.voken.transform(hidden))
    expected = F.smooth_l1_loss(made, FEATURES[vokens[vokens != -100]], reduction="none").sum()
    torch.testing.assert_close(model(ids, None, vokens)["voken"], expected)


@pytest.mark.parametrize("objective", ["cls+reg", "ctr+reg", "reg+cls", "cls+ctr+reg"])
def test_several_objectives_are_the_sum_of_each_alone(objective):
    """Each loss is that of a model with this head only; the guesses are those of cls, else of ctr."""
    model = VisuallySupervisedLM(CONFIG, 7, objective, features=FEATURES).eval()
    ids, labels, vokens = batch()
    losses = model(ids, labels, vokens)
    assert set(losses) == {"mlm", *(f"voken_{name}" for name in objective.split("+"))}
    found = model.measure(ids, labels, vokens)
    guesses = {}
    for name in objective.split("+"):
        alone = VisuallySupervisedLM(CONFIG, 7, name, features=FEATURES).eval()
        alone.language, alone.voken = model.language, model.heads[f"voken_{name}"]
        expected = alone(ids, labels, vokens)
        assert expected.keys() == {"mlm", "voken"}
        torch.testing.assert_close(losses[f"voken_{name}"], expected["voken"])
        assert found[f"voken_{name}"] == pytest.approx(expected["voken"].item(), rel=1e-5)
        guesses[name] = {k: v for k, v in alone.measure(ids, labels, vokens).items() if k.startswith("top")}
    assert found["voken"] == pytest.approx(sum(found[f"voken_{name}"] for name in guesses), rel=1e-6)
    main = next(name for name in ("cls", "ctr", "reg") if name in guesses)
    assert {k: found[k] for k in ("top1", "top5")} == guesses[main]
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_single_objective_keeps_its_parameters_and_their_names():
    """Checkpoints from before there were several objectives go on."""
    names = VisuallySupervisedLM(CONFIG, 7).state_dict().keys()
    assert [name for name in names if not name.startswith("language.")] == [
        f"voken.head.{part}.{leaf}"
        for part in ("transform.dense", "transform.norm", "decoder")
        for leaf in ("weight", "bias")
    ]


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
    with pytest.raises(UserError, match=r"'cls\+ctr' cannot use the shared head"):
        VisuallySupervisedLM(CONFIG, 7, "cls+ctr", shared=True, features=FEATURES)
    with pytest.raises(UserError, match="needs features of 7 vokens, found 6 rows"):
        VisuallySupervisedLM(CONFIG, 7, "cls+reg", features=FEATURES[:6])
    for wrong in ("", "cls+", "cls,reg", "cls+cls", "clss"):
        with pytest.raises(UserError, match="expected one or several of cls, ctr, reg"):
            VisuallySupervisedLM(CONFIG, 7, wrong, features=FEATURES)


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
    # the paper's sizes, a count without neither the pooler nor a second decoder
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


@pytest.mark.parametrize(("objective", "shared"), [*VARIANTS, ("cls+reg", False), ("cls+ctr+reg", False)])
def test_snapshots_keep_every_head(tokenizer, tmp_path, objective, shared):
    config = language_model_config("micro", tokenizer)
    model = VisuallySupervisedLM(config, 7, objective, shared, FEATURES).eval()
    save_snapshot(tmp_path, model, tokenizer)
    again = load_snapshot(tmp_path)
    assert not again.training
    assert again.shared == shared
    own, found = model.state_dict(), again.state_dict()
    assert list(own) == list(found)
    assert all(torch.equal(own[name], found[name]) for name in own)


def test_snapshots_of_before_there_were_several_objectives(tokenizer, tmp_path):
    """Their file held the published head alone, without the objective's name."""
    model = VisuallySupervisedLM(language_model_config("micro", tokenizer), 7).eval()
    save_snapshot(tmp_path, model, tokenizer)
    save_file(dict(model.voken.head.state_dict()), tmp_path / HEAD_FILE)
    again = load_snapshot(tmp_path)
    for name, tensor in model.voken.state_dict().items():
        assert torch.equal(again.voken.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("objective", "lost"),
    [("cls", "cls.head.decoder.weight"), ("cls+reg", "reg.out.bias"), ("cls+reg", "features")],
)
def test_a_damaged_head_is_named(tokenizer, tmp_path, objective, lost):
    config = language_model_config("micro", tokenizer)
    save_snapshot(tmp_path, VisuallySupervisedLM(config, 7, objective, features=FEATURES), tokenizer)
    tensors = load_file(tmp_path / HEAD_FILE)
    del tensors[lost]
    save_file(tensors, tmp_path / HEAD_FILE)
    name = lost.partition(".")[2] or lost
    with pytest.raises(UserError, match=rf"voken_head.safetensors: tensor '{name}' is missing"):
        load_snapshot(tmp_path)
