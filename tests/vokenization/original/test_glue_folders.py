"""The original's table of results, from the original's folders and from ours."""

import os

import pytest

from vlpnb.course.cli import main
from vlpnb.downstream.glue import write_eval_results
from vlpnb.errors import UserError
from vlpnb.vokenization.original.glue_folders import glue_folders, table
from vlpnb.vokenization.results import HEADER

SAMPLE = {"RTE": 58.12, "MRPC": 82.76, "STS-B": 84.45, "CoLA": 26.74, "SST-2": 89.56,
          "QNLI": 84.40, "QQP": 86.52, "MNLI": 77.56, "MNLI-MM": 77.99}  # fmt: skip
NAMES = {"MRPC": "acc = 0.1\nacc_and_f1 = {}\nf1 = 0.2\n", "QQP": "acc = 0.1\nacc_and_f1 = {}\nf1 = 0.2\n",
         "STS-B": "corr = {}\npearson = 0.1\nspearmanr = 0.2\n", "CoLA": "mcc = {}\n",
         "MNLI": "mnli/acc = {}\n", "MNLI-MM": "mnli-mm/acc = {}\n"}  # fmt: skip


@pytest.fixture
def snap(tmp_path):
    """Two runs of the original, the first by name finished last; WNLI is not shown; a model lies beside each result."""
    for place, tasks in (
        ("vlm/small/glueepoch_checkpoint-epoch0029", SAMPLE),
        ("bert/small/glueepoch_checkpoint-epoch0000", {"RTE": 50.0, "CoLA": 0.0}),
    ):
        for task, value in {**tasks, "WNLI": 56.34}.items():
            folder = tmp_path / "snap" / place / task
            folder.mkdir(parents=True)
            (folder / "eval_results.txt").write_text(NAMES.get(task, "acc = {}\n").format(value / 100))
            (folder / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "snap" / "xmatching").mkdir()
    for name, time in (("vlm", 1000), ("bert", 2000)):
        os.utime(tmp_path / "snap" / name, (time, time))
    return tmp_path / "snap"


def test_the_originals_folders_in_order_of_time(snap):
    lines = table(snap).split("\n")
    assert lines[0].endswith("vlm/small/glueepoch_checkpoint-epoch0029")
    assert lines[1] == lines[4] == HEADER
    # The second sample row of the original's README
    assert [float(value) for value in lines[2].split()] == [*SAMPLE.values(), 74.23]
    assert lines[3].endswith("bert/small/glueepoch_checkpoint-epoch0000")
    assert lines[5] == f"{50:8.2f}" + " " * 16 + f"{0:8.2f}" + " " * 40 + f"{25:8.2f}"
    assert len(lines) == 6


def test_what_our_stage_writes_is_read(tmp_path):
    seed = tmp_path / "glue-vokens-95-0a1b2c3d" / "seed-9595"
    write_eval_results(seed / "CoLA", {"matthews": 0.5})
    write_eval_results(seed / "QQP", {"acc_and_f1": 0.8, "accuracy": 0.9, "f1": 0.7})
    write_eval_results(seed / "STS-B", {"corr": 0.7, "pearson": 0.6, "spearman": 0.8})
    write_eval_results(seed / "MNLI-MM", {"accuracy": 0.4})
    assert dict(glue_folders(tmp_path)) == {seed: {"CoLA": 0.5, "QQP": 0.8, "STS-B": 0.7, "MNLI-MM": 0.4}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acc 0.5\n", r"RTE/eval_results\.txt:1: expected 'metric = value', found 'acc 0\.5'"),
        ("\nacc = much\n", r"eval_results\.txt:2: expected 'metric = value'"),
        ("loss = 0.5\n", r"no metric acc or accuracy.*which the column RTE shows; found loss"),
        ("", "found nothing"),
    ],
)
def test_files_that_are_no_results(tmp_path, text, message):
    (tmp_path / "x" / "RTE").mkdir(parents=True)
    (tmp_path / "x" / "RTE" / "eval_results.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        table(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"no <TASK>/eval_results\.txt below it"):
        table(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        table(tmp_path / "snap")


def test_the_command(snap, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["report", "--glue", str(snap)])
    assert caught.value.code in (0, None)
    assert capsys.readouterr().out == table(snap) + "\n"
