"""The engine: reuse, resume after a kill, locks, grids in workers, and names in reports."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlpnb.errors import UserError
from vlpnb.files import read_back
from vlpnb.stage import Request, Run, Stage
from vlpnb.stage.folder import remove_leftovers
from vlpnb.stage.profiles import Profile

TOYS = str(Path(__file__).parents[1] / "course")
SOURCE = "toy_stages:STAGES"
TOY = Profile("toy")


@pytest.fixture
def lines():
    return []


@pytest.fixture
def make(tmp_path, monkeypatch, lines):
    monkeypatch.syspath_prepend(TOYS)

    def make(stages=SOURCE, profile=TOY, **settings):
        return Run(tmp_path, "r", profile, stages, settings, device="cpu", say=lines.append)

    return make


def child(tmp_path: Path, pause: float, steps: int) -> subprocess.Popen:
    code = (
        "from vlpnb.stage.profiles import Profile; from vlpnb.stage import Run;"
        f"r = Run({str(tmp_path)!r}, 'r', Profile('toy'), {SOURCE!r}, device='cpu');"
        f"print(r.stage('count', pause={pause}, steps={steps}).metrics, flush=True)"
    )
    environment = {**os.environ, "PYTHONPATH": TOYS}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_runs_inputs_reuses_and_writes_a_manifest(make, tmp_path):
    first = make().stage("count")
    assert not first.reused
    assert first.metrics["total"] == 1.5
    assert math.isnan(first.metrics["unknown"])
    again = make().stage("count")
    assert again.reused
    assert again.folder == first.folder
    manifest = json.loads((first.folder / "manifest.json").read_text())
    assert manifest["metrics"]["unknown"] is None
    assert manifest["seeds"] == {"seed": 0}
    assert manifest["inputs"]["source"]["folder"].startswith("source-")
    assert manifest["packages"]["python"]
    assert manifest["peak_rss_bytes"] > 1e6
    assert "checkpoint.txt" not in manifest["files"]
    assert "finished" in (first.folder / "log.txt").read_text()
    assert read_back(tmp_path / "r" / "run.json") == {"profile": "toy", "settings": {}}


def test_what_changes_the_folder(make):
    run = make()
    base = run.stage("count")
    assert run.stage("count", pause=0.001).folder == base.folder  # not hashed
    assert run.stage("count", rate="0.5").reused
    assert run.stage("count", rate=0.25).folder != base.folder
    assert run.stage("count", source_count=5).metrics["total"] == 2.5
    assert make(source={"workers": 3}).stage("count").reused
    assert make(source={"seed": 1}).stage("count").folder != base.folder  # an input's identity counts
    changed = [Stage(s.name, s.config, s.run, s.inputs, s.variant, version=2) for s in run.stages.values()]
    assert make(changed).stage("count").folder != base.folder


def test_hash_is_the_same_in_every_process(make, tmp_path):
    folder = make().plan("count", steps=7).folder
    with child(tmp_path, 0, 7) as process:
        process.communicate(timeout=60)
    assert (folder / "manifest.json").is_file()


@pytest.mark.slow
def test_resumes_after_kill(make, tmp_path, lines):
    folder = make().plan("count", steps=60).folder
    with child(tmp_path, 0.1, 60) as process:
        wait_for(lambda: (folder / ".elapsed").is_file())  # written every two seconds
        os.kill(process.pid, signal.SIGKILL)
    assert not (folder / "manifest.json").exists()
    result = make().stage("count", steps=60)
    assert result.metrics["resumed_at"] >= 3
    assert result.seconds >= 1.5  # the killed attempt's time is in it
    assert any("continued" in line for line in lines)


@pytest.mark.slow
def test_second_process_waits_and_says_for_whom(make, tmp_path, lines):
    folder = make().plan("count", steps=8).folder
    with child(tmp_path, 0.1, 8) as process:
        wait_for(lambda: (folder / "checkpoint.txt").is_file())
        result = make().stage("count", steps=8)
        process.communicate()
    assert result.reused
    assert any("waiting" in line and str(process.pid) in line for line in lines), lines


def test_failure_keeps_the_stage_name_and_publishes_nothing(make):
    run = make()
    with pytest.raises(ValueError, match="told to fail") as error:
        run.stage("count", way="fail")
    assert any("stage 'count.fail.seed0'" in note for note in error.value.__notes__)
    folder = run.plan("count", way="fail").folder
    assert not (folder / "manifest.json").exists()
    assert "told to fail" in (folder / "log.txt").read_text()
    assert run.find("count", way="fail") is None
    assert [result.name for result in run.results()] == ["source"]


def test_everything_is_validated_before_anything_starts(make, tmp_path):
    with pytest.raises(UserError, match="did you mean 'count'"):
        make(cuont={"steps": 1})
    with pytest.raises(UserError, match=r"count\.stepz.*did you mean 'steps'"):
        make(count={"stepz": 1})
    with pytest.raises(UserError, match=r"source\.count: found 'x'"):
        make(profile=Profile("toy", stages={"source": {"count": "x"}}))
    run = make()
    with pytest.raises(UserError, match="unknown stage"):
        run.stage("counts")
    with pytest.raises(UserError, match="did you mean 'seed'"):
        run.grid("count", seeds=[1])
    with pytest.raises(UserError, match="list of values"):
        run.grid("count", way="plain")
    with pytest.raises(UserError, match="run name"):
        Run(tmp_path, "../x", Profile("toy"), SOURCE)
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_grid_in_workers_equals_grid_in_this_process(make, tmp_path, lines):
    run = make()
    results = run.grid("count", jobs=2, seed=[0, 1], rate=[0.5, 1.0])
    assert [r.config.rate for r in results] == [0.5, 1.0, 0.5, 1.0]
    assert [r.metrics["total"] for r in results] == [1.5, 3.0, 1.5, 3.0]
    assert any("[count.seed1] finished" in line for line in lines)
    assert sum("[source] started" in line for line in lines) == 1
    assert run.stage("count", seed=1, rate=1.0).reused
    pool = run._pool
    with pytest.raises(ValueError, match="told to fail"):
        run.grid("count", jobs=2, way=["fail", "plain"], seed=[5, 6])
    assert run.find("count", seed=5) is not None or run.find("count", seed=6) is None
    assert pool is not None
    with pytest.raises(RuntimeError, match="killed by signal 9"):
        run.grid("count", jobs=2, way=["die", "die"], seed=[7, 8])
    run.close()


@pytest.mark.slow
def test_several_stages_share_workers_and_come_back_in_the_order_asked(make):
    run = make()
    asked = [Request("count", {"seed": 1}), Request("source"), Request("count", {"seed": 1, "rate": 0.25})]
    results = run.several(asked, jobs=2)
    assert [result.name for result in results] == ["count", "source", "count"]
    assert results[2].config.rate == 0.25 != results[0].config.rate
    assert [again.folder for again in run.several(asked)] == [result.folder for result in results]
    run.close()


def test_grid_with_stages_that_cannot_be_sent_runs_here(make, lines):
    run = make()
    here = make(stages=tuple(run.stages.values()))
    assert len(here.grid("count", jobs=2, seed=[0, 1])) == 2
    assert any("one job at a time" in line for line in lines)


def test_metric_names_leave_out_defaults(make):
    run = make(profile=Profile("toy", stages={"count": {"way": "wide"}}))
    run.stage("count")
    run.stage("count", way="plain", seed=2)
    flat = run.metrics()
    assert flat["count.wide.seed0.total"] == 1.5  # the class's default is "plain", whatever the profile's is
    assert flat["count.seed2.total"] == 1.5
    assert flat["source.count"] == 3


def test_circles_are_refused(make):
    make()
    from toy_stages import COUNT, SourceConfig

    from vlpnb.stage import Request

    circle = Stage("source", SourceConfig, COUNT.run, lambda config: {"x": Request("count")})
    with pytest.raises(UserError, match="circle"):
        make(stages=(circle, COUNT))


@pytest.mark.slow
def test_torchrun_processes_share_one_result(tmp_path):
    code = (
        "from vlpnb.stage.profiles import Profile; from vlpnb.stage import Run;"
        f"r = Run({str(tmp_path)!r}, 'r', Profile('toy'), {SOURCE!r}, device='cpu');"
        "print([r.stage(n).metrics['total'] for n in ('count', 'together', 'together')])"
    )
    (tmp_path / "program.py").write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(tmp_path / "program.py")],
        env={**os.environ, "PYTHONPATH": TOYS},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[1.5, 3.0, 3.0]") == 2
    assert done.stdout.count("started in") == 3  # source, count and together, each once
    together = read_back(next(tmp_path.glob("r/together-*/manifest.json")))
    assert together["world_size"] == together["metrics"]["processes"] == 2


def test_half_written_files_of_a_killed_attempt_go_and_nothing_else(tmp_path):
    inside = tmp_path / "snapshot"
    inside.mkdir()
    left = [tmp_path / ".tmpV5HBtp", inside / ".tmpa1B2c3", tmp_path / ".x.json.12.tmp", inside / "x.partial"]
    kept = [tmp_path / "best.safetensors", inside / "tmp.txt", tmp_path / ".elapsed"]
    for path in (*left, *kept):
        path.write_text("x")
    remove_leftovers(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
