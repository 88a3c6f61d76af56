"""CCLM held against recorded numbers: `vlpnb verify cclm FOLDER`.

The folder's README tells what each file holds, and its tolerances, which are constants here and in `recorded_model.py`.
Sizes and numbers of cases come from the files. Weights carry the original's names and are opened in the way that opens
the original's own. Here are the towers, losses, gradients and the optimiser; pictures and regions are in
`verify_vision.py`, text in `verify_text.py`, tasks in `verify_tasks.py`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.cclm.config import CclmConfig, parameter_count
from vlpnb.cclm.model import Cclm
from vlpnb.cclm.objectives import CclmPretraining, View, counts
from vlpnb.cclm.original import verify_tasks, verify_text, verify_vision
from vlpnb.cclm.original.names import BUFFERS, COPIES, NEW, NEW_IN_TASKS, learning, original_names, xlmr_names
from vlpnb.cclm.original.recorded_model import GRADIENT, LOSS, OUTPUT, WEIGHTS, pixels, recorded_model
from vlpnb.cclm.original.weights import original_state
from vlpnb.cclm.xvnli import EntailmentModel
from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.recorded import Entries, RecordedFolder
from vlpnb.nn.contrastive import contrastive, negative_weights
from vlpnb.train.optim import learning_rate, new_optimiser, parameter_groups

RATE, PARAMETER = Tolerance(1e-12), Tolerance(2e-7)
ROUNDING = Tolerance(5e-7)  # of the distance between two optimisers in float32
SHARE = Tolerance(1e-6)
SIZES = {  # of config.json → ours
    "hidden": "hidden", "heads": "heads", "ffn": "ffn", "text_layers": "text_layers", "fusion_layers": "fusion_layers",
    "vocab": "vocab_size", "max_positions": "max_positions", "pad_id": "pad_id", "mask_id": "mask_id",
    "layer_norm_eps": "norm_eps", "embed_dim": "width", "temperature": "temperature",
}  # fmt: skip
SWIN_SIZES = {
    "vision_width": "width", "image_res": "image_size", "window_size": "window", "embed_dim": "embed",
    "depths": "depths", "num_heads": "heads", "patch_size": "patch", "mlp_ratio": "mlp_ratio",
    "layer_norm_eps": "norm_eps",
}  # fmt: skip
PARTS = {"itc": "loss_itc", "itm": "loss_itm", "words": "loss_mlm", "boxes": "loss_bbox", "giou": "loss_giou"} | {
    "ttc": "loss_ttc", "ttm": "loss_ttm", "parallel_words": "loss_mlm",
}  # fmt: skip


def sizes(folder: RecordedFolder) -> Iterator[Case]:
    """What the configuration says, against what the weights' shapes told us; and the weights as we would write them."""
    about, model = folder.json("config.json"), recorded_model(folder)
    for name, ours in SIZES.items():
        yield about["model"].case(name, getattr(model.config, ours), Tolerance(relative=1e-5))
    for name, ours in SWIN_SIZES.items():
        yield about["swin"].case(name, getattr(model.config.swin, ours))
    yield about["model"].case("type_vocab", model.embeddings.types.num_embeddings)
    about["model"].leave_out("bos_id", "eos_id", "activation", "position_offset")
    about["swin"].leave_out("qkv_bias")
    pixels(folder, torch.zeros(1, 3, 1, 1, dtype=torch.uint8))  # mean and std are inputs
    recorded, state = folder.tensors(WEIGHTS), original_state(model)
    recorded.leave_out(*BUFFERS)
    state |= {copy: state[first] for copy, first in COPIES.items() if first in state}
    for name, ours in state.items():
        yield recorded.case(name, ours)
    count = sum(p.numel() for p in model.parameters())
    yield Case("config.json", "parameters", sum(parameter_count(model.config).values()), count)


def _views(folder: RecordedFolder, model: Cclm) -> tuple[View, View, View]:
    """The recorded pictures, sentences, and other sentences, with their keys as memory."""
    recorded = folder.tensors("towers.safetensors")
    view = model.pictures(pixels(folder, recorded["image_u8"]))
    found = [View(view, model.image_vector(view), None, model.memory_keys(view))]
    for name in ("text", "text2"):
        mask = recorded[f"{name}_mask"].bool()
        states = model.text(recorded[f"{name}_ids"], mask)
        found.append(View(states, model.text_vector(states), mask, model.memory_keys(states)))
    return tuple(found)


@torch.no_grad()
def towers(folder: RecordedFolder) -> Iterator[Case]:
    """Pictures, sentences, and sentences read with either as memory: the plain way, and with keys made before."""
    recorded, model = folder.tensors("towers.safetensors"), recorded_model(folder)
    picture, text, other = _views(folder, model)
    seen = recorded["memory_mask"].bool()
    yield recorded.case("embeddings", model.embed(recorded["text_ids"]), OUTPUT)
    for name, view in (("vision", picture), ("text", text), ("text2", other)):
        yield recorded.case(name, view.states, OUTPUT)
        yield recorded.case(f"{name}_vector", view.vectors, OUTPUT)
    yield recorded.case("all_layers_no_memory", model.fuse(text.states, text.mask), OUTPUT)
    asked = {
        "fusion_image": (text, picture, None),
        "fusion_image_masked": (text, picture, seen),
        "fusion_text2_given_text": (other, text, text.mask),
    }
    for name, (sentence, memory, mask) in asked.items():
        first = torch.zeros(len(sentence.states), 1, dtype=torch.long)
        plain = model.fuse(sentence.states, sentence.mask, memory.states, mask)
        cached = model.fuse(sentence.states, sentence.mask, cached=memory.keys, memory_mask=mask)
        rows = model.fuse(sentence.states, sentence.mask, memory.states, mask, places=first)
        yield recorded.case(name, plain, OUTPUT)
        yield recorded.case(name, cached, OUTPUT)
        yield Case(recorded.file.name, f"{name}, position 0 alone", rows, recorded[name][:, :1], OUTPUT)


def contrast(folder: RecordedFolder) -> Iterator[Case]:
    """The contrastive loss with and without identities, and its gradients."""
    recorded, losses = folder.tensors("losses.safetensors"), folder.json("losses.json")["losses"]
    tau = folder.json("config.json")["model"]["temperature"]
    for kind, identity in (("plain", None), ("ids", recorded["itc_ids"])):
        f, g = (recorded[f"itc_{name}"].clone().requires_grad_() for name in ("image", "text"))
        temperature = torch.tensor(tau, requires_grad=True)
        loss = contrastive(f, g, temperature, identity) / len(f)
        loss.backward()
        yield losses.case(f"itc_{kind}", loss, LOSS)
        yield losses.case(f"itc_{kind}_grad_temperature", temperature.grad, GRADIENT)
        yield recorded.case(f"itc_{kind}_grad_image", f.grad, GRADIENT)
        yield recorded.case(f"itc_{kind}_grad_text", g.grad, GRADIENT)


@torch.no_grad()
def matching(folder: RecordedFolder) -> Iterator[Case]:
    """Weights of hard negatives, and the scores and losses of the recorded draws."""
    recorded, losses = folder.tensors("losses.safetensors"), folder.json("losses.json")["losses"]
    model = recorded_model(folder)
    picture, text, other = _views(folder, model)
    training, tau = CclmPretraining(model).eval(), model.temperature
    rows = len(text.states)
    yield losses.case("itc_of_batch", contrastive(picture.vectors, text.vectors, tau) / rows, LOSS)
    yield losses.case("ttc_of_batch", contrastive(text.vectors, other.vectors, tau) / rows, LOSS)
    asked = {
        "itm_image": (picture, text, None),
        "itm_image_ids": (picture, text, recorded["itm_image_ids_ids"]),
        "ttm": (text, other, None),
    }
    for name, (views, texts, identity) in asked.items():
        to_view = negative_weights(texts.vectors, views.vectors, tau, identity)
        to_text = negative_weights(views.vectors, texts.vectors, tau, identity)
        yield recorded.case(f"{name}_weights_text_to_view", to_view, OUTPUT)
        yield recorded.case(f"{name}_weights_view_to_text", to_text, OUTPUT)
        drawn = recorded[f"{name}_negative_view"], recorded[f"{name}_negative_text"]
        yield recorded.case(f"{name}_logits", training.matches(views, texts, *drawn), OUTPUT)
        found = training.match(name[:3], views, texts, identity, *drawn)
        yield losses.case(name, found[name[:3]] / (3 * rows), LOSS)


@torch.no_grad()
def words(folder: RecordedFolder) -> Iterator[Case]:
    """Masked word pieces guessed with pictures, parts of pictures, other sentences, and nothing as memory."""
    recorded, losses = folder.tensors("losses.safetensors"), folder.json("losses.json")["losses"]
    model = recorded_model(folder)
    picture, text, other = _views(folder, model)
    seen = folder.tensors("towers.safetensors")["memory_mask"].bool()
    places, labels = recorded["masked_positions"], recorded["masked_labels"]
    states = model.text(recorded["masked_ids"], text.mask)
    asked = {
        "mlm_image": (picture.keys, None),
        "mlm_image_masked_memory": (picture.keys, seen),
        "mlm_text": (other.keys, other.mask),
        "tlm_no_memory": (None, None),
    }
    for name, (keys, mask) in asked.items():
        fused = model.fuse(states, text.mask, cached=keys, memory_mask=mask, places=places)
        yield losses.case(name, model.word_head.loss(fused, model.word_weight, labels), LOSS)
        if f"{name}_logits" in recorded:
            yield recorded.case(f"{name}_logits", model.words(fused), OUTPUT)


def _batches(folder: RecordedFolder) -> dict[str, dict[str, Tensor]]:
    """The three kinds of batches, as arguments of `CclmPretraining`."""
    towers, recorded = folder.tensors("towers.safetensors"), folder.tensors("losses.safetensors")
    regions = folder.tensors("regions.safetensors")
    masked = {
        "masked_ids": recorded["masked_ids"],
        "masked_places": recorded["masked_positions"],
        "masked_labels": recorded["masked_labels"],
    }
    text = {"ids": towers["text_ids"], "mask": towers["text_mask"].bool(), **masked}
    drawn = {
        kind: {f"negative_{side}": recorded[f"{kind}_negative_{side}"] for side in ("view", "text")}
        for kind in ("itm_image", "ttm")
    }
    group = regions["group"]
    seen = pixels(folder, towers["image_u8"])
    region = {
        "patches": seen[: int(group.max()) + 1], "group": group, "patch_mask": regions["patch_mask"].bool(),
        "boxes": regions["boxes"], "whole": regions["is_image"].bool(),
    }  # fmt: skip
    pair = {
        **text,
        "other_ids": towers["text2_ids"],
        "other_mask": towers["text2_mask"].bool(),
        **drawn["ttm"],
    }
    return {
        "image_text": {"patches": seen, **text, **drawn["itm_image"]},
        "region_text": {**region, **text, **drawn["itm_image"]},
        "parallel_text": {f"parallel_{name}": value for name, value in pair.items()},
    }


def batches(folder: RecordedFolder) -> Iterator[Case]:
    """Whole batches: every loss, their sum, and the norm of every parameter's gradient."""
    about, model = folder.json("losses.json")["batches"], recorded_model(folder)
    names = original_names(model)
    training = CclmPretraining(model).eval()  # without dropout, and nothing is touched that no loss asks for
    for name, batch in _batches(folder).items():
        entry, targets = about[name], counts(batch)
        model.zero_grad(set_to_none=True)
        means = {loss: total / max(targets[loss], 1) for loss, total in training(**batch).items()}
        for loss, ours in means.items():
            yield entry.case(PARTS[loss], ours, LOSS)
        total = sum(means.values())
        yield entry.case("total", total, LOSS)
        total.backward()
        found = {names[ours]: p.grad for ours, p in model.named_parameters()}
        for theirs in entry["grad_norms"]:
            gradient = found.get(theirs)
            norm = torch.zeros(()) if gradient is None else gradient.norm()
            yield entry["grad_norms"].case(theirs, norm, GRADIENT)
        none = sorted(theirs for theirs, gradient in found.items() if gradient is None)
        yield Case(about.file.name, f"batches.{name}.no_gradient", none, sorted(entry["no_gradient"]))


def gather(folder: RecordedFolder) -> Iterator[Case]:
    """The contrastive gradient of several processes, true and as the original has it (CCL-01).

    Ours is exact, as `tests/nn/test_contrastive.py` shows with processes: one process stands for all.
    """
    recorded, about = folder.tensors("gather.safetensors"), folder.json("gather.json")
    for kind, identity in (("plain", None), ("ids", recorded["ids"])):
        entry, found = about[kind], {}
        for way, encoders in (("", 1.0), ("_faithful", 1 / about["processes"])):
            w, v = (recorded[f"weight_{name}"].clone().requires_grad_() for name in ("x", "y"))
            temperature = torch.tensor(about["temperature"], requires_grad=True)
            f, g = F.normalize(recorded["x"] @ w.T, dim=-1), F.normalize(recorded["y"] @ v.T, dim=-1)
            loss = contrastive(f, g, temperature, identity, encoders=encoders) / len(f)
            loss.backward()
            yield entry.case(f"loss{way}", loss, LOSS)
            yield entry.case(f"grad_temperature{way}", temperature.grad, GRADIENT)
            for name, weight in (("x", w), ("y", v)):
                found[name, way] = weight.grad
                theirs = f"{kind}_grad_weight_{name}{way or '_one_process'}"
                yield recorded.case(theirs, weight.grad, GRADIENT)
        for name in ("x", "y"):
            share = found[name, "_faithful"].norm() / found[name, ""].norm()
            yield entry.case(f"ratio_weight_{name}", share, SHARE)


def groups(folder: RecordedFolder) -> Iterator[Case]:
    """Which parameters decay, and which learn faster (CCL-09)."""
    about, model = folder.json("optimiser.json"), recorded_model(folder)
    yield from _groups(about["pretraining"], model, NEW)
    yield from _groups(about["xvnli_one_process"], EntailmentModel(recorded_model(folder)), NEW_IN_TASKS)
    for part in (model.word_head, model.box_head):
        part.requires_grad_(False)  # a model for retrieval has neither
    yield from _groups(about["retrieval"], model, NEW_IN_TASKS)


def schedule(folder: RecordedFolder) -> Iterator[Case]:
    """Rates of updates, of what is old and of what is new."""
    about = folder.json("optimiser.json")
    slow, _, fast, _ = about["pretraining"]["groups"]
    peak, factor = slow["lr"], fast["lr"] / slow["lr"]
    for name in ("schedule_steps_in_number", "schedule_fraction"):
        entry = about[name]
        total, warmup = entry["total"], entry.get("warmup")
        if warmup is None:
            warmup = int(total * entry["warmup_fraction"])
            yield entry.case("warmup_steps", warmup)
        for value in entry["values"]:
            rate = learning_rate(value["step"], total, peak, warmup, "bert")
            yield value.case("lr", rate, RATE)
            yield value.case("lr_large", rate * factor, RATE)


def _groups(about: Entries, model: nn.Module, new: tuple[str, ...]) -> Iterator[Case]:
    """Decayed or not, slower or faster, in this order: who is in which of the four, and its rate."""
    groups, members = about["groups"], about["members"]
    peak, factor = groups[0]["lr"], groups[2]["lr"] / groups[0]["lr"]
    about.leave_out("betas", "eps")  # inputs of the steps, where they are compared
    factors, spared = learning(model, factor, new, original=True)
    ours = parameter_groups(model, groups[0]["weight_decay"], factors, spared)
    names = {id(p): name for name, p in model.named_parameters()}
    theirs = original_names(model)
    fine_tuned = not any(".bert." in one for names_ in members.below("").values() for one in names_)
    for place, (entry, label) in enumerate(zip(groups, members, strict=True)):
        faster = factor if place >= 2 else 1.0
        decay = groups[0]["weight_decay"] if place % 2 == 0 else 0.0
        mine = [g for g in ours if (g.get("rate_factor", 1.0), g["weight_decay"]) == (faster, decay)]
        params = [p for group in mine for p in group["params"]]
        yield entry.case("weight_decay", decay)
        yield entry.case("lr", peak * faster, RATE)
        yield entry.case("parameters", sum(p.numel() for p in params))
        found = [theirs[names[id(p)]] for p in params]
        found = [one.replace("text_encoder.bert.", "text_encoder.") for one in found] if fine_tuned else found
        recorded = members.case(label, found).recorded
        yield Case(about.file.name, f"{members.prefix}{label}", sorted(found), sorted(recorded))


def adam(folder: RecordedFolder) -> Iterator[Case]:
    """Updates of the original's AdamW (CCL-08), of a tensor that decays, and of one that does not and learns faster."""
    about = folder.json("optimiser.json")["adamw_of_the_reference"]
    starts = {name: torch.tensor(about[f"start_{name}"]) for name in ("decayed", "not_decayed")}
    cut, peak = len(starts["decayed"]), about["lr_decayed"]
    factor = about["lr_not_decayed"] / peak
    last = {}
    for kind in ("transformers_adamw", "adamw"):
        module = nn.ParameterDict({name: nn.Parameter(start.clone()) for name, start in starts.items()})
        steps = new_optimiser(
            kind, module, peak, about["weight_decay"], tuple(about["betas"]), about["eps"],
            factors={"not_decayed": factor}, spared={"not_decayed"},
        )  # fmt: skip
        for step in about["steps"]:
            gradient = torch.tensor(step["gradient"])
            module["decayed"].grad, module["not_decayed"].grad = gradient[:cut], gradient[cut:]
            for group in steps.param_groups:
                group["lr"] = peak * step["lr_factor"] * group.get("rate_factor", 1.0)
            steps.step()
            if kind == "transformers_adamw":
                for name, parameter in module.items():
                    yield step.case(name, parameter.detach().clone(), PARAMETER)
        last[kind] = torch.cat([p.detach() for p in module.values()])
    far = (last["adamw"] - last["transformers_adamw"]).abs().max()
    yield about.case("largest_difference_of_torch_adamw_after_the_last_step", far, ROUNDING)


def initialisation(folder: RecordedFolder) -> Iterator[Case]:
    """Which tensor of XLM-R each begins with, and which are new."""
    about = folder.json("initialisation.json")
    about.leave_out("printed_missing")
    sources: dict[str, Any] = about["layer_from"].below("")
    layers, source = len(sources), max(sources.values()) + 1
    names = {o.removeprefix("text_encoder."): t for o, t in xlmr_names(layers, source).items()}
    found = {o.split(".")[3]: int(t.split(".")[3]) for o, t in names.items() if ".layer." in o}
    yield about.case("layer_from", found)
    yield about.case("never_used_source_layers", sorted(set(range(source)) - set(found.values())))
    for name in about["parameters"]:
        yield about["parameters"].case(name, names.get(name))
    new = about["new_parameters_with_large_lr"]
    text_layers = min(int(name.split(".")[4]) for name in new)
    shape = CclmConfig(
        vocab_size=4, hidden=4, heads=1, ffn=4, text_layers=text_layers, fusion_layers=layers - text_layers,
        image_width=4, width=4,
    )  # fmt: skip
    ours = [one for one in original_names(Cclm(shape)).values() if ".crossattention." in one]
    yield Case(about.file.name, "new_parameters_with_large_lr", sorted(ours), sorted(new))


CHECKS = (
    sizes, towers, contrast, matching, words, batches, gather, groups, schedule, adam, initialisation,
    *verify_vision.CHECKS, *verify_text.CHECKS, *verify_tasks.CHECKS,
)  # fmt: skip
