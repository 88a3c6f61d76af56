"""CLIP's towers: equal to HuggingFace's and to recorded numbers, files both ways, input that is wrong."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from vlpnb.errors import UserError
from vlpnb.nn.clip import AttentionPool, Bottleneck, Clip, ClipConfig
from vlpnb.nn.clip_files import (
    config_of,
    fill,
    huggingface_state,
    load_clip,
    openai_state,
    save_clip,
    save_openai,
)

VIT = ClipConfig(
    vocab_size=60, context=12, hidden=32, layers=2, heads=4, ffn=64, width=24, image_size=32, patch=8,
    image_hidden=48, image_layers=(2,), image_heads=6, image_ffn=96,
)  # fmt: skip
RESNET = replace(
    VIT, patch=0, image_size=64, image_hidden=8, image_layers=(1, 2, 1, 1), image_heads=4, image_ffn=0
)

RECORDED = Path(os.environ.get("VLPNB_SHARED_GOLDEN", Path(__file__).parents[3] / "shared/golden")) / "valm"


def varied(config: ClipConfig) -> Clip:
    """Weights, norms and biases of some size, so that nothing hides behind a zero."""
    torch.manual_seed(0)
    model = Clip(config)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.normal_(std=0.15)
        if name.endswith(("norm.weight", "running_var")) or (".bn" in name and name.endswith("weight")):
            value.abs_().add_(0.6)
    return model.eval()


@pytest.fixture(scope="module")
def vit():
    return varied(VIT)


@pytest.fixture(scope="module")
def resnet():
    return varied(RESNET)


@pytest.fixture(scope="module")
def theirs(vit, tmp_path_factory):
    folder = save_clip(tmp_path_factory.mktemp("clip"), vit)
    return folder, CLIPModel.from_pretrained(folder).eval()


def test_it_gives_what_huggingface_gives(vit, theirs):
    ids, pixels = torch.randint(0, 60, (3, 12)), torch.randn(2, 3, 32, 32)
    model = theirs[1]
    with torch.no_grad():
        states = model.text_model(input_ids=ids).last_hidden_state
        wanted = model.text_projection(states)
        torch.testing.assert_close(vit.text_vectors(ids), wanted, atol=1e-5, rtol=1e-5)
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        torch.testing.assert_close(
            vit.image_vectors(pixels), model.visual_projection(pooled), atol=1e-5, rtol=1e-5
        )


def test_the_exact_gelu_is_read_from_a_folder(tmp_path):
    model = varied(replace(VIT, activation="gelu"))
    loaded = load_clip(save_clip(tmp_path, model))
    ids = torch.randint(0, 60, (2, 9))
    torch.testing.assert_close(loaded.token_states(ids), model.token_states(ids))
    assert loaded.config.activation == "gelu"
    model = CLIPModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        wanted = F.normalize(model.text_projection(model.text_model(input_ids=ids).last_hidden_state), dim=-1)
    torch.testing.assert_close(loaded.token_states(ids), wanted, atol=1e-5, rtol=1e-5)


def test_a_folder_that_huggingface_wrote_is_read(tmp_path):
    torch.manual_seed(1)
    text = {"vocab_size": 70, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"image_size": 24, "patch_size": 12, "hidden_size": 20, "num_hidden_layers": 2}
    config = CLIPConfig(
        text_config=text | {"intermediate_size": 40, "bos_token_id": 68, "eos_token_id": 69},
        vision_config=vision | {"num_attention_heads": 5, "intermediate_size": 44},
        projection_dim=8,
    )
    model = CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    ours, pixels = load_clip(tmp_path), torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        wanted = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    torch.testing.assert_close(ours.image_vectors(pixels), wanted, atol=1e-5, rtol=1e-5)
    assert ours.log_scale.item() == pytest.approx(model.logit_scale.item())


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
def test_files_of_both_kinds_give_the_same_model(config, tmp_path):
    model = varied(config)
    given = {"heads": config.heads, "image_heads": config.image_heads}
    ids, size = torch.randint(0, 60, (2, 7)), config.image_size
    pixels = torch.randn(2, 3, size, size)
    save_openai(tmp_path / "model.pt", model)
    for loaded in (
        load_clip(tmp_path / "model.pt", **given),
        load_clip(save_clip(tmp_path / "folder", model)),
    ):
        assert loaded.config == config
        torch.testing.assert_close(loaded.token_states(ids), model.token_states(ids))
        torch.testing.assert_close(loaded.image_vectors(pixels), model.image_vectors(pixels))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_published_archives_are_torchscript_in_half_precision(vit, tmp_path):
    class Holder(torch.nn.Module):
        def __init__(self, state):
            super().__init__()
            for name, tensor in state.items():
                module, parts = self, name.split(".")
                for part in parts[:-1]:
                    if not hasattr(module, part):
                        module.add_module(part, torch.nn.Module())
                    module = getattr(module, part)
                module.register_buffer(parts[-1], tensor)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    state = {name: tensor.half() for name, tensor in openai_state(vit).items()}
    state |= {"input_resolution": torch.tensor(32), "context_length": torch.tensor(12)}
    torch.jit.script(Holder(state)).save(str(tmp_path / "ViT.pt"))
    loaded = load_clip(tmp_path / "ViT.pt", heads=4, image_heads=6, image_ffn=96)
    ids = torch.randint(0, 60, (2, 7))
    torch.testing.assert_close(loaded.token_states(ids), vit.token_states(ids), atol=5e-3, rtol=0)
    assert loaded.text.word_weight.dtype == torch.float32


def test_published_heads_are_64_wide():
    config = replace(VIT, hidden=128, heads=2, image_hidden=192, image_heads=3, image_ffn=768)
    assert config_of(openai_state(Clip(config)), Path("x")) == config
    wide = replace(RESNET, image_hidden=16, image_heads=8, hidden=128, heads=2)
    assert config_of(openai_state(Clip(wide)), Path("x")) == wide


def test_the_pooling_is_multi_head_attention_of_the_mean():
    torch.manual_seed(0)
    pool, x = AttentionPool(4, 16, 4, 6), torch.randn(3, 16, 2, 2)
    places = x.flatten(2).permute(2, 0, 1)
    places = torch.cat([places.mean(0, keepdim=True), places]) + pool.positional_embedding[:, None]
    wanted, _ = F.multi_head_attention_forward(
        places[:1], places, places, 16, 4, None, torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        None, None, False, 0.0, pool.c_proj.weight, pool.c_proj.bias, use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
    )  # fmt: skip
    torch.testing.assert_close(pool(x), wanted[0])


def test_a_bottleneck_averages_before_its_stride():
    torch.manual_seed(0)
    block, x = Bottleneck(8, 4, 2).eval(), torch.randn(2, 8, 6, 6)
    shortcut = block.downsample[1](F.conv2d(F.avg_pool2d(x, 2), block.downsample[0].weight))
    inside = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu())).relu()
    wanted = block.bn3(block.conv3(F.avg_pool2d(inside, 2))) + shortcut
    torch.testing.assert_close(block(x), wanted.relu())


def test_the_text_tower_gives_the_recorded_queries():
    file = RECORDED / "text_tower.safetensors"
    if not file.is_file():
        pytest.skip(f"recorded numbers of VaLM not found at {RECORDED}")
    tensors, about = load_file(file), json.loads((RECORDED / "model.json").read_text())["text_tower"]
    rows = torch.zeros(49408, about["width"])
    rows[tensors["token_embedding_ids"]] = tensors["token_embedding_rows"]
    params = {name[6:]: value for name, value in tensors.items() if name.startswith("param.")}
    model = Clip(
        ClipConfig(
            context=about["context"], hidden=about["width"], layers=about["layers"], heads=about["heads"],
            ffn=4 * about["width"], width=about["E"], image_size=8, patch=8, image_hidden=8, image_layers=(1,),
            image_heads=1, image_ffn=8,
        )
    )  # fmt: skip
    state = openai_state(model) | params | {"token_embedding.weight": rows}
    fill(model, state, 0, file)
    ids = tensors["sentence_ids"]
    ends = (ids == about["end"]).int().argmax(1)
    with torch.no_grad():
        found = model.token_states(ids)[torch.arange(len(ids)), ends]
    torch.testing.assert_close(found, tensors["sentence_vectors"], atol=1e-5, rtol=0)
    for row, lengths in enumerate(about["chunk_lengths"]):
        first = 0
        for length in lengths:
            chunk = tensors["lm_ids"][row, first : first + length]
            chunk = torch.where(chunk == 2, about["end"] + about["lm_offset"], chunk) - about["lm_offset"]
            chunk = chunk.clamp(min=about["padding"])
            with torch.no_grad():
                states = model.token_states(torch.cat([torch.tensor([about["start"]]), chunk])[None])[0, 1:]
            wanted = tensors["queries"][row, first : first + length]
            torch.testing.assert_close(states, wanted, atol=1e-5, rtol=0)
            first += length


def test_what_does_not_fit_is_listed(vit, tmp_path):
    folder = save_clip(tmp_path, vit)
    state = huggingface_state(vit)
    state["surplus"] = torch.zeros(1)
    state["visual_projection.weight"] = torch.zeros(3, 3)
    del state["text_model.final_layer_norm.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(
        UserError, match=r"1 missing: text_model.final_.*1 unexpected: surplus.*of another shape"
    ):
        load_clip(folder)


def test_folders_of_other_models_are_refused(tmp_path, resnet):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="model_type is 'bert'"):
        load_clip(tmp_path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="expected a state dict of OpenAI's CLIP"):
        load_clip(tmp_path / "a.pt")
    with pytest.raises(UserError, match="HuggingFace's CLIP has no ResNet"):
        huggingface_state(resnet)


def test_pictures_of_another_size_are_refused(vit):
    with pytest.raises(UserError, match="this CLIP reads 32 × 32"):
        vit.image_vectors(torch.zeros(1, 3, 40, 32))
    with pytest.raises(UserError, match="image_size = 30"):
        replace(VIT, image_size=30)
