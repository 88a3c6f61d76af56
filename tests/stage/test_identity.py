"""What names a result: what differs from the defaults, and what files from outside hold; never where or when."""

import os
import shutil
from dataclasses import replace

import pytest
from pydantic import Field

from tests.stage.toys import DATA, MODEL, STAGES, DataConfig, ModelConfig, toy_run
from vlpnb import hashes
from vlpnb.config import Config, parse_config
from vlpnb.errors import UserError
from vlpnb.outside import ModelName


@pytest.fixture
def pictures(tmp_path):
    """A folder with 24 pictures in two sub-folders."""
    root = tmp_path / "photographs"
    for i in range(24):
        path = root / ("a" if i % 2 else "b") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([i]) * 5000)
    return root


class Inner(Config):
    width: int = 4
    depth: int = 2


class Outer(Config):
    inner: Inner = Inner()
    wide: Inner = Inner(width=8)
    listed: tuple[Inner, ...] = ()
    named: dict[str, Inner] = Field(default_factory=dict)
    rate: float = 1
    seed: int = 0


def test_only_what_differs_from_the_defaults_counts():
    assert Outer().identity() == {}
    assert parse_config(Outer, {"rate": "1.0", "inner.width": 4, "wide.width": 8, "seed": 0}).identity() == {}
    assert parse_config(Outer, {"inner.depth": 3, "seed": 1}).identity() == {"inner": {"depth": 3}, "seed": 1}
    assert Outer(wide=Inner()).identity() == {"wide": {}}  # the class's default, and not the field's
    whole = Outer(listed=(Inner(), Inner(width=5)), named={"x": Inner(depth=9)})
    assert whole.identity() == {"listed": [{}, {"width": 5}], "named": {"x": {"depth": 9}}}


def test_a_new_field_with_a_default_orphans_nothing_wherever_it_is(tmp_path):
    class NewInner(Inner):
        height: int = 1

    class New(Outer):
        inner: NewInner = NewInner()
        named: dict[str, NewInner] = Field(default_factory=dict)
        momentum: float = 0.9

    values = {"inner": {"depth": 3}, "named": {"x": {"width": 1}}, "seed": 2}
    assert New(**values).identity() == Outer(**values).identity()

    class NewModelConfig(ModelConfig):
        momentum: float = 0.9

    made = toy_run(tmp_path).stage("model", scale=2.0)
    stages = (DATA, replace(MODEL, config=NewModelConfig), STAGES[2])
    assert toy_run(tmp_path, stages=stages).stage("model", scale=2.0).folder == made.folder
    assert not toy_run(tmp_path, stages=stages).stage("model", scale=2.0, momentum=0.5).reused


def test_a_raised_version_makes_it_again_with_all_that_follows(tmp_path, pictures):
    before = toy_run(tmp_path, data={"root": str(pictures)}).plan("last").folder
    stages = (DATA, replace(MODEL, version=2), STAGES[2])
    assert toy_run(tmp_path, stages=stages, data={"root": str(pictures)}).plan("last").folder != before


def test_pictures_put_right_are_named_and_the_result_is_made_again(tmp_path, pictures):
    kept = {path: path.read_bytes() for path in sorted(pictures.rglob("*.png"))[:4]}
    for path in kept:
        path.unlink()
    lines = []
    run = toy_run(tmp_path, lines, data={"root": str(pictures)})
    missing = run.stage("last")
    assert missing.metrics["pictures"] == 20
    for path, content in kept.items():
        path.write_bytes(content[:900])
    cut = run.stage("last")  # the same run, open in a notebook
    assert not cut.reused
    (line,) = [line for line in lines if "made again" in line]
    assert "root: 4 new (a/1.png, a/11.png, a/13.png …)" in line
    for path, content in kept.items():
        path.write_bytes(content)
    right = toy_run(tmp_path, lines, data={"root": str(pictures)}).stage("last")
    assert right.metrics["pictures"] == 24
    assert any("root: 4 changed (a/1.png, a/11.png, a/13.png …)" in line for line in lines)
    assert len({result.folder for result in (missing, cut, right)}) == 3
    assert toy_run(tmp_path, data={"root": str(pictures)}).stage("last").reused


def test_all_pictures_replaced_under_their_names_sizes_and_times(tmp_path, pictures):
    made = toy_run(tmp_path, data={"root": str(pictures)}).stage("last")
    for path in pictures.rglob("*.png"):
        status = path.stat()
        path.write_bytes(bytes(reversed(range(250))) * 20)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    hashes._memory.clear()
    lines = []
    again = toy_run(tmp_path, lines, data={"root": str(pictures)}).stage("last")
    assert not again.reused
    assert again.folder != made.folder
    assert any("[data] made again" in line and "root" in line for line in lines)


def test_what_changes_while_it_is_read_is_named_and_nothing_is_published(tmp_path, pictures):
    def hasty(context):
        metrics = DATA.run(context)
        (pictures / "late.png").write_bytes(b"late")
        return metrics

    run = toy_run(tmp_path, stages=(replace(DATA, run=hasty), *STAGES[1:]), data={"root": str(pictures)})
    with pytest.raises(UserError, match="photographs: changed while the stage 'data' read it"):
        run.stage("data")
    assert run.results() == []


def test_the_same_data_elsewhere_or_newer_is_the_same(tmp_path, pictures, monkeypatch):
    made = toy_run(tmp_path, data={"root": str(pictures)}).stage("last")
    shutil.copytree(pictures, tmp_path / "copied")
    assert toy_run(tmp_path, data={"root": str(tmp_path / "copied")}).stage("last").folder == made.folder
    monkeypatch.chdir(tmp_path)
    assert toy_run(tmp_path, data={"root": "copied"}).plan("last").folder == made.folder
    assert toy_run(tmp_path, data={"root": str(pictures), "limit": 3}).plan("last").folder != made.folder


def test_a_folder_of_weights_counts_and_a_published_name_is_a_name(tmp_path):
    run = toy_run(tmp_path)
    named = run.plan("model", weights="org/name")
    assert named.identity["config"] == {"weights": "org/name"}
    assert "outside" not in named.identity
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"one")
    one = run.plan("model", weights=str(weights))
    assert str(weights) not in str(one.identity)
    (weights / "model.safetensors").write_bytes(b"two")
    assert run.plan("model", weights=str(weights)).digest != one.digest
    absent = run.plan("model", weights=str(tmp_path / "nowhere"))
    assert absent.digest not in (one.digest, named.digest)


def test_data_that_is_not_here_is_taken_as_it_was(tmp_path, pictures):
    made = toy_run(tmp_path, data={"root": str(pictures)}).stage("last")
    shutil.rmtree(pictures)
    lines = []
    away = toy_run(tmp_path, lines, data={"root": str(pictures)})
    assert away.stage("last").folder == made.folder
    assert away.metrics()["last.pictures"] == 24
    assert sum("is not here; taken as it was" in line for line in lines) == 1
    assert away.plan("data", limit=3).identity["outside"] == {
        "root": "absent"
    }  # no result says what that was


def test_opening_a_run_reads_no_file_from_outside(tmp_path, pictures, monkeypatch):
    run = toy_run(tmp_path, data={"root": str(pictures)})
    asked = []
    content = type(DATA).content
    monkeypatch.setattr(type(DATA), "content", lambda stage, c: asked.append(stage.name) or content(stage, c))
    run = toy_run(tmp_path, data={"root": str(pictures)})
    assert asked == []
    run.plan("model")
    assert asked == ["model"]
    with pytest.raises(UserError, match=r"data\.limit: found 'x'"):
        toy_run(tmp_path, data={"root": str(pictures), "limit": "x"})
    assert asked == ["model"]


def test_one_call_reads_what_many_plans_share_once(tmp_path, pictures, monkeypatch):
    asked = []
    content = type(DATA).content
    monkeypatch.setattr(type(DATA), "content", lambda stage, c: asked.append(stage.name) or content(stage, c))
    toy_run(tmp_path, data={"root": str(pictures)}).grid("model", scale=[1.0, 2.0, 3.0])
    assert asked.count("data") == 0
    asked.clear()
    toy_run(tmp_path, data={"root": str(pictures)}).plan("last")
    assert sorted(asked) == ["data", "last", "model"]


def test_nested_fields_may_name_files_too(tmp_path):
    class Nest(Config):
        data: DataConfig = DataConfig()
        other: ModelName | None = None

    config = parse_config(Nest, {"data.root": str(tmp_path), "other": str(tmp_path / "x")})
    assert config.outside() == {"data.root": tmp_path, "other": tmp_path / "x"}
    assert str(tmp_path) not in str(config.identity())
