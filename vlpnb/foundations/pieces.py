"""Stage `pieces`: how sentences of all languages become ids.

Paper: CCLM (Zeng et al. 2023), section 4.1: XLM-R's vocabulary of 250,002 pieces. Here a small one may be trained on
the training text of all languages, in the same order of ids. Cleaning is part of it: a vocabulary is of cleaned text.

| file | holds |
|---|---|
| `tokenizer/` | the pieces |
| `pieces.json` | the cleaning |
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field

from vlpnb.config import Config
from vlpnb.data.text_files import require
from vlpnb.files import read_back, write_json
from vlpnb.foundations.multilingual import Multilingual, load_multilingual
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.cleaning import Cleaning, clean_caption
from vlpnb.text.pieces import Pieces
from vlpnb.text.tokenizers import load_tokenizer, save_tokenizer
from vlpnb.text.unigram import check_order, train_unigram

OWN = "sentences"  # the tokenizer that is trained on what is trained on
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
    "pieces", PiecesConfig, run, inputs,
    doc="Train or take the pieces of all languages, and say how sentences are cleaned.",
)  # fmt: skip


def load_pieces(folder: Path) -> Pieces:
    """The pieces in a folder of the stage `pieces`. UserError where there are none."""
    about = read_back(require(Path(folder) / "pieces.json", "the cleaning, of the stage `pieces`"))
    return Pieces(load_tokenizer(Path(folder) / "tokenizer"), about["cleaning"])
