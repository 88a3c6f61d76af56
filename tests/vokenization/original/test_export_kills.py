"""`vlpnb export` killed before every operation on files: the same command again writes the same files."""

import json
import re

import numpy as np
import pytest
import torch

from tests import tiny_lm
from tests.kills import attempt, files, killed_everywhere
from vlpnb.data.store import write_store
from vlpnb.nn.language_model import language_model_config
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization.original.export import EXPORTS, export_stage
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, save_snapshot


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder of every stage that has files in the original's layout."""
    root = tmp_path_factory.mktemp("export")
    made = tiny_lm.make(root, count=40)
    keys = root / "keys"
    keys.mkdir()
    with write_store(keys / "universe.hdf5", "keys") as file:
        file["keys"] = np.eye(tiny_lm.VOKENS, 8, dtype=np.float32)
    for end in ("ids", "path"):
        (keys / f"universe.{end}").write_text("".join(f"{i}\n" for i in range(tiny_lm.VOKENS)))
    tokenizer = load_tokenizer(made["corpus"] / "tokenizer")
    torch.manual_seed(0)
    model = VisuallySupervisedLM(language_model_config("micro", tokenizer), tiny_lm.VOKENS)
    save_snapshot(root / "vlm" / "snapshot-0000006", model, tokenizer)
    line = {"step": 6, "perplexity": 8.0, "voken_loss": 1.5}
    (root / "vlm" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return {
        "corpus": made["corpus"],
        "vokenization.vokens": made["vokens"],
        "vokenization.keys": keys,
        "vokenization.pretraining": root / "vlm",
    }


def visible(folder):
    """The files of a folder; half-written ones are hidden. Weights are read: a process's name is in their archive."""
    found: dict[str, object] = {}
    for name, content in files(folder).items():
        if not re.search(r"(^|/)\.", name):
            found[name] = content
            if name.endswith(".bin"):
                state = torch.load(folder / name, weights_only=True)
                found[name] = {key: value.numpy().tobytes() for key, value in state.items()}
    return found


@pytest.mark.parametrize("stage", EXPORTS)
@pytest.mark.slow
def test_killed_before_every_operation_on_files(sources, tmp_path, stage):
    def export(folder):
        export_stage(stage, sources[stage], folder)

    for event, folder in killed_everywhere(export, tmp_path):
        export(folder)
        assert visible(folder) == visible(tmp_path / "whole"), event


@pytest.mark.parametrize("stage", EXPORTS)
def test_a_full_disk_leaves_no_file_that_looks_whole(sources, tmp_path, stage):
    def export(folder):
        export_stage(stage, sources[stage], folder)

    export(tmp_path / "whole")
    whole = visible(tmp_path / "whole")
    limit = max(map(len, files(tmp_path / "whole").values())) * 2 // 3
    assert "File too large" in attempt(export, tmp_path / "run", limit=limit).end
    for name, content in visible(tmp_path / "run").items():
        assert content == whole[name]
    export(tmp_path / "run")
    assert visible(tmp_path / "run") == whole
