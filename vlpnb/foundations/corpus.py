"""Stage `corpus`: the raw text as token ids of the language model's tokenizer (see `vlpnb.text.corpora`).

That tokenizer is the matcher's unless another is named; the stage `vokens` then revokenises (paper, section 3.3).
Instead of raw text the stage takes a corpus that the original project has tokenised, such as its release.
Several processes share the shards of raw text; process 0 alone trains a tokenizer or imports a corpus.
"""

from functools import partial
from itertools import islice
from pathlib import Path

from pydantic import Field, model_validator
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config
from vlpnb.data.description import Dataset, load_dataset
from vlpnb.data.text_files import fingerprint_files
from vlpnb.foundations.features import read_backbones
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.corpora import read_lines, write_corpus
from vlpnb.text.original_import import corpus_files, import_corpus
from vlpnb.text.tokenizers import load_tokenizer, save_tokenizer, train_byte_bpe, train_wordpiece
from vlpnb.train.distributed import barrier

TRAINED = {"wordpiece": train_wordpiece, "byte-bpe": train_byte_bpe}  # BERT's kind, and RoBERTa's


class CorpusStageConfig(Config):
    """How much text is tokenised, and by which tokenizer."""

    # empty: the matcher's; "wordpiece" or "byte-bpe": trained on the text; else a folder or a hub name
    tokenizer: str = ""
    vocab_size: int = Field(2000, ge=300)  # of a trained one
    vocab_lines: int = Field(20_000, ge=1)  # lines of the text that it is trained on
    lines_are_sentences: bool = False  # a line is one sentence; else sentences end at . ! ?
    max_train_tokens: int | None = None  # stop after the line that reaches this many; none: all
    max_valid_tokens: int | None = None
    original_train: str = ""  # <file>.<tok> of the original project in place of raw text (see `originals.py`)
    original_valid: str = ""  # likewise; give both or none
    shard_lines: int = Field(1 << 14, ge=1, json_schema_extra={"hash": False})  # lines per shard

    @model_validator(mode="after")
    def _both(self) -> "CorpusStageConfig":
        if bool(self.original_train) != bool(self.original_valid):
            raise ValueError("give both original_train and original_valid, or neither")
        if self.original_train and self.tokenizer in TRAINED:
            raise ValueError("a new tokenizer does not fit ids that are there; name the one that made them")
        return self


def inputs(config: CorpusStageConfig) -> dict[str, Request]:
    """The text unless there are ids already, and the matcher's backbones where their tokenizer is used."""
    needed = {"features": not config.tokenizer, "dataset": not config.original_train}
    return {name: Request(name) for name, wanted in needed.items() if wanted}


def run_corpus(context: StageContext) -> dict[str, float]:
    """Write `train.hdf5`, `valid.hdf5` and the tokenizer. Metrics: tokens, lines and sentences of each."""
    config: CorpusStageConfig = context.config
    dataset = load_dataset(context.inputs["dataset"]) if "dataset" in inputs(config) else None
    tokenizer = _tokenizer(context, dataset)
    metrics: dict[str, float] = {}
    for split, limit in (("train", config.max_train_tokens), ("valid", config.max_valid_tokens)):
        target, original = context.folder / f"{split}.hdf5", getattr(config, f"original_{split}")
        if not original:
            summary = write_corpus(
                getattr(dataset.corpus, split), target, tokenizer, dataset.corpus.rules,
                lines_are_sentences=config.lines_are_sentences, max_tokens=limit,
                shard_lines=config.shard_lines, progress=context.progress,
                rank=context.rank, world_size=context.world_size, wait=partial(barrier, context.world_size),
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


def _tokenizer(context: StageContext, dataset: Dataset | None) -> PreTrainedTokenizerFast:
    config: CorpusStageConfig = context.config
    if not config.tokenizer:
        return read_backbones(context.inputs["features"]).open_language().tokenizer
    if config.tokenizer not in TRAINED:
        return load_tokenizer(config.tokenizer)
    folder = context.folder / "tokenizer"
    if context.rank == 0 and not (folder / "tokenizer.json").is_file():
        lines = (line for path in dataset.corpus.train for line in read_lines(path, dataset.corpus.rules))
        lines = (f"{line}\n" for line in islice(lines, config.vocab_lines))
        TRAINED[config.tokenizer](lines, config.vocab_size, folder)
    barrier(context.world_size)
    return load_tokenizer(folder)


def _fingerprint(config: CorpusStageConfig) -> str:
    """The original project's files enter the stage's identity: other files, another folder."""
    if not config.original_train:
        return ""
    originals = (config.original_train, config.original_valid)
    return fingerprint_files(path for base in originals for path in corpus_files(Path(base)))


CORPUS = Stage(
    "corpus", CorpusStageConfig, run_corpus, inputs, distributed=True, fingerprint=_fingerprint,
    doc="Tokenise the text.",
)  # fmt: skip
