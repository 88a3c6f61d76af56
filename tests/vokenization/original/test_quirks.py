"""The page of quirks names code and tests that exist, and the answers that no other test shows."""

import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import vlpnb.vokenization
from tests import quirks
from vlpnb.config import parse_config
from vlpnb.data.description import load_captions, load_pictures
from vlpnb.errors import UserError
from vlpnb.foundations.corpus import CORPUS, CorpusStageConfig
from vlpnb.metrics.retrieval import recall
from vlpnb.nn.transformer import TransformerConfig
from vlpnb.stage import Run
from vlpnb.stage.profiles import Profile
from vlpnb.text.corpora import TokenCorpus, split_long
from vlpnb.train.loop import autocast
from vlpnb.vokenization import matching
from vlpnb.vokenization.keys import load_keys
from vlpnb.vokenization.matcher import DESCRIPTION, WEIGHTS, MatchingConfig, load_matcher
from vlpnb.vokenization.pretraining import PretrainingConfig
from vlpnb.vokenization.stages import STAGES
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM
from vlpnb.vokenization.vokeniser import Vokeniser
from vlpnb.vokenization.vokens import VokensConfig, vokenise_corpus

PAGE = quirks.page_of(vlpnb.vokenization)
ROWS = quirks.rows_of(PAGE, "VOK")


def test_every_quirk_has_one_row():
    numbers, further = quirks.check_numbers(ROWS, "VOK")
    assert numbers == 23
    assert further >= 18


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_code_and_its_tests_exist(row):
    quirks.check_row(row, constants=True)


def test_switches_that_the_page_names_exist():
    expected = {
        "vokenization.matching.original.recall",
        "vokenization.vokens.original.pieces",
        "vokenization.pretraining.original.blocks",
        "vokenization.pretraining.original.baseline",
    }
    quirks.check_settings(PAGE, STAGES, expected)


def test_without_a_gpu_stages_run_on_the_cpu(tmp_path, monkeypatch):
    """VOK-04."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Run(tmp_path, "r", Profile("none"), []).device == "cpu"


def test_legacy_recall_is_an_extra_metric(small, tmp_path):
    """VOK-06: beside the right one, over the same ranks, off by default."""
    store = matching.FeatureStore(small.features, "valid")
    matcher = load_matcher(small.matching, backbones=False)
    found = {}
    for flag in (False, True):
        config = MatchingConfig(batch=16, original={"recall": flag})
        captions = matching.CaptionBatches(store, (), matcher, config, (0.5, 1.0))
        found[flag] = matching.validate(captions, config, "cpu")
    legacy = {name: value for name, value in found[True].items() if name.startswith("legacy_")}
    assert set(legacy) == {"legacy_r1", "legacy_r5", "legacy_r10"}
    assert {name: value for name, value in found[True].items() if name not in legacy} == found[False]
    assert found[True]["r1"] < legacy["legacy_r1"] < found[True]["r5"]
    assert recall(torch.tensor([1, 2, 3, 4]), ks=(1,), legacy=True) == {"r1": 0.5}


def test_a_matcher_is_weights_and_a_description(small):
    """VOK-07: nothing that has to be unpickled."""
    written = {path.name for path in small.matching.iterdir()}
    assert {WEIGHTS, DESCRIPTION} <= written
    assert not [name for name in written if name.endswith((".pkl", ".pth", ".model"))]
    with (small.matching / WEIGHTS).open("rb") as file:
        assert file.read(9)[8:] == b"{"  # safetensors: a length, then a JSON header


@pytest.fixture(scope="module")
def corpus(small):
    folder = small.root / "corpus-of-quirks"
    small.run(CORPUS, CorpusStageConfig(), folder, features=small.features, **small.data)
    return TokenCorpus(folder / "train.hdf5")


def test_legacy_pieces_reach_the_vokeniser(small, corpus, tmp_path):
    """VOK-09."""
    seen = []

    class Watching(Vokeniser):
        def __call__(self, sentences):
            seen.extend(map(len, sentences))
            return super().__call__(sentences)

    vokenise = Watching(load_matcher(small.matching), load_keys(small.keys).vectors)
    lengths = np.diff(corpus.sentences).tolist()
    longest = max(lengths)
    limit = next(n for n in range(2, longest) if longest % -(-longest // n))
    for legacy in (False, True):
        seen.clear()
        vokenise_corpus(corpus, vokenise, tmp_path / f"{legacy}.hdf5", "x", limit=limit, legacy_pieces=legacy)
        assert seen == [piece for n in lengths for piece in split_long(n, limit, legacy)]
    assert split_long(longest, limit, True) != split_long(longest, limit)
    assert VokensConfig().original.pieces is False


def test_lines_may_be_sentences(small, tmp_path, corpus):
    """A caller may say that every line is one sentence; the lines here hold two."""
    config = CorpusStageConfig(lines_are_sentences=True)
    metrics = small.run(CORPUS, config, tmp_path, features=small.features, **small.data)
    assert metrics["train_sentences"] == metrics["train_lines"] == len(corpus.lines) - 1
    assert len(corpus.sentences) - 1 == 2 * metrics["train_lines"]


def test_a_failed_process_publishes_nothing(small, corpus, tmp_path):
    """VOK-11: process 0 finds the other's part missing, says so, and leaves no array that looks finished."""
    vokenise = Vokeniser(load_matcher(small.matching), load_keys(small.keys).vectors)
    target = tmp_path / "train.hdf5"
    with pytest.raises(UserError, match=r"checkpoint-train/000001\.hdf5 is missing: a process failed. Run"):
        vokenise_corpus(
            corpus, vokenise, target, "x", page_tokens=40, rank=0, world_size=2, wait=lambda: None
        )
    assert not target.exists()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [False, True])
def test_the_contrast_trains_in_either_precision(kind, shared):
    """VOK-19."""
    torch.manual_seed(0)
    config = TransformerConfig(vocab_size=40, hidden=16, layers=1, heads=2, ffn=32, max_positions=16)
    features = F.normalize(torch.randn(7, 5), dim=1)
    model = VisuallySupervisedLM(config, 7, "ctr", shared, features)
    ids, vokens = torch.randint(5, 40, (8, 10)), torch.randint(0, 7, (8, 10))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        with torch.autocast("cpu", kind, enabled=kind is torch.bfloat16):
            loss = model(ids, None, vokens)["voken"] / vokens.numel()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(model.voken.features, features)


@pytest.mark.parametrize(
    ("device", "kind", "used"),
    [("cuda", "bfloat16", True), ("cuda", "float32", False), ("cpu", "bfloat16", False)],
)
def test_precision_is_a_switch(monkeypatch, device, kind, used):
    made = types.SimpleNamespace()
    monkeypatch.setattr(torch, "autocast", lambda *_, enabled: setattr(made, "enabled", enabled))
    autocast(torch.device(device), kind)
    assert made.enabled is used


def test_names_of_image_sets_are_validated(small):
    """VOK-21."""
    pictures = load_pictures(small.dataset)
    for entry, message in (
        ("./vg_nococo", "does not exist"),
        ("vg_nococo", "is no split or set with captions"),
    ):
        with pytest.raises(UserError, match=f"vg_nococo'? {message}"):
            replace(pictures, entries=(entry,)).sets()
    with pytest.raises(UserError, match="no captions for split 'vg_nococo'; there are train, valid, test"):
        load_captions(small.dataset).captioned("vg_nococo")


def test_no_option_is_accepted_and_unused():
    """VOK-23."""
    for config in (VokensConfig, PretrainingConfig, CorpusStageConfig):
        with pytest.raises(UserError, match="split_sent: unknown field"):
            parse_config(config, {"split_sent": True}, "stage")
