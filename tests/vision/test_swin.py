"""Swin towers: weights of every layout, windows that change, and files that hold something else."""

import dataclasses

import pytest
import torch
from transformers import SwinConfig as TheirConfig
from transformers import SwinModel

from vlpnb.errors import UserError
from vlpnb.vision.swin import (
    Swin,
    SwinConfig,
    fill_swin,
    load_swin,
    original_name,
    resample_table,
    resampling_ratio,
    size_of,
    swin_state,
)

TINY = SwinConfig(image_size=64, window=4, embed=8, depths=(2, 2), heads=(1, 2), drop_path=0.0)


def tower(config: SwinConfig = TINY, seed: int = 0) -> Swin:
    torch.manual_seed(seed)
    made = Swin(config).eval()
    for name, parameter in made.named_parameters():  # tables and biases that do something
        if parameter.ndim == 1 or name.endswith("table"):
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return made


def original_file(tower: Swin, path, prefix: str = ""):
    """As the public project writes it, with buffers and a head that a tower does not have."""
    state = {prefix + original_name(name): tensor for name, tensor in tower.state_dict().items()}
    state |= {f"{prefix}head.weight": torch.zeros(3, 16)}
    state |= {f"{prefix}layers.0.blocks.1.attn_mask": torch.zeros(16, 16, 16)}
    if prefix:
        state |= {"temp": torch.ones(()), "text_proj.bias": torch.ones(4)}
    torch.save({"model": state, "config": {"a": 1}} if prefix else {"model": state}, path)
    return path


@pytest.mark.parametrize("shape", [((2, 2), 64), ((2, 1, 1), 96)])
def test_a_folder_of_huggingface_gives_its_patches(tmp_path, shape):
    depths, size = shape
    torch.manual_seed(1)
    settings = TheirConfig(
        image_size=size, embed_dim=8, depths=[*depths], num_heads=[1, 2, 4][: len(depths)], window_size=4
    )
    theirs = SwinModel(settings).eval()
    for parameter in theirs.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    ours = load_swin(tmp_path, image_size=size, window=4)
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = theirs(pixels)
        found = ours(pixels)
    assert torch.allclose(found[:, 1:], expected.last_hidden_state, atol=1e-5)
    assert torch.allclose(found[:, 0], expected.pooler_output, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "vision_encoder."])
def test_a_file_in_the_original_names_gives_the_same_tower(tmp_path, prefix):
    made = tower()
    path = original_file(made, tmp_path / "swin.pth", prefix)
    opened = load_swin(path, image_size=64, window=4)
    assert opened.config == dataclasses.replace(TINY, drop_path=0.1)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(opened(pixels), made(pixels))


def test_original_names_are_one_to_one_and_come_back():
    state = {name: t for name, t in tower().state_dict().items() if "relative_position_index" not in name}
    names = {original_name(name) for name in state}
    assert len(names) == len(state)
    assert not any("features" in name for name in names)
    back = swin_state({original_name(name): tensor for name, tensor in state.items()})
    assert back.keys() == state.keys()


def test_the_size_follows_the_window_of_the_file():
    config = dataclasses.replace(TINY, image_size=32)  # 4 patches of 8 pixels: one window in the last stage
    assert size_of(tower(config).state_dict()) == dataclasses.replace(config, drop_path=0.1)


def test_swin_b_has_the_published_number_of_parameters():
    with torch.device("meta"):
        made = Swin(SwinConfig())
    assert sum(p.numel() for p in made.parameters()) == 86_743_224
    assert (made.config.patches, made.width) == (49, 1024)
    assert SwinConfig(image_size=384, window=12).patches == 144


def test_the_mean_comes_first_and_patches_are_read_row_by_row():
    made = tower()
    pixels = torch.zeros(1, 3, 64, 64)
    changed = pixels.clone()
    changed[:, :, 8:16, 32:40] = 3.0  # second row, fifth column
    with torch.no_grad():
        before, after = made(pixels), made(changed)
    assert torch.allclose(after[:, 0], after[:, 1:].mean(1), atol=1e-6)
    assert (after - before)[0, 1:].norm(dim=1).argmax() == 8 + 4


def test_a_window_of_7_becomes_12_with_the_centre_in_place():
    """169 rows become 529; the offset 0 keeps its value, and so do its neighbours, which stay at distance 1."""
    torch.manual_seed(0)
    table = torch.randn(169, 3)
    found = resample_table(table, 12)
    assert found.shape == (529, 3)
    assert torch.allclose(found[264], table[84], atol=1e-6)
    assert torch.allclose(found[[265, 263]], table[[85, 83]], atol=1e-5)
    assert torch.allclose(found[[0, 528]], table[[0, 168]], atol=1e-3)  # the rims meet
    ratio = resampling_ratio(13, 23)
    assert abs(sum(ratio**i for i in range(6)) - 11) < 1e-4
    assert torch.equal(resample_table(table, 7), table)


def test_windows_below_3_cannot_be_resampled():
    with pytest.raises(UserError, match=r"window 2.*expected 25 rows"):
        resample_table(torch.zeros(9, 1), 4)


def test_a_larger_picture_takes_the_window_of_its_last_stage(tmp_path):
    path = original_file(tower(dataclasses.replace(TINY, image_size=32)), tmp_path / "swin.pth")
    opened = load_swin(path, image_size=48)
    assert (opened.config.window, opened.grid) == (6, 6)
    with torch.no_grad():
        assert opened(torch.zeros(1, 3, 48, 48)).shape == (1, 37, 16)


def test_a_stage_smaller_than_the_window_shrinks_it_with_its_table():
    config = dataclasses.replace(TINY, image_size=32, depths=(2, 2, 2), heads=(1, 2, 2))
    made = tower(config)  # maps of 8, 4 and 2 cells a side
    tables = [made.features[stage][1].attn.relative_position_bias_table for stage in (1, 3, 5)]
    assert [len(table) for table in tables] == [49, 49, 9]
    assert made.features[5][1].attn.shift_size == [0, 0]
    state = {n: t for n, t in made.state_dict().items() if "relative_position_index" not in n}
    again = Swin(dataclasses.replace(size_of(state), image_size=32)).eval()
    fill_swin(again, state)
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(pixels), made(pixels))


def test_errors_say_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match=r"no such file"):
        load_swin(tmp_path / "absent.pth")
    torch.save({"model": {"fc.weight": torch.zeros(2, 2)}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: no weights of a Swin"):
        load_swin(tmp_path / "other.pth")
    state = swin_state({original_name(n): t for n, t in tower().state_dict().items()})
    del state["norm.weight"]
    with pytest.raises(UserError, match=r"norm\.weight is missing"):
        fill_swin(tower(), state)
    with pytest.raises(UserError, match="60 pixels; expected a multiple of 8"):
        Swin(dataclasses.replace(TINY, image_size=60))
    with pytest.raises(UserError, match="32 pixels, expected 64"):
        tower()(torch.zeros(1, 3, 32, 32))
