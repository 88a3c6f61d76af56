"""`vlpnb verify valm`: the release's recorded folder holds, any other of its layout too, and no number is free."""

import os
import shutil
from pathlib import Path

import pytest

from tests import verifying
from tests.golden import make_valm, valm_reference
from tests.golden.make_valm import Sizes, record
from vlpnb.data.recorded import DATA
from vlpnb.valm.original.verify import adam, schedule

GOLDEN = Path(__file__).parents[2] / "golden" / "valm"
SHARED = Path(os.environ.get("VLPNB_SHARED_GOLDEN_VALM", Path(__file__).parents[4] / "shared/golden/valm"))
OF_PUBLISHED = ("tokenizer.json", "binarised.json", "prompts.json")
OTHER = Sizes(
    seed=8, hidden=32, heads=2, layers=4, ffn=24, vocab=61, batch=3, length=7, images=4, tower=24, tower_heads=3,
    tower_layers=1, text=160, store=33, updates=5,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _published(shared_data, monkeypatch):
    monkeypatch.setenv(DATA, str(shared_data))


@pytest.fixture(scope="module")
def recorded_once(tmp_path_factory):
    return made(tmp_path_factory.mktemp("recorded"), Sizes())


@pytest.fixture
def folder(recorded_once, tmp_path):
    """A folder of invented weights, and what the release gave for published files."""
    return Path(shutil.copytree(recorded_once, tmp_path / "made"))


def made(folder, sizes):
    record(folder, sizes)
    for name in OF_PUBLISHED:
        shutil.copy(GOLDEN / name, folder)
    return folder


@pytest.mark.slow
def test_the_originals_folder_holds():
    if not (SHARED / "decoder.safetensors").is_file():
        pytest.skip(f"recorded numbers of VaLM not found at {SHARED}")
    verifying.assert_holds("valm", SHARED, 230_000)


def test_a_folder_of_another_seed_holds(folder):
    verifying.assert_holds("valm", folder)


@pytest.mark.slow
def test_a_folder_of_other_sizes_holds(tmp_path):
    verifying.assert_holds("valm", made(tmp_path, OTHER))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("fusion", "output"),
        ("fusion", "attention"),
        ("fusion", "output_without_images"),
        ("fusion", "grad.self_attn.img_k_proj.bias"),
        ("fusion", "grad.x"),
        ("decoder", "positions"),
        ("decoder", "logits_text_only_model"),
        ("decoder", "log_probs_of_targets"),
        ("decoder", "grad.decoder.embed_tokens.weight"),
        ("text_tower", "queries"),
        ("text_tower", "sentence_vectors"),
        ("end_to_end", "rows"),
        ("end_to_end", "rows_normalised_keys"),
        ("end_to_end", "log_probs_of_next"),
        ("end_to_end", "logits_self_of_embed_ids"),
        ("adam", "after.3.norm"),
    ],
)
def test_one_changed_number_is_found_and_named(file, name, folder):
    verifying.change_number(folder, file, name, 0)
    (found,) = verifying.failing("valm", folder)
    assert found.file == f"{file}.safetensors"
    assert {*verifying.beyond(found)} == {name}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "where"),
    [
        ("model", ("fusion", "scale")),
        ("model", ("fusion", "image_attention_mass")),
        ("model", ("decoder", "loss_sum_nats")),
        ("model", ("decoder", "parameters_total")),
        ("model", ("decoder", "rows", 1, "bits")),
        ("model", ("text_tower", "chunk_lengths", 0, 0)),
        ("model", ("end_to_end", "mean_nats_of_next_self")),
        ("optimiser", ("schedules", 1, "rate", "1000")),
        ("optimiser", ("adam", "rates", 2)),
        ("optimiser", ("adam", "difference_to_torch_adamw", "norm")),
        ("chunker", ("items", 5, "lengths", 0)),
        ("binarised", ("lambada/fairseq/test", "sum")),
        ("binarised", ("packing", "items", "1", "input", 3)),
        ("prompts", ("memory_colors", "always", "white")),
        ("prompts", ("relative_size", "default", "always_yes", "both")),
        ("prompts", ("vicomte_shape", "majority_score")),
        ("tokenizer", ("items", 2, "ids", 0)),
    ],
)
def test_one_changed_field_is_found(file, where, folder):
    verifying.change_field(folder, file, where)
    assert verifying.failing_files("valm", folder) == [f"{file}.json"]


def test_a_changed_weight_is_found(folder):
    verifying.change_weight(folder, "decoder", "param.decoder.layers.1.self_attn.v_proj.bias")
    found = {*verifying.failing_files("valm", folder)}
    assert {"decoder.safetensors", "model.json", "end_to_end.safetensors"} <= found


def test_an_entry_that_nothing_reads_is_reported(folder):
    verifying.assert_unread_entry_is_told("valm", folder, "model")


@pytest.mark.parametrize("check", [adam, schedule])
def test_what_the_original_gave_is_kept_here_too(check):
    """The parts of its folder that are small and need no weights."""
    verifying.assert_agrees(check, GOLDEN)


def test_recorded_files_are_small():
    verifying.assert_small(GOLDEN)


def test_the_reference_does_not_know_the_package():
    verifying.assert_independent(module.__file__ for module in (make_valm, valm_reference))
