"""Optimiser and learning-rate schedules of BERT: AdamW without decay on biases and norms, warm-up, decay.

`BertAdam` is the optimiser of BERT's first code: no bias correction. LXMERT trains with it, decay everywhere; VLP too,
with decay where AdamW has it and the gradient of every tensor clipped on its own ("vlp_adam"). `FairseqAdam` is VaLM's,
and, with decay after the step, the AdamW that transformers once had ("transformers_adamw"), which trains CCLM.

AdamW differs from the original code in one respect (quirk VOK-16): which
parameters are spared from weight decay is decided by the *type* of the module they belong to, not by a
substring of their name, so that no LayerNorm is decayed because somebody spelled it differently.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from vlpnb.errors import UserError

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)
FUSED_ADAMW = getattr(torch, "_fused_adamw_", None)  # not of PyTorch's public interface: it may go
Schedule = Literal["linear", "constant", "bert", "bert_constant", "inverse_sqrt"]
Optimiser = Literal[
    "adamw", "adam", "rms", "adamax", "sgd", "lamb", "bert_adam", "vlp_adam", "fairseq_adam", "transformers_adamw"
]  # fmt: skip
FIRST_RATE = 1e-7  # of the schedule "inverse_sqrt"
CLIPS_TENSORS = ("vlp_adam",)  # optimisers that clip the gradient of each tensor, and want no global clip
FIRST_CODE = ("bert_adam", "vlp_adam")  # optimisers that bring the schedule of BERT's first code
ONE_RATE = ("bert_adam", "vlp_adam", "fairseq_adam")  # optimisers that know no factors of the rate


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    factors: Mapping[str, float] | None = None,
    spared: Collection[str] | None = None,
) -> list[dict]:
    """Groups of the trainable parameters: decayed (weights) and not (biases; everything of a norm), for each factor.

    A parameter that two modules share (tied embeddings) is listed once, by its first name. A one-dimensional parameter
    counts as a bias, whatever it is called.

    Args:
        factors: names of parameters whose rate is another → the factor; a group of theirs has it as "rate_factor".
        spared: names of the parameters that do not decay, instead of those above.
    Raises:
        UserError: a name is none of the model's.
    """
    groups: dict[float, tuple[list, list]] = {1.0: ([], [])}
    factors, seen = factors or {}, set()
    unknown = {*factors, *(spared or ())}
    for path, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            name = f"{path}.{leaf}".removeprefix(".")
            unknown.discard(name)
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            bias = leaf == "bias" or parameter.ndim < 2 or isinstance(module, NORMS)
            decayed, kept = groups.setdefault(factors.get(name, 1.0), ([], []))
            (kept if (bias if spared is None else name in spared) else decayed).append(parameter)
    if unknown:
        raise UserError(f"the model has no parameter {min(unknown)!r}; expected names of its parameters")
    rates = [{} if factor == 1 else {"rate_factor": factor} for factor in groups]
    return [
        {"params": params, "weight_decay": decay, **rate}
        for rate, kinds in zip(rates, groups.values(), strict=True)
        for params, decay in zip(kinds, (weight_decay, 0.0), strict=True)
    ]


def adamw(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    factors: Mapping[str, float] | None = None,
    spared: Collection[str] | None = None,
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`, with the fused kernel (one pass over memory, on CPU and GPU)."""
    groups = parameter_groups(model, weight_decay, factors, spared)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al. 2020, algorithm 2): Adam's step, scaled for every tensor by ‖weights‖ / ‖step‖.

    For batches of thousands of sequences. Weight decay is part of the step; a tensor that is not decayed takes
    Adam's step as it is, and so does one whose weights or step are zero, as in NVIDIA apex.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update; the learning rate is read from the groups."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (beta1, beta2), decay = group["betas"], group["weight_decay"]
            for weight in (p for p in group["params"] if p.grad is not None):
                state = self.state[weight]
                if not state:
                    state["step"] = torch.zeros(())
                    state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
                state["step"] += 1
                step = state["step"].item()
                mean, square = state["mean"], state["square"]
                mean.lerp_(weight.grad, 1 - beta1)
                square.mul_(beta2).addcmul_(weight.grad, weight.grad, value=1 - beta2)
                change = mean / (1 - beta1**step) / ((square / (1 - beta2**step)).sqrt() + group["eps"])
                if decay:
                    change += decay * weight
                    sizes = weight.norm(), change.norm()
                    change *= torch.where(sizes[0] * sizes[1] > 0, sizes[0] / sizes[1], 1.0)
                weight.sub_(change, alpha=group["lr"])
        return loss


Row = tuple[Tensor, Tensor, Tensor, dict]
"""A parameter of `BertAdam`, its means of gradients and of their squares, and its state, which counts its updates."""


class BertAdam(torch.optim.Optimizer):
    """Adam of BERT's first code (LXM-08, VLP-03): no bias correction, by AdamW's fused kernel.

        m ← β₁ m + (1 − β₁) g;   v ← β₂ v + (1 − β₂) g²;   p ← p − η (m / (√v + ε) + decay · p)

    AdamW divides m by 1 − β₁ˢ and v by 1 − β₂ˢ in its update s. Told that s is infinite, it divides by 1: this is the
    update above. A parameter without a gradient is left as it is, and each counts its own updates: one that joins late
    starts at η's beginning.

    The kernel is called without AdamW around it, whose work per tensor costs a small model more than the update.

    Args:
        params: all of them, or groups of which each has its decay.
        rate: η of a parameter's update, counted from 0; None takes the group's `lr` for all.
        clip: largest norm of each tensor's gradient, which is multiplied by min(1, clip / (norm + 1e-6)) first; None
            leaves gradients as they are.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        rate: Callable[[int], float] | None = None,
        clip: float | None = None,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.rate, self.clip = rate, clip
        self._rows: list[list[list[Row]]] = []  # by group, and in it by device and type
        self._infinite: dict[torch.device, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of the parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.clip is not None:
            clip_each(self.param_groups, self.clip)
        known = [sum(map(len, kinds)) for kinds in self._rows]
        if known != [len(group["params"]) for group in self.param_groups]:
            self._rows = [self._kinds(group["params"]) for group in self.param_groups]
        for group, kinds in zip(self.param_groups, self._rows, strict=True):
            for rows in kinds:
                due: dict[int, list[Row]] = {}
                for row in rows:
                    if row[0].grad is not None:
                        due.setdefault(row[3]["step"], []).append(row)
                for done, alike in due.items():
                    self._update(alike, group["lr"] if self.rate is None else self.rate(done), group)
        return loss

    def _kinds(self, params: list[Tensor]) -> list[list[Row]]:
        """The parameters with their states, which are made where there are none."""
        kinds: dict[tuple[torch.device, torch.dtype], list[Row]] = {}
        for p in params:
            state = self.state[p]
            if not state:
                state |= {"step": 0, "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
            kinds.setdefault((p.device, p.dtype), []).append((p, state["mean"], state["square"], state))
        return list(kinds.values())

    def _update(self, rows: list[Row], rate: float, group: dict) -> None:
        """The formulas for some parameters of one device and type."""
        weights, means, squares, states = map(list, zip(*rows, strict=True))
        gradients = [p.grad for p in weights]
        for state in states:
            state["step"] += 1
        beta1, beta2 = group["betas"]
        if FUSED_ADAMW is None:
            for p, gradient, mean, square in zip(weights, gradients, means, squares, strict=True):
                mean.mul_(beta1).add_(gradient, alpha=1 - beta1)
                square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                p.sub_(rate * (mean / (square.sqrt() + group["eps"]) + group["weight_decay"] * p))
            return
        device = weights[0].device
        if device not in self._infinite:
            self._infinite[device] = torch.tensor(math.inf, device=device)
        steps = [self._infinite[device]] * len(weights)
        FUSED_ADAMW(
            weights, gradients, means, squares, [], steps, amsgrad=False, lr=rate, beta1=beta1, beta2=beta2,
            weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore. ValueError: the state is another optimiser's."""
        if any("square" not in state for state in state_dict["state"].values()):
            raise ValueError("the optimiser's state is not one of BertAdam, or of an older version")
        super().load_state_dict(state_dict)
        self._rows = []


class FairseqAdam(torch.optim.Optimizer):
    """Adam of fairseq, which trains VaLM (VAL-10): ε is added to √v before the bias correction, AdamW adds it after.

        p ← p − η · decay · p;   p ← p − η √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε)

    The two differ only where gradients are as small as ε. The order of the operations is the original's, so that they
    round alike. With `decay_last` the decay comes after the step: transformers' AdamW until its version 4 (CCL-08).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        decay_last: bool = False,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.decay_last = decay_last

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of the parameters that have a gradient; the learning rate is read from the groups."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            due: dict[int, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    if not state:
                        state |= {"step": 0, "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
                    state["step"] += 1
                    due.setdefault(state["step"], []).append(p)
            for step, alike in due.items():
                self._update(alike, step, group)
        return loss

    def _update(self, weights: list[Tensor], step: int, group: dict) -> None:
        """The formulas for parameters that have had as many updates."""
        gradients = [p.grad for p in weights]
        means, squares = ([self.state[p][name] for p in weights] for name in ("mean", "square"))
        beta1, beta2 = group["betas"]
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        below = torch._foreach_sqrt(squares)
        torch._foreach_add_(below, group["eps"])
        decay = -group["weight_decay"] * group["lr"]
        if decay and not self.decay_last:
            torch._foreach_add_(weights, weights, alpha=decay)
        size = group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        torch._foreach_addcdiv_(weights, means, below, value=-size)
        if decay and self.decay_last:
            torch._foreach_add_(weights, weights, alpha=decay)


def clip_each(groups: Iterable[dict], most: float) -> None:
    """Clip the gradient of every tensor on its own, in place (VLP-03)."""
    gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
    if not gradients:
        return
    factors = torch.stack(torch._foreach_norm(gradients)).add(1e-6).reciprocal().mul(most).clamp(max=1)
    torch._foreach_mul_(gradients, list(factors.unbind()))


def new_optimiser(
    name: Optimiser,
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    rate: Callable[[int], float] | None = None,
    clip: float | None = None,
    factors: Mapping[str, float] | None = None,
    spared: Collection[str] | None = None,
) -> torch.optim.Optimizer:
    """One of the optimisers of the original projects.

    "adamw" without weight decay is "adam"; "sgd" has momentum 0.9; "lamb" is for pre-training with very large
    batches. Decay spares biases and norms in all of them but "bert_adam" and "fairseq_adam", and only in AdamW, LAMB,
    BertAdam and FairseqAdam it is apart from the gradient. `rate` is for "bert_adam" and "vlp_adam" alone, which count
    the updates of each parameter; `clip`, of each tensor's gradient, for "vlp_adam". `factors` and `spared` as in
    `parameter_groups`; whoever sets a group's rate multiplies it by its "rate_factor" (`set_rate`).

    Raises:
        UserError: factors, or names that are spared, for an optimiser that knows none.
    """
    if name in ONE_RATE and (factors or spared):
        raise UserError(
            f"the optimiser {name!r} has one rate for all parameters; expected no factors with it"
        )
    if name == "vlp_adam":
        return BertAdam(parameter_groups(model, weight_decay), lr, weight_decay, betas, eps, rate, clip)
    if name == "bert_adam":
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return BertAdam(trained, lr, weight_decay, betas, eps, rate)
    if name == "fairseq_adam":
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return FairseqAdam(trained, lr, weight_decay, betas, eps)
    if name == "adamw":
        return adamw(model, lr, weight_decay, betas, eps, factors, spared)
    groups = parameter_groups(model, weight_decay, factors, spared)
    if name == "transformers_adamw":
        return FairseqAdam(groups, lr, weight_decay, betas, eps, decay_last=True)
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr, betas=betas, eps=eps)
    if name == "rms":
        return torch.optim.RMSprop(groups, lr=lr, eps=eps)
    if name == "adamax":
        return torch.optim.Adamax(groups, lr=lr, betas=betas, eps=eps)
    if name == "lamb":
        return Lamb(groups, lr, betas, eps)
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group this learning rate, times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)


def learning_rate(
    step: int, total: float, peak: float, warmup: float = 0, schedule: Schedule = "linear"
) -> float:
    """Rate of update `step` (0-based): linear from 0 to `peak` over `warmup` updates, then to 0 or flat.

    The first update already moves (its factor is 1/(warmup+1), not 0), and the last one still does. "bert" is that of
    BERT's first code: the first update has the rate 0, and `warmup` may end within an update; "bert_constant" stays up.
    "inverse_sqrt" is fairseq's: from 1e-7 to the peak, then the peak · √(warmup / step), whatever `total` is.
    """
    if schedule == "inverse_sqrt":
        if step < warmup:
            return FIRST_RATE + step * (peak - FIRST_RATE) / warmup
        return peak * math.sqrt(max(warmup, 1) / max(step, 1))
    if schedule in ("bert", "bert_constant") and step < warmup:
        return peak * step / warmup
    if schedule == "bert":
        return peak * max(total - step, 0) / (total - warmup or 1)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if schedule in ("constant", "bert_constant"):
        return peak
    return peak * max(total - step, 0) / max(total - warmup, 1)
