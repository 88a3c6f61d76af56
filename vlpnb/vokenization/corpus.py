"""Stage `corpus`: the raw text as token ids of the language model's tokenizer (spec section 6; the work is in
`vlpnb.text.corpora`).

That tokenizer is the matcher's unless another is named; the stage `vokens` then revokenises (spec section 8).
"""

from itertools import islice

from pydantic import Field
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config
from vlpnb.data.description import Dataset, load_dataset
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.corpora import read_lines, write_corpus
from vlpnb.text.tokenizers import load_tokenizer, save_tokenizer, train_byte_bpe
from vlpnb.vokenization.features import read_backbones


class CorpusStageConfig(Config):
    """How much text is tokenised, and by which tokenizer."""

    tokenizer: str = ""  # empty: the matcher's; "byte-bpe": trained on the text; else a folder or a hub name
    vocab_size: int = Field(2000, ge=300)  # of "byte-bpe"
    vocab_lines: int = Field(20_000, ge=1)  # lines of the text that "byte-bpe" is trained on
    max_train_tokens: int | None = None  # stop after the line that reaches this many; none: all
    max_valid_tokens: int | None = None
    shard_lines: int = Field(1 << 18, ge=1, json_schema_extra={"hash": False})  # lines per shard


def run_corpus(context: StageContext) -> dict[str, float]:
    """Write `train.hdf5`, `valid.hdf5` and the tokenizer. Metrics: tokens, lines and sentences of each."""
    config: CorpusStageConfig = context.config
    dataset = load_dataset(context.inputs["dataset"])
    tokenizer = _tokenizer(context, dataset)
    metrics: dict[str, float] = {}
    for split, limit in (("train", config.max_train_tokens), ("valid", config.max_valid_tokens)):
        summary = write_corpus(
            getattr(dataset.corpus, split),
            context.folder / f"{split}.hdf5",
            tokenizer,
            dataset.corpus.rules,
            max_tokens=limit,
            shard_lines=config.shard_lines,
            progress=context.progress,
        )
        counts = {"tokens": summary.tokens, "lines": summary.lines, "sentences": summary.sentences}
        metrics |= {f"{split}_{name}": float(count) for name, count in counts.items()}
    save_tokenizer(tokenizer, context.folder / "tokenizer")
    return metrics


def _tokenizer(context: StageContext, dataset: Dataset) -> PreTrainedTokenizerFast:
    config: CorpusStageConfig = context.config
    if not config.tokenizer:
        return read_backbones(context.inputs["features"]).open_language().tokenizer
    if config.tokenizer != "byte-bpe":
        return load_tokenizer(config.tokenizer)
    folder = context.folder / "tokenizer"
    if not (folder / "tokenizer.json").is_file():
        lines = (line for path in dataset.corpus.train for line in read_lines(path, dataset.corpus.rules))
        train_byte_bpe((f"{line}\n" for line in islice(lines, config.vocab_lines)), config.vocab_size, folder)
    return load_tokenizer(folder)


CORPUS = Stage(
    "corpus", CorpusStageConfig, run_corpus,
    lambda config: {"features": Request("features"), "dataset": Request("dataset")},
    doc="Tokenise the text.",
)  # fmt: skip
