"""The recorded numbers of VaLM that no language model is needed for: cuts of the text, files of ids, prompts.

`binarised.json` and `prompts.json` are about published files, which lie in the recorded folder or in `data` beside it
(`vlpnb.data.recorded.published`); without them they are skipped, which is told.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.commonsense import KnownThing, SizePair, read_colours, read_sizes, read_vicomte
from vlpnb.data.recorded import Entries, RecordedFolder, published
from vlpnb.downstream.prompting import load_prompts, rendered
from vlpnb.text.binarised import Binarised
from vlpnb.text.blocks import LanguageBlocks
from vlpnb.text.chunking import LONGEST, compat_lengths
from vlpnb.valm.original.verify_search import MODEL_END, MODEL_PAD, OFFSET, clip_ids, pieces_of, separators

SHARE = Tolerance(1e-12)


def _hash(content: bytes | str) -> str:
    return hashlib.sha256(content if isinstance(content, bytes) else content.encode()).hexdigest()


def chunker(folder: RecordedFolder) -> Iterator[Case]:
    """Where the release cuts texts for its text tower (VAL-24)."""
    about = folder.json("chunker.json")
    marks = separators(folder)
    yield about.case("separators_in_order", list(marks))
    yield about.case("longest", LONGEST)
    for item in about["items"]:
        yield item.case("lengths", compat_lengths(np.array(item["clip_ids"], np.int64), marks))
    blocks = about.get("wikitext_blocks")
    path = None if blocks is None else published(folder, f"{blocks['file']}.idx")
    if path is None:
        about.skip("the published text is not here", "wikitext_blocks")
        return
    tokens, size = Binarised(path).tokens, blocks["block"]
    starts = range(0, len(tokens) // size * size, size)  # whole blocks
    lengths = [compat_lengths(clip_ids(tokens[start : start + size]), marks) for start in starts]
    yield blocks.case("blocks", len(lengths))
    yield blocks.case("lengths_of_first_blocks", lengths[: len(blocks["lengths_of_first_blocks"])])
    yield blocks.case("total_chunks", sum(map(len, lengths)))
    yield blocks.case("longest_block", max(map(len, lengths)))
    yield blocks.case("sha256_of_all_lengths", _hash(json.dumps(lengths, separators=(",", ":"))))


def binarised(folder: RecordedFolder) -> Iterator[Case]:
    """Files of ids, their lines, and how they are cut into blocks or taken line by line."""
    about = folder.json("binarised.json")
    clip = pieces_of(folder)
    decode = None if clip is None else clip.decode
    for name, entry in about.items():
        if name == "packing":
            continue
        path = published(folder, f"text/{name}.idx")
        if path is None:
            about.skip("the published text is not here", name)
            continue
        yield from _stream(entry, Binarised(path), decode)
    packing = about["packing"]
    path = published(folder, f"text/{packing['file']}.idx")
    if path is None:
        about.skip("the published text is not here", "packing")
        return
    blocks = LanguageBlocks(path, block=packing["block"], end_id=MODEL_END, pad_id=MODEL_PAD)
    yield packing.case("blocks", len(blocks))
    yield packing.case("last_block_length", blocks.lengths[-1])
    lines = LanguageBlocks(
        path, block=int(Binarised(path).lengths.max()), end_id=MODEL_END, pad_id=MODEL_PAD, lines=True
    )
    for found, entries in ((blocks, packing["items"]), (lines, packing["one_line_per_sample"])):
        for row, entry in entries.items():
            example = found[int(row)]
            yield entry.case("input", example["ids"].tolist())
            yield entry.case("target", example["targets"].tolist())


def _stream(entry: Entries, corpus: Binarised, decode: Any) -> Iterator[Case]:
    ids, lengths = np.asarray(corpus.tokens), corpus.lengths
    counts = {
        "lines": len(corpus), "tokens": len(ids), "sum": ids.astype(np.int64).sum(), "eos": (ids == MODEL_END).sum(),
        "unk": (ids == 3).sum(), "largest": ids.max(), "longest_line": lengths.max(), "shortest_line": lengths.min(),
        "dtype": corpus.dtype.name, "sha256_uint16": _hash(ids.astype("<u2").tobytes()),
    }  # fmt: skip
    counts |= {
        "first": ids[: len(entry["first"])].tolist(),
        "last": ids[len(ids) - len(entry["last"]) :].tolist(),
    }
    for name, ours in counts.items():
        yield entry.case(name, ours)
    for row in entry["picked_lines"]:
        line = corpus.line(int(row))
        yield entry["picked_lengths"].case(row, len(line))
        yield entry["picked_lines"].case(row, line[: len(entry["picked_lines"][row])].tolist())
        if decode is not None:
            yield entry["picked_text"].case(
                row, decode(clip_ids(line[line != MODEL_END])[: len(entry["picked_lines"][row])])
            )
    if decode is None:
        entry.skip("CLIP's vocabulary is not here", "picked_text")


def prompts(folder: RecordedFolder) -> Iterator[Case]:
    """Rendered prompts, their answers, and what trivial predictors score."""
    about = folder.json("prompts.json")
    clip = pieces_of(folder)
    encode = None if clip is None else clip.encode
    for name, entry in about.items():
        path = published(folder, entry["file"])
        if path is None:
            about.skip("the published list is not here", name)
        elif "templates" in entry:
            yield from _colours(entry, read_colours(path), encode)
        elif "pairs" in entry:
            yield from _sizes(entry, read_sizes(path), encode)
        else:
            yield from _vicomte(entry, read_vicomte(path), encode)


def _joined(texts: Sequence[str]) -> str:
    return _hash("\n".join(texts))


def _majority(entry: Entries, answers: Sequence[str]) -> Iterator[Case]:
    """Counts of the answers, and the score of whoever always gives one of them."""
    counts = Counter(answers)
    best = counts.most_common(1)[0][0]  # of equally many that which comes first
    yield entry.case("rows_per_label", dict(sorted(counts.items())))
    yield entry.case("majority_label", best)
    yield entry.case("majority_score", counts[best] / len(answers), SHARE)
    yield entry.case("macro_accuracy_of_majority", 1 / len(counts), SHARE)
    if "always" in entry:
        yield entry.case("always", {label: n / len(answers) for label, n in counts.items()}, SHARE)
        yield entry.case("uniform_score", 1 / len(counts), SHARE)


def _colours(entry: Entries, things: list[KnownThing], encode: Any) -> Iterator[Case]:
    prompts = load_prompts("colour")
    items = [{"d": thing.descriptor, "x": thing.thing} for thing in things]
    texts = rendered(prompts, items)
    answers = [thing.answer for thing in things]
    labels = sorted(set(answers))
    entry.leave_out("order", "file")
    told = {"rows": len(things), "templates": len(prompts.templates), "prompts": len(texts), "labels": labels}
    told |= {"sha256_of_prompts_joined_by_newline": _joined(texts)}
    descriptors = any(thing.descriptor for thing in things)
    told |= {"empty_descriptors": sum(not thing.descriptor for thing in things) if descriptors else 0}
    for name, ours in told.items():
        yield entry.case(name, ours)
    yield from _majority(entry, answers)
    left = [fill(text, item["x"]) for text in prompts.templates for item in items]
    yield entry.case("sha256_with_placeholder_left_in", None if descriptors else _joined(left))
    for place, example in entry["examples"].items():
        yield example.case("prompt", texts[int(place)])
        yield example.case("answer", answers[int(place) % len(things)])
        if "with_placeholder_left_in" in example:
            yield example.case("with_placeholder_left_in", left[int(place)])
        yield from _ids(example, "lm_ids", example["prompt"], encode)
    if encode is None:
        entry.skip("CLIP's vocabulary is not here", "label_lm_ids")
    else:
        ids = {label: [i + OFFSET for i in encode(label)] for label in labels}
        yield entry.case("label_lm_ids", {label: found[0] for label, found in ids.items() if len(found) == 1})


def fill(template: str, thing: str) -> str:
    """A prompt about a thing without a descriptor as the release writes it: the place stays in (VAL-32)."""
    return template.replace("{d}", "[DESCRIPTOR]").replace("{x}", thing)


def _ids(entry: Entries, name: str, text: str, encode: Any) -> Iterator[Case]:
    if encode is None:
        entry.skip("CLIP's vocabulary is not here", name)
    else:
        yield entry.case(name, [i + OFFSET for i in encode(text)])


def _sizes(entry: Entries, pairs: list[SizePair], encode: Any) -> Iterator[Case]:
    both = [(pair.bigger, pair.smaller) for pair in pairs]
    nouns = sorted({noun for pair in both for noun in pair})
    entry.leave_out("file")
    told = {"pairs": len(both), "distinct_pairs": len(set(both)), "nouns": len(nouns)}
    told |= {"reversed_pairs_present": len({pair[::-1] for pair in both} & set(both))}
    told |= {"noun_list_sha256": _joined(nouns)}
    for name, ours in told.items():
        yield entry.case(name, ours)
    for word in ("yes", "no"):
        if encode is None:
            entry.skip("CLIP's vocabulary is not here", f"{word}_lm_id")
        else:
            yield entry.case(f"{word}_lm_id", encode(word)[0] + OFFSET)

    compat, asked = entry["compat"], load_prompts("size_original")
    texts = rendered(asked, [{"a": a, "b": b} for a, b in both])
    yield compat.case("templates", len(asked.templates))
    yield compat.case("prompts", len(texts))
    yield compat.case("sha256_of_prompts_joined_by_newline", _joined(texts))
    yield compat.case("example", texts[len(both) * (len(asked.templates) - 1)])
    yield compat.case("always_yes", _yes_scores(both, lambda a, b: True)["bigger_first"])
    yield compat.case("always_no", _yes_scores(both, lambda a, b: False)["bigger_first"])

    default, asked = entry["default"], load_prompts("size")
    default.leave_out("order")
    forward = rendered(asked, [{"a": a, "b": b} for a, b in both])
    backward = rendered(asked, [{"a": b, "b": a} for a, b in both])
    yield default.case("templates", len(asked.templates))
    yield default.case("prompts", len(forward) + len(backward))
    yield default.case("sha256_bigger_first", _joined(forward))
    yield default.case("sha256_smaller_first", _joined(backward))
    rules = {
        "always_yes": lambda a, b: True,
        "always_no": lambda a, b: False,
        "first_noun_alphabetically_first": lambda a, b: a < b,
        "first_noun_longer": lambda a, b: len(a) > len(b),
    }
    for name, says_yes in rules.items():
        yield default.case(name, _yes_scores(both, says_yes), SHARE)
    for place, example in default["examples"].items():
        yield example.case("bigger_first", forward[int(place)])
        yield example.case("smaller_first", backward[int(place)])


def _yes_scores(pairs: Sequence[tuple[str, str]], says_yes: Any) -> dict[str, float]:
    """Accuracy in each order and in both of a rule that sees the two nouns, and how often it says yes."""
    forward = [says_yes(a, b) for a, b in pairs]
    backward = [says_yes(b, a) for a, b in pairs]
    first, second = float(np.mean(forward)), 1 - float(np.mean(backward))
    rate = float(np.mean(forward + backward))
    return {"bigger_first": first, "smaller_first": second, "both": (first + second) / 2, "yes_rate": rate}


def _vicomte(entry: Entries, things: list[KnownThing], encode: Any) -> Iterator[Case]:
    first = things[0]
    entry.leave_out("file")
    yield entry.case("rows", len(things))
    yield entry.case("first", {"sub": first.thing, "obj": first.answer, "alt": first.unlikely})
    if "majority_label" not in entry:
        return
    answers = [thing.answer for thing in things]
    yield entry.case("labels_in_gold", sorted(set(answers)))
    yield from _majority(entry, answers)
    if encode is None:
        entry.skip("CLIP's vocabulary is not here", "label_pieces")
    else:
        yield entry.case("label_pieces", {label: len(encode(label)) for label in sorted(set(answers))})


CHECKS = (chunker, binarised, prompts)
