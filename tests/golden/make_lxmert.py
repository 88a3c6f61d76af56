"""Writes a folder of recorded numbers as `vlpnb verify lxmert` takes it, from invented weights of any size.

    python -m tests.golden.make_lxmert FOLDER

Model, fine-tuning, optimiser and answer heads are computed by `lxmert_reference`, in float64, and stored in float32.
What says nothing of a model (metrics, regions, examples, normalisation) is not made here: `tests/golden/lxmert` holds
what the original itself gave for it. Nothing of the package is used.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from tests.golden import lxmert_reference as reference

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Sizes:
    seed: int = 0
    hidden: int = 24
    heads: int = 3
    ffn: int = 40
    layers: tuple[int, int, int] = (1, 2, 2)
    vocab: int = 60
    positions: int = 22
    feat: int = 10
    objects: int = 7
    attributes: int = 5
    answers: int = 9
    boxes: int = 5
    text: int = 8
    batch: int = 4
    task_answers: int = 6
    length: int = 12  # of the fine-tuned models' text
    steps: int = 15


def random_weights(sizes, new):
    """A full pre-training model: Linear std 1.3/√fan_in, tables 0.5, biases and norms perturbed."""
    d, f = sizes.hidden, sizes.ffn
    shapes = {
        "bert.embeddings.word_embeddings": (sizes.vocab, d),
        "bert.embeddings.position_embeddings": (sizes.positions, d),
        "bert.embeddings.token_type_embeddings": (2, d),
    }
    norms, linear = ["bert.embeddings.LayerNorm"], {}
    visual = "bert.encoder.visn_fc"
    linear |= {f"{visual}.visn_fc": (d, sizes.feat), f"{visual}.box_fc": (d, 4), "bert.pooler.dense": (d, d)}
    norms += [f"{visual}.visn_layer_norm", f"{visual}.box_layer_norm"]
    for kind, count in zip(("layer", "r_layers", "x_layers"), sizes.layers, strict=True):
        for name in (f"bert.encoder.{kind}.{i}" for i in range(count)):
            looks, thinks = [("attention.self", "attention.output")], [("intermediate", "output")]
            if kind == "x_layers":
                looks = [("visual_attention.att", "visual_attention.output")]
                looks += [(f"{side}_self_att.self", f"{side}_self_att.output") for side in ("lang", "visn")]
                thinks = [(f"{side}_inter", f"{side}_output") for side in ("lang", "visn")]
            for inner, out in looks:
                linear |= {f"{name}.{inner}.{part}": (d, d) for part in ("query", "key", "value")}
                linear[f"{name}.{out}.dense"] = (d, d)
                norms.append(f"{name}.{out}.LayerNorm")
            for inner, out in thinks:
                linear |= {f"{name}.{inner}.dense": (f, d), f"{name}.{out}.dense": (d, f)}
                norms.append(f"{name}.{out}.LayerNorm")
    for name in ("cls.predictions.transform", "obj_predict_head.transform"):
        linear[f"{name}.dense"] = (d, d)
        norms.append(f"{name}.LayerNorm")
    linear["cls.seq_relationship"] = (2, d)
    decoders = {"obj": sizes.objects, "attr": sizes.attributes, "feat": sizes.feat}
    linear |= {f"obj_predict_head.decoder_dict.{name}": (count, d) for name, count in decoders.items()}
    weights = {f"{name}.weight": 0.5 * new(*shape) for name, shape in shapes.items()}
    for name, (outputs, inputs) in linear.items():
        weights[f"{name}.weight"] = 1.3 / inputs**0.5 * new(outputs, inputs)
        weights[f"{name}.bias"] = 0.15 * new(outputs)
    for name in norms:
        width = d
        weights |= {f"{name}.weight": 1 + 0.15 * new(width), f"{name}.bias": 0.15 * new(width)}
    weights["cls.predictions.bias"] = 0.15 * new(sizes.vocab)
    weights |= pooled_weights("answer_head.logit_fc", d, 2 * d, sizes.answers, new)
    return {name: rounded(tensor) for name, tensor in weights.items()}


def rounded(tensor):
    """In float64 what is stored in float32."""
    return tensor.float().double()


def pooled_weights(name, inputs, inner, outputs, new):
    return {
        f"{name}.0.weight": 1.3 / inputs**0.5 * new(inner, inputs),
        f"{name}.0.bias": 0.15 * new(inner),
        f"{name}.2.weight": 1 + 0.15 * new(inner),
        f"{name}.2.bias": 0.15 * new(inner),
        f"{name}.3.weight": 1.3 / inner**0.5 * new(outputs, inner),
        f"{name}.3.bias": 0.15 * new(outputs),
    }


class Writer:
    """Tensors in float32 or int64 and JSON, by file."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def tensors(self, name, tensors):
        stored = {
            key: (t.detach().float() if t.is_floating_point() else t).contiguous()
            for key, t in tensors.items()
        }
        save_file(stored, self.folder / f"{name}.safetensors")

    def json(self, name, content):
        (self.folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def record(folder, sizes=Sizes()):
    """Write all files of a folder that follow from these sizes; see above for those that do not."""
    generator, writer = torch.Generator().manual_seed(sizes.seed), Writer(folder)

    def new(*shape):
        return torch.randn(*shape, generator=generator).double()

    weights = random_weights(sizes, new)
    copy = {"cls.predictions.decoder.weight": weights["bert.embeddings.word_embeddings.weight"].clone()}
    writer.tensors("weights_pretraining", weights | copy)
    words = [
        f"{'bcdfghklmnprstvwz'[i % 17]}{'aeiou'[i // 17 % 5]}{'xyq'[i // 85]}" for i in range(sizes.vocab - 5)
    ]
    (writer.folder / "vocab.txt").write_text("\n".join([*SPECIAL, *words]) + "\n", encoding="utf-8")
    write_pretraining(writer, sizes, weights, new, generator)
    for task in ("vqa", "nlvr2"):
        write_task(writer, sizes, weights, new, generator, task, words)
    write_optimiser(writer, sizes, new)
    write_answers(writer, sizes, weights)
    write_text(writer, sizes, words)


def ragged(lengths, width):
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def recorded_gradients(values, loss):
    names = list(values)
    found = torch.autograd.grad(loss, [values[name] for name in names], allow_unused=True)
    return dict(zip(names, found, strict=True))


def write_pretraining(writer, sizes, weights, new, generator):
    def below(limit, *shape):
        return torch.randint(0, limit, shape, generator=generator)

    b, t, o = sizes.batch, sizes.text, sizes.boxes
    mask = ragged([t - i % (t - 2) for i in range(b)], t)
    seen = ragged([o - i % (o - 1) for i in range(b)], o)
    given = {
        "input_ids": (below(sizes.vocab - 5, b, t) + 5) * mask,
        "token_type_ids": torch.zeros(b, t, dtype=torch.long),
        "attention_mask": mask,
        "visual_feats": new(b, o, sizes.feat).abs(),
        "visual_pos": torch.rand(b, o, 4, generator=generator).double(),
        "visual_attention_mask": seen,
        "match_labels": below(2, b),
        "qa_labels": below(sizes.answers, b).where(torch.arange(b) > 0, -1),
        "obj_labels": below(sizes.objects, b, o),
        "attr_labels": below(sizes.attributes, b, o),
        "obj_conf": torch.rand(b, o, generator=generator).double(),
        "attr_conf": torch.rand(b, o, generator=generator).double(),
        "feat_mask": (below(3, b, o) == 0).double(),
        "feat_targets": new(b, o, sizes.feat).abs(),
    }
    given["masked_feats"] = given["visual_feats"] * (below(4, b, o, 1) > 0)
    given["obj_labels"][0, 1] = -1
    given["mlm_labels"] = below(sizes.vocab, b, t).where((below(3, b, t) == 0) & (mask == 1), -1)
    given["mlm_labels"][0, 1] = 7
    values = {name: tensor.requires_grad_() for name, tensor in weights.items()}
    every, recorded = torch.ones_like(seen), {f"input.{name}": tensor for name, tensor in given.items()}
    text = given["input_ids"], mask

    def run(features, visual_mask):
        return reference.backbone(
            values, *text, features, given["visual_pos"], visual_mask, sizes.heads, sizes.layers
        )

    out, hidden, maps = run(given["visual_feats"], every)
    recorded |= {f"backbone.{name}": tensor for name, tensor in out.items()}
    recorded |= {f"hidden.{name}": tensor for name, tensor in hidden.items()}
    recorded |= {f"attention.{name}": tensor for name, tensor in maps.items()}
    masked, _, _ = run(given["visual_feats"], seen)
    recorded |= {f"backbone_visual_mask.{name}": tensor for name, tensor in masked.items()}
    scores = reference.heads_of(values, run(given["masked_feats"], every)[0])
    recorded |= {f"head.{name}": tensor for name, tensor in scores.items()}
    losses = reference.losses(scores, given)
    gradients = recorded_gradients(values, losses["total"])
    recorded |= {f"grad.{name}": gradients[name] for name in list(gradients)[::3]}
    writer.tensors("pretraining", recorded)
    norms = {name: gradient.norm().item() for name, gradient in gradients.items()}
    names = (
        "hidden",
        "heads",
        "ffn",
        "vocab",
        "positions",
        "feat",
        "objects",
        "attributes",
        "answers",
        "boxes",
    )
    config = {name: getattr(sizes, name) for name in (*names, "text", "batch")}
    config |= dict(zip(("l_layers", "r_layers", "x_layers"), sizes.layers, strict=True))
    found = {name: loss.item() for name, loss in losses.items()}
    writer.json("pretraining", {
        "config": config | {"vqa_answers": sizes.task_answers},
        "loss": found,
        "loss_float64": found,
        "gradient_norm": norms,
        "global_gradient_norm": sum(norm**2 for norm in norms.values()) ** 0.5,
        "largest_float32_error": {"outputs": 0.0},
        "largest_gradient_element": max(gradient.abs().max().item() for gradient in gradients.values()),
        "exactly_zero_gradients": {"position_table_row_0": True, "token_type_row_0": True, "key_biases": "rounding"},
    })  # fmt: skip


def write_task(writer, sizes, weights, new, generator, task, words):
    """VQA or NLVR2: a head, sentences, scores, losses, gradients."""
    pairs, b, d = 1 + (task == "nlvr2"), sizes.batch, sizes.hidden
    head = pooled_weights("logit_fc", pairs * d, 2 * d, 2 if pairs == 2 else sizes.task_answers, new)
    values = {
        f"lxrt_encoder.model.{n}": t.detach() for n, t in weights.items() if n.startswith("bert.")
    } | head
    values = {name: tensor.clone().requires_grad_() for name, tensor in values.items()}
    bare = {name.removeprefix("lxrt_encoder.model."): tensor for name, tensor in values.items()}
    sentences = [" ".join(words[(7 * i + j) % len(words)] for j in range(3 + 4 * i)) for i in range(b)]
    pieces = [[words.index(word) + 5 for word in s.split()][: sizes.length - 2] for s in sentences]
    rows = [[2, *of, 3] for of in pieces]
    ids = torch.tensor([row + [0] * (sizes.length - len(row)) for row in rows])
    mask = (ids > 0).long()
    shape = (b, 2, sizes.boxes) if pairs == 2 else (b, sizes.boxes)
    features = new(*shape, sizes.feat).abs()
    boxes = torch.rand(*shape, 4, generator=generator).double()
    flat = features.reshape(-1, sizes.boxes, sizes.feat), boxes.reshape(-1, sizes.boxes, 4)
    text = ids.repeat_interleave(pairs, 0), mask.repeat_interleave(pairs, 0)
    every = torch.ones(len(text[0]), sizes.boxes, dtype=torch.long)
    pooled = reference.backbone(bare, *text, *flat, every, sizes.heads, sizes.layers)[0]["pooled"]
    scores = reference.pooled_head(bare, "logit_fc", pooled.reshape(b, -1))
    recorded = {"input.input_ids": ids, "input.attention_mask": mask, "input.visual_feats": features}
    recorded |= {
        "input.visual_pos": boxes,
        "pooled": pooled,
        "logits": scores,
        "prediction": scores.argmax(1),
    }
    about = {"sentences": sentences, "max_length": sizes.length, "largest_float32_error": {"loss": 0.0}}
    if pairs == 2:
        recorded["input.labels"] = torch.arange(b) % 2
        loss = F.cross_entropy(scores, recorded["input.labels"])
    else:
        targets = torch.rand(b, sizes.task_answers, generator=generator).double()
        recorded["input.targets"] = targets = targets * (torch.arange(b) != 1)[:, None]
        loss = F.binary_cross_entropy_with_logits(scores, targets) * sizes.task_answers
        about["loss_mce"] = (F.cross_entropy(scores, targets.argmax(1)) * sizes.task_answers).item()
    gradients = recorded_gradients(values, loss)
    recorded |= {f"weight.{name}": tensor for name, tensor in head.items()}
    present = {name: gradient for name, gradient in gradients.items() if gradient is not None}
    recorded |= {f"grad.{name}": present[name] for name in list(present)[::5]}
    writer.tensors(task, recorded)
    about |= {"loss": loss.item(), "loss_float64": loss.item()}
    about["gradient_norm"] = {name: gradient.norm().item() for name, gradient in present.items()}
    writer.json(task, about | {"no_gradient": [name for name in gradients if name not in present]})


def write_optimiser(writer, sizes, new):
    start = {
        "x": new(9, 4),
        "y": new(9, 2),
        "w0": new(4, 2),
        "b0": new(2),
        "late0": new(2),
        "unused0": new(2),
    }
    recorded, runs = dict(start), {}
    for name, warmup, total, late_from, clip in (
        ("plain", 0.2, sizes.steps, 0, 1.0),
        ("short", 0.1, sizes.steps - 4, 0, 5.0),
        ("constant", -1, -1, 0, 5.0),
        ("late", 0.3, sizes.steps, 6, 5.0),
    ):

        def rate(step, warmup=warmup, total=total):
            if total < 0:
                return 0.04
            share = step / total
            return 0.04 * (share / warmup if share < warmup else max((1 - share) / (1 - warmup), 0))

        values = {p: start[f"{p}0"].clone() for p in ("w", "b", "late", "unused")}
        state, after, losses, norms = {}, {p: [] for p in values}, [], []
        for step in range(sizes.steps):
            leaves = {p: value.detach().requires_grad_() for p, value in values.items()}
            out = start["x"] @ leaves["w"] + leaves["b"]
            out = out + leaves["late"] if step >= late_from else out
            loss = (out - start["y"]).square().mean() * 3
            gradients = recorded_gradients(leaves, loss)
            size = sum(g.square().sum() for g in gradients.values() if g is not None).sqrt()
            share = min(1.0, clip / (size + 1e-6))
            clipped = {p: None if g is None else g * share for p, g in gradients.items()}
            reference.bert_adam(values, state, clipped, rate, 0.02)
            losses.append(loss.item())
            norms.append(size.item())
            for p, value in values.items():
                after[p].append(value)
        recorded |= {f"{name}.{p}": torch.stack(rows) for p, rows in after.items()}
        runs[name] = {
            "lr": 0.04, "warmup": warmup, "t_total": total, "weight_decay": 0.02, "clip": clip, "scale": 3.0,
            "late_from": late_from, "steps": sizes.steps, "learning_rate": [rate(s) for s in range(sizes.steps)],
            "loss_before_step": losses, "gradient_norm_before_clipping": norms, "largest_float32_error": 0.0,
        }  # fmt: skip
    writer.tensors("optimiser", recorded)
    writer.json("optimiser", {"problem": "as in the recorded folder of the original", "runs": runs})


def write_answers(writer, sizes, weights):
    """A head that starts from the rows of a table; every third label is in no table."""
    table = [f"answer {i}" for i in range(sizes.answers)]
    dsets = [["vqa"] if i % 2 else ["gqa", "vqa"] for i in range(sizes.answers)]
    rows = [(3 * i) % sizes.answers if i % 3 else -1 for i in range(sizes.task_answers)]
    labels = [f"The ANSWER {row}." if row >= 0 else f"other {i}" for i, row in enumerate(rows)]
    name = "answer_head.logit_fc"
    found = torch.tensor([row >= 0 for row in rows])
    head = {
        key.removeprefix("answer_head."): t.detach() for key, t in weights.items() if key.startswith(name)
    }
    for leaf in ("weight", "bias"):
        taken = head[f"logit_fc.3.{leaf}"][torch.tensor(rows)]
        head[f"logit_fc.3.{leaf}"] = taken * found.reshape(-1, *[1] * (taken.ndim - 1))
    writer.tensors("answers", {f"tiny.{key}": tensor for key, tensor in head.items()})
    loaded = int(found.sum())
    tiny = {
        "answers": table, "dsets": dsets, "label2ans": labels, "source_row": rows,
        "printed": f"Loaded {loaded} answers from LXRTQA pre-training and {len(rows) - loaded} not",
        "restricted_table_size": {"gqa": (sizes.answers + 1) // 2, "gqa+vqa": sizes.answers},
    }  # fmt: skip
    writer.json("answers", {"normalise": [["A Dog.", "dog"], ["ten", "10"]], "tiny": tiny})


def write_text(writer, sizes, words):
    sentences = []
    for count in (0, 2, sizes.length):
        pieces = [words[i % len(words)] for i in range(count)][: sizes.length - 2]
        ids = [2, *(words.index(piece) + 5 for piece in pieces), 3]
        rest = [0] * (sizes.length - len(ids))
        sentences.append({
            "text": f" {' '.join(words[i % len(words)] for i in range(count)).upper()} ", "pieces": pieces,
            "input_ids": ids + rest, "attention_mask": [1] * len(ids) + rest, "token_type_ids": [0] * sizes.length,
        })  # fmt: skip
    special = {name: i for i, name in enumerate(SPECIAL)}
    writer.json(
        "text",
        {"vocabulary": "vocab.txt", "max_length": sizes.length, "special": special, "sentences": sentences},
    )


if __name__ == "__main__":
    record(sys.argv[1])
