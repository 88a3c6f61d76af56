"""Stage `corpus`: the raw text as token ids of the matcher's tokenizer (spec section 6; the work is in
`vlpnb.text.corpora`).
"""

from pydantic import Field

from vlpnb.config import Config
from vlpnb.data.description import load_dataset
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.corpora import write_corpus
from vlpnb.text.tokenizers import save_tokenizer
from vlpnb.vokenization.features import read_backbones


class CorpusStageConfig(Config):
    """How much text is tokenised."""

    max_train_tokens: int | None = None  # stop after the line that reaches this many; none: all
    max_valid_tokens: int | None = None
    shard_lines: int = Field(1 << 14, ge=1, json_schema_extra={"hash": False})  # lines per shard


def run_corpus(context: StageContext) -> dict[str, float]:
    """Write `train.hdf5`, `valid.hdf5` and the tokenizer. Metrics: tokens, lines and sentences of each."""
    config: CorpusStageConfig = context.config
    dataset = load_dataset(context.inputs["dataset"])
    tokenizer = read_backbones(context.inputs["features"]).open_language().tokenizer
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


CORPUS = Stage(
    "corpus", CorpusStageConfig, run_corpus,
    lambda config: {"features": Request("features"), "dataset": Request("dataset")},
    doc="Tokenise the text with the matcher's tokenizer.",
)  # fmt: skip
