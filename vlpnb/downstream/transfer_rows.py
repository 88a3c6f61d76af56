"""What fine-tuning on XVNLI, xGQA and MaRVL shares: the configuration, pictures of a batch, and how the tasks differ.

Paper: CCLM (Zeng et al., ACL 2023), section 4.1; IGLUE (Bugliarello et al. 2022). What is done with them is in
`transfer.py`.

Differs from CCLM's original: new heads learn at `head_rate` times the rate, whatever the number of processes (CCL-56);
pictures may be patches of a frozen network.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from vlpnb.config import Name
from vlpnb.downstream.finetuning import FineTuningConfig
from vlpnb.downstream.pictured import PictureStore, Sentences
from vlpnb.outside import ModelName

SHOTS = "_shots"  # the end of the name of a few-shot setting's results
TaskName = Literal["xvnli", "xgqa", "marvl"]
Row = Any  # a row of `data.iglue` or `data.xgqa`, as the task has them
Said = Any  # what a model says to a row: a label, an answer, a truth value


@dataclass(frozen=True)
class Shots:
    """A few-shot setting: a language, and the name of its file of few rows, which is their number (of pictures)."""

    language: str
    count: str

    @property
    def split(self) -> str:
        """What its results are called, such as `de_10_shots`."""
        return f"{self.language}_{self.count}{SHOTS}"


def read_shots(text: str) -> tuple[Shots, ...]:
    """Settings `LANGUAGE,N`, blanks between several. ValueError for anything else."""
    found = []
    for item in text.split():
        language, comma, count = item.partition(",")
        if not (comma and language and count and language.isidentifier() and count[0].isdigit()):
            raise ValueError(
                f"{item!r}: expected LANGUAGE,N such as de,10; several with a blank between them"
            )
        found.append(Shots(language, count))
    return tuple(dict.fromkeys(found))


def _settings(value: str) -> str:
    read_shots(value)
    return value


FewShots = Annotated[str, AfterValidator(_settings)]
"""A field of few-shot settings, checked."""


class TransferConfig(FineTuningConfig):
    """How to fine-tune, and what to ask then. Defaults: the paper's."""

    valid: ClassVar[str] = "valid"  # of English; the benchmarks have no other to choose from
    optimiser: Literal["transformers_adamw", "adamw"] = "transformers_adamw"
    """The original's, with ε before the bias correction; or PyTorch's AdamW."""
    lr: float = Field(3e-5, gt=0)
    """Peak learning rate."""
    head_rate: float = Field(2.0, gt=0)
    """The new head learns at so many times the rate."""
    epochs: float = Field(10.0, gt=0)
    """Passes over the English training rows."""
    batch: int = Field(128, ge=1)
    """Rows per update; an incomplete batch at the end of an epoch is learnt from too."""
    weight_decay: float = Field(0.01, ge=0)
    """Decay of the weights, biases and norms spared."""
    clip: float = Field(0.0, ge=0)
    """Largest gradient norm; 0: whatever it is."""
    by_length: bool = False
    """Batches are made of examples of similar length, for speed; false: of any, as in the paper."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Of the whole model, in training."""
    augment: bool = True
    """Learn from random views of the training pictures, where the stage of patches has them; false: from the whole."""
    best: bool = True
    """Keep the weights of the epoch with the highest English validation score; false: the last ones."""
    blind: bool = False
    """The control: zeros in the place of every picture. What is then reached was guessed from the words."""
    languages: tuple[Name, ...] = ()
    """Languages whose test sets are asked; none named: all that there are."""
    translated: bool = True
    """Also ask the test sets that were translated to English."""
    fewshot: FewShots = ""
    """Few-shot settings LANGUAGE,N such as `de,10`, after the English training; several with a blank between them."""
    fewshot_epochs: float = Field(60.0, gt=0)
    """Passes over the few rows."""
    fewshot_every: int = Field(10, ge=1)
    """Passes between validations."""
    fewshot_lr: tuple[Annotated[float, Field(gt=0)], ...] = Field((1e-6,), min_length=1)
    """Peak rates of few-shot training, of which the best on a validation set is taken; IGLUE's: 1e-5, 5e-5, 1e-4."""
    finetuned: ModelName = ""
    """Instead of an English training: a finished stage of this task that kept its models, or a fine-tuned file."""
    max_words: int = Field(80, ge=1)
    """Words of a text, of which the first are kept."""
    max_length: int = Field(80, ge=3)
    """Word pieces of a text with the two special ones."""

    @property
    def shots(self) -> tuple[Shots, ...]:
        """The few-shot settings."""
        return read_shots(self.fewshot)


class Examples(Protocol):
    """Rows as tensors."""

    @property
    def lengths(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def batch(
        self, rows: Sequence[int] | np.ndarray, random: np.random.Generator | None = None
    ) -> dict[str, Tensor]:
        """What the model's forward takes of some rows; each picture as a whole, or in one of its random views."""


class Views:
    """The patches of the pictures that rows name, as many for each row; a batch has each picture once."""

    def __init__(self, store: PictureStore, names: Sequence[Sequence[str]], blind: bool = False):
        """UserError when the store lacks some of the names."""
        flat = store.rows([name for row in names for name in row])
        self.store, self.blind = store, blind
        self.rows = np.asarray(flat, np.int64).reshape(len(names), -1)  # (N, pictures)

    def batch(
        self, rows: Sequence[int] | np.ndarray, random: np.random.Generator | None = None
    ) -> tuple[Float[Tensor, "n P1 F"], Int[Tensor, "B K"]]:
        """The distinct pictures of some rows, and which of them each row names. Of a control: one of zeros for all."""
        named = self.rows[np.asarray(rows)]
        distinct, which = np.unique(named, return_inverse=True)
        which = torch.from_numpy(which.reshape(named.shape))
        if self.blind:
            return torch.zeros_like(self.store.gather(distinct[:1])), which * 0
        if random is None:
            return self.store.gather(distinct), which
        views = self.store.views(distinct)  # the first is the whole picture
        return self.store.gather(distinct, random.integers(np.minimum(1, views - 1), views)), which


@dataclass(frozen=True)
class Labelled:
    """Sentences with their pictures and labels, padded batch by batch; −1 is no label."""

    texts: Sentences
    views: Views
    labels: Int[Tensor, " N"]
    places: tuple[str, ...]
    """What a model calls the pictures of a row, in their order."""

    @property
    def lengths(self) -> np.ndarray:
        """Word pieces of each."""
        return self.texts.lengths

    def __len__(self) -> int:
        return len(self.labels)

    def batch(
        self, rows: Sequence[int] | np.ndarray, random: np.random.Generator | None = None
    ) -> dict[str, Tensor]:
        """ids, mask [B T], patches [n 1+P F], label [B], and each of `places` [B]: its pictures' rows in `patches`."""
        patches, which = self.views.batch(rows, random)
        label = self.labels[torch.as_tensor(np.asarray(rows))]
        named = dict(zip(self.places, which.T, strict=True))
        return {**self.texts.batch(rows), "patches": patches, "label": label, **named}


@dataclass(frozen=True)
class Benchmark:
    """How the three tasks differ."""

    name: TaskName
    stage: str
    """The stage that asks."""
    title: str
    loss: str
    """As the model's forward calls it."""
    kind: type[nn.Module]
    """Of the model; `kind(backbone)` is a new one."""
    new: tuple[str, ...]
    """Names of the parameters that no pre-training knows."""
    question: bool
    """Texts are cleaned as questions are."""
    text: Callable[[Row], str]
    pictures: Callable[[Row], tuple[str, ...]]
    gold: Callable[[Row], Hashable]
    """What is right; None where nobody knows."""
    learnable: Callable[[Row], bool]
    """Whether a model can be taught what is right."""
    group: Callable[[Row], str]
    """What rows stand or fall together by."""
    identifier: Callable[[Row], str]
    examples: Callable[[Sequence[Row], Sentences, Views], Examples]
    say: Callable[[nn.Module, dict[str, Tensor]], Sequence[Said]]
    """What a model says to the rows of a batch."""
    score: Callable[[Sequence[Said], Sequence[Row]], dict[str, float]]
    """`accuracy` and more."""
    max_words_test: int | None = None
    """Words of a text that is asked, where they are not those of training."""
