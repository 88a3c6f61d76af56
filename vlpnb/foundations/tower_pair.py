"""The frozen pair of towers that pictures are looked up with, whichever they are, behind one interface.

Paper: VaLM (Wang et al. 2022, section 2.2): every token asks with its state in CLIP's causal text tower, and pictures
answer with their vectors. A pair is a CLIP (`nn/clip.py`) or the small dual encoder of the course
(`nn/dual_encoder.py`). What the language model reads of a picture need not be its vector in the common space:
`ImageTower.features` are the frozen backbone's for a dual encoder, and CLIP's own vectors, as in the paper, for a CLIP.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from vlpnb.data.fields import field as json_field
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError
from vlpnb.foundations.features import read_backbones
from vlpnb.nn.clip import PAD as CLIP_PAD
from vlpnb.nn.clip_files import load_clip
from vlpnb.nn.dual_encoder import DualEncoder, load_dual_encoder
from vlpnb.nn.text_states import token_states
from vlpnb.text.chunking import LONGEST, other_pieces, same_pieces, sentence_marks, separators_of
from vlpnb.text.clip import MARKS, is_clip
from vlpnb.text.query_texts import Words
from vlpnb.text.tokenizers import encode_lines, load_tokenizer, piece_texts, vocabulary_hash
from vlpnb.text.vocabulary import FIRST_CLIP_ID, PAD, Vocabulary
from vlpnb.vision.transforms import CLIP_MEAN, CLIP_STD, clip_view, to_pixels

ABOUT = "towers.json"  # what the stage `towers` says of its folder
MODEL = "model"


@dataclass(frozen=True)
class TextTower:
    """Texts → unit vectors, one for every token; frozen."""

    net: Callable[[Int[Tensor, "B T"]], Float[Tensor, "B T E"]]
    """Rows of ids → the unit vector of every position."""
    tokenizer: PreTrainedTokenizerFast
    """Makes the ids of texts, without special tokens."""
    start_id: int
    end_id: int
    pad_id: int
    longest: int
    """Tokens of one text, special ones not counted."""
    width: int
    """E, of the common space."""
    name: str
    hash: str
    """Of the pair: equal where vectors can be compared."""
    positions: int
    """Of a batch (`nn.text_states`)."""
    causal: bool = True

    def states(
        self, chunks: Sequence[Int[np.ndarray, " _"] | Sequence[int]]
    ) -> list[Float[np.ndarray, "_ E"]]:
        """The vectors at start, every token and end of each chunk of ids; see `nn.text_states.token_states`."""
        return token_states(
            self.net, chunks, start=self.start_id, end=self.end_id, pad=self.pad_id, longest=self.longest,
            positions=self.positions,
        )  # fmt: skip

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "N E"]:
        """The vector of each text: the state at its end. Longer texts are cut, as CLIP's are."""
        rows = [ids[: self.longest] for ids in encode_lines(self.tokenizer, texts)]
        found = [states[-1] for states in self.states(rows)]
        return np.stack(found) if found else np.empty((0, self.width), np.float32)

    def lookup(self, tokenizer: PreTrainedTokenizerFast) -> Int[np.ndarray, " V"] | None:
        """For every id of a language model's tokenizer the tower's id of the same piece, or None where they differ.

        Special tokens become the end token, padding the tower's; the piece of unknown words stays. A language model has
        CLIP's pieces four ids higher; of the four before them the release forgets two (VAL-41).
        """
        if vocabulary_hash(tokenizer) != vocabulary_hash(self.tokenizer):
            return None
        ids = np.arange(len(tokenizer), dtype=np.int64)
        if is_clip(tokenizer):
            ids[tokenizer.all_special_ids] = self.end_id
            first = np.full(FIRST_CLIP_ID, self.end_id, np.int64)
            first[PAD] = self.pad_id
            return np.concatenate([first, ids])
        ids[[i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]] = self.end_id
        if tokenizer.pad_token_id is not None:
            ids[tokenizer.pad_token_id] = self.pad_id
        return ids


@dataclass(frozen=True)
class ImageTower:
    """Pictures → features, and their vectors in the common space; frozen."""

    net: Callable[[Float[Tensor, "N 3 S S2"]], Float[Tensor, "N F"]]
    """Pixels → features, what a language model reads."""
    project: Callable[[Float[Tensor, "N F"]], Float[Tensor, "N E"]]
    """Features → the common space."""
    prepare: Callable[[Image.Image], Float[Tensor, "3 S S2"]]
    """An RGB picture → pixels as `net` wants them."""
    feature_width: int
    width: int
    name: str
    hash: str
    device: str = "cpu"

    def pixels(self, picture: Image.Image) -> Float[Tensor, "3 S S2"]:
        """One RGB picture as the tower's input."""
        return self.prepare(picture)

    @torch.no_grad()
    def features(self, pixels: Float[Tensor, "N 3 S S2"]) -> Float[Tensor, "N F"]:
        """What is read of the pictures, float32 on the host."""
        return self.net(pixels.to(self.device)).float().cpu()

    @torch.no_grad()
    def joint(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N E"]:
        """Features in the common space, not normalised, float32 on the host."""
        return self.project(features.to(self.device)).float().cpu()

    def encode(self, pixels: Float[Tensor, "N 3 S S2"]) -> Float[Tensor, "N E"]:
        """Pictures as unit vectors of the common space."""
        return F.normalize(self.joint(self.features(pixels)), dim=-1)


@dataclass(frozen=True)
class Towers:
    """A pair of towers of one common space."""

    text: TextTower
    image: ImageTower

    @property
    def name(self) -> str:
        """Of the pair."""
        return self.text.name

    @property
    def hash(self) -> str:
        """Of the pair."""
        return self.text.hash


def load_towers(folder: str | Path, device: str = "cpu") -> Towers:
    """The frozen towers of a folder of the stage `towers`.

    Raises:
        UserError: the folder is no such folder, or its model is damaged.
    """
    folder = Path(folder)
    about = read_json(folder / ABOUT, "a pair of towers, left by the stage `towers`")
    kind, name, digest = (json_field(about, key, str(folder / ABOUT)) for key in ("kind", "name", "hash"))
    openers = {"dual_encoder": _open_dual_encoder, "clip": _open_clip}
    if kind not in openers:
        raise UserError(f"{folder / ABOUT}: kind is {kind!r}; expected one of {', '.join(openers)}")
    return openers[kind](folder, device, name, digest)


def words_of(vocabulary: Vocabulary, tower: TextTower | None, longest: int = LONGEST) -> Words:
    """How a tower reads the ids of a language model: by its own pieces where they are the same, else as text."""
    words = vocabulary
    marks = tuple(i + words.first for i in sentence_marks(piece_texts(words.tokenizer)))
    if tower is None:
        return Words(words.pad_id, words.end_id, marks, same_pieces(np.arange(words.size)), None)
    lookup = tower.lookup(words.tokenizer)
    if lookup is not None:
        pieces = tower.tokenizer.convert_ids_to_tokens(range(len(tower.tokenizer)))
        separators = separators_of(pieces, tower.end_id, tower.pad_id)
        prefixes = same_pieces(lookup, tower.causal)
        return Words(words.pad_id, words.end_id, marks, prefixes, lookup, separators)

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        return encode_lines(tower.tokenizer, texts)

    prefixes = other_pieces(words.decode, encode, min(longest, tower.longest), tower.causal)
    return Words(words.pad_id, words.end_id, marks, prefixes, None)


def batch_positions(device: str, hidden: int) -> int:
    """Positions of a batch of texts: as many as keep a GPU busy, or as few as a CPU needs, for which more are no gain
    and a single text costs as much as a batch.
    """
    return 8192 if "cuda" in device else 1024 if hidden < 256 else 256


def _frozen(module: nn.Module, device: str) -> nn.Module:
    return module.eval().requires_grad_(False).to(device)


def _open_dual_encoder(folder: Path, device: str, name: str, digest: str) -> Towers:
    model: DualEncoder = _frozen(load_dual_encoder(folder / MODEL), device)
    source = read_backbones(folder)
    backbone = source.open_vision().fuse().to(device)
    view, shape = source.config.eval_views[0], model.config
    text = TextTower(
        lambda ids: model.token_states(ids.to(device)), load_tokenizer(folder / MODEL), shape.start_id, shape.end_id,
        shape.pad_id, shape.longest, shape.width, name, digest, batch_positions(device, shape.hidden),
    )  # fmt: skip
    image = ImageTower(
        backbone, model.image_vectors, lambda picture: backbone.eval_pixels(picture, view), shape.feature_width,
        shape.width, name, digest, device,
    )  # fmt: skip
    return Towers(text, image)


def _open_clip(folder: Path, device: str, name: str, digest: str) -> Towers:
    model = _frozen(load_clip(folder / MODEL), device)
    tokenizer, shape = load_tokenizer(folder / MODEL), model.config
    start, end = (tokenizer.convert_tokens_to_ids(mark) for mark in MARKS)

    def prepare(picture: Image.Image) -> Tensor:
        return to_pixels(clip_view(picture, shape.image_size), CLIP_MEAN, CLIP_STD)

    text = TextTower(
        lambda ids: model.token_states(ids.to(device)), tokenizer, start, end, CLIP_PAD, shape.context - 2,
        shape.width, name, digest, batch_positions(device, shape.hidden),
    )  # fmt: skip
    image = ImageTower(
        model.image_vectors,
        lambda features: features,
        prepare,
        shape.width,
        shape.width,
        name,
        digest,
        device,
    )
    return Towers(text, image)
