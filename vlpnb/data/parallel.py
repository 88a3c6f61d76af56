"""Sentences of one meaning in several languages: CCLM's second kind of view (Zeng et al. 2023, section 3.2).

WikiMatrix as CCLM's authors released it is JSON lines of two texts; Multi30k has a file of lines for each language, and
beside them the list of the photographs that the lines describe.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

from vlpnb.data.fields import text_field
from vlpnb.data.text_files import lines_of, read_json_lines
from vlpnb.errors import UserError

PAIRS = 'JSON lines {"source_text": "a red ball", "target_text": "ein roter Ball"}'


@dataclass(frozen=True)
class ParallelText:
    """Lines of one meaning, each the sentence of every language that it has."""

    lines: Sequence[Mapping[str, str]]

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Those of any line, in alphabetical order."""
        return tuple(sorted({language for line in self.lines for language in line}))

    def pairs(self, first: str = "en", without: Collection[str] = ()) -> list[tuple[int, str, str]]:
        """(line, language, other language) of every pair that can be trained on, in order.

        Args:
            first: the language that is one of every pair, as English is in CCLM's text; "": any two.
            without: withheld languages.
        """
        found = []
        for i, line in enumerate(self.lines):
            names = [language for language in line if language not in without]
            two = combinations(names, 2) if not first else ((first, name) for name in names if name != first)
            found += [(i, *pair) for pair in two if not first or first in names]
        return found


def read_pairs(path: Path, languages: tuple[str, str]) -> Iterator[dict[str, str]]:
    """Lines of a file like WikiMatrix, whose two texts are in these languages, in order; texts may be empty.

    Raises:
        UserError: naming file, line and field.
    """
    for number, row in read_json_lines(path, PAIRS):
        where = f"{path}:{number}"
        yield {
            language: text_field(row, name, where)
            for language, name in zip(languages, ("source_text", "target_text"), strict=True)
        }


def read_line_parallel(files: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """Lines of files that go line by line, one file a language; lines may be empty.

    Raises:
        UserError: the files differ in length.
    """
    found = {
        language: [line.text for line in lines_of(path, "sentences, one a line")]
        for language, path in files.items()
    }
    counts = {language: len(lines) for language, lines in found.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{files[language]} {count:,}" for language, count in counts.items())
        raise UserError(
            f"{told} lines: expected as many of each, a line and its translations under one number."
        )
    for texts in zip(*found.values(), strict=True):
        yield dict(zip(found, texts, strict=True))
