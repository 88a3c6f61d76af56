"""CLIP's tokenizer from local merges: HuggingFace's byte-pair encoding behind OpenAI's cleaning of the text.

Paper: CLIP (Radford et al. 2021, section 2.4); the language model of VaLM reads the same pieces. Text is repaired
(ftfy), HTML is unescaped twice, white space collapsed, and all is lower-cased before it is cut. HuggingFace's tokenizer
leaves the first two steps out, so that curly quotes or "&amp;" get other ids than OpenAI's gave in training.

49,408 pieces: 256 bytes, the same at the end of a word, 48,894 merges, a start and an end. ftfy is an extra
(`pip install 'vlpnb[clip]'`). Without it, control characters vanish, and curly quotes, ligatures and full-width forms
are written plainly all the same, but text that was once decoded by a wrong table stays broken; `cleaning` says which it
is.
"""

import gzip
import html
import json
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from vlpnb.errors import UserError

START_MARK, END_MARK = "<|startoftext|>", "<|endoftext|>"
MARKS = (START_MARK, END_MARK)  # by which a vocabulary is known as CLIP's
WORD_END = "</w>"
MERGES = 48_894  # that OpenAI uses of a file that has more
NAME = "bpe_simple_vocab_16e6.txt"  # OpenAI's file of merges, also .gz
QUOTES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc", "'") | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
)
CONTROL = re.compile("\x1b\\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\ufff9-\ufffb\u206a-\u206f]")
COMPOSED = re.compile(
    "[\u0132\u0133\u0149\u01f1-\u01f3\u01c4-\u01cc\ufb00-\ufb06\u3000\uff01-\uffef]"
)  # ligatures, wide


def clean(text: str) -> str:
    """A text as CLIP read it in training: repaired, unescaped, in single spaces, lower-cased."""
    return " ".join(html.unescape(html.unescape(_repaired(text))).split()).lower()


def _repaired(text: str) -> str:
    if text.isascii() and "&" not in text:  # most are, and ftfy takes its time
        return CONTROL.sub("", text)
    if repair := _repair():
        return repair(text)
    text = CONTROL.sub("", text if "<" in text else html.unescape(text)).translate(QUOTES)
    return unicodedata.normalize("NFC", COMPOSED.sub(lambda c: unicodedata.normalize("NFKC", c[0]), text))


def cleaning() -> str:
    """Which repair `clean` does: ftfy's with its version, or none."""
    return f"ftfy {version('ftfy')}" if _repair() else "none: ftfy is not installed"


@cache
def _repair() -> Callable[[str], str] | None:
    try:
        version("ftfy")
        from ftfy import fix_text
    except (ImportError, PackageNotFoundError):
        return None
    return fix_text


def is_clip(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether a tokenizer has CLIP's two marks."""
    return all(mark in tokenizer.get_vocab() for mark in MARKS)


def cleaned(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer itself, which `encode_lines` gives clean text from now on if it is CLIP's."""
    if is_clip(tokenizer):
        tokenizer.clean = clean
    return tokenizer


def byte_symbols() -> list[str]:
    """The printable character of each byte in the order of CLIP's ids: printable bytes first, then the others."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = len([b for b in range(256) if b not in printable])
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(others)]


def clip_tokenizer(file: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer of OpenAI's file of merges (.txt or .gz).

    Raises:
        UserError: the file is damaged or holds something else, naming the line.
    """
    file = Path(file)
    try:
        text = (
            gzip.decompress(file.read_bytes()).decode() if file.suffix == ".gz" else file.read_text("utf-8")
        )
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); expected CLIP's merges, {NAME}") from error
    merges = []
    for number, line in enumerate(text.split("\n")[1 : MERGES + 1], start=2):
        pair = line.split()
        if not pair:
            continue
        if len(pair) != 2:
            raise UserError(f"{file}:{number}: found {line[:60]!r}; expected two pieces that are merged")
        merges.append((pair[0], pair[1]))
    symbols = byte_symbols()
    pieces = [
        *symbols,
        *(symbol + WORD_END for symbol in symbols),
        *("".join(pair) for pair in merges),
        *MARKS,
    ]
    return _tokenizer({piece: i for i, piece in enumerate(pieces)}, merges, file)


def clip_tokenizer_of(folder: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder with HuggingFace's `vocab.json` and `merges.txt`."""
    folder = Path(folder)
    vocab = json.loads((folder / "vocab.json").read_text("utf-8"))
    lines = (folder / "merges.txt").read_text("utf-8").split("\n")
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    return _tokenizer(vocab, merges, folder)


def _tokenizer(vocab: dict[str, int], merges: list[tuple[str, ...]], where: Path) -> PreTrainedTokenizerFast:
    try:
        tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    except Exception as error:  # tokenizers raises bare Exception for a merge outside the vocabulary
        raise UserError(f"{where}: its merges do not belong together ({error}); expected CLIP's") from error
    return cleaned(tokenizer)
