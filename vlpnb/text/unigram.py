"""Pieces for many languages: a unigram vocabulary in XLM-R's order of ids, trained on the spot, or a published one.

CCLM (Zeng et al. 2023, section 4.1) takes XLM-R's pieces. Its ids are `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, then the
pieces, and `<mask>` last; a vocabulary of a few thousand pieces does for a small world and is trained in seconds. Text
is normalised (NFKC) and a piece that begins a word begins with ▁, as there.

Training differs from SentencePiece's (Kudo 2018): candidates are what byte-pair merging proposes rather than all
substrings, and probabilities are re-estimated from best segmentations rather than from all. The trainer of the library
forgets how often a word occurs, and draws another vocabulary every time.
"""

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from vlpnb.errors import UserError
from vlpnb.text.tokenizers import save_tokenizer, with_bounded_words

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3
CANDIDATES = 3  # times as many pieces are proposed as are wanted
KEPT = 0.75  # of the pieces, from round to round
LONGEST_PIECE = 16  # characters
MASK = AddedToken("<mask>", lstrip=True, special=True)  # takes the space before it


def train_unigram(lines: Iterable[str], vocab_size: int, folder: Path) -> PreTrainedTokenizerFast:
    """Train pieces on lines of any languages, saved as a folder that AutoTokenizer loads offline.

    Every character of the lines is a piece, whatever `vocab_size` says; the text alone decides the result. The lines
    are held in memory. The folder is complete once it holds tokenizer.json.

    Args:
        vocab_size: pieces with the five special tokens; fewer where the text has no more.
    Raises:
        UserError: there is no text.
    """
    lines = with_bounded_words(lines)
    if not any(line.strip() for line in lines):
        raise UserError(f"{folder}: no text to train a tokenizer on; expected at least one line.")
    words = _words(lines)
    wanted = vocab_size - len(SPECIALS) - 1
    pieces = _proposed(words, CANDIDATES * wanted)
    characters = {character for word in words for character in word}
    while True:  # each round estimates, and leaves out what is used least
        pieces = _estimated(pieces, words)
        most = max(wanted, round(len(pieces) * KEPT), len(characters))
        if len(pieces) <= max(wanted, len(characters)):
            break
        ranked = sorted(pieces, key=lambda piece: (piece not in characters, -pieces[piece], piece))
        pieces = {piece: pieces[piece] for piece in ranked[:most]}
    ordered = sorted(pieces.items(), key=lambda item: (-item[1], item[0]))
    vocab = [*((special, 0.0) for special in SPECIALS), *_scores(ordered), (MASK.content, 0.0)]
    wrapped = _xlmr(_unigram(models.Unigram(vocab, unk_id=SPECIALS.index("<unk>"), byte_fallback=False)))
    save_tokenizer(wrapped, folder)
    return wrapped


def _words(lines: list[str]) -> Counter[str]:
    """The words of the lines, each with its ▁, and how often they occur."""
    rules = _unigram(models.Unigram())
    words: Counter[str] = Counter()
    for line in lines:
        normal = rules.normalizer.normalize_str(line)
        words.update(word for word, _ in rules.pre_tokenizer.pre_tokenize_str(normal))
    return words


def _proposed(words: Counter[str], size: int) -> dict[str, int]:
    """Candidate pieces, every character among them, with the number of their uses in merged words."""
    proposing = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, max_token_length=LONGEST_PIECE, show_progress=False
    )
    repeated = (word for word, count in words.items() for _ in range(count))
    proposing.train_from_iterator(repeated, trainer)
    return _uses(proposing, words, proposing.get_vocab())


def _estimated(pieces: dict[str, int], words: Counter[str]) -> dict[str, int]:
    """How often each piece is used where every word is cut in the likeliest way."""
    vocab = [("<unk>", 0.0), *_scores(list(pieces.items()))]
    return _uses(Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=False)), words, pieces)


def _uses(tokenizer: Tokenizer, words: Counter[str], pieces: Iterable[str]) -> dict[str, int]:
    """How often a tokenizer uses each piece in all of these words."""
    uses = dict.fromkeys(sorted(pieces), 0)
    pieces_of = {i: piece for piece, i in tokenizer.get_vocab().items()}
    encoded = tokenizer.encode_batch_fast(list(words))
    for encoding, count in zip(encoded, words.values(), strict=True):
        for i in encoding.ids:
            uses[pieces_of[i]] += count
    return uses


def _scores(uses: list[tuple[str, int]]) -> list[tuple[str, float]]:
    """Logarithms of probabilities; what is not used is half as likely as what is used once."""
    total = sum(count for _, count in uses)
    return [(piece, math.log(max(count, 0.5) / total)) for piece, count in uses]


def check_order(tokenizer: PreTrainedTokenizerFast, where: str | Path) -> None:
    """UserError where special tokens have other ids than XLM-R's, on which models of its kind are built."""
    expected = {**{token: i for i, token in enumerate(SPECIALS)}, MASK.content: len(tokenizer) - 1}
    found = {token: tokenizer.get_vocab().get(token) for token in expected}
    if wrong := [f"{token} {found[token]}" for token in expected if found[token] != expected[token]]:
        raise UserError(
            f"{where}: found the ids {', '.join(wrong)}; expected XLM-R's order, "
            f"{', '.join(f'{token} {i}' for token, i in expected.items())}. Name the tokenizer of an XLM-R."
        )


def _unigram(model: models.Unigram) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return tokenizer


def _xlmr(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Add `<s> A </s>`, `<s> A </s> </s> B </s>` and the special tokens' roles."""
    ends = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    roles = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    roles |= {"unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        mask_token=MASK,
        **roles,
    )
