"""The splits of each task, and their files."""

import random
from collections.abc import Callable, Iterator

from vlpnb.world.glue.entailment import mnli, mnli_mismatched, rte, wnli
from vlpnb.world.glue.example import Example, Group
from vlpnb.world.glue.pairs import mrpc, qnli, qqp, stsb
from vlpnb.world.glue.sentences import cola, sst2

TASKS = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI")
_GROUPS: dict[str, Callable[[random.Random, int], Group]] = {
    "CoLA": cola, "SST-2": sst2, "MRPC": mrpc, "STS-B": stsb, "QQP": qqp, "MNLI": mnli,
    "MNLI-MM": mnli_mismatched, "QNLI": qnli, "RTE": rte, "WNLI": wnli,
}  # fmt: skip


def glue_examples(task: str, seed: int, sizes: dict[str, int]) -> dict[str, list[Example]]:
    """Examples of each split in `sizes` (split → how many, met by whole groups), no example in two splits.

    `task` is one of `TASKS` or "MNLI-MM". Splits named "train" take one half of the canonical kinds, others the
    other half. Equal in every process.
    """
    seen: set[tuple[str, str]] = set()
    result = {}
    for split, size in sizes.items():
        rng = random.Random(f"glue-{seed}-{task}-{split}")
        groups: list[Group] = []
        count = tries = 0
        while count < size and tries < 40 * size:  # ends where a task runs out of different sentences
            tries += 1
            group = _GROUPS[task](rng, 0 if split == "train" else 1)
            keys = {(example.first, example.second) for example in group}
            if len(keys) == len(group) and not keys & seen:
                seen |= keys
                groups.append(group)
                count += len(group)
        result[split] = rng.sample(examples := [e for group in groups for e in group], len(examples))
    return result


def glue_files(task: str, seed: int, train: int, dev: int, test: int) -> Iterator[tuple[str, str]]:
    """(file name, content) of each file of a task, in the distributed layout; test files carry no labels."""
    splits = glue_examples(task, seed, {"train": train, "dev": dev, "test": test})
    if task != "MNLI":
        for split, examples in splits.items():
            yield f"{split}.tsv", _tsv(task, split, examples)
        return
    other = glue_examples("MNLI-MM", seed, {"dev": dev, "test": test})
    yield "train.tsv", _tsv(task, "train", splits["train"])
    for split in ("dev", "test"):
        yield f"{split}_matched.tsv", _tsv(task, split, splits[split])
        yield f"{split}_mismatched.tsv", _tsv(task, split, other[split])


_HEADERS = {
    "SST-2": "sentence label", "MRPC": "\ufeffQuality,#1 ID,#2 ID,#1 String,#2 String",
    "STS-B": "index genre filename year old_index source1 source2 sentence1 sentence2 score",
    "QQP": "id qid1 qid2 question1 question2 is_duplicate", "QNLI": "index question sentence label",
    "MNLI": "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse "
            "sentence2_parse sentence1 sentence2 label1 gold_label",
    "RTE": "index sentence1 sentence2 label", "WNLI": "index sentence1 sentence2 label",
}  # fmt: skip
_TEST_HEADERS = {
    "CoLA": "index sentence", "SST-2": "index sentence", "MRPC": "index,#1 ID,#2 ID,#1 String,#2 String",
    "STS-B": _HEADERS["STS-B"].removesuffix(" score"), "QQP": "id question1 question2",
    "QNLI": "index question sentence", "MNLI": _HEADERS["MNLI"].removesuffix(" label1 gold_label"),
    "RTE": "index sentence1 sentence2", "WNLI": "index sentence1 sentence2",
}  # fmt: skip


def _tsv(task: str, split: str, examples: list[Example]) -> str:
    """The file of one split, each task in its own columns."""
    labelled = split != "test"
    header = (_HEADERS if labelled else _TEST_HEADERS).get(task)
    lines = []
    if header:
        lines.append("\t".join(header.split("," if "," in header else " ")))
    for i, example in enumerate(examples):
        first, second, label = example.first, example.second, example.label
        if task == "CoLA":
            row = ("world", label, "*" if label == "0" else "", first) if labelled else (i, first)
        elif task == "SST-2":
            row = (first, label) if labelled else (i, first)
        elif task == "MRPC":
            row = (label if labelled else i, 2 * i, 2 * i + 1, first, second)
        elif task == "QQP":
            row = (i, 2 * i, 2 * i + 1, first, second, label) if labelled else (i, first, second)
        elif task == "STS-B":
            row = (i, "main-captions", "world", "2026", f"{i:04d}", "none", "none", first, second)
        elif task == "MNLI":
            parses = (f"( {first} )", f"( {second} )", f"(ROOT {first})", f"(ROOT {second})")
            row = (i, i, f"{i}{label[0]}" if labelled else i, example.genre, *parses, first, second)
            row += (label,) if labelled else ()
        else:
            row = (i, first, second)
        if labelled and task not in ("CoLA", "SST-2", "MRPC", "QQP"):
            row += (label,)
        lines.append("\t".join(map(str, row)))
    return "\n".join(lines) + "\n"
