"""LXMERT beside transformers' classes: hidden states, maps, heads, each loss, and the gradient of every parameter.

Gradients are compared under our names: a copy of their model that holds its gradients in place of its weights is
saved and read by our own loader. Known differences: labels that do not count are −100 there too; its factor of the
regions' losses is rounded to 6.67 unless set; its question-answering class has one label for a question.
"""

import copy
import dataclasses

import pytest
import torch
import transformers
from torch.nn import functional as F

from tests.lxmert.small import CONFIG, LENGTHS, REGIONS, R, T, inputs, labels, mask_of
from vlpnb.lxmert.heads import AnsweringModel, LxmertForPretraining
from vlpnb.lxmert.original.weights import CONFIG as NAMES
from vlpnb.lxmert.original.weights import load_model

SHAPES = [{}, {"text_layers": 0, "visual_layers": 3, "cross_layers": 1, "heads": 2}]
TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(autouse=True)
def _quiet():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def theirs(kind, changes):
    """A model of transformers with random weights everywhere, in eval mode: no dropout."""
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, **changes)
    settings = {there: getattr(config, here) for here, there in NAMES.items()} | {"initializer_range": 0.08}
    model = getattr(transformers, kind)(
        transformers.LxmertConfig(**settings, visual_loss_normalizer=1 / 0.15)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def gradients_by_our_names(model, kind, folder):
    holder = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, source in zip(holder.parameters(), model.parameters(), strict=True):
            parameter.copy_(torch.zeros_like(parameter) if source.grad is None else source.grad)
    holder.save_pretrained(folder)
    return dict(load_model(folder, kind).named_parameters())


def batch():
    """Ours and theirs, of the same ragged batch."""
    ours = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in inputs().items()
    }
    given = {
        "input_ids": ours["ids"],
        "attention_mask": ours["mask"].long(),
        "visual_feats": ours["features"],
        "visual_pos": ours["boxes"],
        "visual_attention_mask": ours["visual_mask"].long(),
    }
    return ours, given


def assert_gradients(ours, kind, model, folder):
    found = gradients_by_our_names(model, kind, folder)
    assert len(found) > 60
    for name, parameter in ours.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(
            gradient, found[name].detach(), **TOLERANCE, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("changes", SHAPES)
def test_states_maps_and_heads_agree_with_transformers(changes, tmp_path):
    model = theirs("LxmertForPreTraining", changes)
    model.save_pretrained(tmp_path)
    mine = load_model(tmp_path, LxmertForPretraining)
    ours, given = batch()
    with torch.no_grad():
        out = model(**given, output_attentions=True)
        states = model.lxmert(**given, output_hidden_states=True)
        own = mine.backbone(**ours, maps=True)
        regions = mine.regions(own.visual)
        expected_regions = model.obj_predict_head(states.vision_output)
    real = mask_of(LENGTHS, T)
    pairs = [
        (own.pooled, states.pooled_output),
        (own.text[real], states.language_output[real]),
        (own.visual, states.vision_output),
        (mine.match(own.pooled), out.cross_relationship_score),
        (mine.answers(own.pooled), out.question_answering_score),
        (mine.word_scores(own.text)[real], out.prediction_logits[real]),
        *zip(regions, (expected_regions[name] for name in ("obj", "attr", "feat")), strict=True),
        *zip(own.hidden_visual[1:], states.vision_hidden_states, strict=True),
        *(
            (one[real], other[real])
            for one, other in zip(own.hidden_text[1:], states.language_hidden_states, strict=True)
        ),
        *zip(own.maps.cross_text, out.cross_encoder_attentions, strict=True),
        *zip(own.maps.text, out.language_attentions, strict=True),
        *zip(own.maps.visual, out.vision_attentions, strict=True),
    ]
    for one, other in pairs:
        torch.testing.assert_close(one, other, **TOLERANCE)


@pytest.mark.parametrize("changes", SHAPES)
def test_every_loss_and_the_gradient_of_their_sum_agree_with_transformers(changes, tmp_path):
    model = theirs("LxmertForPreTraining", changes)
    model.save_pretrained(tmp_path / "model")
    mine = load_model(tmp_path / "model", LxmertForPretraining)
    ours, given = batch()
    wanted = labels()
    regions = {
        "obj": (wanted["object_ids"].clamp(min=0), wanted["object_conf"] * (wanted["object_ids"] >= 0)),
        "attr": (
            wanted["attribute_ids"].clamp(min=0),
            wanted["attribute_conf"] * (wanted["attribute_ids"] >= 0),
        ),
        "feat": (wanted["targets"], wanted["object_masked"].float()),
    }
    nothing = {name: (target, torch.zeros_like(weight)) for name, (target, weight) in regions.items()}
    of_task = {
        "words": {"labels": wanted["word_labels"]},
        "match": {"matched_label": wanted["matched"]},
        "objects": {"obj_labels": {**nothing, "obj": regions["obj"]}},
        "attributes": {"obj_labels": {**nothing, "attr": regions["attr"]}},
        "features": {"obj_labels": {**nothing, "feat": regions["feat"]}},
        "answers": {"ans": wanted["answer"]},
    }
    counts = {"words": 3, "match": 3, "answers": 2} | dict.fromkeys(
        ("objects", "attributes", "features"), 3 * R * 0.15
    )
    means = {name: total / counts[name] for name, total in mine(**ours, **wanted).items()}
    for name, task in of_task.items():
        torch.testing.assert_close(means[name], model(**given, **task).loss, rtol=1e-5, atol=1e-5)

    total = model(
        **given,
        labels=wanted["word_labels"],
        matched_label=wanted["matched"],
        obj_labels=regions,
        ans=wanted["answer"],
    ).loss
    torch.testing.assert_close(sum(means.values()), total, rtol=1e-5, atol=1e-5)
    total.backward()
    sum(means.values()).backward()
    assert_gradients(mine, LxmertForPretraining, model, tmp_path / "gradients")
    assert REGIONS[1] < R  # some regions are padding


@pytest.mark.parametrize("changes", SHAPES)
def test_question_answering_agrees_with_transformers(changes, tmp_path):
    model = theirs("LxmertForQuestionAnswering", changes)
    model.save_pretrained(tmp_path / "model")
    mine = load_model(tmp_path / "model", AnsweringModel)
    ours, given = batch()
    label = torch.tensor([3, 0, 7])
    out = model(**given, labels=label)
    seen = mine.backbone.see(ours["features"], ours["boxes"], ours["visual_mask"])
    scores = mine.scores(ours["ids"], ours["mask"], seen)
    torch.testing.assert_close(scores, out.question_answering_score, **TOLERANCE)
    # Its loss is the cross-entropy of one label, which is ours of the best answer, divided by their number.
    mine.objective = "best"
    loss = mine(**ours, targets=F.one_hot(label, CONFIG.answers).float())["answers"] / (3 * CONFIG.answers)
    torch.testing.assert_close(loss, out.loss, **TOLERANCE)
    out.loss.backward()
    loss.backward()
    assert_gradients(mine, AnsweringModel, model, tmp_path / "gradients")
