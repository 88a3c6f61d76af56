"""A tiny CCLM in float64, with pictures as patches, for the models of the tasks."""

import torch

from vlpnb.cclm.answering import AnsweringModel
from vlpnb.cclm.config import CclmConfig
from vlpnb.cclm.model import Cclm
from vlpnb.downstream.answer_ranking import Answers

V, D, F, P = 53, 32, 6, 4
PIECES = ((0, 7, 2), (0, 9, 8, 2), (0, 7, 8, 11, 2), (0, 12, 2), (0, 9, 2), (0, 30, 31, 32, 33, 2))
TEXTS = ("red", "dark blue", "red car park", "yes", "dark", "a b c d")
PICTURE = torch.tensor([0, 1, 1, 3])


def backbone(seed: int = 0, **changes) -> Cclm:
    """Weights far from those of a new model, so that everything matters; in eval mode."""
    fields = {
        "vocab_size": V, "hidden": D, "text_layers": 2, "fusion_layers": 2, "heads": 4, "ffn": 40, "max_positions": 24,
        "width": 16, "image_width": F,
    }  # fmt: skip
    torch.manual_seed(seed)
    model = Cclm(CclmConfig(**{**fields, **changes})).double().eval()
    scatter(model)
    return model


def scatter(model: torch.nn.Module) -> None:
    """Weights of a model that has learnt something: none is 0 or 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.15 if parameter.ndim > 1 else 0.3))


def texts(lengths=(5, 3, 7, 4), seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids `<s> … </s>` and mask."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.full((len(lengths), longest), 1)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(4, V - 1, (length,), generator=generator)
        ids[row, 0], ids[row, length - 1] = 0, 2
    return ids, ids != 1


def pictures(count: int = 4, seed: int = 2) -> torch.Tensor:
    """Patches of some pictures, [N, 1+P, F]."""
    return torch.randn(count, 1 + P, F, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def answering(seed: int = 0) -> AnsweringModel:
    """A model that ranks answers, whose decoder is no longer the backbone's copy."""
    made = AnsweringModel(backbone(seed)).double().eval()
    scatter(made)
    return made


def answers(texts=TEXTS, pieces=PIECES) -> Answers:
    """Candidates, which are made up."""
    return Answers.of(texts, pieces, 1)


def states_of(model: AnsweringModel) -> tuple[torch.Tensor, torch.Tensor]:
    """The states of four questions about pictures, and their mask."""
    ids, mask = texts()
    return model.read(ids, mask, model.backbone.pictures(pictures()), PICTURE), mask


def log_probs_plainly(model, states, mask, pieces):
    """Of each piece after `<s>` of one answer, by a whole pass over a sentence that the question repeats."""
    found = []
    for row in range(len(states)):
        seen = states[row, : mask[row].sum()][None]
        x = model.decoder.embed(torch.tensor([pieces[:-1]]))
        causal = torch.ones(len(pieces) - 1, len(pieces) - 1, dtype=torch.bool).tril()[None, None]
        for layer in model.decoder.layers:
            x, _ = layer.look(x, causal)
            x, _ = layer.meet(x, None, seen)
            x = layer.think(x)
        scores = model.decoder.logits(x[0]).log_softmax(-1)
        found.append(scores[torch.arange(len(pieces) - 1), torch.tensor(pieces[1:])])
    return torch.stack(found)  # (B, L - 1)
