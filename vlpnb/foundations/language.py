"""Stage `language`: a pre-trained BERT with the vocabulary of the visual world.

The paper's matcher starts from BERT (section 3.2). The generated world uses a thousand words, and a language model
that is trained on it should not have thirty thousand. With `trim` the stage takes a published BERT and keeps, of its
vocabulary, the pieces that the world's text and training captions use (Abdaoui et al. 2020, "Load What You Need"):
that text is read as before, piece by piece, and gets the same hidden states.

Without `trim` it trains a stand-in: a vocabulary (WordPiece, or RoBERTa's byte-level BPE) and a small BERT or RoBERTa
(masked words only, no pictures) on the same text. Sentences are examples of their own, `[CLS] sentence [SEP]`, in
batches of similar length, because that is how the matcher will read them. Either way the result is a HuggingFace
folder. On real data a published model takes its place as it is (`features.language`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config, Seed
from vlpnb.data.description import CaptionData, TextData, load_captions, load_text
from vlpnb.errors import UserError
from vlpnb.foundations.captions import splits_only
from vlpnb.nn.checkpoints import save_hf
from vlpnb.nn.language_model import language_model_config, new_masked_lm
from vlpnb.nn.losses import IGNORE
from vlpnb.nn.transformer import Encoder, init_weights
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.backbones import load_language
from vlpnb.text.corpora import read_lines, sentence_lengths
from vlpnb.text.masking import mask_tokens
from vlpnb.text.tokenizers import (
    encode_lines,
    load_tokenizer,
    train_byte_bpe,
    train_wordpiece,
    trim_wordpiece,
)
from vlpnb.train.loop import TrainingPlan, fit
from vlpnb.train.sampling import EpochSampler, Update, seed_of


class LanguageConfig(Config):
    """How to train the small language model, about 40 s on two CPU cores as it stands; or which model to trim."""

    trim: ModelName = ""
    """A published BERT ("minilm", a folder, a hub name) to cut to the text's vocabulary; then nothing is trained."""
    tokenizer: Literal["wordpiece", "byte-bpe"] = "wordpiece"
    """BERT's kind, or RoBERTa's."""
    size: str = "mini"
    """A key of `nn.language_model.SIZES`."""
    vocab_size: int = Field(2000, ge=50)
    """Word pieces."""
    corpus_lines: int = Field(20_000, ge=0)
    """Lines of the corpus at most, beside all training captions."""
    max_length: int = Field(48, ge=8)
    """Tokens per sentence, with the two special ones; longer ones are cut."""
    updates: int = Field(700, ge=1)
    """Optimiser steps."""
    batch: int = Field(96, ge=1)
    """Sentences per update."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    warmup: int = Field(70, ge=0)
    """Updates of linear warm-up."""
    mask_rate: float = Field(0.15, gt=0, lt=1)
    """Share of tokens that the model must guess."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of units left out in training."""
    init_std: float = Field(0.02, gt=0)
    """Of the initial weights; narrow models start better with 1/√hidden."""
    seed: Seed = 0
    """Of initial weights, order and dropout."""
    checkpoint_seconds: float = Field(30.0, ge=0, json_schema_extra={"hash": False})
    """A kill loses at most so many seconds of work."""


def trim(name: str, lines: list[str], folder: Path) -> PreTrainedTokenizerFast:
    """Save a BERT with only the word pieces that the lines use as a HuggingFace folder; returns its tokenizer.

    Raises:
        UserError: no such model, or not one of BERT's kind with word pieces.
    """
    source = load_language(name, (-1,))
    if not isinstance(source.net, Encoder) or source.net.config.position_offset:
        raise UserError(f"language.trim: {name}: expected a BERT, whose vocabulary are word pieces")
    used = np.unique(np.concatenate(encode_lines(source.tokenizer, lines)))
    tokenizer, kept = trim_wordpiece(source.tokenizer, used, folder)
    config = replace(source.net.config, vocab_size=len(kept), pad_id=tokenizer.pad_token_id)
    state = source.net.state_dict()
    state["embeddings.words.weight"] = state["embeddings.words.weight"][kept]
    encoder = Encoder(config)
    encoder.load_state_dict(state)
    save_hf(folder, encoder, tokenizer=tokenizer)
    return tokenizer


def text_lines(captions: CaptionData, text: TextData, corpus_lines: int) -> Iterator[str]:
    """The training captions, then lines of the training corpus."""
    for image in captions.captioned("train"):
        yield from image.sentences
    lines = (line for path in text.train for line in read_lines(path, text.rules))
    yield from islice(lines, corpus_lines)


def sentences(lines: list[str], tokenizer, max_length: int) -> list[np.ndarray]:
    """The distinct sentences of some lines as ids between [CLS] and [SEP], int64 [≤ max_length] each."""
    found: dict[bytes, np.ndarray] = {}
    for ids in encode_lines(tokenizer, lines):
        start = 0
        for length in sentence_lengths(ids, tokenizer):
            body = ids[start : start + length][: max_length - 2]
            start += length
            if len(body) >= 3:
                row = np.concatenate([[tokenizer.cls_token_id], body, [tokenizer.sep_token_id]])
                found.setdefault(row.tobytes(), row.astype(np.int64))
    return list(found.values())


class SentenceBatches:
    """Update number → a masked batch of sentences of similar length."""

    def __init__(self, rows: list[np.ndarray], tokenizer, config: LanguageConfig):
        self.rows, self.tokenizer, self.config = rows, tokenizer, config
        lengths = np.array([len(row) for row in rows])
        self.sampler = EpochSampler(len(rows), config.batch, config.seed, lengths=lengths)

    def __call__(self, update: int) -> Update:
        rows = [self.rows[i] for i in self.sampler(update)]
        ids = torch.full((len(rows), max(map(len, rows))), self.tokenizer.pad_token_id)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.from_numpy(row)
        special = torch.isin(ids, torch.tensor(self.tokenizer.all_special_ids))
        generator = torch.Generator().manual_seed(seed_of(self.config.seed, update))
        size, mask_id = len(self.tokenizer), self.tokenizer.mask_token_id
        masked, labels = mask_tokens(ids, special, mask_id, size, generator, self.config.mask_rate)
        micro = {"ids": masked, "mlm_labels": labels, "mask": ids != self.tokenizer.pad_token_id}
        return Update([micro], {"mlm": int((labels != IGNORE).sum())}, tokens=ids.numel())


def run(context: StageContext) -> dict[str, float]:
    """Make the vocabulary and the model; the folder `model` opens with transformers. Metrics: loss, vocab_size …"""
    config: LanguageConfig = context.config
    captions, text = load_captions(context.inputs["captions"]), load_text(context.inputs["text"])
    lines = list(text_lines(captions, text, config.corpus_lines))
    if config.trim:
        tokenizer = trim(config.trim, lines, context.folder / "model")
        context.log(f"{len(lines):,} lines use {len(tokenizer):,} word pieces of {config.trim}")
        return {"vocab_size": len(tokenizer)}
    words = context.folder / "tokenizer"
    if not (words / "tokenizer.json").is_file():
        train = train_byte_bpe if config.tokenizer == "byte-bpe" else train_wordpiece
        train(lines, config.vocab_size, words)
    tokenizer = load_tokenizer(words)
    rows = sentences(lines, tokenizer, config.max_length)
    context.log(f"{len(lines):,} lines, {len(rows):,} distinct sentences, {len(tokenizer):,} word pieces")

    torch.manual_seed(config.seed)
    model = new_masked_lm(language_model_config(config.size, tokenizer, config.dropout))
    if config.init_std != 0.02:  # the model's own; drawn again it would be another model
        init_weights(model, config.init_std)
    batches = SentenceBatches(rows, tokenizer, config)
    plan = TrainingPlan(
        updates=config.updates,
        lr=config.lr,
        warmup=min(config.warmup, config.updates),
        seed=config.seed,
        checkpoint_seconds=config.checkpoint_seconds,
    )
    records = fit(
        model, batches, plan, context.folder, device=context.device, progress=context.progress, keep=True
    )
    save_hf(context.folder / "model", model.encoder, mlm=model.mlm, tokenizer=tokenizer)
    return {
        "loss": records[-1]["loss"],
        "vocab_size": len(tokenizer),
        "sentences": len(rows),
        "epochs": config.updates / batches.sampler.per_epoch,
        "tokens_per_second": float(np.median([record["tokens_per_second"] for record in records])),
    }


def inputs(config: LanguageConfig) -> Mapping[str, Request]:
    return {"captions": splits_only, "text": Request("text")}


LANGUAGE = Stage(
    name="language",
    config=LanguageConfig,
    run=run,
    inputs=inputs,
    doc="A pre-trained BERT cut to the world's words, or a small one trained on its text.",
)
