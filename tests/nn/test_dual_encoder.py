"""The dual encoder: its loss by hand, causality, padding, files."""

import json

import pytest
import torch
from torch.nn.functional import log_softmax

from vlpnb.errors import UserError
from vlpnb.nn.dual_encoder import (
    DualEncoder,
    DualEncoderConfig,
    infonce,
    load_dual_encoder,
    save_dual_encoder,
)
from vlpnb.nn.text_states import token_states

SHAPE = DualEncoderConfig(
    vocab_size=30, longest=10, hidden=16, layers=2, heads=2, ffn=32, feature_width=6, width=8, init_std=0.25
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DualEncoder(SHAPE).eval()


def test_infonce_is_the_mean_of_both_directions():
    torch.manual_seed(0)
    text, pictures = torch.randn(5, 8), torch.randn(5, 8)
    scores = 3 * text @ pictures.T
    wanted = -(log_softmax(scores, 1).diagonal() + log_softmax(scores, 0).diagonal()).sum() / 2
    torch.testing.assert_close(infonce(text, pictures, 3.0), wanted)


def test_a_position_sees_only_what_is_before_it(model):
    ids = torch.randint(4, 30, (2, 9))
    changed = ids.clone()
    changed[:, 5:] = torch.randint(4, 30, (2, 4))
    one, other = model.token_states(ids), model.token_states(changed)
    torch.testing.assert_close(one[:, :5], other[:, :5])
    assert (one[:, 5:] - other[:, 5:]).abs().max() > 1e-3


def test_the_loss_asks_the_states_that_it_is_told(model):
    ids, features = torch.randint(4, 30, (3, 9)), torch.randn(3, 6)
    ends, inside = torch.tensor([8, 4, 6]), torch.tensor([2, 4, 1])
    found = model(ids, features, ends, inside)
    pictures = torch.nn.functional.normalize(model.image_vectors(features), dim=-1)
    for name, at in (("pairs", ends), ("prefixes", inside)):
        text = torch.stack([model.token_states(ids)[i, t] for i, t in enumerate(at)])
        torch.testing.assert_close(found[name], infonce(text, pictures, model.scale))
    assert set(model(ids, features, ends)) == {"pairs"}
    longer = torch.cat([ids[:2], torch.full((2, 2), SHAPE.pad_id)], 1)
    torch.testing.assert_close(
        model(longer, features[:2], ends[:2])["pairs"], model(ids[:2], features[:2], ends[:2])["pairs"]
    )


def test_the_scale_starts_at_the_temperature_and_has_a_bound(model):
    assert model.scale.item() == pytest.approx(1 / 0.07)
    model.log_scale.data.fill_(10.0)
    assert model.scale.item() == 100


def test_states_in_batches_are_those_of_one_text_at_a_time(model):
    torch.manual_seed(1)
    chunks = [torch.randint(4, 30, (n,)).numpy() for n in (0, 3, 10, 7, 3, 1, 10)]
    found = token_states(model.token_states, chunks, start=2, end=3, pad=0, longest=10, positions=24)
    for chunk, states in zip(chunks, found, strict=True):
        alone = model.token_states(torch.tensor([[2, *chunk.tolist(), 3]]))[0]
        torch.testing.assert_close(torch.from_numpy(states), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("image_hidden", [0, 12])
def test_a_saved_dual_encoder_loads(tmp_path, image_hidden):
    shape = DualEncoderConfig(**(vars(SHAPE) | {"image_hidden": image_hidden}))
    model = DualEncoder(shape).eval()
    save_dual_encoder(tmp_path, model)
    loaded = load_dual_encoder(tmp_path)
    assert loaded.config == shape
    features = torch.randn(4, 6)
    torch.testing.assert_close(loaded.image_vectors(features), model.image_vectors(features))


def test_settings_of_another_model_are_refused(tmp_path, model):
    save_dual_encoder(tmp_path, model)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "wide": 3}))
    with pytest.raises(UserError, match="wide"):
        load_dual_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**settings, "hidden": 32}))
    with pytest.raises(UserError, match="shape"):
        load_dual_encoder(tmp_path)


def test_an_id_beyond_the_vocabulary_is_refused():
    with pytest.raises(UserError, match="end_id = 30"):
        DualEncoderConfig(vocab_size=30, end_id=30)
