"""Files of CCLM's weights: what goes out comes back, the original's layouts are read, what does not fit is named."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from tests.cclm.small import D, close, config, model, texts
from vlpnb.cclm.model import Cclm, ScoreHead
from vlpnb.cclm.objectives import CclmPretraining
from vlpnb.cclm.original.names import learning, original_names, xlmr_names
from vlpnb.cclm.original.weights import (
    is_cclm,
    load_model,
    open_weights,
    original_state,
    save_model,
    save_original,
    start_from_xlmr,
)
from vlpnb.errors import UserError
from vlpnb.nn.checkpoints import save_hf
from vlpnb.nn.heads import MLMHead
from vlpnb.nn.transformer import Encoder, TransformerConfig
from vlpnb.vision.swin import SwinConfig

STACK = "text_encoder.bert.encoder.layer."
SWIN = {
    "hidden": 32, "image_width": 32, "image_patches": 0, "vision": "swin",
    "swin": SwinConfig(image_size=64, window=8, embed=16, depths=(1, 1), heads=(2, 2)),
}  # fmt: skip


class EntailmentModel(torch.nn.Module):
    """As the one of `vlpnb.cclm.xvnli`, which is made of a backbone and a head."""

    def __init__(self, backbone: Cclm):
        super().__init__()
        self.config, self.backbone, self.head = backbone.config, backbone, ScoreHead(D, 3)


class PairModel(torch.nn.Module):
    """As the one of `vlpnb.cclm.pairs`: second layers have no keys and values of their own."""

    def __init__(self, backbone: Cclm, outputs: int = 2):
        super().__init__()
        self.config, self.backbone = backbone.config, backbone
        self.seconds = torch.nn.ModuleList(
            type(layer)(backbone.config.transformer) for layer in backbone.fusion_layers
        )
        for layer in self.seconds:
            layer.meet.attention.key = layer.meet.attention.value = None
        self.head = ScoreHead(D, 2) if outputs == 2 else torch.nn.Linear(D, outputs)


def same(one, other):
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("changes", [{}, {"boxes": False, "image_patches": 0}, SWIN])
def test_a_folder_gives_back_the_model(changes, tmp_path):
    cclm = model(**changes).float()
    folder = save_model(tmp_path / "model", cclm)
    back = load_model(folder)
    assert back.config == cclm.config
    same(cclm, back)
    assert not back.training
    assert load_model(folder, dropout=0.25).config.dropout == 0.25
    assert is_cclm(folder)


def test_a_checkpoint_of_the_original_has_its_names_and_comes_back(tmp_path):
    cclm = model(**SWIN, position_start=0).float()
    file = save_original(tmp_path / "cclm_3m_epoch_29.th", cclm)
    found = torch.load(file, weights_only=True)
    assert set(found) == {"model", "config"}
    state = found["model"]
    assert torch.equal(
        state[f"{STACK}2.crossattention.output.dense.weight"], cclm.fusion_layers[0].meet.attention.out.weight
    )
    assert torch.equal(state[f"{STACK}1.output.LayerNorm.bias"], cclm.text_layers[1].think.norm.bias)
    assert torch.equal(state["text_encoder.cls.predictions.decoder.weight"], cclm.word_weight)
    assert torch.equal(state["itm_head.3.bias"], cclm.match_head.out.bias)
    assert "vision_encoder.layers.1.blocks.0.attn.qkv.weight" in state
    state["text_encoder.bert.embeddings.position_ids"] = torch.arange(20)[None]
    state["vision_encoder.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16).long()
    torch.save(
        {
            "model": {name: t.half() if t.is_floating_point() else t for name, t in state.items()},
            "config": {"lr": 1e-4, "images": ["a", 1]},
        },
        file,
    )
    back = load_model(file, heads=4)
    assert back.config == replace(cclm.config, dropout=0.1, temperature=back.config.temperature)
    assert back.config.temperature == pytest.approx(0.07, abs=1e-4)
    close(back.word_weight, cclm.word_weight.half().float())


def test_a_window_that_changes_takes_resampled_tables(tmp_path):
    cclm = model(**SWIN).float()
    folder = save_model(tmp_path / "model", cclm)
    larger = SwinConfig(image_size=96, window=12, embed=16, depths=(1, 1), heads=(2, 2))
    back = load_model(folder, swin=larger)
    assert back.pictures(torch.zeros(1, 3, 96, 96)).shape == (1, 145, D)
    table = original_state(back)["vision_encoder.layers.0.blocks.0.attn.relative_position_bias_table"]
    own = original_state(cclm)["vision_encoder.layers.0.blocks.0.attn.relative_position_bias_table"]
    assert table.shape == (529, 2)
    close(table[264], own[112], 1e-6)  # the place itself keeps its bias


@pytest.mark.parametrize("level", ["", "bert."])
def test_fine_tuned_files_are_read_without_the_heads_that_their_task_has_not(level, tmp_path):
    whole = EntailmentModel(model().float())
    state = original_state(whole)
    heads = ("text_encoder.cls.", "vision_proj", "text_proj", "temp", "itm_head", "bbox_head")
    state = {
        name.replace("text_encoder.bert.", f"text_encoder.{level}"): tensor
        for name, tensor in state.items()
        if not name.startswith(heads)
    }
    save_file(state, file := tmp_path / "xvnli.safetensors")
    back = load_model(file, EntailmentModel, heads=4, position_start=2)
    same(whole.head, back.head)
    same(whole.backbone.fusion_layers, back.backbone.fusion_layers)
    with pytest.raises(UserError, match=r"missing: .*text_encoder\.cls\.predictions"):
        load_model(file, heads=4)
    backbone = load_model(file, heads=4, may_lack=("text_encoder.cls.*", "*_proj.*", "temp", "itm_head.*"))
    same(whole.backbone.text_layers, backbone.text_layers)
    lacking = open_weights(file, heads=4).fill(
        Cclm(config(width=256, boxes=False)),
        ("text_encoder.cls.*", "*_proj.*", "temp", "itm_head.*"),
        ("cls_head.*",),
    )
    assert "temp" in lacking
    assert "itm_head.0.weight" in lacking


@pytest.mark.parametrize("outputs", [2, 3])
def test_layers_for_two_pictures_stand_in_pairs_whose_keys_are_tied(outputs, tmp_path):
    pair = PairModel(model().float(), outputs)
    state = original_state(pair)
    first, second = pair.backbone.fusion_layers[1], pair.seconds[1]
    assert torch.equal(state[f"{STACK}4.crossattention.self.key.weight"], first.meet.attention.key.weight)
    assert torch.equal(
        state[f"{STACK}5.crossattention.self.query.weight"], second.meet.attention.query.weight
    )
    assert f"{STACK}5.crossattention.self.key.weight" not in state
    assert ("ta_head.weight" in state) == (outputs == 3)
    same(pair, load_model(save_model(tmp_path / "ours", pair), PairModel))
    for layer in (2, 4):
        for leaf in ("key.weight", "key.bias", "value.weight", "value.bias"):
            copy = state[f"{STACK}{layer}.crossattention.self.{leaf}"].clone()
            state[f"{STACK}{layer + 1}.crossattention.self.{leaf}"] = copy
    save_file(state, file := tmp_path / "nlvr.safetensors")
    back = load_model(file, PairModel, heads=4, position_start=2)
    assert back.config.fusion_layers == 2
    same(pair, back)
    state[f"{STACK}5.crossattention.self.value.bias"] += 1
    save_file(state, file)
    with pytest.raises(UserError, match=r"layer\.5\.crossattention\.self\.value\.bias differs from"):
        load_model(file, PairModel, heads=4)


def test_a_word_head_that_is_not_tied_is_refused(tmp_path):
    state = original_state(model().float())
    state["text_encoder.cls.predictions.decoder.weight"] = (
        state["text_encoder.bert.embeddings.word_embeddings.weight"] + 1
    )
    save_file(state, file := tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="expected them to be tied"):
        load_model(file, heads=4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"temp": None}, "1 missing: temp"),
        ({"queue": torch.zeros(2)}, "1 unexpected: queue"),
        ({"itm_head.3.bias": torch.zeros(3)}, r"itm_head\.3\.bias \[3\], expected \[2\]"),
        (
            {"text_encoder.bert.embeddings.word_embeddings.weight": None},
            "names beginning with 'text_encoder.'",
        ),
        ({"temp": torch.tensor(float("nan"))}, "holds a NaN"),
    ],
)
def test_what_does_not_fit_is_named(change, told, tmp_path):
    state = original_state(model().float())
    state = {name: tensor for name, tensor in (state | change).items() if tensor is not None}
    save_file(state, file := tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=told):
        load_model(file, heads=4)


def test_files_that_hold_more_than_tensors_or_nothing_are_refused(tmp_path):
    torch.save({"model": {"a": print}}, tmp_path / "code.th")
    (tmp_path / "short.th").write_bytes(b"PK\x03\x04")
    torch.save({"model": [1, 2]}, tmp_path / "list.th")
    for name, told in (("code", "more than tensors"), ("short", "cannot be read"), ("list", "no state dict")):
        with pytest.raises(UserError, match=told):
            load_model(tmp_path / f"{name}.th")
    with pytest.raises(UserError):
        load_model(tmp_path / "nothing.th")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"architectures": ["BertModel"]}, "expected that of a CCLM"),
        ({"hiden": 32}, "no field 'hiden'; did you mean 'hidden'"),
        ({"hidden": "32"}, "hidden is '32'; expected int"),
    ],
)
def test_a_folder_with_other_settings_is_refused(change, told, tmp_path):
    folder = save_model(tmp_path / "model", model().float())
    settings = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=told):
        load_model(folder)


def xlmr(folder, layers=8, **changes):
    torch.manual_seed(3)
    sizes = {"vocab_size": 40, "hidden": D, "layers": layers, "heads": 4, "ffn": 48, "max_positions": 24}
    shape = TransformerConfig(**(sizes | changes), type_vocab=1, pad_id=1, position_offset=2, norm_eps=1e-5)
    encoder, head = Encoder(shape), MLMHead(shape)
    for parameter in (*encoder.parameters(), *head.parameters()):
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return save_hf(folder, encoder, mlm=head, model_type="xlm-roberta"), encoder, head


def test_a_model_begins_with_every_second_layer_of_xlmr(tmp_path):
    folder, encoder, head = xlmr(tmp_path / "xlmr")
    cclm = Cclm(config())
    fresh = cclm.fusion_layers[0].meet.attention.key.weight.clone()
    assert not is_cclm(folder)
    (line,) = start_from_xlmr(cclm, folder)
    assert "8 layers" in line
    layers = [*cclm.text_layers, *cclm.fusion_layers]
    for place, layer in enumerate(layers):
        same(layer.look, encoder.blocks[2 * place + 1].look)
        same(layer.think, encoder.blocks[2 * place + 1].think)
    close(cclm.word_weight, encoder.word_weight)
    close(cclm.embeddings.positions.weight, encoder.embeddings.positions.weight[:20])
    same(cclm.word_head, head)
    close(cclm.fusion_layers[0].meet.attention.key.weight, fresh)


def test_a_text_encoder_with_all_layers_is_xlmr(tmp_path):
    folder, encoder, _ = xlmr(tmp_path / "xlmr", layers=4)
    cclm = Cclm(config()).eval()
    start_from_xlmr(cclm, folder)
    ids, mask = texts()
    ours = cclm.fuse(cclm.text(ids, mask), mask)
    close(ours[mask], encoder.eval()(ids, mask).last[mask], 1e-5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vocab_size": 41}, "vocab_size is 41"),
        ({"layers": 3}, "has 3 layers and 24 positions; expected at least 4 and 20"),
        ({"max_positions": 12}, "12 positions"),
    ],
)
def test_an_xlmr_of_other_sizes_is_refused(changes, told, tmp_path):
    folder, *_ = xlmr(tmp_path / "xlmr", **changes)
    with pytest.raises(UserError, match=told):
        start_from_xlmr(Cclm(config()), folder)


def test_the_papers_layers_are_the_odd_ones_of_24():
    sources = {int(t.split(".")[3]) for o, t in xlmr_names(12, 24).items() if o.startswith(STACK)}
    assert sources == set(range(1, 24, 2))


def test_what_is_new_learns_faster_and_the_originals_decay_goes_by_names():
    training = CclmPretraining(model())
    faster, spared = learning(training, 2.0)
    assert spared is None
    assert {name.split(".")[1] for name in faster} == {
        "vision", "fusion_layers", "image_projection", "text_projection", "temperature", "match_head", "box_head",
    }  # fmt: skip
    assert {name.split(".")[3] for name in faster if "fusion" in name} == {"meet"}
    _, names = learning(training, 2.0, original=True)
    assert "model.match_head.norm.weight" not in names
    assert "model.temperature" not in names
    assert "model.text_layers.0.think.norm.weight" in names
    assert "model.match_head.norm.bias" in names


def test_every_tensor_has_a_name_of_its_own():
    for changes in ({}, SWIN):
        cclm = model(**changes)
        names = original_names(cclm)
        assert len(set(names.values())) == len(names)
        assert len(names) == len([*cclm.parameters()])
