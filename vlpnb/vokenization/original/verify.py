"""Vokenization held against recorded numbers: `vlpnb verify vokenization FOLDER`.

The layout is that of `tests/golden/vokenization`, whose README tells what each file holds; every size, option and
tolerance comes from the folder. Weights carry the original's names and are opened in the ways that open the original's
own: as a snapshot of its language model, and as the state dict of its matcher.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.recorded import Entries, RecordedFolder
from vlpnb.downstream.glue import result_row
from vlpnb.metrics.retrieval import diversity, ranks, recall, token_batch_ranks
from vlpnb.nn.checkpoints import their_name
from vlpnb.nn.losses import all_pairs_hinge, info_nce, paired_hinge
from vlpnb.nn.renaming import BERT_MLM, ENCODER, PREFIXES
from vlpnb.retrieval.exact import top_k
from vlpnb.text.alignment import align
from vlpnb.text.backbones import load_language
from vlpnb.text.masking import IGNORE, mask_tokens
from vlpnb.text.packing import block_starts
from vlpnb.text.pages import pieces_of
from vlpnb.text.sentences import split_long
from vlpnb.train.loop import TrainingPlan, fit
from vlpnb.train.sampling import Update
from vlpnb.vokenization.matcher import Matcher, MatchingLoss, Projection, picture_vectors
from vlpnb.vokenization.original.heads import original_names
from vlpnb.vokenization.original.weights import load_weights
from vlpnb.vokenization.supervision import voken_targets
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, load_snapshot
from vlpnb.vokenization.vokeniser import Vokeniser, decode_marks, mark_sentence

HEADS = {"f": "lang_model.mlp", "g": "visn_model.mlp"}  # of the matcher: ours → the original's


def tolerance(folder: RecordedFolder, name: str) -> Tolerance:
    """The folder's tolerance for a kind of number."""
    config = folder.json("config.json")
    return Tolerance.of(config["tolerance"][name], f"{config.file}: tolerance.{name}")


def hugging_face_folder(
    folder: RecordedFolder, at: str, further: Mapping[str, Tensor] | None = None, **settings: object
) -> Path:
    """The recorded language model as its original saved it, written to `at`."""
    place = Path(at)
    config = dict(folder.json("config.json")["language_model"])
    (place / "config.json").write_text(json.dumps(config | settings), encoding="utf-8")
    save_file({**folder.tensors("weights.safetensors"), **(further or {})}, place / "model.safetensors")
    shutil.copy(folder.path("vocab.txt"), place)
    return place


def matcher(folder: RecordedFolder) -> Matcher:
    """The recorded matcher: two heads, and the language model as its backbone."""
    heads, config = folder.tensors("weights_matcher.safetensors"), folder.json("config.json")
    projections = []
    for name in HEADS.values():
        (hidden, width), joint = heads[f"{name}.0.weight"].shape, len(heads[f"{name}.3.weight"])
        projections.append(Projection(width, hidden, joint, dropout=0.0))
    with TemporaryDirectory() as at:
        language = load_language(hugging_face_folder(folder, at), config["layers"])
    made = Matcher(*projections, language)
    load_weights(made, str(folder.path("weights_matcher.safetensors")), source=None)
    return made.eval()


def matching(folder: RecordedFolder) -> Iterator[Case]:
    """States, vectors, losses, the gradient of the published loss, recall within the batch."""
    model, config = matcher(folder), folder.json("config.json")
    recorded, about = folder.tensors("matching.safetensors"), folder.json("matching.json")
    vectors, losses = tolerance(folder, "vectors"), tolerance(folder, "losses")
    ids, mask = recorded["ids"], recorded["mask"].bool()
    states = model.language.net(ids, mask, hidden_states=True).hidden_states
    for i, state in enumerate(states):
        yield recorded.case(f"states.{i}", state * mask[..., None], tolerance(folder, "states"))
    features = recorded["features"]
    pictures = features[recorded["own"], 0]
    f, g = model.f(model.language(ids, mask)), model.g(pictures)
    yield recorded.case("f", f * mask[..., None], vectors)
    yield recorded.case("g", g, vectors)
    yield recorded.case("keys", picture_vectors(model.g, features), vectors)
    hinge = partial(paired_hinge, margin=config["margin"])
    named = {
        "hinge": hinge(f, g, mask),
        "all_pairs": all_pairs_hinge(f, g, mask, config["margin"]),
        "infonce": info_nce(f, g, mask, config["temperature"]),
        "infonce_symmetric": info_nce(f, g, mask, config["temperature"], symmetric=True),
    }
    for name, loss in named.items():
        yield about["losses"].case(name, loss, losses)
    sums = MatchingLoss(model, hinge)(ids, mask, pictures, mask)
    (sums["matching"] / mask.sum()).backward()
    for ours, theirs in HEADS.items():
        for name, parameter in getattr(model, ours).named_parameters():
            yield recorded.case(f"grad.{theirs}.{name}", parameter.grad, tolerance(folder, "gradients"))
    rank = token_batch_ranks(f, g, mask)
    yield recorded.case("ranks", rank)
    yield about.case("recall", both_recalls(rank), tolerance(folder, "numbers"))


def both_recalls(rank: Tensor) -> dict[str, float]:
    """R@k, and as the original counts it (VOK-06)."""
    return recall(rank) | recall(rank, prefix="legacy_r", legacy=True)


def vokens(folder: RecordedFolder) -> Iterator[Case]:
    """The picture of every token of a corpus, in the three granularities; exact search with ties."""
    model, recorded = matcher(folder), folder.tensors("vokens.safetensors")
    with torch.no_grad():
        keys = picture_vectors(model.g, folder.tensors("matching.safetensors")["features"])
    ends = recorded["offsets"].tolist()
    sentences = [recorded["tokens"][a:b].tolist() for a, b in pairwise(ends)]
    for granularity in ("token", "sentence", "term"):
        yield recorded.case(granularity, Vokeniser(model, keys, granularity)(sentences))
    best = Vokeniser(model, keys).top(sentences, recorded["best.vokens"].shape[1])
    yield recorded.case("best.vokens", torch.cat([ids for _, ids in best]))
    yield recorded.case(
        "best.scores", torch.cat([scores for scores, _ in best]), tolerance(folder, "vectors")
    )
    for name in ("first", "best"):
        k = recorded[f"ties.{name}"].shape[1]
        yield recorded.case(f"ties.{name}", top_k(recorded["ties.queries"], recorded["ties.keys"], k)[1])


def language_model(folder: RecordedFolder) -> Iterator[Case]:
    """The model with a head for every voken objective: scores, losses, gradients of the total."""
    recorded, about = folder.tensors("language_model.safetensors"), folder.json("language_model.json")
    with TemporaryDirectory() as at:
        model = load_snapshot(hugging_face_folder(folder, at))
    batch = batch_of(recorded)
    scores = tolerance(folder, "scores")
    hidden = model.encoder(batch["ids"], batch["mask"]).last
    yield recorded.case("hidden", hidden * batch["mask"][..., None], tolerance(folder, "states"))
    guessed, labelled = (batch[name] != IGNORE for name in ("mlm_labels", "voken_labels"))
    words = model.mlm.logits(hidden[guessed], model.encoder.word_weight)
    yield recorded.case("mlm_scores", words, scores)
    for name in ("cls", "ctr"):
        yield recorded.case(
            f"voken_scores.{name}", model.heads[f"voken_{name}"].scores(hidden[labelled]), scores
        )
    regression = model.heads["voken_reg"]
    yield recorded.case("voken_prediction", regression.out(regression.transform(hidden[labelled])), scores)

    sums, counts = model(**batch), {"mlm": guessed.sum()}
    losses = {name: loss / counts.get(name, labelled.sum()) for name, loss in sums.items()}
    total = sum(loss for name, loss in losses.items() if name != "mlm")
    losses["total"] = total + folder.json("config.json")["mlm_ratio"] * losses["mlm"]
    losses["voken_reg_over_all"] = sums["voken_reg"] / batch["mask"].sum()
    for name in about["losses"]:
        yield about["losses"].case(name, losses[name], tolerance(folder, "losses"))
    measured = model.measure(**batch)
    guesses = {"labels": "voken_count", "top1": "top1", "top5": "top5"}
    yield about.case("guesses", {theirs: int(measured[ours]) for theirs, ours in guesses.items()})

    losses["total"].backward()
    gradients = original_gradients(model)
    yield about.case(
        "gradient_norm",
        {name: g.norm().item() for name, g in gradients.items()},
        tolerance(folder, "gradients"),
    )
    for name in recorded.below("grad."):
        yield recorded.case(f"grad.{name}", gradients[name], tolerance(folder, "gradients"))


def batch_of(recorded: Entries) -> dict[str, Tensor]:
    """What the language model's forward takes."""
    batch = {name: recorded[name] for name in ("ids", "mlm_labels", "voken_labels")}
    return batch | {"mask": recorded["mask"].bool()}


def original_gradients(model: VisuallySupervisedLM) -> dict[str, Tensor]:
    """The gradients by the original's names of the parameters."""
    prefix = PREFIXES["bert"]
    parts = [(model.encoder, lambda name: prefix + their_name(name, ENCODER))]
    parts += [(model.mlm, lambda name: their_name(name, BERT_MLM))]
    parts += [(head, original_names(head).__getitem__) for head in model.heads.values()]
    return {theirs(name): p.grad for part, theirs in parts for name, p in part.named_parameters()}


def shared_heads(folder: RecordedFolder) -> Iterator[Case]:
    """The variants whose one trunk serves words and vokens."""
    recorded, about = folder.tensors("shared_heads.safetensors"), folder.json("shared_heads.json")
    batch = batch_of(recorded)
    for kind in about["losses"]:
        decoder = recorded.below(f"{kind}.weights.")
        with TemporaryDirectory() as at:
            model = load_snapshot(hugging_face_folder(folder, at, decoder, **{f"do_voken_{kind}": True}))
        hidden = model.encoder(batch["ids"], batch["mask"]).last
        labelled = batch["voken_labels"] != IGNORE
        yield recorded.case(
            f"{kind}.scores", model.voken_scores(hidden[labelled]), tolerance(folder, "scores")
        )
        sums = model(**batch)
        counts = {"voken": labelled.sum(), "mlm": (batch["mlm_labels"] != IGNORE).sum()}
        for name, count in counts.items():
            yield about["losses"][kind].case(name, sums[name] / count, tolerance(folder, "losses"))


def supervision(folder: RecordedFolder) -> Iterator[Case]:
    """Voken labels of every kind of supervision that draws nothing, and of the shuffled kind but for their order."""
    recorded, config = folder.tensors("supervision.safetensors"), folder.json("config.json")
    ids, special, guessed = recorded["ids"], recorded["special"].bool(), recorded["guessed"].bool()
    vokens_of = {"sentence": recorded["marked"], "propagated": recorded["marked"]}

    def labels(kind: str, which: str) -> Tensor:
        own, count = vokens_of.get(kind, recorded["images"]), config["language_model"]["voken_size"]
        return voken_targets(ids, own, guessed, special, kind, which, count, torch.Generator().manual_seed(0))

    for name in recorded.below("target."):
        yield recorded.case(f"target.{name}", labels(*name.split(".")))
    yield recorded.case("shuffle.sorted", labels("shuffle", "all").sort(1).values)


def corpus(folder: RecordedFolder) -> Iterator[Case]:
    """Pieces of long sentences (VOK-09), blocks (VOK-14), marks, and the alignment of two tokenisations."""
    about = folder.json("corpus.json")
    for cut in about["pieces"]:
        length, limit = cut["length"], cut["limit"]
        for name, legacy in (("legacy", True), ("balanced", False)):
            yield cut.case(name, split_long(length, limit, legacy))
            yield cut.case(name, np.diff(pieces_of(np.array([0, length]), limit, legacy)))
    for cut in about["blocks"]:
        for name, legacy in (("legacy", True), ("full", False)):
            yield cut.case(name, len(block_starts(cut["tokens"], cut["block"], legacy)))
    for sentence in about["marks"]:
        stored = mark_sentence(sentence["voken"], sentence["length"])
        yield sentence.case("stored", stored)
        for policy in ("first", "all"):
            yield sentence.case(policy, decode_marks(np.array(stored), policy))
    for text in about["alignment"]:
        yield text.case("source", align(*(np.array(text[name]) for name in ("forward", "backward"))))


def masking(folder: RecordedFolder) -> Iterator[Case]:
    """The shares of BERT's masking, over a draw as large as the folder says."""
    about = folder.json("masking.json")
    draw = about["draw"]
    generator = torch.Generator().manual_seed(draw["seed"])
    shape = draw["rows"], draw["tokens"]
    ids = torch.randint(draw["mask"] + 1, draw["vocabulary"], shape, generator=generator)
    special = torch.zeros(shape, dtype=torch.bool)
    special[:, [0, -1]] = True
    inputs, labels = mask_tokens(ids, special, draw["mask"], draw["vocabulary"], generator, draw["rate"])
    chosen = labels != IGNORE
    shares = tolerance(folder, "shares")
    yield about.case("selected", chosen[~special].double().mean(), shares)
    masked, same = inputs[chosen] == draw["mask"], inputs[chosen] == ids[chosen]
    parts = {"mask": masked, "unchanged": same, "other": ~(masked | same)}
    yield about.case("of_selected", {name: part.double().mean() for name, part in parts.items()}, shares)
    yield about.case("special_selected", int(chosen[special].sum()))
    yield about.case("others_changed", int((inputs != ids)[~chosen].sum()))


class Given(nn.Module):
    """A dense layer and a layer norm whose gradients are given; it remembers its values before each update."""

    def __init__(self, start: Mapping[str, Tensor]):
        super().__init__()
        rows, columns = start["dense.weight"].shape
        self.dense, self.LayerNorm = nn.Linear(columns, rows), nn.LayerNorm(rows)
        self.load_state_dict(start)
        self.before: list[dict[str, Tensor]] = []

    def forward(self, **gradients: Tensor) -> dict[str, Tensor]:
        self.before.append(self.values())
        return {"loss": sum((p * gradients[name]).sum() for name, p in self.named_parameters())}

    def values(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.named_parameters()}

    def after(self) -> dict[str, Tensor]:
        """Every parameter after each update, [updates …]."""
        rows = [*self.before[1:], self.values()]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


class Proportional(nn.Module):
    """Losses of given size, proportional to a parameter that is 1; it remembers the gradient of each micro-step."""

    def __init__(self, losses: Mapping[str, float]):
        super().__init__()
        self.losses, self.gradients = losses, []
        self.scale = nn.Parameter(torch.ones(()))
        self.scale.register_hook(lambda gradient: self.gradients.append(gradient.item()))

    def forward(self, labels: Tensor) -> dict[str, Tensor]:
        return {name: loss * labels * self.scale for name, loss in self.losses.items()}


def trained(model: nn.Module, plan: TrainingPlan, batches: Callable[[int], Update]) -> list[dict[str, float]]:
    """The log of a short training."""
    with TemporaryDirectory() as at:
        return fit(model, batches, plan, Path(at))


def optimiser(folder: RecordedFolder) -> Iterator[Case]:
    """Updates of the training loop from recorded gradients; how losses and micro-steps are weighed."""
    recorded, about = folder.tensors("optimiser.safetensors"), folder.json("optimiser.json")
    for name, run in about["runs"].items():
        model, gradients = Given(recorded.below(f"{name}.start.")), recorded.below(f"{name}.gradient.")
        plan = TrainingPlan(**dict(run["options"]), log_every=1)
        steps = [
            Update([{n: rows[i] for n, rows in gradients.items()}], {"loss": 1}) for i in range(plan.updates)
        ]
        log = trained(model, plan, steps.__getitem__)
        for parameter, values in model.after().items():
            yield recorded.case(f"{name}.after.{parameter}", values, tolerance(folder, "parameters"))
        for theirs, ours in {"rates": "lr", "gradient_norms": "gradient_norm"}.items():
            yield run.case(theirs, [record[ours] for record in log], tolerance(folder, "losses"))
    for mix in about["mixing"]:
        losses = {"voken": mix["voken"], "mlm": mix["mlm"]}
        labels = 6 * mix["accumulation"]
        update = Update([{"labels": torch.tensor(6.0)}] * mix["accumulation"], dict.fromkeys(losses, labels))
        model, plan = Proportional(losses), TrainingPlan(updates=1, lr=0.0, weights={"mlm": mix["mlm_ratio"]})
        [record] = trained(model, plan, lambda step, update=update: update)
        yield mix.case("total", record["loss"], tolerance(folder, "losses"))
        yield mix.case("gradients", model.gradients, tolerance(folder, "losses"))


def metrics(folder: RecordedFolder) -> Iterator[Case]:
    """Ranks and recall, diversity, rows of the results table."""
    about, numbers = folder.json("metrics.json"), tolerance(folder, "numbers")
    for lists in about["recall"]:
        rank = ranks(torch.tensor(lists["scores"], dtype=torch.double), torch.tensor(lists["own"]))
        yield lists.case("ranks", rank)
        yield lists.case("shares", both_recalls(rank), numbers)
    for each in about["diversity"]:
        yield each.case("found", diversity([tuple(pair) for pair in each["pairs"]]), numbers)
    for row in about["rows"]:
        yield row.case("text", result_row(dict(row["scores"])))


CHECKS = (matching, vokens, language_model, shared_heads, supervision, masking, corpus, metrics, optimiser)
