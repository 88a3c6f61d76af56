"""A masked language model in named sizes: an encoder and its word head (BERT, Devlin et al. 2019; RoBERTa, Liu et al.
2019).
"""

from pathlib import Path

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vlpnb.errors import UserError, did_you_mean
from vlpnb.nn.checkpoints import load_mlm
from vlpnb.nn.heads import MLMHead
from vlpnb.nn.transformer import Encoder, TransformerConfig

# name: layers, hidden, heads, ffn. Small and base are the paper's; mini and tiny are for two CPU cores, and nano is
# what LXMERT's "tiny" can start from: its width, heads and language layer.
SIZES = {
    "base": (12, 768, 12, 3072),
    "small": (6, 512, 8, 2048),
    "4L-768H": (4, 768, 12, 3072),
    "mini": (4, 128, 4, 512),
    "tiny": (2, 128, 2, 512),
    "micro": (2, 64, 2, 256),
    "nano": (1, 64, 4, 256),
}


def language_model_config(size: str, tokenizer, dropout: float = 0.1) -> TransformerConfig:
    """The encoder's configuration: one of `SIZES`, BERT-like, or RoBERTa-like for a tokenizer with <s>.

    Raises:
        UserError: the size has no such name.
    """
    if size not in SIZES:
        raise UserError(f"vokenization.pretraining.size: {size!r} is no size{did_you_mean(size, SIZES)}")
    layers, hidden, heads, ffn = SIZES[size]
    roberta = tokenizer.cls_token == "<s>"
    offset = tokenizer.pad_token_id + 1 if roberta else 0
    return TransformerConfig(
        vocab_size=len(tokenizer),
        hidden=hidden,
        layers=layers,
        heads=heads,
        ffn=ffn,
        max_positions=512 + offset,
        type_vocab=1 if roberta else 2,
        dropout=dropout,
        attention_dropout=dropout,
        pad_id=tokenizer.pad_token_id,
        position_offset=offset,
        norm_eps=1e-5 if roberta else 1e-12,
    )


class MaskedLM(nn.Module):
    """Token ids → hidden states → words: an encoder and the head that guesses masked words."""

    def __init__(self, encoder: Encoder, mlm: MLMHead):
        super().__init__()
        self.encoder, self.mlm = encoder, mlm

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        mlm_labels: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The sum of the loss over the masked positions; labels are −100 where there is none."""
        return {"mlm": self.word_loss(self.encoder(ids, mask).last, mlm_labels)}

    def word_loss(self, hidden: Float[Tensor, "B T D"], labels: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Cross-entropy of the words at labelled positions, summed, from the encoder's last hidden states."""
        return self.mlm.loss(hidden, self.encoder.word_weight, labels, "sum")

    def states(
        self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """The encoder's last hidden states; `mask` is False at padding."""
        return self.encoder(ids, mask).last

    def word_scores(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """A score for every word of the vocabulary, from the encoder's last hidden states."""
        return self.mlm.logits(hidden, self.encoder.word_weight)


def new_masked_lm(config: TransformerConfig) -> MaskedLM:
    """A masked language model with new weights (see `nn.transformer.init_weights`)."""
    return MaskedLM(Encoder(config), MLMHead(config))


def load_masked_lm(folder: Path) -> MaskedLM:
    """The language model of a HuggingFace folder, in eval mode. UserError names a file that is missing or damaged."""
    return MaskedLM(*load_mlm(folder)).eval()
