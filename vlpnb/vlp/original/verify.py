"""VLP held against recorded numbers: `vlpnb verify vlp FOLDER`.

The folder's README tells what each file holds; tolerances come from its files where they state them, and from its
README where not. Sizes, options and numbers of cases come from the files. Weights carry the original's names and are
opened in the way that opens the original's own. Writing is in `verify_writing.py`, what needs no model in
`verify_data.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.recorded import Entries, RecordedFolder
from vlpnb.nn.losses import IGNORE
from vlpnb.train.optim import learning_rate, new_optimiser
from vlpnb.vlp.heads import SLOT, VlpForAnswers, VlpForGeneration, best_answers, slots_of
from vlpnb.vlp.masks import segment_ids, sequence_mask
from vlpnb.vlp.model import VlpConfig, parameter_count
from vlpnb.vlp.objectives import Guessing
from vlpnb.vlp.original import verify_data, verify_writing
from vlpnb.vlp.original.beginning import fit_positions, fit_slots, grow_segments
from vlpnb.vlp.original.recorded_model import (
    WEIGHTS,
    gradient_cases,
    load,
    state_of,
    tolerances,
    whole_rows,
)

HEADS = Tolerance(5e-5)  # of heads whose json states none
PARAMETERS = Tolerance(1e-6)  # after each step of the optimiser
SMALL = 1e-5  # that the original adds to the number of targets
SIZES = {  # in the folder's config → of our configuration, which the weights' shapes tell
    "vocab": "vocab_size", "hidden": "hidden", "layers": "layers", "ffn": "ffn", "feat": "feature_width",
    "classes": "classes", "answers": "answers", "max_positions": "max_positions", "segment_types": "segments",
    "heads": "heads", "regions": "regions", "max_text": "text_length", "length": "length",
    "layer_norm_eps": "norm_eps", "pad": "pad_id", "unk": "unk_id", "cls": "cls_id", "sep": "sep_id", "mask": "mask_id",
}  # fmt: skip


def sizes(folder: RecordedFolder) -> Iterator[Case]:
    """Sizes that the shapes of the weights tell, and the number of all parameters."""
    about = folder.json("config.json")
    config = load(folder, VlpForGeneration).config
    for theirs, ours in SIZES.items():
        yield about.case(theirs, getattr(config, ours))
    parts = sum(parameter_count(config).values())
    answers = len(folder.tensors(WEIGHTS).below("ans_classifier."))
    yield about.case("parameters", parts if answers else parts - parameter_count(config)["answer head"])
    about.leave_out("activation")


def labels_of(given: Mapping[str, Tensor], prefix: int, length: int) -> Tensor:
    """Targets by their places in the text, IGNORE elsewhere."""
    labels = torch.full((len(given["target_pos"]), length), IGNORE)
    for row, (places, ids, weights) in enumerate(
        zip(given["target_pos"], given["target_ids"], given["target_weight"], strict=True)
    ):
        for place, word, weight in zip(places.tolist(), ids.tolist(), weights.tolist(), strict=True):
            if weight:
                labels[row, place - prefix] = word
    return labels


def at_targets(states: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """States at the recorded places, of targets that do not count too."""
    places = given["target_pos"].long()[..., None].expand(-1, -1, states.shape[-1])
    return states.gather(1, places)  # (B, K, D)


def pass_of(given: Mapping[str, Tensor], config: VlpConfig, s2s: Tensor) -> dict[str, Tensor]:
    """The recorded inputs as arguments of the model."""
    return {
        "features": given["feat"],
        "geometry": given["vis_pe"],
        "ids": given["input_ids"].long()[:, config.prefix :],
        "lengths": given["lengths"].long(),
        "s2s": s2s,
    }


def guesses(given: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """The same as arguments of what training computes."""
    at = torch.arange(labels.shape[1]).expand_as(labels)
    owner = torch.where(at <= given["lengths"][:, None], 0, -1)
    rest = {name: value for name, value in given.items() if name != "lengths"}
    return rest | {"place": at, "owner": owner, "labels": labels}


def sequence_cases(recorded: Entries, config: VlpConfig, given: Mapping[str, Tensor]) -> Iterator[Case]:
    """Placeholders of the prefix, segments and masks of recorded rows; of some masks the first rows alone are kept."""
    prefix, length = config.prefix, given["ids"].shape[1]
    arguments = given["lengths"], given["s2s"], prefix, length
    yield recorded.case("input_ids", whole_rows(config, given["ids"]))
    yield recorded.case("segment_ids", segment_ids(*arguments, config.segments))
    yield recorded.case("mask", sequence_mask(*arguments)[: len(recorded["mask"]), 0])


def forward(folder: RecordedFolder) -> Iterator[Case]:
    """A batch of both modes with masked words: states, scores, losses in all variants, gradients."""
    recorded, about = folder.tensors("forward.safetensors"), folder.json("forward.json")
    allowed, model = tolerances(about), load(folder, VlpForGeneration)
    s2s = recorded["task_slot"].long() == SLOT["s2s"]
    given = pass_of(recorded, model.config, s2s)
    yield about.case("modes", ["s2s" if writes else "bi" for writes in s2s.tolist()])
    yield recorded.case("task_slot", slots_of(s2s))
    yield from sequence_cases(recorded, model.config, given)
    about.leave_out("eval_mode")

    out = model.backbone(**given, hidden_states=True)
    yield recorded.case("embedding", out.hidden_states[0], allowed("forward"))
    first = out.hidden_states[1][: len(recorded["hidden.first_layer"])]
    yield recorded.case("hidden.first_layer", first, allowed("forward"))
    yield recorded.case("hidden.last", out.last, allowed("forward"))
    scores = model.word_scores(
        at_targets(out.last, recorded), slots_of(s2s)[:, None].expand_as(recorded["target_ids"])
    )
    yield recorded.case("logits", scores, allowed("logits"))
    weights, words = recorded["target_weight"].float(), recorded["target_ids"].long()
    losses = F.cross_entropy(scores.flatten(0, 1), words.flatten(), reduction="none").view_as(words) * weights
    yield about.case("loss_per_target", losses, allowed("logits"))

    labels = labels_of(recorded, model.config.prefix, given["ids"].shape[1])
    learner, asked = Guessing(model), guesses(given, labels)
    count = weights.sum()
    for ratio in about["loss_drop_worst"]:
        kept = losses.sum(1).argsort()[: int(len(losses) * (1 - float(ratio)))]
        good = weights[kept].sum()
        mean = learner(**asked, drop=torch.tensor(float(ratio)))["words"] / count
        yield about["loss_drop_worst"].case(ratio, mean * good / (good + SMALL), allowed("loss"))
    for smoothing in about["loss_label_smoothing"]:
        model.label_smoothing = float(smoothing)
        mean = learner(**asked)["words"] / (count + SMALL)
        yield about["loss_label_smoothing"].case(smoothing, mean, allowed("loss"))
    model.label_smoothing = 0.0
    loss = learner(**asked)["words"] / (count + SMALL)
    yield about.case("loss", loss, allowed("loss"))
    yield from gradient_cases(recorded, about["grad_norms"], model, loss, allowed("grad"))
    yield from pretext(folder)


def pretext(folder: RecordedFolder) -> Iterator[Case]:
    """Masked regions, which all see, as in the original (VLP-07)."""
    recorded, about = folder.tensors("forward.safetensors"), folder.json("forward.json")
    if "region_pretext" not in about:
        return
    allowed, about = tolerances(about), about["region_pretext"]
    model = load(folder, VlpForGeneration)
    model.regions = "visible"
    given = {
        name.removeprefix("pretext."): recorded[name] for name in recorded if name.startswith("pretext.")
    }
    rows, prefix = len(given["input_ids"]), model.config.prefix
    s2s = torch.tensor([mode == "s2s" for mode in about["modes"]])
    given |= {name: recorded[name][:rows] for name in ("feat", "vis_pe")}
    given["lengths"] = given["segment_ids"].long()[:, prefix:].ne(0).sum(1) - 1
    arguments = pass_of(given, model.config, s2s)
    yield recorded.case("pretext.input_ids", whole_rows(model.config, arguments["ids"]))
    shape = given["lengths"], s2s, prefix, arguments["ids"].shape[1]
    yield recorded.case("pretext.segment_ids", segment_ids(*shape, model.config.segments))
    yield recorded.case("pretext.mask", sequence_mask(*shape)[:, 0])
    masked = torch.zeros(rows, model.config.regions + 1, dtype=torch.bool)
    masked = masked.scatter(1, given["masked_regions"].long(), True)[:, 1:]  # recorded ones count from 1
    labels = labels_of(given, prefix, arguments["ids"].shape[1])
    losses = Guessing(model)(**guesses(arguments, labels), hidden_regions=masked)
    words = losses["words"] / (given["target_weight"].sum() + SMALL)
    yield about.case("word_loss", words, allowed("loss"))
    yield about.case("region_loss", losses["regions"] / rows, allowed("loss"))


def relaxed_projection(folder: RecordedFolder) -> Iterator[Case]:
    """A word head with a slot for each mode, under one norm, as the original trains it (VLP-08)."""
    recorded, about = folder.tensors("relaxed_projection.safetensors"), folder.json("relaxed_projection.json")
    given = folder.tensors("forward.safetensors")
    state = state_of(folder)
    state |= {f"cls.predictions.{name}": recorded[name] for name in recorded if name.startswith("transform.")}
    with TemporaryDirectory() as at:
        torch.save(state, Path(at) / "model.bin")
        model = load(folder, VlpForGeneration, Path(at) / "model.bin", joint_norm=True)
    s2s = given["task_slot"].long() == SLOT["s2s"]
    arguments = pass_of(given, model.config, s2s)
    yield about.case("slots", model.config.slots)
    yield about.case("slot_of_mode", {name: SLOT[name] for name in about["slot_of_mode"]})
    slots = slots_of(s2s)[:, None].expand_as(given["target_ids"])
    states = at_targets(model.backbone(**arguments).last, given)
    yield recorded.case("logits", model.word_scores(states, slots), HEADS)
    labels = labels_of(given, model.config.prefix, arguments["ids"].shape[1])
    loss = Guessing(model)(**guesses(arguments, labels))["words"] / (given["target_weight"].sum() + SMALL)
    yield about.case("loss", loss, HEADS)


def vqa_head(folder: RecordedFolder) -> Iterator[Case]:
    """Questions on the first pictures: the product, scores, loss, gradients, and the prediction without row 0."""
    recorded, about = folder.tensors("vqa_head.safetensors"), folder.json("vqa_head.json")
    model, count = load(folder, VlpForAnswers), len(recorded["input_ids"])
    about.leave_out("images")  # says which pictures: the first ones of `forward`
    pictures = {name: folder.tensors("forward.safetensors")[name][:count] for name in ("feat", "vis_pe")}
    texts = {name: recorded[name] for name in ("input_ids", "lengths")}
    given = pass_of(pictures | texts, model.config, torch.zeros(count, dtype=torch.bool))
    yield from sequence_cases(recorded, model.config, given)
    del given["s2s"]
    scores = model.scores(**given)
    yield recorded.case("product", model.joint(**given), HEADS)
    yield recorded.case("logits", scores, HEADS)
    yield recorded.case("prediction", best_answers(scores))
    yield about.case("index_0_is_best_in", scores.argmax(1).eq(0).nonzero()[:, 0].tolist())
    losses = model(**given, targets=recorded["answer_targets"])
    loss = losses.pop("answers") / count
    yield about.case("loss", loss, replace(HEADS, relative=1e-6))
    yield about.case("word_loss", sum(losses.values()))
    yield from gradient_cases(recorded, about["grad_norms"], model, loss, HEADS)


SCHEDULES = {"warmup_linear": "bert", "warmup_constant": "bert_constant"}


def optimiser(folder: RecordedFolder) -> Iterator[Case]:
    """Trajectories of the original's Adam, with tensors that lack a gradient in some updates (VLP-03).

    In float64: over many steps the rounding of ours would come on top of the reference's.
    """
    recorded, about = folder.tensors("optimiser.safetensors"), folder.json("optimiser.json")
    settings = {name: about[name] for name in ("decay", "betas", "eps", "clip_per_tensor", "decayed")}
    allowed = Tolerance.of(about["tolerance"])
    for name, run in about.items():
        if not isinstance(run, Entries) or "schedule" not in run:
            continue
        given = {
            key.removesuffix(".start"): t
            for key, t in recorded.below(f"{name}.").items()
            if key.endswith(".start")
        }
        module = _module_of(given)
        total = run["total"]
        rate = partial(
            learning_rate,
            total=total,
            peak=run["base_rate"],
            warmup=run["warmup_share"] * total,
            schedule=SCHEDULES[run["schedule"]],
        )
        steps = new_optimiser(
            "vlp_adam", module, run["base_rate"], settings["decay"], tuple(settings["betas"]), settings["eps"], rate,
            settings["clip_per_tensor"],
        )  # fmt: skip
        names = {id(p): key for key, p in module.named_parameters()}
        decayed = [
            names[id(p)] for group in steps.param_groups if group["weight_decay"] for p in group["params"]
        ]
        yield about.case("decayed", sorted(decayed))
        yield run.case("rates", [rate(step) for step in range(run["steps"])], Tolerance(1e-12))
        after: dict[str, list[Tensor]] = {key: [] for key in given}
        for step in range(run["steps"]):
            for key, parameter in module.named_parameters():
                missing = step in run["no_gradient"].get(key, ())
                gradient = recorded[f"{name}.{key}.gradients"][step].double()
                parameter.grad = None if missing else gradient.clone()
            steps.step()
            for key, parameter in module.named_parameters():
                after[key].append(parameter.detach().clone())
        for key, rows in after.items():
            yield recorded.case(f"{name}.{key}.after", torch.stack(rows), allowed)
    for step in about["schedule_1000"]:
        factor = learning_rate(int(step), 1000, 1.0, warmup=100, schedule="bert")
        yield about["schedule_1000"].case(step, factor, Tolerance(1e-12))


def _module_of(tensors: Mapping[str, Tensor]) -> nn.Module:
    """Layers with parameters of these names and values, in float64: what is decayed goes by the kind of a layer."""
    module = nn.Module()
    for key, tensor in tensors.items():
        name, _, leaf = key.rpartition(".")
        if not hasattr(module, name):
            norm = name.endswith("LayerNorm")
            module.add_module(name, nn.LayerNorm(tensor.shape).double() if norm else nn.Module())
        setattr(getattr(module, name), leaf, nn.Parameter(tensor.double()))
    return module


def adaptation(folder: RecordedFolder) -> Iterator[Case]:
    """Tables that grow or are cut when a model begins with another's."""
    recorded = folder.tensors("adaptation.safetensors")
    folder.json("adaptation.json")
    for name, value in recorded.items():
        part, _, rest = name.partition(".")
        if rest == "source" or rest.startswith("source."):
            continue
        if part == "transform":
            leaf = rest.partition(".")[2]
            source = recorded[f"{part}.source.{leaf}"]
            ours = fit_slots(source, 1, len(value) // len(source), "s2s")
        else:
            fit = {"segments": grow_segments, "positions": fit_positions}[part]
            ours = fit(recorded[f"{part}.source"], len(value))
        yield recorded.case(name, ours)


CHECKS = (
    sizes, forward, relaxed_projection, vqa_head, optimiser, adaptation, *verify_writing.CHECKS, *verify_data.CHECKS,
)  # fmt: skip
