"""The visually supervised language model: a BERT that also predicts an image for every token.

Paper: Vokenization (Tan & Bansal 2020), section 2. The model is a masked language model
(`nn.language_model`) with a second head on its encoder's last hidden states h:

    total = CE(voken | h at every token)  +  mlm_ratio · CE(word | h at masked tokens)

The published voken objective is a classification over the V images ("cls"). The code of the original also holds
a regression to the image's feature ("reg"), a contrast with all features ("ctr"), sums of several of these, and a
trunk shared by both heads; the voken heads are in `voken_heads.py`.

Differs from the original: the heads compute only the positions that carry a loss and never hold all scores
(`nn.losses.linear_cross_entropy`); the voken head is initialised like the rest (VOK-15); the regression is averaged
over the labelled positions, not over all; losses are returned as sums, which the loop divides by global counts.
"""

from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn

from vlpnb.errors import UserError
from vlpnb.nn.checkpoints import AGAIN, fill_module, open_checkpoint, read_weights, save_hf
from vlpnb.nn.labelled import places_of
from vlpnb.nn.language_model import load_masked_lm, new_masked_lm
from vlpnb.nn.losses import IGNORE
from vlpnb.nn.transformer import TransformerConfig
from vlpnb.vokenization.original.heads import our_tensors
from vlpnb.vokenization.voken_heads import OBJECTIVES, VokenRegression, VokenScorer, loss_names, objectives_of

HEAD_FILE = "voken_head.safetensors"
PREFIXES = tuple(f"{name}." for name in OBJECTIVES)


class VisuallySupervisedLM(nn.Module):
    """A masked language model, and voken heads when there are vokens.

    `voken` is the head that guesses vokens in an evaluation: that of cls if it is among the objectives, else of ctr,
    else of reg. `further` holds the heads of the other objectives.

    Args:
        config: of the encoder.
        vokens: V, size of the voken vocabulary; 0 for a plain masked language model.
        objective: "cls", "ctr", "reg", or several joined by "+", whose losses add up.
        shared: the voken head's trunk is the MLM head's.
        features: [V F] image features, which "reg" and "ctr" need.

    Raises:
        UserError: features are missing, are too few, or the variant does not exist.
    """

    def __init__(
        self,
        config: TransformerConfig,
        vokens: int = 0,
        objective: str = "cls",
        shared: bool = False,
        features: Float[Tensor, "V F"] | None = None,
    ):
        super().__init__()
        objectives = objectives_of(objective, shared)
        if objectives != ("cls",) and vokens and (features is None or len(features) != vokens):
            found = "none" if features is None else f"{len(features)} rows"
            raise UserError(f"voken objective {objective!r} needs features of {vokens} vokens, found {found}")
        self.language = new_masked_lm(config)
        heads = {
            name: VokenRegression(config, features)
            if name == "reg"
            else VokenScorer(config, vokens, name, features, shared)
            for name in (objectives if vokens else ())
        }
        self.voken: nn.Module | None = heads.pop(objectives[0], None)
        self.further = nn.ModuleDict(heads)
        self.shared = shared

    @property
    def encoder(self) -> nn.Module:
        """The language model's encoder."""
        return self.language.encoder

    @property
    def mlm(self) -> nn.Module:
        """The language model's word head."""
        return self.language.mlm

    @property
    def heads(self) -> dict[str, nn.Module]:
        """All voken heads by the names of their losses: "voken", or "voken_cls" … when there are several."""
        heads = [] if self.voken is None else [self.voken, *self.further.values()]
        names = loss_names(tuple(head.objective for head in heads))
        return {names[head.objective]: head for head in heads}

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        mlm_labels: Int[Tensor, "B T"] | None = None,
        voken_labels: Int[Tensor, "B T"] | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The *sum* of each loss over its labelled positions: "mlm" and those of `heads`, where labels are given.

        Labels are −100 where there is no loss. `mask` is False at padding; blocks of a corpus need none.
        """
        hidden = self.encoder(ids, mask).last
        losses = {}
        if voken_labels is not None:
            states, target = self._labelled(hidden, voken_labels)
            losses |= {name: head.loss(states, target) for name, head in self.heads.items()}
        if mlm_labels is not None:
            losses["mlm"] = self.language.word_loss(hidden, mlm_labels)
        return losses

    def voken_scores(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """What `voken` gives every voken, from the encoder's last hidden states."""
        return self.voken.scores(self.mlm.transform(hidden) if self.shared else hidden)

    def _labelled(
        self, hidden: Float[Tensor, "B T D"], labels: Int[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "N D"], Int[Tensor, " N"]]:
        """What the voken heads see, and their targets: the labelled positions, after the MLM head's trunk when that is
        shared.
        """
        at = places_of(labels != IGNORE, "vokens")
        states = hidden.flatten(0, 1).index_select(0, at)
        return self.mlm.transform(states) if self.shared else states, labels.flatten().index_select(0, at)

    @torch.no_grad()
    def measure(
        self,
        ids: Int[Tensor, "B T"],
        mlm_labels: Int[Tensor, "B T"],
        voken_labels: Int[Tensor, "B T"] | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
        chunk: int = 2048,
    ) -> dict[str, float]:
        """Sums and counts for an evaluation: losses, and vokens within the first 1 and 5 guesses of `voken`.

        "voken" is the sum of all voken losses; where there are several, each is there too.
        """
        hidden = self.encoder(ids, mask).last
        loss = self.language.word_loss(hidden, mlm_labels)
        sums = {"mlm": loss.item(), "mlm_count": float((mlm_labels != IGNORE).sum())}
        if voken_labels is None:
            return sums
        states, target = self._labelled(hidden, voken_labels)
        losses = {name: head.loss(states, target).item() for name, head in self.heads.items()}
        sums |= losses | {"voken": sum(losses.values()), "voken_count": float(len(target))}
        sums |= {"top1": 0.0, "top5": 0.0}
        for start in range(0, len(target), chunk):
            scores = self.voken.scores(states[start : start + chunk]).float()
            own = target[start : start + chunk, None]
            best = scores.topk(min(5, scores.shape[1]), dim=1).indices == own
            sums["top1"] += float(best[:, 0].sum())
            sums["top5"] += float(best.any(dim=1).sum())
        return sums


def save_snapshot(folder: Path, model: VisuallySupervisedLM, tokenizer) -> None:
    """A HuggingFace folder (`AutoModelForMaskedLM` opens it) with the voken heads in a file beside it.

    The file has a head's tensors under `<objective>.`, and the image features, if any, once as `features`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {}
    for head in model.heads.values():
        for name, tensor in head.state_dict().items():
            name = name if name == "features" else f"{head.objective}.{name}"
            state[name] = tensor.detach().cpu().contiguous()
    if state:
        save_file(state, folder / HEAD_FILE)
    save_hf(folder, model.encoder, mlm=model.mlm, tokenizer=tokenizer)


def load_snapshot(folder: Path) -> VisuallySupervisedLM:
    """The model of a snapshot in eval mode, with its voken heads where the folder holds any.

    Also reads the original project's checkpoints: a HuggingFace folder whose weights (`pytorch_model.bin`,
    opened as tensors only) hold the heads beside the language model. Heads of "reg" and "ctr" are left out where
    the image features are not with them. UserError names the file of a snapshot that is damaged.
    """
    language = load_masked_lm(folder)
    file = Path(folder) / HEAD_FILE
    if file.is_file():
        tensors = read_weights(file)
        if not any(name.startswith(PREFIXES) for name in tensors):  # of before there were several heads
            tensors = {f"cls.head.{name}": tensor for name, tensor in tensors.items()}
    else:
        checkpoint = open_checkpoint(folder)
        file, tensors = checkpoint.file, our_tensors(checkpoint.tensors, checkpoint.settings, checkpoint.file)
    objectives = [name for name in OBJECTIVES if any(key.startswith(f"{name}.") for key in tensors)]
    shared = "cls.decoder.weight" in tensors or "ctr.embed.bias" in tensors
    features = tensors.get("features")
    if features is None and set(objectives) - {"cls"}:
        raise UserError(f"{file}: tensor 'features' is missing; {AGAIN}")
    decoder = "cls.decoder.weight" if shared else "cls.head.decoder.weight"
    rows = tensors.get(decoder) if "cls" in objectives else features
    vokens = 0 if not objectives else 1 if rows is None else len(rows)
    model = VisuallySupervisedLM(
        language.encoder.config, vokens, "+".join(objectives) or "cls", shared, features
    )
    model.language = language
    for head in model.heads.values():
        prefix = f"{head.objective}."
        state = {k.removeprefix(prefix): tensor for k, tensor in tensors.items() if k.startswith(prefix)}
        fill_module(head, state | ({"features": features} if head.objective != "cls" else {}), file)
    return model.eval()
