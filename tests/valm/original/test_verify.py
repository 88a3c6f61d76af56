"""`vlpnb verify valm`: the release's recorded folder holds, any other of its layout too, and no number is free."""

import ast
import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.golden import make_valm, valm_reference
from tests.golden.make_valm import Sizes, record
from vlpnb.course.verify import lines, verify
from vlpnb.data.agreement import compare
from vlpnb.data.recorded import DATA, RecordedFolder
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
    result = verify("valm", SHARED)
    assert result.holds, "\n".join(lines(result))
    assert sum(verdict.values for verdict in result.verdicts) > 230_000


def test_a_folder_of_another_seed_holds(folder):
    result = verify("valm", folder)
    assert result.holds, "\n".join(lines(result))


@pytest.mark.slow
def test_a_folder_of_other_sizes_holds(tmp_path):
    result = verify("valm", made(tmp_path, OTHER))
    assert result.holds, "\n".join(lines(result))


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
    path = folder / f"{file}.safetensors"
    tensors = load_file(path)
    changed = tensors[name].view(-1)
    changed[0] += 1e-3 if changed.is_floating_point() else 1
    save_file(tensors, path)
    (found,) = (verdict for verdict in verify("valm", folder).verdicts if not verdict.holds)
    assert found.file == f"{file}.safetensors"
    assert {case.case.name for case in found.found if case.beyond} == {name}


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
    path = folder / f"{file}.json"
    about = inner = json.loads(path.read_text())
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] += 1
    path.write_text(json.dumps(about))
    result = verify("valm", folder)
    assert [verdict.file for verdict in result.verdicts if not verdict.holds] == [path.name]


def test_a_changed_weight_is_found(folder):
    path = folder / "decoder.safetensors"
    tensors = load_file(path)
    tensors["param.decoder.layers.1.self_attn.v_proj.bias"][0] += 0.05
    save_file(tensors, path)
    failing = {verdict.file for verdict in verify("valm", folder).verdicts if not verdict.holds}
    assert {"decoder.safetensors", "model.json", "end_to_end.safetensors"} <= failing


def test_an_entry_that_nothing_reads_is_reported(folder):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": 0.5}))
    result = verify("valm", folder)
    assert {verdict.file: verdict.unread for verdict in result.verdicts if verdict.unread} == {
        "model.json": ["accuracy"]
    }


@pytest.mark.parametrize("check", [adam, schedule])
def test_what_the_original_gave_is_kept_here_too(check):
    """The parts of its folder that are small and need no weights."""
    found = [compare(case) for case in check(RecordedFolder(GOLDEN))]
    assert len(found) > 5
    assert [case.first for case in found if case.beyond] == []


def test_recorded_files_are_small():
    assert all(path.stat().st_size <= 250_000 for path in GOLDEN.iterdir())


def test_the_reference_does_not_know_the_package():
    for module in (make_valm, valm_reference):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            names = [alias.name for alias in getattr(node, "names", [])] + [getattr(node, "module", "") or ""]
            assert not any(name.split(".")[0] == "vlpnb" for name in names), module
