"""Sizes, invented weights and inputs of the recorded folders that `make_vlp` writes. Nothing of the package is used."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.golden import vlp_reference as reference

SMALL = 1e-5  # that the original adds to a number of targets


@dataclass(frozen=True)
class Sizes:
    seed: int = 6
    hidden: int = 24
    layers: int = 2
    heads: int = 3
    ffn: int = 40
    vocab: int = 40
    regions: int = 7
    feat: int = 10
    classes: int = 6
    answers: int = 9
    max_positions: int = 30
    max_text: int = 8
    segments: int = 6
    batch: int = 5
    targets: int = 3
    questions: int = 3
    images: int = 3
    unk: int = 5
    cls: int = 6
    sep: int = 8
    mask: int = 7
    lengths: tuple[int, ...] = (1, 4, 11)
    runs: tuple[tuple, ...] = (
        (2, 0.0, 0, None, ()),
        (3, 0.7, 3, 2, ()),
        (3, -0.4, 0, 3, ()),
        (2, 0.5, 5, 2, (12, 20)),
    )
    """Beam, length bonus, minimum length, blocked n-gram, words that are not blocked."""
    region_rows: int = 6
    updates: int = 12

    @property
    def steps(self):
        return self.max_text

    @property
    def prefix(self):
        return self.regions + 2

    @property
    def length(self):
        return self.prefix + self.max_text + 1


def weights_of(sizes, new):
    """All tensors by the original's names, none with a default value."""
    d, f, tables = sizes.hidden, sizes.ffn, "bert.embeddings"
    rows = {"word": sizes.vocab, "position": sizes.max_positions, "token_type": sizes.segments}
    weights = {f"{tables}.{name}_embeddings.weight": 0.6 * new(count, d) for name, count in rows.items()}
    norms = {f"{tables}.LayerNorm": d, "cls.predictions.transform.LayerNorm": d}
    linear = {
        "bert.pooler.dense": (d, d), "cls.predictions.transform.dense": (d, d),
        "vis_embed.0": (sizes.feat, sizes.feat), "vis_embed.2": (d, sizes.feat),
        "vis_pe_embed.0": (d, sizes.classes + 6), "ans_classifier.0": (2 * d, d),
        "ans_classifier.2": (sizes.answers, 2 * d),
    }  # fmt: skip
    for i in range(sizes.layers):
        name = f"bert.encoder.layer.{i}"
        linear |= {f"{name}.attention.self.{part}": (d, d) for part in ("query", "key", "value")}
        linear |= {f"{name}.attention.output.dense": (d, d), f"{name}.intermediate.dense": (f, d)}
        linear[f"{name}.output.dense"] = (d, f)
        norms |= {f"{name}.attention.output.LayerNorm": d, f"{name}.output.LayerNorm": d}
    for name, (outputs, inputs) in linear.items():
        weights[f"{name}.weight"] = 1.5 / inputs**0.5 * new(outputs, inputs)
        weights[f"{name}.bias"] = 0.2 * new(outputs)
    for name, width in norms.items():
        weights |= {f"{name}.weight": 1 + 0.2 * new(width), f"{name}.bias": 0.2 * new(width)}
    weights["cls.predictions.bias"] = 0.3 * new(sizes.vocab)
    weights["cls.predictions.bias"][sizes.sep] += 2  # texts end now and then
    return {name: tensor.float().double() for name, tensor in weights.items()}


class Writer:
    """Tensors in float32 or integers and JSON, by file."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def tensors(self, name, tensors):
        stored = {
            k: (t.detach().float() if t.is_floating_point() else t).contiguous() for k, t in tensors.items()
        }
        save_file(stored, self.folder / f"{name}.safetensors")

    def json(self, name, content):
        (self.folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def pictures(sizes, count, new):
    return {
        "feat": new(count, sizes.regions, sizes.feat).relu(),
        "vis_pe": new(count, sizes.regions, sizes.classes + 6),
    }


def row_of(sizes, words):
    """[CLS], unknown words for regions, [SEP], the words, [SEP], padding."""
    text = [*words, sizes.sep]
    return [
        sizes.cls,
        *[sizes.unk] * sizes.regions,
        sizes.sep,
        *text,
        *[0] * (sizes.max_text + 1 - len(text)),
    ]


def texts(sizes, modes, generator):
    """Sentences of the modes: ids, lengths, segments and masks."""
    lengths = torch.randint(1, sizes.max_text + 1, (len(modes),), generator=generator)
    words = torch.randint(9, sizes.vocab, (len(modes), sizes.max_text), generator=generator).tolist()
    ids = torch.tensor([row_of(sizes, row[:n]) for row, n in zip(words, lengths.tolist(), strict=True)])
    shape = sizes.prefix, sizes.max_text + 1
    segments = [reference.segments_of(m, n, *shape, 6) for m, n in zip(modes, lengths.tolist(), strict=True)]
    masks = [reference.mask_of(m, n, *shape) for m, n in zip(modes, lengths.tolist(), strict=True)]
    return ids, lengths, torch.stack(segments), torch.stack(masks)


def hidden_words(sizes, ids, lengths, generator):
    """Some words masked; places beyond a row's targets are zero and count nothing."""
    b, k = len(ids), sizes.targets
    found = {
        name: torch.zeros(b, k, dtype=torch.long) for name in ("target_ids", "target_pos", "target_weight")
    }
    ids = ids.clone()
    for row, n in enumerate(lengths.tolist()):
        count = min(n + 1, 1 + row % k)
        for i, place in enumerate(
            (torch.randperm(n + 1, generator=generator)[:count] + sizes.prefix).tolist()
        ):
            found["target_ids"][row, i], found["target_pos"][row, i] = ids[row, place], place
            found["target_weight"][row, i] = 1
            ids[row, place] = sizes.mask
    return ids, found


def norms_and_gradients(leaves, loss, kept):
    """The norm of every gradient (None where there is none), and some of them whole."""
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, retain_graph=True)
    gradients = dict(zip(leaves, found, strict=True))
    norms = {name: None if g is None else g.norm().item() for name, g in gradients.items()}
    whole = [name for name, g in gradients.items() if g is not None][::kept]
    return norms, {f"grad.{name}": gradients[name] for name in whole}
