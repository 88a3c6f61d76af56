"""The attention explorer: maps straight from an encoder's pass, what is synced, its fallback, refusals."""

import numpy as np
import pytest
import torch

from vlpnb.errors import UserError
from vlpnb.nn.transformer import Encoder, TransformerConfig
from vlpnb.widgets.attention_explorer import AttentionExplorer

TOKENS = ["[CLS]", "a <b>", "car"]


def uniform(*shape):
    return torch.full(shape, 1 / shape[-1])


def test_shows_the_maps_of_the_pass_that_made_the_output():
    config = TransformerConfig(vocab_size=9, hidden=8, layers=2, heads=2, ffn=8, max_positions=4)
    output = Encoder(config).eval()(torch.tensor([[1, 2, 3]]), attentions=True)
    explorer = AttentionExplorer(TOKENS, output.attentions)
    sent = np.frombuffer(explorer.values, "<f4").reshape(2, 2, 3, 3)
    assert np.array_equal(sent, torch.stack(output.attentions)[:, 0].detach().numpy())
    assert (explorer.layers, explorer.heads) == (2, 2)


def test_fallback_tells_the_strongest_weights_of_the_shown_map():
    maps = uniform(2, 1, 3, 3)
    maps[1, 0, 2] = torch.tensor([0.1, 0.7, 0.2])
    bundle, _ = AttentionExplorer(TOKENS, maps, title="t & u", layer=1)._repr_mimebundle_()
    assert "layer 2 of 2, head 1 of 1" in bundle["text/plain"]
    assert "car → a <b> 0.70, car 0.20, [CLS] 0.10" in bundle["text/plain"]
    html = bundle["text/html"]
    assert html.count("<img ") == 1
    assert "car looks at a &lt;b&gt; (0.70)" in html
    assert "<td>a &lt;b&gt; 0.70</td>" in html
    assert "t &amp; u: what each token looks at most in layer 2, head 1" in html


def test_tokens_may_look_at_something_else_or_nowhere():
    maps = uniform(1, 2, 3, 2)
    maps[0, 0, 1] = 0
    explorer = AttentionExplorer(TOKENS, maps, keys=["sky", "sea"])
    assert explorer.looked_at == ["sky", "sea"]
    assert explorer.strongest(0, 1)[0] == ("[CLS]", [("sky", 0.5), ("sea", 0.5)])


@pytest.mark.parametrize(
    ("attentions", "more", "message"),
    [
        ([], {}, "attentions is empty"),
        (uniform(1, 2, 3, 4), {}, r"attentions\[0\] has shape \(2, 3, 4\)"),
        (
            uniform(1, 2, 2, 3, 3),
            {},
            r"attentions\[0\] has shape \(2, 2, 3, 3\); expected .* of one sequence",
        ),
        ([uniform(2, 3, 3), uniform(1, 3, 3)], {}, r"attentions\[1\].*the same H"),
        (2 * uniform(1, 2, 3, 3), {}, "must sum to 1"),
        (uniform(1, 2, 3, 3), {"head": 2}, "head 2: expected 0 … 0 and 0 … 1"),
    ],
)
def test_what_is_no_attention_of_these_tokens_is_refused(attentions, more, message):
    with pytest.raises(UserError, match=message):
        AttentionExplorer(TOKENS, attentions, **more)
