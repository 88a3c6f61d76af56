"""Weights in files: ours come back to the bit, the release's by its names, and what does not fit is named."""

import json
from argparse import Namespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.valm.small import close, config, images, model, words
from vlpnb.errors import UserError
from vlpnb.valm.objectives import ValmLM
from vlpnb.valm.original.weights import (
    freeze,
    load_gpt2_lm,
    load_model,
    load_original,
    original_name,
    save_gpt2_lm,
    save_model,
    save_original,
    without_pictures,
)

VARIANTS = [
    {},
    {"projection": "separate", "fusion": (0, -1)},
    {"projection": "gated", "image_width": 20, "image_mode": "null"},
    {"stack": 1, "mlm_head": True, "positions": "learned", "pad_id": -1},
]


def fresh(**changes):
    return model(**changes).float()


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_folder_of_ours_comes_back_to_the_bit(changes, tmp_path):
    lm = fresh(**changes)
    again = load_model(save_model(tmp_path / "lm", lm))
    assert again.config == lm.config
    assert not again.training
    for name, tensor in lm.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_the_releases_state_dict_goes_both_ways(tmp_path):
    lm = fresh(scale="model")
    again = load_original(save_original(tmp_path / "valm.pt", lm), heads=4, max_positions=80, dropout=0.0)
    assert again.config == lm.config.__class__(**{**vars(lm.config), "fusion": (1,)})
    z = images().float()
    assert torch.equal(again.logits(words(), z), lm.logits(words(), z))


def test_a_checkpoint_of_the_release_is_opened_without_running_anything(tmp_path):
    lm = fresh(scale="model")
    state = torch.load(save_original(tmp_path / "valm.pt", lm), weights_only=True)
    dead = {f"decoder.layers.1.self_attn.img_{part}_proj.weight": torch.zeros(32, 32) for part in "kv"}
    more = {
        "decoder.version": torch.ones(1),
        "decoder.output_projection.weight": state["decoder.embed_tokens.weight"],
    }
    torch.save({"args": Namespace(arch="valm"), "model": state | dead | more}, tmp_path / "checkpoint.pt")
    again = load_original(tmp_path / "checkpoint.pt", heads=4)
    assert torch.equal(again.model.word_weight, lm.model.word_weight)


def test_what_does_not_fit_is_named(tmp_path):
    lm = fresh(scale="model")
    file = save_original(tmp_path / "valm.pt", lm)
    state = torch.load(file, weights_only=True)
    del state["decoder.layer_norm.bias"]
    state["decoder.layers.0.fc1.weight2"] = torch.zeros(2)
    state["decoder.layers.2.fc2.bias"] = torch.zeros(5)
    torch.save(state, file)
    with pytest.raises(UserError) as error:
        load_original(file, heads=4)
    for part in ("1 missing: decoder.layer_norm.bias", "1 unexpected", "fc2.bias [5], expected [32]"):
        assert part in str(error.value)
    torch.save({"decoder.embed_tokens.weight": torch.zeros(3)}, file)
    with pytest.raises(UserError, match="expected a state dict of VaLM"):
        load_original(file)
    file.write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be read as tensors"):
        load_original(file)
    with pytest.raises(UserError, match="not found"):
        load_original(tmp_path / "nothing.pt")


def test_an_untied_decoder_is_refused(tmp_path):
    file = save_original(tmp_path / "valm.pt", fresh())
    state = torch.load(file, weights_only=True)
    torch.save(
        state | {"decoder.output_projection.weight": torch.zeros_like(state["decoder.embed_tokens.weight"])},
        file,
    )
    with pytest.raises(UserError, match="expected them to be tied"):
        load_original(file, heads=4)


def test_parts_that_the_release_has_not_are_not_saved_in_its_way(tmp_path):
    with pytest.raises(UserError, match=r"has no tensor for 'model\.blocks\.1\.see"):
        save_original(tmp_path / "valm.pt", fresh(projection="gated"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hiden", 4, "no field 'hiden'; did you mean|no field 'hiden'"),
        ("hidden", "32", "hidden is '32'; expected int"),
        ("fusion", 1, "fusion is 1; expected a list"),
        ("architectures", ["VlpForGeneration"], "expected \\['ValmLM'\\]"),
    ],
)
def test_a_damaged_configuration_is_refused(field, value, message, tmp_path):
    folder = save_model(tmp_path / "lm", fresh())
    settings = json.loads((folder / "config.json").read_text()) | {field: value}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=message):
        load_model(folder)


def test_missing_files_and_tensors_of_a_folder_are_named(tmp_path):
    folder = save_model(tmp_path / "lm", fresh())
    state = load_file(folder / "model.safetensors")
    state.pop("model.norm.bias")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"'model\.norm\.bias' is missing"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="expected the folder of a VaLM"):
        load_model(folder)


def test_names_are_those_of_fairseqs_decoder():
    names = {original_name(name) for name in ValmLM(config()).state_dict()}
    assert "decoder.layers.1.self_attn.img_layer_norm.weight" in names
    assert "decoder.layers.1.self_attn.img_v_proj.bias" in names
    assert "decoder.layers.2.final_layer_norm.bias" in names
    assert {"decoder.embed_tokens.weight", "decoder.layer_norm.weight"} <= names


def gpt2(**changes):
    form = {
        "positions": "learned",
        "embed_scale": False,
        "activation": "gelu_tanh",
        "pad_id": -1,
        "fusion": (),
    }
    return fresh(**(form | {"eos_id": 39, "mask_id": 39} | changes))


def test_gpt2s_folder_goes_both_ways(tmp_path):
    lm = gpt2()
    again = load_gpt2_lm(save_gpt2_lm(tmp_path / "gpt2", lm), image_width=32, dropout=0.0)
    assert again.config == lm.config
    assert torch.equal(again.logits(words()), lm.logits(words()))


@pytest.mark.parametrize("projection", ["shared_bias", "separate", "gated"])
def test_pictures_of_a_gpt2_begin_as_words(projection, tmp_path):
    lm = gpt2()
    folder = save_gpt2_lm(tmp_path / "gpt2", lm)
    seeing = load_gpt2_lm(folder, fusion=(-2,), projection=projection, image_width=32)
    close(seeing.logits(words()), lm.logits(words()), 1e-5)
    z = images().float()
    if projection == "gated":
        close(seeing.logits(words(), z), lm.logits(words()), 1e-5)
    else:
        (key, key_bias), (value, value_bias) = seeing.model.blocks[1].look.attention.image_maps()
        words_own = lm.model.blocks[1].look.attention
        for one, other in ((key, words_own.key.weight), (value, words_own.value.weight)):
            assert torch.equal(one, other)
        for one, other in ((key_bias, words_own.key.bias), (value_bias, words_own.value.bias)):
            assert torch.equal(one, other)
    freeze(seeing)
    trained = {name for name, p in seeing.named_parameters() if p.requires_grad}
    assert trained
    assert all("image_" in name or "reading" in name or "see" in name for name in trained)


def test_what_is_no_gpt2_is_not_saved_or_opened_as_one(tmp_path):
    with pytest.raises(UserError, match="fusion is"):
        save_gpt2_lm(tmp_path / "gpt2", gpt2(fusion=(-2,)))
    with pytest.raises(UserError, match="positions is 'sinusoidal'"):
        save_gpt2_lm(tmp_path / "gpt2", fresh(fusion=()))
    folder = save_gpt2_lm(tmp_path / "gpt2", gpt2())
    with pytest.raises(UserError, match=r"no place for|has no"):
        load_gpt2_lm(folder, layers=2)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"scale_attn_by_inverse_layer_idx": True}))
    with pytest.raises(UserError, match="scale_attn_by_inverse_layer_idx is True"):
        load_gpt2_lm(folder)
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "opt"}))
    with pytest.raises(UserError, match="expected 'gpt2'"):
        load_gpt2_lm(folder)
    (folder / "config.json").write_text(json.dumps(settings))
    state = load_file(folder / "model.safetensors")
    save_file(state | {"transformer.h.0.attn.rotary.weight": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"unexpected tensor 'h\.0\.attn\.rotary\.weight'"):
        load_gpt2_lm(folder)


def test_the_same_weights_without_pictures_are_the_model_without_pictures():
    lm = model()
    close(without_pictures(lm).logits(words()), lm.logits(words()))
