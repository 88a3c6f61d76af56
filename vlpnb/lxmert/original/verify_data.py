"""Text, answers, metrics, regions and examples of LXMERT held against recorded values; see `verify.py`.

Some of the values are of published files: `all_ans.json`, the answers of VQA and GQA, BERT's vocabulary, ten pictures
with their regions. They are looked for in the folder `data` beside the folder that the recorded ones lie in (or in
`VLPNB_SHARED_DATA`); where one is absent, what is recorded of it is reported as not compared.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.asked import AskedQuestion
from vlpnb.data.asked_data import Pair
from vlpnb.data.lxmert import AnswerTable, lxmert_pairs, normalise_answer, read_labels, read_lxmert
from vlpnb.data.nlvr2 import read_nlvr2
from vlpnb.data.obj36 import index_obj36, read_classes, read_obj36
from vlpnb.data.recorded import Entries, RecordedFolder, published
from vlpnb.data.regions import PictureRegions
from vlpnb.data.submissions import gqa_submission, nlvr2_submission, vqa_submission
from vlpnb.data.vqa import read_lxmert_questions
from vlpnb.files import plain
from vlpnb.lxmert.heads import PooledHead
from vlpnb.lxmert.original.weights import load_answers
from vlpnb.metrics.nlvr2 import nlvr2_scores
from vlpnb.metrics.vqa import label_score, source_scores
from vlpnb.text.tokenizers import load_tokenizer

WEIGHTS = "weights_pretraining.safetensors"
SUMS = Tolerance(relative=1e-9)  # of many numbers in float64, in whichever order
SCORES = Tolerance(1e-12)


def tokenised(tokenizer: Any, sentences: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
    """[CLS] pieces [SEP] and padding to a fixed length, and where there is no padding."""
    made = tokenizer(
        [sentence.strip() for sentence in sentences],
        padding="max_length",
        truncation=True,
        max_length=length,
        return_tensors="pt",
    )
    return made["input_ids"], made["attention_mask"].bool()


def text(folder: RecordedFolder) -> Iterator[Case]:
    """Word pieces of BERT's vocabulary."""
    about = folder.json("text.json")
    vocabulary = published(folder, about["vocabulary"])
    if vocabulary is None:
        return
    tokenizer, length = load_tokenizer(vocabulary.parent), about["max_length"]
    for name in about["special"]:
        yield about["special"].case(name, tokenizer.convert_tokens_to_ids(name))
    for sentence in about["sentences"]:
        ids, mask = tokenised(tokenizer, [sentence["text"]], length)
        yield sentence.case("input_ids", ids[0])
        yield sentence.case("attention_mask", mask[0].long())
        yield sentence.case("token_type_ids", torch.zeros_like(ids[0]))  # the model knows one type alone
        yield sentence.case("pieces", tokenizer.convert_ids_to_tokens(ids[0][mask[0]])[1:-1])


def answers(folder: RecordedFolder) -> Iterator[Case]:
    """The answer table, its normaliser, and heads that start from its rows; see `_tables` for the published ones."""
    about, recorded = folder.json("answers.json"), folder.tensors("answers.safetensors")
    for i, (raw, _) in enumerate(about["normalise"]):
        normalised = [normalise_answer(raw), about["normalise"][i][1]]
        yield Case("answers.json", f"normalise[{i}]", normalised[0], normalised[1])
    tiny = about["tiny"]
    table = AnswerTable(tuple(tiny["answers"]), tuple(frozenset(of) for of in tiny["dsets"]))
    labels = tiny["label2ans"]
    rows = [table.index(normalise_answer(label)) for label in labels]
    yield tiny.case("source_row", [-1 if row is None else row for row in rows])
    yield from _restricted(tiny, table)

    source, head = (PooledHead(*of) for of in _shapes(folder, len(labels)))
    source.load_state_dict(_pooled(folder.tensors(WEIGHTS).below("answer_head.")))
    missing = load_answers(head, source, labels, table)
    yield tiny.case("printed", _printed(len(labels) - len(missing), len(missing)))
    for name, tensor in _pooled_names(head.state_dict()).items():
        yield recorded.case(f"tiny.{name}", tensor)
    yield from _tables(folder, about)


POOLED = {"inner": "logit_fc.0", "norm": "logit_fc.2", "out": "logit_fc.3"}


def _pooled_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of our head by the original's names."""
    return {f"{POOLED[name.partition('.')[0]]}.{name.partition('.')[2]}": t for name, t in state.items()}


def _pooled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reverse."""
    return {
        f"{ours}.{leaf}": state[f"{theirs}.{leaf}"]
        for ours, theirs in POOLED.items()
        for leaf in ("weight", "bias")
    }


def _shapes(folder: RecordedFolder, labels: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Sizes of the recorded head of pre-training, and of one for so many labels."""
    weights = folder.tensors(WEIGHTS)
    inner, inputs = weights["answer_head.logit_fc.0.weight"].shape
    return (inputs, inner, len(weights["answer_head.logit_fc.3.bias"])), (inputs, inner, labels)


def _printed(loaded: int, other: int) -> str:
    return f"Loaded {loaded} answers from LXRTQA pre-training and {other} not"


def _restricted(about: Entries, table: AnswerTable) -> Iterator[Case]:
    """Sizes of the table for subsets of its sources."""
    sizes = about["restricted_table_size"]
    for sources in sizes:
        yield sizes.case(sources, len(table.restricted(sources.split("+"))))


def _tables(folder: RecordedFolder, about: Entries) -> Iterator[Case]:
    """The published table of 9,500 answers, and what the answers of VQA and GQA find in it."""
    file = published(folder, "lxmert/all_ans.json")
    if file is None or "all_ans" not in about:
        return
    table = AnswerTable.read(file)
    yield about["all_ans"].case("entries", len(table))
    yield from _restricted(about, table)
    for sources, wanted in about["restricted_index"].items():
        kept = table.restricted(sources.split("+"))
        for answer in wanted:
            row = kept.index(answer)
            yield wanted.case(answer, -1 if row is None else row)
    for task in ("vqa", "gqa"):
        file = published(folder, f"lxmert/{task}/trainval_label2ans.json")
        if file is not None and task in about:
            yield from _task(about[task], read_labels(file), table)


def _task(about: Entries, labels: Sequence[str], table: AnswerTable) -> Iterator[Case]:
    """What starting a task's head from the table loads; `read_labels` has compared its two files."""
    rows = [table.index(normalise_answer(label)) for label in labels]
    source = PooledHead(2, 2, len(table))
    with torch.no_grad():
        source.out.bias.copy_(torch.arange(len(table)))
    head = PooledHead(2, 2, len(labels))
    missing = load_answers(head, source, labels, table)
    found = [row for row in rows if row is not None]
    values = {
        "labels": len(labels),
        "loaded": len(found),
        "not_loaded": len(missing),
        "rows_used_twice": len(found) - len({*found}),
        "sum_of_source_rows": int(head.out.bias.detach().double().sum()),
        "tables_disagree_at": [],
        "empty_string_label": labels.index("") if "" in labels else None,
        "printed": _printed(len(found), len(missing)),
        "not_loaded_answers": missing[: len(about["not_loaded_answers"])],
    }
    for name, value in values.items():
        yield about.case(name, value)
    for sample in about["sample"]:
        row = rows[sample["label"]]
        yield sample.case("answer", labels[sample["label"]])
        yield sample.case("row", -1 if row is None else row)


@contextmanager
def as_file(content: Any, lines: bool = False) -> Iterator[Path]:
    """Recorded values as the file that a reader takes: JSON, or JSON lines."""
    with TemporaryDirectory() as at:
        rows = [json.dumps(plain(item)) for item in content] if lines else [json.dumps(plain(content))]
        (Path(at) / "recorded.json").write_text("\n".join(rows) + "\n", encoding="utf-8")
        yield Path(at) / "recorded.json"


def metrics(folder: RecordedFolder) -> Iterator[Case]:
    """Local scores of VQA and GQA, both metrics of NLVR2, accuracy in pre-training, and the files of predictions."""
    about = folder.json("metrics.json")
    for task, submission in (("vqa", vqa_submission), ("gqa", gqa_submission)):
        with as_file(about[task]["data"]) as file:
            questions = [
                AskedQuestion(q.question_id, q.image_id, q.question, q.targets)
                for q in read_lxmert_questions(file)
            ]
        for item in about[task]["predictions"]:
            yield item.case("score", label_score(dict(item["answers"]), questions), SCORES)
        first = dict(about[task]["predictions"][0]["answers"])
        yield about[task].case("submission_of_first", submission(first))

    pairs = about["nlvr2"]
    with as_file(pairs["official_lines"], lines=True) as file:
        examples = read_nlvr2(file)
    split = pairs["lxmert_form"][0]["uid"].split("_")[1]
    yield pairs.case("lxmert_form", lxmert_pairs(examples, split))
    statements = [Pair(e.identifier, e.sentence, e.left, e.right, e.label) for e in examples]
    for run in pairs["runs"]:
        guessed = {e.identifier: bool(label) for e, label in zip(examples, run["predictions"], strict=True)}
        scores = nlvr2_scores(guessed, statements)
        yield run.case("official", scores, SCORES)
        yield run.case("accuracy_original_code", scores["accuracy"], SCORES)
        yield run.case("csv", nlvr2_submission(guessed))

    trained = about["pretraining_qa_accuracy"]
    with as_file(trained["data"]) as file:
        images = read_lxmert(file)
    guesses = {}
    for uid, answer in trained["predictions"]:
        image, source, place = uid.rsplit("_", 2)
        guesses[image, source, int(place)] = answer
    scores = source_scores(guesses, images)
    yield trained.case("overall", scores.pop("overall"), SCORES)
    yield trained.case("per_source", scores, SCORES)


FIELDS = {
    "objects_id": "object_ids", "objects_conf": "object_conf", "attrs_id": "attribute_ids",
    "attrs_conf": "attribute_conf", "boxes": "boxes",
}  # fmt: skip
REGIONS, NAMES = "butd/train2014_obj36.tsv", "butd/vocab_1600-400-20"


def regions(folder: RecordedFolder) -> Iterator[Case]:
    """Decoding of obj36 files, with any number of boxes; of published pictures where they are here."""
    about, recorded = folder.json("regions.json"), folder.tensors("regions.safetensors")
    for item, expected in zip(read_obj36(folder.path("mini_obj.tsv")), about["mini"], strict=True):
        yield from _sizes(expected, item)
        yield expected.case("img_id", item.image_id)
        yield from _decoded(recorded, f"mini.{item.image_id}", item)
        yield recorded.case(f"mini.{item.image_id}.features", item.features)
    file, names = published(folder, REGIONS), published(folder, NAMES)
    if file is None or names is None:
        return
    objects, attributes = (
        read_classes(names / f"{what}_vocab.txt", what) for what in ("objects", "attributes")
    )
    yield about.case("vocabulary_sizes", [len(objects), len(attributes)])
    found = {item.image_id: item for item in read_obj36(file, len(objects), len(attributes))}
    yield about.case("order_in_file", list(found))
    for name, expected in about["images"].items():
        item = found[name]
        yield from _sizes(expected, item)
        yield from _decoded(recorded, name, item)
        wide = item.features.astype(np.float64)
        yield recorded.case(f"{name}.feature_norm", np.linalg.norm(wide, axis=1), SUMS)
        for what in ("features", "boxes"):
            stored = getattr(item, what).astype("<f4").tobytes()
            yield expected.case(f"{what}_sha256", hashlib.sha256(stored).hexdigest())
        half = item.features.astype(np.float16).astype(np.float64)
        values = {
            "row": list(found).index(name),
            "features_sum": wide.sum(),
            "features_mean": wide.mean(),
            "features_max": wide.max(),
            "features_min": wide.min(),
            "share_of_zeros": (wide == 0).mean(),
            "features_at": [[box, at, wide[box, at]] for box, at, _ in expected["features_at"]],
            "float16_largest_error": np.abs(half - wide).max(),
            "objects": [objects[i] for i in item.object_ids[: len(expected["objects"])]],
            "attributes": [attributes[i] for i in item.attribute_ids[: len(expected["attributes"])]],
            "sum_objects_id": item.object_ids.sum(),
            "sum_attrs_id": item.attribute_ids.sum(),
            "object_conf_sum": item.object_conf.astype(np.float64).sum(),
            "attr_conf_sum": item.attribute_conf.astype(np.float64).sum(),
        }
        for what, value in values.items():
            yield expected.case(what, value, SUMS)


def _sizes(expected: Entries, item: PictureRegions) -> Iterator[Case]:
    sizes = {"img_h": item.height, "img_w": item.width, "num_boxes": len(item)}
    for name, value in (sizes | {"features_shape": list(item.features.shape)}).items():
        yield expected.case(name, value)


def _decoded(recorded: Entries, name: str, item: PictureRegions) -> Iterator[Case]:
    for theirs, ours in FIELDS.items():
        yield recorded.case(f"{name}.{theirs}", getattr(item, ours))
    yield recorded.case(f"{name}.boxes_normalised", item.relative_boxes())


def examples(folder: RecordedFolder) -> Iterator[Case]:
    """The flat list of sentences in the original's order, with the answers that are left of each."""
    about = folder.json("examples.json")
    table = published(folder, "lxmert/all_ans.json")
    regions = {source: published(folder, name) for source, name in about["features"].items()}
    if table is None or None in regions.values():
        return
    images = []
    for source, content in about["files"].items():
        here = index_obj36([regions[source]])
        with as_file(content) as file:
            images += [image for image in read_lxmert(file) if image.image_id in here]
    whole = AnswerTable.read(table)
    for sources, expected in about["variants"].items():
        kept = whole if sources == "all" else whole.restricted(sources.split("+"))
        yield expected.case("answers", len(kept))
        yield expected.case("examples", list(_flat(images, kept)))


def _flat(images: Sequence[Any], table: AnswerTable) -> Iterator[Mapping[str, Any]]:
    """Every sentence of some pictures as the original lists it."""
    for image in images:
        for source, sentences in image.sentences.items():
            for i, sentence in enumerate(sentences):
                row = {
                    "uid": f"{image.image_id}_{source}_{i:03d}",
                    "img_id": image.image_id,
                    "sent": sentence,
                }
                if source not in image.labels:
                    yield row | {"label": None, "label_ids": None}
                    continue
                scores = table.prune(image.labels[source][i])
                label = {table.answers[answer]: score for answer, score in scores.items()}
                yield row | {"label": label, "label_ids": [list(pair) for pair in scores.items()]}


CHECKS = (text, answers, metrics, regions, examples)
