"""A pre-training step with words and vokens: forward and backward, beside transformers.

Ours computes the heads only where a loss is and never holds all scores. The peer is `BertForMaskedLM` with its full
scores of all words at all positions, and a voken head with the full scores of all vokens, as in the original project.
Same weights, same batch, no dropout; the optimiser's step is the same on both sides and left out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import BertForMaskedLM

from benchmarks import inputs
from benchmarks.measure import Row, agree, compare, peak_megabytes, peak_memory, reset_peak
from vlpnb.nn.language_model import MaskedLM
from vlpnb.nn.transformer import TransformerConfig
from vlpnb.text.masking import mask_tokens
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM
from vlpnb.vokenization.voken_heads import VokenHead


@dataclass(frozen=True)
class Size:
    """The paper's small model; its micro-batch is 32 blocks of 128."""

    shape: inputs.Shape = (6, 512, 8, 2048)
    words: int = 30_522
    vokens: int = 50_000
    batches: tuple[int, ...] = (32, 4)  # blocks; the first is the published micro-batch
    block: int = 128
    memory: bool = True  # of a step with the first
    rounds: int = 3


def batch_of(size: Size, batch: int, device: str = "cpu") -> dict[str, Tensor]:
    """Random masked ids with labels, [B, T] each."""
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(5, size.words, (batch, size.block), generator=random)
    special = torch.zeros_like(ids, dtype=torch.bool)
    special[:, [0, -1]] = True
    masked, labels = mask_tokens(ids, special, 4, size.words, random)
    vokens = torch.randint(size.vokens, ids.shape, generator=random).masked_fill(special, -100)
    made = {"ids": masked, "mlm_labels": labels, "voken_labels": vokens}
    return {name: value.to(device) for name, value in made.items()}


def ours(model: VisuallySupervisedLM, batch: dict[str, Tensor]) -> dict[str, float]:
    """The mean losses; leaves gradients in the model."""
    model.zero_grad(set_to_none=True)
    losses = {name: value / (batch[f"{name}_labels"] != -100).sum() for name, value in model(**batch).items()}
    sum(losses.values()).backward()
    return {name: value.item() for name, value in losses.items()}


def peer(model: BertForMaskedLM, head: nn.Module, batch: dict[str, Tensor]) -> dict[str, float]:
    """The mean losses; leaves gradients in the model and the head."""
    model.zero_grad(set_to_none=True)
    head.zero_grad(set_to_none=True)
    hidden = model.bert(batch["ids"]).last_hidden_state
    losses = {
        "mlm": cross_entropy(model.cls(hidden).flatten(0, 1), batch["mlm_labels"].flatten()),
        "voken": cross_entropy(head(hidden).flatten(0, 1), batch["voken_labels"].flatten()),
    }
    sum(losses.values()).backward()
    return {name: value.item() for name, value in losses.items()}


def same_losses(first: dict[str, float], second: dict[str, float], tolerance: float = 1e-4) -> str:
    """Both losses equal, relative to the loss."""
    for name in ("mlm", "voken"):
        gap = abs(first[name] - second[name])
        agree(gap <= tolerance * second[name], f"{name} loss {first[name]:.6f} beside {second[name]:.6f}")
    return f"losses {first['mlm']:.3f} + {first['voken']:.3f}"


def models(size: Size, device: str = "cpu") -> tuple[VisuallySupervisedLM, BertForMaskedLM, nn.Module]:
    """Our model, and transformers' with a voken head, with the same weights."""
    encoder, mlm, theirs = inputs.masked_language_models(size.shape, size.words)
    model = VisuallySupervisedLM(encoder.config, size.vokens)
    model.language = MaskedLM(encoder, mlm)
    head = VokenHead(encoder.config, size.vokens)
    head.load_state_dict(model.voken.head.state_dict())
    return model.to(device).train(), theirs.to(device).train(), head.to(device).train()


def memory_of_step(
    side: str, shape: list, words: int, vokens: int, batch: int, block: int, device: str
) -> dict:
    """Megabytes that one step needs above the model; in a process of its own, which makes one side only."""
    size = Size(tuple(shape), words, vokens, (batch,), block)
    layers, hidden, heads, ffn = size.shape
    config = TransformerConfig(words, hidden, layers, heads, ffn, dropout=0.0, attention_dropout=0.0)
    torch.manual_seed(0)
    if side == "ours":
        step, parts = ours, [VisuallySupervisedLM(config, vokens).to(device)]
    else:
        theirs = BertForMaskedLM(inputs.bert_config(size.shape, words, dropout=0.0))
        step, parts = peer, [theirs.to(device), VokenHead(config, vokens).to(device)]
    made = batch_of(size, batch, device)
    before = reset_peak(device)
    step(*parts, made)
    return {"megabytes": peak_memory(device) - before}


def memory(size: Size, device: str) -> Row:
    """Peak memory of a step above the model, gradients included; the target is a third."""
    rest = (list(size.shape), size.words, size.vokens, size.batches[0], size.block, device)
    used = {
        side: peak_megabytes("benchmarks.pretraining.memory_of_step", side, *rest)["megabytes"]
        for side in ("ours", "peer")
    }
    name = f"memory of a step, {size.batches[0]} × {size.block} tokens"
    gradients = "both hold the gradients of all weights"
    return Row(name, used["ours"], used["peer"], used["peer"] / used["ours"], "MB", 3.0, gradients)


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """A row for the time of a step of each size, and one for memory; the targets are of the published micro-batch."""
    model, theirs, head = models(size, device)
    rows = []
    for blocks in size.batches:
        batch = batch_of(size, blocks, device)
        row = compare(
            f"pre-training step, {size.shape[0]}L/{size.shape[1]}H, {blocks} × {size.block} tokens",
            lambda batch=batch: ours(model, batch),
            lambda batch=batch: peer(theirs, head, batch),
            same_losses,
            rounds=size.rounds,
            device=device,
            target=1.3 if blocks == size.batches[0] else None,
        )
        rows.append(row)
    return [*rows, memory(size, device)] if size.memory else rows
