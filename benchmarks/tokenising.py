"""Tokenising lines of text: all lines of a chunk in one call of the Rust tokenizer, beside one call a line.

The peer is what the original project does: `tokenizer(line)` in a Python loop.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import inputs
from benchmarks.measure import Row, agree, compare
from vlpnb.text.tokenizers import encode_lines


@dataclass(frozen=True)
class Size:
    lines: int = 2048  # as many as `vlpnb.text.corpora` hands over at once
    rounds: int = 5


def ours(tokenizer, lines: Sequence[str]) -> list[np.ndarray]:
    """Ids of every line."""
    return encode_lines(tokenizer, lines)


def peer(tokenizer, lines: Sequence[str]) -> list[np.ndarray]:
    """Ids of every line."""
    return [
        np.array(tokenizer(line, add_special_tokens=False)["input_ids"], dtype=np.int32) for line in lines
    ]


def same_ids(first: list[np.ndarray], second: list[np.ndarray]) -> str:
    """Every line the same."""
    agree(len(first) == len(second), f"{len(first)} lines beside {len(second)}")
    wrong = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if not np.array_equal(a, b)]
    agree(not wrong, f"line {wrong[:1]} has other ids")
    return f"{sum(map(len, first)):,} tokens"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """One row; the tokenizer works on the host whatever the device."""
    with tempfile.TemporaryDirectory() as folder:
        words = inputs.tokenizer(Path(folder))
        lines = inputs.paragraphs(Path(folder), size.lines)
    name = f"tokenise, {len(lines):,} lines"
    return [
        compare(name, lambda: ours(words, lines), lambda: peer(words, lines), same_ids, rounds=size.rounds)
    ]
