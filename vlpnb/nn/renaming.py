"""Names of tensors and config fields in HuggingFace folders, as data: ours on the left, theirs on the right.

`#` stands for the number of a layer. The names are those of the BERT and RoBERTa classes of HuggingFace
transformers without the prefix `bert.` or `roberta.`, which `checkpoints.py` takes off and puts on. XLM-R
uses RoBERTa's names.
"""

PREFIXES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta."}
"""Supported values of `model_type`, and the prefix of the encoder in folders that hold a head too."""

ENCODER = {
    "embeddings.words": "embeddings.word_embeddings",
    "embeddings.positions": "embeddings.position_embeddings",
    "embeddings.types": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "blocks.#.look.attention.query": "encoder.layer.#.attention.self.query",
    "blocks.#.look.attention.key": "encoder.layer.#.attention.self.key",
    "blocks.#.look.attention.value": "encoder.layer.#.attention.self.value",
    "blocks.#.look.attention.out": "encoder.layer.#.attention.output.dense",
    "blocks.#.look.norm": "encoder.layer.#.attention.output.LayerNorm",
    "blocks.#.think.inner": "encoder.layer.#.intermediate.dense",
    "blocks.#.think.outer": "encoder.layer.#.output.dense",
    "blocks.#.think.norm": "encoder.layer.#.output.LayerNorm",
}
POOLER = {"dense": "pooler.dense"}
BERT_MLM = {
    "transform.dense": "cls.predictions.transform.dense",
    "transform.norm": "cls.predictions.transform.LayerNorm",
    "": "cls.predictions",
}
ROBERTA_MLM = {"transform.dense": "lm_head.dense", "transform.norm": "lm_head.layer_norm", "": "lm_head"}
BERT_CLASSIFIER = {"pooler.dense": "pooler.dense", "out": "classifier"}
ROBERTA_CLASSIFIER = {"pooler.dense": "classifier.dense", "out": "classifier.out_proj"}
CHOICE = BERT_CLASSIFIER  # RoBERTa chooses among texts from the encoder's own pooler, as BERT does
SPAN = {"out": "qa_outputs"}

_COMMON = {"encoder": ENCODER, "pooler": POOLER, "choice": CHOICE, "span": SPAN}
_ROBERTA = {**_COMMON, "mlm": ROBERTA_MLM, "classifier": ROBERTA_CLASSIFIER}
RULES = {
    "bert": {**_COMMON, "mlm": BERT_MLM, "classifier": BERT_CLASSIFIER},
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
"""`RULES[model_type][part]`: names of the modules of a part."""

ONLY_WRITTEN = ("choice", "span")
"""Parts that nothing here reads back: a folder with them is refused unless `ignore` names them."""

BACKBONE = ("embeddings.", "encoder.", "pooler.")
"""Beginnings of the names that take the prefix."""

OLD_LEAVES = {"gamma": "weight", "beta": "bias"}
"""Names of layer-norm parameters in folders converted from TensorFlow long ago."""

NOT_NEEDED = (
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "cls.seq_relationship.*",
    "cls.predictions.decoder.bias",
    "lm_head.decoder.bias",
    "visual_*",
    "voken_*",
    "cls.visn_decoder.*",
)
"""Left out in silence: counters saved as buffers, next-sentence prediction, second copies of tied biases, and the
heads of the original Vokenization checkpoints, which `vokenization.visual_lm.load_snapshot` reads."""

DECODERS = ("cls.predictions.decoder.weight", "lm_head.decoder.weight")
"""A copy of the word table in folders that hold one; it must equal the table, because ours is tied."""

CONFIG = {
    "vocab_size": "vocab_size",
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "type_vocab": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "norm_eps": "layer_norm_eps",
    "pad_id": "pad_token_id",
}
"""Fields of `TransformerConfig` in config.json; `activation` is translated below."""

REQUIRED = ("vocab_size", "hidden", "layers", "heads", "ffn", "max_positions")
"""Fields without which a config.json says too little; the others have BERT's or RoBERTa's usual values."""

ACTIVATION = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Theirs to ours; the first of several names is the one that is written."""

FIXED = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
"""Fields with one supported value: written, and refused when a folder says something else."""

_MADE_OF = {
    "encoder": "Model",
    "mlm": "ForMaskedLM",
    "classifier": "ForSequenceClassification",
    "choice": "ForMultipleChoice",
    "span": "ForQuestionAnswering",
}
ARCHITECTURES = {
    model_type: {part: prefix + kind for part, kind in _MADE_OF.items()}
    for model_type, prefix in {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}.items()
}
"""Written to config.json for people and hubs."""
