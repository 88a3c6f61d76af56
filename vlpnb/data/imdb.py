"""Questions as Pythia's `imdb_<split>.npy` hold them, which VLP fine-tunes on: a numpy array of pickled objects.

Element 0 is a header (`dataset_name`, `version`, `has_answer`), each other one a question: `question_str`,
`question_id`, `image_name`, `feature_path` (its stem is the key of the picture's regions), and `answers`, the ten of
people, unless it is a test set.

A pickle is a program: it can make whoever opens it run anything. So such a file is read only where somebody says that
it is trusted, and even then nothing but numpy's arrays and numbers, and plain containers, texts and numbers, are made.
Differs from the original, which unpickles whatever the file holds. The official JSON of VQA needs none of this.
"""

from __future__ import annotations

import pickle
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from vlpnb.data.fields import as_list, as_object, as_text, field, id_field, one_line, text_field
from vlpnb.data.text_files import require
from vlpnb.data.vqa import VqaExample
from vlpnb.errors import UserError

HOLDS = "questions of Pythia, an array of objects: a header and one object a question"
PLAIN = frozenset({
    ("numpy", "ndarray"), ("numpy", "dtype"),
    *((f"{room}.multiarray", name) for room in ("numpy.core", "numpy._core") for name in ("_reconstruct", "scalar")),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),  # how old protocols spell bytes
})  # fmt: skip


class _Plain(pickle.Unpickler):
    """Makes arrays, numbers, texts and containers, and refuses everything else by name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in PLAIN:
            raise UserError(
                f"it would run {module}.{name}; expected arrays, numbers, texts, lists and dicts alone. Do not use "
                "the file unless you know who made it"
            )
        return super().find_class(module, name)


def read_imdb(path: Path, trusted: bool = False, labelled: bool = False) -> list[VqaExample]:
    """The questions of a file, in order.

    Args:
        trusted: the file may be opened, though it is a pickle.
        labelled: its questions must have answers, as those for training.
    Raises:
        UserError: the file is not trusted, is damaged, holds what is not plain, has no header or says that it has no
            answers where they are needed; or a field of a question is missing or of another type.
    """
    header, rows = _opened(require(Path(path), HOLDS), trusted)
    answered = field(header, "has_answer", f"{path}: [0], the header")
    if not isinstance(answered, bool):
        raise UserError(
            f"{path}: [0], the header: has_answer: expected true or false, found {answered!r:.60}."
        )
    if labelled and not answered:
        raise UserError(
            f"{path}: the header says that the questions have no answers (has_answer), and they are trained on; "
            "expected the file of a split with answers."
        )
    return [_question(row, f"{path}: [{i}]", answered) for i, row in enumerate(rows, start=1)]


def _opened(path: Path, trusted: bool) -> tuple[dict[str, Any], list[Any]]:
    """The header and the other elements, numpy's numbers as Python's."""
    if not trusted:
        raise UserError(
            f"{path}: this file is a pickle, which can run any program when it is opened; expected somebody to answer "
            "for it. Set `trusted: true` beside `questions` if you know who made it, or take VQA's official JSON "
            "(format vqa)."
        )
    try:
        with path.open("rb") as file:
            elements = [_as_python(value) for value in _array(file)]
    except UserError as error:
        raise UserError(f"{path}: {error}.") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle fails in any way
        raise UserError(f"{path}: cannot be read ({error}); expected {HOLDS}. Fetch it again.") from error
    if len(elements) < 2:
        raise UserError(f"{path}: {len(elements)} elements; expected a header and questions.")
    return as_object(elements[0], f"{path}: [0], the header"), elements[1:]


def _array(file: IO[bytes]) -> np.ndarray:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise UserError(f"it has version {version} of numpy's format; expected 1.0 or 2.0")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(file)
    if not kind.hasobject or len(shape) != 1:
        raise UserError(f"it is an array {list(shape)} of {kind}; expected a list of objects")
    values = _Plain(file, encoding="latin1").load()
    if not isinstance(values, np.ndarray) or values.shape != shape:
        raise UserError(f"it promises {shape[0]:,} objects and holds others")
    return values


def _as_python(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_as_python(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): _as_python(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_python(item) for item in value]
    return value


def _question(row: Any, where: str, answered: bool) -> VqaExample:
    name = one_line(text_field(row, "image_name", where), f"{where}.image_name")
    features = text_field(row, "feature_path", where, "")
    key = PurePath(features).stem if features else name
    said = as_list(field(row, "answers", where), f"{where}.answers") if answered else []
    if answered and not said:
        raise UserError(f"{where}.answers: is empty, and the header says that questions have answers.")
    return VqaExample(
        id_field(row, "question_id", where),
        key,
        text_field(row, "question_str", where),
        tuple(as_text(answer, f"{where}.answers[{i}]") for i, answer in enumerate(said)),
    )
