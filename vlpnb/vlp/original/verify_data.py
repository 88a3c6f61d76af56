"""What VLP is given and how it is scored, held against recorded values; see `verify.py`."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.asked import AskedQuestion
from vlpnb.data.recorded import Entries, RecordedFolder, published
from vlpnb.data.vqa_answers import normalise, stripped, without_marks
from vlpnb.data.vqa_labels import PEOPLE, imdb_spelling, imdb_targets, with_unknown
from vlpnb.metrics import ptb
from vlpnb.metrics.captions import score as score_captions
from vlpnb.metrics.cider import cider
from vlpnb.metrics.overlap import bleu, rouge_l
from vlpnb.metrics.vqa import spelt, vqa_scores
from vlpnb.metrics.vqa import vqa_accuracy as answer_accuracy
from vlpnb.nn.losses import IGNORE
from vlpnb.text.caption_table import text_of
from vlpnb.text.masking import Words, hide, target_count
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vlp.geometry import PLACE, region_geometry
from vlpnb.vlp.masks import segment_ids, sequence_mask
from vlpnb.vlp.original.recorded_model import config_of, whole_rows

VOCABULARY = "vocab/bert-base-cased"  # among the published files


def regions(folder: RecordedFolder) -> Iterator[Case]:
    """Boxes and class probabilities → place and classes of each region, the size estimated from the boxes (VLP-04)."""
    recorded, about = folder.tensors("regions.safetensors"), folder.json("regions.json")
    about["cases"].leave_out("*")  # says in words what is special about each
    allowed = Tolerance.of(about["tolerance"])
    for name in about["cases"]:
        boxes, classes = recorded[f"{name}.box"], recorded[f"{name}.cls"]
        ours = region_geometry(boxes[None, :, :4], boxes[None, :, 5], classes[None])[0]
        yield recorded.case(f"{name}.vis_pe", ours, allowed)
        yield about.case("rows", len(ours))
        yield about.case("classes", ours.shape[1] - PLACE)


def masks(folder: RecordedFolder) -> Iterator[Case]:
    """Ids, segments and attention masks of both modes for several lengths, and of decoding."""
    recorded, about, sizes = (
        folder.tensors("masks.safetensors"),
        folder.json("masks.json"),
        folder.json("config.json"),
    )
    config = config_of(folder)
    prefix, most, steps = config.prefix, config.text_length, sizes["steps"]
    for n in about["lengths"]:
        for mode in ("s2s", "bi"):
            name, kept = f"{mode}.{n}", min(n, most)
            arguments = torch.tensor([kept]), torch.tensor([mode == "s2s"]), prefix, most + 1
            mask = sequence_mask(*arguments)[0, 0]
            yield recorded.case(f"{name}.mask", mask)
            yield about["row_sums"].case(name, mask.sum(1))
            yield recorded.case(f"{name}.segments", segment_ids(*arguments, 6)[0])
            yield recorded.case(f"{name}.segments_two", segment_ids(*arguments, 2)[0])
            words = recorded[f"{name}.ids"].long()[prefix : prefix + kept]
            text = torch.full((1, most + 1), config.pad_id)
            text[0, :kept], text[0, kept] = words, config.sep_id
            yield recorded.case(f"{name}.ids", whole_rows(config, text)[0])
    yield recorded.case("decode.ids", whole_rows(config, torch.zeros(1, 0, dtype=torch.long))[0])
    everything = torch.tensor([steps - 1]), torch.tensor([True]), prefix, steps
    yield recorded.case("decode.segments", segment_ids(*everything, 6)[0])
    yield recorded.case("decode.mask", sequence_mask(*everything)[0, 0])
    yield recorded.case("decode.positions", torch.arange(prefix + steps))


def captions(folder: RecordedFolder) -> Iterator[Case]:
    """BLEU, ROUGE-L and CIDEr over given words; with Java the Penn Treebank's words, METEOR, and raw sentences."""
    about = folder.json("captions.json")
    allowed, rows = Tolerance.of(about["tolerance"]), about["captions"]
    words = [([*map(str.split, row["references"])], row["hypothesis"].split()) for row in rows]
    about.leave_out("order")
    for name, run in about.items():
        if not isinstance(run, Entries) or "bleu_each" not in run:
            continue
        chosen = [words[i] for i in run.get("images", range(len(words)))]
        known = [those[:1] if name == "one_reference" else those for those, _ in chosen]
        said = [hypothesis for _, hypothesis in chosen]
        for metric, compute in (("bleu", bleu), ("rouge_l", rouge_l), ("cider", cider)):
            total, each = compute(said, known)
            yield run.case(metric, total, allowed)
            yield run.case(f"{metric}_each", each, allowed)
    if (reason := ptb.why_no_meteor()) is not None:
        about.skip(reason, "meteor")
    elif "meteor" in about:
        chosen = [words[i] for i in about["meteor"]["images"]]
        score, each = ptb.meteor([said for _, said in chosen], [known for known, _ in chosen])
        yield about["meteor"].case("score", score, allowed)
        yield about["meteor"].case("each", each, allowed)
    if (reason := ptb.why_no_words()) is not None:
        about.skip(reason, "ptb", "from_raw")
        return
    found = ptb.ptb_words([row["raw"] for row in about["ptb"]])
    for row, ours in zip(about["ptb"], found, strict=True):
        yield row.case("tokens", " ".join(ours))
    raw = about["from_raw"]
    said, known = (dict(enumerate(raw[side])) for side in ("hypotheses", "references"))
    yield raw.case("tokenised_hypotheses", [" ".join(ours) for ours in ptb.ptb_words([*said.values()])])
    scores = score_captions(said, known, "ptb")
    yield raw.case("bleu", [scores[f"bleu_{n}"] for n in range(1, 5)], allowed)
    yield raw.case("rouge_l", scores["rouge_l"], allowed)
    yield raw.case("cider", scores["cider"], allowed)


def percent(share: float) -> float:
    """As the recorded programs round."""
    return round(100 * share, 2)


def vqa_accuracy(folder: RecordedFolder) -> Iterator[Case]:
    """Answers as both evaluations spell and count them, and as training looks them up (VLP-14)."""
    about = folder.json("vqa_accuracy.json")
    rows = about["questions"]
    asked = [
        AskedQuestion(i, "picture", "?", {}, tuple(row["answers"]), row["answer_type"])
        for i, row in enumerate(rows)
    ]
    for row in rows:
        yield row.case("prediction_normalised", normalise(stripped(row["prediction"])))
        for spelling in ("pythia", "official"):
            counted = answer_accuracy(row["prediction"], row["answers"], spelling)
            yield row[spelling].case(
                "answers_normalised", spelt(row["prediction"], row["answers"], spelling)[1]
            )
            yield row[spelling].case("accuracy", percent(counted))
    for spelling in about["totals"]:
        scores = vqa_scores({i: row["prediction"] for i, row in enumerate(rows)}, asked, spelling)
        scores["overall"] = scores.pop("accuracy")
        for name, value in scores.items():
            yield about["totals"][spelling].case(name, percent(value))
    for name, spell in (("words", normalise), ("punctuation", without_marks)):
        yield about.case(name, [[text, spell(text)] for text, _ in about[name]])
    targets = about["training_targets"]
    answers = targets["answer_list"]
    yield targets.case("answer_list", with_unknown(answers))
    for row in targets["examples"]:
        cleaned = [imdb_spelling(answer) for answer in row["answers"]]
        yield row.case("cleaned", cleaned)
        places = [answers.index(answer) if answer in answers else 0 for answer in cleaned]
        yield row.case("indices", places + [0] * (PEOPLE - len(places)))
        yield row.case("scores", imdb_targets(row["answers"], answers), Tolerance(1e-9))


SIGMAS = 5  # that two samples of chance may lie apart


def examples(folder: RecordedFolder) -> Iterator[Case]:
    """Cased pieces of tricky texts, numbers of targets, statistics of what is hidden, and captions from pieces."""
    about = folder.json("examples.json")
    vocabulary = published(folder, f"{VOCABULARY}/vocab.txt")
    if vocabulary is not None:
        tokenizer, differs = load_tokenizer(vocabulary.parent), []
        for row in about["tokenise_cased"]:
            pieces = tokenizer.tokenize(row["text"])
            yield row.case("pieces", pieces)
            yield row.case("ids", tokenizer.convert_tokens_to_ids(pieces))
            differs += [row["text"]] if pieces != row["pieces"] else []
        yield about.case("hugging_face_differs_for", differs)
    for name, counts in about["target_counts_for_n_1_upwards"].items():
        rate, most = (float(part.partition("=")[2]) for part in name.split(","))
        ours = target_count(np.arange(1, len(counts) + 1), rate, int(most))
        yield about["target_counts_for_n_1_upwards"].case(name, ours)
    yield from _corruption(about["corruption"])
    for row in about["caption_text"]:
        pieces = row["pieces"]
        yield row.case("caption", text_of(Pieces(pieces), range(len(pieces)), *_ends(pieces)))


class Pieces:
    """A tokenizer whose id i is the piece i of a text."""

    def __init__(self, pieces: Sequence[str]):
        self.pieces = pieces

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.pieces[i] for i in ids]


def _ends(pieces: Sequence[str]) -> list[int]:
    """Where [SEP] and [PAD] first stand; −1 where they do not."""
    return [pieces.index(end) if end in pieces else -1 for end in ("[SEP]", "[PAD]")]


def _corruption(about: Entries) -> Iterator[Case]:
    """How often words and [SEP] are hidden, and by what: within the error of two samples.

    Random pieces come from the whole vocabulary, special ones too, as in the original (VLP-12).
    """
    n, rows, size = about["words"], about["examples"], 300
    vocabulary = Words(sep=2, mask=4, size=size, ordinary=np.arange(size))
    many = np.broadcast_to(np.arange(size - n, size), (rows, n))
    shown, labels = hide(many, np.full(rows, n), vocabulary, about["p"], about["K"], np.random.default_rng(0))
    chosen = labels != IGNORE
    masked, same = chosen & (shown == vocabulary.mask), chosen & (shown == labels)
    other, targets = chosen & ~masked & ~same, int(chosen.sum())
    yield about.case("targets", targets)
    for name, ours, share in (("mask", masked, 0.8), ("random", other, 0.1), ("same", same, 0.1)):
        yield about.case(name, ours.sum(), _chance(targets, share))
    share = targets / rows / (n + 1)
    yield about.case("per_position_words_then_sep", chosen.sum(axis=0), _chance(rows, share))
    yield about.case("lowest_random_id", shown[other].min(), Tolerance(SIGMAS * size / other.sum()))


def _chance(draws: int, share: float) -> Tolerance:
    return Tolerance(SIGMAS * (2 * draws * share * (1 - share)) ** 0.5)


CHECKS = (regions, masks, captions, vqa_accuracy, examples)
