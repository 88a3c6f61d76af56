"""VLP beside transformers' BERT under a mask for every row of every example: states, the loss, and all gradients.

Their embedding adds a position to whatever vector it is given, so a region's comes in with its position taken off.
Their model has no regions; φ and ψ are ours in both, and get their gradients through theirs.
"""

import dataclasses

import pytest
import torch
import transformers
from torch.nn import functional as F

from tests.vlp.small import CONFIG, LENGTHS, guesses, inputs, labels
from vlpnb.nn.renaming import BERT_MLM, ENCODER
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.masks import EDGES, segment_ids, sequence_mask
from vlpnb.vlp.objectives import Guessing
from vlpnb.vlp.original.weights import original_state

SHAPES = [{}, {"layers": 3, "heads": 2, "ffn": 20}]
R = 6
TOLERANCE = {"rtol": 0, "atol": 1e-9}


def models(changes):
    """Ours with large weights everywhere, and a BERT with the same, both in float64 and without dropout."""
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, regions=R, **changes)
    ours = VlpForGeneration(config).double().eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs = transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=config.vocab_size, hidden_size=config.hidden, num_hidden_layers=config.layers,
            num_attention_heads=config.heads, intermediate_size=config.ffn, layer_norm_eps=config.norm_eps,
            max_position_embeddings=config.max_positions, type_vocab_size=config.segments, attn_implementation="eager",
        )
    ).double().eval()  # fmt: skip
    state = {
        name: t for name, t in original_state(ours).items() if not name.startswith(("vis_", "bert.pooler"))
    }
    missing = theirs.load_state_dict(state, strict=False)
    assert missing.unexpected_keys == []
    assert set(missing.missing_keys) <= {"bert.embeddings.position_ids", "cls.predictions.decoder.bias"}
    theirs.tie_weights()
    return ours, theirs


def run_theirs(ours, theirs, given):
    """Their states and scores of all positions, from ids and our φ and ψ."""
    config, tables = ours.config, theirs.bert.embeddings
    edges = torch.tensor([config.cls_id, *[config.unk_id] * R, config.sep_id]).expand(len(given["ids"]), -1)
    ids = torch.cat([edges, given["ids"]], dim=1)
    x = tables.word_embeddings(ids)
    phi, psi = ours.backbone.look(given["features"], given["geometry"])
    regions = phi + psi - tables.position_embeddings.weight[1 : R + 1]
    x = torch.cat([x[:, :1], regions, x[:, R + 1 :]], dim=1)
    shape = given["lengths"], given["s2s"], R + EDGES, given["ids"].shape[1]
    mask = (1 - sequence_mask(*shape, given.get("visual_mask")).double()) * -10_000  # added to scores
    segments = segment_ids(*shape, config.segments)
    out = theirs(inputs_embeds=x, attention_mask=mask, token_type_ids=segments, output_hidden_states=True)
    return out.hidden_states, out.logits


def real_rows(given):
    """Rows that somebody reads: the prefix and the text up to its [SEP]."""
    at = torch.arange(R + EDGES + given["ids"].shape[1])
    return at <= R + EDGES + torch.tensor(LENGTHS)[:, None]


@pytest.mark.parametrize("changes", SHAPES)
@pytest.mark.parametrize("visual", [True, False], ids=["ragged", "whole"])
def test_every_state_is_theirs(changes, visual):
    ours, theirs = models(changes)
    given = inputs(visual=visual)
    states = ours.backbone(**given, hidden_states=True).hidden_states
    expected, _ = run_theirs(ours, theirs, given)
    assert len(states) == len(expected) == ours.config.layers + 1
    real = real_rows(given)
    for one, other in zip(states, expected, strict=True):
        torch.testing.assert_close(one[real], other[real], **TOLERANCE)


@pytest.mark.parametrize("changes", SHAPES)
def test_the_loss_and_the_gradient_of_every_parameter_are_theirs(changes):
    ours, theirs = models(changes)
    given, wanted = inputs(), labels()
    loss = Guessing(ours)(**guesses(given, wanted))["words"]
    loss.backward()
    found = {name: p.grad.clone() for name, p in ours.named_parameters() if p.grad is not None}
    ours.zero_grad()
    _, scores = run_theirs(ours, theirs, given)
    other = F.cross_entropy(scores[:, R + EDGES :].flatten(0, 1), wanted.flatten(), reduction="sum")
    other.backward()
    torch.testing.assert_close(loss, other, **TOLERANCE)

    gradients = dict(theirs.named_parameters())
    rules = {f"backbone.{name}": f"bert.{there}" for name, there in ENCODER.items()}
    rules |= {
        f"words.{name.replace('transform.', '')}".rstrip("."): there for name, there in BERT_MLM.items()
    }
    compared = set()
    for name, gradient in found.items():
        if name.startswith(("backbone.features", "backbone.geometry")):
            expected = dict(ours.named_parameters())[name].grad
        else:
            module, _, leaf = name.rpartition(".")
            number = next((part for part in module.split(".") if part.isdigit()), "")
            key = module.replace(f".{number}.", ".#.") if number else module
            expected = gradients[f"{rules[key]}.{leaf}".replace("#", number)].grad
        if name == "backbone.embeddings.positions.weight":
            gradient, expected = (
                gradient[EDGES + R :],
                expected[EDGES + R :],
            )  # theirs adds and takes off regions' own
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-8, msg=name)
        compared.add(name)
    assert len(compared) == len(found) == 16 * ours.config.layers + 5 + 6 + 5
