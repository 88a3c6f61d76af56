"""Stage `language`: a vocabulary and a small BERT that transformers opens."""

import json
from dataclasses import replace

import pytest

from tests import tiny_lm
from vlpnb.data.description import CaptionFiles, load_captions
from vlpnb.foundations import language
from vlpnb.foundations.language import LanguageConfig, SentenceBatches, sentences
from vlpnb.text.tokenizers import load_tokenizer


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
