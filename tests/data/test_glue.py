"""GLUE's distributed TSV files: sizes, labels, quoting, and errors with file and line."""

import pytest

from vlpnb.data.glue import GLUE_TASKS, read_glue
from vlpnb.errors import UserError

SIZES = {
    "CoLA": (8551, 1043, 1063),
    "MRPC": (3667, 408, 1725),
    "RTE": (2490, 277, 3000),
    "STS-B": (5749, 1500, 1379),
    "WNLI": (635, 71, 146),
    "SST-2": (5000, 872, 1821),
    "QNLI": (160, 5463, None),
    "QQP": (160, 160, None),
    "MNLI": (240, 240, None),
}


@pytest.mark.parametrize("name", SIZES)
def test_published_files(shared_data, name):
    task = GLUE_TASKS[name]
    for split, size in zip(("train", "valid", "test"), SIZES[name], strict=True):
        if size is None:
            continue
        examples = read_glue(shared_data / "glue", name, split)
        assert len(examples) == size
        assert all(examples.sentence1)
        assert (examples.sentence2 is None) == (task.sentence2 is None)
        assert (examples.labels is None) == (split == "test")
        if split == "train":
            found = set(examples.labels)
            assert max(found) == 5.0 if task.regression else found == set(range(task.outputs))


def test_quotes_stay_in_the_sentence(shared_data):
    examples = read_glue(shared_data / "glue", "mrpc", "dev")
    assert (
        examples.sentence2[0] == '" The foodservice pie business does not fit our long-term growth strategy .'
    )


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_small_files_of_every_layout(tmp_path):
    write(
        tmp_path, "MRPC/train.tsv", '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\t"a\tb" c\n'
    )
    write(tmp_path, "CoLA/dev.tsv", "gj04\t0\t*\tHim sleep.\ngj04\t1\t\tHe sleeps.\n")
    names = "index\tpromptID\tpairID\tgenre\tp1\tp2\tq1\tq2\tsentence1\tsentence2"
    label5 = "\t".join(f"label{i}" for i in range(1, 6))
    cells = "\t".join(["x"] * 8)
    write(
        tmp_path,
        "MNLI/dev_mismatched.tsv",
        f"{names}\t{label5}\tgold_label\r\n{cells}\tA b.\tC d.\t{label5}\tneutral\r\n",
    )
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    write(tmp_path, "QQP/train.tsv", header + "1\t2\t3\twhy ?\thow ?\t0\n1\t2\tcut\n")
    assert read_glue(tmp_path, "MRPC", "train").sentence1 == ['"a']
    assert read_glue(tmp_path, "CoLA", "valid").labels == [0, 1]
    mismatched = read_glue(tmp_path, "MNLI-MM", "valid")
    assert (mismatched.sentence2, mismatched.labels) == (["C d."], [2])
    quora = read_glue(tmp_path, "QQP", "train")
    assert (len(quora), quora.dropped) == (1, 1)


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        (
            "RTE",
            "index\tsentence1\tsentence2\tlabel\n0\ta\tb\n",
            r"train\.tsv:2: 3 tab-separated columns, expected 4",
        ),
        ("RTE", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentails\n", r"train\.tsv:2: label 'entails'"),
        ("RTE", "index\tquestion\tsentence\tlabel\n", r"train\.tsv:1: no column 'sentence1'"),
        ("RTE", "index\tsentence1\tsentence2\tlabel\n", "no example"),
        ("RTE", "", "no column 'sentence1' in the header; found an empty file"),
        ("STS-B", "sentence1\tsentence2\tscore\na\tb\t5.5\n", r"train\.tsv:2: score '5\.5'"),
        ("STS-B", "sentence1\tsentence2\tscore\na\tb\tnan\n", r"train\.tsv:2: score 'nan'"),
        ("CoLA", "a\t1\t\tfine\nb\t2\t\tbad\n", r"train\.tsv:2: label '2'"),
        ("QQP", "id\tquestion1\tquestion2\tis_duplicate\n1\ta\tb\t0\textra\n", r":2: 5 tab-separated"),
    ],
)
def test_errors_name_file_and_line(tmp_path, task, text, message):
    write(tmp_path, f"{task}/train.tsv", text)
    with pytest.raises(UserError, match=message):
        read_glue(tmp_path, task, "train")


def test_bad_encoding_and_names(tmp_path):
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE/train.tsv").write_bytes(b"index\tsentence1\tsentence2\tlabel\n0\t\xff\tb\tentailment\n")
    with pytest.raises(UserError, match=r"train\.tsv:2: not UTF-8"):
        read_glue(tmp_path, "RTE", "train")
    with pytest.raises(UserError, match="does not exist"):
        read_glue(tmp_path, "RTE", "valid")
    with pytest.raises(UserError, match="'SQuAD' is unknown"):
        read_glue(tmp_path, "SQuAD", "train")
    with pytest.raises(UserError, match="split 'validation'"):
        read_glue(tmp_path, "RTE", "validation")
