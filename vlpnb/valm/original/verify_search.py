"""VaLM's recorded numbers around the model: word pieces, the text tower's queries, the search, and all of it in a row.

Needs CLIP's merges for the word pieces, which lie in the recorded folder or in `data` beside it; without them, and
without the package ftfy for the texts that it repairs, what they are needed for is skipped, which is told.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.recorded import RecordedFolder, published
from vlpnb.nn.clip import END, PAD, START, Clip, ClipConfig
from vlpnb.nn.clip_files import fill, openai_state
from vlpnb.nn.text_states import token_states
from vlpnb.retrieval.nearest import exact_search, nearest
from vlpnb.retrieval.store import VectorStore, write_store
from vlpnb.text.chunking import compat_lengths, separators_of
from vlpnb.text.clip import NAME, WORD_END, byte_symbols, cleaning, clip_tokenizer
from vlpnb.text.tokenizers import encode_lines
from vlpnb.valm.original.recorded_model import recorded_model

OUTPUT = Tolerance(1e-5)
SCORES = Tolerance(1e-5, relative=1e-6)
# In float32 a sum over 49,412 words is rounded so much that recorded logarithms lie up to 5e-5 from those of their own
# scores, which are held to 1e-5.
LOGARITHMS = Tolerance(1e-5, relative=1e-5)
OFFSET, MODEL_END, MODEL_PAD = (
    4,
    2,
    1,
)  # the release's: ids of the model − of CLIP; its end of a text, its padding


@dataclass(frozen=True)
class Pieces:
    """CLIP's word pieces."""

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    pieces: Callable[[Sequence[int]], list[str]]
    size: int


def pieces_of(folder: RecordedFolder) -> Pieces | None:
    """CLIP's word pieces by its published merges; None where they are not here."""
    file = next((f for f in (published(folder, f"vocab/clip/{NAME}{e}") for e in (".gz", "")) if f), None)
    if file is None:
        return None
    tokenizer = clip_tokenizer(file)
    to_byte = {symbol: byte for byte, symbol in zip(_bytes(), byte_symbols(), strict=True)}

    def pieces(ids: Sequence[int]) -> list[str]:
        return tokenizer.convert_ids_to_tokens([int(i) for i in ids])

    def decode(ids: Sequence[int]) -> str:
        spaced = "".join(pieces(ids)).replace(WORD_END, " ")
        read = bytearray(byte for symbol in spaced for byte in ([32] if symbol == " " else [to_byte[symbol]]))
        return read.decode("utf-8", errors="replace")

    return Pieces(lambda text: encode_lines(tokenizer, [text])[0].tolist(), decode, pieces, len(tokenizer))


def _bytes() -> list[int]:
    """The bytes in the order of CLIP's ids: printable ones first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printable + [byte for byte in range(256) if byte not in printable]


def clip_ids(ids: np.ndarray) -> np.ndarray:
    """CLIP's ids of the model's: 4 less. Special ones are CLIP's end of a text (VAL-41), but padding, which is 0."""
    found = np.where(ids < OFFSET, END, ids.astype(np.int64) - OFFSET)
    return np.where(ids == MODEL_PAD, PAD, found)


def separators(folder: RecordedFolder) -> tuple[int, ...]:
    """The ids that the release cuts at; without CLIP's merges the recorded ones."""
    clip = pieces_of(folder)
    if clip is None:
        return tuple(folder.json("chunker.json")["separators_in_order"])
    return separators_of(clip.pieces(range(clip.size)), END, PAD)


def tokenizer(folder: RecordedFolder) -> Iterator[Case]:
    """Word pieces of tricky texts: ids, pieces, and texts again."""
    about, clip = folder.json("tokenizer.json"), pieces_of(folder)
    if clip is None:
        about.skip("CLIP's merges are not here", *about)
        return
    known = {"vocabulary": clip.size, "lm_vocabulary": clip.size + OFFSET, "start": START, "end": END}
    for name, ours in (known | {"lm_offset": OFFSET}).items():
        yield about.case(name, ours)
    for word in about["single_words"]:
        yield about["single_words"].case(word, clip.encode(word))
    left = 0
    for item in about["items"]:
        item.leave_out("huggingface_*")
        text = item["text"]
        if not item["huggingface_agrees"] and cleaning().startswith("none") and _repaired(text):
            item.skip("", "ids", "pieces", "decoded")
            left += 1
            continue
        ids = clip.encode(text)
        yield item.case("ids", ids)
        yield item.case("pieces", " ".join(clip.pieces(ids)))
        yield item.case("decoded", clip.decode(ids))
    if left:
        about.skipped.append(f"{left} texts that ftfy repairs: ftfy is not installed")


def _repaired(text: str) -> bool:
    """Whether ftfy may have something to repair: anything beyond plain letters."""
    return re.search(r"[^\x20-\x7e\n\t]|&", text) is not None


def tower_of(folder: RecordedFolder) -> Clip:
    """The recorded text tower; its image tower is none's."""
    recorded, about = folder.tensors("text_tower.safetensors"), folder.json("model.json")["text_tower"]
    weights = recorded.below("param.")
    width = about["width"]
    config = ClipConfig(
        context=len(weights["positional_embedding"]), hidden=width, layers=about["layers"], heads=about["heads"],
        ffn=len(weights["transformer.resblocks.0.mlp.c_fc.bias"]), width=weights["text_projection"].shape[1],
        image_size=32, patch=32, image_hidden=4, image_layers=(1,), image_heads=1, image_ffn=4,
    )  # fmt: skip
    model = Clip(config)
    table = torch.zeros(config.vocab_size, width)
    table[recorded["token_embedding_ids"]] = recorded["token_embedding_rows"]
    state = openai_state(model) | weights | {"token_embedding.weight": table}
    fill(model, state, 0, Path("text_tower.safetensors"))
    return model


def _states(model: Clip, chunks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Vectors at start, every token and end of each chunk."""
    longest = model.config.context - 2
    return token_states(model.token_states, chunks, start=START, end=END, pad=PAD, longest=longest)


def queries_of(model: Clip, lm_ids: Tensor, marks: tuple[int, ...]) -> tuple[Tensor, list[list[int]]]:
    """A query for each token as the release makes it, and the lengths of its chunks."""
    found, lengths = [], []
    for row in lm_ids.numpy():
        ids = clip_ids(row)
        lengths.append(compat_lengths(ids, marks))
        chunks = np.split(ids, np.cumsum(lengths[-1])[:-1])
        found.append(np.concatenate([states[1:-1] for states in _states(model, chunks)]))
    return torch.from_numpy(np.stack(found)), lengths


def text_tower(folder: RecordedFolder) -> Iterator[Case]:
    """Queries of every token, chunk by chunk, and vectors of whole sentences."""
    recorded, about = folder.tensors("text_tower.safetensors"), folder.json("model.json")["text_tower"]
    model = tower_of(folder)
    config, lm_ids = model.config, recorded["lm_ids"]
    about.leave_out("activation", "hf_max_difference")
    sizes = {
        "width": config.hidden,
        "heads": config.heads,
        "layers": config.layers,
        "context": config.context,
    }
    sizes |= {"E": config.width, "norm_eps": config.text.norm_eps, "start": START, "end": END, "padding": PAD}
    sizes |= {"lm_offset": OFFSET, "T": lm_ids.shape[1]}
    for name, ours in sizes.items():
        yield about.case(name, ours)
    found, lengths = queries_of(model, lm_ids, separators(folder))
    yield about.case("chunk_lengths", lengths)
    yield recorded.case("queries", found, OUTPUT)
    ids = recorded["sentence_ids"]
    texts = [row[1 : int((row == END).nonzero()[0])].numpy() for row in ids]
    ends = np.stack([states[-1] for states in _states(model, texts)])
    yield recorded.case("sentence_vectors", torch.from_numpy(ends), OUTPUT)
    clip = pieces_of(folder)
    if clip is None:
        about.skip("CLIP's merges are not here", "sentences")
    elif "sentences" in about:
        ours = torch.zeros_like(ids)
        for row, text in zip(ours, about["sentences"], strict=True):
            row_ids = [START, *clip.encode(text)[: config.context - 2], END]
            row[: len(row_ids)] = torch.tensor(row_ids)
        yield recorded.case("sentence_ids", ours)


def _stores(keys: Tensor, ids: Tensor, at: Path) -> tuple[VectorStore, VectorStore]:
    """The recorded vectors as they are, and each divided by its length."""
    names = [str(int(i)) for i in ids.flatten()]
    raw = write_store(at / "raw", keys.numpy(), names, "recorded", "recorded", normalised=False)
    unit = F.normalize(keys.float(), dim=-1).numpy()
    return VectorStore(raw.folder, raw=True), write_store(at / "unit", unit, names, "recorded", "recorded")


def end_to_end(folder: RecordedFolder) -> Iterator[Case]:
    """Ids → chunks → queries → search → the model's scores; and the same with the query as the picture."""
    recorded, about = folder.tensors("end_to_end.safetensors"), folder.json("model.json")["end_to_end"]
    about.leave_out("layers_from")
    ids, keys, count = recorded["lm_ids"], recorded["store_keys"], recorded["rows"].shape[2]
    found = queries_of(tower_of(folder), ids, separators(folder))[0]
    flat = found.flatten(0, 1)
    with TemporaryDirectory() as at:
        raw, unit = _stores(keys, recorded["store_ids"], Path(at))
        scores, rows = nearest(exact_search(raw), flat, min(count + 1, len(raw)), len(raw))
        unit_rows = nearest(exact_search(unit), flat, count, len(unit))[1].view(*ids.shape, -1)
        images = raw.gather(rows[:, :count], of="vectors").view(*ids.shape, count, -1)
        names = torch.tensor([[int(name)] for name in raw.ids])
    gap = (scores[:, :-1] - scores[:, 1:]).min()
    rows, scores = (part[:, :count].view(*ids.shape, count) for part in (rows, scores))
    differ = (rows != unit_rows).double().mean()
    yield recorded.case("store_ids", names)
    yield recorded.case("rows", rows)
    yield recorded.case("scores", scores, SCORES)
    yield recorded.case("rows_normalised_keys", unit_rows)
    yield about.case("rows_differ_between_raw_and_unit_keys", differ, OUTPUT)
    yield about.case("smallest_score_gap", gap, OUTPUT)
    for name, ours in {"N": len(keys), "E": keys.shape[1], "K": count}.items():
        yield about.case(name, ours)

    state = folder.tensors("decoder.safetensors").below("param.")
    table = torch.zeros(about["V"], keys.shape[1])
    table[recorded["embed_ids"]] = recorded["embed_rows"]
    lm = recorded_model(folder, {**state, "decoder.embed_tokens.weight": table})
    real, counted = ids != MODEL_PAD, ids[:, 1:] != MODEL_PAD
    yield about.case("V", lm.config.vocab_size)
    yield about.case("targets", int(counted.sum()))
    for name, shown, mean in (
        ("logits_of_embed_ids", images, "mean_nats_of_next"),
        ("logits_self_of_embed_ids", found[:, :, None], "mean_nats_of_next_self"),
    ):
        with torch.no_grad():
            logits = lm.logits(ids, shown)
        ours = logits[:, :-1].double().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        yield Case(
            recorded.file.name, name, logits[..., recorded["embed_ids"]][real], recorded[name][real], OUTPUT
        )
        if shown is images:
            theirs = recorded["log_probs_of_next"][counted]
            yield Case(recorded.file.name, "log_probs_of_next", ours[counted], theirs, LOGARITHMS)
        yield about.case(mean, -ours[counted].mean(), OUTPUT)


CHECKS = (tokenizer, text_tower, end_to_end)
