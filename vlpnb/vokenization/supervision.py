"""What a language model is pre-trained on: the examples, and the voken label of every token.

Paper: Vokenization (Tan & Bansal 2020), sections 2 and 5. Kinds of supervision:

| supervision | label of a token beside the masked words |
|---|---|
| `mlm` | none: the baseline |
| `vokens` | its voken: the image of the token in its context |
| `sentence` | the image of its sentence, at the sentence's first token only |
| `propagated` | the image of its sentence, at every token |
| `term` | the image of its word piece without context |
| `random` | an image drawn anew at each visit |
| `shuffle` | the vokens of its block in random order, drawn anew |
| `reverse` | the vokens of its block backwards |
| `token` | the token itself |
| `visual-only` | its voken, and no masked words (mlm_ratio 0) |

`sentence`, `propagated`, `term` and `vokens` are the rows of the paper's table of granularities; what a
voken file holds is a field of its metadata and is checked, where the original went by its name (VOK-10).
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vlpnb.data.store import attributes, mapped
from vlpnb.data.text_files import lines_of
from vlpnb.errors import UserError
from vlpnb.nn.losses import IGNORE
from vlpnb.stage import StageContext
from vlpnb.text.corpora import TokenCorpus, check_tokenizer
from vlpnb.text.packing import BlockDataset

Supervision = Literal[
    "mlm", "vokens", "sentence", "propagated", "term", "random", "shuffle", "reverse", "token", "visual-only"
]  # fmt: skip
Examples = Literal["blocks", "lines"]
VokenLabels = Literal["all", "mask", "nonmask"]


def voken_targets(
    ids: Int[Tensor, "B T"],
    vokens: Int[Tensor, "B T"] | None,
    masked: Bool[Tensor, "B T"],
    special: Bool[Tensor, "B T"],
    supervision: Supervision,
    labels: VokenLabels,
    count: int,
    generator: torch.Generator,
) -> Int[Tensor, "B T"] | None:
    """The voken label of every position, −100 where there is none.

    Args:
        ids: the *original* tokens. vokens: their vokens; −v−1 marks a token after the first of its sentence.
        masked: positions that the model must guess. special: [CLS], [SEP] and padding, which never have a label.
        count: V.
    """
    if supervision == "mlm":
        return None
    if supervision == "token":
        target = ids.clone()
    elif supervision == "random":
        target = torch.randint(count, ids.shape, generator=generator)
    else:
        target = vokens.clone()
        later = (target < 0) & ~special
        target[later] = -target[later] - 1 if supervision == "propagated" else IGNORE
        if supervision == "shuffle":
            order = torch.rand(len(ids), ids.shape[1] - 2, generator=generator)
            order = order.masked_fill(special[:, 1:-1], 1.0).argsort(dim=1)  # what is padded stays at the end
            target[:, 1:-1] = target[:, 1:-1].gather(1, order)
        elif supervision == "reverse":
            last = (~special).sum(1, keepdim=True)  # every row is [CLS], tokens, [SEP], padding
            at = torch.arange(ids.shape[1]).expand_as(ids)
            target = target.gather(1, torch.where(special, at, last + 1 - at))
    target[special] = IGNORE
    if labels != "all":
        target[~masked if labels == "mask" else masked] = IGNORE
    return target


def voken_count(folder: Path) -> int:
    """V: the length of the voken id list; UserError when training and validation were vokenised with other lists."""
    names = {}
    for split in ("train", "valid"):
        names[split] = [
            text for _, text in lines_of(Path(folder) / f"{split}.ids", "the image of each voken")
        ]
    if names["train"] != names["valid"]:
        raise UserError(
            f"{folder}: train.ids ({len(names['train'])} images) and valid.ids ({len(names['valid'])}) differ; "
            f"a voken must mean the same image in both. Run `vokens` again."
        )
    return len(names["train"])


def check_vokens(path: Path, vokens: int) -> None:
    """UserError when a store of vokens holds one that the id list beside it does not have."""
    labels = mapped(path, "vokens")
    for start in range(0, len(labels), 1 << 24):
        part = np.asarray(labels[start : start + (1 << 24)])
        top = int(np.where(part < 0, -part - 1, part).max())  # marked ones of whole sentences are negative
        if top >= vokens:
            raise UserError(
                f"{path} holds voken {top:,}, but {path.with_suffix('.ids')} lists {vokens:,} images; "
                "they come from different runs. Run `vokens` again."
            )


def training_data(context: StageContext, split: str, tokenizer) -> BlockDataset:
    """The examples of a split, with their vokens where the supervision needs any.

    Vokens are one per token, so lines have theirs as blocks do. UserError: the vokens are of another granularity or
    id list, or the corpus of another tokenizer.
    """
    config = context.config
    labels = None
    if config.needs_vokens and config.supervision != "random":
        labels = context.inputs["vokens"] / f"{split}.hdf5"
        found = attributes(labels).get("granularity", config.granularity)
        if found != config.granularity:
            raise UserError(
                f"{labels}: its vokens were retrieved per {found}; supervision {config.supervision!r} needs them "
                f"per {config.granularity}"
            )
        check_vokens(labels, voken_count(labels.parent))
    corpus = TokenCorpus(context.inputs["corpus"] / f"{split}.hdf5")
    check_tokenizer(corpus, tokenizer, "the folder beside it")
    return BlockDataset(
        corpus.path,
        labels,
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        block=config.block,
        legacy=config.original.blocks,
        exclude=config.original.exclude if split == "train" else None,
        lines=corpus.lines if config.examples == "lines" else None,
        pad_id=tokenizer.pad_token_id,
    )
