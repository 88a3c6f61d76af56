"""`make bench-gpu` without a GPU: it says so, and at toy size writes a file of the layout that is sent back."""

import json
import math

import pytest
import torch

from benchmarks import gpu_report, gpu_steps
from benchmarks.measure import Row
from vlpnb.cclm.config import parameter_count as cclm_parameters
from vlpnb.course import plan
from vlpnb.lxmert.model import parameter_count as lxmert_parameters

SYSTEMS = ["vokenization", "lxmert", "vlp", "valm", "cclm"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The file of a try on the CPU, and what was said meanwhile."""
    path, said = tmp_path_factory.mktemp("report") / "out" / "smoke.json", []
    code = gpu_report.main(["--device", "cpu", "--smoke", "--rate", "2.5", "--out", str(path)], said.append)
    return code, json.loads(path.read_text()), said


@pytest.mark.slow
def test_a_try_on_the_cpu_measures_every_part(report):
    code, found, said = report
    assert (code, found["failures"]) == (0, {})
    assert (found["made_by"], found["smoke"]) == ("make bench-gpu", True)
    assert found["rates"]["given_tflops"] == 2.5
    assert found["rates"]["measured_tflops"] > 0
    assert {"torch", "python"} <= found["versions"].keys()
    assert found["hardware"]["device"].startswith("cpu")
    assert [line.split(":")[0] for line in said[:9]] == [
        *SYSTEMS, "search", "decoding", "reranking", "vokenising"
    ]  # fmt: skip


@pytest.mark.slow
def test_each_system_has_its_speed_its_share_of_the_rate_and_its_memory(report):
    _, found, _ = report
    assert list(found["systems"]) == SYSTEMS
    for step in gpu_steps.TOY:
        told = found["systems"][step.system]
        for name in (
            "parameters",
            "seconds",
            "samples_per_second",
            "tflop_of_a_step",
            "tflops",
            "peak_memory_mb",
        ):
            assert told[name] > 0
        assert told["rows"] == step.rows
        assert told["samples_per_second"] == pytest.approx(step.rows / told["seconds"], rel=2e-3)
        assert told["tokens_per_second"] == pytest.approx(step.tokens * told["samples_per_second"], rel=2e-3)
        assert told["tflops"] == pytest.approx(told["tflop_of_a_step"] / told["seconds"], rel=2e-3)
        assert told["utilisation"] == pytest.approx(told["tflops"] / 2.5, rel=2e-3)


@pytest.mark.slow
def test_each_loss_is_there_in_both_precisions(report):
    _, found, _ = report
    names = {system: set(told["losses"]) for system, told in found["systems"].items()}
    assert names == {
        "vokenization": {"mlm", "voken"},
        "lxmert": {"words", "match", "objects", "attributes", "features", "answers"},
        "vlp": {"words"},
        "valm": {"next"},
        "cclm": {"itc", "itm", "words", "ttc", "ttm", "parallel_words"},
    }
    for told in found["systems"].values():
        for loss in told["losses"].values():
            assert loss["difference"] == pytest.approx(
                abs(loss["bfloat16"] - loss["float32"]) / abs(loss["float32"]), abs=2e-3
            )
            assert loss["difference"] < 0.02


@pytest.mark.slow
def test_rows_have_the_layout_of_the_other_benchmarks(report):
    _, found, _ = report
    rows = [Row(**row) for row in found["rows"]]
    assert all(math.isfinite(row.ratio) and row.ours > 0 for row in rows)
    used = {
        row.name: row.ours for row in rows if row.name.endswith(", utilisation")
    }  # what `vlpnb plan` reads
    for system in SYSTEMS:
        assert used[f"{system} pre-training step, utilisation"] == found["systems"][system]["tflops"]
    for part in ("search", "beam", "re-ranking", "vokenise"):
        assert any(part in row.name for row in rows), part


@pytest.mark.slow
def test_the_plan_reckons_with_the_file_that_was_sent(report, tmp_path, monkeypatch):
    _, found, _ = report
    monkeypatch.setattr(plan, "RESULTS", tmp_path)
    assert "35% (stated)" in plan.machine(card="A100").said
    name = plan.cards()["A100"]["file"]
    (tmp_path / f"{name}.json").write_text(json.dumps(found))
    achieved = sorted(told["tflops"] for told in found["systems"].values())[2]
    card = plan.machine(card="A100")
    assert card.flops == pytest.approx(achieved * 1e12)
    assert "in bfloat16 at a utilisation of" in card.said
    assert "(measured)" in card.said


def test_the_rate_of_a_known_card_is_the_published_one():
    assert gpu_report.published("nvidia-h100-80gb-hbm3") == 989
    assert gpu_report.published("cpu-2-cores") is None


def test_without_a_gpu_it_says_so_in_a_line_and_measures_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu_report, "RESULTS", tmp_path)
    assert gpu_report.main([]) == gpu_report.NO_GPU
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("no GPU: PyTorch")
    assert gpu_report.main(["--device", "cpu"]) == gpu_report.NO_GPU
    assert "add --smoke" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_fails_is_told_and_the_others_are_measured(monkeypatch, tmp_path):
    def broken(device):
        raise RuntimeError("no kernel image")

    measured = Row("search", 1.0, 2.0, 2.0, "s")
    monkeypatch.setattr(
        gpu_report, "parts", lambda smoke: {"decoding": broken, "search": lambda device: [measured]}
    )
    monkeypatch.setattr(gpu_steps, "TOY", ())
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"rows": [{"name": "other", "ours": 3}, {"name": "search", "ours": 9}]}))
    said = []
    assert (
        gpu_report.main(["--device", "cpu", "--smoke", "--out", str(path)], said.append) == gpu_report.FAILED
    )
    found = json.loads(path.read_text())
    assert found["failures"] == {"decoding": "RuntimeError: no kernel image"}
    assert said[0] == "decoding: FAILED, RuntimeError: no kernel image"
    assert [(row["name"], row["ours"]) for row in found["rows"]] == [("other", 3), ("search", 1.0)]


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    asked = []

    def measure(step, rows, *rest):
        asked.append(rows)
        if rows > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"rows": rows}

    monkeypatch.setattr(gpu_report, "measure", measure)
    assert gpu_report.fitting(gpu_steps.PAPER[0], "cpu", 1, 1.0) == {"rows": 8}
    assert asked == [64, 32, 16, 8]


def test_the_models_are_the_papers():
    count = {}
    with torch.device("meta"):
        for step in gpu_steps.PAPER[:4]:
            count[step.system] = sum(p.numel() for p in step.model().parameters())
    assert count["lxmert"] == sum(lxmert_parameters(gpu_steps.LxmertConfig()).values()) == 228_051_752
    assert count["vlp"] == 115_939_396
    assert count["valm"] == 123_004_416 + 3_072
    paper = gpu_steps.CclmConfig(vision="swin", swin=gpu_steps.SwinConfig())
    assert sum(cclm_parameters(paper).values()) == 525_677_393
