"""Stage `results`: the golden row, the statistics, and sentences that claim no more than the numbers do."""

import json
import math

import pytest
import torch

from tests import tiny_lm
from vlpnb.downstream.glue import result_row
from vlpnb.nn.language_model import language_model_config
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization import results
from vlpnb.vokenization.glue import GLUE
from vlpnb.vokenization.results import COLUMNS, HEADER, ResultsConfig, paired, spread, verdict
from vlpnb.vokenization.squad import SQUAD
from vlpnb.vokenization.swag import SWAG
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, save_snapshot

SAMPLE = (54.51, 84.72, 87.18, 52.32, 90.02, 88.36, 87.16, 81.92, 82.57)


def test_golden_row():
    """The original README's first sample row averages to 78.75."""
    row = result_row({name: value / 100 for name, value in zip(COLUMNS, SAMPLE, strict=True)})
    assert [row[i : i + 8].strip() for i in range(0, 80, 8)] == [f"{v:.2f}" for v in (*SAMPLE, 78.75)]
    assert len(row) == len(HEADER) == 80


def test_missing_tasks_are_blank():
    row = result_row({"RTE": 0.5, "CoLA": 0.25})
    assert row == "   50.00" + " " * 16 + "   25.00" + " " * 40 + "   37.50"
    assert result_row({}) == " " * 80


def test_statistics_by_hand():
    assert spread([1.0, 3.0]) == (2.0, pytest.approx(math.sqrt(2)))
    assert math.isnan(spread([1.0])[1])
    found = paired([1.0, 2.0, 3.0])
    assert found["mean"] == 2
    assert found["high"] - found["mean"] == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ([5.0, 5.1, 4.9], "is better than"),
        ([-5.0, -5.1, -4.9], "is worse than"),
        ([5.0, -4.0, 1.0], "no difference beyond seed noise"),
        ([5.0], "a single seed, which says nothing about noise"),
        ([5.0, 5.0, 5.0], "so their spread cannot be judged"),
    ],
)
def test_verdicts(differences, words):
    assert words in verdict("A", "B", "GLUE", paired(differences), len(differences))


@pytest.fixture
def inputs(tmp_path):
    made = {}
    for s, gain in (("mlm", 0.0), ("vokens", 0.05)):
        for seed in (1, 2, 3):
            folder = tmp_path / f"{s}{seed}"
            folder.mkdir()
            lost = "it gives every example the same answer" if (s, seed) == ("mlm", 3) else ""
            runs = [
                {"task": "RTE", "seed": 9, "value": 0.5 + gain + seed / 1000, "diverged": lost},
                {"task": "CoLA", "seed": 9, "value": 0.3 + gain, "diverged": ""},
            ]
            (folder / "glue.json").write_text(json.dumps(runs))
            known = {
                "colour": 0.2,
                "colour_calibrated": 0.2 + gain,
                "colour_chance": 0.125,
                "colour_linear": 0.3,
            }
            known |= {"cloze": 0.2, "calibrated": 0.2 + gain, "linear": 0.3}
            (folder / "probes.json").write_text(json.dumps({"metrics": known}))
            made[f"glue.{s}.{seed}"] = made[f"probes.{s}.{seed}"] = folder
    return made


def test_the_stage(inputs, tmp_path):
    config = ResultsConfig(supervisions=("mlm", "vokens"), seeds=(1, 2, 3))
    assert set(results.inputs(config)) == set(inputs)
    said = []
    metrics = results.run(tiny_lm.context(config, tmp_path / "out", inputs, said))
    assert metrics["glue.mlm.rte"] == pytest.approx(50.2)
    assert metrics["glue.vokens.mean"] == pytest.approx((55.2 + 35) / 2)
    assert metrics["glue.vokens.std"] == pytest.approx(0.05)
    assert metrics["glue.mlm.diverged"] == 1
    assert metrics["difference.vokens_minus_mlm.mean"] == pytest.approx(5)
    assert metrics["probes.vokens.colour"] == pytest.approx(20)
    page = (tmp_path / "out" / "results.md").read_text()
    assert "| MLM + vokens | 55.2 ± 0.1 |" in page
    assert "| model | colour; calibrated; linear |\n" in page
    assert "Diverged fine-tuning runs: 1." in page
    assert "MLM only, pre-training seed 3: RTE with fine-tuning seed 9" in page
    assert "MLM + vokens is better than MLM only: +5.00 points on the GLUE mean" in page
    assert "no difference beyond seed noise, +0.00 points on the linear probes" in page
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"]["mlm.1"]["CoLA"] == 0.3


def test_one_seed_without_probes(inputs, tmp_path):
    config = ResultsConfig(supervisions=("mlm", "vokens"), seeds=(1,), probes=False)
    metrics = results.run(tiny_lm.context(config, tmp_path / "out", inputs))
    assert math.isnan(metrics["glue.vokens.std"])
    assert "says nothing about noise" in (tmp_path / "out" / "results.md").read_text()
    assert not any(name.startswith("probes") for name in metrics)


@pytest.fixture
def reading_inputs(inputs):
    for s, gain in (("mlm", 0.0), ("vokens", 0.1)):
        for seed in (1, 2, 3):
            folder = inputs[f"glue.{s}.{seed}"]
            runs = json.loads((folder / "glue.json").read_text())
            runs += [
                {"task": t, "seed": 9, "value": 0.8, "diverged": ""} for t in ("SST-2", "QNLI", "QQP", "MNLI")
            ]
            (folder / "glue.json").write_text(json.dumps(runs))
            squad = [
                {
                    "version": version,
                    "seed": 9,
                    "diverged": "",
                    "metrics": {"em": em + gain, "f1": em + gain + 0.1},
                }
                for version, em in (("1.1", 0.6), ("2.0", 0.5))
            ]
            (folder / "squad.json").write_text(json.dumps(squad))
            lost = "its loss is not a number" if (s, seed) == ("vokens", 2) else ""
            (folder / "swag.json").write_text(
                json.dumps([{"seed": 9, "value": 0.4 + gain, "diverged": lost}])
            )
            inputs |= {f"squad.{s}.{seed}": folder, f"swag.{s}.{seed}": folder}
    return inputs


def test_reading_columns(reading_inputs, tmp_path):
    config = ResultsConfig(supervisions=("mlm", "vokens"), seeds=(1, 2, 3), squad=True, swag=True)
    assert set(results.inputs(config)) == set(reading_inputs)
    metrics = results.run(tiny_lm.context(config, tmp_path / "out", reading_inputs))
    assert metrics["squad.vokens.v1_em"] == pytest.approx(70)
    assert metrics["squad.vokens.v2_f1"] == pytest.approx(70)
    assert metrics["swag.mlm.accuracy"] == pytest.approx(40)
    assert metrics["swag.vokens.diverged"] == 1
    assert metrics["difference_squad_v1.vokens_minus_mlm.mean"] == pytest.approx(10)
    assert metrics["difference_swag.vokens_minus_mlm.mean"] == pytest.approx(10)
    assert metrics["reading.mlm.average"] == pytest.approx((4 * 80 + 65 + 55 + 40) / 7)
    page = (tmp_path / "out" / "results.md").read_text()
    assert "| model | SQuAD 1.1 | SQuAD 2.0 | SWAG | average of the paper's seven columns |" in page
    assert "| MLM only | 60.0/70.0 ± 0.0/0.0 | 50.0/60.0 ± 0.0/0.0 | 40.0 ± 0.0 |" in page
    assert "MLM + vokens, pre-training seed 2: swag with fine-tuning seed 9, its loss is not a number" in page


def test_one_reading_column(reading_inputs, tmp_path):
    config = ResultsConfig(supervisions=("mlm", "vokens"), seeds=(1,), swag=True, probes=False)
    metrics = results.run(tiny_lm.context(config, tmp_path / "out", reading_inputs))
    assert "reading.mlm.average" not in metrics
    page = (tmp_path / "out" / "results.md").read_text()
    assert "| model | SWAG |" in page
    assert "| MLM + vokens | 50.0 |" in page
    assert "SQuAD 1.1" not in page


@pytest.mark.slow
def test_the_table_of_granularities_from_real_stages(tmp_path):
    """A row per supervision, with GLUE, SQuAD as EM/F1 and SWAG, as the stages write them."""
    made = tiny_lm.make(tmp_path, count=40)
    tiny_lm.add_squad(tmp_path, made)
    tiny_lm.add_swag(tmp_path, made)
    tokenizer = load_tokenizer(made["corpus"] / "tokenizer")
    granularities = ("vokens", "sentence", "propagated", "term")
    short = {"epochs": 1, "max_train": 16, "max_valid": 24, "lr": 3e-3, "batch": 8}
    config = ResultsConfig(supervisions=granularities, seeds=(1,), squad=True, swag=True, probes=False)
    wanted, inputs, found = results.inputs(config), {}, {}
    for number, s in enumerate(granularities):
        torch.manual_seed(number)
        model = VisuallySupervisedLM(language_model_config("micro", tokenizer, 0.0))
        save_snapshot(tmp_path / s / "vlm" / "snapshot-0000001", model, tokenizer)
        for stage in (GLUE, SQUAD, SWAG):
            name = stage.name.split(".")[-1]
            folder = inputs[f"{name}.{s}.1"] = tmp_path / s / name
            fields = {"tasks": ("CoLA", "RTE")} if stage is GLUE else {}
            fields |= {"max_length": 40, "stride": 8} if stage is SQUAD else {}
            start = {**made, "pretraining": tmp_path / s / "vlm"}
            found[name, s] = stage.run(tiny_lm.context(stage.config(**short, **fields), folder, start))
    assert set(inputs) == set(wanted)
    metrics = results.run(tiny_lm.context(config, tmp_path / "out", inputs))
    page = (tmp_path / "out" / "results.md").read_text()
    table, reading = (
        [line for line in page.split("## What")[0].splitlines() if line.startswith("|")][i : i + 6]
        for i in (0, 6)
    )
    assert table[0] == "| model | " + " | ".join((*COLUMNS, "GLUE")) + " |"
    assert (
        reading[0] == "| model | SQuAD 1.1 | SQuAD 2.0 | SWAG |"
    )  # the average needs all of the paper's tasks
    for s, row, read in zip(granularities, table[2:], reading[2:], strict=True):
        values = [f"{100 * found['glue', s][name]:.1f}" for name in ("rte", "cola", "mean")]
        assert [cell.strip() for cell in row.split("|")[1:-1]] == [
            results.NAMES[s], values[0], "", "", values[1], *[""] * 5, values[2],
        ]  # fmt: skip
        both = [
            "/".join(f"{100 * found['squad', s][f'{version}_{name}']:.1f}" for name in ("em", "f1"))
            for version in ("v1", "v2")
        ]
        accuracy = f"{100 * found['swag', s]['accuracy']:.1f}"
        assert read == f"| {results.NAMES[s]} | {both[0]} | {both[1]} | {accuracy} |"
        assert metrics[f"squad.{s}.v2_f1"] == pytest.approx(100 * found["squad", s]["v2_f1"])
    assert len({found["squad", s]["v1_f1"] for s in granularities}) > 1  # or rows could be swapped unseen
    for other in granularities[1:]:
        assert f"difference_squad_v1.vokens_minus_{other}.mean" in metrics
        assert f"difference_swag.vokens_minus_{other}.mean" in metrics


def test_a_mean_without_any_converged_run_is_called_none(inputs, tmp_path):
    for folder in set(inputs.values()):
        runs = json.loads((folder / "glue.json").read_text())
        (folder / "glue.json").write_text(json.dumps([{**run, "diverged": "lost"} for run in runs]))
    config = ResultsConfig(supervisions=("mlm", "vokens"), seeds=(1, 2, 3))
    results.run(tiny_lm.context(config, tmp_path / "out", inputs))
    page = (tmp_path / "out" / "results.md").read_text()
    assert "GLUE without the diverged runs: MLM only none (median of all 40.1); MLM + vokens none" in page


def test_results_are_read_by_field(inputs, tmp_path):
    config = ResultsConfig(supervisions=("mlm", "vokens"), seeds=(1, 2, 3))
    metrics = results.run(tiny_lm.context(config, tmp_path / "out", inputs))
    found = results.read_results(tmp_path / "out")
    assert list(found.rows) == ["mlm", "vokens"]
    assert found.tasks == ["RTE", "CoLA"]
    vokens = found.rows["vokens"]
    assert vokens.glue["RTE"].mean == pytest.approx(55.2)
    assert vokens.glue["RTE"].std == pytest.approx(metrics["glue.vokens.rte_std"])
    assert (vokens.mean.mean, vokens.median) == (metrics["glue.vokens.mean"], metrics["glue.vokens.median"])
    assert (found.rows["mlm"].diverged, vokens.diverged) == (1, 0)
    assert vokens.seeds[2] == pytest.approx({"RTE": 55.2, "CoLA": 35})
    assert vokens.probes["calibrated"].mean == pytest.approx(25)
    assert vokens.chance == {"colour": 12.5}
    difference = found.differences["vokens", "mlm"]
    assert difference.mean == pytest.approx(5)
    assert difference.low <= difference.mean <= difference.high
    assert any("MLM + vokens is better" in sentence for sentence in found.verdict)
    assert len(found.diverged) == 1
    assert found.page.startswith("# Results")


def test_results_of_one_seed_have_no_spread_and_maybe_no_probes(inputs, tmp_path):
    config = ResultsConfig(supervisions=("mlm", "vokens"), seeds=(1,), probes=False)
    results.run(tiny_lm.context(config, tmp_path / "out", inputs))
    found = results.read_results(tmp_path / "out")
    assert math.isnan(found.rows["mlm"].mean.std)
    assert found.rows["mlm"].probes == found.rows["mlm"].chance == {}
