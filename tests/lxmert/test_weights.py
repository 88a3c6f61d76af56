"""Files of weights: the original's, its fine-tuning's and HuggingFace's names, strictly and in both directions."""

import dataclasses
import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.lxmert.small import CONFIG, inputs
from vlpnb.data.lxmert import AnswerTable
from vlpnb.errors import UserError
from vlpnb.lxmert.heads import AnsweringModel, LxmertForPretraining, PairModel, answer_head
from vlpnb.lxmert.model import Lxmert
from vlpnb.lxmert.original.names import DECODER, WORDS, from_file, original_name, to_file
from vlpnb.lxmert.original.weights import (
    load_answers,
    load_model,
    new_model,
    original_state,
    save_model,
    save_original,
    start_from_bert,
)

KINDS = (Lxmert, LxmertForPretraining, AnsweringModel, PairModel)


@pytest.fixture(autouse=True)
def _quiet():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def new(kind, seed=0, **changes):
    torch.manual_seed(seed)
    model = new_model(kind, dataclasses.replace(CONFIG, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def assert_same(one, other):
    state = other.state_dict()
    assert one.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["original", "hugging_face", "fine_tuned"])
def test_names_go_there_and_back(kind, layout):
    inside = "backbone." if kind is Lxmert else ""
    names = [original_name(inside + name) for name in new(kind).state_dict()]
    assert len(set(names)) == len(names)
    assert [from_file(to_file(name, layout)) for name in names] == names


@pytest.mark.parametrize("kind", KINDS)
def test_folders_and_state_dicts_give_the_model_back(kind, tmp_path):
    model = new(kind)
    again = load_model(save_model(tmp_path / "folder", model), kind)
    assert_same(again, model)
    assert again.config == CONFIG
    assert not again.training
    assert_same(load_model(save_original(tmp_path / "LXRT.pth", model), kind, heads=4), model)


def test_the_originals_names_are_these(tmp_path):
    """As they stand in its checkpoints; 473 entries in the published size, of which the decoder is a copy."""
    state = original_state(new(LxmertForPretraining), "original")
    assert {
        "bert.embeddings.token_type_embeddings.weight",
        "bert.encoder.visn_fc.visn_layer_norm.bias",
        "bert.encoder.layer.1.attention.self.key.weight",
        "bert.encoder.r_layers.0.intermediate.dense.bias",
        "bert.encoder.x_layers.1.visual_attention.att.value.weight",
        "bert.encoder.x_layers.0.lang_self_att.output.LayerNorm.weight",
        "bert.encoder.x_layers.0.visn_self_att.self.query.bias",
        "bert.encoder.x_layers.1.visn_inter.dense.weight",
        "bert.encoder.x_layers.1.lang_output.LayerNorm.bias",
        "bert.pooler.dense.weight",
        "cls.predictions.bias",
        "cls.predictions.decoder.weight",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.seq_relationship.bias",
        "obj_predict_head.transform.dense.weight",
        "obj_predict_head.decoder_dict.attr.weight",
        "answer_head.logit_fc.2.weight",
    } <= state.keys()
    with torch.device("meta"):
        published = LxmertForPretraining(type(CONFIG)())
    assert len(published.state_dict()) + 1 == 473


@pytest.mark.parametrize("mark", ["module.", ""])
def test_the_marks_of_several_gpus_are_taken_off(mark, tmp_path):
    model = new(LxmertForPretraining)
    state = {mark + name: tensor for name, tensor in original_state(model, "original").items()}
    torch.save(state, tmp_path / "Epoch20_LXRT.pth")
    assert_same(load_model(tmp_path / "Epoch20_LXRT.pth", LxmertForPretraining, heads=4), model)


@pytest.mark.parametrize("kind", [AnsweringModel, PairModel])
def test_fine_tuned_snapshots_are_read_with_and_without_several_gpus(kind, tmp_path):
    model = new(kind)
    state = original_state(model, "fine_tuned")
    assert {"logit_fc.3.bias", "lxrt_encoder.model.bert.pooler.dense.weight"} <= state.keys()
    several = {
        name.replace("encoder.model.", "encoder.model.module."): tensor for name, tensor in state.items()
    }
    for each in (state, several):
        torch.save(each, tmp_path / "BEST.pth")
        assert_same(load_model(tmp_path / "BEST.pth", kind, heads=4), model)
        assert_same(load_model(tmp_path / "BEST.pth", Lxmert, heads=4), model.backbone)


def test_old_names_of_norms_are_understood(tmp_path):
    model = new(Lxmert)
    old = {}
    for name, tensor in original_state(model, "original").items():
        module, _, leaf = name.rpartition(".")
        is_norm = "norm" in module.lower()
        old[f"{module}.{ {'weight': 'gamma', 'bias': 'beta'}[leaf] if is_norm else leaf }"] = tensor
    assert any(name.endswith("gamma") for name in old)
    torch.save(old, tmp_path / "old.pth")
    assert_same(load_model(tmp_path / "old.pth", Lxmert, heads=4), model)


def test_heads_are_64_wide_unless_told(tmp_path):
    model = new(Lxmert, hidden=128, heads=2)
    assert load_model(save_original(tmp_path / "x.pth", model), Lxmert).config.heads == 2


def damaged(tmp_path, change):
    """A folder of a pre-training model after `change` of its tensors."""
    folder = save_model(tmp_path / "folder", new(LxmertForPretraining))
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def test_all_missing_unexpected_and_misshapen_names_are_listed(tmp_path):
    def change(tensors):
        del tensors["lxmert.encoder.r_layers.0.output.dense.bias"], tensors["cls.seq_relationship.weight"]
        tensors["lxmert.encoder.layer.0.gate.weight"] = torch.zeros(2)
        tensors["lxmert.pooler.dense.bias"] = torch.zeros(3)

    with pytest.raises(UserError) as raised:
        load_model(damaged(tmp_path, change), LxmertForPretraining)
    for part in (
        "model.safetensors does not hold the weights of LxmertForPretraining",
        "2 missing: bert.encoder.r_layers.0.output.dense.bias, cls.seq_relationship.weight",
        "1 unexpected: bert.encoder.layer.0.gate.weight",
        "1 of another shape: bert.pooler.dense.bias [3], expected [32]",
    ):
        assert part in str(raised.value)


def test_unexpected_names_may_be_named(tmp_path):
    folder = damaged(tmp_path, lambda tensors: tensors.update({"extra.weight": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"unexpected: extra\.weight"):
        load_model(folder, LxmertForPretraining)
    load_model(folder, LxmertForPretraining, ignore=("extra.*",))


def test_a_layer_that_is_half_there_is_missing_not_left_out(tmp_path):
    def change(tensors):
        for name in [name for name in tensors if ".x_layers.1." in name and "lang_inter" not in name]:
            del tensors[name]

    with pytest.raises(UserError, match=r"bert\.encoder\.x_layers\.1\.visual_attention"):
        load_model(damaged(tmp_path, change), Lxmert)


def test_an_untied_decoder_is_refused(tmp_path):
    def change(tensors):
        tensors[DECODER] = tensors[to_file(WORDS, "hugging_face")] + 1

    with pytest.raises(UserError, match=r"decoder\.weight differs"):
        load_model(damaged(tmp_path, change), LxmertForPretraining)


def test_heads_that_a_file_lacks_are_named(tmp_path):
    folder = save_model(tmp_path / "qa", new(AnsweringModel))
    with pytest.raises(UserError, match=r"missing: .*cls\.predictions\.bias"):
        load_model(folder, LxmertForPretraining)
    with pytest.raises(UserError, match=r"another shape: answer_head\.logit_fc\.0\.weight"):
        load_model(folder, PairModel)
    assert load_model(folder, Lxmert).config.answers == CONFIG.answers


def test_files_that_are_no_lxmert_are_named(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth holds no LXMERT"):
        load_model(tmp_path / "other.pth", Lxmert)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"config\.json not found"):
        load_model(tmp_path / "empty", Lxmert)
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"model_type": "lxmert"}))
    with pytest.raises(UserError, match=r"no weights in"):
        load_model(tmp_path / "empty", Lxmert)
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match=r"model_type is 'bert'"):
        load_model(tmp_path / "empty", Lxmert)
    settings = {"model_type": "lxmert", "hidden_act": "relu"}
    (tmp_path / "empty" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"hidden_act is 'relu'"):
        load_model(tmp_path / "empty", Lxmert)


def test_nothing_but_tensors_is_opened(tmp_path):
    torch.save(new(Lxmert), tmp_path / "module.pth")
    with pytest.raises(UserError, match="more than tensors"):
        load_model(tmp_path / "module.pth", Lxmert)


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        (LxmertForPretraining, "LxmertForPreTraining"),
        (AnsweringModel, "LxmertForQuestionAnswering"),
        (Lxmert, "LxmertModel"),
    ],
)
def test_transformers_opens_our_folders_and_we_open_its(kind, theirs, tmp_path):
    model, given = new(kind, init_std=0.02), inputs()
    given |= {name: given[name].float() for name in ("features", "boxes")}
    opened, told = getattr(transformers, theirs).from_pretrained(
        save_model(tmp_path / "ours", model), output_loading_info=True
    )
    assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    backbone, ours = (opened, model) if kind is Lxmert else (opened.lxmert, model.backbone)
    out = backbone.eval()(
        given["ids"],
        given["features"],
        given["boxes"],
        attention_mask=given["mask"].long(),
        visual_attention_mask=given["visual_mask"].long(),
    )
    torch.testing.assert_close(out.pooled_output, ours(**given).pooled, rtol=0, atol=1e-5)
    opened.save_pretrained(tmp_path / "theirs")
    assert_same(load_model(tmp_path / "theirs", kind), model)


def bert_folder(folder, **changes):
    torch.manual_seed(7)
    shape = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    shape |= {"intermediate_size": 64, "max_position_embeddings": 16, **changes}
    bert = transformers.BertForPreTraining(transformers.BertConfig(**shape))
    bert.save_pretrained(folder)
    return bert


def test_bert_gives_its_first_layers_its_pooler_and_its_heads(tmp_path):
    bert, model, before = bert_folder(tmp_path / "bert"), new(LxmertForPretraining), new(LxmertForPretraining)
    lines = start_from_bert(model, tmp_path / "bert")
    assert "2 language layers" in lines[0]
    theirs, ours, kept = bert.state_dict(), model.state_dict(), before.state_dict()
    for one, other in {
        "backbone.embeddings.words.weight": "bert.embeddings.word_embeddings.weight",
        "backbone.text_blocks.1.think.outer.bias": "bert.encoder.layer.1.output.dense.bias",
        "backbone.text_blocks.0.look.attention.query.weight": "bert.encoder.layer.0.attention.self.query.weight",
        "backbone.pooler.dense.weight": "bert.pooler.dense.weight",
        "words.transform.norm.weight": "cls.predictions.transform.LayerNorm.weight",
        "words.bias": "cls.predictions.bias",
        "match.weight": "cls.seq_relationship.weight",
    }.items():
        assert torch.equal(ours[one], theirs[other]), one
    own = [name for name in ours if torch.equal(ours[name], kept[name])]
    assert {name.split(".")[1 if name.startswith("backbone.") else 0] for name in own} == {
        "visual_embedding", "visual_blocks", "cross_layers", "regions", "answers",
    }  # fmt: skip
    assert f"{len(ours) - len(own)} of {len(ours)} tensors" in lines[0]


def test_a_bert_of_another_shape_is_refused_with_all_names(tmp_path):
    bert_folder(tmp_path / "bert", vocab_size=61)
    with pytest.raises(
        UserError, match=r"embeddings\.word_embeddings\.weight \[61, 32\], expected \[60, 32\]"
    ):
        start_from_bert(new(Lxmert), tmp_path / "bert")


TABLE = AnswerTable(("2", "blue", "dog", "yes"), (frozenset(("vqa",)),) * 4)


def heads_of(source_answers, answers):
    torch.manual_seed(3)
    heads = answer_head(CONFIG, source_answers), answer_head(CONFIG, answers)
    with torch.no_grad():
        for head in heads:
            for parameter in head.parameters():
                parameter.normal_()
    return heads


def test_answers_start_from_the_rows_of_the_same_answers():
    source, head = heads_of(4, 5)
    missing = load_answers(head, source, ["Yes", "", "the blue", "two", "cat"], TABLE)
    assert missing == ["", "cat"]
    for row, of in ((0, 3), (2, 1), (3, 0)):
        assert torch.equal(head.out.weight[row], source.out.weight[of])
        assert torch.equal(head.out.bias[row], source.out.bias[of])
    for row in (1, 4):
        assert (head.out.weight[row] == 0).all()
        assert head.out.bias[row] == 0
    assert torch.equal(head.inner.weight, source.inner.weight)
    assert torch.equal(head.norm.bias, source.norm.bias)


def test_labels_and_tables_of_another_length_are_refused():
    source, head = heads_of(4, 5)
    with pytest.raises(UserError, match="4 rows of the labels, but the head has 5"):
        load_answers(head, source, ["a", "b", "c", "d"], TABLE)
    with pytest.raises(UserError, match="4 rows of the answer table, but the head has 5"):
        load_answers(source, head, ["a", "b", "c", "d"], TABLE)
