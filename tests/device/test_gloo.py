"""Everything in the package that speaks with other processes, and that a test does it with two (gloo, on the CPU)."""

import ast
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cclm import small_stages
from vlpnb.cclm.pretraining import PRETRAINING, PretrainingConfig
from vlpnb.foundations.own_words import open_tokenizer
from vlpnb.stage import StageContext
from vlpnb.train.distributed import spawn
from vlpnb.vokenization.original import files

ROOT = Path(__file__).parents[2]
HELPERS = {"barrier", "sum_over_processes", "sum_of_dicts", "replicate", "gather", "DistributedDataParallel"}
MODULES = ("dist", "torch.distributed")
NO_TALK = {
    "is_available",
    "is_initialized",
    "get_world_size",
    "get_rank",
    "destroy_process_group",
    "PrefixStore",
}

TRAINING = "train/test_loop.py::test_two_processes_equal_one"
TORCHRUN = "scale/test_torchrun.py::test_killed_workers_are_restarted_and_nothing_of_it_is_seen"
STAGES = "scale/test_stages.py::test_two_processes_make_what_one_makes"
RERANKING = "downstream/test_reranking.py::test_two_processes_share_the_pairs_and_both_get_all_scores"
HERE = "device/test_gloo.py::test_what_one_process_makes_the_other_waits_for"
USES = {
    "cclm/pretraining.py": ("barrier", "device/test_gloo.py::test_two_processes_pretrain_a_cclm"),
    "data/shards.py": ("dist.barrier", TORCHRUN),
    "downstream/finetuning.py": ("barrier", STAGES),
    "downstream/reranking.py": ("sum_over_processes", RERANKING),
    "foundations/corpus.py": ("barrier", TORCHRUN),
    "foundations/own_words.py": ("barrier", HERE),
    "foundations/patches.py": ("barrier", STAGES),
    "foundations/picture_vectors.py": ("barrier", STAGES),
    "lxmert/evaluation.py": ("sum_of_dicts", "lxmert/test_pretraining.py::test_two_processes_equal_one"),
    "lxmert/pretraining.py": ("barrier", "lxmert/test_pretraining.py::test_two_processes_equal_one"),
    "nn/contrastive.py": (
        "dist.all_gather dist.all_reduce gather",
        "nn/test_contrastive.py::test_several_processes_have_the_gradient_of_one_or_the_originals_share_of_it",
    ),
    "stage/torchrun.py": ("dist.broadcast_object_list dist.init_process_group", TORCHRUN),
    "train/distributed.py": (
        "DistributedDataParallel dist.all_reduce dist.barrier dist.init_process_group sum_over_processes", TRAINING,
    ),
    "train/loop.py": ("barrier replicate sum_over_processes", TRAINING),
    "valm/pretraining.py": ("barrier", "valm/test_pretraining.py::test_two_processes_learn_what_one_learns"),
    "valm/queries.py": ("barrier", STAGES),
    "vlp/pretraining.py": ("barrier", "vlp/test_pretraining.py::test_two_processes_learn_what_one_learns"),
    "vokenization/original/files.py": ("barrier", HERE),
    "vokenization/pretraining.py": ("barrier sum_of_dicts", TORCHRUN),
}  # fmt: skip
"""File → its calls, and the test in which two processes come by."""


def calls(file: Path) -> set[str]:
    """Calls of PyTorch's collectives, and of the package's own functions around them."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in HELPERS:
            found.add(node.func.id)
        elif isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in MODULES:
            found |= {f"dist.{node.func.attr}"} - {f"dist.{name}" for name in NO_TALK}
    return found


def test_every_use_of_several_processes_is_listed_with_a_test():
    package = ROOT / "vlpnb"
    found = {file.relative_to(package).as_posix(): calls(file) for file in package.rglob("*.py")}
    listed = {file: set(called.split()) for file, (called, _) in USES.items()}
    assert {file: called for file, called in found.items() if called} == listed


@pytest.mark.parametrize("test", sorted({test for _, test in USES.values()}))
def test_the_test_that_is_listed_runs_several_processes(test):
    file, _, name = test.partition("::")
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    functions = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    body = ast.unparse(functions[name])
    assert "spawn(" in body or "torch.distributed.run" in body


def nobody_reads():
    raise AssertionError("process 1 learns word pieces too")
    yield


def waiting(rank: int, world_size: int, folder: str) -> None:
    """What process 0 alone makes, for which process 1 must wait."""
    place = Path(folder)
    tried = SimpleNamespace(rank=rank, world_size=world_size, folder=place / "own", inputs={})
    tried.config = SimpleNamespace(tokenizer="captions", vocab_size=40)
    lines = (line for _ in range(3) for line in ("a red car", "a green car")) if rank == 0 else nobody_reads()
    words = open_tokenizer(tried, "captions", lines, ("mask",))
    (place / f"words.{rank}").write_text(" ".join(words.tokenize("a green car")))

    def slowly(source: Path, target: Path, *rest: object) -> int:
        time.sleep(0.5)
        target.write_text("vokens")
        return 3

    files.import_vokens, files.TokenCorpus = slowly, lambda path: range(7)
    tried.config = SimpleNamespace(granularity="token", original=SimpleNamespace(train="a", valid="b"))
    tried.inputs, tried.folder = {"corpus": place}, place
    files.import_stage(tried)
    there = [(place / f"{split}.hdf5").is_file() for split in ("train", "valid")]
    (place / f"there.{rank}").write_text(str(all(there)))


@pytest.mark.slow
def test_what_one_process_makes_the_other_waits_for(tmp_path):
    spawn(waiting, 2, str(tmp_path / "store"), str(tmp_path))
    words = [(tmp_path / f"words.{rank}").read_text() for rank in range(2)]
    assert words[0] == words[1] != ""
    assert [(tmp_path / f"there.{rank}").read_text() for rank in range(2)] == ["True", "True"]


def share_of_cclm(rank: int, world_size: int, root: str, folder: str) -> None:
    place = Path(folder)
    place.mkdir(exist_ok=True)
    config = PretrainingConfig(
        **small_stages.TINY | {"variant": "contrastive_only", "updates": 2, "evaluations": 1}
    )
    inputs = {name: Path(root) / name for name in ("multilingual", "pieces", "patches")}
    context = StageContext(config, place, inputs, "cpu", name="cclm.pretraining", say=lambda line: None)
    found = PRETRAINING.run(replace(context, rank=rank, world_size=world_size))
    assert (place / "model" / "config.json").is_file()  # process 1 is not done before process 0 has saved
    (place / f"updates.{rank}").write_text(str(found["updates"]))


@pytest.mark.slow
def test_two_processes_pretrain_a_cclm(tmp_path):
    small_stages.make(tmp_path)
    spawn(share_of_cclm, 2, str(tmp_path / "store"), str(tmp_path), str(tmp_path / "out"))
    assert [(tmp_path / "out" / f"updates.{rank}").read_text() for rank in range(2)] == ["2", "2"]
