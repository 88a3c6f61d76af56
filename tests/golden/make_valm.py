"""Writes a folder of recorded numbers as `vlpnb verify valm` takes it, from invented weights of any size.

    python -m tests.golden.make_valm FOLDER

The model, the text tower, the search, the cuts of texts and the optimiser are computed by `valm_reference`, in float64,
and stored in float32. Word pieces, files of ids and prompts are not made here: they hang on published files, and
`tests/golden/valm` holds what the release itself gave for them. Nothing of the package is used.
"""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from tests.golden import valm_reference as reference

LAYER = ("self_attn_layer_norm", "final_layer_norm", "self_attn.img_layer_norm")
UNUSED = ("img_k_proj.weight", "img_v_proj.weight")
CONTEXT = 77


@dataclass(frozen=True)
class Sizes:
    seed: int = 3
    hidden: int = 24
    heads: int = 3
    layers: int = 3
    ffn: int = 40
    vocab: int = 50
    batch: int = 2
    length: int = 11
    images: int = 3
    tower: int = 16
    tower_heads: int = 2
    tower_layers: int = 2
    text: int = 90
    store: int = 60
    updates: int = 8


class Maker:
    def __init__(self, folder, sizes):
        self.folder, self.sizes, self.about = Path(folder), sizes, {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.generator = torch.Generator().manual_seed(sizes.seed)

    def new(self, *shape, scale=1.0):
        """Random numbers that float32 holds exactly, in float64."""
        return (torch.randn(*shape, generator=self.generator) * scale).float().double()

    def half(self, *shape):
        return torch.randn(*shape, generator=self.generator).half()

    def ids(self, least, most, *shape):
        return torch.randint(least, most, shape, generator=self.generator)

    def linear(self, name, outputs, inputs):
        return {
            f"{name}.weight": self.new(outputs, inputs, scale=inputs**-0.5),
            f"{name}.bias": self.new(outputs, scale=0.1),
        }

    def norm(self, name, width):
        return {f"{name}.weight": 1 + self.new(width, scale=0.2), f"{name}.bias": self.new(width, scale=0.2)}

    def layer(self, name, fused):
        d, f = self.sizes.hidden, self.sizes.ffn
        w = {}
        for part in ("q", "k", "v", "out", *(("img_k", "img_v") if fused else ())):
            w |= self.linear(f"{name}self_attn.{part}_proj", d, d)
        for part in LAYER[: 3 if fused else 2]:
            w |= self.norm(name + part, d)
        return w | self.linear(f"{name}fc1", f, d) | self.linear(f"{name}fc2", d, f)

    def tensors(self, name, tensors):
        stored = {
            key: (t.float() if t.dtype == torch.float64 else t).detach().contiguous()
            for key, t in tensors.items()
        }
        save_file(stored, self.folder / f"{name}.safetensors")

    def json(self, name, value):
        (self.folder / f"{name}.json").write_text(json.dumps(value))


def record(folder, sizes=None):
    """All files of the folder that no published file is needed for."""
    maker = Maker(folder, sizes or Sizes())
    write_fusion(maker)
    weights = write_decoder(maker)
    _tower, lm_ids, found = write_tower(maker)
    write_end_to_end(maker, weights, lm_ids, found)
    maker.json("model", maker.about)
    write_chunker(maker)
    write_optimiser(maker)
    return maker.folder


def trained(w):
    return {name: tensor.clone().requires_grad_() for name, tensor in w.items()}


def write_fusion(maker):
    s = maker.sizes
    weights = maker.layer("", True)
    w, heads, scale = trained(weights), s.heads, s.hidden**-0.5
    x = maker.new(s.batch, s.length, s.hidden).requires_grad_()
    images, cotangent = (
        maker.half(s.batch, s.length, s.images, s.hidden),
        maker.new(s.batch, s.length, s.hidden),
    )
    output = reference.layer(w, "", x, images, heads, scale)
    branch, a = reference.attention(w, "self_attn", reference.norm(w, LAYER[0], x), images, heads, scale)
    loss = (output * cotangent).sum()
    loss.backward()
    recorded = {f"param.{name}": tensor for name, tensor in weights.items()}
    recorded |= {f"grad.{name}": t.grad for name, t in w.items() if t.grad is not None}
    recorded |= {
        "x": x, "images": images, "cotangent": cotangent, "output": output, "attention": a, "attention_output": branch,
        "grad.x": x.grad, "output_first_image_only": reference.layer(w, "", x, images[:, :, :1], heads, scale),
        "output_without_images": reference.layer(w, "", x, None, heads, (s.hidden / heads) ** -0.5),
    }  # fmt: skip
    maker.tensors("fusion", recorded)
    maker.about["fusion"] = {
        "D": s.hidden, "H": heads, "E": s.hidden, "B": s.batch, "T": s.length, "K": s.images, "FFN": s.ffn,
        "activation": "gelu (erf)", "norm_eps": 1e-5, "scale": scale,
        "scale_without_images": (s.hidden / heads) ** -0.5,
        "loss": "sum(output * cotangent)", "loss_value": loss.item(), "dropout": "off",
        "parameters_without_gradient": [f"self_attn.{name}" for name in UNUSED],
        "image_attention_mass": a[..., s.length :].sum(-1).mean().item(),
    }  # fmt: skip


def write_decoder(maker):
    s = maker.sizes
    fused = s.layers - 2
    weights = {"decoder.embed_tokens.weight": maker.new(s.vocab, s.hidden, scale=s.hidden**-0.5)}
    weights["decoder.embed_tokens.weight"][reference.PAD] = 0
    for i in range(s.layers):
        weights |= maker.layer(f"decoder.layers.{i}.", i == fused)
    weights |= maker.norm("decoder.layer_norm", s.hidden)
    text = maker.ids(4, s.vocab, s.batch, s.length + 1)
    text[0, s.length // 2] = reference.EOS
    text[:, 0] = reference.EOS
    ids, targets = text[:, :-1].clone(), text[:, 1:].clone()
    kept = s.length - max(1, s.length // 4)
    ids[-1, kept:], targets[-1, kept:] = reference.PAD, reference.PAD
    images = maker.half(s.batch, s.length, s.images, s.hidden)

    w = trained(weights)
    losses = {}
    for name, seen in (("", images), ("_text_only_model", None)):
        states, last = reference.decoder(w, ids, seen, s.layers, s.heads, fused)
        logits = last @ w["decoder.embed_tokens.weight"].T
        each = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=reference.PAD, reduction="none"
        )
        losses[name] = (each.view_as(targets), logits, states)
    each, logits, states = losses[""]
    each.sum().backward()
    gradients = {name: t.grad for name, t in w.items() if t.grad is not None}
    # The table of an embedding gives its row of padding no gradient of the input, as the release's.
    wanted = (
        "decoder.embed_tokens.",
        f"decoder.layers.{fused}.",
        "decoder.layer_norm.",
        "decoder.layers.0.self_attn.q_proj.",
    )
    plain = losses["_text_only_model"]
    recorded = {f"param.{name}": t for name, t in weights.items()}
    recorded |= {f"grad.{name}": t for name, t in gradients.items() if name.startswith(wanted)}
    recorded |= {f"hidden.{i}": t for i, t in enumerate(states)}
    recorded |= {
        "input_ids": ids, "target_ids": targets, "images": images, "positions": reference.positions(ids, s.hidden),
        "logits": logits, "log_probs_of_targets": -each, "logits_text_only_model": plain[1],
        "logits_images_removed_at_test": plain[1].clone(),
    }  # fmt: skip
    maker.tensors("decoder", recorded)
    real = targets != reference.PAD
    mean = (each.sum() / real.sum()).item()
    rows = [(row.sum().item() / math.log(2), int(n)) for row, n in zip(each, real.sum(1), strict=True)]
    total, text_loss = sum(t.numel() for t in weights.values()), plain[0].sum().item()
    extra = 2 * (s.hidden + 1) * s.hidden + 2 * s.hidden  # pictures' matrices, biases and norm
    maker.about["decoder"] = {
        "V": s.vocab, "D": s.hidden, "H": s.heads, "L": s.layers, "FFN": s.ffn, "B": s.batch, "T": s.length,
        "K": s.images, "E": s.hidden, "pad": reference.PAD, "eos": reference.EOS, "fusion_layer": fused,
        "embed_scale": math.sqrt(s.hidden), "first_position": 2, "norm_eps": 1e-5, "loss_sum_nats": each.sum().item(),
        "targets": int(real.sum()), "loss_mean_nats": mean, "loss_mean_bits": mean / math.log(2),
        "perplexity": math.exp(mean), "loss_sum_nats_text_only_model": text_loss,
        "loss_sum_nats_images_removed_at_test": text_loss,
        "rows": [{"tokens": n, "bits": bits, "perplexity": 2 ** (bits / n)} for bits, n in rows],
        "parameters_without_gradient": [f"decoder.layers.{fused}.self_attn.{name}" for name in UNUSED],
        "gradients_of": "sum of nats", "parameters_total": total, "parameters_text_only": total - extra,
    }  # fmt: skip
    return weights


def texts(maker):
    """Ids of the language model: words, separators, ends of texts, padding behind the last text."""
    s = maker.sizes
    ids = maker.ids(300, 45_000, s.batch, s.text)
    marks = torch.tensor([reference.EOS, *(i + reference.OFFSET for i in reference.SEPARATORS[2:])])
    chosen = torch.rand(ids.shape, generator=maker.generator) < 0.05
    ids = torch.where(chosen, marks[maker.ids(0, len(marks), *ids.shape)], ids)
    ids[-1, s.text - 7 :] = reference.PAD
    return ids


def write_tower(maker):
    s, width, out = maker.sizes, maker.sizes.tower, maker.sizes.hidden
    w = {
        "positional_embedding": maker.new(CONTEXT, width, scale=0.3),
        "text_projection": maker.new(width, out),
    }
    for i in range(s.tower_layers):
        name = f"transformer.resblocks.{i}"
        joined = maker.linear("joined", 3 * width, width)
        w |= {
            f"{name}.attn.in_proj_weight": joined["joined.weight"],
            f"{name}.attn.in_proj_bias": joined["joined.bias"],
        }
        w |= maker.linear(f"{name}.attn.out_proj", width, width) | maker.norm(f"{name}.ln_1", width)
        w |= maker.norm(f"{name}.ln_2", width)
        w |= maker.linear(f"{name}.mlp.c_fc", 4 * width, width) | maker.linear(
            f"{name}.mlp.c_proj", width, 4 * width
        )
    w |= maker.norm("ln_final", width)
    lm_ids = texts(maker)
    sentences = torch.zeros(3, CONTEXT, dtype=torch.long)
    for row, length in enumerate((4, 19, 75)):
        words = [*maker.ids(300, 45_000, length).tolist(), reference.END]
        sentences[row, : length + 2] = torch.tensor([reference.START, *words])
    used = {reference.START, reference.END, 0, *sentences.flatten().tolist()}
    used |= {i for row in lm_ids.tolist() for i in reference.clip_ids(row)}
    table = torch.zeros(49_408, width, dtype=torch.float64)
    ids = torch.tensor(sorted(used))
    table[ids] = maker.new(len(ids), width)
    whole = w | {"token_embedding": table}
    found, cut = reference.queries(whole, lm_ids, s.tower_heads, s.tower_layers)
    vectors = []
    for row in sentences:
        end = int((row == reference.END).nonzero()[0])
        vectors.append(reference.tower(whole, row[: end + 1], s.tower_heads, s.tower_layers)[-1])
    vectors = torch.stack(vectors)
    maker.tensors("text_tower", {f"param.{name}": t for name, t in w.items()} | {
        "token_embedding_ids": ids, "token_embedding_rows": table[ids], "lm_ids": lm_ids, "queries": found,
        "sentence_ids": sentences, "sentence_vectors": vectors / vectors.norm(dim=-1, keepdim=True),
    })  # fmt: skip
    maker.about["text_tower"] = {
        "width": width, "heads": s.tower_heads, "layers": s.tower_layers, "context": CONTEXT, "E": out,
        "activation": "quick_gelu: x * sigmoid(1.702 x)", "norm_eps": 1e-5, "chunk_lengths": cut,
        "start": reference.START, "end": reference.END, "padding": 0,
        "lm_offset": reference.OFFSET, "T": s.text, "hf_max_difference": 0,
    }  # fmt: skip
    return whole, lm_ids, found


def write_end_to_end(maker, weights, lm_ids, found):
    s = maker.sizes
    fused = s.layers - 2
    keys = (maker.new(s.store, s.hidden) * (1 + maker.new(s.store, 1).abs())).half()
    scores, rows = (found @ keys.double().T).topk(s.images)
    unit = F.normalize(keys.double(), dim=-1)
    rows_unit = (found @ unit.T).topk(s.images)[1]
    ids = torch.tensor(sorted({*lm_ids.flatten().tolist(), reference.EOS} - {reference.PAD}))
    table = torch.zeros(49_412, s.hidden, dtype=torch.float64)
    table[ids] = maker.new(len(ids), s.hidden, scale=s.hidden**-0.5)
    w = {name: t for name, t in weights.items() if "embed_tokens" not in name} | {
        "decoder.embed_tokens.weight": table
    }
    found_logits = {}
    for name, images in (("", keys[rows]), ("_self", found[:, :, None])):
        last = reference.decoder(w, lm_ids, images, s.layers, s.heads, fused)[1]
        found_logits[name] = last @ table.T
    nats = {}
    for name, logits in found_logits.items():
        targets = lm_ids[:, 1:]
        log_probs = logits[:, :-1].log_softmax(-1)
        nats[name] = -log_probs.gather(2, targets[..., None])[..., 0]
    real = lm_ids[:, 1:] != reference.PAD
    maker.tensors("end_to_end", {
        "lm_ids": lm_ids, "store_keys": keys, "store_ids": torch.randperm(s.store, generator=maker.generator)[:, None],
        "rows": rows, "scores": scores, "rows_normalised_keys": rows_unit, "embed_ids": ids, "embed_rows": table[ids],
        "logits_of_embed_ids": found_logits[""][..., ids], "logits_self_of_embed_ids": found_logits["_self"][..., ids],
        "log_probs_of_next": -nats[""],
    })  # fmt: skip
    ordered = (found @ keys.double().T).topk(s.images + 1)[0]
    maker.about["end_to_end"] = {
        "V": 49_412, "N": s.store, "E": s.hidden, "K": s.images, "layers_from": "decoder.safetensors",
        "mean_nats_of_next": nats[""][real].mean().item(), "mean_nats_of_next_self": nats["_self"][real].mean().item(),
        "targets": int(real.sum()), "smallest_score_gap": (ordered[..., :-1] - ordered[..., 1:]).min().item(),
        "rows_differ_between_raw_and_unit_keys": (rows != rows_unit).double().mean().item(),
    }  # fmt: skip


def write_chunker(maker):
    items = []
    for length in (0, 1, 75, 76, 150, 151, 200, 333):
        ids = maker.ids(300, 45_000, length)
        marks = torch.tensor(reference.SEPARATORS)[maker.ids(0, len(reference.SEPARATORS), length)]
        ids = torch.where(torch.rand(length, generator=maker.generator) < 0.06, marks, ids).tolist()
        items.append({"clip_ids": ids, "lengths": reference.chunks(ids)})
    maker.json("chunker", {"separators_in_order": reference.SEPARATORS, "longest": 75, "items": items})


def write_optimiser(maker):
    s = maker.sizes
    schedules = []
    for peak, warmup in ((5e-4, 40), (3e-3, 7)):
        steps = (0, 1, warmup - 1, warmup, warmup + 1, 3 * warmup, 1000)
        rates = {str(step): reference.rate_of(step, peak, warmup, 1e-7) for step in steps}
        schedules.append({"peak": peak, "warmup": warmup, "start": 1e-7, "rate": rates})
    betas, eps, decay, clip, peak, warmup = (0.9, 0.98), 1e-8, 0.01, 2.0, 0.02, 3
    shapes = {"weight": (4, 6), "bias": (6,), "norm": (3,)}
    values = {name: maker.new(*shape).float() for name, shape in shapes.items()}
    recorded = {f"start.{name}": t.clone() for name, t in values.items()}
    other = {name: torch.nn.Parameter(t.clone()) for name, t in values.items()}
    peer = torch.optim.AdamW(other.values(), betas=betas, eps=eps, weight_decay=decay)
    means, squares = ({name: torch.zeros_like(t) for name, t in values.items()} for _ in range(2))
    rates, norms = [reference.rate_of(step, peak, warmup, 1e-7) for step in range(s.updates)], []
    for step, rate in enumerate(rates):
        size = {"weight": 2.0 if step % 3 == 0 else 0.05, "bias": 0.1, "norm": 1e-7 if step < 4 else 0.01}
        gradients = {name: (maker.new(*shape) * size[name]).float() for name, shape in shapes.items()}
        total = torch.stack([g.norm() for g in gradients.values()]).norm()
        norms.append(total.item())
        factor = min(1.0, clip / (total.item() + 1e-6))
        for group in peer.param_groups:
            group["lr"] = rate
        for name, gradient in gradients.items():
            recorded[f"grad.{step}.{name}"] = gradient
            other[name].grad = gradient * factor
            reference.adam(
                values[name], means[name], squares[name], gradient * factor, step + 1, rate, betas, eps, decay
            )
            recorded[f"after.{step}.{name}"] = values[name].clone()
        peer.step()
    maker.tensors("adam", recorded)
    far = {name: (values[name] - other[name].detach()).abs().max().item() for name in values}
    maker.json("optimiser", {"schedules": schedules, "adam": {
        "steps": s.updates, "betas": betas, "eps": eps, "weight_decay": decay, "clip": clip, "peak": peak,
        "warmup": warmup, "start": 1e-7, "rates": rates, "gradient_norms_before_clipping": norms,
        "difference_to_torch_adamw": far,
    }})  # fmt: skip


if __name__ == "__main__":
    record(sys.argv[1])
