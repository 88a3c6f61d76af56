"""VLP's scores and self-critical learning held against recorded numbers: a part of `vlpnb verify vlp FOLDER`.

The Penn Treebank's words and METEOR need Java and the extra `captions`; where they are absent, what is recorded of them
is reported as not compared.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import get_args

import torch
from torch import Tensor

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.recorded import RecordedFolder
from vlpnb.data.vqa_answers import normalise, without_marks
from vlpnb.data.vqa_labels import imdb_spelling, imdb_targets, with_unknown
from vlpnb.metrics import ptb
from vlpnb.metrics.captions import score
from vlpnb.metrics.cider import cider
from vlpnb.metrics.overlap import bleu, rouge_l
from vlpnb.metrics.vqa import Spelling, spelt, vqa_accuracy
from vlpnb.nn.decoding import greedy
from vlpnb.vlp.generating import VlpDecoder, log_probs_of
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.masks import segment_ids, sequence_mask
from vlpnb.vlp.original.names import original_name
from vlpnb.vlp.original.weights import load_model
from vlpnb.vlp.self_critical import (
    batch_rewards,
    counted,
    cut,
    policy_loss,
    view_of_reference,
)


def captions(folder: RecordedFolder) -> Iterator[Case]:
    """BLEU, ROUGE-L and CIDEr of words; METEOR, the Penn Treebank's words, and scores from raw sentences."""
    about = folder.json("captions.json")
    near = Tolerance.of(about["tolerance"], "captions.json: tolerance")
    rows = [(row["hypothesis"].split(), [t.split() for t in row["references"]]) for row in about["captions"]]
    about.leave_out("order")
    for name in ("all", "three_images", "one_image", "one_reference"):
        recorded = about[name]
        chosen = [rows[i] for i in recorded.get("images", range(len(rows)))]
        last = 1 if name == "one_reference" else None
        given = [said for said, _ in chosen], [those[:last] for _, those in chosen]
        for metric, compute in (("bleu", bleu), ("rouge_l", rouge_l), ("cider", cider)):
            total, each = compute(*given)
            yield recorded.case(metric, total, near)
            yield recorded.case(f"{metric}_each", each, near)
    if ptb.why_no_words() is None:
        words = ptb.ptb_words([row["raw"] for row in about["ptb"]])
        for row, found in zip(about["ptb"], words, strict=True):
            yield row.case("tokens", " ".join(found))
        raw = about["from_raw"]
        said = ptb.ptb_words(raw["hypotheses"])
        yield raw.case("tokenised_hypotheses", [" ".join(found) for found in said])
        found = score(dict(enumerate(raw["hypotheses"])), dict(enumerate(raw["references"])), tokens="ptb")
        yield raw.case("bleu", [found[f"bleu_{n}"] for n in range(1, 5)], near)
        yield raw.case("rouge_l", found["rouge_l"], near)
        yield raw.case("cider", found["cider"], near)
    if ptb.why_no_meteor() is None:
        recorded = about["meteor"]
        chosen = [rows[i] for i in recorded["images"]]
        total, each = ptb.meteor([said for said, _ in chosen], [those for _, those in chosen])
        yield recorded.case("score", total, near)
        yield recorded.case("each", each, near)


def vqa_accuracies(folder: RecordedFolder) -> Iterator[Case]:
    """Accuracies of both programs (VLP-14), their spelling word by word, and training targets."""
    about = folder.json("vqa_accuracy.json")
    shares: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in about["questions"]:
        for program in get_args(Spelling):
            answer, said = spelt(row["prediction"], row["answers"], program)
            accuracy = 100 * vqa_accuracy(row["prediction"], row["answers"], program)
            yield row[program].case("answers_normalised", said)
            yield row[program].case("accuracy", round(accuracy, 2))
            if program == "pythia":
                yield row.case("prediction_normalised", answer)
            for kind in ("overall", row["answer_type"]):
                shares[program][kind].append(accuracy)
    for program, kinds in shares.items():
        means = {kind: round(sum(found) / len(found), 2) for kind, found in kinds.items()}
        yield about["totals"].case(program, means)
    for name, spell in (("words", normalise), ("punctuation", without_marks)):
        yield about.case(name, [[text, spell(text)] for text, _ in about[name]])
    targets = about["training_targets"]
    answers = with_unknown(targets["answer_list"])
    for row in targets["examples"]:
        cleaned = [imdb_spelling(text) for text in row["answers"]]
        yield row.case("cleaned", cleaned)
        yield row.case("indices", [answers.index(text) if text in answers else 0 for text in cleaned])
        yield row.case("scores", imdb_targets(row["answers"], answers))


def scst(folder: RecordedFolder) -> Iterator[Case]:
    """Roll-outs, rewards, loss and gradients; with the reference's mask (VLP-01), and as decoding writes."""
    recorded, about = folder.tensors("scst.safetensors"), folder.json("scst.json")
    sizes, pictures = folder.json("config.json"), folder.tensors("decoding.safetensors")
    near = {name: Tolerance.of(value, f"scst.json: {name}") for name, value in about["tolerance"].items()}
    about.leave_out("images")
    pad, sep, prefix = sizes["pad"], sizes["sep"], sizes["regions"] + 2
    rows = recorded["loss_only.sequence"].long()
    words = counted(rows, pad, past_end=True)
    alone = policy_loss(recorded["loss_only.log_probs"], recorded["loss_only.reward"], words) / words.sum()
    yield about.case("loss_only", alone, near["loss"])

    raw, references = recorded["sample_raw"].long(), recorded["reference_ids"].long()
    steps = raw.shape[1]
    yield about.case("steps", steps)
    lengths = (cut(references, sep, pad) != pad).sum(dim=1) - 1
    yield about.case("reference_lengths", lengths)
    writes = torch.ones_like(lengths, dtype=torch.bool)
    yield recorded.case("ref_mask", sequence_mask(lengths, writes, prefix, steps)[:, 0, prefix:])
    yield recorded.case("ref_segments", segment_ids(lengths, writes, prefix, steps, sizes["segment_types"]))
    mask, segments = view_of_reference(lengths, steps)
    for name, view in (
        ("faithful", {"mask": mask, "segments": segments}),
        ("decoding_mask", {}),
    ):
        model = load_model(
            folder.path("weights.safetensors"), VlpForGeneration, heads=sizes["heads"],
            regions=sizes["regions"], text_length=sizes["max_text"],
            **{f"{token}_id": sizes[token] for token in ("pad", "unk", "cls", "sep", "mask")},
        )  # fmt: skip
        decoder = VlpDecoder(model, steps=steps)
        seen = decoder.see(pictures["feat"], pictures["vis_pe"])
        with torch.no_grad():
            likeliest = greedy(decoder.step(seen, **view), steps, sep, pad_id=pad, stop=False).ids
        sampled, best = cut(raw, sep, pad), cut(likeliest, sep, pad)
        rewards = batch_rewards(sampled, best, references, pad)
        log_probs = log_probs_of(model, seen, raw, **view)
        words = counted(sampled, pad, past_end=True)
        loss = policy_loss(log_probs, rewards, words) / words.sum()
        loss.backward()
        ours: dict[str, Tensor] = {
            "greedy_raw": likeliest, "greedy_cut": best, "sample_cut": sampled, "weights": words,
            "reward": rewards, "log_probs": log_probs,
        }  # fmt: skip
        for entry, value in ours.items():
            yield recorded.case(f"{name}.{entry}", value, near.get(entry, Tolerance()))
        variant = about["variants"][name]
        yield variant.case("loss", loss, near["loss"])
        yield variant.case("mean_reward", rewards.mean(), near["reward"])
        gradients = {original_name(key): value.grad for key, value in model.named_parameters()}
        norms = {key: None if grad is None else grad.norm().item() for key, grad in gradients.items()}
        yield variant.case("grad_norms", norms, near["grad"])
        for entry in recorded.below(f"{name}.grad."):
            yield recorded.case(f"{name}.grad.{entry}", gradients[entry], near["grad"])


CHECKS = (captions, vqa_accuracies, scst)
