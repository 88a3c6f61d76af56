"""Questions beside long passages: windows of tokens, character spans and the best answer spans.

BERT for reading comprehension (Devlin et al. 2019, section 4.2): the input is the question and a passage between
the tokenizer's special tokens. A passage that does not fit is cut into overlapping windows, each of which begins
`stride` tokens after the one before. An answer is a pair of tokens; a window that does not hold the whole answer
points at its first token ([CLS] or <s>), as does a question without an answer.

`stride` is the step between windows, as in BERT's own code; newer scripts give this name to the overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlpnb.errors import UserError

LEAST_ROOM = 8  # tokens of the passage that a window must have room for


@dataclass(frozen=True)
class Template:
    """Special tokens around a pair: ids and segment types before, between and after its two parts."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[
        tuple[int, ...], ...
    ]  # of: before, first part, between, second part, after (one each for parts)

    @property
    def specials(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


def pair_template(tokenizer: PreTrainedTokenizerFast) -> Template:
    """What the tokenizer puts around a pair, read off a small one: `[CLS] A [SEP] B [SEP]`, `<s> A </s></s> B </s>`."""
    made = tokenizer("a", "a", return_token_type_ids=True)
    part = [-1 if p is None else p for p in made.sequence_ids(0)]
    first, second = part.index(0), part.index(1)
    first_end, second_end = len(part) - part[::-1].index(0), len(part) - part[::-1].index(1)
    ids, types = made["input_ids"], made["token_type_ids"]
    cuts = (
        (0, first),
        (first, first + 1),
        (first_end, second),
        (second, second + 1),
        (second_end, len(part)),
    )
    return Template(
        tuple(ids[:first]),
        tuple(ids[first_end:second]),
        tuple(ids[second_end:]),
        tuple(tuple(types[a:b]) for a, b in cuts),
    )


class QuestionWindows:
    """Windows of questions beside their passages.

    Args:
        questions, passages: N texts each; equal passages are tokenised once.
        answers: (first character, character after the last) of each answer in its passage, or None.
        max_length: tokens of a window with its special tokens. stride: tokens between the starts of windows.
        max_question: longer questions are cut.

    `rows`, int64 [W, 5]: question, first and end token of the passage, labels of start and end (positions in the
    window). Windows of one question follow each other.

    Raises:
        UserError: the tokens of a question leave no room for the passage.
    """

    def __init__(
        self,
        questions: Sequence[str],
        passages: Sequence[str],
        answers: Sequence[tuple[int, int] | None],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int = 384,
        stride: int = 128,
        max_question: int = 64,
    ):
        self.template, self.pad = pair_template(tokenizer), tokenizer.pad_token_id
        self.max_length = max_length
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        encoded = backend.encode_batch_fast(list(questions), add_special_tokens=False)
        self.questions = [np.array(e.ids[:max_question], np.int32) for e in encoded]
        self.texts = list(passages)
        unique = list(dict.fromkeys(passages))
        self.passages = {
            text: (np.array(e.ids, np.int32), _spans(e.offsets, text))
            for text, e in zip(unique, backend.encode_batch(unique, add_special_tokens=False), strict=True)
        }
        rows = []
        for number, (text, answer) in enumerate(zip(passages, answers, strict=True)):
            room = max_length - len(self.questions[number]) - self.template.specials
            if room < LEAST_ROOM:
                raise UserError(
                    f"max_length {max_length} leaves {room} tokens beside the question {questions[number][:60]!r}; "
                    f"expected at least {LEAST_ROOM}"
                )
            rows += self._windows(number, text, answer, room, stride)
        self.rows = np.array(rows, np.int64).reshape(-1, 5)
        question_lengths = np.array([len(ids) for ids in self.questions])
        used = self.rows[:, 2] - self.rows[:, 1]
        self.lengths = used + question_lengths[self.rows[:, 0]] + self.template.specials

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def of_question(self) -> Int[np.ndarray, " N1"]:
        """Row at which each question's windows begin, and W."""
        return np.searchsorted(self.rows[:, 0], np.arange(len(self.questions) + 1))

    def passage_start(self, question: int) -> int:
        """Position in its windows of a question's first passage token."""
        return len(self.template.before) + len(self.questions[question]) + len(self.template.between)

    def _windows(self, number: int, text: str, answer: tuple[int, int] | None, room: int, stride: int):
        spans = self.passages[text][1]
        wanted = (-1, -1)
        if answer is not None and len(spans):
            first = int(np.searchsorted(spans[:, 1], answer[0], side="right"))
            last = int(np.searchsorted(spans[:, 0], answer[1], side="left")) - 1
            if first <= last:
                wanted = (first, last)
        offset, start = self.passage_start(number), 0
        while True:
            end = min(start + room, len(spans))
            inside = start <= wanted[0] and wanted[1] < end and answer is not None
            labels = [offset + token - start for token in wanted] if inside else [0, 0]
            yield [number, start, end, *labels]
            if end == len(spans):
                return
            start += min(stride, room)

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Int[Tensor, "..."] | Bool[Tensor, "B T"]]:
        """ids, mask, types [B T] and labels starts, ends [B] of some windows, padded to the longest."""
        longest = int(self.lengths[rows].max())
        ids, types = np.full((len(rows), longest), self.pad), np.zeros((len(rows), longest), np.int64)
        kinds = self.template.types
        for i, row in enumerate(rows):
            number, start, end = self.rows[row, :3]
            question, passage = self.questions[number], self.passages[self.texts[number]][0][start:end]
            made = [*self.template.before, *question, *self.template.between, *passage, *self.template.after]
            ids[i, : len(made)] = made
            types[i, : len(made)] = [
                *kinds[0], *kinds[1] * len(question), *kinds[2], *kinds[3] * len(passage), *kinds[4],
            ]  # fmt: skip
        mask = np.arange(longest)[None] < self.lengths[rows][:, None]
        arrays = {
            "ids": ids,
            "mask": mask,
            "types": types,
            "starts": self.rows[rows, 3],
            "ends": self.rows[rows, 4],
        }
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

    def owned(self, question: int) -> list[Bool[np.ndarray, " _"]]:
        """For each window of a question, which of its passage tokens it sees with more context than any other.

        The context of a token is the smaller number of tokens beside it; longer windows win ties.
        """
        rows = self.rows[self.of_question[question] : self.of_question[question + 1]]
        count = len(self.passages[self.texts[question]][0])
        context = np.full((len(rows), count), -1.0)
        for i, (_, start, end, *_) in enumerate(rows):
            at = np.arange(end - start)
            context[i, start:end] = np.minimum(at, at[::-1]) + 0.01 * (end - start)
        best = context.argmax(0) if count else np.zeros(0, np.int64)
        return [best[start:end] == i for i, (_, start, end, *_) in enumerate(rows)]

    def text(self, question: int, first: int, last: int) -> str:
        """The characters of a question's passage from token `first` to token `last`, both included."""
        text = self.texts[question]
        spans = self.passages[text][1]
        return text[spans[first, 0] : spans[last, 1]]


def best_spans(
    start: Float[np.ndarray, " S"],
    end: Float[np.ndarray, " S"],
    may_start: Bool[np.ndarray, " S"],
    n_best: int = 20,
    max_answer: int = 30,
) -> list[tuple[float, int, int]]:
    """(start score + end score, first, last token) of the best spans, best first, at most `n_best`.

    The ends are taken from the `n_best` likeliest starts and ends; a span has at most `max_answer` tokens and
    begins where `may_start` says.
    """
    starts = np.argsort(-start, kind="stable")[:n_best]
    starts = starts[may_start[starts]]
    ends = np.argsort(-end, kind="stable")[:n_best]
    length = ends[None] - starts[:, None] + 1  # (starts, ends)
    at = np.argwhere((length >= 1) & (length <= max_answer))
    found = [(float(start[starts[i]] + end[ends[j]]), int(starts[i]), int(ends[j])) for i, j in at]
    return sorted(found, key=lambda item: (-item[0], item[1:]))[:n_best]


def _spans(offsets: Sequence[tuple[int, int]], text: str) -> Int[np.ndarray, "S 2"]:
    """Character spans of tokens without the white space that byte-level pieces begin with."""
    spans = []
    for first, end in offsets:
        while first < end and text[first].isspace():
            first += 1
        spans.append((first, end))
    return np.array(spans, np.int64).reshape(-1, 2)
