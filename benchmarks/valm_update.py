"""An update of VaLM with pictures from a table, beside one of the same model without: what pictures cost in training.

The search was done beforehand (`valm.queries`), so that an update takes rows of a store, normalises the distinct
vectors and attends to them. The original searches in every update, at a twentieth of the rate of text alone.
Forward, backward and optimiser in float32, without dropout. With all pictures hidden both say the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import Row, agree, compare
from vlpnb.train.optim import adamw
from vlpnb.valm.config import ValmConfig, size_config
from vlpnb.valm.objectives import ValmLM
from vlpnb.valm.original.weights import without_pictures

NANO = size_config("nano", vocab_size=2000, image_width=384, dropout=0.0)
Given = Mapping[str, Tensor]


@dataclass(frozen=True)
class Size:
    """Model, texts of an update and their tokens, pictures of a token, different ones of a text, of the store.

    On the visual world the 64 tokens of a text find some 43 different pictures, so many are looked at by several.
    """

    config: ValmConfig = NANO
    texts: int = 32
    tokens: int = 64
    count: int = 4
    found: int = 40
    store: int = 3000
    rounds: int = 5


def inputs(size: Size, device: str) -> tuple[ValmLM, ValmLM, Given, Given]:
    """A model with pictures, the same without; a batch, and what it is shown."""
    torch.manual_seed(0)
    model = ValmLM(replace(size.config, dropout=0.0)).to(device)
    ids = torch.randint(4, size.config.vocab_size, (size.texts, size.tokens + 1))
    pictures = torch.randint(size.store, (size.texts, size.found))
    which = torch.randint(size.found, (size.texts, size.tokens * size.count))
    rows = pictures.gather(1, which).view(size.texts, size.tokens, size.count)
    distinct, places = rows.unique(return_inverse=True)
    vectors = torch.randn(size.store, size.config.image_width)[distinct]
    text = {"ids": ids[:, :-1].to(device), "targets": ids[:, 1:].to(device)}
    return model, without_pictures(model), text, {"images": vectors.to(device), "rows": places.to(device)}


def update(model: ValmLM, optimiser: torch.optim.Optimizer, given: Given) -> None:
    """One step."""
    loss = model(**given)["next"] / given["targets"].numel()
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()


def ours(model: ValmLM, optimiser: torch.optim.Optimizer, given: Given, before: Tensor) -> Tensor:
    """One step with pictures; returns what the model made of the words before it learnt."""
    update(model, optimiser, given)
    return before


def peer(model: ValmLM, optimiser: torch.optim.Optimizer, given: Given, before: Tensor) -> Tensor:
    """One step on words alone; returns the same."""
    update(model, optimiser, given)
    return before


def same_without_pictures(first: Tensor, second: Tensor) -> str:
    """With its pictures hidden the model is the one without."""
    gap = float((first - second).abs().max())
    agree(gap < 1e-4, f"with hidden pictures log-probabilities differ by {gap:.0e}")
    return f"with hidden pictures log-probabilities differ by {gap:.0e}"


def run(size: Size = Size(), device: str = "cpu") -> list[Row]:
    """With pictures beside text alone; the target is 0.7 of the rate."""
    model, plain, text, shown = inputs(size, device)
    with torch.no_grad():
        hidden = {"images": shown["images"], "rows": torch.full_like(shown["rows"], -1)}
        before = model.log_probs(**text, **hidden), plain.log_probs(**text)
    return [
        compare(
            f"VaLM {size.config.layers}L-{size.config.hidden}H, {size.texts} × {size.tokens} tokens, K = {size.count}, "
            "beside text alone",
            partial(ours, model, adamw(model, 1e-4), {**text, **shown}, before[0]),
            partial(peer, plain, adamw(plain, 1e-4), text, before[1]),
            same_without_pictures,
            rounds=size.rounds,
            device=device,
            target=0.7,
        )
    ]
