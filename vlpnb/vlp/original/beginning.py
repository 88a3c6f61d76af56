"""How a VLP begins with what another model has learned: BERT, UniLM, another VLP, and the detector's last layer.

Tables are adapted as the original does where the other's have another size:

| table | grows | shrinks |
|---|---|---|
| segments | from 2 rows to 6: 2, 3 and 4 are copies of row 0, row 5 of row 1 | the first rows |
| positions | the old rows are laid again behind themselves | the first rows |
| transform of the word head | from 1 slot to 4: four copies | the slot of the mode |

The original leaves out in silence what does not fit, and leaves as it was what it does not find. Here a file must have
all of the trunk in the model's width and vocabulary; heads and regions may lack, and what is new or left out is told.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlpnb.errors import UserError
from vlpnb.nn.folders import model_folder
from vlpnb.vlp.heads import SLOT
from vlpnb.vlp.model import Vlp, VlpConfig
from vlpnb.vlp.original.names import DECODER, POSITIONS, SEGMENTS, TRANSFORM
from vlpnb.vlp.original.weights import (
    FILES,
    named_tensors,
    our_names,
    read_state,
    refuse_untied,
    some,
)

Mode = Literal["s2s", "bi"]
TRUNK = ("bert.embeddings.", "bert.encoder.")  # what every start must have
TRANSFORM_TENSORS = tuple(
    f"{TRANSFORM}{layer}.{leaf}" for layer in ("dense", "LayerNorm") for leaf in ("weight", "bias")
)


def grow_segments(table: Float[Tensor, "S D"], rows: int) -> Float[Tensor, "N D"]:
    """A segment table of so many rows, 2 → 6 or fewer; UserError for other growth."""
    if rows <= len(table):
        return table[:rows].clone()
    if len(table) != 2 or rows != 6:
        raise UserError(
            f"a segment table of {len(table)} rows cannot become one of {rows}; expected 2 to become 6"
        )
    return table[[0, 1, 0, 0, 0, 1]].clone()


def fit_positions(table: Float[Tensor, "S D"], rows: int) -> Float[Tensor, "N D"]:
    """A position table of so many rows: the first ones, or the old ones again and again."""
    return table.repeat(-(-rows // len(table)), 1)[:rows].clone()


def fit_slots(tensor: Float[Tensor, "S *D"], had: int, slots: int, mode: Mode) -> Float[Tensor, "N *D"]:
    """A tensor of the word head's transform for so many slots: copies of the one, or the mode's of four."""
    if slots == had:
        return tensor.clone()
    if had == 1:
        return tensor.repeat(slots, *[1] * (tensor.ndim - 1))
    return tensor.chunk(had)[SLOT[mode]].clone()


def adapt(
    tensors: Mapping[str, Tensor], config: VlpConfig, mode: Mode
) -> tuple[dict[str, Tensor], list[str]]:
    """A file's tensors with tables of the configuration's sizes, and what was done, in words."""
    adapted, told = dict(tensors), []
    for name, fit, rows, what in (
        (SEGMENTS, grow_segments, config.segments, "segments"),
        (POSITIONS, fit_positions, config.max_positions, "positions"),
    ):
        if name in adapted and len(adapted[name]) != rows:
            told.append(f"{len(adapted[name])} {what} become {rows}")
            adapted[name] = fit(adapted[name], rows)
    wide = adapted.get(TRANSFORM_TENSORS[0])
    had = 1 if wide is None else len(wide) // wide.shape[1]
    if had != config.slots and had in (1, 4) and all(name in adapted for name in TRANSFORM_TENSORS):
        told.append(f"{had} slots of the word head become {config.slots}")
        for name in TRANSFORM_TENSORS:
            adapted[name] = fit_slots(adapted[name], had, config.slots, mode)
    return adapted, told


def start_from(model: nn.Module, name: str | Path, mode: Mode = "s2s", *, regions: bool = True) -> list[str]:
    """Copy into a model, in place, what a file has of it. Returns lines for the log.

    Args:
        model: `Vlp`, `VlpForGeneration` or `VlpForAnswers`.
        name: a folder or a hub name (HuggingFace's BERT, our VLP), or a state dict: UniLM's, the original's, BERT's.
        mode: whose slot is taken of a word head with four.
        regions: take φ and ψ too; False where the source learned from text alone, or saw other regions.
    Raises:
        UserError: the file is absent or damaged, lacks a part of the trunk, or is of another width or vocabulary.
    """
    file = _file_of(name)
    found = read_state(file)
    refuse_untied(found, file)
    tensors, told = adapt(found, model.config, mode)
    if not regions:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("vis_")}
    wanted, ours = named_tensors(model), our_names(model)
    missing = [name for name in wanted if name not in tensors]
    wrong = [
        f"{name} {list(tensors[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors
        and tensors[name].shape != tensor.shape
        and not name.startswith("ans_classifier.2.")
    ]
    if lacking := [name for name in missing if name.startswith(TRUNK)]:
        raise UserError(
            f"{file}: {len(lacking)} tensors of the trunk are missing: {some(lacking)}. Expected a BERT, a UniLM or a "
            f"VLP of at least {model.config.layers} layers, names as in BERT"
        )
    if wrong:
        raise UserError(
            f"{file}: {len(wrong)} tensors have another shape than this VLP: {some(wrong)}. Choose the size and the "
            "tokenizer of that model, and regions of its kind"
        )
    taken = {
        name: tensors[name]
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape == tensor.shape
    }
    model.load_state_dict({**model.state_dict(), **{ours[name]: tensor for name, tensor in taken.items()}})
    left = [name for name in found if name not in taken and name != DECODER]
    lines = [f"starts from {file}: {len(taken)} of {len(wanted)} tensors", *told]
    new = [name for name in wanted if name not in taken]
    lines += [f"stays as it was: {some(new)}"] if new else []
    return lines + ([f"left out of the file: {some(left)}"] if left else [])


def _file_of(name: str | Path) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    folder = model_folder(name)
    path = next((folder / file for file in FILES if (folder / file).is_file()), folder / FILES[0])
    if not path.is_file():
        raise UserError(f"no weights in {folder}: expected {' or '.join(FILES)} in one piece")
    return path


def load_fc7(backbone: Vlp, weights: str | Path, biases: str | Path) -> None:
    """Start the first layer of φ from the detector's second box layer, two pickled arrays (VLP-16), in place.

    Raises:
        UserError: a file is absent, holds anything but one array of numbers, or has another shape.
    """
    layer = backbone.features[0]
    for parameter, file in ((layer.weight, Path(weights)), (layer.bias, Path(biases))):
        array = read_array(file)
        if array.shape != tuple(parameter.shape):
            raise UserError(
                f"{file}: an array of the shape {array.shape}; expected {tuple(parameter.shape)}, from a detector "
                "whose features the store holds"
            )
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(array.astype(np.float32)))


ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("_codecs", "encode"),
}
"""All that a pickled array of numbers needs, of old and new numpy."""


class _Arrays(pickle.Unpickler):
    """Reads arrays, and refuses every other name, so that a file runs no code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_array(file: Path) -> np.ndarray:
    """One pickled array of finite numbers, of Python 2 or 3; nothing else is opened."""
    try:
        with file.open("rb") as stream:
            found = _Arrays(stream, encoding="latin1").load()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error}); expected a pickled array of the detector's layer"
        ) from error
    except Exception as error:  # a damaged pickle may fail in any way
        raise UserError(
            f"{file}: no pickled array ({error}); a file with anything else is not opened"
        ) from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise UserError(f"{file}: expected an array of numbers, found {type(found).__name__}")
    if not np.isfinite(found).all():
        raise UserError(f"{file}: the array holds a NaN or an infinity; expected finite numbers")
    return found
