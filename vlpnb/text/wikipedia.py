"""Wikipedia as the original project prepares it: WikiExtractor's output → three files.

    articles.txt, or a folder of wiki_00 …  →  en.train.raw, en.valid.raw, en.test.raw

Blank lines and the lines `<doc …>` and `</doc>` are dropped, the text is separated into words (`vlpnb.text.moses`)
unless it is for a byte-level vocabulary, accents are stripped, case is kept. Of the last 10,000 lines 5,000 are for
validation and 5,000 for the test. Lines are read as a stream: memory does not grow with the text.
"""

import contextlib
import itertools
import json
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from vlpnb.data.fields import text_field
from vlpnb.data.listing import list_folder
from vlpnb.data.text_files import lines_of, require
from vlpnb.errors import UserError, writing
from vlpnb.files import atomic
from vlpnb.text.moses import moses

HELD_OUT = 5000  # lines of the validation file, and of the test file
CHUNK = 5000  # lines that a worker takes at a time
_MARKUP = re.compile(r"<doc id=|.*</doc>$")


def strip_accents(text: str) -> str:
    """The text decomposed (NFD), without its non-spacing marks (Mn)."""
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")


def extracted_lines(source: Path) -> Iterator[str]:
    """The lines of text in WikiExtractor's output: a file, also compressed, or a folder of files, by path.

    Pages come as `<doc …> … </doc>`, or as JSON lines with a title and a text (`--json`); both give the same lines.
    UserError names a file that is neither, or not text in UTF-8, and a folder without files.
    """
    source = require(Path(source), "the output of WikiExtractor: a file, or a folder of wiki_00 …")
    files = list_folder(source).files if source.is_dir() else [source]
    if not files:
        raise UserError(f"{source} is empty; expected the output of WikiExtractor.")
    holds = "the output of WikiExtractor"
    for path in files:
        for number, text in lines_of(path, holds):
            if number == 1 and text.lstrip().startswith(("<mediawiki", "<?xml")):
                raise UserError(f"{path} is a dump of Wikipedia itself; expected {holds}, which reads it.")
            for line in _texts_of_page(text, f"{path}:{number}") if text.startswith("{") else (text,):
                line = line.rstrip()
                if line and not _MARKUP.match(line):
                    yield line


def _texts_of_page(line: str, where: str) -> list[str]:
    """Title and lines of a page that is one line of JSON; the line itself if it is ordinary text."""
    try:
        page = json.loads(line)
    except (ValueError, RecursionError):
        return [line]
    if not isinstance(page, dict):
        return [line]
    return [text_field(page, "title", where, ""), *text_field(page, "text", where).split("\n")]


def prepared(lines: list[str], tokenised: bool) -> list[str]:
    """What becomes of some lines: none is added, and none is lost."""
    return [strip_accents(moses(line) if tokenised else line) for line in lines]


def prepare_wikipedia(
    source: Path,
    folder: Path,
    *,
    tokenised: bool = True,
    held_out: int = HELD_OUT,
    workers: int = 1,
    progress: Callable[[int], None] = lambda lines: None,
) -> dict[str, int]:
    """Write `en.train.raw`, `en.valid.raw` and `en.test.raw` into `folder`; returns their numbers of lines.

    The files appear when all of them are complete; a run that was stopped begins again.

    Args:
        source: what `extracted_lines` reads.
        tokenised: False for RoBERTa's vocabulary, which wants the text as it was written.
        held_out: lines of the validation file, and of the test file.
        workers: processes; the result does not depend on their number.
        progress: called with the number of lines done.
    Raises:
        UserError: an unreadable source, or one with no line for training.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    targets = {split: folder / f"en.{split}.raw" for split in ("train", "valid", "test")}
    counts = dict.fromkeys(targets, 0)
    last: deque[str] = deque()
    with contextlib.ExitStack() as stack:  # all three appear when all are written
        files = {
            split: stack.enter_context(stack.enter_context(atomic(path)).open("w", encoding="utf-8"))
            for split, path in targets.items()
        }
        for line in _each_prepared(extracted_lines(source), tokenised, workers, progress):
            last.append(line)
            if len(last) > 2 * held_out:
                files["train"].write(last.popleft() + "\n")
                counts["train"] += 1
        if not counts["train"]:
            raise UserError(
                f"{source}: {len(last):,} lines of text, expected more than {2 * held_out:,}: so many are cut off for "
                "validation and test."
            )
        for split in ("valid", "test"):
            counts[split] = held_out
            files[split].writelines(f"{last.popleft()}\n" for _ in range(held_out))
    return counts


def _each_prepared(
    lines: Iterable[str], tokenised: bool, workers: int, progress: Callable[[int], None]
) -> Iterator[str]:
    """Prepared lines in their order; at most two chunks a worker are in memory."""
    lines, work, done = iter(lines), partial(prepared, tokenised=tokenised), 0
    with contextlib.ExitStack() as stack:
        run = map if workers == 1 else stack.enter_context(get_context("spawn").Pool(workers)).map
        while True:
            chunks = [list(itertools.islice(lines, CHUNK)) for _ in range(1 if workers == 1 else 2 * workers)]
            if not chunks[0]:
                return
            for made in run(work, [chunk for chunk in chunks if chunk]):
                yield from made
                done += len(made)
                progress(done)
