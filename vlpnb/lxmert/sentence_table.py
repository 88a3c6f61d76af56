"""The flat table of LXMERT's pre-training: one row a sentence, with its picture and its answers.

Paper: LXMERT (Tan and Bansal 2019), section 3.2. As in the original, sentences of all sources lie picture by picture,
and pictures without regions are dropped; here they are counted and listed (LXM-20). Word pieces and answers are held in
flat arrays, a few bytes each.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlpnb.data.asked_data import SentenceData, load_sentences
from vlpnb.data.limits import limit_images
from vlpnb.data.lxmert import AnswerTable, LxmertImage
from vlpnb.data.region_store import RegionStore
from vlpnb.errors import UserError
from vlpnb.files import write_text
from vlpnb.foundations.own_words import open_tokenizer
from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import encode_lines

OWN = "sentences"  # the tokenizer that is learned from the training sentences
THINNING_SEED = 9595  # which sentences of a source are kept is the same for every run


@dataclass(frozen=True)
class Examples:
    """E sentences with their pictures, in the order of the files; ragged columns lie one after the other."""

    pictures: Int[np.ndarray, " E"]
    """Rows of the region store."""
    source: Int[np.ndarray, " E"]
    """Where a sentence comes from, as a number in `sources`."""
    sources: tuple[str, ...]
    asked: Bool[np.ndarray, " E"]
    """Whether it is a question; its answers may still be none."""
    tokens: Integer[np.ndarray, " N"]
    """Word pieces of all sentences, cut to the text length, without special tokens."""
    starts: Int[np.ndarray, " S"]
    """Where the word pieces of each sentence begin, and where the last ones end; S = E + 1."""
    answers: Int[np.ndarray, " M"]
    """Numbers in the answer table."""
    scores: Float[np.ndarray, " M"]
    answer_starts: Int[np.ndarray, " S"]
    without_regions: tuple[str, ...] = ()
    """Ids of the pictures that were dropped."""

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def lengths(self) -> Int[np.ndarray, " E"]:
        """Word pieces of each sentence, without the special tokens."""
        return np.diff(self.starts)

    def text(
        self, rows: Int[np.ndarray, " B"], length: int, tokenizer: Any
    ) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """`[CLS] pieces [SEP]` and padding of some sentences, T = `length`; and which are no padding."""
        counts = self.lengths[rows]
        at = np.arange(length - 2)
        inside = at < counts[:, None]  # (B, T - 2)
        pieces = self.tokens[np.where(inside, self.starts[rows][:, None] + at, 0)] if len(self.tokens) else 0
        ids = np.full((len(rows), length), tokenizer.pad_token_id, dtype=np.int64)
        ids[:, 0] = tokenizer.cls_token_id
        ids[:, 1:-1] = np.where(inside, pieces, tokenizer.pad_token_id)
        ids[np.arange(len(rows)), counts + 1] = tokenizer.sep_token_id
        return torch.from_numpy(ids), torch.from_numpy(np.arange(length) < counts[:, None] + 2)

    def answer_scores(
        self, rows: Int[np.ndarray, " B"]
    ) -> tuple[Int[np.ndarray, "B A"], Float[np.ndarray, "B A"]]:
        """Answers of some examples and their scores, A the most that one of them has; score 0 where there is none."""
        first = self.answer_starts[rows]
        counts = self.answer_starts[rows + 1] - first
        at = np.arange(max(int(counts.max(initial=0)), 1))
        inside = at < counts[:, None]
        if not len(self.answers):
            return np.zeros(inside.shape, np.int64), np.zeros(inside.shape, np.float32)
        index = np.where(inside, first[:, None] + at, 0)
        return np.where(inside, self.answers[index], 0), np.where(inside, self.scores[index], 0).astype(
            np.float32
        )


def flat_table(
    images: Iterable[LxmertImage],
    rows: Mapping[str, int],
    tokenizer: Any,
    prune: Callable[[Mapping[str, float]], Mapping[int, float]] = lambda labels: {},
    length: int = 20,
    where: str = "the sentences",
) -> Examples:
    """The table of some pictures' sentences, source by source.

    Args:
        rows: image id → its row in the region store; pictures that are not there, or have no region, are dropped.
        prune: an answer dictionary → its answers that are in the table, by their numbers.
        length: of the text with [CLS] and [SEP]; what is longer is cut.
        where: what to call the sentences in an error.
    Raises:
        UserError: there is no picture at all, or none with regions; labels and sentences of a source differ in number.
    """
    pictures, source, asked, lines, pruned = [], [], [], [], []
    numbers: dict[str, int] = {}
    dropped, seen = [], 0
    for image in images:
        seen += 1
        row = rows.get(image.image_id)
        if row is None:
            dropped.append(image.image_id)
            continue
        for name, sentences in image.sentences.items():
            labels = image.labels.get(name)
            if labels is not None and len(labels) != len(sentences):
                raise UserError(
                    f"{where}: picture {image.image_id} has {len(sentences)} sentences of the source '{name}' and "
                    f"{len(labels)} labels; expected one for each"
                )
            number = numbers.setdefault(name, len(numbers))
            for i, sentence in enumerate(sentences):
                pictures.append(row)
                source.append(number)
                asked.append(labels is not None)
                lines.append(sentence.strip())
                pruned.append(prune(labels[i]) if labels is not None and labels[i] else {})
    if not pictures:
        found = f"{seen:,} pictures, {len(dropped):,} of them without regions" if seen else "no picture"
        raise UserError(
            f"{where}: found {found}; expected sentences about pictures of the stage `regions`"
            + (f" (first without: {', '.join(dropped[:3])})" if dropped else "")
        )
    pieces = [ids[: length - 2] for ids in encode_lines(tokenizer, lines)]
    small = np.uint16 if len(tokenizer) <= 1 << 16 else np.int32
    return Examples(
        np.asarray(pictures, np.int64),
        np.asarray(source, np.int64),
        tuple(numbers),
        np.asarray(asked, bool),
        np.concatenate(pieces).astype(small),
        _offsets([len(ids) for ids in pieces]),
        np.asarray([answer for row in pruned for answer in row], np.int64),
        np.asarray([score for row in pruned for score in row.values()], np.float32),
        _offsets([len(row) for row in pruned]),
        tuple(dropped),
    )


def _offsets(counts: list[int]) -> Int[np.ndarray, " S"]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def thinned(images: list[LxmertImage], shares: Mapping[str, float]) -> Iterator[LxmertImage]:
    """The pictures with a share of the sentences of some sources; which ones does not depend on the run's seed.

    UserError for a source that no picture has.
    """
    known = {source for image in images for source in image.sentences}
    if unknown := sorted(set(shares) - known):
        raise UserError(
            f"lxmert.pretraining.sources: no sentence is of source '{unknown[0]}'; expected some of "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    random = np.random.default_rng(THINNING_SEED)
    for image in images:
        sentences, labels = dict(image.sentences), dict(image.labels)
        for source in (source for source in shares if source in sentences):
            kept = np.flatnonzero(random.random(len(sentences[source])) < shares[source])
            for column in (sentences, labels):
                if source in column:
                    column[source] = tuple(column[source][i] for i in kept)
        yield replace(image, sentences=sentences, labels=labels)


def read_split(context: StageContext, data: SentenceData, split: str) -> list[LxmertImage]:
    """The pictures of a split, of the training split with the chosen shares of their sentences."""
    config = context.config
    images = limit_images(data.read(split), config.limit_images, lambda image: image.image_id)
    return list(thinned(images, config.sources)) if split == "train" and config.sources else images


def tables(
    context: StageContext, store: RegionStore
) -> tuple[dict[str, Examples], AnswerTable, PreTrainedTokenizerFast]:
    """The examples of the splits `train` and `valid`, the table of their answers, and the tokenizer.

    Pictures without regions are counted, and listed in `without_regions.txt`.

    Raises:
        UserError: a split is empty; none of its pictures has regions.
    """
    config = context.config
    data = load_sentences(context.inputs["sentences"])
    table = data.table() or AnswerTable((), ())
    if config.answers:
        table = table.restricted(config.answers)
    splits = {split: read_split(context, data, split) for split in ("train", "valid")}
    lines = (text for image in splits["train"] for texts in image.sentences.values() for text in texts)
    tokenizer = open_tokenizer(context, OWN, lines)
    found = {
        split: flat_table(
            images,
            store.by_name,
            tokenizer,
            table.prune,
            config.text_length,
            f"the sentences of split '{split}'",
        )
        for split, images in splits.items()
    }
    dropped = [name for examples in found.values() for name in examples.without_regions]
    if dropped and context.rank == 0:
        write_text(context.folder / "without_regions.txt", "".join(f"{name}\n" for name in dropped))
        context.log(
            f"{len(dropped):,} pictures have no regions and are left out (listed in without_regions.txt): "
            f"{dropped[0]} …"
        )
    return found, table, tokenizer


def bert_of(context: StageContext) -> str:
    """The BERT whose tokenizer is used: a folder or a name."""
    return context.config.tokenizer or str(context.inputs["language"] / "model")
