"""Stage `language`: a vocabulary and a small BERT that transformers opens."""

import json
from dataclasses import replace

import pytest
import torch

from tests import tiny_lm
from vlpnb.data.description import CaptionFiles, load_captions
from vlpnb.errors import UserError
from vlpnb.foundations import language
from vlpnb.foundations.language import LanguageConfig, SentenceBatches, sentences
from vlpnb.nn.checkpoints import save_hf
from vlpnb.nn.transformer import Encoder, TransformerConfig
from vlpnb.text.backbones import load_language
from vlpnb.text.tokenizers import load_tokenizer, train_wordpiece


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("language")
    made = tiny_lm.make(root, count=100)
    (root / "1.png").write_bytes(b"")
    annotations = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{"id": 1, "image_id": 1, "caption": "a green kite ."}],
    }
    (root / "captions.json").write_text(json.dumps(annotations))
    train = CaptionFiles("coco", {"train": (root / "captions.json",)}, str(root))
    replace(load_captions(made["captions"]), splits=train).save(made["captions"])
    return made


def test_it_trains_and_opens(inputs, tmp_path):
    from transformers import AutoModel

    config = LanguageConfig(size="micro", vocab_size=100, updates=40, batch=16, warmup=4, lr=3e-3)
    metrics = language.run(tiny_lm.context(config, tmp_path, inputs))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert metrics["loss"] == records[-1]["loss"] < 4.0
    assert AutoModel.from_pretrained(tmp_path / "model").config.hidden_size == 64
    assert load_tokenizer(tmp_path / "model").mask_token == "[MASK]"


def bert(folder, **shape):
    """A BERT of random weights whose vocabulary is larger than the text's."""
    words = ["a green kite . the car is red and yellow", *tiny_lm.lines(50), "zebras and quinces everywhere"]
    tokenizer = train_wordpiece(words, 400, folder / "words")
    config = TransformerConfig(
        vocab_size=len(tokenizer), hidden=16, layers=2, heads=2, ffn=32, max_positions=64, **shape
    )
    return save_hf(folder, Encoder(config).eval(), tokenizer=tokenizer)


def test_a_trimmed_bert_gives_the_text_the_same_hidden_states(inputs, tmp_path):
    source = bert(tmp_path / "bert")
    config = LanguageConfig(trim=str(source))
    metrics = language.run(tiny_lm.context(config, tmp_path / "stage", inputs))
    whole, trimmed = load_language(source, (-2, -1)), load_language(tmp_path / "stage", (-2, -1))
    assert metrics["vocab_size"] == len(trimmed.tokenizer) < len(whole.tokenizer)
    assert trimmed.net.config.vocab_size == len(trimmed.tokenizer)
    sentences = ["a green kite .", "the car is red ."]
    states = [backbone(*backbone.pad(backbone.encode(sentences))) for backbone in (whole, trimmed)]
    assert torch.equal(*states)


def test_only_a_bert_is_trimmed(inputs, tmp_path):
    source = bert(tmp_path / "roberta", pad_id=1, position_offset=2)
    with pytest.raises(UserError, match=r"language\.trim: .*expected a BERT"):
        language.run(tiny_lm.context(LanguageConfig(trim=str(source)), tmp_path / "stage", inputs))


def test_initial_weights_have_the_given_spread(inputs, tmp_path, monkeypatch):
    spreads = {}

    def stop(model, *arguments, **options):
        spreads[len(spreads)] = model.encoder.blocks[0].think.inner.weight.std().item()
        raise KeyboardInterrupt

    monkeypatch.setattr(language, "fit", stop)
    for number, std in enumerate((0.02, 0.1)):
        config = LanguageConfig(size="micro", vocab_size=100, init_std=std)
        with pytest.raises(KeyboardInterrupt):
            language.run(tiny_lm.context(config, tmp_path / str(number), inputs))
    assert spreads[0] == pytest.approx(0.02, rel=0.1)
    assert spreads[1] == pytest.approx(0.1, rel=0.1)


def test_sentences_are_wrapped_cut_and_distinct(inputs):
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    rows = sentences(["the car is red . the ball is green .", "the car is red ."], tokenizer, 6)
    assert len(rows) == 2
    assert all(row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id for row in rows)
    assert max(map(len, rows)) <= 6


def test_padding_is_neither_masked_nor_seen(inputs):
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    rows = sentences(["the car is red .", "the car is near the red ball and the kite ."], tokenizer, 40)
    update = SentenceBatches(rows, tokenizer, LanguageConfig(batch=2, mask_rate=0.9))(0)
    [micro] = update.micro
    padding = ~micro["mask"]
    assert padding.any()
    assert (micro["mlm_labels"][padding] == -100).all()
    assert (micro["ids"][padding] == tokenizer.pad_token_id).all()
