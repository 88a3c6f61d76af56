"""BERT and RoBERTa beside transformers: not only outputs (`tests/nn/test_checkpoints.py`) but losses and gradients.

Gradients are compared under our names without a table of names: a copy of their model that holds its gradients in
place of its weights is saved, and read by our own loader.
"""

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

from vlpnb.nn.checkpoints import load_classifier, load_mlm
from vlpnb.nn.language_model import MaskedLM
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM

PREFIX = {"bert": "Bert", "roberta": "Roberta"}
SHAPES = [
    {"vocab_size": 41, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "hidden_act": "gelu"},
    {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "hidden_act": "gelu"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def theirs(kind: str, model_type: str, shape: dict, **extra) -> nn.Module:
    """A model of transformers with random weights everywhere, in eval mode: no dropout."""
    config = getattr(transformers, f"{PREFIX[model_type]}Config")(
        **shape, intermediate_size=32, max_position_embeddings=20, type_vocab_size=2, **extra
    )
    model = getattr(transformers, f"{PREFIX[model_type]}{kind}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def batch(model: nn.Module, rows: int = 5, length: int = 12) -> dict[str, torch.Tensor]:
    """Ragged ids and their mask."""
    mask = torch.arange(length) < torch.randint(2, length + 1, (rows, 1))
    ids = torch.randint(4, model.config.vocab_size, (rows, length))
    return {"input_ids": ids.where(mask, model.config.pad_token_id), "attention_mask": mask.long()}


def gradients_of(model: nn.Module, folder: Path) -> Path:
    """A folder in which every weight of `model` is replaced by its gradient."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    model.save_pretrained(folder)
    return folder


def assert_same_gradients(ours: nn.Module, expected: nn.Module) -> None:
    wanted = dict(expected.named_parameters())
    names = {name for name, _ in ours.named_parameters()}
    assert names == set(wanted)
    for name, parameter in ours.named_parameters():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(
            found, wanted[name].detach(), atol=2e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert sum(p.grad is not None and bool(p.grad.any()) for p in ours.parameters()) > len(names) / 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("model_type", PREFIX)
def test_masked_words(tmp_path: Path, model_type: str, shape: dict):
    model = theirs("ForMaskedLM", model_type, shape)
    model.save_pretrained(tmp_path / "weights")
    inputs = batch(model)
    labelled = inputs["attention_mask"].bool() & (torch.rand(inputs["input_ids"].shape) < 0.4)
    labelled[0, 0] = True
    labels = torch.randint(4, shape["vocab_size"], labelled.shape).where(labelled, -100)
    expected = model(**inputs, labels=labels)
    expected.loss.backward()

    encoder, head = load_mlm(tmp_path / "weights")
    ours = VisuallySupervisedLM(encoder.config)
    ours.language = MaskedLM(encoder, head)
    ours.eval()
    mask = inputs["attention_mask"].bool()
    loss = ours(inputs["input_ids"], labels, mask=mask)["mlm"] / labelled.sum()
    loss.backward()
    torch.testing.assert_close(loss, expected.loss, atol=1e-6, rtol=1e-5)
    scores = head.logits(encoder(inputs["input_ids"], mask).last, encoder.word_weight)
    torch.testing.assert_close(scores[mask], expected.logits[mask], atol=1e-5, rtol=1e-5)
    gradients = load_mlm(gradients_of(model, tmp_path / "gradients"))
    assert_same_gradients(encoder, gradients[0])
    assert_same_gradients(head, gradients[1])


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("model_type", PREFIX)
def test_sentence_classification(tmp_path: Path, model_type: str, labels: int):
    model = theirs("ForSequenceClassification", model_type, SHAPES[0], num_labels=labels)
    model.save_pretrained(tmp_path / "weights")
    inputs = batch(model)
    target = torch.randn(5) if labels == 1 else torch.randint(labels, (5,))
    expected = model(**inputs, labels=target)
    expected.loss.backward()

    encoder, head = load_classifier(tmp_path / "weights")
    scores = head.eval()(encoder.eval()(inputs["input_ids"], inputs["attention_mask"].bool()).last)
    loss = F.mse_loss(scores[:, 0], target) if labels == 1 else F.cross_entropy(scores, target)
    loss.backward()
    torch.testing.assert_close(scores, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss, expected.loss, atol=1e-6, rtol=1e-5)
    gradients = load_classifier(gradients_of(model, tmp_path / "gradients"))
    assert_same_gradients(encoder, gradients[0])
    assert_same_gradients(head, gradients[1])
