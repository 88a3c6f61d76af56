"""Tokenizers: any fast HuggingFace one, bare vocabularies, and one trained on the spot.

A folder may be a HuggingFace tokenizer folder or just hold a BERT `vocab.txt`, a GPT-2 style `vocab.json` +
`merges.txt` or CLIP's file of merges, as vocabularies are often passed around. The result is always a
`PreTrainedTokenizerFast`, with character offsets and batch encoding in Rust.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from vlpnb.data.text_files import lines_of, read_json
from vlpnb.errors import UserError
from vlpnb.nn.checkpoints import read_settings
from vlpnb.nn.folders import BRINGS_CODE, brings_code, hub_advice
from vlpnb.outside import Outside
from vlpnb.text import clip

BERT_SPECIALS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
BYTE_MASK = AddedToken("<mask>", lstrip=True, special=True)  # RoBERTa's takes the space before it
HF_FILES = ("tokenizer.json", "tokenizer_config.json")
ROLES = {
    "mask": "masking ([MASK])",
    "cls": "the beginning ([CLS])",
    "sep": "the end ([SEP])",
    "pad": "padding ([PAD])",
    "unk": "unknown words ([UNK])",
}
MASKED = ("mask", "cls", "sep", "pad")  # what a masked language model needs
PAIRED = ("cls", "sep", "pad")  # what a classifier of sentences needs
LONGEST = 1000  # characters of a word that a trainer sees in one piece: its time grows with their square
_LONG_WORD, _LONG_GAP = re.compile(rf"\S{{{LONGEST}}}(?=\S)"), re.compile(rf"\s{{{LONGEST},}}")


def load_tokenizer(name_or_folder: str | Path, needs: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer: a folder, a bare vocabulary (folder or file), or a name of the hub or its cache.

    A bare `vocab.txt` is taken as lower-case BERT if no ordinary piece in it has an upper-case letter.
    Tokenizers without a padding token (GPT-2) pad with their end-of-text token. Program code in a folder is never run.

    Args:
        needs: special tokens that the caller's model cannot do without, of `ROLES`.
    Raises:
        UserError: nothing loadable is there, or only a slow tokenizer; one that lacks what is needed; one with more
            pieces than the model beside it has embeddings.
    """
    name_or_folder = Outside(named=True).resolve(name_or_folder)
    tokenizer = clip.cleaned(_padded(_open_tokenizer(name_or_folder)))
    check_specials(tokenizer, needs, name_or_folder)
    settings = Path(name_or_folder) / "config.json"
    if settings.is_file():
        rows = read_settings(settings).get("vocab_size")
        largest = max(tokenizer.get_vocab().values(), default=-1)
        if isinstance(rows, int) and largest >= rows:
            raise UserError(
                f"{name_or_folder}: its tokenizer has the id {largest:,}, its model {rows:,} embeddings "
                f"({settings.name}: vocab_size); expected a tokenizer whose ids the model knows. Were tokens added to "
                "the one and not to the other?"
            )
    return tokenizer


def check_specials(tokenizer: PreTrainedTokenizerFast, needs: Sequence[str], where: str | Path) -> None:
    """UserError where a special token is missing, or where ids leave holes so that their number is not their range."""
    missing = [ROLES[role] for role in needs if getattr(tokenizer, f"{role}_token_id") is None]
    if missing:
        raise UserError(
            f"{where}: the tokenizer has no token for {', '.join(missing)}; this model is built on them. Name the "
            "tokenizer of a BERT or RoBERTa, or give them their roles in tokenizer_config.json."
        )
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if needs and largest >= len(tokenizer):
        raise UserError(
            f"{where}: the tokenizer has {len(tokenizer):,} pieces with ids up to {largest:,}; expected ids without "
            "holes."
        )


def _open_tokenizer(name_or_folder: str | Path) -> PreTrainedTokenizerFast:
    path = Path(name_or_folder)
    if path.is_absolute() and not path.exists():
        raise UserError(f"tokenizer folder '{path}' does not exist")
    if path.is_file() and path.name.endswith("vocab.txt"):
        return _bare_wordpiece(path)
    if path.is_file() and path.name.endswith((".txt", ".txt.gz")):
        return clip.clip_tokenizer(path)
    if path.is_dir() and not any((path / name).is_file() for name in HF_FILES):
        if (path / "vocab.txt").is_file():
            return _bare_wordpiece(path / "vocab.txt")
        if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
            return _bare_byte_bpe(path)
        for name in (clip.NAME, f"{clip.NAME}.gz"):
            if (path / name).is_file():
                return clip.clip_tokenizer(path / name)
        raise UserError(
            f"{path} holds no tokenizer; expected tokenizer.json, vocab.txt, or vocab.json with merges.txt, "
            f"found {', '.join(sorted(p.name for p in path.iterdir())[:8]) or 'nothing'}."
        )
    said = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it warns of models beside a tokenizer that it does not know
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name_or_folder), use_fast=True, trust_remote_code=False)
    except Exception as error:  # the library raises many kinds here: hub, JSON, value and OS errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if path.is_dir() and brings_code(path):
            reason = BRINGS_CODE
        elsewhere = "" if path.is_dir() else f" {hub_advice(str(name_or_folder), 'tokenizer.json')}"
        raise UserError(
            f"tokenizer '{name_or_folder}' cannot be loaded ({reason}). "
            "Give a folder with tokenizer.json or vocab.txt, or a model name on the hub or in the local cache."
            f"{elsewhere}"
        ) from error
    finally:
        transformers_logging.set_verbosity(said)
    if not tokenizer.is_fast:
        raise UserError(f"tokenizer '{name_or_folder}' has no fast version; character offsets need one.")
    return tokenizer


def train_wordpiece(lines: Iterable[str], vocab_size: int, folder: Path) -> PreTrainedTokenizerFast:
    """Train a lower-case BERT-style WordPiece vocabulary, saved as a folder that AutoTokenizer loads offline.

    Ids 0–4 are [PAD] [UNK] [CLS] [SEP] [MASK]. Every character of the text is in the vocabulary, alone and as a
    continuation. The lines are held in memory: this is for the generated world, real corpora come with published
    vocabularies. The folder is complete once it holds tokenizer.json. UserError if there is no text.
    """
    lines = with_bounded_words(lines)
    tokenizer = _wordpiece(models.WordPiece(unk_token="[UNK]"), lowercase=True)
    characters = {c for line in lines for c in tokenizer.normalizer.normalize_str(line) if not c.isspace()}
    if not characters:
        raise UserError(f"{folder}: no text to train a tokenizer on; expected at least one line.")
    # The trainer numbers continuations in the order of a hash map and breaks ties by number, so that two
    # trainings differ. Numbering them beforehand makes the vocabulary a function of the text.
    fixed = [*BERT_SPECIALS.values(), *sorted(f"##{c}" for c in characters)]
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=fixed, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    wrapped = _bert(_wordpiece(models.WordPiece(tokenizer.get_vocab(), unk_token="[UNK]"), lowercase=True))
    save_tokenizer(wrapped, folder)
    return wrapped


def trim_wordpiece(
    tokenizer: PreTrainedTokenizerFast, used: Iterable[int], folder: Path
) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """A WordPiece tokenizer with the special tokens, the `used` pieces and single ASCII characters alone.

    Ids count anew in the old order, special tokens first. A text that used only these pieces is read as before: what is
    gone was nowhere the longest match. Saved like `train_wordpiece`'s; returned with the old id of every new one.

    Raises:
        UserError: it is no WordPiece tokenizer with BERT's special tokens.
    """
    about = json.loads(tokenizer.backend_tokenizer.to_str())
    vocab = about["model"].get("vocab", {})
    if about["model"]["type"] != "WordPiece" or not set(BERT_SPECIALS.values()) <= set(vocab):
        raise UserError(
            f"{tokenizer.name_or_path}: expected BERT's word pieces and special tokens, found {about['model']['type']}"
        )
    wanted = {int(i) for i in used}
    wanted |= {i for piece, i in vocab.items() if len(piece.removeprefix("##")) == 1 and piece.isascii()}
    specials = [vocab[token] for token in BERT_SPECIALS.values()]
    kept = specials + sorted(wanted - set(specials))
    piece_of = {i: piece for piece, i in vocab.items()}
    about["model"]["vocab"] = {piece_of[i]: new for new, i in enumerate(kept)}
    trimmed = _bert(Tokenizer.from_str(json.dumps({**about, "added_tokens": [], "post_processor": None})))
    save_tokenizer(trimmed, folder)
    return trimmed, kept


def train_byte_bpe(lines: Iterable[str], vocab_size: int, folder: Path) -> PreTrainedTokenizerFast:
    """Train a RoBERTa-style byte-level BPE, saved like `train_wordpiece`'s.

    Ids as published: 0–3 are <s> <pad> </s> <unk>, then the bytes and the merged pieces, and <mask> is the last.
    The vocabulary has at least the 256 bytes, so that any text can be written. UserError if there is no text.
    """
    lines = with_bounded_words(lines)
    if not any(line.strip() for line in lines):
        raise UserError(f"{folder}: no text to train a tokenizer on; expected at least one line.")
    tokenizer = _byte_bpe(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab = model["vocab"] | {"<mask>": len(model["vocab"])}
    wrapped = _roberta(_byte_bpe(models.BPE(vocab, [tuple(merge) for merge in model["merges"]])))
    save_tokenizer(wrapped, folder)
    return wrapped


def with_bounded_words(lines: Iterable[str]) -> list[str]:
    """The lines with words, and gaps, of more than `LONGEST` characters cut: base64 would train for minutes."""
    return [_LONG_WORD.sub(r"\g<0> ", _LONG_GAP.sub(" ", line)) for line in lines]


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save as a HuggingFace folder; WordPiece also as a bare `vocab.txt`, which other tools ask for.

    The files appear whole, `tokenizer.json` last: a folder that has it is complete.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f".tokenizer.{os.getpid()}.tmp"
    try:
        tokenizer.save_pretrained(str(made))
        model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
        if model["type"] == "WordPiece":
            pieces = sorted(model["vocab"], key=model["vocab"].get)
            (made / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
        for path in sorted(made.iterdir(), key=lambda path: (path.name == "tokenizer.json", path.name)):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def encode_lines(tokenizer: PreTrainedTokenizerFast, lines: Sequence[str]) -> list[np.ndarray]:
    """Ids of many lines, int32 [n] each: no special tokens, no truncation, no padding. CLIP's are cleaned first."""
    backend = tokenizer.backend_tokenizer
    if clean := getattr(tokenizer, "clean", None):
        lines = [clean(line) for line in lines]
    backend.no_truncation()
    backend.no_padding()
    encodings = backend.encode_batch_fast(list(lines), add_special_tokens=False)
    return [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]


def plain_pieces(tokenizer: PreTrainedTokenizerFast, lines: Sequence[str], length: int) -> list[np.ndarray]:
    """Up to `length` word pieces of each line; a special token that a line spells out is left out of it."""
    special = np.array([i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id])
    return [ids[~np.isin(ids, special)][:length] for ids in encode_lines(tokenizer, lines)]


def vocabulary_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    """Hex sha256 of the word pieces in the order of their ids: equal where ids mean the same."""
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(json.dumps(pieces).encode()).hexdigest()


def piece_texts(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """For every id, the text it stands for:

    WordPiece without `##`, byte-level pieces decoded with their leading space.
    """
    size = len(tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(list(range(size)))
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    if backend["model"]["type"] == "WordPiece":
        prefix = backend["model"].get("continuing_subword_prefix", "##")
        return [(token or "").removeprefix(prefix) for token in tokens]
    if (backend.get("decoder") or {}).get("type") == "ByteLevel":
        return [tokenizer.backend_tokenizer.decode([i], skip_special_tokens=False) for i in range(size)]
    return [(token or "").replace("▁", " ") for token in tokens]


def byte_pieces(tokenizer: PreTrainedTokenizerFast) -> list[bytes] | None:
    """For every id of a byte-level tokenizer the bytes it stands for; None for any other kind.

    GPT-2's alphabet writes printable Latin-1 characters as themselves and the other bytes from U+0100 on, in order.
    """
    if (json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder") or {}).get("type") != "ByteLevel":
        return None
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [b for b in range(256) if b not in printable]
    value = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
    tokens = [token or "" for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
    return [
        bytes(value[c] for c in token) if all(c in value for c in token) else token.encode()
        for token in tokens
    ]


def _wordpiece(model: models.WordPiece, lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def _byte_bpe(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _bert(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Add `[CLS] A [SEP] B [SEP]` and the special tokens' roles to a WordPiece tokenizer."""
    cls, sep = (tokenizer.token_to_id(BERT_SPECIALS[name]) for name in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **BERT_SPECIALS,
    )


def _roberta(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Add `<s> A </s>` and the special tokens' roles to a byte-level tokenizer."""
    ends = (("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")))
    tokenizer.post_processor = processors.RobertaProcessing(*ends, trim_offsets=True, add_prefix_space=False)
    roles = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    roles |= {"unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=512, mask_token=BYTE_MASK, **roles
    )


def _bare_wordpiece(path: Path) -> PreTrainedTokenizerFast:
    pieces = [text for _, text in lines_of(path, "a BERT vocabulary, one piece a line")]
    missing = [token for token in BERT_SPECIALS.values() if token not in pieces]
    if missing:
        raise UserError(
            f"{path}: {', '.join(missing)} missing; expected a BERT vocabulary, one piece a line."
        )
    if len(set(pieces)) < len(pieces):
        first = next(number for number, piece in enumerate(pieces, start=1) if piece in pieces[: number - 1])
        raise UserError(
            f"{path}:{first}: the piece {pieces[first - 1]!r} is in the file already; expected it once."
        )
    lowercase = not any(p != p.lower() for p in pieces if not (p.startswith("[") and p.endswith("]")))
    vocab = {piece: i for i, piece in enumerate(pieces)}
    return _bert(_wordpiece(models.WordPiece(vocab, unk_token="[UNK]"), lowercase))


def _bare_byte_bpe(folder: Path) -> PreTrainedTokenizerFast:
    vocab = read_json(folder / "vocab.json", "a byte-level vocabulary {piece: id}")
    lines = (text for _, text in lines_of(folder / "merges.txt", "one merge 'a b' a line"))
    merges = [tuple(text.split(" ")) for text in lines if text and not text.startswith("#version")]
    if not isinstance(vocab, dict) or not all(isinstance(i, int) for i in vocab.values()):
        raise UserError(f"{folder / 'vocab.json'}: expected an object {{piece: id}}.")
    if set(clip.MARKS) <= vocab.keys():
        return clip.clip_tokenizer_of(folder)
    roberta = {"<s>", "</s>", "<pad>", "<mask>"} <= vocab.keys()
    try:
        tokenizer = _byte_bpe(models.BPE(vocab, merges))
    except Exception as error:  # tokenizers raises bare Exception for a merge outside the vocabulary
        raise UserError(f"{folder}: vocab.json and merges.txt do not belong together ({error}).") from error
    if roberta:
        return _roberta(tokenizer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    end = "<|endoftext|>"
    if end not in vocab:
        raise UserError(
            f"{folder / 'vocab.json'}: neither '<s>' … '<mask>' nor '{end}' is in the vocabulary."
        )
    roles = dict.fromkeys(("bos_token", "eos_token", "unk_token"), end)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=1024, **roles)


def _padded(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
