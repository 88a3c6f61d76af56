"""Stage `corpus`: the raw text as token ids of the language model's tokenizer (see `vlpnb.text.corpora`).

That tokenizer is the matcher's unless another is named; the stage `vokens` then revokenises (paper, section 3.3).
Instead of raw text the stage takes a corpus that the original project has tokenised, such as its release.
Several processes share the shards of raw text; process 0 alone trains a tokenizer or imports a corpus.
"""

from itertools import islice
from pathlib import Path

from pydantic import Field, model_validator
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config
from vlpnb.data.description import TextData, load_text
from vlpnb.foundations.features import read_backbones
from vlpnb.outside import ModelName
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.corpora import read_lines, write_corpus
from vlpnb.text.original_import import OriginalFiles, corpus_files, import_corpus
from vlpnb.text.tokenizers import load_tokenizer, save_tokenizer, train_byte_bpe
from vlpnb.train.distributed import barrier


class CorpusStageConfig(Config):
    """How much text is tokenised, and by which tokenizer."""

    tokenizer: ModelName = ""
    """Empty: the matcher's; "byte-bpe": trained on the text; else a folder or a hub name."""
    vocab_size: int = Field(2000, ge=300)
    """Of "byte-bpe"."""
    vocab_lines: int = Field(20_000, ge=1)
    """Lines of the text that "byte-bpe" is trained on."""
    lines_are_sentences: bool = False
    """A line is one sentence; else sentences end at . ! ?"""
    max_train_tokens: int | None = Field(None, ge=1)
    """Stop after the line that reaches this many; none: all."""
    max_valid_tokens: int | None = Field(None, ge=1)
    """The same for the validation corpus."""
    shard_bytes: int = Field(1 << 23, ge=16, json_schema_extra={"hash": False})
    """Of text per shard."""
    original: OriginalFiles = OriginalFiles()
    """A corpus that the original project has tokenised, in place of raw text."""

    @model_validator(mode="after")
    def _ids_keep_their_tokenizer(self) -> "CorpusStageConfig":
        if self.original.train and self.tokenizer == "byte-bpe":
            raise ValueError("a new tokenizer does not fit ids that are there; name the one that made them")
        return self


def inputs(config: CorpusStageConfig) -> dict[str, Request]:
    """The text unless there are ids already, and the matcher's backbones where their tokenizer is used."""
    needed = {"features": not config.tokenizer, "text": not config.original.train}
    return {name: Request(name) for name, wanted in needed.items() if wanted}


def run_corpus(context: StageContext) -> dict[str, float]:
    """Write `train.hdf5`, `valid.hdf5` and the tokenizer. Metrics: tokens, lines and sentences of each."""
    config: CorpusStageConfig = context.config
    text = load_text(context.inputs["text"]) if "text" in inputs(config) else None
    tokenizer = _tokenizer(context, text)
    metrics: dict[str, float] = {}
    for split, limit in (("train", config.max_train_tokens), ("valid", config.max_valid_tokens)):
        target, original = context.folder / f"{split}.hdf5", getattr(config.original, split)
        if not original:
            summary = write_corpus(
                getattr(text, split), target, tokenizer, text.rules,
                lines_are_sentences=config.lines_are_sentences, max_tokens=limit,
                shard_bytes=config.shard_bytes, progress=context.progress,
                rank=context.rank, world_size=context.world_size,
            )  # fmt: skip
        elif context.rank == 0:
            summary = import_corpus(Path(original), target, tokenizer, limit)
        else:
            continue  # the metrics that count are those of process 0
        counts = {"tokens": summary.tokens, "lines": summary.lines, "sentences": summary.sentences}
        metrics |= {f"{split}_{name}": float(count) for name, count in counts.items()}
    if context.rank == 0:
        save_tokenizer(tokenizer, context.folder / "tokenizer")
    return metrics


def _tokenizer(context: StageContext, text: TextData | None) -> PreTrainedTokenizerFast:
    config: CorpusStageConfig = context.config
    if not config.tokenizer:
        return read_backbones(context.inputs["features"]).open_language().tokenizer
    if config.tokenizer != "byte-bpe":
        return load_tokenizer(config.tokenizer)
    folder = context.folder / "tokenizer"
    if context.rank == 0 and not (folder / "tokenizer.json").is_file():
        lines = (line for path in text.train for line in read_lines(path, text.rules))
        train_byte_bpe((f"{line}\n" for line in islice(lines, config.vocab_lines)), config.vocab_size, folder)
    barrier(context.world_size)
    return load_tokenizer(folder)


def _outside(config: CorpusStageConfig) -> dict[str, Path]:
    """A tokenizer of one's own, and each file that an original corpus may consist of."""
    named = config.outside()
    files = {name: corpus_files(named.pop(name)) for name in list(named) if name.startswith("original.")}
    return named | {f"{name}{path.suffix}": path for name, paths in files.items() for path in paths}


CORPUS = Stage(
    "corpus", CorpusStageConfig, run_corpus, inputs, distributed=True, outside=_outside,
    doc="Tokenise the text.",
)  # fmt: skip
