"""`vlpnb verify vlp`: the original's recorded folder holds, any other of its layout too, and no number is free."""

import os
import shutil
from pathlib import Path

import pytest

from tests import verifying
from tests.golden import make_vlp, vlp_cases, vlp_reference, vlp_writing
from tests.golden.make_vlp import record
from tests.golden.vlp_cases import Sizes
from vlpnb.course.verify import lines, verify
from vlpnb.data.recorded import DATA
from vlpnb.metrics import ptb
from vlpnb.vlp.original.verify import adaptation, optimiser
from vlpnb.vlp.original.verify_data import captions, examples, vqa_accuracy

GOLDEN = Path(__file__).parents[2] / "golden" / "vlp"
SHARED = Path(os.environ.get("VLPNB_SHARED_GOLDEN_VLP", Path(__file__).parents[4] / "shared/golden/vlp"))
DATA_FILES = ("captions.json", "vqa_accuracy.json", "examples.json")
OTHER = Sizes(
    seed=4, hidden=32, layers=3, heads=2, ffn=24, vocab=55, regions=4, feat=6, classes=9, answers=5, max_positions=25,
    max_text=11, batch=3, targets=4, images=2, unk=1, cls=2, sep=3, mask=4, lengths=(2, 11, 12), region_rows=3,
    runs=((4, 1.0, 2, None, ()), (1, 0.0, 0, None, ()), (3, 0.3, 0, 1, (30,))), updates=7,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _published(shared_data, monkeypatch):
    monkeypatch.setenv(DATA, str(shared_data))


@pytest.fixture
def without_java(monkeypatch):
    """Where Java is, it takes seconds, and `test_the_originals_folder_holds` asks it."""
    for name in ("why_no_words", "why_no_meteor"):
        monkeypatch.setattr(ptb, name, lambda: "there is no Java")


@pytest.fixture(scope="module")
def recorded_once(tmp_path_factory):
    return made(tmp_path_factory.mktemp("recorded"), Sizes())


@pytest.fixture
def folder(recorded_once, tmp_path, without_java):
    """A folder of invented weights, and what the original gave for metrics and word pieces."""
    return Path(shutil.copytree(recorded_once, tmp_path / "made"))


def made(folder, sizes):
    record(folder, sizes)
    for name in DATA_FILES:
        shutil.copy(GOLDEN / name, folder)
    return folder


@pytest.mark.slow
def test_the_originals_folder_holds():
    if not (SHARED / "forward.safetensors").is_file():
        pytest.skip(f"recorded numbers of VLP not found at {SHARED}")
    verifying.assert_holds("vlp", SHARED, 600_000)


def test_a_folder_of_another_seed_holds(folder):
    verifying.assert_holds("vlp", folder)


def test_a_folder_of_other_sizes_holds(tmp_path, without_java):
    verifying.assert_holds("vlp", made(tmp_path, OTHER))


def test_where_java_is_absent_what_takes_it_is_told(folder):
    told = [line for line in lines(verify("vlp", folder)) if "skipped" in line]
    assert told[:2] == [
        "    skipped: meteor: there is no Java",
        "    skipped: ptb, from_raw: there is no Java",
    ]
    assert told[2].endswith("but for what was skipped")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("forward", "embedding"),
        ("forward", "hidden.last"),
        ("forward", "logits"),
        ("forward", "grad.bert.embeddings.word_embeddings.weight"),
        ("forward", "pretext.mask"),
        ("relaxed_projection", "logits"),
        ("vqa_head", "product"),
        ("decoding", "run1.ptrs"),
        ("decoding", "run2.scores"),
        ("decoding", "greedy.max_logits"),
        ("scst", "faithful.log_probs"),
        ("scst", "decoding_mask.reward"),
        ("scst", "faithful.greedy_raw"),
        ("masks", "bi.4.mask"),
        ("masks", "decode.positions"),
        ("optimiser", "gaps.dense.bias.after"),
        ("adaptation", "transform.four.LayerNorm.bias"),
        ("regions", "c.vis_pe"),
    ],
)
def test_one_changed_number_is_found_and_named(file, name, folder):
    verifying.change_number(folder, file, name)
    (found,) = verifying.failing("vlp", folder)
    assert found.file == f"{file}.safetensors"
    assert verifying.beyond(found) == [name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "where"),
    [
        ("config", ("max_text",)),
        ("config", ("parameters",)),
        ("forward", ("loss",)),
        ("forward", ("loss_drop_worst", "0.3")),
        ("forward", ("loss_label_smoothing", "0.25")),
        ("forward", ("region_pretext", "region_loss")),
        ("forward", ("grad_norms", "vis_embed.2.bias")),
        ("relaxed_projection", ("slot_of_mode", "s2s")),
        ("vqa_head", ("loss",)),
        ("decoding", ("runs", "run0", "chosen_score", 1)),
        ("scst", ("variants", "faithful", "mean_reward")),
        ("scst", ("loss_only",)),
        ("masks", ("row_sums", "s2s.4", 11)),
        ("optimiser", ("level", "rates", 3)),
        ("regions", ("classes",)),
        ("captions", ("one_reference", "cider_each", 2)),
        ("vqa_accuracy", ("questions", 7, "pythia", "accuracy")),
        ("vqa_accuracy", ("training_targets", "examples", 3, "scores", "dog")),
        ("examples", ("target_counts_for_n_1_upwards", "p=0.15,K=3", 9)),
        ("examples", ("tokenise_cased", 1, "ids", 5)),
    ],
)
def test_one_changed_field_is_found(file, where, folder):
    verifying.change_field(folder, file, where)
    found = verifying.failing_files("vlp", folder)
    assert found
    if file != "config":  # with other sizes nothing is the same
        assert found == [f"{file}.json"]


def test_a_changed_weight_is_found(folder):
    verifying.change_weight(folder, "weights", "bert.encoder.layer.1.attention.self.value.bias")
    found = {*verifying.failing_files("vlp", folder)}
    wanted = {"forward", "relaxed_projection", "vqa_head", "decoding", "scst"}
    assert {f"{name}.safetensors" for name in wanted} <= found


def test_an_entry_that_nothing_reads_is_reported(folder):
    verifying.assert_unread_entry_is_told("vlp", folder, "forward")


@pytest.mark.parametrize("check", [adaptation, captions, examples, optimiser, vqa_accuracy])
def test_what_the_original_gave_is_kept_here_too(check, without_java):
    """The parts of its folder that are small and need no weights."""
    verifying.assert_agrees(check, GOLDEN)


def test_recorded_files_are_small():
    verifying.assert_small(GOLDEN)


def test_the_reference_does_not_know_the_package():
    verifying.assert_independent(
        module.__file__ for module in (make_vlp, vlp_cases, vlp_reference, vlp_writing)
    )
