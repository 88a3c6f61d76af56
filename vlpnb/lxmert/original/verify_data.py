"""Text, answers, metrics, regions and examples of LXMERT held against recorded values; see `verify.py`.

Some of the values are of published files: `all_ans.json`, the answers of VQA and GQA, BERT's vocabulary, ten pictures
with their regions. They are looked for in the folder `data` beside the folder that the recorded ones lie in (and in
`VLPNB_SHARED_DATA`); where one is absent, what is recorded of it is reported as not compared.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlpnb.data.agreement import Case
from vlpnb.data.lxmert import AnswerTable, normalise_answer, read_labels
from vlpnb.data.recorded import Entries, RecordedFolder
from vlpnb.lxmert.heads import PooledHead
from vlpnb.lxmert.original.weights import load_answers
from vlpnb.text.tokenizers import load_tokenizer

WEIGHTS = "weights_pretraining.safetensors"
DATA = "VLPNB_SHARED_DATA"


def published(folder: RecordedFolder, name: str) -> Path | None:
    """A published file by its place among the data; None where it is not here."""
    roots = [Path(os.environ[DATA])] if DATA in os.environ else []
    roots.append(folder.folder.resolve().parents[1] / "data")
    return next((root / name for root in roots if (root / name).exists()), None)


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
    if file is None:
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
        if file is not None:
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


CHECKS = (text, answers)
