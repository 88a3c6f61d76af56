"""VaLM held against recorded numbers: `vlpnb verify valm FOLDER`.

The folder's README tells what each file holds, and its tolerances, which are constants here. Sizes and numbers of cases
come from the files. Weights carry the release's names and are opened in the way that opens the release's own. Text, its
tower, the search and the prompts are in `verify_text.py`.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import partial

import torch
from torch import Tensor, nn

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.recorded import Entries, RecordedFolder
from vlpnb.nn.losses import IGNORE
from vlpnb.train.optim import FIRST_RATE, learning_rate, new_optimiser
from vlpnb.valm.config import ValmConfig, parameter_count, text_only
from vlpnb.valm.fusion import Way, pictures_of
from vlpnb.valm.model import FusionBlock
from vlpnb.valm.objectives import ValmLM
from vlpnb.valm.original import verify_search, verify_text
from vlpnb.valm.original.recorded_model import recorded_model
from vlpnb.valm.original.weights import DEAD, fill_original, original_config, original_name, without_pictures

WAYS: tuple[Way, ...] = ("reference", "absorbed", "merged")
OUTPUT, MAP = Tolerance(1e-5), Tolerance(1e-6)
GRADIENT = Tolerance(1e-6, relative=1e-5, of_largest=True)  # of a tensor's greatest number
LOSS = Tolerance(1e-4, relative=1e-6)  # of sums; the rounding of float32 grows with them
RATE, PARAMETER = Tolerance(1e-12), Tolerance(1e-7)
BLOCK = "model.blocks.0."
UNUSED = "*" + DEAD[0].rpartition("*.")[2]


def fusion(folder: RecordedFolder) -> Iterator[Case]:
    """One fusion layer: output, joint attention, gradients in each of its ways; one picture; none."""
    recorded, about = folder.tensors("fusion.safetensors"), folder.json("model.json")["fusion"]
    state = {f"decoder.layers.0.{name}": tensor for name, tensor in recorded.below("param.").items()}
    heads, x, images = about["H"], recorded["x"], recorded["images"]
    block = _block(state, heads, about["norm_eps"], scale="model")
    rows, length, count, width = images.shape
    inside = block.look.attention
    sizes = {"B": rows, "T": length, "K": count, "E": width, "D": x.shape[-1], "H": inside.heads}
    sizes |= {
        "FFN": block.think.inner.out_features,
        "norm_eps": inside.reading.norm.eps,
        "scale": inside.scale,
    }
    for name, ours in sizes.items():
        yield about.case(name, ours, Tolerance(1e-12))
    about.leave_out("activation", "loss", "dropout")
    yield from _dead(about, recorded, "")

    for way in WAYS:
        inside.way = way
        block.zero_grad(set_to_none=True)
        given = x.clone().requires_grad_()
        output = block(given, pictures_of(images), causal=True)[0]
        yield recorded.case("output", output, OUTPUT)
        first = block(x, pictures_of(images[:, :, :1]), causal=True)[0]
        yield recorded.case("output_first_image_only", first, OUTPUT)
        normed = block.look.norm(x)
        branch, share, _ = inside(normed, pictures_of(images), causal=True)
        yield recorded.case("attention_output", branch, OUTPUT)
        yield about.case("image_attention_mass", share.mean(), MAP)
        if way != "merged":
            attention = inside(normed, pictures_of(images), causal=True, weights=True, way=way)[2]
            yield recorded.case("attention", attention, MAP)
        loss = (output * recorded["cotangent"]).sum()
        yield about.case("loss_value", loss, LOSS)
        loss.backward()
        yield recorded.case("grad.x", given.grad, GRADIENT)
        for name, parameter in block.named_parameters():
            theirs = original_name(BLOCK + name).removeprefix("decoder.layers.0.")
            yield recorded.case(f"grad.{theirs}", parameter.grad, GRADIENT)
    plain = _block(state, heads, about["norm_eps"], scale="head")  # what the release falls back to (VAL-02)
    yield about.case("scale_without_images", plain.look.attention.scale, Tolerance(1e-12))
    yield recorded.case("output_without_images", plain(x, None, causal=True)[0], OUTPUT)


def _dead(about: Entries, recorded: Entries, prefix: str) -> Iterator[Case]:
    """The weights that the release allocates and never uses, which we do not have (VAL-01)."""
    dead = [name for name in recorded.below(f"param.{prefix}") if fnmatch(name, UNUSED)]
    yield about.case("parameters_without_gradient", [prefix + name for name in dead])


def _block(state: Mapping[str, Tensor], heads: int, eps: float, scale: str) -> FusionBlock:
    """A fusion layer alone, of weights by the release's names."""
    width = state["decoder.layers.0.self_attn.q_proj.weight"].shape[1]
    whole = {
        "decoder.embed_tokens.weight": torch.zeros(4, width),
        "decoder.layer_norm.weight": torch.ones(width),
        "decoder.layer_norm.bias": torch.zeros(width),
    }
    config = original_config(whole | state, "fusion", heads=heads, norm_eps=eps, scale=scale)
    lm = ValmLM(config).eval()
    fill_original(lm, whole | state, "fusion")
    return lm.model.blocks[0]


def decoder(folder: RecordedFolder) -> Iterator[Case]:
    """The whole decoder: positions, states, scores, losses, gradients; the same without pictures."""
    recorded, about = folder.tensors("decoder.safetensors"), folder.json("model.json")["decoder"]
    lm = recorded_model(folder)
    ids, targets, images = (recorded[name] for name in ("input_ids", "target_ids", "images"))
    yield from _sizes(about, lm, images)
    yield from _dead(about, recorded, "decoder.")
    about.leave_out("gradients_of")

    out = lm.model(ids, images, hidden_states=True)
    plain = without_pictures(lm)
    text_alone = plain.logits(ids)
    yield recorded.case("positions", lm.model.embeddings.positions_of(ids), OUTPUT)
    real = (
        ids != lm.config.pad_id
    )  # what padding sees, nobody reads: we let it see padding, the release does not
    states = {f"hidden.{layer}": hidden for layer, hidden in enumerate(out.hidden_states)}
    states |= {"logits": lm.scores(out.last), "logits_text_only_model": text_alone}
    states |= {"logits_images_removed_at_test": text_alone}
    for name, ours in states.items():
        yield Case(recorded.file.name, name, ours[real], recorded[name][real], OUTPUT)

    counted = lm.counted(targets) != IGNORE
    log_probs = lm.log_probs(ids, targets, images)
    yield Case(
        recorded.file.name,
        "log_probs_of_targets",
        log_probs[counted],
        recorded["log_probs_of_targets"][counted],
        OUTPUT,
    )
    loss = lm(ids, targets, images)["next"]
    yield about.case("targets", int(counted.sum()))
    yield about.case("loss_sum_nats", loss, LOSS)
    mean = -log_probs.detach().double().sum() / counted.sum()
    yield about.case("loss_mean_nats", mean, OUTPUT)
    yield about.case("loss_mean_bits", mean / torch.tensor(2.0).log(), OUTPUT)
    yield about.case("perplexity", mean.exp(), Tolerance(relative=1e-5))
    bits = -log_probs.detach().double().sum(1) / torch.tensor(2.0).double().log()
    for row, entry in enumerate(about["rows"]):
        tokens = counted[row].sum()
        yield entry.case("tokens", int(tokens))
        yield entry.case("bits", bits[row], LOSS)
        yield entry.case("perplexity", 2 ** (bits[row] / tokens), Tolerance(relative=1e-5))
    for name in ("loss_sum_nats_text_only_model", "loss_sum_nats_images_removed_at_test"):
        yield about.case(name, plain(ids, targets)["next"], LOSS)

    loss.backward()
    gradients = {original_name(name): p.grad for name, p in lm.named_parameters()}
    for name in recorded:
        if name.startswith("grad."):
            yield recorded.case(name, gradients[name.removeprefix("grad.")], GRADIENT)


def _sizes(about: Entries, lm: ValmLM, images: Tensor) -> Iterator[Case]:
    config: ValmConfig = lm.config
    rows, length, count, width = images.shape
    found = {
        "V": config.vocab_size, "D": config.hidden, "H": config.heads, "L": config.layers, "FFN": config.ffn, "B": rows,
        "T": length, "K": count, "E": width, "pad": config.pad_id, "eos": config.eos_id, "norm_eps": config.norm_eps,
        "embed_scale": config.hidden**0.5, "first_position": lm.model.embeddings.first,
    }  # fmt: skip
    for name, ours in found.items():
        yield about.case(name, ours, Tolerance(relative=1e-6))
    (layer,) = config.fused
    yield about.case("fusion_layer", layer)
    yield about.case("parameters_text_only", sum(parameter_count(text_only(config)).values()))
    unused = sum(tensor.numel() for tensor in _unused(config))
    yield about.case("parameters_total", sum(parameter_count(config).values()) + unused)


def _unused(config: ValmConfig) -> list[Tensor]:
    """The matrices that the release has besides, of each fusion layer (VAL-01)."""
    return [torch.empty(config.hidden, config.hidden, device="meta")] * (2 * len(config.fused))


def schedule(folder: RecordedFolder) -> Iterator[Case]:
    """Rates of the inverse-square-root schedule."""
    for run in folder.json("optimiser.json")["schedules"]:
        yield run.case("start", FIRST_RATE)
        for step in run["rate"]:
            rate = learning_rate(int(step), 0, run["peak"], run["warmup"], "inverse_sqrt")
            yield run["rate"].case(step, rate, RATE)


def adam(folder: RecordedFolder) -> Iterator[Case]:
    """Steps of Adam with ε before the bias correction, clipped together; and how far AdamW is from it."""
    recorded, about = folder.tensors("adam.safetensors"), folder.json("optimiser.json")["adam"]
    given = recorded.below("start.")
    yield about.case("start", FIRST_RATE)
    rate = partial(
        learning_rate, total=0, peak=about["peak"], warmup=about["warmup"], schedule="inverse_sqrt"
    )
    rates = [rate(step) for step in range(about["steps"])]
    yield about.case("rates", rates, RATE)
    last = {}
    for kind in ("adamw", "fairseq_adam"):
        module = nn.Module()
        for name, tensor in given.items():
            module.register_parameter(name, nn.Parameter(tensor.clone()))
        settings = about["weight_decay"], tuple(about["betas"]), about["eps"]
        steps = new_optimiser(kind, module, about["peak"], *settings)
        for group in steps.param_groups:
            group["weight_decay"] = about["weight_decay"]  # of everything, as in the release
        norms = []
        for step, now in enumerate(rates):
            for name, parameter in module.named_parameters():
                parameter.grad = recorded[f"grad.{step}.{name}"].clone()
            norms.append(nn.utils.clip_grad_norm_(module.parameters(), about["clip"]))
            for group in steps.param_groups:
                group["lr"] = now
            steps.step()
            if kind == "fairseq_adam":
                for name, parameter in module.named_parameters():
                    yield recorded.case(f"after.{step}.{name}", parameter.detach().clone(), PARAMETER)
        last[kind] = {name: p.detach() for name, p in module.named_parameters()}
    yield about.case("gradient_norms_before_clipping", norms, Tolerance(1e-6, relative=1e-6))
    for name, ours in last["adamw"].items():
        far = (ours - last["fairseq_adam"][name]).abs().max()
        yield about["difference_to_torch_adamw"].case(name, far, Tolerance(1e-6))


CHECKS = (fusion, decoder, schedule, adam, *verify_search.CHECKS, *verify_text.CHECKS)
