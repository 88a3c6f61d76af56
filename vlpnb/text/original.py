"""A corpus in the files of the original project (`airsplay/vokenization`), written; `original_import.py` reads them.

| file | holds |
|---|---|
| `<file>.<tok>` | ids as text, one line per line of the corpus |
| `<file>.<tok>.hdf5` | `tokens`, int32 [N] |
| `<file>.<tok>.line`, `.sent` | offsets of lines and sentences as text, first 0, last N |

The release has only `tokens`; sentences then come from the rule of `text.corpora` on the stream of ids, and the whole
corpus is one line.
"""

from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from vlpnb.data.store import write_store
from vlpnb.files import write_text
from vlpnb.text.sentences import sentence_ends
from vlpnb.text.token_corpus import TokenCorpus

CHUNK_LINES = 2048  # lines at a time


def add_sentences(path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write the missing `.sent` file beside a corpus in the original layout, from its tokens and `.line` file."""
    corpus = TokenCorpus(path)
    ends = [np.zeros(1, dtype=np.int64)]
    for first in range(0, len(corpus.lines) - 1, CHUNK_LINES):
        offsets = corpus.lines[first : first + CHUNK_LINES + 1]
        kept = np.diff(offsets) > 0
        tokens = np.asarray(corpus.tokens[offsets[0] : offsets[-1]])
        ends.append(sentence_ends(tokens, (offsets[1:] - offsets[0])[kept], tokenizer) + offsets[0])
    target = corpus.path.with_suffix(".sent")
    write_text(target, "\n".join(map(str, np.concatenate(ends).tolist())) + "\n")
    return target


def export_original(corpus: TokenCorpus, base: Path) -> Path:
    """Write a corpus as the original project's four files: `base` (ids as text), `.hdf5`, `.line`, `.sent`."""
    base = Path(base)
    target = base.with_name(base.name + ".hdf5")
    with write_store(target, "corpus-original") as file:
        out = file.create_dataset("tokens", (len(corpus),), "int32", maxshape=(None,), chunks=(1024,))
        for start in range(0, len(corpus), 1 << 20):
            out[start : start + (1 << 20)] = corpus.tokens[start : start + (1 << 20)]
    with base.open("w", encoding="ascii", newline="\n") as file:
        for i in range(len(corpus.lines) - 1):
            file.write(" ".join(map(str, corpus.line(i).tolist())) + "\n")
    for suffix, offsets in ((".line", corpus.lines), (".sent", corpus.sentences)):
        write_text(base.with_name(base.name + suffix), "\n".join(map(str, offsets.tolist())) + "\n")
    return target
