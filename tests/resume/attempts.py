"""A tiny run of the whole pipeline, an interpreter that forks its attempts, and what a stage's folder holds."""

import json
import os
import subprocess
import sys
from pathlib import Path

SETTINGS = {
    "world": {
        "train": 24, "valid": 8, "test": 8, "universe": 16, "image_size": 48, "captions": 2,
        "corpus_train": 900, "corpus_valid": 500, "corpus_test": 60, "glue_train": 16, "glue_dev": 8, "questions": 0.5,
    },
    "iglue": {"sizes": {"xvnli": 24, "curtains": 8, "xgqa": 24, "marvl": 16, "tested": 12, "wit": 4}},
    "vision": {"batch": 8, "checkpoint_seconds": 0},
    "detector": {"image_size": 32, "width": 8, "windows": 8, "batch": 16, "checkpoint_seconds": 0},
    "regions": {"shard": 8, "least": 3, "most": 3},
    "language": {"size": "micro", "vocab_size": 300, "corpus_lines": 40, "updates": 6, "checkpoint_seconds": 0},
    "features": {"shard": 8},
    "vokenization.matching": {"batch": 16, "checkpoint_seconds": 0},
    "vokenization.keys": {"shard": 4},
    "corpus": {"shard_bytes": 900},
    "vokenization.vokens": {"page_tokens": 128},
    "vokenization.benchmark": {"diversity_sentences": 20},
    "vokenization.pretraining": {
        "size": "micro", "block": 30, "batch": 8, "micro_batch": 8, "updates": 6, "snapshots": 2, "log_every": 4,
        "eval_blocks": 4, "checkpoint_seconds": 0,
    },
    "vokenization.glue": {"tasks": ["RTE", "MNLI"], "batch": 8, "keep_models": True, "checkpoint_seconds": 0},
    "vokenization.squad": {"keep_models": True},
    "vokenization.swag": {"keep_models": True},
    "lxmert.pretraining": {"batch": 8, "updates": 6, "eval_examples": 8, "log_every": 4, "checkpoint_seconds": 0},
    "lxmert.vqa": {"batch": 4, "max_train": 12, "max_valid": 8, "epochs": 2, "checkpoint_seconds": 0},
    "lxmert.gqa": {"batch": 4, "max_train": 12, "max_valid": 8, "epochs": 2, "checkpoint_seconds": 0},
    "lxmert.nlvr2": {"batch": 2, "max_train": 8, "max_valid": 8, "epochs": 2, "checkpoint_seconds": 0},
    "lxmert.results": {"models": ["pretrained"]},
    "vlp.pretraining": {"batch": 8, "updates": 6, "eval_captions": 8, "log_every": 4, "checkpoint_seconds": 0},
    "vlp.captioning": {"batch": 8, "max_images": 8, "max_valid": 4, "epochs": 2, "checkpoint_seconds": 0},
    "vlp.results": {"models": ["pretrained"]},
    "vlp.vqa": {"batch": 4, "max_train": 12, "max_valid": 8, "epochs": 2, "checkpoint_seconds": 0},
    "towers": {"batch": 8, "updates": 6, "log_every": 4, "checkpoint_seconds": 0},
    "picture_vectors": {"shard": 8},
    "valm.queries": {"tokens": 256},
    "valm.pretraining": {"batch": 8, "updates": 6, "eval_blocks": 8, "log_every": 4, "checkpoint_seconds": 0},
    "valm.commonsense": {"tasks": ["world_colour"]},
    "valm.results": {"models": ["none", "retrieved"], "seeds": []},
    "multilingual": {"languages": ["en"], "parallel": []},
    "pieces": {"vocab_size": 200},
    "patches": {"shard": 8, "train_views": 1},
    "cclm.pretraining": {
        "batch": 8, "fused": 4, "region_pictures": 4, "updates": 6, "eval_pictures": 8, "log_every": 4,
        "variant": "no_parallel", "checkpoint_seconds": 0,
    },
    "cclm.retrieval": {
        "start": "no_parallel", "epochs": 1, "batch": 8, "keep_models": True, "optimiser": "adamw",
        "checkpoint_seconds": 0,
    },
    **{
        f"cclm.{task}": {
            "start": "no_parallel", "batch": 4, "max_train": 12, "max_valid": 8, "epochs": 2, "checkpoint_seconds": 0,
        }
        for task in ("xvnli", "xgqa", "marvl")
    },
    "cclm.results": {"models": ["no_parallel"], "tasks": ["retrieval"]},
    "across.results": {"models": ["text", "vokens"], "matchers": ["lxmert"], "seen": False, "further": False},
    "vokenization.results": {"supervisions": ["mlm", "vokens"], "seeds": [95]},
}  # fmt: skip
TIMED = ("seconds", "tokens_per_second")  # what two runs never agree on


class Driver:
    """Asks `driver.py` for attempts at stages; reference results are made when they are first needed."""

    def __init__(self, root: Path):
        variables = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "VLPNB_HEADLESS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("driver.py")), str(root), json.dumps(SETTINGS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        self.folders = {name: Path(path) for name, path in self._answer()["stages"].items()}
        self.references: dict[str, dict] = {}

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        assert line, "the driver ended"
        return json.loads(line)

    def attempt(self, stage: str, **end) -> dict:
        """One attempt at a stage whose inputs are finished; see `driver.py`."""
        self.process.stdin.write(json.dumps({"stage": stage, **end}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def reference(self, stage: str) -> dict:
        """The uninterrupted attempt at a stage, after its inputs', and what it left (`content`)."""
        for name in self.folders:
            if name not in self.references:
                answer = self.attempt(name)
                assert answer["outcome"] == "finished", answer
                self.references[name] = {**answer, "content": content(self.folders[name])}
            if name == stage:
                return self.references[name]
        raise KeyError(stage)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def content(folder: Path) -> dict[str, object]:
    """Every file of a folder with its bytes, down to hidden ones; times left out of manifests and logs."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[name] = "folder"
        elif path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            found[name] = {key: manifest[key] for key in ("hash", "config", "inputs", "files")}
            found[f"{name}: metrics"] = _untimed(manifest["metrics"])
        elif path.name == "metrics.jsonl":
            found[name] = [_untimed(json.loads(line)) for line in path.read_text().splitlines()]
        elif not path.name.startswith("log.") and path.name != ".lock":
            found[name] = path.read_bytes()
    return found


def _untimed(values: dict) -> dict:
    return {key: value for key, value in values.items() if not key.endswith(TIMED)}
