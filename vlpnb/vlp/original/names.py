"""Names of parameters: ours ↔ the original's, as data. `#` stands for the number of a layer.

The original's state dicts are those of BERT with `bert.` and `cls.`, beside `vis_embed.` (φ), `vis_pe_embed.` (ψ) and
`ans_classifier.`; BERT's and UniLM's checkpoints have the first two, or bare names. Any may have `module.` in front.
"""

import re

from vlpnb.nn.checkpoints import their_name
from vlpnb.nn.renaming import BACKBONE as BARE
from vlpnb.nn.renaming import ENCODER, OLD_LEAVES

RULES = {
    **{f"backbone.{ours}": f"bert.{theirs}" for ours, theirs in ENCODER.items()},
    "backbone.pooler.dense": "bert.pooler.dense",
    "backbone.features.#": "vis_embed.#",
    "backbone.geometry.#": "vis_pe_embed.#",
    "words": "cls.predictions",
    "words.dense": "cls.predictions.transform.dense",
    "words.norm": "cls.predictions.transform.LayerNorm",
    "answers.inner": "ans_classifier.0",
    "answers.out": "ans_classifier.2",
}
"""Modules: ours → the original's. A model has words or answers."""
WORDS = "bert.embeddings.word_embeddings.weight"
POSITIONS = "bert.embeddings.position_embeddings.weight"
SEGMENTS = "bert.embeddings.token_type_embeddings.weight"
TRANSFORM = "cls.predictions.transform."
DECODER = "cls.predictions.decoder.weight"
"""A second copy of the word table."""
NOT_NEEDED = ("bert.embeddings.position_ids", "cls.predictions.decoder.bias", "cls.seq_relationship.*")
"""Left out in silence: a counter saved as a buffer, a second copy of a tied bias, BERT's next-sentence head."""


def original_name(ours: str) -> str:
    """`backbone.blocks.3.think.norm.bias` → `bert.encoder.layer.3.output.LayerNorm.bias`."""
    return their_name(ours, RULES)


def from_file(name: str) -> str:
    """The name in the original's state dicts of a tensor of any of the files."""
    name = re.sub(r"^(module\.)+", "", name)
    if name.startswith(BARE):
        name = f"bert.{name}"
    module, _, leaf = name.rpartition(".")
    return f"{module}.{OLD_LEAVES.get(leaf, leaf)}".removeprefix(".")
