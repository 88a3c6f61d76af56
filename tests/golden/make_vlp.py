"""Writes a folder of recorded numbers as `vlpnb verify vlp` takes it, from invented weights of any size.

    python -m tests.golden.make_vlp FOLDER

The model, its losses, writing, self-critical learning, optimiser and tables are computed by `vlp_reference`, in float64
(totals of a search in float32, as its original adds them), and stored in float32. Metrics and word pieces are not made
here: `tests/golden/vlp` holds what the original itself gave for them. Nothing of the package is used.
"""

import sys

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from tests.golden import vlp_reference as reference
from tests.golden.vlp_cases import (
    SMALL,
    Sizes,
    Writer,
    hidden_words,
    norms_and_gradients,
    pictures,
    row_of,
    texts,
    weights_of,
)
from tests.golden.vlp_writing import write_adaptation, write_decoding_and_scst, write_optimiser


def record(folder, sizes=None):
    """All files of the folder that a model is needed for."""
    sizes = sizes or Sizes()
    generator = torch.Generator().manual_seed(sizes.seed)

    def new(*shape):
        return torch.randn(*shape, generator=generator).float().double()

    writer, weights = Writer(folder), weights_of(sizes, new)
    writer.tensors("weights", weights)
    names = {"vocab", "hidden", "layers", "heads", "ffn", "regions", "feat", "classes", "answers", "max_positions",
             "max_text", "length", "steps", "unk", "cls", "sep", "mask"}  # fmt: skip
    writer.json("config", {name: getattr(sizes, name) for name in names} | {
        "segment_types": sizes.segments, "layer_norm_eps": 1e-5, "activation": "gelu (erf)", "pad": 0,
        "words": [f"word{i}" for i in range(9, sizes.vocab)], "parameters": sum(t.numel() for t in weights.values()),
    })  # fmt: skip
    write_regions(writer, sizes, new, generator)
    write_masks(writer, sizes)
    given = pictures(sizes, sizes.batch, new)
    write_forward(writer, sizes, weights, given, new, generator)
    write_vqa(writer, sizes, weights, given, generator)
    write_decoding_and_scst(writer, sizes, weights, pictures(sizes, sizes.images, new), generator)
    write_optimiser(writer, sizes, new)
    write_adaptation(writer, new)


def write_regions(writer, sizes, new, generator):
    recorded, told = (
        {},
        {"a": "ordinary boxes", "b": "the last box and its score are zero", "c": "one inside out"},
    )
    for name in told:
        corners = torch.rand(sizes.region_rows, 4, generator=generator) * 300
        rest = torch.rand(sizes.region_rows, 2, generator=generator)  # class, score
        boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:], rest], dim=1)
        if name == "b":
            boxes[-1] = 0
        if name == "c":
            boxes[1, 2] = boxes[1, 0] - 5
        classes = (2 * new(sizes.region_rows, sizes.classes)).softmax(-1).float()
        recorded |= {f"{name}.box": boxes, f"{name}.cls": classes.half() if name == "b" else classes}
        recorded[f"{name}.vis_pe"] = reference.geometry(boxes, recorded[f"{name}.cls"])
    half = {name: t for name, t in recorded.items() if t.dtype == torch.float16}
    stored = {name: t.float() for name, t in recorded.items()} | half
    save_file(stored, writer.folder / "regions.safetensors")
    writer.json(
        "regions", {"cases": told, "rows": sizes.region_rows, "classes": sizes.classes, "tolerance": 1e-5}
    )


def write_masks(writer, sizes):
    recorded, sums, shape = {}, {}, (sizes.prefix, sizes.max_text + 1)
    for n in sizes.lengths:
        kept = min(n, sizes.max_text)
        for mode in ("s2s", "bi"):
            name, mask = f"{mode}.{n}", reference.mask_of(mode, kept, *shape)
            recorded |= {
                f"{name}.mask": mask,
                f"{name}.ids": torch.tensor(row_of(sizes, range(10, 10 + kept))),
            }
            recorded[f"{name}.segments"] = reference.segments_of(mode, kept, *shape, 6)
            recorded[f"{name}.segments_two"] = reference.segments_of(mode, kept, *shape, 2)
            sums[name] = mask.sum(1).tolist()
    whole = sizes.prefix + sizes.steps
    recorded["decode.ids"] = torch.tensor(row_of(sizes, ())[: sizes.prefix])
    recorded["decode.mask"] = reference.mask_of("s2s", sizes.steps, sizes.prefix, sizes.steps)
    recorded["decode.positions"] = torch.arange(whole)
    recorded["decode.segments"] = torch.tensor([4] * sizes.prefix + [5] * sizes.steps)
    writer.tensors("masks", recorded)
    writer.json(
        "masks", {"lengths": sizes.lengths, "row_sums": sums, "note": "long ones are cut at the tail"}
    )


def word_losses(w, states, found):
    """Cross entropy at every target's place."""
    places = found["target_pos"][..., None].expand(-1, -1, states.shape[-1])
    scores = reference.words_of(w, states.gather(1, places))
    each = F.cross_entropy(scores.flatten(0, 1), found["target_ids"].flatten(), reduction="none")
    return scores, each.view_as(found["target_ids"]) * found["target_weight"]


def write_forward(writer, sizes, weights, given, new, generator):
    w = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    modes = ["bi" if i % 3 == 1 else "s2s" for i in range(sizes.batch)]
    ids, lengths, segments, mask = texts(sizes, modes, generator)
    ids, found = hidden_words(sizes, ids, lengths, generator)
    seen = reference.projections(w, given["feat"], given["vis_pe"])
    states = reference.backbone(w, ids, segments, seen, mask, sizes.heads)
    scores, losses = word_losses(w, states[-1], found)
    count = found["target_weight"].sum()
    loss = losses.sum() / (count + SMALL)
    norms, gradients = norms_and_gradients(
        {name: t for name, t in w.items() if not name.startswith("ans_")}, loss, 4
    )
    slots = torch.tensor([3 if mode == "s2s" else 0 for mode in modes])
    recorded = {**given, **found, **gradients, "input_ids": ids, "lengths": lengths, "segment_ids": segments}
    recorded |= {
        "mask": mask,
        "task_slot": slots,
        "embedding": states[0],
        "hidden.first_layer": states[1][:2],
    }
    recorded |= {"hidden.last": states[-1], "logits": scores}

    dropped, order = {}, losses.sum(1).argsort()
    for ratio in (0.3, 0.5):
        kept = order[: int(sizes.batch * (1 - ratio))]
        dropped[str(ratio)] = (losses[kept].sum() / (found["target_weight"][kept].sum() + SMALL)).item()
    smoothed = {}
    for smoothing in (0.1, 0.25):
        wanted = torch.full_like(scores, smoothing / (sizes.vocab - 2))
        wanted[..., 0] = 0
        wanted = wanted.scatter(-1, found["target_ids"][..., None], 1 - smoothing)
        each = F.kl_div(scores.log_softmax(-1), wanted, reduction="none").sum(-1)
        smoothed[str(smoothing)] = ((each * found["target_weight"]).sum() / (count + SMALL)).item()

    rows = 2
    ids, lengths, segments, mask = texts(sizes, modes[:rows], generator)
    ids, found = hidden_words(sizes, ids, lengths, generator)
    masked = torch.stack(
        [torch.randperm(sizes.regions, generator=generator)[:2].sort().values + 1 for _ in range(rows)]
    )
    hidden = torch.zeros(rows, sizes.regions + 1).scatter(1, masked, 1)[:, 1:]
    seen = [part[:rows] for part in seen]
    last = reference.backbone(w, ids, segments, seen, mask, sizes.heads, hidden)[-1]
    words = word_losses(w, last, found)[1].sum() / (found["target_weight"].sum() + SMALL)
    pooled = reference.dense(w, "bert.pooler.dense", last[:, 0]).tanh()
    regions = 0.0
    for row in range(rows):
        phi, psi = (part[row, masked[row] - 1] for part in seen)
        chances = ((psi + pooled[row]) @ phi.T).log_softmax(-1)
        regions -= chances.diagonal().mean().item() / rows
    pretext = {**found, "input_ids": ids, "masked_regions": masked, "segment_ids": segments, "mask": mask}
    writer.tensors("forward", recorded | {f"pretext.{name}": tensor for name, tensor in pretext.items()})
    writer.json("forward", {
        "modes": modes, "loss": loss.item(), "grad_norms": norms, "loss_per_target": losses.tolist(),
        "tolerance": {"forward": 1e-5, "logits": 5e-5, "loss": 1e-5, "grad": 1e-5}, "eval_mode": True,
        "loss_drop_worst": dropped, "loss_label_smoothing": smoothed,
        "region_pretext": {"word_loss": words.item(), "region_loss": regions, "modes": modes[:rows]},
    })  # fmt: skip
    write_relaxed(writer, sizes, w, states[-1].detach(), recorded, new)


def write_relaxed(writer, sizes, w, states, given, new):
    """Four slots under one norm."""
    d, name = sizes.hidden, "cls.predictions.transform"
    wide = {"dense.weight": 1.5 / d**0.5 * new(4 * d, d), "dense.bias": 0.2 * new(4 * d)}
    wide |= {"LayerNorm.weight": 1 + 0.2 * new(4 * d), "LayerNorm.bias": 0.2 * new(4 * d)}
    w = w | {f"{name}.{leaf}": tensor for leaf, tensor in wide.items()}
    places = given["target_pos"][..., None].expand(-1, -1, d)
    x = reference.norm(
        w, f"{name}.LayerNorm", F.gelu(reference.dense(w, f"{name}.dense", states.gather(1, places)))
    )
    x = torch.stack(
        [row[:, slot * d : slot * d + d] for row, slot in zip(x, given["task_slot"].tolist(), strict=True)]
    )
    scores = F.linear(x, w["bert.embeddings.word_embeddings.weight"], w["cls.predictions.bias"])
    each = F.cross_entropy(scores.flatten(0, 1), given["target_ids"].flatten(), reduction="none")
    loss = (each.view_as(given["target_ids"]) * given["target_weight"]).sum() / (
        given["target_weight"].sum() + SMALL
    )
    writer.tensors(
        "relaxed_projection", {"logits": scores, **{f"transform.{leaf}": t for leaf, t in wide.items()}}
    )
    writer.json("relaxed_projection", {"loss": loss.item(), "slots": 4, "slot_of_mode": {"s2s": 3, "bi": 0}})


def write_vqa(writer, sizes, weights, given, generator):
    w = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    b = sizes.questions
    ids, lengths, segments, mask = texts(sizes, ["bi"] * b, generator)
    seen = reference.projections(w, given["feat"][:b], given["vis_pe"][:b])
    last = reference.backbone(w, ids, segments, seen, mask, sizes.heads)[-1]
    product = last[:, 0] * last[:, sizes.prefix - 1]
    scores = reference.dense(w, "ans_classifier.2", reference.dense(w, "ans_classifier.0", product).relu())
    targets = (torch.rand(b, sizes.answers, generator=generator) * (torch.arange(sizes.answers) > 0)).double()
    loss = F.binary_cross_entropy_with_logits(scores, targets) * sizes.answers
    norms, gradients = norms_and_gradients(w, loss, 7)
    writer.tensors("vqa_head", {
        "answer_targets": targets, "input_ids": ids, "lengths": lengths, "logits": scores, "mask": mask[:2],
        "prediction": scores[:, 1:].argmax(1) + 1, "product": product, "segment_ids": segments, **gradients,
    })  # fmt: skip
    first = scores.argmax(1).eq(0).nonzero()[:, 0].tolist()
    writer.json("vqa_head", {
        "loss": loss.item(), "word_loss": 0.0, "images": "the first of forward", "grad_norms": norms,
        "index_0_is_best_in": first,
    })  # fmt: skip


if __name__ == "__main__":
    record(sys.argv[1])
