"""Stage `blocks`: the text that a causal language model learns from as token ids, and the text that it is tested on.

Paper: VaLM (Wang et al. 2023), section 4.1: English CC-100 in CLIP's word pieces, a stream cut in blocks of 512. Here
the tokenizer is that of the stage `language` unless another is named; text that was binarised elsewhere (`original`)
takes the place of all of it. What training text is made of says `text/paragraphs.py`; lines end with the end token,
and the files are in fairseq's layout (`text/binarised.py`). The stage `corpus` has text for models that read both ways.

| file | holds |
|---|---|
| `train`, `captions`, `text` | `.bin` and `.idx`: what is trained on; held-out captions; held-out running text |
| `captions.txt`, `text.txt` | the held-out lines themselves: scores count their words and bytes |
| `pictures.json` | ids of the pictures that lines describe, and which one (or -1) each line of a split does |
| `corpus.json`, `tokenizer/` | how blocks are cut; the vocabulary |
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from pydantic import Field, model_validator
from transformers import PreTrainedTokenizerFast

from vlpnb.config import Config, Name
from vlpnb.data.description import SPLITS as CAPTION_SPLITS
from vlpnb.data.description import load_captions, load_text
from vlpnb.data.text_files import require
from vlpnb.errors import UserError
from vlpnb.files import read_back, write_json, write_text
from vlpnb.outside import ModelName, OutsidePath
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.binarised import Binarised, write_binarised
from vlpnb.text.blocks import LanguageBlocks
from vlpnb.text.paragraphs import Paragraph, captioned, described, running
from vlpnb.text.tokenizers import save_tokenizer
from vlpnb.text.unseen import held_out
from vlpnb.text.vocabulary import Vocabulary, open_vocabulary

SPLITS = ("train", "captions", "text")
LINES_AT_ONCE = 2048


class OriginalText(Config):
    """Text that was binarised elsewhere: a `.bin` with its `.idx` beside it."""

    train: OutsidePath = ""
    """Such as a shard of CC-100; with it, neither captions nor text are trained on."""
    text: OutsidePath = ""
    """Held-out running text, such as WikiText-103's; without its words, scores per word and byte are not known."""


class BlocksConfig(Config):
    """What is read, and how it is cut. Defaults: the paper's."""

    tokenizer: ModelName = ""
    """Empty: that of the stage `language`; else a folder or hub name: CLIP's, as in the paper, or a GPT-2's."""
    captions: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `captions` that are other than the run's."""
    sets: tuple[Name, ...] = ()
    """Splits or sets of captioned pictures whose captions are part of the training text."""
    held_out: tuple[Name, ...] = ("valid",)
    """Those whose captions are the text "captions" that is tested on, unless `described` has its own: then nothing that
    is `described` of a photograph of another split than `train` is trained on."""
    described: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `text` for text that describes pictures, as Multi30k's; empty: there is none."""
    text: dict[str, Any] = Field(default_factory=dict)
    """Fields of the stage `text` that are other than the run's."""
    one_paragraph: bool = True
    """All captions of a picture are one line; else each is a line of its own."""
    pictures: int | None = Field(None, ge=1)
    """At most so many captioned pictures of each split or set …"""
    skip: int = Field(0, ge=0)
    """… after so many that are left out, such as those of the database.
    """
    lines: int | None = Field(None, ge=1)
    """At most so many lines of running text."""
    held_out_lines: int | None = Field(None, ge=1)
    """At most so many lines of each held-out text."""
    block: int = Field(512, ge=2, le=8192)
    """Tokens of an example at most."""
    by_line: bool = False
    """A line is an example of its own; else one stream is cut."""
    cut: bool = False
    """By line: what a line has beyond a block is left out; else it is an example of its own."""
    original: OriginalText = OriginalText()
    """Text that was binarised elsewhere, in place of the above."""

    @model_validator(mode="after")
    def _ids_keep_their_tokenizer(self) -> "BlocksConfig":
        if (self.original.train or self.original.text) and not self.tokenizer:
            raise ValueError("tokenizer: name the one that made the ids of `original`")
        return self


def inputs(config: BlocksConfig) -> Mapping[str, Request]:
    """Captions where some are read, both kinds of text, and the stage `language` where its tokenizer is used."""
    own, named = not config.original.train, {*config.sets, *config.held_out}
    beside = {"sets": None} if named <= {*CAPTION_SPLITS} else {}
    wanted = {
        "captions": Request("captions", beside | config.captions) if own and named else None,
        "described": Request("text", config.described) if own and config.described else None,
        "text": Request("text", config.text) if own or not config.original.text else None,
        "language": Request("language") if not config.tokenizer else None,
    }
    return {role: request for role, request in wanted.items() if request is not None}


def paragraphs(config: BlocksConfig, folders: Mapping[str, Path], split: str) -> Iterator[Paragraph]:
    """The lines of one split: "train", "captions" or "text"."""
    data = load_captions(folders["captions"]) if "captions" in folders else None
    about = load_text(folders["described"]) if "described" in folders else None
    text = load_text(folders["text"]) if "text" in folders else None
    one = config.one_paragraph
    some = slice(config.skip, config.pictures and config.skip + config.pictures)
    if split == "train":
        said = captioned(data, config.sets, one, some) if data else ()
        unseen = held_out(data) if data and about and not about.valid else ()
        pictured = islice(described(about, "train", one, unseen), some.start, some.stop) if about else ()
        return chain(said, pictured, running(text, "train", config.lines) if text else ())
    if split == "captions" and about and about.valid:
        found = described(about, "valid", one)
    elif split == "captions":
        found = captioned(data, config.held_out, one) if data else iter(())
    else:
        found = running(text, "valid") if text else iter(())
    return islice(found, config.held_out_lines)


def run(context: StageContext) -> dict[str, float]:
    """Write the splits. Metrics: of each its tokens, lines and examples, and of how many pictures text is there."""
    config: BlocksConfig = context.config
    named = config.tokenizer or context.inputs["language"] / "model"
    words = open_vocabulary(named)
    save_tokenizer(words.tokenizer, context.folder / "tokenizer")
    pictures: dict[str, int] = {}
    own: dict[str, list[int]] = {}
    outside = {name: str(path) for name in ("train", "text") if (path := getattr(config.original, name))}
    for split in SPLITS:
        if split in outside:
            _check_ids(Binarised(Path(outside[split])), words)
            continue
        if split == "captions" and config.original.train:
            continue
        kept: list[str] = []
        own[split] = []
        keep = split != "train"
        lines = paragraphs(config, context.inputs, split)
        write_binarised(
            context.folder / split, _encoded(lines, words, pictures, own[split], kept, keep), words.size
        )
        if keep:
            write_text(context.folder / f"{split}.txt", "".join(f"{line}\n" for line in kept))
        if not own[split]:
            if split == "train":
                raise UserError(
                    f"{context.name}: no line to train on; name `sets`, `described` or `text` that hold some."
                )
            for ending in (".bin", ".idx", ".txt"):
                (context.folder / f"{split}{ending}").unlink()
            del own[split]
    write_json(context.folder / "pictures.json", {"pictures": list(pictures), "own": own})
    about = {"block": config.block, "by_line": config.by_line, "cut": config.cut, "outside": outside}
    write_json(context.folder / "corpus.json", about)
    corpus = Corpus(context.folder)
    metrics: dict[str, float] = {"pictures": float(len(pictures)), "vocab_size": float(words.size)}
    for split in corpus.splits:
        blocks = corpus.blocks(split)
        counts = {"tokens": len(blocks.tokens), "lines": len(blocks.offsets) - 1, "examples": len(blocks)}
        metrics |= {f"{split}_{name}": float(count) for name, count in counts.items()}
    told = ", ".join(f"{split} {int(metrics[f'{split}_tokens']):,}" for split in corpus.splits)
    context.log(f"tokens: {told}; {len(pictures):,} pictures are described")
    return metrics


def _encoded(
    lines: Iterable[Paragraph],
    words: Vocabulary,
    pictures: dict[str, int],
    own: list[int],
    kept: list[str],
    keep: bool,
) -> Iterator[np.ndarray]:
    """Ids of each line with its end; notes which picture it describes, and if so wanted the line."""
    lines = iter(lines)
    while chunk := list(islice(lines, LINES_AT_ONCE)):
        for line, ids in zip(chunk, words.encode([line.text for line in chunk]), strict=True):
            if not len(ids):
                continue
            own.append(pictures.setdefault(line.picture, len(pictures)) if line.picture else -1)
            if keep:
                kept.append(" ".join(line.text.split()))
            yield np.append(ids, words.end_id)


def _check_ids(corpus: Binarised, words: Vocabulary) -> None:
    tokens = corpus.tokens
    top = max((int(tokens[i : i + (1 << 24)].max()) for i in range(0, len(tokens), 1 << 24)), default=-1)
    if top >= words.size or top < 0:
        raise UserError(
            f"{corpus.path}.bin: its largest id is {top:,}; expected ids of the tokenizer's {words.size:,} pieces. "
            "Name the tokenizer that made them in `blocks.tokenizer`."
        )


BLOCKS = Stage(
    "blocks", BlocksConfig, run, inputs,
    doc="Tokenise what a causal language model reads: paragraphs of captions, and running text.",
)  # fmt: skip


class Corpus:
    """A finished stage `blocks`. UserError where the folder holds none, or outside text is gone."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        require(self.folder / "corpus.json", "a corpus of the stage `blocks`")
        about = read_back(self.folder / "corpus.json")
        self.block: int = about["block"]
        self.by_line, self._cut, self._outside = about["by_line"], about["cut"], about["outside"]

    @cached_property
    def words(self) -> Vocabulary:
        """Its word pieces."""
        return open_vocabulary(self.folder / "tokenizer")

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """That of `words`."""
        return self.words.tokenizer

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of "train", "captions" and "text" that there are."""
        return tuple(s for s in SPLITS if s in self._outside or (self.folder / f"{s}.idx").is_file())

    @property
    def pictures(self) -> tuple[str, ...]:
        """Ids of the pictures that lines describe; `own` of a batch counts in them."""
        return tuple(self._about["pictures"])

    @cached_property
    def _about(self) -> dict[str, Any]:
        return read_back(self.folder / "pictures.json")

    def blocks(self, split: str) -> LanguageBlocks:
        """The examples of a split. UserError where there is none of that name."""
        if split not in self.splits:
            raise UserError(f"{self.folder}: has no text '{split}'; there are {', '.join(self.splits)}.")
        own = self._about["own"].get(split)
        return LanguageBlocks(
            Path(self._outside.get(split, self.folder / split)), block=self.block, end_id=self.words.end_id,
            pad_id=self.words.pad_id, lines=self.by_line, cut=self._cut,
            pictures=None if own is None or not self.pictures else np.array(own, np.int64),
        )  # fmt: skip

    def texts(self, split: str) -> list[str]:
        """The lines of a held-out split; of text binarised elsewhere what its ids spell, with other spaces."""
        if split in self._outside:
            found = Binarised(Path(self._outside[split]))
            return [self.words.decode(found.line(i)) for i in range(len(found))]
        path = require(self.folder / f"{split}.txt", f"the lines of '{split}'")
        return path.read_text(encoding="utf-8").splitlines()

    def encode(self, texts: Sequence[str]) -> list[Int[np.ndarray, " _"]]:
        """Ids of some texts; see `Vocabulary.encode`."""
        return self.words.encode(texts)

    @property
    def vocab_size(self) -> int:
        """Of the model's embedding."""
        return self.words.size

    @property
    def end_id(self) -> int:
        """Of the token that ends a line."""
        return self.words.end_id

    @property
    def pad_id(self) -> int:
        """Of padding."""
        return self.words.pad_id

    @property
    def mask_id(self) -> int:
        """Of a hidden word."""
        return self.words.mask_id

    @property
    def special(self) -> tuple[int, ...]:
        """Ids that are no words."""
        return self.words.special


def load_corpus(folder: Path) -> Corpus:
    """The corpus in a folder of the stage `blocks`."""
    return Corpus(folder)
