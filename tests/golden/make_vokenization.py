"""Records a folder for `vlpnb verify vokenization`: the formulas of Vokenization in plain PyTorch, without vlpnb.

    python -m tests.golden.make_vokenization FOLDER [--seed 1] [--hidden 24] [--heads 3] …

Everything is computed in float64 from the definitions (Tan & Bansal, EMNLP 2020, sections 2 and 3; Devlin et al. 2019)
and stored in float32. Weights are random, larger than an initialisation, so that a forgotten bias or an exchanged
layer norm shows, and carry the original project's names. `README.md` in the folder says what is in the files.
"""

import argparse
import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tests.golden import vokenization_cases as cases
from tests.golden.vokenization_weights import CLS, CONTRAST, SEP, SPECIALS, Draw, Sizes, weights

README = Path(__file__).resolve().parent / "vokenization" / "README.md"
CLOSE = 1e-5  # scores that ours, in float32, might order the other way
TOLERANCE = {
    "states": 1e-5,
    "scores": {"absolute": 1e-5, "relative": 2e-6, "of_largest": True},
    "losses": {"absolute": 1e-6, "relative": 1e-5},
    "gradients": {"absolute": 1e-6, "relative": 1e-4, "of_largest": True},
    "vectors": 5e-6,
    "parameters": 2e-6,
    "numbers": 1e-9,
    "shares": 0.01,
}


class TooClose(ValueError):
    """Two scores are nearer to each other than float32 can tell."""


# Parts of the model. `w` holds weights by the original's names.


def linear(w, name, x):
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def norm(w, name, x, eps):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x):
    return x / 2 * (1 + torch.erf(x / math.sqrt(2)))


def unit(x):
    return x / x.square().sum(-1, keepdim=True).sqrt()


def bert(w, ids, mask, s):
    """The L + 1 hidden states of BERT without dropout."""
    at = "bert.embeddings"
    x = w[f"{at}.word_embeddings.weight"][ids] + w[f"{at}.token_type_embeddings.weight"][0]
    x = norm(w, f"{at}.LayerNorm", x + w[f"{at}.position_embeddings.weight"][: ids.shape[1]], s.norm_eps)
    states, width = [x], s.hidden // s.heads
    hidden = torch.where(mask[:, None, None].bool(), 0.0, -torch.inf).double()  # (B, 1, 1, T)
    for layer in range(s.layers):
        at = f"bert.encoder.layer.{layer}"
        q, k, v = (
            linear(w, f"{at}.attention.self.{name}", x).unflatten(-1, (s.heads, width)).transpose(1, 2)
            for name in ("query", "key", "value")
        )  # (B, H, T, width)
        looked = (q @ k.mT / math.sqrt(width) + hidden).softmax(-1) @ v
        out = linear(w, f"{at}.attention.output.dense", looked.transpose(1, 2).flatten(2))
        x = norm(w, f"{at}.attention.output.LayerNorm", x + out, s.norm_eps)
        inner = gelu(linear(w, f"{at}.intermediate.dense", x))
        x = norm(w, f"{at}.output.LayerNorm", x + linear(w, f"{at}.output.dense", inner), s.norm_eps)
        states.append(x)
    return states


def trunk(w, dense, layer_norm, x, s):
    return norm(w, layer_norm, gelu(linear(w, dense, x)), s.norm_eps)


def word_trunk(w, x, s):
    at = "cls.predictions.transform"
    return trunk(w, f"{at}.dense", f"{at}.LayerNorm", x, s)


def word_scores(w, x, s):
    return word_trunk(w, x, s) @ w["bert.embeddings.word_embeddings.weight"].T + w["cls.predictions.bias"]


def contrast_scores(w, x, s):
    at = "visual_ctr_head"
    rows = linear(w, f"{at}.decoder_voken_feat", w["voken_feat_emb.weight"])
    rows = norm(w, f"{at}.layer_norm_y", rows, s.norm_eps)
    return trunk(w, f"{at}.dense", f"{at}.layer_norm_x", x, s) @ rows.T / math.sqrt(CONTRAST)


def headed(w, kind, x, s):
    """The voken head of that kind: `visual_cls_head` or `visual_reg_head`."""
    at = f"visual_{kind}_head"
    return linear(w, f"{at}.decoder", trunk(w, f"{at}.dense", f"{at}.layer_norm", x, s))


def projected(w, side, x):
    """A side's head of the matcher, onto the unit sphere."""
    return unit(linear(w, f"{side}.mlp.3", linear(w, f"{side}.mlp.0", x).relu()))


def cross_entropy(scores, target):
    """Of each row."""
    return scores.logsumexp(-1) - scores.gather(-1, target[:, None])[:, 0]


def smooth_l1(difference):
    size = difference.abs()
    return torch.where(size < 1, size.square() / 2, size - 0.5)


# What is recorded. Each function returns tensors and JSON values.


def token_vectors(w, heads, ids, mask, s):
    states = bert(w, ids, mask, s)
    return projected(heads, "lang_model", torch.cat(states[-s.read :], -1)), states


def matching(draw, w, heads, s):
    """Hidden states, both sides' vectors, the losses, gradients of the published one, recall within the batch."""
    heads = {name: tensor.requires_grad_() for name, tensor in heads.items()}
    ids, mask = draw.sentences(s)
    f, states = token_vectors(w, heads, ids, mask, s)
    features, own = draw(s.vokens, s.views, s.feature), draw.rng.permutation(s.vokens)[: s.sentences]
    g = projected(heads, "visn_model", features[own, 0])
    keys = unit(projected(heads, "visn_model", features).mean(1))
    score = torch.einsum("btd,jd->btj", f, g)  # token t of sentence b with picture j
    real = mask.bool()
    losses = {
        "hinge": cases.paired_hinge(score, real, s.margin),
        "all_pairs": cases.all_pairs_hinge(score, real, s.margin),
        "infonce": cases.info_nce(score, real, s.temperature),
        "infonce_symmetric": cases.info_nce(score, real, s.temperature, symmetric=True),
    }
    gradients = torch.autograd.grad(losses["hinge"], list(heads.values()), retain_graph=True)
    rank = torch.cat([cases.rank(score[b, t], b) for b, t in real.nonzero().tolist()])
    far_apart(torch.cat([score[real].sort(-1).values]))
    shown = mask[..., None]
    tensors = {"ids": ids, "mask": mask, "features": features, "own": torch.from_numpy(own)}
    tensors |= {f"states.{i}": state * shown for i, state in enumerate(states)}
    tensors |= {"f": f * shown, "g": g, "keys": keys, "ranks": rank}
    tensors |= {f"grad.{name}": grad for name, grad in zip(heads, gradients, strict=True)}
    values = {name: loss.item() for name, loss in losses.items()}
    return tensors, {"losses": values, "recall": cases.recall(rank)}, keys


def far_apart(ordered):
    if ordered.shape[-1] > 1 and ordered.diff(dim=-1).abs().min() < CLOSE:
        raise TooClose("two scores are almost equal; another seed has none")


def vokens(draw, w, heads, keys, s):
    """Sentences of a corpus → a picture for each token: in context, per sentence, per word; ties; the k best."""
    lengths = [1, s.tokens - 2, *draw.rng.integers(1, s.tokens - 1, s.sentences).tolist()]
    rows = [draw.whole(4, s.words, length) for length in lengths]

    def vectors(row):
        wrapped = torch.cat([torch.tensor([CLS]), row, torch.tensor([SEP])])[None]
        return token_vectors(w, heads, wrapped, torch.ones_like(wrapped), s)[0][0, 1:-1]

    f = [vectors(row) for row in rows]
    score = torch.cat(f) @ keys.T
    sentence = torch.stack([unit(each.mean(0)) for each in f]) @ keys.T
    word = torch.cat([vectors(token[None]) for token in torch.cat(rows)]) @ keys.T
    k = min(5, s.vokens)
    for each in (score, sentence, word):
        far_apart(each.sort(-1).values[:, -k - 1 :])
    marked = [
        torch.tensor(cases.marks(v, length))
        for v, length in zip(sentence.argmax(-1).tolist(), lengths, strict=True)
    ]
    ties = {"queries": draw.whole(-2, 3, 9, 4).double(), "keys": draw.whole(-2, 3, 3 * s.vokens, 4).double()}
    order = sorted_by_score(ties["queries"] @ ties["keys"].T)
    best = score.sort(-1, descending=True)
    return {
        "tokens": torch.cat(rows),
        "offsets": torch.tensor([0, *np.cumsum(lengths)]),
        "token": score.argmax(-1),
        "sentence": torch.cat(marked),
        "term": word.argmax(-1),
        "best.scores": best.values[:, :k],
        "best.vokens": best.indices[:, :k],
        **{f"ties.{name}": value for name, value in ties.items()},
        "ties.first": order[:, :1].contiguous(),
        "ties.best": order[:, :k].contiguous(),
    }


def sorted_by_score(scores):
    """Columns of each row, the best first, the lower one of equals first."""
    return torch.tensor([sorted(range(len(row)), key=lambda j: (-row[j], j)) for row in scores.tolist()])


def labelled_batch(draw, s):
    """Ids, mask, and labels of words and of vokens, −100 where there is none."""
    ids, mask = draw.sentences(s)
    inner = mask.bool() & (ids != CLS) & (ids != SEP)
    guessed = inner & (draw.whole(0, 4, *ids.shape) == 0)
    guessed[0, 1] = True
    words = draw.whole(4, s.words, *ids.shape).masked_fill(~guessed, -100)
    images = draw.whole(0, s.vokens, *ids.shape).masked_fill(
        ~inner | (draw.whole(0, 7, *ids.shape) == 0), -100
    )
    return {"ids": ids, "mask": mask, "mlm_labels": words, "voken_labels": images}


def language_model(draw, w, s):
    """The visually supervised model: states, scores, the losses of every objective, gradients of their sum."""
    w = {name: tensor.requires_grad_(name != "voken_feat_emb.weight") for name, tensor in w.items()}
    batch = labelled_batch(draw, s)
    ids, mask, words, images = batch.values()
    hidden = bert(w, ids, mask, s)[-1]
    x, target = hidden[images != -100], images[images != -100]
    said = word_scores(w, hidden[words != -100], s)
    scores = {"cls": headed(w, "cls", x, s), "ctr": contrast_scores(w, x, s)}
    predicted = headed(w, "reg", x, s)
    distance = smooth_l1(predicted - w["voken_feat_emb.weight"][target]).sum(-1)
    losses = {"mlm": cross_entropy(said, words[words != -100]).mean()}
    losses |= {f"voken_{name}": cross_entropy(score, target).mean() for name, score in scores.items()}
    losses |= {"voken_reg": distance.mean()}
    total = losses["voken_cls"] + losses["voken_ctr"] + losses["voken_reg"] + s.mlm_ratio * losses["mlm"]
    trained = [name for name in w if w[name].requires_grad]
    gradients = dict(zip(trained, torch.autograd.grad(total, [w[name] for name in trained]), strict=True))
    best = sorted_by_score(scores["cls"]) == target[:, None]
    far_apart(scores["cls"].sort(-1).values[:, -6:])
    tensors = batch | {"hidden": hidden * mask[..., None], "mlm_scores": said, "voken_prediction": predicted}
    tensors |= {f"voken_scores.{name}": score for name, score in scores.items()}
    small = [name for name in trained if gradients[name].numel() <= s.hidden**2]
    tensors |= {f"grad.{name}": gradients[name] for name in small}
    extra = {"voken_reg_over_all": distance.sum() / mask.sum(), "total": total}
    about = {
        "losses": {name: value.item() for name, value in (losses | extra).items()},
        "gradient_norm": {name: grad.norm().item() for name, grad in gradients.items()},
        "guesses": {"labels": len(target), "top1": int(best[:, 0].sum()), "top5": int(best[:, :5].sum())},
    }
    return tensors, about


def shared_heads(draw, w, s):
    """The variants in which one trunk serves words and vokens."""
    batch = labelled_batch(draw, s)
    ids, mask, words, images = batch.values()
    hidden = bert(w, ids, mask, s)[-1]
    x, target = word_trunk(w, hidden[images != -100], s), images[images != -100]
    decoder = {"cls": draw.dense("visn_decoder", s.vokens, s.hidden)}
    decoder["ctr"] = draw.dense("visn_decoder", s.hidden, s.feature)
    rows = linear(decoder["ctr"], "visn_decoder", w["voken_feat_emb.weight"])
    scores = {"cls": linear(decoder["cls"], "visn_decoder", x), "ctr": x @ rows.T}
    tensors = batch | {
        f"{kind}.weights.cls.{name}": t for kind, part in decoder.items() for name, t in part.items()
    }
    tensors |= {f"{kind}.scores": score for kind, score in scores.items()}
    losses = {kind: cross_entropy(score, target).mean().item() for kind, score in scores.items()}
    mlm = cross_entropy(word_scores(w, hidden[words != -100], s), words[words != -100]).mean().item()
    return tensors, {"losses": {kind: {"voken": loss, "mlm": mlm} for kind, loss in losses.items()}}


def settings(s):
    """`config.json` of the original's model."""
    return {
        "model_type": "bert",
        "vocab_size": s.words,
        "hidden_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "intermediate_size": s.ffn,
        "max_position_embeddings": s.positions,
        "type_vocab_size": 2,
        "layer_norm_eps": s.norm_eps,
        "hidden_act": "gelu",
        "pad_token_id": 0,
        "voken_size": s.vokens,
        "voken_dim": s.feature,
    }


def record(folder, s):
    """Write the folder; where two scores are too close to each other, other numbers are drawn."""
    for attempt in range(100):
        try:
            return _record(Path(folder), Draw(s.seed, attempt), s)
        except TooClose:
            continue
    raise TooClose("no draw keeps the scores apart; take fewer pictures or a wider joint space")


def _record(folder, draw, s):
    w, heads = weights(draw, s)
    made = {"weights": dict(w), "weights_matcher": dict(heads)}
    about = {}
    made["matching"], about["matching"], keys = matching(draw, w, heads, s)
    made["vokens"] = vokens(draw, w, heads, keys, s)
    made["shared_heads"], about["shared_heads"] = shared_heads(draw, w, s)
    made["language_model"], about["language_model"] = language_model(draw, w, s)
    made["supervision"] = cases.supervision(draw, s)
    made["optimiser"], about["optimiser"] = cases.optimisers(draw)
    about |= {"corpus": cases.corpus(draw), "metrics": cases.metrics(draw), "masking": cases.masking(s)}
    about["config"] = {
        "language_model": settings(s),
        "layers": list(range(-s.read, 0)),
        **{name: getattr(s, name) for name in ("margin", "temperature", "mlm_ratio")},
        "tolerance": TOLERANCE,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in made.items():
        stored = {
            key: (tensor.float() if tensor.is_floating_point() else tensor).detach().clone().contiguous()
            for key, tensor in tensors.items()
        }
        save_file(stored, folder / f"{name}.safetensors")
    for name, values in about.items():
        fields = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())
        (folder / f"{name}.json").write_text(f"{{\n{fields}\n}}\n", encoding="utf-8")
    pieces = [*SPECIALS, *(f"w{i}" for i in range(len(SPECIALS), s.words))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    if folder.resolve() != README.parent:
        shutil.copy(README, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    for each in dataclasses.fields(Sizes):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=each.type, default=each.default)
    given = vars(parser.parse_args())
    record(given.pop("folder"), Sizes(**given))
