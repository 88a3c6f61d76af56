"""What the benchmarks run on: generated text, and random models in the public libraries and in ours, same weights.

Nothing is downloaded and no data folder is read.
"""

import random
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import BertConfig, BertForMaskedLM, BertModel, LxmertForPreTraining, PreTrainedTokenizerFast

from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.model import LxmertConfig
from vlpnb.lxmert.original.weights import save_model
from vlpnb.nn.checkpoints import load_encoder, load_mlm
from vlpnb.text.backbones import LanguageBackbone
from vlpnb.text.corpora import read_lines
from vlpnb.text.tokenizers import encode_lines, train_wordpiece
from vlpnb.vokenization.matcher import Matcher, Projection
from vlpnb.world.corpus import corpus_lines

# layers, hidden, heads, feed-forward
Shape = tuple[int, int, int, int]
LXMERT = LxmertConfig()  # the published one
HALF_LXMERT = LxmertConfig(text_layers=4, visual_layers=2, cross_layers=2)


def text_file(folder: Path, tokens: int, seed: int = 0) -> Path:
    """Raw text of about so many words of the visual world's encyclopedia."""
    path = folder / f"world-{tokens}.raw"
    with path.open("w", encoding="utf-8") as file:
        for line in corpus_lines(seed, "train", tokens):
            file.write(line + "\n")
    return path


def paragraphs(folder: Path, count: int) -> list[str]:
    """So many paragraphs of the encyclopedia."""
    path = text_file(folder, 80 * count)
    return list(islice(read_lines(path, "wiki103"), count))


def tokenizer(folder: Path, vocab_size: int = 2000) -> PreTrainedTokenizerFast:
    """A WordPiece vocabulary trained on a little of the text."""
    return train_wordpiece(corpus_lines(1, "train", 20_000), vocab_size, folder / "words")


def sentences(words: PreTrainedTokenizerFast, tokens: int, mean: float = 24.0) -> list[list[int]]:
    """Sentences of word pieces, `tokens` in all, with lengths spread as in an encyclopedia.

    The visual world's own sentences are short and alike (about 11 pieces, where Wikipedia has 24.1 on average), so
    a log-normal length (σ 0.6: from 7 to 80 pieces) is cut from its token stream for each.
    """
    text = corpus_lines(2, "train", tokens)
    stream = np.concatenate(encode_lines(words, [line for line in text if len(line) > 20]))[:tokens].tolist()
    draw = random.Random(0)
    found, at = [], 0
    while at < len(stream):
        length = max(3, min(126, round(draw.lognormvariate(np.log(mean) - 0.18, 0.6))))
        found.append(stream[at : at + length])
        at += length
    return found


def bert_config(shape: Shape, vocab_size: int, dropout: float = 0.1) -> BertConfig:
    """A transformers configuration of a shape."""
    layers, hidden, heads, ffn = shape
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=ffn,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )


def language_models(shape: Shape, words: PreTrainedTokenizerFast) -> tuple[LanguageBackbone, BertModel]:
    """A random encoder in `vlpnb.nn` and the same one in transformers; the matcher reads its last four layers."""
    torch.manual_seed(0)
    theirs = BertModel(bert_config(shape, len(words)), add_pooling_layer=False).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = load_encoder(Path(folder))
    layers = tuple(range(-min(4, shape[0]), 0))
    return LanguageBackbone(ours, words, layers, shape[1]).eval(), theirs.requires_grad_(False)


def masked_language_models(shape: Shape, vocab_size: int) -> tuple[nn.Module, nn.Module, BertForMaskedLM]:
    """A random encoder and MLM head in `vlpnb.nn`, and the same model in transformers, without dropout."""
    torch.manual_seed(0)
    theirs = BertForMaskedLM(bert_config(shape, vocab_size, dropout=0.0))
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        encoder, mlm = load_mlm(Path(folder))
    return encoder, mlm, theirs


def matcher(language: LanguageBackbone, vision_width: int = 64, joint: int = 64) -> Matcher:
    """A matcher with new heads over a language backbone."""
    torch.manual_seed(1)
    f, g = (Projection(width, 256, joint, 0.3) for width in (language.width, vision_width))
    return Matcher(f, g, language).eval()


def unit_rows(count: int, width: int, seed: int) -> Tensor:
    """Random unit vectors."""
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def lxmert_models(config: LxmertConfig) -> tuple[LxmertForPretraining, LxmertForPreTraining]:
    """A random LXMERT with all of its heads, and the same one in transformers, without dropout."""
    torch.manual_seed(0)
    ours = LxmertForPretraining(replace(config, dropout=0.0, attention_dropout=0.0))
    with tempfile.TemporaryDirectory() as folder:
        theirs = LxmertForPreTraining.from_pretrained(
            save_model(folder, ours), visual_loss_normalizer=1 / 0.15
        )
    return ours, theirs
