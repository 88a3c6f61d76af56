"""The original's eleven language backbones, each as a small random model of its kind."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from vlpnb.errors import UserError
from vlpnb.nn.transformer import Encoder
from vlpnb.text import backbones
from vlpnb.text.backbone_names import NAMES, special_ends
from vlpnb.text.backbones import load_language

WORDS = ["<pad>", "<unk>", "<cls>", "<sep>", "a", "red", "picture", "of", "things", "."]
SMALL = {
    "bert": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
    "openai-gpt": {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "gpt2": {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "xlnet": {"d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 16},
    "distilbert": {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16},
}
SMALL |= {"roberta": SMALL["bert"] | {"pad_token_id": 0}, "xlm-roberta": SMALL["bert"] | {"pad_token_id": 0}}
TEMPLATES = {"openai-gpt": "$A", "gpt2": "$A", "xlnet": "$A <sep> <cls>"}


def save(kind, folder):
    """A model of a kind with a tokenizer whose template is that kind's."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(WORDS), **SMALL[kind])
    AutoModel.from_config(config).eval().save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    template = TEMPLATES.get(kind, "<cls> $A <sep>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<cls>", 2), ("<sep>", 3)]
    )
    roles = {"unk_token": "<unk>"}
    if kind not in ("openai-gpt", "gpt2"):
        roles |= {"pad_token": "<pad>", "cls_token": "<cls>", "sep_token": "<sep>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(folder)
    return folder


def test_the_names_are_the_originals(monkeypatch):
    """Ten beside BERT; a name means a model of the hub, unless a folder is called so."""
    assert len(NAMES) == 11
    asked = []

    def folder(name):
        asked.append(name)
        raise UserError("no hub here")

    monkeypatch.setattr(backbones, "model_folder", folder)
    for name in (*NAMES, "bert-base-uncased", "minilm"):
        with pytest.raises(UserError, match="no hub"):
            load_language(name, (-1,))
    assert asked == [*NAMES.values(), "bert-base-uncased", backbones.MINILM]


@pytest.mark.parametrize(
    ("kind", "ends"),
    [(kind, {"$A": ([], []), "$A <sep> <cls>": ([], [3, 2])}.get(TEMPLATES.get(kind), ([2], [3]))) for kind in SMALL],
)  # fmt: skip
def test_hidden_states_of_every_kind(tmp_path, kind, ends):
    """The last state is the model's output, axes are [B, T, F], and padding changes no token, XLNet's neither."""
    language = load_language(save(kind, tmp_path), (-2, -1))
    assert (language.prefix, language.suffix) == ends == special_ends(language.tokenizer)
    assert isinstance(language.net, Encoder) == (kind in ("bert", "roberta", "xlm-roberta"))
    rows = language.encode(["a red picture of red things .", "red"])
    assert rows[1] == [*ends[0], 5, *ends[1]]
    assert (
        language.wrap([4, 5, 6, 7, 8], max_length=4)[len(ends[0]) :][: 4 - len(ends[0] + ends[1])]
        == [4, 5, 6, 7][: 4 - len(ends[0] + ends[1])]
    )
    states = language(*language.pad(rows))
    assert states.shape == (2, 7 + len(ends[0] + ends[1]), 16)
    alone = language(*language.pad(rows[1:]))
    torch.testing.assert_close(states[1, : len(rows[1])], alone[0], atol=1e-5, rtol=1e-4)
    theirs = AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = theirs(torch.tensor([rows[0]])).last_hidden_state
    torch.testing.assert_close(states[0, :, 8:], expected[0], atol=1e-5, rtol=1e-4)


def test_kinds_that_cannot_be_run_are_named(tmp_path):
    save("gpt2", tmp_path / "xl")
    config = tmp_path / "xl" / "config.json"
    config.write_text(config.read_text().replace('"gpt2"', '"transfo-xl"'))
    with pytest.raises(UserError, match=r"xl: transformers cannot open a model of type 'transfo-xl'"):
        load_language(tmp_path / "xl", (-1,))
    small = {"d_model": 8, "d_kv": 4, "num_layers": 1, "num_heads": 2, "d_ff": 8, "vocab_size": 10}
    AutoModel.from_config(AutoConfig.for_model("t5", **small)).save_pretrained(tmp_path / "t5")
    with pytest.raises(UserError, match=r"t5: t5 has an encoder and a decoder"):
        load_language(tmp_path / "t5", (-1,))


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("ctrl", {"vocab.json": '{"<unk>": 0, "a": 1}', "merges.txt": "#version\n"}),
        ("xlm", {"vocab.json": '{"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3}', "merges.txt": ""}),
    ],
)
def test_slow_tokenizers_are_refused(tmp_path, kind, files):
    from transformers import CTRLConfig, XLMConfig

    small = {"ctrl": CTRLConfig(vocab_size=10, n_positions=8, n_embd=8, dff=8, n_layer=1, n_head=2),
             "xlm": XLMConfig(vocab_size=10, emb_dim=8, n_layers=1, n_heads=2, n_langs=1)}  # fmt: skip
    AutoModel.from_config(small[kind]).save_pretrained(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "tokenizer_config.json").write_text(f'{{"tokenizer_class": "{kind.upper()}Tokenizer"}}')
    with pytest.raises(UserError, match=r"tokenizer '.*' (cannot be loaded|has no fast version)"):
        load_language(tmp_path, (-1,))


def test_a_sentence_that_is_too_long_is_refused_in_words(tmp_path):
    language = load_language(save("bert", tmp_path), (-1,))
    fits = [language.wrap([4] * (language.longest - 2))]
    assert language(*language.pad(fits)).shape[1] == language.longest
    with pytest.raises(
        UserError, match=rf"of {language.longest + 1} word pieces .*reads \({language.longest}\)"
    ):
        language(*language.pad([[*fits[0], 4]]))
