"""Memory from text to batches, for a short and a long corpus: it must not grow with the corpus.

Each corpus goes through tokenising, blocks and masked batches in a process of its own. Its peak counts everything:
libraries, tokenizer, and the pages of the memory-mapped tokens that were read.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import inputs
from benchmarks.measure import Row, agree, peak_megabytes, peak_memory
from vlpnb.text.corpora import write_corpus
from vlpnb.text.masking import mask_tokens
from vlpnb.text.packing import BlockDataset


@dataclass(frozen=True)
class Size:
    short: int = 10**5  # words
    long: int = 10**7


def text_to_batches(words: int, batch: int = 256) -> dict[str, float]:
    """Peak megabytes, and counts of tokens and masked tokens, of a corpus of so many words.

    The text is a thousand articles over and over; the file grows, no list does.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = inputs.tokenizer(folder)
        base = inputs.text_file(folder, min(words, 50_000)).read_bytes()
        text = folder / "text.raw"
        with text.open("wb") as file:
            for _ in range(max(1, words // 50_000)):
                file.write(base)
        summary = write_corpus(text, folder / "corpus.hdf5", tokenizer)
        data = BlockDataset(
            folder / "corpus.hdf5", cls_id=tokenizer.cls_token_id, sep_id=tokenizer.sep_token_id
        )
        random, masked = torch.Generator().manual_seed(0), 0
        for first in range(0, len(data), batch):
            ids = data.batch(range(first, min(first + batch, len(data))))["ids"]
            special = torch.zeros_like(ids, dtype=torch.bool)
            special[:, [0, -1]] = True
            labels = mask_tokens(ids, special, tokenizer.mask_token_id, len(tokenizer), random)[1]
            masked += int((labels >= 0).sum())
        return {"megabytes": peak_memory(), "tokens": summary.tokens, "masked": masked}


def same_share(short: dict[str, float], long: dict[str, float]) -> None:
    """Both corpora were really worked through: a sixth to a seventh of their tokens is masked."""
    for found in (short, long):
        share = found["masked"] / found["tokens"]
        agree(0.13 < share < 0.17, f"{share:.1%} of {found['tokens']:,} tokens were masked")


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """One row: `ours` is the long corpus, `peer` the short one."""
    short, long = (
        peak_megabytes("benchmarks.memory.text_to_batches", words) for words in (size.short, size.long)
    )
    same_share(short, long)
    name = f"peak memory, corpus of {long['tokens']:,.0f} tokens beside {short['tokens']:,.0f}"
    first, second = long["megabytes"], short["megabytes"]
    return [Row(name, first, second, second / first, "MB", 0.8, "ours: the long corpus; 1 is flat")]
