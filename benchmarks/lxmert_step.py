"""An update of LXMERT's pre-training, beside transformers' `LxmertForPreTraining` with the original's optimiser.

Ours computes heads only where a loss is (15 % of the words, 15 % of the features), never holds the scores of all words,
and steps by the fused kernel. The peer computes all scores at all positions, with eager attention, and steps tensor by
tensor. Same weights, batch and losses; no dropout.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks import inputs
from benchmarks.lxmert_optimiser import PlainBertAdam
from benchmarks.measure import Row, agree, compare
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.model import LxmertConfig
from vlpnb.train.optim import BertAdam

RATE = 1e-5
VISUAL = 1 / 0.15


@dataclass(frozen=True)
class Size:
    """Half of the published layers, at their width, for the memory that both sides' moments take."""

    config: LxmertConfig = inputs.HALF_LXMERT
    batch: int = 8
    words: int = 20
    regions: int = 36
    rounds: int = 3


def batch_of(size: Size, device: str = "cpu") -> dict[str, Tensor]:
    """A batch in our form; sentences of unequal length, the longest of the published one."""
    random, config = torch.Generator().manual_seed(0), size.config
    shape = size.batch, size.regions

    def below(limit: int, *of: int) -> Tensor:
        return torch.randint(0, limit, of, generator=random)

    lengths = below(max(1, size.words - 8), size.batch) + min(9, size.words)
    lengths[0] = size.words
    mask = torch.arange(size.words) < lengths[:, None]
    ids = (below(config.vocab_size - 5, size.batch, size.words) + 5) * mask
    guessed = (torch.rand(ids.shape, generator=random) < 0.15) & mask
    guessed[0, 1] = True
    features = torch.rand(*shape, config.feature_width, generator=random)
    masked = torch.rand(shape, generator=random) < 0.15
    made = {
        "ids": ids.where(~guessed, 4),
        "mask": mask,
        "features": features * ~masked[..., None],
        "boxes": torch.rand(*shape, 4, generator=random),
        "word_labels": ids.where(guessed, -100),
        "matched": below(2, size.batch),
        "object_ids": below(config.objects, *shape),
        "object_conf": torch.rand(shape, generator=random),
        "attribute_ids": below(config.attributes, *shape),
        "attribute_conf": torch.rand(shape, generator=random),
        "targets": features,
        "object_masked": masked,
        "answer": below(config.answers, size.batch),
    }
    return {name: value.to(device) for name, value in made.items()}


def mean_loss(model: LxmertForPretraining, batch: dict[str, Tensor]) -> Tensor:
    """The sum of the mean losses, as the training loop makes it."""
    regions = batch["object_ids"].numel() / VISUAL
    counts = {
        "words": (batch["word_labels"] >= 0).sum(),
        "match": len(batch["ids"]),
        "answers": len(batch["ids"]),
    }
    return sum(value / counts.get(name, regions) for name, value in model(**batch).items())


def their_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The same by transformers."""
    return model(
        batch["ids"],
        batch["features"],
        batch["boxes"],
        attention_mask=batch["mask"].long(),
        labels=batch["word_labels"],
        matched_label=batch["matched"],
        obj_labels={
            "obj": (batch["object_ids"], batch["object_conf"]),
            "attr": (batch["attribute_ids"], batch["attribute_conf"]),
            "feat": (batch["targets"], batch["object_masked"].float()),
        },
        ans=batch["answer"],
    ).loss


def updated(model: nn.Module, loss: Tensor, step: Callable[[], None] | None) -> dict[str, float]:
    """Backward, and an update when there is a `step`; loss and gradient norm."""
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if step is not None:
        step()
    model.zero_grad(set_to_none=True)
    return {"loss": loss.item(), "gradient norm": norm.item()}


def ours(model: nn.Module, batch: dict[str, Tensor], step: Callable[[], None] | None) -> dict[str, float]:
    """An update of our model."""
    return updated(model, mean_loss(model, batch), step)


def peer(model: nn.Module, batch: dict[str, Tensor], step: Callable[[], None] | None) -> dict[str, float]:
    """An update of theirs."""
    return updated(model, their_loss(model, batch), step)


def same_losses(first: dict[str, float], second: dict[str, float]) -> str:
    """Loss and gradient norm equal to float rounding."""
    for name, value in second.items():
        agree(abs(first[name] - value) <= 2e-4 * value, f"{name} {first[name]:.6f} beside {value:.6f}")
    return f"loss {first['loss']:.3f}"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """A whole update, which has the target; and forward and backward alone."""
    model, theirs = (side.to(device).train() for side in inputs.lxmert_models(size.config))
    batch = batch_of(size, device)
    fused = BertAdam(model.parameters(), RATE, rate=lambda done: RATE).step
    plain = PlainBertAdam(list(theirs.parameters()), lambda done: RATE).step
    layers = "/".join(str(getattr(size.config, f"{of}_layers")) for of in ("text", "visual", "cross"))
    name = f"LXMERT {layers}, pre-training, {size.batch} pairs"
    rows = []
    for what, steps, target in (
        ("forward and backward", (None, None), None),
        ("update", (fused, plain), 1.5),
    ):
        rows.append(
            compare(
                f"{name}, {what}",
                lambda step=steps[0]: ours(model, batch, step),
                lambda step=steps[1]: peer(theirs, batch, step),
                same_losses,
                rounds=size.rounds,
                device=device,
                target=target,
            )
        )
    return rows
