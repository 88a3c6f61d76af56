"""Writes a folder of recorded numbers as `vlpnb verify cclm` takes it, from invented weights of any size.

    python -m tests.golden.make_cclm FOLDER

Model, losses, gradients, tasks and re-ranking are computed by `cclm_reference` in float64 and stored in float32. What
hangs on no weights (cleaning of text, masking) is not made here: `tests/golden/cclm` holds what the original gave.
Nothing of the package is used.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.golden import cclm_reference as reference
from tests.golden import cclm_vision
from tests.golden.cclm_reference import BERT, MLM, Model

COPIES = {
    f"{MLM}decoder.weight": f"{BERT}embeddings.word_embeddings.weight",
    f"{MLM}decoder.bias": f"{MLM}bias",
}
HEADS = ("vision_proj", "text_proj", "itm_head", "bbox_head")


@dataclass(frozen=True)
class Sizes:
    seed: int = 5
    embed: int = 4
    depths: tuple[int, ...] = (2, 1, 2, 1)
    swin_heads: tuple[int, ...] = (1, 2, 2, 4)
    window: int = 2
    heads: int = 2
    ffn: int = 40
    text_layers: int = 1
    fusion_layers: int = 2
    vocab: int = 61
    width: int = 12
    batch: int = 4
    length: int = 9
    other_length: int = 7
    masked: int = 3
    groups: int = 2
    gallery: int = 6
    answers: int = 9
    temperature: float = 0.13
    peak: float = 3e-4

    @property
    def hidden(self):
        return self.embed * 2 ** (len(self.depths) - 1)

    @property
    def image(self):
        return self.window * 4 * 2 ** (len(self.depths) - 1)


class Maker:
    def __init__(self, folder, sizes):
        self.folder, self.sizes, self.files = Path(folder), sizes, {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.generator = torch.Generator().manual_seed(sizes.seed)

    def new(self, *shape, scale=1.0):
        """Random numbers that float32 holds exactly, in float64."""
        return (torch.randn(*shape, generator=self.generator) * scale).float().double()

    def ids(self, least, most, *shape):
        return torch.randint(least, most, shape, generator=self.generator)

    def linear(self, name, outputs, inputs, bias=True):
        w = {f"{name}.weight": self.new(outputs, inputs, scale=1.5 * inputs**-0.5)}
        return w | ({f"{name}.bias": self.new(outputs, scale=0.1)} if bias else {})

    def norm(self, name, width):
        return {f"{name}.weight": 1 + self.new(width, scale=0.2), f"{name}.bias": self.new(width, scale=0.2)}

    def head(self, name, outputs):
        d = self.sizes.hidden
        return (
            self.linear(f"{name}.0", 2 * d, d)
            | self.norm(f"{name}.1", 2 * d)
            | self.linear(f"{name}.3", outputs, 2 * d)
        )

    def attention(self, name):
        d, w = self.sizes.hidden, {}
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            w |= self.linear(f"{name}.{part}", d, d)
        return w | self.norm(f"{name}.output.LayerNorm", d)

    def weights(self):
        s, d = self.sizes, self.sizes.hidden
        w = cclm_vision.new_swin(s.seed, s.embed, s.depths, s.swin_heads, s.window, s.image)
        w = {f"vision_encoder.{name}": tensor.double() for name, tensor in w.items()}
        tables = {"word": s.vocab, "position": s.length + 3, "token_type": 1}
        w |= {f"{BERT}embeddings.{k}_embeddings.weight": self.new(n, d, scale=0.4) for k, n in tables.items()}
        w |= self.norm(f"{BERT}embeddings.LayerNorm", d)
        for i in range(s.text_layers + s.fusion_layers):
            name = f"{BERT}encoder.layer.{i}"
            w |= self.attention(f"{name}.attention")
            if i >= s.text_layers:
                w |= self.attention(f"{name}.crossattention")
            w |= self.linear(f"{name}.intermediate.dense", s.ffn, d) | self.linear(
                f"{name}.output.dense", d, s.ffn
            )
            w |= self.norm(f"{name}.output.LayerNorm", d)
        w |= self.linear(f"{MLM}transform.dense", d, d) | self.norm(f"{MLM}transform.LayerNorm", d)
        w[f"{MLM}bias"] = self.new(s.vocab, scale=0.3)
        w |= self.linear("vision_proj", s.width, d) | self.linear("text_proj", s.width, d)
        w |= self.head("itm_head", 2) | self.head("bbox_head", 4)
        return w | {"temp": torch.tensor(s.temperature).double()}

    def pictures(self, *shape):
        return torch.randint(256, shape, generator=self.generator).to(torch.uint8)

    def texts(self, rows, length):
        """Ragged: `<s>` … `</s>`, padding; the first is full, and the second too, so that a tie of lengths is there."""
        lengths = self.ids(3, length + 1, rows)
        lengths[:2] = length
        place = torch.arange(length)
        mask = place < lengths[:, None]
        ids = self.ids(4, self.sizes.vocab - 1, rows, length)
        ids = ids.masked_fill(place == 0, 0).masked_fill(place == lengths[:, None] - 1, 2)
        return ids.masked_fill(~mask, 1), mask

    def put(self, file, **entries):
        self.files.setdefault(file, {}).update(entries)

    def write(self):
        for file, entries in self.files.items():
            if file.endswith(".json"):
                (self.folder / file).write_text(json.dumps(entries, indent=1))
                continue
            tensors = {}
            for name, tensor in entries.items():
                tensor = tensor.detach()
                tensor = tensor.long() if tensor.dtype == torch.bool else tensor
                tensors[name] = (
                    (tensor.float() if tensor.is_floating_point() else tensor).contiguous().clone()
                )
            save_file(tensors, self.folder / file)


def pixels(images):
    mean, std = (
        torch.tensor(x, dtype=torch.float32).double()[:, None, None]
        for x in (cclm_vision.MEAN, cclm_vision.STD)
    )
    return (images.double() / 255 - mean) / std


def config(maker):
    s = maker.sizes
    model = {
        "hidden": s.hidden, "heads": s.heads, "ffn": s.ffn, "text_layers": s.text_layers, "vocab": s.vocab,
        "fusion_layers": s.fusion_layers, "max_positions": s.length + 3, "type_vocab": 1, "pad_id": 1, "bos_id": 0,
        "eos_id": 2, "mask_id": s.vocab - 1, "layer_norm_eps": 1e-5, "activation": "gelu (erf)",
        "embed_dim": s.width, "temperature": s.temperature, "position_offset": "0 (faithful)",
    }  # fmt: skip
    swin = {
        "vision_width": s.hidden, "image_res": s.image, "window_size": s.window, "embed_dim": s.embed,
        "depths": list(s.depths), "num_heads": list(s.swin_heads), "patch_size": 4, "mlp_ratio": 4, "qkv_bias": True,
        "layer_norm_eps": 1e-5,
    }  # fmt: skip
    maker.put("config.json", model=model, swin=swin, pixel_mean=cclm_vision.MEAN, pixel_std=cclm_vision.STD)


def weights(maker, w):
    extra = {copy: w[first] for copy, first in COPIES.items()}
    extra[f"{BERT}embeddings.position_ids"] = torch.arange(maker.sizes.length + 3)[None]
    extra["vision_encoder.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4).long()
    extra["vision_encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(1, 4, 4)
    maker.put("weights.safetensors", **w, **extra)


class Inputs:
    """Pictures, sentences and other sentences, and what the towers make of them."""

    def __init__(self, maker, model):
        s = maker.sizes
        self.images = maker.pictures(s.batch, 3, s.image, s.image)
        self.ids, self.mask = maker.texts(s.batch, s.length)
        self.other_ids, self.other_mask = maker.texts(s.batch, s.other_length)
        self.seen = maker.ids(0, 2, s.batch, 1 + (s.image // 4 // 2 ** (len(s.depths) - 1)) ** 2).bool()
        self.seen[:, :2] = True
        self.drawn = {
            kind: {
                side: maker.ids(1, s.batch, s.batch).add(torch.arange(s.batch)) % s.batch
                for side in ("view", "text")
            }
            for kind in ("itm_image", "itm_image_ids", "ttm")
        }
        self.masked = masked(maker, self.ids, self.mask)
        self.read(model)

    def read(self, model):
        self.view = model.pictures(pixels(self.images))
        self.text, self.other = model.text(self.ids, self.mask), model.text(self.other_ids, self.other_mask)
        self.vectors = (
            model.image_vector(self.view),
            model.text_vector(self.text),
            model.text_vector(self.other),
        )


def masked(maker, ids, mask):
    """Ids with some masked, places (0 beyond) and what stood there (−100 beyond)."""
    s = maker.sizes
    hidden, places, labels = (
        ids.clone(),
        torch.zeros(len(ids), s.masked).long(),
        torch.full((len(ids), s.masked), -100),
    )
    for row, real in enumerate(mask.sum(1).tolist()):
        count = min(1 + row % s.masked, real - 1)
        chosen = 1 + torch.randperm(real - 1, generator=maker.generator)[:count]
        places[row, :count], labels[row, :count] = chosen, ids[row, chosen]
        hidden[row, chosen] = torch.where(maker.ids(0, 4, count) > 0, s.vocab - 1, chosen % s.vocab)
    return hidden, places, labels


def towers(maker, model, given):
    fused = {
        "fusion_image": model.fuse(given.text, given.mask, given.view),
        "fusion_image_masked": model.fuse(given.text, given.mask, given.view, given.seen),
        "fusion_text2_given_text": model.fuse(given.other, given.other_mask, given.text, given.mask),
        "all_layers_no_memory": model.fuse(given.text, given.mask),
    }
    names = ("vision_vector", "text_vector", "text2_vector")
    maker.put(
        "towers.safetensors", image_u8=given.images, text_ids=given.ids, text_mask=given.mask,
        text2_ids=given.other_ids,
        text2_mask=given.other_mask, memory_mask=given.seen, vision=given.view, text=given.text, text2=given.other,
        embeddings=reference.embed(model.w, given.ids), **fused, **dict(zip(names, given.vectors, strict=True)),
    )  # fmt: skip


def record(folder, sizes=Sizes()):
    """Write the folder."""
    from tests.golden import cclm_losses, cclm_tasks

    maker = Maker(folder, sizes)
    w = maker.weights()
    with torch.no_grad():
        model = Model(w, sizes)
        config(maker)
        weights(maker, w)
        given = Inputs(maker, model)
        towers(maker, model, given)
        with torch.enable_grad():
            cclm_losses.losses(maker, model, given)
        cclm_losses.regions(maker, model, given)
        with torch.enable_grad():
            cclm_losses.batches(maker, w, given)
            cclm_losses.gather(maker)
        given.read(model)
        cclm_losses.optimiser(maker, w)
        cclm_losses.initialisation(maker)
        cclm_tasks.downstream(maker, w, given)
        cclm_tasks.retrieval(maker, model, given)
    maker.write()
    cclm_vision.record_swin(maker.folder, sizes.seed)
    cclm_vision.record_geometry(maker.folder, sizes.seed)


if __name__ == "__main__":
    record(sys.argv[1])
