"""`vlpnb verify lxmert`: the original's recorded folder holds, any other of its layout too, and no number is free."""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests import verifying
from tests.golden import lxmert_reference, make_lxmert
from tests.golden.make_lxmert import Sizes, record
from vlpnb.course.verify import verify
from vlpnb.data.recorded import DATA
from vlpnb.lxmert.original.verify import optimiser
from vlpnb.lxmert.original.verify_data import metrics, regions, text

GOLDEN = Path(__file__).parents[2] / "golden" / "lxmert"
SHARED = Path(os.environ.get("VLPNB_SHARED_GOLDEN", Path(__file__).parents[4] / "shared/golden/lxmert"))
DATA_FILES = ("metrics.json", "examples.json", "regions.json", "regions.safetensors", "mini_obj.tsv")
OTHER = Sizes(
    seed=5, hidden=32, heads=2, ffn=24, layers=(3, 0, 1), vocab=50, positions=13, feat=6, objects=3, attributes=11,
    answers=7, boxes=4, text=6, batch=3, task_answers=9, length=9, steps=24,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, shared_data, monkeypatch):
    """A folder of invented weights; published files are those of the shared data."""
    monkeypatch.setenv(DATA, str(shared_data))
    return made(tmp_path / "made", Sizes())


def made(folder, sizes):
    record(folder, sizes)
    for name in DATA_FILES:
        shutil.copy(GOLDEN / name, folder)
    return folder


@pytest.mark.slow
def test_the_originals_folder_holds(shared_data, monkeypatch):
    if not (SHARED / "pretraining.safetensors").is_file():
        pytest.skip(f"recorded numbers of LXMERT not found at {SHARED}")
    monkeypatch.setenv(DATA, str(shared_data))
    verifying.assert_holds("lxmert", SHARED, 150_000)


@pytest.mark.parametrize("sizes", [Sizes(), OTHER], ids=["small", "other"])
def test_folders_of_other_sizes_and_other_seeds_hold(sizes, tmp_path, shared_data, monkeypatch):
    monkeypatch.setenv(DATA, str(shared_data))
    verifying.assert_holds("lxmert", made(tmp_path, sizes))


def test_other_numbers_of_cases_hold(folder):
    about = json.loads((folder / "metrics.json").read_text())
    for task in ("vqa", "gqa"):
        del about[task]["predictions"][1:]
    del about["nlvr2"]["runs"][0]
    (folder / "metrics.json").write_text(json.dumps(about))
    about = json.loads((folder / "examples.json").read_text())
    del about["variants"]["vqa"]
    (folder / "examples.json").write_text(json.dumps(about))
    about = json.loads((folder / "regions.json").read_text())
    dropped = list(about["images"])[1]
    del about["images"][dropped]
    (folder / "regions.json").write_text(json.dumps(about))
    tensors = load_file(folder / "regions.safetensors")
    save_file({k: t for k, t in tensors.items() if not k.startswith(dropped)}, folder / "regions.safetensors")
    verifying.assert_holds("lxmert", folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("pretraining", "attention.cross_layer.1.cross.visual_to_text"),
        ("pretraining", "hidden.text_embedding"),
        ("pretraining", "head.mlm"),
        ("pretraining", "grad.bert.embeddings.word_embeddings.weight"),
        ("vqa", "logits"),
        ("nlvr2", "pooled"),
        ("optimiser", "late.late"),
        ("answers", "tiny.logit_fc.3.bias"),
        ("regions", "mini.2375429.features"),
    ],
)
def test_one_changed_number_is_found_and_named(file, name, folder):
    verifying.change_number(folder, file, name)
    (found,) = verifying.failing("lxmert", folder)
    assert found.file == f"{file}.safetensors"
    assert verifying.beyond(found) == [name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "where"),
    [
        ("pretraining", ("loss", "attr")),
        ("pretraining", ("config", "heads")),
        ("vqa", ("loss_mce",)),
        ("optimiser", ("runs", "short", "learning_rate", 3)),
        ("answers", ("tiny", "source_row", 1)),
        ("metrics", ("nlvr2", "runs", 1, "official", "consistency")),
        ("metrics", ("pretraining_qa_accuracy", "per_source", "vqa")),
        ("text", ("sentences", 1, "input_ids", 2)),
        ("examples", ("variants", "all", "examples", 3, "label", "gray")),
        ("regions", ("mini", 0, "img_h")),
    ],
)
def test_one_changed_field_is_found(file, where, folder):
    verifying.change_field(folder, file, where)
    found = verifying.failing_files("lxmert", folder)
    assert found
    if where[0] != "config":  # with other heads nothing is the same
        assert found == [f"{file}.json"]


def test_a_changed_weight_is_found(folder):
    verifying.change_weight(
        folder, "weights_pretraining", "bert.encoder.x_layers.1.visual_attention.att.query.bias"
    )
    found = {*verifying.failing_files("lxmert", folder)}
    assert {"pretraining.safetensors", "vqa.safetensors", "nlvr2.safetensors"} <= found


def test_what_needs_published_files_is_reported_where_they_are_absent(folder, monkeypatch, tmp_path):
    monkeypatch.setenv(DATA, str(tmp_path / "nowhere"))
    result = verify("lxmert", folder)
    unread = {verdict.file: verdict.unread for verdict in result.verdicts if verdict.unread}
    assert set(unread) == {"examples.json", "regions.json", "regions.safetensors"}
    assert not result.holds


@pytest.mark.parametrize("check", [metrics, optimiser, regions, text])
def test_what_the_original_gave_is_kept_here_too(check, shared_data, monkeypatch):
    """The parts of its folder that are small; its weights are not, so the model's are only in the shared folder."""
    monkeypatch.setenv(DATA, str(shared_data))
    verifying.assert_agrees(check, GOLDEN, 10)


def test_recorded_files_are_small():
    verifying.assert_small(GOLDEN)


def test_the_reference_does_not_know_the_package():
    verifying.assert_independent(module.__file__ for module in (lxmert_reference, make_lxmert))
