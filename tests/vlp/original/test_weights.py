"""Files of weights: read back as written, by the original's names, and refused where anything does not fit."""

import dataclasses
import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.vlp.small import CONFIG, inputs
from vlpnb.errors import UserError
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vlp.heads import VlpForAnswers, VlpForGeneration
from vlpnb.vlp.model import Vlp
from vlpnb.vlp.original.names import DECODER, WORDS, from_file
from vlpnb.vlp.original.weights import load_model, new_model, original_state, save_model, save_original

TOLD = {"heads": 4, **{name: getattr(CONFIG, name) for name in ("regions", "text_length", "init_std")}}
TOLD |= {name: getattr(CONFIG, name) for name in ("unk_id", "cls_id", "sep_id", "mask_id")}


def model(kind=VlpForGeneration, config=CONFIG, seed=0):
    torch.manual_seed(seed)
    return new_model(kind, config)


def same(one, other):
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("kind", [Vlp, VlpForGeneration, VlpForAnswers])
def test_a_folder_holds_the_model_and_its_configuration(tmp_path, kind):
    written = model(kind)
    save_model(tmp_path, written)
    read = load_model(tmp_path, kind)
    same(written, read)
    assert read.config == CONFIG
    assert not read.training
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_tokenizer_beside_a_model_is_opened_without_a_warning(tmp_path, caplog):
    tokenizer = train_wordpiece(["a dog runs ."] * 5, 60, tmp_path / "words")
    save_model(tmp_path / "model", model(), tokenizer)
    transformers.utils.logging.enable_propagation()
    with caplog.at_level("WARNING"):
        again = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    transformers.utils.logging.disable_propagation()
    assert again.get_vocab() == tokenizer.get_vocab()
    assert caplog.text == ""


def test_answers_of_a_head_are_kept(tmp_path):
    torch.manual_seed(0)
    save_model(tmp_path, VlpForAnswers(CONFIG, 5))
    assert load_model(tmp_path, VlpForAnswers).answers.out.out_features == 5


@pytest.mark.parametrize("kind", [VlpForGeneration, VlpForAnswers])
def test_a_state_dict_has_the_originals_names_and_tells_the_sizes(tmp_path, kind):
    written = model(kind, dataclasses.replace(CONFIG, slots=4))
    names = set(torch.load(save_original(tmp_path / "model.30.bin", written), weights_only=True))
    assert {
        WORDS, "bert.embeddings.LayerNorm.bias", "bert.encoder.layer.1.attention.self.query.weight",
        "bert.encoder.layer.0.output.LayerNorm.weight", "bert.pooler.dense.bias", "vis_embed.0.weight",
        "vis_embed.2.bias", "vis_pe_embed.0.weight",
    } <= names  # fmt: skip
    heads = {"cls.predictions.bias", "cls.predictions.transform.LayerNorm.weight", DECODER}
    answers = {"ans_classifier.0.weight", "ans_classifier.2.bias"}
    assert (heads if kind is VlpForGeneration else answers) <= names
    told = dict(TOLD) if kind is VlpForGeneration else TOLD | {"slots": 4}
    read = load_model(tmp_path / "model.30.bin", kind, **told)
    same(written, read)
    expected = written.config if kind is VlpForAnswers else dataclasses.replace(written.config, answers=3129)
    assert read.config == expected
    given = inputs() | {"s2s": torch.zeros(3, dtype=torch.bool)}
    assert torch.equal(read.double().backbone(**given).last, written.eval().double().backbone(**given).last)


def test_old_names_and_the_marks_of_several_gpus_are_understood(tmp_path):
    written = model()
    old = {}
    for name, tensor in original_state(written).items():
        if "LayerNorm" in name:
            name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        old[f"module.{name}"] = tensor
    torch.save(old, tmp_path / "old.bin")
    same(written, load_model(tmp_path / "old.bin", VlpForGeneration, **TOLD))
    assert (
        from_file("encoder.layer.3.output.LayerNorm.gamma") == "bert.encoder.layer.3.output.LayerNorm.weight"
    )


def test_a_backbone_is_read_from_any_file_and_heads_from_files_with_them(tmp_path):
    save_model(tmp_path / "a", model(VlpForAnswers))
    same(load_model(tmp_path / "a", Vlp), model(VlpForAnswers).backbone)
    with pytest.raises(UserError, match=r"5 missing: cls\.predictions\.bias"):
        load_model(tmp_path / "a", VlpForGeneration)


def test_all_missing_unexpected_and_misshapen_names_are_listed(tmp_path):
    save_model(tmp_path, model())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["vis_embed.2.bias"]
    tensors["bert.encoder.layer.9.output.dense.bias"] = torch.zeros(32)
    tensors["bert.pooler.dense.bias"] = torch.zeros(31)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as caught:
        load_model(tmp_path, VlpForGeneration)
    message = str(caught.value)
    assert "1 missing: vis_embed.2.bias" in message
    assert "1 unexpected: bert.encoder.layer.9.output.dense.bias" in message
    assert "1 of another shape: bert.pooler.dense.bias [31], expected [32]" in message
    del tensors["bert.encoder.layer.9.output.dense.bias"]
    tensors |= {
        "vis_embed.2.bias": torch.zeros(32),
        "bert.pooler.dense.bias": torch.zeros(32),
        "vote": torch.ones(1),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    load_model(tmp_path, VlpForGeneration, ignore=("vo*",))


def test_an_untied_decoder_is_refused(tmp_path):
    state = original_state(model())
    state[DECODER] = state[DECODER] + 1
    torch.save(state, tmp_path / "model.bin")
    with pytest.raises(UserError, match="expected them to be tied"):
        load_model(tmp_path / "model.bin", VlpForGeneration, **TOLD)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"architectures": ["LxmertModel"]}, "expected that of a VLP, such as"),
        ({"hiden": 3}, "'hidden'"),
        ({"hidden": "32"}, "hidden is '32'; expected int"),
        ({"attention_dropout": "0"}, "attention_dropout is '0'; expected float"),
        ({"heads": 5}, "heads = 5"),
    ],
)
def test_a_configuration_that_says_something_else_is_refused(tmp_path, changed, told):
    save_model(tmp_path, model())
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(UserError, match=told):
        load_model(tmp_path, VlpForGeneration)


def test_files_that_are_no_vlp_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_model(tmp_path / "none", Vlp)
    with pytest.raises(UserError, match=r"config\.json not found"):
        load_model(tmp_path, Vlp)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.bin")
    with pytest.raises(UserError, match=f"no matrix '{WORDS}'"):
        load_model(tmp_path / "other.bin", Vlp)
    torch.save({"weight": print}, tmp_path / "code.bin")
    with pytest.raises(UserError, match="more than tensors"):
        load_model(tmp_path / "code.bin", Vlp)
    torch.save({WORDS: torch.zeros(2, 2), f"module.{WORDS}": torch.ones(2, 2)}, tmp_path / "twice.bin")
    with pytest.raises(UserError, match="two tensors mean"):
        load_model(tmp_path / "twice.bin", Vlp)
