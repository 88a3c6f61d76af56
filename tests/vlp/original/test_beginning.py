"""Beginning with what other models have learned: tables adapted, heads taken or left, all of it told."""

import dataclasses
import os
import pickle

import numpy as np
import pytest
import torch

from tests.vlp.small import CONFIG
from vlpnb.errors import UserError
from vlpnb.nn.checkpoints import save_hf
from vlpnb.nn.heads import MLMHead, Pooler
from vlpnb.nn.transformer import Encoder, TransformerConfig
from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration
from vlpnb.vlp.model import Vlp
from vlpnb.vlp.original.beginning import (
    fit_positions,
    fit_slots,
    grow_segments,
    load_fc7,
    read_array,
    start_from,
)
from vlpnb.vlp.original.weights import new_model, original_state, save_model, save_original


def model(kind=VlpForGeneration, seed=0, **changes):
    torch.manual_seed(seed)
    return new_model(kind, dataclasses.replace(CONFIG, **changes))


def bert(folder, **changes):
    """A BERT of the small VLP's width in a HuggingFace folder, with fewer positions."""
    sizes = {"vocab_size": 60, "hidden": 32, "layers": 2, "heads": 4, "ffn": 64, "max_positions": 16}
    torch.manual_seed(5)
    encoder = Encoder(TransformerConfig(**(sizes | changes)))
    head, pooler = MLMHead(encoder.config), Pooler(encoder.config.hidden)
    save_hf(folder, encoder, mlm=head, pooler=pooler)
    return encoder, head, pooler


def test_tables_grow_and_shrink_as_in_the_original():
    table = torch.arange(6.0).view(2, 3)
    six = grow_segments(table, 6)
    assert torch.equal(six, table[[0, 1, 0, 0, 0, 1]])
    assert torch.equal(grow_segments(six, 2), table)
    with pytest.raises(UserError, match="of 2 rows cannot become one of 4"):
        grow_segments(table, 4)
    positions = torch.arange(8.0).view(4, 2)
    assert torch.equal(fit_positions(positions, 10), positions[[0, 1, 2, 3, 0, 1, 2, 3, 0, 1]])
    assert torch.equal(fit_positions(positions, 3), positions[:3])
    four = fit_slots(table, 1, 4, "s2s")
    assert torch.equal(four, table.repeat(4, 1))
    slots = torch.arange(8.0)
    assert fit_slots(slots, 4, 1, "s2s").tolist() == [6, 7]
    assert fit_slots(slots, 4, 1, "bi").tolist() == [0, 1]


def test_a_bert_gives_its_trunk_and_its_word_head(tmp_path):
    encoder, head, pooler = bert(tmp_path)
    ours = model()
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    lines = start_from(ours, tmp_path)
    backbone = ours.backbone
    assert torch.equal(backbone.word_weight, encoder.word_weight)
    assert torch.equal(backbone.embeddings.types.weight, encoder.embeddings.types.weight[[0, 1, 0, 0, 0, 1]])
    old = encoder.embeddings.positions.weight
    assert torch.equal(backbone.embeddings.positions.weight, torch.cat([old, old, old])[:40])
    for one, other in zip(backbone.blocks.parameters(), encoder.blocks.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(backbone.pooler.dense.weight, pooler.dense.weight)
    assert torch.equal(ours.words.dense.weight, head.transform.dense.weight)
    assert torch.equal(ours.words.norm.bias, head.transform.norm.bias)
    for name in ("backbone.features.0.weight", "backbone.geometry.0.bias"):
        assert torch.equal(ours.state_dict()[name], before[name])
    told = "\n".join(lines)
    assert "2 segments become 6" in told
    assert "16 positions become 40" in told
    assert "stays as it was: vis_embed.0.weight" in told


def test_a_unilm_state_dict_gives_its_six_segments_and_slots(tmp_path):
    """UniLM's names are BERT's, with six segment rows, old names of norms and perhaps four slots."""
    source = model(seed=3, slots=4)
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in original_state(source).items()
        if not name.startswith("vis_")
    }
    state["crit_mask_lm_smoothed.one_hot"] = torch.zeros(1, 60)
    torch.save(state, tmp_path / "unilm.bin")
    for mode, part in (("s2s", slice(96, 128)), ("bi", slice(0, 32))):
        ours = model()
        lines = start_from(ours, tmp_path / "unilm.bin", mode)
        assert torch.equal(ours.words.dense.weight, source.words.dense.weight[part])
        assert torch.equal(ours.words.norm.weight, source.words.norm.weight[part])
        assert torch.equal(ours.backbone.embeddings.types.weight, source.backbone.embeddings.types.weight)
        assert "4 slots of the word head become 1" in lines
        assert lines[-1] == "left out of the file: crit_mask_lm_smoothed.one_hot"
    wide = model(slots=4)
    start_from(wide, save_original(tmp_path / "one.bin", model(seed=4)))
    assert torch.equal(wide.words.dense.bias, model(seed=4).words.dense.bias.repeat(4))


def test_a_model_of_captions_seeds_one_of_answers_and_back(tmp_path):
    source = model(seed=1)
    save_model(tmp_path / "captions", source)
    answering = model(VlpForAnswers)
    before = answering.answers.inner.weight.clone()
    start_from(answering, tmp_path / "captions", "bi")
    for one, other in zip(answering.backbone.parameters(), source.backbone.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(answering.answers.inner.weight, before)
    save_model(tmp_path / "answers", answering)
    other = VlpForAnswers(CONFIG, 4)
    start_from(other, tmp_path / "answers", "bi")  # another list of answers: its last layer is new
    assert torch.equal(other.answers.inner.weight, before)
    assert other.answers.out.out_features == 4
    backbone = Vlp(CONFIG)
    start_from(backbone, tmp_path / "answers")
    assert torch.equal(backbone.word_weight, source.backbone.word_weight)


def test_regions_of_another_kind_may_be_left_out(tmp_path):
    source = model(seed=1, feature_width=1, classes=1)
    save_model(tmp_path, source)
    ours = model()
    before = ours.backbone.features[0].weight.clone()
    with pytest.raises(UserError, match=r"4 tensors have another shape than this VLP: vis_embed\.0\.weight"):
        start_from(ours, tmp_path)
    lines = start_from(ours, tmp_path, regions=False)
    assert torch.equal(ours.backbone.features[0].weight, before)
    assert torch.equal(ours.backbone.word_weight, source.backbone.word_weight)
    assert lines[1].startswith("stays as it was: vis_embed.0.weight")


def test_a_model_of_another_shape_or_without_a_trunk_is_refused(tmp_path):
    bert(tmp_path / "wide", hidden=64)
    with pytest.raises(UserError, match="another shape than this VLP"):
        start_from(model(), tmp_path / "wide")
    bert(tmp_path / "shallow", layers=1)
    with pytest.raises(UserError, match=r"16 tensors of the trunk are missing: bert\.encoder\.layer\.1"):
        start_from(model(), tmp_path / "shallow")
    bert(tmp_path / "deep", layers=3)
    assert "left out of the file: bert.encoder.layer.2" in start_from(model(), tmp_path / "deep")[-1]
    with pytest.raises(UserError, match="does not exist"):
        start_from(model(), tmp_path / "nothing")


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_the_detectors_layer_starts_the_first_of_the_features(tmp_path, protocol):
    weight, bias = np.random.default_rng(0).normal(size=(12, 12)), np.arange(12, dtype=np.float32)
    for name, array in (("fc7_w.pkl", weight), ("fc7_b.pkl", bias)):
        (tmp_path / name).write_bytes(pickle.dumps(array, protocol))
    ours = model()
    load_fc7(ours.backbone, tmp_path / "fc7_w.pkl", tmp_path / "fc7_b.pkl")
    layer = ours.backbone.features[0]
    assert torch.equal(layer.weight, torch.from_numpy(weight.astype(np.float32)))
    assert torch.equal(layer.bias, torch.from_numpy(bias))
    with pytest.raises(UserError, match=r"shape \(12,\); expected \(12, 12\)"):
        load_fc7(ours.backbone, tmp_path / "fc7_b.pkl", tmp_path / "fc7_b.pkl")


class Command:
    def __reduce__(self):
        return os.mkdir, ("made_by_a_pickle",)


def test_a_pickle_runs_no_code_and_holds_one_array(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = {
        "asks for posix.mkdir": Command(),
        "found dict": {"w": 1},
        "array of numbers": np.array(["word"]),
        "NaN": np.array([1.0, np.nan]),
    }
    for told, value in contents.items():
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
        with pytest.raises(UserError, match=told):
            read_array(tmp_path / "a.pkl")
    assert not (tmp_path / "made_by_a_pickle").exists()
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(np.arange(9.0))[:40])
    with pytest.raises(UserError, match="no pickled array"):
        read_array(tmp_path / "a.pkl")
    with pytest.raises(UserError, match="cannot be read"):
        read_array(tmp_path / "absent.pkl")
