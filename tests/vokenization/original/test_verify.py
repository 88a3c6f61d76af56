"""`vlpnb verify vokenization`: the recorded folder holds, any other of its layout too, and no number is free."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import verifying
from tests.golden.make_vokenization import record
from tests.golden.vokenization_weights import Sizes
from vlpnb.course.cli import main

GOLDEN = Path(__file__).parents[2] / "golden"
RECORDED = GOLDEN / "vokenization"
OTHER = Sizes(
    seed=7, hidden=24, heads=3, layers=3, ffn=40, words=83, positions=15, norm_eps=1e-5, read=1, middle=9, joint=5,
    feature=5, vokens=6, views=1, sentences=4, tokens=9, margin=0.3, temperature=0.2, mlm_ratio=1.0,
)  # fmt: skip


def run(folder, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["verify", "vokenization", str(folder)])
    captured = capsys.readouterr()
    return caught.value.code or 0, captured.out + captured.err


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(RECORDED, tmp_path / "copy"))


def test_the_recorded_folder_holds(capsys):
    code, text = run(RECORDED, capsys)
    assert code == 0, text
    assert "all hold" in text


def test_a_folder_of_other_sizes_and_another_seed_holds(tmp_path):
    record(tmp_path, OTHER)
    assert load_file(tmp_path / "vokens.safetensors")["best.vokens"].max() < OTHER.vokens
    verifying.assert_holds("vokenization", tmp_path)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("matching", "states.1"),
        ("matching", "grad.visn_model.mlp.0.weight"),
        ("vokens", "sentence"),
        ("language_model", "voken_scores.ctr"),
        ("shared_heads", "cls.scores"),
        ("supervision", "target.reverse.mask"),
        ("optimiser", "lamb.after.dense.weight"),
    ],
)
def test_one_changed_number_is_found_and_named(file, name, copy, capsys):
    verifying.change_number(copy, file, name)
    code, text = run(copy, capsys)
    assert code == 1
    assert f"✗ {file}.safetensors" in text
    assert f"beyond at {name}[" in text
    assert "(1 of " in text
    assert text.count("✗") == 1


@pytest.mark.parametrize(
    ("file", "where", "said"),
    [
        ("matching", ("losses", "infonce"), "losses.infonce"),
        ("language_model", ("guesses", "top1"), "guesses.top1"),
        ("corpus", ("pieces", 1, "legacy", 0), "pieces[1].legacy[0]"),
        ("metrics", ("diversity", 0, "found", "cover"), "diversity[0].found.cover"),
        ("masking", ("of_selected", "mask"), "of_selected.mask"),
        ("optimiser", ("runs", "linear", "rates", 2), "runs.linear.rates[2]"),
    ],
)
def test_one_changed_field_is_found_and_named(file, where, said, copy, capsys):
    verifying.change_field(copy, file, where)
    code, text = run(copy, capsys)
    assert code == 1
    assert f"✗ {file}.json" in text
    assert f"beyond at {said}" in text


def test_a_changed_weight_is_found(copy):
    verifying.change_weight(copy, "weights", "bert.encoder.layer.1.attention.self.query.bias")
    found = {*verifying.failing_files("vokenization", copy)}
    assert {"matching.safetensors", "language_model.safetensors", "shared_heads.safetensors"} <= found


def test_a_damaged_folder_is_wrong_usage(copy, capsys):
    file = copy / "vokens.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    code, text = run(copy, capsys)
    assert code == 2
    assert "vokens.safetensors cannot be read" in text


def test_the_folder_is_what_the_script_makes_and_small(tmp_path):
    record(tmp_path, Sizes())
    assert {path.name for path in RECORDED.iterdir()} == {path.name for path in tmp_path.iterdir()}
    for path in RECORDED.iterdir():
        assert path.stat().st_size <= 250_000
        if path.suffix == ".safetensors":
            made, recorded = load_file(tmp_path / path.name), load_file(path)
            assert made.keys() == recorded.keys()
            for name in made:
                torch.testing.assert_close(made[name], recorded[name], msg=f"{path.name}: {name}")


def test_the_script_does_not_know_the_package():
    verifying.assert_independent(GOLDEN.glob("*.py"))
