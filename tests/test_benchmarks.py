"""Every benchmark at toy size: its rows are complete, and a wrong result stops it instead of being timed."""

import json
import math
import mmap
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import (
    __main__,
    cclm_negatives,
    cclm_reranking,
    cclm_words,
    gpu,
    image_keys,
    lxmert_forward,
    lxmert_optimiser,
    lxmert_step,
    masking,
    matching,
    measure,
    memory,
    pretraining,
    region_shards,
    regions,
    search,
    step_costs,
    text_states,
    tokenising,
    valm_fusion,
    valm_update,
    vlp_beam,
    vlp_packed,
    vokenising,
)
from benchmarks.measure import Disagreement, Row
from vlpnb.cclm.config import CclmConfig
from vlpnb.lxmert.model import LxmertConfig
from vlpnb.nn.dual_encoder import DualEncoderConfig
from vlpnb.valm.config import ValmConfig
from vlpnb.vlp.model import VlpConfig

TINY = (2, 32, 2, 64)
TINY_LXMERT = LxmertConfig(
    vocab_size=60, hidden=32, heads=2, ffn=64, text_layers=1, visual_layers=1, cross_layers=2, feature_width=8,
    objects=5, attributes=4, answers=7, max_positions=16,
)  # fmt: skip
TINY_VALM = ValmConfig(vocab_size=60, hidden=16, layers=2, heads=2, ffn=32, max_positions=8, image_width=12)
TINY_CCLM = CclmConfig(
    vocab_size=60, hidden=32, text_layers=1, heads=2, ffn=64, max_positions=24, width=8, image_width=8, dropout=0.0
)  # fmt: skip
TINY_VLP = VlpConfig(
    vocab_size=60, hidden=32, layers=2, heads=4, ffn=64, max_positions=24, regions=5, text_length=6, feature_width=8,
    classes=5, answers=7, pad_id=0, unk_id=1, cls_id=2, sep_id=3, mask_id=4,
)  # fmt: skip
TINY_TOWER = DualEncoderConfig(vocab_size=60, hidden=32, layers=2, heads=2, ffn=64, feature_width=8, width=8)
TOYS = {
    tokenising: tokenising.Size(lines=20, rounds=1),
    text_states: text_states.Size((("toy", TINY_TOWER, 6),), on_cpu=("toy",), rounds=1),
    image_keys: image_keys.Size(networks=("resnet18",), images=3, pixels=32, rounds=1),
    matching: matching.Size(images=8, captions=2, pixels=32, batch=8, shape=TINY, rounds=1),
    vokenising: vokenising.Size(tokens=400, images=50, shape=TINY, rounds=1),
    search: search.Size(keys=(500,), queries=(20,), cells=4, rounds=1),
    pretraining: pretraining.Size(TINY, 60, 90, (2,), block=16, memory=False, rounds=1),
    masking: masking.Size(blocks=8, rounds=1),
    regions: regions.Size(pictures=6, boxes=3, width=8, batch=2, memory=False, rounds=1),
    region_shards: region_shards.Size(
        pictures=6, boxes=3, width=8, classes=5, batch=2, memory=False, rounds=1
    ),
    lxmert_forward: lxmert_forward.Size(TINY_LXMERT, batch=2, words=6, regions=3, rounds=1),
    lxmert_optimiser: lxmert_optimiser.Size((("toy", TINY_LXMERT, 2),), rounds=1),
    lxmert_step: lxmert_step.Size(TINY_LXMERT, batch=3, words=12, regions=5, rounds=1),
    vlp_beam: vlp_beam.Size(TINY_VLP, pictures=2, regions=(5, 3), width=3, steps=6, rounds=1),
    vlp_packed: vlp_packed.Size(TINY_VLP, pictures=3, captions=2, regions=(5, 3), rounds=1),
    valm_fusion: valm_fusion.Size((("toy", TINY_VALM, 2, 6),), pictures=2, rounds=1),
    valm_update: valm_update.Size(TINY_VALM, texts=2, tokens=6, count=2, found=3, store=5, rounds=1),
    cclm_reranking: cclm_reranking.Size(
        TINY_CCLM, (1, 2), pictures=3, patches=4, captions=5, words=6, padded=12, k=2, rounds=1
    ),
    cclm_negatives: cclm_negatives.Size(batch=6, width=4, rounds=1),
    cclm_words: cclm_words.Size(sentences=2, tokens=6, masked=2, hidden=32, words=90, rounds=1),
}


def spoil(result):
    """The same result with one number changed, whatever it is made of."""
    if isinstance(result, dict):
        return {name: value + 1 for name, value in result.items()}
    if isinstance(result, tuple):
        return tuple(spoil(part) for part in result)
    if isinstance(result, list):
        return [spoil(result[0]), *result[1:]]
    if isinstance(result, float):
        return result + 0.5
    result = result.copy() if isinstance(result, np.ndarray) else result.clone()
    result.reshape(-1)[3 % result.reshape(-1).shape[0]] += 1
    return result


@pytest.mark.parametrize("module", TOYS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_rows_are_complete_and_a_wrong_result_is_refused(module, monkeypatch):
    rows = module.run(TOYS[module])
    assert rows
    for row in rows:
        assert row.ours > 0
        assert row.peer > 0
        assert row.ratio == pytest.approx(row.peer / row.ours)
        assert row.unit == "s"
        assert row.name
    right = module.ours
    monkeypatch.setattr(module, "ours", lambda *given, **named: spoil(right(*given, **named)))
    with pytest.raises(Disagreement):
        module.run(TOYS[module])


def test_an_approximate_index_that_misses_is_reported_not_refused():
    exact = torch.tensor([[0.9], [0.8]]), torch.tensor([[1], [2]])
    missed = torch.tensor([[0.9], [0.7]]), torch.tensor([[1], [5]])
    assert search.recall(exact, missed) == "recall@1 of IVF 0.500"
    with pytest.raises(Disagreement, match="only"):
        search.same_neighbours(exact, (exact[0], missed[1]))


def test_vokens_may_differ_only_at_ties():
    size = TOYS[vokenising]
    rows = vokenising.run(size)
    assert "0 ties among 400 tokens" in rows[0].note
    assert "% padding" in rows[0].note


@pytest.mark.slow
def test_memory_of_a_step_is_that_of_one_side_in_a_process_of_its_own():
    row = pretraining.memory(pretraining.Size(TINY, 20_000, 20_000, (16,), block=128), "cpu")
    assert row.unit == "MB"
    assert row.peer > row.ours > 0  # 2,048 × 20,000 scores are 164 MB each


@pytest.mark.slow
def test_own_memory_of_regions_does_not_grow_with_their_number():
    size = regions.Size(pictures=40, boxes=36, width=2048, batch=4, long=240, rounds=1)
    short, long = regions.run(size)[2:]
    assert (short.unit, long.unit) == ("MB", "MB")
    assert long.ours < short.ours + 20
    assert long.peer > short.peer + 40  # 295 kB a picture


@pytest.mark.skipif(
    not measure.STATUS.is_file(), reason="only Linux tells a process's own memory from mapped files"
)
def test_memory_that_is_in_use_for_a_moment_is_seen():
    # Pages of its own: an array might find room that the process already holds.
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with measure.OwnMemory() as own, mmap.mmap(-1, 64_000_000, flags=private) as held:
        held.write(b"1" * len(held))
        for _ in range(100):  # a shared machine may not run the watcher for a while
            time.sleep(0.1)
            if own.most > 50:
                break
    assert own.most > 50


@pytest.mark.slow
def test_memory_of_a_corpus():
    (row,) = memory.run(memory.Size(short=20_000, long=150_000))
    assert row.unit == "MB"
    assert row.ratio == pytest.approx(row.peer / row.ours)
    assert row.ratio > 0.8
    counted = {"megabytes": 1.0, "tokens": 1000, "masked": 150}
    memory.same_share(counted, counted)
    with pytest.raises(Disagreement, match="masked"):
        memory.same_share(counted, counted | {"masked": 15})


@pytest.mark.slow
def test_a_failing_process_is_an_error_with_its_words():
    with pytest.raises(RuntimeError, match="Disagreement: out of luck"):
        measure.peak_megabytes("benchmarks.measure.agree", False, "out of luck")


def test_times_are_medians_of_calls_in_turn(monkeypatch):
    clock = iter([0, 1, 1, 6, 10, 13, 13, 15, 20, 22, 22, 29])  # ours 1, 3, 2; peer 5, 2, 7
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    calls = []
    row = measure.compare(
        "x", lambda: calls.append("a"), lambda: calls.append("b"), lambda a, b: "said", note="n"
    )
    assert "".join(calls) == "abababab"  # the first of each is the warm-up, whose results are compared
    assert (row.ours, row.peer, row.ratio, row.note) == (2, 5, 2.5, "n; said")
    assert row.met
    assert not Row("x", 2, 5, 2.5, "s", target=3.0).met


def test_arithmetic_of_utilisation():
    base = (12, 768, 12, 3072)
    assert gpu.encoder_flops(base, 0) == 2 * 12 * 12 * 768**2  # 85 M weights, twice
    assert gpu.encoder_flops((1, 8, 2, 32), 10) == 2 * (4 * 64 + 2 * 256) + 4 * 10 * 8
    size = gpu.Size((1, 8, 2, 32), words=100, vokens=50, block=10)
    heads = 2 * 8 * (8 + 50) + 0.15 * 2 * 8 * (8 + 100)
    assert gpu.step_flops(size) == pytest.approx(3 * (gpu.encoder_flops(size.shape, 10) + heads))
    projection = 2 * (8 * 256 + 256 * 64)
    assert gpu.vokenise_flops(size, 10) == gpu.encoder_flops(size.shape, 10) + projection + 2 * 64 * 50
    row = gpu.share("x", flops=2e9, rate=1e5, peak=4e14)
    assert (row.ours, row.peer, row.ratio) == (200, 400, 0.5)
    assert gpu.hours(111e6, 7_500) == pytest.approx(4.11, abs=0.01)
    hour, wiki103, wikipedia = gpu.projections(75_000)
    assert (hour.ours, hour.ratio) == (pytest.approx(270), 10)
    assert wikipedia.ours == pytest.approx(2_889e6 / 75_000 / 3600)
    assert wiki103.ratio == pytest.approx(wiki103.peer / wiki103.ours)


def test_costs_of_steps_are_explained_by_arithmetic_memory_and_calls():
    truth = np.array([1e-11, 1e-10, 1e-5])
    costs = np.array([[1e9, 1e8, 100], [1e8, 5e8, 200], [1e7, 1e7, 900], [5e9, 1e9, 300]], float)
    found, error = step_costs.explain(costs, costs @ truth)
    assert found == pytest.approx(truth)
    assert error < 1e-9


@pytest.mark.slow
def test_costs_of_steps_are_three_rows():
    texts = ((1, 64, 2, 60), (3, 64, 1, 60), (1, 64, 16, 60))
    rows = step_costs.run(step_costs.Size(60, texts, questions=4, matmul=64, numbers=1000, rounds=1))
    assert [row.name for row in rows] == [
        f"training step, {what}" for what in ("operations", "bytes moved", "calls")
    ]
    assert [row.unit for row in rows] == ["GFLOP/s", "GB/s", "µs"]
    assert all(row.ours > 0 and row.peer > 0 and math.isfinite(row.ratio) for row in rows)
    assert "explain 4 steps" in rows[0].note
    assert step_costs.run(device="cuda") == []


def test_the_part_for_gpus_runs_at_toy_size():
    size = gpu.Size(TINY, words=60, vokens=90, batch=2, block=16, corpus=300, matmul=64, rounds=1)
    rows = gpu.run(size, "cpu")
    assert [row.unit for row in rows] == ["TFLOP/s"] * 2 + ["M tokens", "h", "h"] + ["TFLOP/s"]
    assert all(row.ours > 0 and math.isfinite(row.ratio) for row in rows)


def test_the_runner_prints_a_table_and_writes_the_results(monkeypatch, tmp_path, capsys):
    rows = [Row("a thing", 1.0, 2.34567, 2.34567, "s", target=3.0, note="seen")]
    monkeypatch.setattr(__main__, "BENCHES", {"masking": lambda device: rows})
    monkeypatch.setattr(__main__, "RESULTS", tmp_path / "results")
    assert __main__.main(["--device", "cpu"]) == 0
    assert "MISSED (≥ 3)" in capsys.readouterr().out
    (path,) = (tmp_path / "results").iterdir()
    assert path.name == f"cpu-{measure.cores()}-cores.json"
    found = json.loads(path.read_text())
    assert found["rows"] == [
        {
            "name": "a thing",
            "ours": 1.0,
            "peer": 2.346,
            "ratio": 2.346,
            "unit": "s",
            "target": 3.0,
            "note": "seen",
        }
    ]
    assert {"python", "torch", "transformers", "faiss"} <= found["versions"].keys()
    assert found["hardware"]["device"] == path.stem
    __main__.main(["--device", "cpu", "--only", "masking"])
    assert json.loads(path.read_text()) == found  # a part of the table never replaces the whole
