"""The batches of pre-training: examples, masked, with the labels of their kind of supervision."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vlpnb.nn.losses import IGNORE
from vlpnb.text.masking import mask_tokens
from vlpnb.text.packing import BlockDataset, trimmed
from vlpnb.train.sampling import EpochSampler, Update, seed_of, share
from vlpnb.vokenization.supervision import voken_targets
from vlpnb.vokenization.voken_heads import loss_names, objectives_of


class Batches:
    """Update number → its examples, masked, with their labels. Masks come first from the generator, then the voken
    labels: all kinds of supervision see the same masked words. Padding is as long as a block while they are drawn
    and cut to the longest line of a micro-batch afterwards, so that it changes nothing."""

    def __init__(
        self,
        config: Any,
        data: BlockDataset,
        tokenizer,
        vokens: int,
        rank: int,
        world_size: int,
    ):
        self.config, self.data, self.tokenizer, self.vokens = config, data, tokenizer, vokens
        self.rank, self.world_size = rank, world_size
        self.sampler = EpochSampler(
            len(data), min(config.batch, len(data)), config.seed, config.shuffled, drop_last=True
        )
        self.micro = math.ceil(self.sampler.batch / world_size / config.micro_batch)

    def examples(
        self, rows: np.ndarray, generator: torch.Generator
    ) -> dict[str, Int[Tensor, "B T"] | Bool[Tensor, "B T"]]:
        """ids, mlm_labels, voken_labels and, of lines, mask [B, block + 2] of some examples."""
        config, batch = self.config, self.data.batch(rows)
        ids = batch["ids"]
        mask = batch.get("mask", torch.ones_like(ids, dtype=torch.bool))
        special = ~mask
        special[:, 0] = True
        special[torch.arange(len(ids)), mask.sum(1) - 1] = True
        size, mask_id = len(self.tokenizer), self.tokenizer.mask_token_id
        inputs, mlm_labels = mask_tokens(ids, special, mask_id, size, generator, config.mask_rate)
        masked = mlm_labels != IGNORE
        kind, which = config.supervision, config.voken_labels
        targets = voken_targets(
            ids, batch.get("labels"), masked, special, kind, which, self.vokens, generator
        )
        made = {"ids": inputs, "mlm_labels": mlm_labels, "voken_labels": targets, "mask": batch.get("mask")}
        return {name: value for name, value in made.items() if value is not None}

    def __call__(self, update: int) -> Update:
        config, rows = self.config, self.sampler(update)
        generator = torch.Generator().manual_seed(seed_of(config.seed, update))
        made = self.examples(rows, generator)
        if config.mlm_weight == 0:
            del made["mlm_labels"]
        counts = {
            name.removesuffix("_labels"): int((value != IGNORE).sum())
            for name, value in made.items()
            if name.endswith("_labels")
        }
        tokens = int(made["mask"].sum()) if "mask" in made else made["ids"].numel()
        if "voken" in counts:
            names, labelled = loss_names(objectives_of(config.objective)), counts.pop("voken")
            counts |= dict.fromkeys(names.values(), labelled)
            if config.original.mean_over_all and "reg" in names:
                counts[names["reg"]] = tokens
        shares = share(torch.arange(len(rows)), self.rank, self.world_size, self.micro)
        micro = [trimmed({name: value[part] for name, value in made.items()}) for part in shares]
        return Update(micro, counts, tokens)

    def tokens(self, updates: int) -> int:
        """Tokens of the first `updates` updates with the special ones, without padding."""
        if not self.data.padded:
            return updates * self.sampler.batch * (self.data.block + 2)
        return sum(int((self.data.lengths[self.sampler(i)] + 2).sum()) for i in range(updates))
