"""Stage `cclm.pieces`: how sentences of all languages become ids.

Paper: CCLM (Zeng et al. 2023), section 4.1: XLM-R's vocabulary of 250,002 pieces. Here a small one may be trained on
the training text of all languages, in the same order of ids. Cleaning is part of it: a vocabulary is of cleaned text.

| file | holds |
|---|---|
| `tokenizer/` | the pieces |
| `pieces.json` | the cleaning |
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from pydantic import Field
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config
from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.files import read_back, write_json
from vlpnb.foundations.multilingual import Multilingual, load_multilingual
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.cleaning import Cleaning, clean_caption, clean_question
from vlpnb.text.tokenizers import encode_lines, load_tokenizer, save_tokenizer
from vlpnb.text.unigram import check_order, train_unigram

OWN = "sentences"  # the tokenizer that is trained on what is trained on
START, PAD, END = 0, 1, 2
MAX_WORDS = 64  # of parallel text, the longest


class PiecesConfig(Config):
    """How sentences become ids. Defaults: the paper's."""

    tokenizer: ModelName = "xlm-roberta-large"
    """A folder or hub name with the pieces of an XLM-R; "sentences": trained on the training text of all languages."""
    vocab_size: int = Field(250_002, ge=64, le=1_000_000)
    """Pieces of a tokenizer that is trained; fewer where the text has no more."""
    cleaning: Cleaning = "cclm_v1"
    """What becomes of a sentence first: as the release does, or with regard to all scripts (unicode)."""


def training_text(data: Multilingual, cleaning: Cleaning) -> Iterator[str]:
    """Every cleaned training sentence: those about pictures, language by language, and the parallel lines."""
    first = data.splits[0]
    for picture in data.pictures(first):
        for sentences in picture.captions.values():
            yield from (clean_caption(sentence, MAX_WORDS, cleaning) for sentence in sentences)
    if first in data.parallel_splits:
        for line in data.parallel(first).lines:
            yield from (clean_caption(sentence, MAX_WORDS, cleaning) for sentence in line.values())


def inputs(config: PiecesConfig) -> Mapping[str, Request]:
    """The multilingual text, where pieces are trained on it."""
    return {"multilingual": Request("multilingual")} if config.tokenizer == OWN else {}


def run(context: StageContext) -> dict[str, float]:
    """Train the pieces, or look at those that are there. Metrics: `vocab_size`."""
    config: PiecesConfig = context.config
    if config.tokenizer == OWN:
        text = training_text(load_multilingual(context.inputs["multilingual"]), config.cleaning)
        tokenizer = train_unigram(text, config.vocab_size, context.folder / "tokenizer")
    else:
        tokenizer = load_tokenizer(config.tokenizer, ("mask", "cls", "sep", "pad", "unk"))
        save_tokenizer(tokenizer, context.folder / "tokenizer")
    check_order(tokenizer, config.tokenizer)
    write_json(context.folder / "pieces.json", {"cleaning": config.cleaning})
    context.log(f"{len(tokenizer):,} pieces")
    return {"vocab_size": float(len(tokenizer))}


PIECES = Stage(
    "cclm.pieces", PiecesConfig, run, inputs,
    doc="Train or take the pieces of all languages, and say how sentences are cleaned.",
)  # fmt: skip


class Pieces:
    """The pieces of all languages: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, …, `<mask>` last.

    Raises:
        UserError: the tokenizer has another order of ids.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, cleaning: Cleaning = "cclm_v1"):
        check_order(tokenizer, tokenizer.name_or_path or "the tokenizer")
        self.tokenizer, self.cleaning = tokenizer, cleaning
        self.size = len(tokenizer)
        self.start_id, self.pad_id, self.end_id, self.mask_id = START, PAD, END, self.size - 1

    def clean(self, text: str, max_words: int = 40, question: bool = False) -> str:
        """A sentence as models read it. UserError where nothing is left of one that is no question."""
        return (clean_question if question else clean_caption)(text, max_words, self.cleaning)

    def encode(
        self, texts: Sequence[str], max_words: int = 40, max_tokens: int = 40, question: bool = False
    ) -> list[Int[np.ndarray, " _"]]:
        """Ids of sentences, cleaned and cut, `<s>` first and `</s>` last.

        Args:
            max_words: words of a sentence that are kept.
            max_tokens: ids at most, the two ends counted.
            question: cleaned as questions are; one without words is its two ends.
        Raises:
            UserError: a sentence without a word.
        """
        cleaned = [self.clean(text, max_words, question) for text in texts]
        return [framed(ids, max_tokens) for ids in encode_lines(self.tokenizer, cleaned)]


def framed(ids: Int[np.ndarray, " n"], max_tokens: int) -> Int[np.ndarray, " m"]:
    """The first pieces between `<s>` and `</s>`, `max_tokens` in all at most. UserError for fewer than the two ends."""
    if max_tokens < 2:
        raise UserError(f"max_tokens: found {max_tokens}, expected 2 or more: the ends are two")
    return np.concatenate([[START], ids[: max_tokens - 2], [END]]).astype(ids.dtype)


def load_pieces(folder: Path) -> Pieces:
    """The pieces in a folder of the stage `cclm.pieces`. UserError where there are none."""
    about = read_back(require(Path(folder) / "pieces.json", "the cleaning, of the stage `cclm.pieces`"))
    return Pieces(load_tokenizer(Path(folder) / "tokenizer"), about["cleaning"])
