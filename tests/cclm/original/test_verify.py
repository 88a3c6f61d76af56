"""`vlpnb verify cclm`: the original's recorded folder holds, any other of its layout too, and no number is free."""

import os
import shutil
from pathlib import Path

import pytest

from tests import verifying
from tests.golden import cclm_losses, cclm_reference, cclm_tasks, cclm_vision, make_cclm
from tests.golden.make_cclm import Sizes, record
from vlpnb.cclm.original.verify import CHECKS, adam, gather, initialisation, schedule
from vlpnb.cclm.original.verify_text import CHECKS as TEXT
from vlpnb.cclm.original.verify_vision import region_geometry, swin
from vlpnb.course.verify import lines, verify

GOLDEN = Path(__file__).parents[2] / "golden" / "cclm"
SHARED = Path(os.environ.get("VLPNB_SHARED_GOLDEN_CCLM", Path(__file__).parents[4] / "shared/golden/cclm"))
WITHOUT_WEIGHTS = ("text.json", "masking.json")
OTHER = Sizes(
    seed=11, embed=6, depths=(1, 2, 1), swin_heads=(2, 3, 4), window=3, heads=3, ffn=56, text_layers=2, fusion_layers=3,
    vocab=83, width=20, batch=5, length=12, other_length=8, masked=4, groups=3, gallery=8, answers=7, temperature=0.2,
    peak=1e-4,
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded_once(tmp_path_factory):
    return made(tmp_path_factory.mktemp("recorded"), Sizes())


@pytest.fixture
def folder(recorded_once, tmp_path):
    """A folder of invented weights, and what the original gave for what hangs on none."""
    return Path(shutil.copytree(recorded_once, tmp_path / "made"))


@pytest.fixture
def without_text(folder, monkeypatch):
    """The same but for text, whose statistics take longer than all else."""
    for name in WITHOUT_WEIGHTS:
        (folder / name).unlink()
    monkeypatch.setattr(
        "vlpnb.cclm.original.verify.CHECKS", tuple(check for check in CHECKS if check not in TEXT)
    )
    return folder


def made(folder, sizes):
    record(folder, sizes)
    for name in WITHOUT_WEIGHTS:
        shutil.copy(GOLDEN / name, folder)
    return folder


@pytest.mark.slow
def test_the_originals_folder_holds():
    if not (SHARED / "weights.safetensors").is_file():
        pytest.skip(f"recorded numbers of CCLM not found at {SHARED}")
    verifying.assert_holds("cclm", SHARED, 350_000)


def test_a_folder_of_another_seed_holds(folder):
    result = verify("cclm", folder)
    assert result.holds, "\n".join(lines(result))
    assert len(result.verdicts) == 19


@pytest.mark.slow
def test_a_folder_of_other_sizes_holds(tmp_path):
    verifying.assert_holds("cclm", made(tmp_path, OTHER))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("towers", "fusion_image_masked"),
        ("towers", "all_layers_no_memory"),
        ("losses", "itc_ids_grad_text"),
        ("losses", "itm_image_ids_weights_view_to_text"),
        ("losses", "mlm_image_logits"),
        ("regions", "region_vector"),
        ("gather", "ids_grad_weight_x_faithful"),
        ("downstream", "xvnli.logits"),
        ("downstream", "nlvr.logits_second_copies_times_1.05"),
        ("downstream", "vqa.topk_answers"),
        ("retrieval", "score_text_to_image"),
    ],
)
def test_one_changed_number_is_found_and_named(file, name, without_text):
    verifying.change_number(without_text, file, name, 0)
    found = verifying.failing("cclm", without_text)
    assert [verdict.file for verdict in found][:1] == [f"{file}.safetensors"]
    assert name in verifying.beyond(found[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "where"),
    [
        ("losses", ("losses", "itc_ids")),
        ("losses", ("batches", "region_text", "loss_giou")),
        ("losses", ("batches", "parallel_text", "grad_norms", "temp")),
        ("optimiser", ("pretraining", "groups", 3, "parameters")),
        ("optimiser", ("schedule_fraction", "values", 2, "lr_large")),
        ("optimiser", ("adamw_of_the_reference", "steps", 3, "decayed", 1)),
        ("region_geometry", ("region_samples", 1, "visible_patches", 0, 0)),
        ("downstream", ("vqa_loss",)),
        ("retrieval", ("train_itc",)),
    ],
)
def test_one_changed_field_is_found(file, where, without_text):
    verifying.change_field(without_text, file, where)
    assert verifying.failing_files("cclm", without_text) == [f"{file}.json"]


def test_a_changed_weight_is_found(without_text):
    verifying.change_weight(
        without_text, "weights", "text_encoder.bert.encoder.layer.0.attention.self.value.bias"
    )
    found = {*verifying.failing_files("cclm", without_text)}
    assert {"towers.safetensors", "losses.safetensors", "losses.json", "downstream.safetensors"} <= found


def test_an_entry_that_nothing_reads_is_reported(without_text):
    verifying.assert_unread_entry_is_told("cclm", without_text, "gather")


@pytest.mark.parametrize("check", [adam, schedule, gather, initialisation, swin, region_geometry, *TEXT])
def test_what_the_original_gave_is_kept_here_too(check):
    """The parts of its folder that are small and need no weights."""
    assert check in CHECKS
    verifying.assert_agrees(check, GOLDEN)


def test_recorded_files_are_small():
    verifying.assert_small(GOLDEN)


def test_the_reference_does_not_know_the_package():
    verifying.assert_independent(
        module.__file__ for module in (make_cclm, cclm_reference, cclm_losses, cclm_tasks, cclm_vision)
    )
