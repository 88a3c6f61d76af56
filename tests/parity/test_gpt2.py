"""GPT-2 in our decoder gives what HuggingFace's gives, and the other way round."""

import pytest
import torch

from vlpnb.nn.gpt2 import load_gpt2
from vlpnb.valm.config import size_config
from vlpnb.valm.objectives import ValmLM
from vlpnb.valm.original.weights import load_gpt2_lm, save_gpt2_lm

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    torch.manual_seed(0)
    shape = transformers.GPT2Config(
        vocab_size=97, n_embd=48, n_layer=3, n_head=4, n_positions=40, bos_token_id=96, eos_token_id=96,
        initializer_range=0.2,
    )  # fmt: skip
    peer = transformers.GPT2LMHeadModel(shape).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    folder = tmp_path_factory.mktemp("gpt2")
    peer.save_pretrained(folder)
    return peer, folder


def ids(seed=0):
    return torch.randint(0, 97, (3, 40), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_a_gpt2_of_huggingface_gives_its_outputs_here(theirs):
    peer, folder = theirs
    expected = peer(ids(), output_hidden_states=True)
    lm = load_gpt2_lm(folder)
    torch.testing.assert_close(lm.logits(ids()), expected.logits, rtol=0, atol=1e-5)
    found = lm.model(ids(), hidden_states=True).hidden_states
    for one, other in zip(found[:-1], expected.hidden_states[:-1], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    torch.testing.assert_close(load_gpt2(folder)(ids()).last, expected.hidden_states[-1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_decoder_of_ours_gives_its_outputs_in_huggingface(tmp_path):
    torch.manual_seed(1)
    shape = size_config(
        "gpt2",
        vocab_size=97,
        hidden=48,
        layers=2,
        heads=4,
        ffn=100,
        max_positions=40,
        fusion=(),
        eos_id=96,
        mask_id=96,
    )
    lm = ValmLM(shape).eval()
    peer = transformers.AutoModelForCausalLM.from_pretrained(save_gpt2_lm(tmp_path, lm)).eval()
    torch.testing.assert_close(peer(ids()).logits, lm.logits(ids()), rtol=0, atol=1e-5)


def test_the_loss_and_its_gradients_are_huggingfaces(theirs):
    peer, folder = theirs
    lm = load_gpt2_lm(folder)
    mean = peer(ids(), labels=ids()).loss
    total = lm(ids()[:, :-1], ids()[:, 1:])["next"] / ids()[:, 1:].numel()
    torch.testing.assert_close(total, mean, rtol=0, atol=1e-5)
    mean.backward()
    total.backward()
    table = peer.transformer.wte.weight.grad
    torch.testing.assert_close(lm.model.word_weight.grad, table, rtol=0, atol=1e-5)
