"""Vokenising sentences, beside the way of the original project.

Ours sorts the sentences of a page by length, batches them under a budget of tokens, projects real tokens only and
searches a whole page at once. The peer goes through the corpus in order, sixteen sentences at a time, padded to the
longest, in transformers, projects and searches every position that is no padding, and drops those of [CLS] and
[SEP] afterwards; its index is faiss flat L2. Both in float32.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import inputs
from benchmarks.measure import Disagreement, Row, compare
from vlpnb.retrieval.faiss_index import build_index
from vlpnb.vokenization.vokeniser import Vokeniser


@dataclass(frozen=True)
class Size:
    """The defaults are the laptop's; the paper's backbone is 12 × 768 and its universe 50,000."""

    tokens: int = 1 << 15  # a page, as the stage takes them
    images: int = 50_000
    shape: inputs.Shape = (6, 512, 8, 2048)
    rounds: int = 3


def ours(vokenise: Vokeniser, sentences: Sequence[Sequence[int]]) -> np.ndarray:
    """Vokens of all tokens, int32 [N]."""
    return vokenise(sentences)


@torch.no_grad()
def peer(
    model: nn.Module, vokenise: Vokeniser, index, sentences: Sequence[Sequence[int]], batch: int = 16
) -> np.ndarray:
    """Vokens of all tokens, int32 [N]."""
    f, words = vokenise.matcher.f, vokenise.matcher.language.tokenizer
    layers, device = vokenise.matcher.language.layers, next(model.parameters()).device
    result = []
    for first in range(0, len(sentences), batch):
        rows = [[words.cls_token_id, *ids, words.sep_token_id] for ids in sentences[first : first + batch]]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [words.pad_token_id] * (longest - len(row)) for row in rows], device=device)
        mask = ids != words.pad_token_id
        states = model(ids, None if mask.all() else mask.long(), output_hidden_states=True).hidden_states
        vectors = f(torch.cat([states[layer] for layer in layers], dim=-1))  # (B, T, d)
        found = torch.from_numpy(index.search(vectors[mask].cpu().numpy(), 1)[1][:, 0])
        for row in found.split([len(row) for row in rows]):
            result.append(row[1:-1])
    return torch.cat(result).numpy().astype(np.int32)


def on_device(index, device: str):
    """A faiss index on the GPU when one is used and this faiss can, else as it is."""
    import faiss

    if "cuda" in device and hasattr(faiss, "StandardGpuResources"):
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    return index


def same_vokens(vokenise: Vokeniser, sentences: Sequence[Sequence[int]]) -> Callable:
    """A check that two arrays of vokens are equal, but for pictures whose scores are equal to rounding (1e-5)."""

    def check(first: np.ndarray, second: np.ndarray) -> str:
        if first.shape != second.shape:
            raise Disagreement(f"{len(first)} vokens beside {len(second)}")
        places = np.flatnonzero(first != second)
        if len(places):
            queries = torch.cat(vokenise.queries(sentences))[places]
            gap = (
                (queries * (vokenise.keys[first[places].tolist()] - vokenise.keys[second[places].tolist()]))
                .sum(1)
                .abs()
            )
            if gap.max() > 1e-5:
                raise Disagreement(
                    f"vokens differ at {len(places)} tokens, by a score of up to {gap.max():.1e}"
                )
        return f"{len(places)} ties among {len(first)} tokens"

    return check


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """One row; the target is the issue's: twice as fast."""
    with tempfile.TemporaryDirectory() as folder:
        words = inputs.tokenizer(Path(folder))
    sentences = inputs.sentences(words, size.tokens)
    language, model = inputs.language_models(size.shape, words)
    vokenise = Vokeniser(inputs.matcher(language).to(device), inputs.unit_rows(size.images, 64, seed=3))
    index, model = on_device(build_index(vokenise.keys, "flat_l2"), device), model.to(device)
    lengths = np.array([len(ids) + 2 for ids in sentences])
    padded = sum(len(part) * part.max() for part in np.split(lengths, range(16, len(lengths), 16)))
    row = compare(
        f"vokenise, {size.shape[0]}L/{size.shape[1]}H, {size.images:,} images",
        lambda: ours(vokenise, sentences),
        lambda: peer(model, vokenise, index, sentences),
        same_vokens(vokenise, sentences),
        rounds=size.rounds,
        device=device,
        target=2.0,
        note=f"the peer's batches are {1 - lengths.sum() / padded:.0%} padding",
    )
    return [row]
