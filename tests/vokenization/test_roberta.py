"""A RoBERTa-style model from end to end: vocabulary, corpus, pre-training with vokens, GLUE, SQuAD, SWAG and probes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import tiny_lm
from tests.tiny_lm import squad_content
from vlpnb.data.description import CaptionFiles, FolderData, load_captions, load_text
from vlpnb.data.store import write_store
from vlpnb.downstream import probes
from vlpnb.foundations import language
from vlpnb.foundations.language import LanguageConfig
from vlpnb.nn.checkpoints import load_encoder
from vlpnb.text.corpora import TokenCorpus, write_corpus
from vlpnb.text.tokenizers import load_tokenizer, save_tokenizer
from vlpnb.vokenization import pretraining
from vlpnb.vokenization.glue import GLUE, VokenizationGlueConfig
from vlpnb.vokenization.pretraining import PretrainingConfig, snapshot_folders
from vlpnb.vokenization.probes import PROBES, VokenizationProbesConfig
from vlpnb.vokenization.squad import SQUAD, VokenizationSquadConfig
from vlpnb.vokenization.swag import SWAG, VokenizationSwagConfig

ENDINGS = "sent1,sent2,ending0,ending1,ending2,ending3,label\n"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """The stages `language` and `pretraining`, a corpus of the first's tokenizer between, and what they measured."""
    root = tmp_path_factory.mktemp("roberta")
    made = tiny_lm.make(root, count=120)
    (root / "squad").mkdir()
    (root / "swag").mkdir()
    for version, impossible in (("1.1", False), ("2.0", True)):
        for split, count in (("train", 24), ("dev", 8)):
            text = json.dumps(squad_content(count, 0, impossible))
            (root / "squad" / f"{split}-v{version}.json").write_text(text)
    for name in ("train", "val"):
        rows = [f"the car is red .,it is,red .,green .,yellow .,near .,{i % 4}\n" for i in range(16)]
        (root / "swag" / f"{name}.csv").write_text(ENDINGS + "".join(rows))
    (root / "1.png").write_bytes(b"")
    annotations = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{"id": 1, "image_id": 1, "caption": "A green kite – Zürich."}],
    }
    (root / "captions.json").write_text(json.dumps(annotations))
    captions = CaptionFiles("coco", {"train": (root / "captions.json",)}, str(root))
    replace(load_captions(made["captions"]), splits=captions).save(made["captions"])
    for name in ("squad", "swag"):
        FolderData(root, root / name).save(made["text"], f"{name}_data")
        made[f"{name}_data"] = made["text"]
    text = load_text(made["text"])

    metrics = {}
    config = LanguageConfig(tokenizer="byte-bpe", size="micro", vocab_size=320, updates=6, batch=16, warmup=2)
    metrics["language"] = language.run(tiny_lm.context(config, root / "language", made))
    tokenizer = load_tokenizer(root / "language" / "model")
    corpus, vokens = root / "byte-corpus", root / "byte-vokens"
    corpus.mkdir()
    vokens.mkdir()
    for split in ("train", "valid"):
        write_corpus(getattr(text, split), corpus / f"{split}.hdf5", tokenizer, "wiki103")
        tokens = np.asarray(TokenCorpus(corpus / f"{split}.hdf5").tokens)
        with write_store(vokens / f"{split}.hdf5", "vokens") as file:
            file["vokens"] = (tokens % tiny_lm.VOKENS).astype(np.int32)
        (vokens / f"{split}.ids").write_text("".join(f"universe/{i}\n" for i in range(tiny_lm.VOKENS)))
    save_tokenizer(tokenizer, corpus / "tokenizer")
    inputs = {**made, "corpus": corpus, "vokens": vokens}
    config = PretrainingConfig(
        size="micro",
        block=30,
        batch=16,
        updates=30,
        warmup=3,
        lr=3e-3,
        dropout=0.0,
        init_std=0.12,
        shuffle=True,
    )
    metrics["vlm"] = pretraining.run(tiny_lm.context(config, root / "vlm", inputs))
    return {**inputs, "pretraining": root / "vlm", "language": root / "language"}, metrics


def test_vocabulary_and_positions_are_robertas(pipeline):
    inputs, _ = pipeline
    [snapshot] = snapshot_folders(inputs["pretraining"])
    tokenizer = load_tokenizer(snapshot)
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokenizer.mask_token_id == len(tokenizer) - 1 == 319
    one, two = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("the car", "red"))
    assert tokenizer("the car", "red")["input_ids"] == [0, *one, 2, 2, *two, 2]
    assert (
        tokenizer.decode(tokenizer("A green kite – Zürich.")["input_ids"][1:-1]) == "A green kite – Zürich."
    )
    ids = tokenizer("the car is <mask> .", add_special_tokens=False)["input_ids"]
    mask = ids.index(tokenizer.mask_token_id)
    assert (
        ids[:mask] == tokenizer("the car is", add_special_tokens=False)["input_ids"]
    )  # no piece for its space
    about = json.loads((snapshot / "config.json").read_text())
    assert (about["model_type"], about["pad_token_id"], about["type_vocab_size"]) == ("roberta", 1, 1)
    assert (about["max_position_embeddings"], about["layer_norm_eps"]) == (514, 1e-5)


def test_transformers_computes_the_same(pipeline):
    from transformers import AutoModel

    [snapshot] = snapshot_folders(pipeline[0]["pretraining"])
    made = load_tokenizer(snapshot)(["the car is red .", "kite"], padding=True, return_tensors="pt")
    theirs = AutoModel.from_pretrained(snapshot, add_pooling_layer=False).eval()
    with torch.no_grad():
        wanted = theirs(**made).last_hidden_state
        found = load_encoder(snapshot)(made["input_ids"], made["attention_mask"]).last
    real = made["attention_mask"].bool()
    torch.testing.assert_close(found[real], wanted[real], atol=1e-5, rtol=1e-4)


def test_pre_training_learns_words_and_vokens(pipeline):
    _, metrics = pipeline
    assert metrics["vlm"]["perplexity"] < 40  # of 320 pieces
    assert metrics["vlm"]["voken_loss"] < np.log(tiny_lm.VOKENS) - 0.5
    assert metrics["language"]["vocab_size"] == 320


def test_the_corpus_is_wrapped_and_cut_into_sentences(pipeline):
    inputs, _ = pipeline
    corpus = TokenCorpus(inputs["corpus"] / "valid.hdf5")
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    assert len(corpus.sentences) - 1 == 2 * (len(corpus.lines) - 1)  # two a line
    assert tokenizer.decode(corpus.sentence(0)).strip().endswith(".")


@pytest.mark.slow
def test_it_is_fine_tuned_on_everything(pipeline, tmp_path):
    inputs, _ = pipeline
    metrics = GLUE.run(
        tiny_lm.context(
            VokenizationGlueConfig(seeds=(1,), lr=3e-3, epochs=4, batch=8), tmp_path / "glue", inputs
        )
    )
    assert metrics["cola"] > 0.5  # word order
    config = VokenizationSquadConfig(seeds=(1,), lr=3e-3, epochs=1, batch=8, max_length=64, stride=16)
    metrics = SQUAD.run(tiny_lm.context(config, tmp_path / "squad", inputs))
    assert {"v1_em", "v2_f1"} <= metrics.keys()
    texts = json.loads((tmp_path / "squad/seed-1/v1.1/predictions.json").read_text()).values()
    assert all(text and text == text.strip() for text in texts)  # no space from the byte-level piece
    metrics = SWAG.run(
        tiny_lm.context(VokenizationSwagConfig(seeds=(1,), epochs=1), tmp_path / "swag", inputs)
    )
    assert 0 <= metrics["accuracy"] <= 1


def test_probes_ask_for_pieces_as_the_corpus_has_them(pipeline, tmp_path):
    inputs, _ = pipeline
    [snapshot] = snapshot_folders(inputs["pretraining"])
    tokenizer, seen = load_tokenizer(snapshot), {}
    for text in tiny_lm.lines(20):
        seen |= dict.fromkeys(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert tokenizer(" yellow", add_special_tokens=False)["input_ids"][0] in seen
    model = probes.load_masked_lm(snapshot)
    items = [{"prompt": "the banana is [MASK] .", "candidates": ["yellow", "green"], "answer": "yellow"}]
    scores = probes.candidate_scores(model, tokenizer, items, "cpu")
    made = tokenizer("the banana is <mask> .", return_tensors="pt")["input_ids"]
    yellow = tokenizer("x yellow", add_special_tokens=False)["input_ids"][1:]
    if len(yellow) == 1:
        hidden = model.encoder(made).last[made == tokenizer.mask_token_id]
        logs = model.mlm.logits(hidden, model.encoder.word_weight).log_softmax(-1)
        assert scores[0, 0] == pytest.approx(logs[0, yellow[0]].item(), abs=1e-5)
    metrics = PROBES.run(tiny_lm.context(VokenizationProbesConfig(splits=2), tmp_path, inputs))
    assert 0 <= metrics["colour"] <= 1
