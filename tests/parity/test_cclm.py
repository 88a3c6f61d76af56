"""CCLM beside transformers' XLM-R: outputs, masked words, losses and gradients, with the positions given to theirs.

CCLM's text layers, its fusion layers without a memory, and its word head are XLM-R's; positions are counted otherwise
where masking or the original's way (CCL-03) asks for it, so that transformers' model is told them.
"""

from dataclasses import replace

import pytest
import torch
import transformers

from vlpnb.cclm.config import CclmConfig
from vlpnb.cclm.model import Cclm
from vlpnb.cclm.original.names import original_names, xlmr_names
from vlpnb.cclm.original.weights import start_from_xlmr

SHAPE = {
    "vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 40,
    "max_position_embeddings": 22, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
}  # fmt: skip
OURS = CclmConfig(
    vocab_size=53,
    hidden=24,
    text_layers=2,
    fusion_layers=2,
    heads=3,
    ffn=40,
    max_positions=22,
    width=8,
    image_width=6,
)


@pytest.fixture(autouse=True)
def _quiet():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def theirs() -> transformers.XLMRobertaForMaskedLM:
    torch.manual_seed(0)
    model = transformers.XLMRobertaForMaskedLM(transformers.XLMRobertaConfig(**SHAPE)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mask = torch.arange(12) < torch.tensor([12, 5, 9, 2])[:, None]
    ids = torch.randint(4, 53, (4, 12)).where(mask, 1)
    labelled = mask & (torch.rand(4, 12) < 0.4)
    labelled[0, 3] = True
    return ids, mask, torch.randint(4, 53, (4, 12)).where(labelled, -100)


@pytest.mark.parametrize("start", [0, 2])
def test_all_layers_without_a_memory_are_xlmr_with_its_gradients(start, tmp_path):
    model = theirs()
    model.save_pretrained(tmp_path)
    cclm = Cclm(replace(OURS, position_start=start)).eval()
    start_from_xlmr(cclm, tmp_path)
    ids, mask, labels = batch()
    places = (start + torch.arange(12)).expand(4, -1)
    expected = model(ids, mask.long(), position_ids=places, labels=labels)
    expected.loss.backward()

    fused = cclm.fuse(cclm.text(ids, mask), mask)
    loss = cclm.word_head.loss(fused, cclm.word_weight, labels)
    loss.backward()
    torch.testing.assert_close(cclm.words(fused)[mask], expected.logits[mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss, expected.loss, atol=1e-6, rtol=1e-5)
    wanted, sources = dict(model.named_parameters(remove_duplicate=False)), xlmr_names(4, 4)
    compared = 0
    for ours, name in original_names(cclm).items():
        if name not in sources:
            continue
        found, expected_gradient = dict(cclm.named_parameters())[ours].grad, wanted[sources[name]].grad
        if (
            "position_embeddings" in name
        ):  # theirs never trains the padding's row, which is a position from 0 on
            found, expected_gradient = (torch.cat([g[:1], g[2:]]) for g in (found, expected_gradient))
        torch.testing.assert_close(
            found, expected_gradient, atol=2e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )
        compared += 1
    assert compared == len(sources) == len([*model.parameters()])


def test_with_positions_from_2_padded_texts_are_xlmrs_own():
    """No positions are told: transformers counts word pieces, which is the same where padding stands behind."""
    model, cclm = theirs(), Cclm(OURS).eval()
    ids, mask, _ = batch()
    state = model.state_dict()
    own = {name: ours for ours, name in original_names(cclm).items()}
    moved = {own[name]: state[source] for name, source in xlmr_names(4, 4).items()}
    cclm.load_state_dict(moved, strict=False)
    expected = model.roberta(ids, mask.long(), output_hidden_states=True)
    text = cclm.text(ids, mask)
    torch.testing.assert_close(text[mask], expected.hidden_states[2][mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        cclm.fuse(text, mask)[mask], expected.last_hidden_state[mask], atol=1e-5, rtol=1e-5
    )
