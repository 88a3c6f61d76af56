"""What a pre-trained language model says of texts: answers to prompts, nats of words, words that follow.

Paper: VaLM (Wang et al. 2023), section 4: nothing is fine-tuned; an answer is what the model finds likeliest after a
prompt. A model that looks at pictures while it reads finds them in `see`.

Differs from the original: an answer of several pieces has the mean log-probability of its pieces; a prompt is read
after the end of a text, as every text is in training; a text that is longer than the model is read in parts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlpnb.errors import UserError
from vlpnb.text.vocabulary import Vocabulary

Ids = list[int]
See = Callable[[Int[Tensor, "B T"], Int[Tensor, "B J"] | None], Mapping[str, Tensor]]
"""Texts, padded on the right, and rows that each shall see in the setting "oracle" → further arguments of `logits`."""
RowsOf = Callable[[Sequence[str]], Int[np.ndarray, " J"]]


@runtime_checkable
class CausalModel(Protocol):
    """A language model that reads from left to right, such as `vlpnb.valm.ValmLM`."""

    config: Any
    """Has `max_positions`, `eos_id` and `pad_id`."""

    def logits(self, ids: Int[Tensor, "B T"], **pictures: Tensor) -> Float[Tensor, "B T V"]:
        """A score for every next word at every place."""


class LanguageScorer:
    """Asks a model; see `asking.Scorer`.

    Args:
        see: the pictures of texts.
        rows_of: store rows of the names of pictures; for the setting "oracle".
        batch: texts at a time.
    """

    eos_first = True

    def __init__(
        self,
        model: CausalModel,
        words: Vocabulary,
        see: See,
        rows_of: RowsOf | None = None,
        device: str = "cpu",
        batch: int = 64,
    ):
        self.model, self.words, self.see, self.rows_of = model.eval().to(device), words, see, rows_of
        self.device, self.at_once = torch.device(device), batch
        self.most, self.end, self.pad = (
            model.config.max_positions, model.config.eos_id, max(model.config.pad_id, 0),
        )  # fmt: skip

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """That of `words`, whose ids may begin higher."""
        return self.words.tokenizer

    def __call__(
        self,
        prompts: Sequence[str],
        answers: Sequence[str] | Sequence[Sequence[str]],
        pictures: Sequence[Sequence[str]] | None = None,
    ) -> Float[np.ndarray, "P A"]:
        """Mean log-probability of the pieces of each answer, after each prompt.

        Args:
            answers: of all prompts, or of each prompt its own, equally many.
            pictures: names of the pictures that each prompt shall see, for the setting "oracle".

        Raises:
            UserError: a prompt with its answer is longer than the model, or an answer has no piece.
        """
        own = not answers or not isinstance(answers[0], str)
        asked = list(answers) if own else [answers] * len(prompts)
        begun = [[self.end, *self._ids(prompt)] for prompt in prompts]
        pieces = [
            [self._pieces(prompt, answer) for answer in each]
            for prompt, each in zip(prompts, asked, strict=True)
        ]
        given = None if pictures is None else self._rows(pictures)
        texts, places = [], []  # what is read, and of which prompt
        for i, (prompt, each) in enumerate(zip(begun, pieces, strict=True)):
            for rest in dict.fromkeys(tuple(answer[:-1]) for answer in each):
                texts.append([*prompt, *rest])
                places.append((i, rest))
        found = np.zeros((len(prompts), len(asked[0]) if asked else 0))
        wanted = {
            (i, rest): [a for a, answer in enumerate(pieces[i]) if tuple(answer[:-1]) == rest]
            for i, rest in places
        }
        for number, scores in self._read(texts, given, [i for i, _ in places]):
            i, rest = places[number]
            logs = scores[len(begun[i]) - 1 :].log_softmax(-1)  # (pieces of `rest` + 1, V)
            before = sum(float(logs[at, piece]) for at, piece in enumerate(rest))
            for a in wanted[i, rest]:
                found[i, a] = (before + float(logs[-1, pieces[i][a][-1]])) / len(pieces[i][a])
        return found

    def nats(self, texts: Sequence[str]) -> list[Float[np.ndarray, " _"]]:
        """Nats of every token of each text and of its end, read after an end; longer ones in parts."""
        parts, whose = [], []
        for i, text in enumerate(texts):
            ids = [self.end, *self._ids(text), self.end]
            for first in range(0, len(ids) - 1, self.most):
                parts.append(ids[first : first + self.most + 1])
                whose.append(i)
        found: list[np.ndarray] = [np.empty(0)] * len(parts)
        for number, scores in self._read([part[:-1] for part in parts], None, whose):
            logs = scores.log_softmax(-1)
            targets = torch.tensor(parts[number][1:])
            found[number] = -logs.gather(1, targets[:, None])[:, 0].double().numpy()
        joined: list[list[np.ndarray]] = [[] for _ in texts]
        for i, one in zip(whose, found, strict=True):
            joined[i].append(one)
        return [np.concatenate(each) for each in joined]

    def follows(self, texts: Sequence[str], words: Sequence[str]) -> list[list[bool]]:
        """Whether each piece of a word is the likeliest after the text and the pieces before it."""
        begun = [[self.end, *self._ids(text)] for text in texts]
        pieces = [self._pieces(text, word) for text, word in zip(texts, words, strict=True)]
        whole = [[*before, *after[:-1]][-self.most :] for before, after in zip(begun, pieces, strict=True)]
        found: list[list[bool]] = [[] for _ in texts]
        for number, scores in self._read(whole, None, range(len(texts))):
            likeliest = scores[-len(pieces[number]) :].argmax(-1).tolist()
            found[number] = [guess == piece for guess, piece in zip(likeliest, pieces[number], strict=True)]
        return found

    def _ids(self, text: str) -> Ids:
        return self.words.encode([text])[0].tolist()

    def _pieces(self, prompt: str, answer: str) -> Ids:
        """The pieces of an answer behind a prompt: with a space before it, where a tokenizer knows spaces."""
        before, both = self._ids(prompt), self._ids(f"{prompt} {answer}")
        pieces = both[len(before) :] if both[: len(before)] == before else self._ids(answer)
        if not pieces:
            raise UserError(
                f"the answer {answer!r} has no word piece in this model's tokenizer; expected a word"
            )
        return pieces

    def _rows(self, pictures: Sequence[Sequence[str]]) -> Int[Tensor, "P J"]:
        rows = torch.full((len(pictures), max((len(each) for each in pictures), default=1) or 1), -1)
        for row, each in zip(rows, pictures, strict=True):
            row[: len(each)] = torch.from_numpy(np.asarray(self.rows_of(list(each)), np.int64))
        return rows

    def _read(
        self, texts: Sequence[Ids], given: Int[Tensor, "P J"] | None, whose: Sequence[int]
    ) -> Iterable[tuple[int, Float[Tensor, "n V"]]]:
        """Scores for the next word at every place of each text: its number, and (tokens, V) on the host."""
        longest = max(texts, key=len, default=[])
        if len(longest) > self.most:
            raise UserError(
                f"a prompt has {len(longest):,} tokens with its answer, and the model reads at most {self.most:,}: "
                f"{self.words.decode(longest)[:80]!r} …; shorten it"
            )
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        for first in range(0, len(order), self.at_once):
            numbers = order[first : first + self.at_once]
            ids = torch.full((len(numbers), len(texts[numbers[-1]])), self.pad)
            for row, number in zip(ids, numbers, strict=True):
                row[: len(texts[number])] = torch.tensor(texts[number])
            mine = None if given is None else given[[whose[number] for number in numbers]]
            pictures = {name: value.to(self.device) for name, value in self.see(ids, mine).items()}
            with torch.no_grad():
                scores = self.model.logits(ids.to(self.device), **pictures).float().cpu()
            for row, number in zip(scores, numbers, strict=True):
                yield number, row[: len(texts[number])]
