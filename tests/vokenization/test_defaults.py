"""The paper's and the launch scripts' hyper-parameters: every value is the default of the field that carries it."""

from operator import attrgetter

import pytest
import torch

from vlpnb.downstream.glue import GlueConfig
from vlpnb.foundations.corpus import CorpusStageConfig
from vlpnb.foundations.features import FeaturesConfig
from vlpnb.foundations.text import TextConfig
from vlpnb.nn.language_model import SIZES, language_model_config
from vlpnb.stage.profiles import load_profile
from vlpnb.text.lines import keeps
from vlpnb.vokenization.benchmark import BenchmarkConfig
from vlpnb.vokenization.keys import KeysConfig
from vlpnb.vokenization.matcher import MatchingConfig
from vlpnb.vokenization.pretraining import PretrainingConfig, training_plan
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM
from vlpnb.vokenization.vokens import VokensConfig

SMALL = {"block": 126, "batch": 256, "lr": 2e-4, "weight_decay": 0.01, "clip": 1.0, "mask_rate": 0.15, "mlm_ratio": 1.0,
         "voken_labels": "all", "dropout": 0.1, "seed": 95, "shuffle": False, "init_std": 0.02, "size": "small",
         "epochs": 40, "warmup": 10_000, "micro_batch": 32, "objective": "cls", "shared_head": False,
         "original.blocks": False, "original.exclude": None, "updates": None, "original.baseline": False}  # fmt: skip
INDEX = [
    ("A", FeaturesConfig, {"layers": (-4, -3, -2, -1), "max_length": 20, "seed": 9595, "crop_scale": (0.08, 1.0),
                           "language": "bert-base-uncased", "vision": "resnext101_32x8d"}),
    ("A", MatchingConfig, {"joint": 64, "hidden": 256, "dropout": 0.3, "margin": 0.5, "lr": 1e-3, "clip": 5.0,
                           "schedule": "constant", "warmup": 0, "weight_decay": 0.0, "batch": 256, "epochs": 20,
                           "seed": 9595, "loss": "hinge", "special_tokens": True, "select": "loss",
                           "train_language": False, "train_vision": False}),
    ("B", KeysConfig, {"batch": 32, "max_images": 50_000}),
    ("D", VokensConfig, {"limit": 128, "granularity": "token", "original.pieces": False}),
    ("E", PretrainingConfig, SMALL),
    ("F", GlueConfig, {"epochs": 3, "lr": 1e-4, "batch": 32, "max_length": 126, "warmup": 0.1, "weight_decay": 0.0,
                       "clip": 1.0, "seeds": (9595,)}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "config", "values"), INDEX, ids=lambda value: getattr(value, "__name__", "")
)
def test_the_index_is_the_default(stage, config, values):
    made = config()
    assert {name: attrgetter(name)(made) for name in values} == values


def test_tokenisation():
    """C: at least five fields a line; the matcher's tokenizer; all of the text."""
    assert [keeps(" ".join("w" * n), "wiki103") for n in (4, 5)] == [False, True]
    assert TextConfig().rules == "wiki103"
    config = CorpusStageConfig()
    assert (config.tokenizer, config.max_train_tokens, config.max_valid_tokens) == ("", None, None)


def test_optimisers():
    """E and F: AdamW with eps 1e-6; E': 44 epochs or 220,000 updates."""
    plan = training_plan(PretrainingConfig(), 100)
    assert (plan.eps, plan.betas, plan.optimiser, plan.schedule) == (1e-6, (0.9, 0.999), "adamw", "linear")
    published = {"supervision": "mlm", "original": {"baseline": True}}
    assert training_plan(PretrainingConfig(**published), 100).updates == 44 * 100
    assert training_plan(PretrainingConfig(updates=200_000, **published), 100).updates == 220_000


def test_sizes():
    assert (SIZES["small"], SIZES["base"]) == ((6, 512, 8, 2048), (12, 768, 12, 3072))
    base = load_profile("paper+wikipedia+base").stages["vokenization"]["pretraining"]
    assert (base["size"], base["updates"], base["warmup"]) == ("base", 200_000, 5_000)


class Words:
    """As much of BERT's tokenizer as the size of a model depends on."""

    cls_token, pad_token_id = "[CLS]", 0

    def __len__(self):
        return 30_522


@pytest.mark.parametrize(
    ("size", "encoder", "head", "whole"), [("small", 18.9, 25.9, 61.0), ("base", 85.1, 39.0, 149)]
)
def test_millions_of_parameters(size, encoder, head, whole):
    """With V = 50,000 and BERT's vocabulary; the blocks without the embeddings, and the voken head."""
    with torch.device("meta"):
        model = VisuallySupervisedLM(language_model_config(size, Words()), 50_000)
    blocks = model.encoder
    parts = [
        [p.numel() for name, p in m.named_parameters() if "embed" not in name] for m in (blocks, model.voken)
    ]
    assert [round(sum(part) / 1e6, 1) for part in parts] == [encoder, head]
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(whole, rel=0.01)


def test_the_paper_profile_measures_what_the_original_does():
    """After every epoch, on the whole validation file; 95,000 lines for the diversity."""
    stages = load_profile("paper").stages["vokenization"]
    vlm, benchmark = stages["pretraining"], stages["benchmark"]
    assert vlm["evaluations"] == vlm["epochs"] == 40
    assert vlm["eval_blocks"] * 126 > 10**8  # more than any validation file
    benchmark = BenchmarkConfig(**benchmark)
    assert (benchmark.diversity_lines, benchmark.max_length) == (95_000, 128 + 2)
    assert load_profile("paper").stages["features"] == {"eval_views": ["published"]}
