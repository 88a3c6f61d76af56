"""CCLM's recorded numbers around its tasks: entailment, pairs of pictures, text assignment, answers, re-ranking.

The models are built from the recorded pre-training weights as a fine-tuning builds them, and get the recorded heads.
`vlpnb verify cclm FOLDER` runs these checks with those of the model (`verify.py`).
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlpnb.cclm.answering import AnsweringModel
from vlpnb.cclm.model import ScoreHead
from vlpnb.cclm.objectives import CclmPretraining
from vlpnb.cclm.original.names import COPIES
from vlpnb.cclm.original.recorded_model import LOSS, OUTPUT, pixels, recorded_model
from vlpnb.cclm.original.weights import original_state
from vlpnb.cclm.pairs import PairModel
from vlpnb.cclm.xvnli import EntailmentModel
from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.iglue import LABELS
from vlpnb.data.recorded import Entries, RecordedFolder
from vlpnb.downstream.answer_ranking import Answers, first_pieces, rank
from vlpnb.downstream.reranking import BEHIND, Gallery, read, rerank, rerank_plainly
from vlpnb.metrics.retrieval import retrieval_scores
from vlpnb.nn.text_assignment import partner_weights

SUM = Tolerance(1e-5, relative=1e-6)  # of a loss that sums over pieces
PROBABILITY = Tolerance(1e-7, relative=1e-3)  # exp of what holds to 2e-5, or of a difference of such
HEAD = {"0": "inner", "1": "norm", "3": "out"}  # the original's places in a head → ours
FIRST_ANSWER = 3  # whose decoder scores are recorded


def fill_head(head: ScoreHead, entries: Entries, prefix: str) -> None:
    """Copy a recorded head."""
    state = {}
    for name, tensor in entries.below(f"{prefix}cls_head.").items():
        place, _, kind = name.partition(".")
        state[f"{HEAD[place]}.{kind}"] = tensor
    head.load_state_dict(state)


class Inputs:
    """The recorded texts, and the views of the recorded pictures."""

    def __init__(self, folder: RecordedFolder):
        towers = folder.tensors("towers.safetensors")
        self.model = recorded_model(folder)
        self.ids, self.mask = towers["text_ids"], towers["text_mask"].bool()
        with torch.no_grad():
            self.views = self.model.pictures(pixels(folder, towers["image_u8"]))


@torch.no_grad()
def entailment(folder: RecordedFolder) -> Iterator[Case]:
    """Scores and loss of three classes; which class is which."""
    recorded, about = folder.tensors("downstream.safetensors"), folder.json("downstream.json")
    given = Inputs(folder)
    model = EntailmentModel(given.model).eval()
    fill_head(model.head, recorded, "xvnli.weights.")
    keys = model.backbone.memory_keys(given.views)
    start = torch.zeros(len(given.ids), 1, dtype=torch.long)
    text = model.backbone.text(given.ids, given.mask)
    logits = model.head(model.backbone.fuse(text, given.mask, cached=keys, places=start))
    yield recorded.case("xvnli.logits", logits, OUTPUT)
    yield about.case("xvnli_loss", F.cross_entropy(logits, recorded["xvnli.labels"]), LOSS)
    yield about.case("xvnli_label_ids", {label: number for number, label in enumerate(LABELS)})


@torch.no_grad()
def pairs(folder: RecordedFolder) -> Iterator[Case]:
    """Pairs of layers right after loading, with pictures exchanged, and when the second layers have learnt more."""
    recorded, about = folder.tensors("downstream.safetensors"), folder.json("downstream.json")
    given = Inputs(folder)
    model = PairModel(given.model).eval()
    fill_head(model.head, recorded, "nlvr.weights.")
    rows, left, right = (recorded[f"nlvr.{name}"] for name in ("text_rows", "left", "right"))
    keys = model.backbone.memory_keys(given.views)

    def scores(one: Tensor, other: Tensor) -> Tensor:
        return model.scores(given.ids[rows], given.mask[rows], keys, one, other)

    first = scores(left, right)
    yield recorded.case("nlvr.logits_from_pretraining", first, OUTPUT)
    yield recorded.case("nlvr.logits_from_pretraining_images_swapped", scores(right, left), OUTPUT)
    loss = F.cross_entropy(first, recorded["nlvr.labels"])
    yield about.case("nlvr_loss_from_pretraining", loss, LOSS)
    for parameter in model.seconds.parameters():  # keys and values are the first layer's, and stay
        parameter.mul_(1.05)
    yield recorded.case("nlvr.logits_second_copies_times_1.05", scores(left, right), OUTPUT)

    layer = len(model.backbone.text_layers)
    stack = "text_encoder.encoder.layer."  # of a fine-tuned file: without the level `bert.`
    tied = [
        f"{stack}{layer + 2 * pair + 1}.crossattention.self.{name}.{kind}"
        for pair in range(len(model.seconds)) for name in ("key", "value") for kind in ("bias", "weight")
    ]  # fmt: skip
    state = [name.replace("text_encoder.bert.", "text_encoder.") for name in original_state(model)]
    one = tuple(f"{stack}{layer + copy}.crossattention." for copy in (0, 1))
    yield _names(about, "nlvr_state_keys_of_one_pair", [n for n in (*state, *tied) if n.startswith(one)])
    yield about.case("nlvr_tied_parameters", sorted(tied))
    yield about.case("nlvr_parameters", _parameters(model))


def _names(about: Entries, name: str, ours: Iterable[str]) -> Case:
    """Recorded names in any order."""
    return Case(about.file.name, name, sorted(ours), sorted(about[name]))


def _parameters(model: nn.Module) -> int:
    """What the original's class for the task holds: all but the heads of pre-training, which it does not make."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@torch.no_grad()
def text_assignment(folder: RecordedFolder) -> Iterator[Case]:
    """Which of two pictures is a caption's own, or neither; and how likely pictures stand beside each other."""
    recorded, about = folder.tensors("downstream.safetensors"), folder.json("downstream.json")
    given = Inputs(folder)
    vectors = given.model.image_vector(given.views)
    yield recorded.case("text_assignment.weights_of_partner_images", partner_weights(vectors), OUTPUT)
    model = PairModel(given.model, outputs=3).eval()
    model.head.load_state_dict(recorded.below("text_assignment.weights.ta_head."))
    first, second = (recorded[f"text_assignment.image{number}"] for number in (0, 1))
    logits = model.scores(given.ids, given.mask, model.backbone.memory_keys(given.views), first, second)
    yield recorded.case("text_assignment.logits", logits, OUTPUT)
    loss = F.cross_entropy(logits, recorded["text_assignment.labels"])
    yield about.case("text_assignment_loss", loss, LOSS)


@torch.no_grad()
def answers(folder: RecordedFolder) -> Iterator[Case]:
    """Questions read, answers written and ranked, with the first piece counted twice as in the original and once."""
    recorded, about = folder.tensors("downstream.safetensors"), folder.json("downstream.json")
    given = Inputs(folder)
    layers = about["vqa_decoder_layers"]
    model = AnsweringModel(given.model, layers).eval()
    yield about.case("vqa_decoder_layers", len(model.decoder.layers))
    ids, real = recorded["vqa.answer_ids"], recorded["vqa.answer_mask"].bool()
    pieces = [row[seen].tolist() for row, seen in zip(ids, real, strict=True)]
    table = Answers.of([str(number) for number in range(len(pieces))], pieces, given.model.config.pad_id)
    yield recorded.case("vqa.answer_ids", table.ids)
    yield recorded.case("vqa.answer_mask", table.mask)

    everybody = torch.arange(len(given.ids))
    states = model.read(given.ids, given.mask, given.views, everybody)
    theirs = recorded["vqa.question_states"]
    yield Case(
        recorded.file.name, "vqa.question_states", states[given.mask], theirs[given.mask], OUTPUT
    )  # of what padding sees nobody reads
    first, _, _ = first_pieces(model.decoder, states, given.mask, table)
    yield recorded.case("vqa.first_piece_probability", first.exp(), PROBABILITY)
    everything = rank(model.decoder, states, given.mask, table, k=len(table))
    nll = torch.empty_like(everything.scores).scatter_(1, everything.rows, -everything.scores)
    yield recorded.case("vqa.answer_nll", nll, OUTPUT)

    k = about["vqa_k"]
    yield about.case("vqa_k", recorded["vqa.topk_answers"].shape[1])
    twice = rank(model.decoder, states, given.mask, table, k=len(table), first_twice=True)
    scores = torch.empty_like(nll).scatter_(1, twice.rows, twice.scores)
    kept = _likeliest(first, recorded["vqa.topk_answers"])
    best = scores.gather(1, kept).sort(dim=1, descending=True)
    yield recorded.case("vqa.topk_answers", kept.gather(1, best.indices))
    yield recorded.case("vqa.topk_probabilities", best.values.softmax(1), PROBABILITY)
    twice = rank(model.decoder, states, given.mask, table, k, first_twice=True)
    yield about.case("vqa_argmax_faithful", twice.rows[:, 0])
    yield about.case("vqa_argmax_nll_only", rank(model.decoder, states, given.mask, table, k).rows[:, 0])

    written = table.ids[FIRST_ANSWER].expand(len(states), -1)
    keys = model.decoder.keys(states)
    hidden = model.decoder.hidden(written, keys, given.mask[:, None, None])
    shown = table.mask[FIRST_ANSWER]
    name = f"vqa.decoder_logits_answer_{FIRST_ANSWER}"
    yield Case(
        recorded.file.name, name, model.decoder.logits(hidden)[:, shown], recorded[name][:, shown], OUTPUT
    )

    counts, said = recorded["vqa.train_answers_per_question"], recorded["vqa.train_answers"]
    of = everybody.repeat_interleave(counts)
    weights = recorded["vqa.train_weights"]
    yield recorded.case("vqa.train_weights", (1 / counts.float())[of], OUTPUT)  # one n-th each (CCL-53)
    loss = model.answer_loss(states, given.mask, table.ids[said], table.mask[said], of, weights)
    yield about.case("vqa_loss", loss / len(states), SUM)
    state = [name for name in (*original_state(model), *COPIES) if name.startswith("text_decoder.")]
    buffers = [name for name in about["vqa_decoder_keys_without_layers"] if name.endswith("position_ids")]
    yield _names(
        about, "vqa_decoder_keys_without_layers", [*buffers, *(n for n in state if ".layer." not in n)]
    )
    yield about.case("vqa_parameters", _parameters(model))


def _likeliest(first: Tensor, recorded: Tensor) -> Tensor:
    """The candidates with the likeliest first pieces, as many as recorded; of equally likely ones those."""
    nudge = torch.zeros_like(first).scatter_(1, recorded, 1e-6)
    return (first + nudge).sort(dim=1, descending=True, stable=True).indices[:, : recorded.shape[1]]


@torch.no_grad()
def retrieval(folder: RecordedFolder) -> Iterator[Case]:
    """A gallery ranked by vectors, its nearest re-ranked in both ways of computing them, recalls, and the losses."""
    recorded, about = folder.tensors("retrieval.safetensors"), folder.json("retrieval.json")
    given = Inputs(folder)
    gallery = Gallery(
        views := given.model.pictures(pixels(folder, recorded["gallery_image_u8"])),
        given.model.image_vector(views),
    )
    ids, mask = recorded["caption_ids"], recorded["caption_mask"].bool()
    captions = read(given.model, [row[seen] for row, seen in zip(ids, mask, strict=True)], "cpu")
    similarity = gallery.vectors @ captions.vectors.T
    yield recorded.case("similarity", similarity, OUTPUT)

    k, fill = about["k"], about["fill_for_not_scored"]
    nearest = {"captions_of_image": similarity, "images_of_caption": similarity.T}
    for name, scores in nearest.items():
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
        yield recorded.case(f"topk_{name}", order)
    again = rerank(given.model, gallery, captions, k)
    for found in (again, rerank_plainly(given.model, gallery, captions, k, ids.shape[1])):
        for name, ours in (
            ("image_to_text", found.pictures_to_captions),
            ("text_to_image", found.captions_to_pictures),
        ):
            yield recorded.case(f"score_{name}", ours.where(ours > BEHIND / 2, fill), OUTPUT)

    counts = recorded["captions_per_image"]
    owner = torch.arange(len(counts)).repeat_interleave(counts).numpy()
    yield from _recalls(about["reranked"], again.pictures_to_captions, again.captions_to_pictures, owner)
    yield from _recalls(about["dual_encoder"], similarity, similarity.T, owner)
    alone = recorded.below("recall.")
    yield from _recalls(
        about["recall_function"], alone["scores_image_to_text"], alone["scores_text_to_image"],
        alone["image_of_caption"].numpy(),
    )  # fmt: skip

    losses = CclmPretraining(given.model, ("itc", "itm")).eval().image_text(
        pixels(folder, folder.tensors("towers.safetensors")["image_u8"]), given.ids, given.mask,
        identity=recorded["train.ids"], negative_view=recorded["train.negative_image"],
        negative_text=recorded["train.negative_text"],
    )  # fmt: skip
    yield about.case("train_itc", losses["itc"] / len(given.ids), LOSS)
    yield about.case("train_itm", losses["itm"] / (3 * len(given.ids)), LOSS)


def _recalls(entry: Entries, to_captions: Tensor, to_pictures: Tensor, owner: np.ndarray) -> Iterator[Case]:
    """Recalls in per cent, by the original's names."""
    ours = retrieval_scores(to_captions, to_pictures, torch.from_numpy(owner))
    for name in entry:
        value = ours[name.replace("txt_r_mean", "txt_mean").replace("img_r_mean", "img_mean")]
        yield entry.case(name, 100 * value, Tolerance(1e-6))


CHECKS = (entailment, pairs, text_assignment, answers, retrieval)
