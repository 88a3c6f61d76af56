"""LXMERT held against recorded numbers: `vlpnb verify lxmert FOLDER`.

The folder's README tells what each file holds, and states the tolerances in words; sizes and numbers of cases come
from the files. Weights carry the original's names, and are opened in the ways that open the original's own: its
pre-trained state dict, and its fine-tuned snapshots. What needs no model is in `verify_data.py`.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.recorded import Entries, RecordedFolder
from vlpnb.lxmert.heads import LOSSES, AnsweringModel, LxmertForPretraining, PairModel
from vlpnb.lxmert.model import LxmertOutput
from vlpnb.lxmert.original import verify_data
from vlpnb.lxmert.original.names import Layout, original_name, to_file
from vlpnb.lxmert.original.verify_data import WEIGHTS, tokenised
from vlpnb.lxmert.original.weights import CONFIG, load_model
from vlpnb.nn.losses import IGNORE, answer_loss
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.train.optim import BertAdam, learning_rate

STATES = Tolerance(1e-5)  # hidden states, pooled vectors, maps, scores of small heads
WIDE = Tolerance(5e-5)  # scores of words, up to 14, and gradients, up to 4
NORMS = Tolerance(5e-5, relative=1e-5)  # of gradients: many elements each
LOSS = Tolerance(relative=1e-5)
PARAMETERS = Tolerance(2e-6)  # after each step of the optimiser

VISUAL_FACTOR = 1 / 0.15  # LXM-04
THEIR_LOSSES = dict(zip(LOSSES, ("mlm", "match", "obj", "attr", "feat", "qa"), strict=True))
SIZES = {  # in the folder's config → of our configuration, by HuggingFace's names
    "hidden": "hidden_size", "heads": "num_attention_heads", "ffn": "intermediate_size", "l_layers": "l_layers",
    "r_layers": "r_layers", "x_layers": "x_layers", "vocab": "vocab_size", "positions": "max_position_embeddings",
    "feat": "visual_feat_dim", "objects": "num_object_labels", "attributes": "num_attr_labels",
    "answers": "num_qa_labels",
}  # fmt: skip


def leave_out_the_reference(about: Entries) -> None:
    """How far the reference is from itself in float64, and what it says of its own numbers."""
    about.leave_out("largest_float32_error", "largest_gradient_element")
    if isinstance(error := about.get("largest_float32_error"), Entries):
        error.leave_out("*")


def heads(folder: RecordedFolder) -> int:
    """Attention heads, which tensors do not tell."""
    return folder.json("pretraining.json")["config"]["heads"]


def ignored(labels: Tensor) -> Tensor:
    """Labels whose "none" is below 0, with ours."""
    return labels.where(labels >= 0, IGNORE)


def gradients(model: nn.Module, layout: Layout) -> dict[str, Tensor | None]:
    """By the names of a file."""
    return {to_file(original_name(name), layout): p.grad for name, p in model.named_parameters()}


def pretraining(folder: RecordedFolder) -> Iterator[Case]:
    """The pre-training model: states, maps, scores, losses, and the gradients of their sum."""
    recorded, about = folder.tensors("pretraining.safetensors"), folder.json("pretraining.json")
    model = load_model(folder.path(WEIGHTS), LxmertForPretraining, heads=heads(folder))
    given = recorded.below("input.")
    ids, mask, boxes = given["input_ids"], given["attention_mask"].bool(), given["visual_pos"]
    yield recorded.case("input.token_type_ids", torch.zeros_like(ids))
    ours = {theirs: getattr(model.config, name) for name, theirs in CONFIG.items()}
    sizes = {name: ours[of] for name, of in SIZES.items()}
    sizes |= dict(zip(("batch", "text"), ids.shape, strict=True)) | {"boxes": boxes.shape[1]}
    for name, size in sizes.items():
        yield about["config"].case(name, size)
    about["config"].leave_out("vqa_answers")  # of `vqa`, whose weights tell it

    out = model.backbone(ids, mask, given["visual_feats"], boxes, maps=True)
    yield from states_and_maps(recorded, out)
    masked = given["visual_attention_mask"].bool()
    other = model.backbone(ids, mask, given["visual_feats"], boxes, masked)
    for name in ("text", "visual", "pooled"):
        yield recorded.case(f"backbone.{name}", getattr(out, name), STATES)
        yield recorded.case(f"backbone_visual_mask.{name}", getattr(other, name), STATES)

    out = model.backbone(ids, mask, given["masked_feats"], boxes)
    scores = dict(zip(("obj", "attr", "feat"), model.regions(out.visual), strict=True))
    scores |= {"match": model.match(out.pooled), "qa": model.answers(out.pooled)}
    for name, values in scores.items():
        yield recorded.case(f"head.{name}", values, STATES)
    yield recorded.case("head.mlm", model.word_scores(out.text), WIDE)

    losses = pretraining_losses(model, given)
    for kind in ("loss", "loss_float64"):
        for name, value in losses.items():
            yield about[kind].case(name, value, LOSS)
    losses["total"].backward()
    found = gradients(model, "original")
    yield about.case("gradient_norm", {name: grad.norm().item() for name, grad in found.items()}, NORMS)
    whole = torch.stack([grad.norm() for grad in found.values()]).norm()
    yield about.case("global_gradient_norm", whole.item(), NORMS)
    tables = {"position_table_row_0": "positions", "token_type_row_0": "types"}
    zero = about["exactly_zero_gradients"]
    for name, table in tables.items():
        yield zero.case(name, bool((getattr(model.backbone.embeddings, table).weight.grad[0] == 0).all()))
    zero.leave_out("key_biases")
    for name in recorded.below("grad."):
        yield recorded.case(f"grad.{name}", found[name], WIDE)
    leave_out_the_reference(about)


def states_and_maps(recorded: Entries, out: LxmertOutput) -> Iterator[Case]:
    """Every layer's output and attention maps; both directions of each cross layer."""
    maps, alone = out.maps, {"text": len(out.maps.text), "visual": len(out.maps.visual)}
    for stream, hidden in (("text", out.hidden_text), ("visual", out.hidden_visual)):
        names = [f"{stream}_embedding", *(f"{stream}_layer.{i}" for i in range(alone[stream]))]
        names += [f"cross_layer.{i}.{stream}" for i in range(len(hidden) - len(names))]
        for name, state in zip(names, hidden, strict=True):
            yield recorded.case(f"hidden.{name}", state, STATES)
    named = {"text_layer.{}": maps.text, "visual_layer.{}": maps.visual}
    named |= {"cross_layer.{}.cross.text_to_visual": maps.cross_text}
    named |= {"cross_layer.{}.cross.visual_to_text": maps.cross_visual}
    named |= {"cross_layer.{}.text_self": maps.inner_text, "cross_layer.{}.visual_self": maps.inner_visual}
    for name, layers in named.items():
        for i, attention in enumerate(layers):
            yield recorded.case(f"attention.{name.format(i)}", attention, STATES)


def pretraining_losses(model: LxmertForPretraining, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Means by their names, and their total, as the training loop makes them from our sums."""
    words, answers = ignored(given["mlm_labels"]), ignored(given["qa_labels"])
    sums = model(
        given["input_ids"],
        given["attention_mask"].bool(),
        given["masked_feats"],
        given["visual_pos"],
        word_labels=words,
        matched=given["match_labels"],
        object_ids=given["obj_labels"],
        object_conf=given["obj_conf"],
        attribute_ids=given["attr_labels"],
        attribute_conf=given["attr_conf"],
        targets=given["feat_targets"],
        object_masked=given["feat_mask"].bool(),
        answer=answers,
    )
    regions = given["obj_labels"].numel() / VISUAL_FACTOR
    counts = dict.fromkeys(("objects", "attributes", "features"), regions)
    counts |= {"words": int((words >= 0).sum()), "match": len(words), "answers": int((answers >= 0).sum())}
    means = {THEIR_LOSSES[name]: value / max(counts[name], 1) for name, value in sums.items()}
    return means | {"total": sum(means.values())}


def snapshot(
    folder: RecordedFolder, recorded: Entries, kind: type[AnsweringModel] | type[PairModel]
) -> AnsweringModel | PairModel:
    """The recorded backbone and a recorded head, written as the original's fine-tuning does and read again."""
    state = dict(recorded.below("weight."))
    state |= {
        to_file(name, "fine_tuned"): tensor
        for name, tensor in folder.tensors(WEIGHTS).below("").items()
        if name.startswith("bert.")
    }
    with TemporaryDirectory() as at:
        torch.save(state, Path(at) / "BEST.pth")
        return load_model(Path(at) / "BEST.pth", kind, heads=heads(folder))


def fine_tuned(
    folder: RecordedFolder, recorded: Entries, about: Entries, model: nn.Module, loss: Tensor
) -> Iterator[Case]:
    """What VQA and NLVR2 have in common: their text, and the gradients of their loss."""
    tokenizer = load_tokenizer(folder.path("vocab.txt").parent)
    ids, mask = tokenised(tokenizer, about["sentences"], about["max_length"])
    yield recorded.case("input.input_ids", ids)
    yield recorded.case("input.attention_mask", mask.long())
    for name in ("loss", "loss_float64"):
        yield about.case(name, loss, LOSS)
    loss.backward()
    found = gradients(model, "fine_tuned")
    norms = {name: grad.norm().item() for name, grad in found.items() if grad is not None}
    yield about.case("gradient_norm", norms, NORMS)
    without = {name for name, grad in found.items() if grad is None}
    listed = about["no_gradient"]
    yield about.case("no_gradient", [n for n in listed if n in without] + sorted(without - {*listed}))
    for name in recorded.below("grad."):
        yield recorded.case(f"grad.{name}", found[name], WIDE)
    leave_out_the_reference(about)


def vqa(folder: RecordedFolder) -> Iterator[Case]:
    """A fine-tuned model of answers, the loss of soft targets and that of the best answer (LXM-15)."""
    recorded, about = folder.tensors("vqa.safetensors"), folder.json("vqa.json")
    model, given = snapshot(folder, recorded, AnsweringModel), recorded.below("input.")
    text = given["input_ids"], given["attention_mask"].bool()
    seen = model.backbone.see(given["visual_feats"], given["visual_pos"])
    scores = model.scores(*text, seen)
    yield recorded.case("pooled", model.backbone.read(*text, seen, pooled_only=True).pooled, STATES)
    yield recorded.case("logits", scores, STATES)
    yield recorded.case("prediction", scores.argmax(dim=1))
    targets, count = given["targets"], len(scores)
    best = answer_loss(scores.detach(), targets, "best", empty_is_first=True) / count
    yield about.case("loss_mce", best, LOSS)
    loss = model(*text, given["visual_feats"], given["visual_pos"], targets=targets)["answers"] / count
    yield from fine_tuned(folder, recorded, about, model, loss)


def nlvr2(folder: RecordedFolder) -> Iterator[Case]:
    """A fine-tuned model of pairs of pictures."""
    recorded, about = folder.tensors("nlvr2.safetensors"), folder.json("nlvr2.json")
    model, given = snapshot(folder, recorded, PairModel), recorded.below("input.")
    text = given["input_ids"], given["attention_mask"].bool()
    features, boxes = given["visual_feats"], given["visual_pos"]
    seen = model.backbone.see(features.flatten(0, 1), boxes.flatten(0, 1))
    scores = model.scores(*text, seen)
    yield recorded.case("pooled", model.pooled(*text, seen), STATES)
    yield recorded.case("logits", scores, STATES)
    yield recorded.case("prediction", scores.argmax(dim=1))
    loss = model(*text, features, boxes, label=given["labels"])["pairs"] / len(scores)
    yield from fine_tuned(folder, recorded, about, model, loss)


def optimiser(folder: RecordedFolder) -> Iterator[Case]:
    """Trajectories of BertAdam, with a parameter that joins late and one that never has a gradient (LXM-08).

    In float64: over many steps the rounding of ours would come on top of the reference's.
    """
    recorded, about = folder.tensors("optimiser.safetensors"), folder.json("optimiser.json")
    about.leave_out("problem")
    x, y = recorded["x"].double(), recorded["y"].double()
    for name, run in about["runs"].items():
        leave_out_the_reference(run)
        values = {p: nn.Parameter(recorded[f"{p}0"].double()) for p in ("w", "b", "late", "unused")}
        total, warmup = run["t_total"], max(run["warmup"], 0)  # below 0: none, and a constant rate
        rate = partial(
            learning_rate,
            total=total,
            peak=run["lr"],
            warmup=warmup * max(total, 0),
            schedule="bert" if total > 0 else "constant",
        )
        steps = BertAdam(values.values(), run["lr"], run["weight_decay"], rate=rate)
        after: dict[str, list[Tensor]] = {p: [] for p in values}
        losses, norms = [], []
        for step in range(run["steps"]):
            late = values["late"] if step >= run["late_from"] else 0
            loss = (x @ values["w"] + values["b"] + late - y).square().mean() * run["scale"]
            steps.zero_grad(set_to_none=True)
            loss.backward()
            losses.append(loss.item())
            norms.append(nn.utils.clip_grad_norm_(values.values(), run["clip"]).item())
            steps.step()
            for p, value in values.items():
                after[p].append(value.detach().clone())
        yield run.case("learning_rate", [rate(step) for step in range(run["steps"])], Tolerance(1e-12))
        yield run.case("loss_before_step", losses, LOSS)
        yield run.case("gradient_norm_before_clipping", norms, LOSS)
        for p, rows in after.items():
            yield recorded.case(f"{name}.{p}", torch.stack(rows), PARAMETERS)


CHECKS = (pretraining, vqa, nlvr2, optimiser, *verify_data.CHECKS)
