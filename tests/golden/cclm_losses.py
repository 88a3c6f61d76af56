"""The part of `make_cclm` about learning: losses, gradients, the optimiser, and where a model begins."""

import torch
from torch.nn import functional as F

from tests.golden import cclm_reference as reference
from tests.golden.cclm_reference import BERT, MLM, Model
from tests.golden.make_cclm import HEADS, pixels


def guessed(model, given, memory=None, seen=None):
    """Scores at the masked places, and the mean loss."""
    hidden, places, labels = given.masked
    states = model.fuse(model.text(hidden, given.mask), given.mask, memory, seen)
    scores = model.words(states[torch.arange(len(places))[:, None], places])
    return scores, F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-100)


def matched(model, views, seen, texts, mask, drawn):
    """Scores and mean loss: true pairs, (text, wrong view), (wrong text, view)."""
    own = torch.arange(len(texts))
    v, t = torch.cat([own, drawn["view"], own]), torch.cat([own, own, drawn["text"]])
    fused = model.fuse(texts[t], mask[t], views[v], None if seen is None else seen[v])
    scores = reference.head(model.w, "itm_head", fused)
    labels = (torch.arange(len(t)) < len(own)).long()
    return scores, F.cross_entropy(scores, labels)


def losses(maker, model, given):
    s, tau = maker.sizes, model.w["temp"]
    found, tensors = {}, {}
    f, g = (
        F.normalize(maker.new(2 * s.batch, s.width), dim=1).float().double().requires_grad_()
        for _ in range(2)
    )
    ids = maker.ids(0, s.batch, 2 * s.batch)
    tensors |= {"itc_image": f, "itc_text": g, "itc_ids": ids}
    for kind, identity in (("plain", None), ("ids", ids)):
        t = torch.tensor(s.temperature).double().requires_grad_()
        loss = reference.contrast(f, g, t, identity)
        of_f, of_g, of_t = torch.autograd.grad(loss, [f, g, t])
        found |= {f"itc_{kind}": loss.item(), f"itc_{kind}_grad_temperature": of_t.item()}
        tensors |= {f"itc_{kind}_grad_image": of_f, f"itc_{kind}_grad_text": of_g}
    image, text, other = given.vectors
    same = torch.tensor([0, 1, *[0] * (s.batch - 2)])
    tensors["itm_image_ids_ids"] = same
    asked = {
        "itm_image": (image, given.view, None, text, given.text, given.mask, None),
        "itm_image_ids": (image, given.view, None, text, given.text, given.mask, same),
        "ttm": (text, given.text, given.mask, other, given.other, given.other_mask, None),
    }
    for name, (of_view, views, seen, of_text, texts, mask, identity) in asked.items():
        drawn = given.drawn[name]
        to_view, to_text = (
            reference.negatives(*pair, tau, identity) for pair in ((of_text, of_view), (of_view, of_text))
        )
        scores, found[name] = matched(model, views, seen, texts, mask, drawn)
        tensors |= {
            f"{name}_weights_text_to_view": to_view, f"{name}_weights_view_to_text": to_text,
            f"{name}_negative_view": drawn["view"], f"{name}_negative_text": drawn["text"], f"{name}_logits": scores,
        }  # fmt: skip
    found |= {
        "itc_of_batch": reference.contrast(image, text, tau),
        "ttc_of_batch": reference.contrast(text, other, tau),
    }
    tensors |= dict(zip(("masked_ids", "masked_positions", "masked_labels"), given.masked, strict=True))
    tensors["mlm_image_logits"], found["mlm_image"] = guessed(model, given, given.view)
    found["mlm_image_masked_memory"] = guessed(model, given, given.view, given.seen)[1]
    found["mlm_text"] = guessed(model, given, given.other, given.other_mask)[1]
    found["tlm_no_memory"] = guessed(model, given)[1]
    maker.put("losses.safetensors", **tensors)
    maker.put("losses.json", losses={name: float(value) for name, value in found.items()})


def regions(maker, model, given):
    s, patches = maker.sizes, given.seen.shape[1] - 1
    group = torch.cat([torch.arange(s.groups), maker.ids(0, s.groups, s.batch - s.groups)])
    seen = maker.ids(0, 2, s.batch, 1 + patches).bool()
    seen[:, :2] = True
    whole = torch.zeros(s.batch).bool()
    whole[1] = seen[1, :] = True
    size = torch.rand(s.batch, 2, generator=maker.generator).double() * 0.5 + 0.2
    middle = size / 2 + torch.rand(s.batch, 2, generator=maker.generator).double() * (1 - size)
    boxes = torch.cat([middle, size], 1)
    boxes[1] = torch.tensor([0.5, 0.5, 1.0, 1.0])
    boxes = boxes.float().double()
    given.regions = group, seen, boxes, whole
    full, region, predicted = region_views(model, given)
    a, b = (torch.rand(6, 4, generator=maker.generator).double() * 0.5 + 0.2 for _ in range(2))
    a, b = a.float().double(), b.float().double()
    b[0] = a[0]
    b[1] = torch.tensor([5.0, 5.0, 1.0, 1.0])
    maker.put(
        "regions.safetensors", group=group, patch_mask=seen, boxes=boxes, is_image=whole, full_image=full,
        region=region, region_vector=model.image_vector(region), predicted_boxes=predicted, giou_a=a, giou_b=b,
        giou=reference.giou(a, b),
    )  # fmt: skip
    found = {}
    for suffix, counted in (("", ~whole), ("_all", torch.ones_like(whole))):
        l1, overlap = box_losses(predicted, boxes, counted)
        found |= {f"box_l1{suffix}": l1.item(), f"box_giou{suffix}": overlap.item()}
    maker.put("losses.json", regions=found)


def region_views(model, given):
    group, seen, _, _ = given.regions
    full = model.pictures(pixels(given.images[: int(group.max()) + 1]))[group]
    part = seen[:, 1:, None].double()
    region = torch.cat(
        [(full[:, 1:] * part).sum(1, keepdim=True) / part.sum(1, keepdim=True), full[:, 1:]], 1
    )
    fused = model.fuse(model.text(given.ids, given.mask), given.mask, full)
    return full, region, reference.head(model.w, "bbox_head", fused).sigmoid()


def box_losses(predicted, boxes, counted):
    l1, overlap = (predicted - boxes).abs().sum(1), 1 - reference.giou(predicted, boxes)
    return l1[counted].mean(), overlap[counted].mean()


def batches(maker, w, given):
    found = {}
    for name in ("image_text", "region_text", "parallel_text"):
        leaves = {k: v.clone().requires_grad_() for k, v in w.items()}
        model = Model(leaves, maker.sizes)
        given.read(model)
        image, text, other = given.vectors
        tau, parts = leaves["temp"], {}
        if name == "parallel_text":
            parts["loss_ttc"] = reference.contrast(text, other, tau)
            parts["loss_ttm"] = matched(
                model, given.text, given.mask, given.other, given.other_mask, given.drawn["ttm"]
            )[1]
            parts["loss_mlm"] = guessed(model, given, given.other, given.other_mask)[1]
        else:
            view, seen = given.view, None
            if name == "region_text":
                _, seen, boxes, whole = given.regions
                _, view, predicted = region_views(model, given)
                parts["loss_bbox"], parts["loss_giou"] = box_losses(predicted, boxes, ~whole)
                image = model.image_vector(view)
            parts["loss_itc"] = reference.contrast(image, text, tau)
            parts["loss_itm"] = matched(model, view, seen, given.text, given.mask, given.drawn["itm_image"])[
                1
            ]
            parts["loss_mlm"] = guessed(model, given, view, seen)[1]
        total = sum(parts.values())
        total.backward()
        found[name] = {k: v.item() for k, v in parts.items()} | {
            "total": total.item(),
            "grad_norms": {k: v.grad.norm().item() for k, v in leaves.items() if v.grad is not None},
            "no_gradient": [k for k, v in leaves.items() if v.grad is None],
        }
    maker.put("losses.json", batches=found)


def gather(maker):
    x, y = maker.new(8, 5), maker.new(8, 7)
    a, b = (maker.new(6, n, scale=0.5).requires_grad_() for n in (5, 7))
    ids = maker.ids(0, 5, 8)
    tensors = {"x": x, "y": y, "weight_x": a, "weight_y": b, "ids": ids}
    maker.put("gather.json", temperature=0.25, processes=4)
    for kind, identity in (("plain", None), ("ids", ids)):
        tau = torch.tensor(0.25).double().requires_grad_()
        loss = reference.contrast(F.normalize(x @ a.T, dim=1), F.normalize(y @ b.T, dim=1), tau, identity)
        of_a, of_b, of_tau = torch.autograd.grad(loss, [a, b, tau])
        for name, gradient in (("x", of_a), ("y", of_b)):
            tensors[f"{kind}_grad_weight_{name}_one_process"] = gradient
            tensors[f"{kind}_grad_weight_{name}_faithful"] = gradient / 4
        ours = {"loss": loss.item(), "grad_temperature": of_tau.item()}
        ours |= {f"{name}_faithful": value for name, value in list(ours.items())}
        maker.put("gather.json", **{kind: ours | {"ratio_weight_x": 0.25, "ratio_weight_y": 0.25}})
    maker.put("gather.safetensors", **tensors)


def groups(w, new, peak, factor):
    """Names and sizes of the four groups: decayed or not, of what is old and of what is new."""
    spared = ("bias", "LayerNorm.weight", "norm.weight", "norm1.weight", "norm2.weight")
    members = {"decay, lr": [], "no decay, lr": [], "decay, lr*mult": [], "no decay, lr*mult": []}
    for name in w:
        kind = "no decay" if any(part in name for part in spared) else "decay"
        members[f"{kind}, lr*mult" if any(part in name for part in new) else f"{kind}, lr"].append(name)
    about = [
        {
            "weight_decay": 0.0 if label.startswith("no") else 0.02,
            "lr": peak * (factor if "mult" in label else 1),
            "parameters": sum(w[name].numel() for name in names),
        }
        for label, names in members.items()
    ]  # fmt: skip
    return {"groups": about, "members": members, "betas": [0.9, 0.98], "eps": 1e-8}


def rate(step, total, warmup):
    return step / warmup if step < warmup else max(total - step, 0) / (total - warmup)


def optimiser(maker, w):
    s = maker.sizes
    new = ("crossattention", "temp", *HEADS)
    pretraining = groups(w, new, s.peak, 3.0)
    backbone = {
        k.replace(BERT, "text_encoder."): v for k, v in w.items() if not k.startswith((MLM, "bbox_head"))
    }
    retrieval = groups(backbone, ("cls_head",), s.peak / 2, 3.0)
    plain = {k: v for k, v in backbone.items() if not k.startswith((*HEADS, "temp"))} | maker.head(
        "cls_head", 3
    )
    entailment = groups(plain, ("cls_head",), s.peak / 2, 3.0)
    schedules = {}
    for name, total, warmup in (("schedule_steps_in_number", 40, 7), ("schedule_fraction", 53, 5)):
        values = [
            {
                "step": n,
                "lr": s.peak * rate(n, total, warmup),
                "lr_large": 3 * s.peak * rate(n, total, warmup),
            }
            for n in (0, 1, 4, warmup, warmup + 3, total - 1, total)
        ]
        told = {"warmup": warmup} if "number" in name else {"warmup_fraction": 0.1, "warmup_steps": warmup}
        schedules[name] = {"total": total, **told, "values": values}
    maker.put(
        "optimiser.json",
        pretraining=pretraining,
        retrieval=retrieval,
        xvnli_one_process=entailment,
        **schedules,
    )
    maker.put("optimiser.json", adamw_of_the_reference=steps(maker))


def steps(maker):
    """In float32, as the original: of float64 rounding would come on top."""
    betas, eps, decay, rates = (0.9, 0.97), 1e-7, 0.05, {"decayed": 0.02, "not_decayed": 0.03}
    about = {
        "betas": betas,
        "eps": eps,
        "weight_decay": decay,
        "lr_decayed": 0.02,
        "lr_not_decayed": 0.03,
        "steps": [],
    }
    starts = {"decayed": maker.new(5).float(), "not_decayed": maker.new(3).float()}
    about |= {f"start_{name}": start.tolist() for name, start in starts.items()}
    now = {before: {name: start.clone() for name, start in starts.items()} for before in (False, True)}
    states = {(before, name): {} for before in now for name in starts}
    for factor in (0.0, 0.4, 1.0, 1.0, 0.7):
        gradient = (maker.new(8) * 10.0 ** -maker.ids(1, 6, 8).double()).float()
        for before, parameters in now.items():
            for name, part in zip(starts, gradient.split([5, 3]), strict=True):
                lost = decay if name == "decayed" else 0.0
                reference.adam_step(
                    parameters[name],
                    part,
                    states[before, name],
                    rates[name] * factor,
                    betas,
                    eps,
                    lost,
                    before,
                )
        about["steps"].append(
            {
                "lr_factor": factor,
                "gradient": gradient.tolist(),
                **{k: v.tolist() for k, v in now[False].items()},
            }
        )
    far = max((now[True][name] - now[False][name]).abs().max().item() for name in starts)
    return about | {"largest_difference_of_torch_adamw_after_the_last_step": far}


def initialisation(maker):
    s = maker.sizes
    layers = s.text_layers + s.fusion_layers
    sources = {str(i): 3 * i + 2 for i in range(layers)}  # of a source with three layers to each of ours
    named = {}
    for i, source in sources.items():
        for leaf in (
            "attention.self.query.weight",
            "attention.output.LayerNorm.bias",
            "intermediate.dense.bias",
            "output.dense.weight",
        ):
            named[f"bert.encoder.layer.{i}.{leaf}"] = f"roberta.encoder.layer.{source}.{leaf}"
    named |= {
        "bert.embeddings.word_embeddings.weight": "lm_head.decoder.weight",
        "cls.predictions.bias": "lm_head.bias",
    }
    new = [
        f"{BERT}encoder.layer.{i}.crossattention.{part}.{leaf}"
        for i in range(s.text_layers, layers)
        for part in ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")
        for leaf in ("weight", "bias")
    ]
    unused = [i for i in range(3 * layers) if i % 3 != 2]
    maker.put(
        "initialisation.json",
        layer_from=sources,
        parameters=named,
        new_parameters_with_large_lr=new,
        never_used_source_layers=unused,
    )
