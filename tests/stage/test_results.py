"""Whose number is it: what a run reports belongs to its configuration, whatever else lies in its folder."""

import os
import threading
import time

from tests.stage.toys import toy_run
from vlpnb.files import lock, read_back


def test_the_planned_identity_decides_and_not_the_time(tmp_path):
    run = toy_run(tmp_path, model={"weights": "one"})
    ours = run.stage("model", scale=2.0)
    theirs = toy_run(tmp_path, model={"weights": "two"}).stage("model", scale=2.0)
    assert ours.folder != theirs.folder
    assert run.others() == [theirs.folder.name]
    for folder in (theirs.folder, ours.folder):
        os.utime(folder / "manifest.json")
        assert [result.folder for result in run.results()] == [ours.folder]
    assert run.metrics() == {"model.scale2_0.scale": 2.0}


def test_variants_are_found_and_other_overrides_are_not_their_own(tmp_path):
    run = toy_run(tmp_path)
    run.grid("model", scale=[1.0, 2.0])
    run.stage("model", weights="other", scale=3.0)  # a trial that the run's configuration does not stand for
    assert run.metrics() == {"model.scale": 1.0, "model.scale2_0.scale": 2.0}


def test_an_input_made_to_order_is_reported_where_the_run_has_none_of_its_own(tmp_path):
    from dataclasses import replace

    from tests.stage.toys import LAST, STAGES
    from vlpnb.stage import Request

    last = replace(LAST, inputs=lambda c: {"data": Request("data", {"limit": 1}), "model": Request("model")})
    run = toy_run(tmp_path, stages=(*STAGES[:2], last), data={"root": str(tmp_path / "none")})
    run.stage("last")
    assert run.metrics()["data.pictures"] == 0
    run.stage("data")
    assert [r.config.limit for r in run.results() if r.name == "data"] == [100]


def test_results_of_one_profile_never_become_those_of_another(tmp_path):
    smoke = toy_run(tmp_path, profile="smoke", model={"weights": "small"})
    smoke.stage("model")
    lines = []
    laptop = toy_run(tmp_path, lines, profile="laptop")
    assert laptop.metrics() == {}
    assert laptop.find("model") is None
    assert read_back(smoke.folder / "run.json")["profile"] == "smoke"
    laptop.stage("model")
    assert read_back(smoke.folder / "run.json")["profile"] == "laptop"
    assert any("was a run of profile smoke" in line for line in lines)


def test_a_run_that_only_waits_and_reuses_says_nothing_of_how_it_was_made(tmp_path):
    smoke = toy_run(tmp_path, profile="smoke")
    made = smoke.stage("model")
    other = toy_run(tmp_path, profile="laptop", model={"workers": 3})  # another run, the same result
    with lock(made.folder, "model", None):
        waiting = threading.Thread(target=other.stage, args=("model",), daemon=True)
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive()
        assert read_back(smoke.folder / "run.json") == {"profile": "smoke", "settings": {}}
    waiting.join(20)
    assert read_back(smoke.folder / "run.json") == {"profile": "smoke", "settings": {}}
    assert other.stage("model").reused


def test_reuse_writes_nothing(tmp_path):
    def listing():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if ".vlpnb" not in path.parts}

    toy_run(tmp_path).stage("model")
    before = listing()
    assert toy_run(tmp_path).stage("model").reused
    assert {path: at for path, at in listing().items() if path.name != ".lock"} == {
        path: at for path, at in before.items() if path.name != ".lock"
    }
