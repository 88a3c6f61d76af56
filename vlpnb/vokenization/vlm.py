"""The visually supervised language model: a BERT that also predicts an image for every token.

Paper: Vokenization (Tan & Bansal 2020), section 3; spec 9.1 and 9.4. The model is an encoder and two heads on its
last hidden states h:

    total = CE(voken | h at every token)  +  mlm_ratio · CE(word | h at masked tokens)

The published voken objective is a classification over the V images ("cls"). The code of the original also holds
a regression to the image's feature ("reg"), a contrast with all features ("ctr"), and a trunk shared by both heads.

Differs from the original: the heads compute only the positions that carry a loss and never hold all scores
(`nn.losses.linear_cross_entropy`); the voken head is initialised like the rest (Q-15); the regression is averaged
over the labelled positions, not over all; losses are returned as sums, which the loop divides by global counts.
"""

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.errors import UserError, did_you_mean
from vlpnb.nn.checkpoints import fill_module, load_mlm, open_checkpoint, read_weights, save_hf
from vlpnb.nn.heads import MLMHead, Transform, VokenHead
from vlpnb.nn.losses import linear_cross_entropy
from vlpnb.nn.transformer import Encoder, TransformerConfig, init_weights
from vlpnb.text.masking import IGNORE

Objective = Literal["cls", "reg", "ctr"]
CONTRAST_WIDTH = 512  # of the space in which hidden states meet image features ("ctr")
HEAD_FILE = "voken_head.safetensors"

# The original project's names of the voken head (spec 9.4); with a shared trunk it is the decoder alone.
ORIGINAL_HEAD = {
    "transform.dense": "visual_cls_head.dense",
    "transform.norm": "visual_cls_head.layer_norm",
    "decoder": "visual_cls_head.decoder",
}
ORIGINAL_SHARED = "cls.visn_decoder"

# name: layers, hidden, heads, ffn. Small and base are the paper's; mini and tiny are for two CPU cores.
SIZES = {
    "base": (12, 768, 12, 3072),
    "small": (6, 512, 8, 2048),
    "4L-768H": (4, 768, 12, 3072),
    "mini": (4, 128, 4, 512),
    "tiny": (2, 128, 2, 512),
    "micro": (2, 64, 2, 256),
}


def language_model_config(size: str, tokenizer, dropout: float = 0.1) -> TransformerConfig:
    """The encoder's configuration: one of `SIZES`, BERT-like, or RoBERTa-like for a tokenizer with <s> (spec 9.8).

    Raises:
        UserError: the size has no such name.
    """
    if size not in SIZES:
        raise UserError(f"vlm.size: {size!r} is no size{did_you_mean(size, SIZES)}")
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


class VokenRegression(nn.Module):
    """Predicts the feature of a token's image: Linear, GELU, LayerNorm, Linear(D → F); SmoothL1, summed over F."""

    def __init__(self, config: TransformerConfig, features: Float[Tensor, "V F"]):
        super().__init__()
        self.transform = Transform(config, "gelu")
        self.out = nn.Linear(config.hidden, features.shape[1])
        self.register_buffer("features", features)
        init_weights(self)

    def loss(self, hidden: Float[Tensor, "N D"], target: Int[Tensor, " N"]) -> Float[Tensor, ""]:
        """The sum over the N positions."""
        return F.smooth_l1_loss(self.out(self.transform(hidden)), self.features[target], reduction="sum")

    def scores(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Minus the squared distance to each image: the nearest image has the highest score."""
        return -torch.cdist(self.out(self.transform(hidden)), self.features).square()


class VokenScorer(nn.Module):
    """Voken classification in one shape for all its variants: scores = trunk(h) · tableᵀ + bias.

    | variant | trunk | table |
    |---|---|---|
    | cls (published) | its own: Linear, GELU, LayerNorm | a weight [V D] and a bias |
    | ctr | its own, 512 wide | LayerNorm(Linear(features)) / √512 |
    | shared cls | the MLM head's | a weight [V D] and a bias |
    | shared ctr | the MLM head's | Linear(features) |
    """

    def __init__(
        self,
        config: TransformerConfig,
        vokens: int,
        objective: Objective,
        features: Float[Tensor, "V F"] | None,
        shared: bool,
    ):
        super().__init__()
        self.objective, self.shared = objective, shared
        if objective == "cls":
            if self.shared:
                self.decoder = nn.Linear(config.hidden, vokens)
            else:
                self.head = VokenHead(config, vokens)
        else:
            self.register_buffer("features", features)
            width = config.hidden if self.shared else CONTRAST_WIDTH
            self.embed = nn.Linear(features.shape[1], width, bias=self.shared)
            if not self.shared:
                self.embed_norm = nn.LayerNorm(width)
                self.query = nn.Sequential(nn.Linear(config.hidden, width), nn.GELU(), nn.LayerNorm(width))
        init_weights(self)

    def trunk(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N E"]:
        """Hidden states in the space of the table; with a shared head the caller has been through its trunk."""
        if self.shared:
            return hidden
        return self.head.transform(hidden) if self.objective == "cls" else self.query(hidden)

    def table(self) -> tuple[Float[Tensor, "V E"], Float[Tensor, " V"] | None]:
        """One row per voken, and the bias."""
        if self.objective == "cls":
            decoder = self.decoder if self.shared else self.head.decoder
            return decoder.weight, decoder.bias
        rows = self.embed(self.features)
        return (rows, None) if self.shared else (self.embed_norm(rows) / CONTRAST_WIDTH**0.5, None)

    def loss(self, hidden: Float[Tensor, "N D"], target: Int[Tensor, " N"]) -> Float[Tensor, ""]:
        """Cross-entropy over all vokens, summed over the N positions; never holds all scores."""
        weight, bias = self.table()
        return linear_cross_entropy(
            self.trunk(hidden), weight, bias, target, reduction="sum", ignore_index=None
        )

    def scores(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """All scores, for evaluation."""
        return F.linear(self.trunk(hidden), *self.table())


class VisuallySupervisedLM(nn.Module):
    """Encoder, MLM head, and a voken head when there are vokens.

    Args:
        config: of the encoder.
        vokens: V, size of the voken vocabulary; 0 for a plain masked language model.
        objective, shared: the voken objective, and whether its trunk is the MLM head's.
        features: [V F] image features, which "reg" and "ctr" need.

    Raises:
        UserError: features are missing, are too few, or the variant does not exist.
    """

    def __init__(
        self,
        config: TransformerConfig,
        vokens: int = 0,
        objective: Objective = "cls",
        shared: bool = False,
        features: Float[Tensor, "V F"] | None = None,
    ):
        super().__init__()
        if objective != "cls" and vokens and (features is None or len(features) != vokens):
            found = "none" if features is None else f"{len(features)} rows"
            raise UserError(f"voken objective {objective!r} needs features of {vokens} vokens, found {found}")
        if objective == "reg" and shared:
            raise UserError("the shared head exists for 'cls' and 'ctr' only; set shared_head to false")
        self.encoder = Encoder(config)
        self.mlm = MLMHead(config)
        self.voken: nn.Module | None = None
        if vokens and objective == "reg":
            self.voken = VokenRegression(config, features)
        elif vokens:
            self.voken = VokenScorer(config, vokens, objective, features, shared)
        self.shared = shared

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        mlm_labels: Int[Tensor, "B T"] | None = None,
        voken_labels: Int[Tensor, "B T"] | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The *sum* of each loss over its labelled positions: "mlm" and "voken", those whose labels are given.

        Labels are −100 where there is no loss. `mask` is False at padding; blocks of a corpus need none.
        """
        hidden = self.encoder(ids, mask).last
        losses = {}
        if voken_labels is not None:
            labelled = voken_labels != IGNORE
            losses["voken"] = self.voken.loss(self._states(hidden, labelled), voken_labels[labelled])
        if mlm_labels is not None:
            losses["mlm"] = self.mlm.loss(hidden, self.encoder.word_weight, mlm_labels, "sum")
        return losses

    def _states(self, hidden: Float[Tensor, "B T D"], labelled: Bool[Tensor, "B T"]) -> Float[Tensor, "N D"]:
        """What the voken head sees: the labelled positions, after the MLM head's trunk when that is shared."""
        return self.mlm.transform(hidden[labelled]) if self.shared else hidden[labelled]

    @torch.no_grad()
    def measure(
        self,
        ids: Int[Tensor, "B T"],
        mlm_labels: Int[Tensor, "B T"],
        voken_labels: Int[Tensor, "B T"] | None = None,
        chunk: int = 2048,
    ) -> dict[str, float]:
        """Sums and counts for an evaluation: losses, and vokens within the first 1 and 5 guesses."""
        hidden = self.encoder(ids).last
        loss = self.mlm.loss(hidden, self.encoder.word_weight, mlm_labels, "sum")
        sums = {"mlm": loss.item(), "mlm_count": float((mlm_labels != IGNORE).sum())}
        if voken_labels is None:
            return sums
        labelled = voken_labels != IGNORE
        states, target = self._states(hidden, labelled), voken_labels[labelled]
        sums |= {"voken": self.voken.loss(states, target).item(), "voken_count": float(len(target))}
        sums |= {"top1": 0.0, "top5": 0.0}
        for start in range(0, len(target), chunk):
            scores = self.voken.scores(states[start : start + chunk]).float()
            own = target[start : start + chunk, None]
            best = scores.topk(min(5, scores.shape[1]), dim=1).indices == own
            sums["top1"] += float(best[:, 0].sum())
            sums["top5"] += float(best.any(dim=1).sum())
        return sums


def save_snapshot(folder: Path, model: VisuallySupervisedLM, tokenizer) -> None:
    """A HuggingFace folder (`AutoModelForMaskedLM` opens it) with the published voken head beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model.voken, VokenScorer) and model.voken.objective == "cls" and not model.voken.shared:
        state = {
            name: tensor.detach().cpu().contiguous() for name, tensor in model.voken.head.state_dict().items()
        }
        save_file(state, folder / HEAD_FILE)
    save_hf(folder, model.encoder, mlm=model.mlm, tokenizer=tokenizer)


def original_names(module: nn.Module, shared: bool) -> dict[str, str]:
    """Names of a voken decoder's parameters in the original project's weights: ours → theirs."""
    names = {}
    for ours in module.state_dict():
        part, _, leaf = ours.rpartition(".")
        names[ours] = f"{ORIGINAL_SHARED}.{leaf}" if shared else f"{ORIGINAL_HEAD[part]}.{leaf}"
    return names


def load_snapshot(folder: Path) -> VisuallySupervisedLM:
    """The model of a snapshot in eval mode, with its voken head where the folder holds one.

    Also reads the original project's checkpoints: a HuggingFace folder whose weights (`pytorch_model.bin`,
    opened as tensors only) hold a classification head beside the language model. Heads of its other voken
    objectives are left out. UserError names the file of a snapshot that is damaged.
    """
    encoder, mlm = load_mlm(folder)
    file = Path(folder) / HEAD_FILE
    if file.is_file():
        head, shared = read_weights(file), False
        size = len(head.get("decoder.weight", ()))
    else:
        checkpoint = open_checkpoint(folder)
        file, theirs = checkpoint.file, checkpoint.tensors
        shared = f"{ORIGINAL_SHARED}.weight" in theirs and not checkpoint.settings.get("do_voken_ctr")
        size = len(theirs.get(f"{ORIGINAL_SHARED if shared else ORIGINAL_HEAD['decoder']}.weight", ()))
        head = None
    model = VisuallySupervisedLM(encoder.config, size, shared=shared)
    model.encoder, model.mlm = encoder, mlm
    if head is not None:
        fill_module(model.voken.head if model.voken is not None else VokenHead(encoder.config, 1), head, file)
    elif model.voken is not None:
        module = model.voken.decoder if shared else model.voken.head
        names = original_names(module, shared)
        missing = [name for name in names.values() if name not in theirs]
        if missing:
            raise UserError(f"{file}: tensor {missing[0]!r} of the voken head is missing")
        fill_module(module, {ours: theirs[name] for ours, name in names.items()}, file)
    return model.eval()
