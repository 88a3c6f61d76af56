"""LXMERT's files: sentences and labels, the answer table and its spelling, the tasks' answers, pairs."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from vlpnb.data.lxmert import (
    AnswerTable,
    lxmert_pairs,
    normalise_answer,
    read_labels,
    read_lxmert,
    read_lxmert_pairs,
)
from vlpnb.data.nlvr2 import read_nlvr2
from vlpnb.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden/lxmert"


@pytest.fixture(scope="module")
def answers():
    return json.loads((GOLDEN / "answers.json").read_text())


def test_answers_are_spelt_as_the_original_spells_them(answers):
    for raw, expected in answers["normalise"]:
        assert normalise_answer(raw) == expected, raw


def test_the_recorded_tiny_table(answers, tmp_path):
    tiny = answers["tiny"]
    rows = [{"ans": a, "dsets": d} for a, d in zip(tiny["answers"], tiny["dsets"], strict=True)]
    (tmp_path / "all_ans.json").write_text(json.dumps(rows))
    table = AnswerTable.read(tmp_path / "all_ans.json")
    assert [table.index(normalise_answer(a)) for a in tiny["label2ans"]] == [
        None if row < 0 else row for row in tiny["source_row"]
    ]
    for sources, size in tiny["restricted_table_size"].items():
        assert len(table.restricted(sources.split("+"))) == size
    (tmp_path / "again.json").write_text(json.dumps(table.rows()))
    assert AnswerTable.read(tmp_path / "again.json") == table


def test_the_published_table_and_its_parts(answers, shared_data):
    table = AnswerTable.read(shared_data / "lxmert/all_ans.json")
    assert len(table) == answers["all_ans"]["entries"]
    assert list(table.answers) == sorted(table.answers)
    assert Counter(s for of in table.sources for s in of) == {"visual7w": 9409, "vqa": 3124, "gqa": 1735}
    for n in (1, 2, 3):
        for sources in combinations(("gqa", "visual7w", "vqa"), n):
            part = table.restricted(sources)
            name = "+".join(sources)
            assert len(part) == answers["restricted_table_size"][name]
            for answer, row in answers["restricted_index"].get(name, {}).items():
                assert part.index(answer) == (None if row < 0 else row)


def test_the_published_answers_of_tasks_have_the_recorded_rows(answers, shared_data):
    table = AnswerTable.read(shared_data / "lxmert/all_ans.json")
    for task, size in (("vqa", 3129), ("gqa", 1842)):
        labels = read_labels(shared_data / f"lxmert/{task}/trainval_label2ans.json")
        rows = [table.index(normalise_answer(label)) for label in labels]
        found = [row for row in rows if row is not None]
        recorded = answers[task]
        assert len(labels) == size == recorded["labels"]
        assert (len(found), size - len(found)) == (recorded["loaded"], recorded["not_loaded"])
        assert sum(found) == recorded["sum_of_source_rows"]
        assert len(set(found)) == len(found)
        missing = [label for label, row in zip(labels, rows, strict=True) if row is None]
        assert set(recorded["not_loaded_answers"]) <= set(missing)
        for sample in recorded["sample"]:
            assert labels[sample["label"]] == sample["answer"]
            assert rows[sample["label"]] == (None if sample["row"] < 0 else sample["row"])


def test_sentences_and_pruned_labels_are_the_recorded_ones(shared_data, tmp_path):
    recorded = json.loads((GOLDEN / "examples.json").read_text())
    table = AnswerTable.read(shared_data / "lxmert/all_ans.json")
    images = []
    for name, content in recorded["files"].items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        images += read_lxmert(tmp_path / f"{name}.json")
    with_features = {e["img_id"] for e in recorded["variants"]["all"]["examples"]}
    for name, variant in recorded["variants"].items():
        part = table if name == "all" else table.restricted(name.split("+"))
        assert len(part) == variant["answers"]
        found = [
            {
                "uid": f"{image.image_id}_{source}_{i:03d}",
                "img_id": image.image_id,
                "sent": sentence,
                "label_ids": [list(p) for p in part.prune(image.labels[source][i]).items()]
                if source in image.labels
                else None,
            }
            for image in images
            if image.image_id in with_features
            for source, sentences in image.sentences.items()
            for i, sentence in enumerate(sentences)
        ]
        expected = [{k: e[k] for k in ("uid", "img_id", "sent", "label_ids")} for e in variant["examples"]]
        assert found == expected


def test_of_two_answers_that_become_one_the_rewritten_wins():
    table = AnswerTable(("a cat", "cat", "gray"), (frozenset({"vqa"}),) * 3)
    assert table.prune({"grey": 0.3, "gray": 0.9}) == {2: 0.3}
    assert table.prune({"gray": 0.9, "grey": 0.3}) == {2: 0.3}
    assert table.prune({"Gray": 0.6, "gray": 0.9, "the grey": 0.3}) == {2: 0.3}
    assert table.prune({"dog": 1.0}) == {}
    with pytest.raises(UserError, match="no answer of the table is of source 'vqq'; expected some of vqa"):
        table.restricted(["vqq"])
    with pytest.raises(UserError, match="expected some of none: the table is empty"):
        AnswerTable((), ()).restricted(["vqa"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"img_id": "1"}, r"l\.json: \[0\]: field 'sentf' is missing"),
        ({"img_id": "1", "sentf": {"vg": "a"}}, r"\[0\]\.sentf\.vg: expected a list"),
        ({"img_id": "1", "sentf": {"vg": [1]}}, r"\[0\]\.sentf\.vg\[0\]: expected text"),
        ({"sentf": {"vg": ["a"]}}, r"\[0\]: field 'img_id' is missing"),
        (
            {"img_id": "1", "sentf": {"vqa": ["a", "b"]}, "labelf": {"vqa": [{}]}},
            r"\[0\]: 1 answers of source 'vqa' and 2 of its sentences",
        ),
        ({"img_id": "1", "sentf": {}, "labelf": {"vqa": [{}]}}, r"1 answers of source 'vqa' and 0"),
        (
            {"img_id": "1", "sentf": {"vqa": ["a"]}, "labelf": {"vqa": [{"x": 2}]}},
            r"labelf\.vqa\[0\]\['x'\]: score 2, expected a number from 0 to 1",
        ),
        (
            {"img_id": "1", "sentf": {"vqa": ["a"]}, "labelf": {"vqa": [["x"]]}},
            r"labelf\.vqa\[0\].*expected an object",
        ),
        (
            {"img_id": "1", "sentf": {"vqa": ["a"]}, "labelf": {"vqa": [{"x": None}]}},
            r"labelf\.vqa\[0\]\['x'\]: expected a number",
        ),
    ],
)
def test_a_damaged_entry_is_named(tmp_path, content, message):
    (tmp_path / "l.json").write_text(json.dumps([content]))
    with pytest.raises(UserError, match=message):
        read_lxmert(tmp_path / "l.json")


def test_damaged_tables_are_named(tmp_path):
    path = tmp_path / "all_ans.json"
    path.write_text('[{"ans": "a", "dsets": ["vqa"]}, {"ans": "a", "dsets": []}]')
    with pytest.raises(UserError, match=r"all_ans\.json: \[1\]: answer 'a' stands in the table already"):
        AnswerTable.read(path)
    labels = tmp_path / "trainval_label2ans.json"
    labels.write_text('["a", "b", "a"]')
    with pytest.raises(UserError, match=r"\[2\]: answer 'a' is class 0 already"):
        read_labels(labels)
    labels.write_text('["a", "b"]')
    (tmp_path / "trainval_ans2label.json").write_text('{"a": 1, "b": 0}')
    with pytest.raises(UserError, match="disagree; expected one to be the inverse"):
        read_labels(labels)


def test_pairs_in_lxmerts_form_are_the_recorded_ones(tmp_path):
    recorded = json.loads((GOLDEN / "metrics.json").read_text())["nlvr2"]
    (tmp_path / "dev.json").write_text("".join(json.dumps(row) + "\n" for row in recorded["official_lines"]))
    official = read_nlvr2(tmp_path / "dev.json")
    assert lxmert_pairs(official, "valid") == recorded["lxmert_form"]
    (tmp_path / "valid.json").write_text(json.dumps(recorded["lxmert_form"]))
    for ours, theirs in zip(read_lxmert_pairs(tmp_path / "valid.json"), official, strict=True):
        assert (ours.identifier, ours.sentence, ours.label) == (
            theirs.identifier,
            theirs.sentence,
            theirs.label,
        )
        assert (f"{ours.left}.png", f"{ours.right}.png") == (theirs.left, theirs.right)
    (tmp_path / "valid.json").write_text(
        '[{"identifier": "a", "sent": "s", "img0": "l", "img1": "r", "label": 2}]'
    )
    with pytest.raises(UserError, match=r"valid\.json: \[0\]\.label: found 2, expected 0 or 1"):
        read_lxmert_pairs(tmp_path / "valid.json")
