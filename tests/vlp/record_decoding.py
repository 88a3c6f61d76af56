"""A small copy of the recorded beam searches of VLP's original code, which can be repeated without its weights.

    python -m tests.vlp.record_decoding ../shared/golden/vlp

For each picture the words, back pointers and totals that the original recorded, and for each text that a search
visits the log-probabilities of its likeliest next words, from our model with the recorded weights.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlpnb.nn.beam import beam
from vlpnb.vlp.generating import VlpDecoder
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.original.weights import load_model

FILE = Path(__file__).parents[1] / "golden" / "vlp" / "decoding.safetensors"
WORDS = 12  # of each text


def options(run: dict) -> dict[str, object]:
    """What `beam` is told for a recorded run."""
    fields = {"length_bonus": "length_bonus", "min_length": "min_length", "ignore": "ignore"}
    return {"no_repeat": run["block_ngram"] or 0} | {ours: run[theirs] for ours, theirs in fields.items()}


def recorded_model(folder: Path) -> VlpForGeneration:
    """The model of a folder of recorded numbers."""
    config = json.loads((folder / "config.json").read_text())
    ids = {f"{name}_id": config[name] for name in ("pad", "unk", "cls", "sep", "mask")}
    shape = {"heads": config["heads"], "regions": config["regions"], "text_length": config["max_text"]}
    return load_model(folder / "weights.safetensors", VlpForGeneration, **shape, **ids)


def main(folder: Path) -> None:
    """Write `FILE`."""
    told = json.loads((folder / "decoding.json").read_text())
    numbers = load_file(folder / "decoding.safetensors")
    model = recorded_model(folder)
    decoder = VlpDecoder(model, steps=told["steps"])
    prefix = decoder.see(numbers["feat"], numbers["vis_pe"])
    visited: dict[tuple[int, ...], Tensor] = {}
    found: dict[str, Tensor] = {}
    for name, run in told["runs"].items():
        if name == "greedy":
            continue
        rows = [(picture,) for picture in range(prefix.pictures)]
        step = decoder.step(prefix)

        def spy(words: Tensor | None, parents: Tensor | None, step=step) -> Tensor:
            nonlocal rows
            if words is not None:
                rows = [(*rows[p], w) for p, w in zip(parents.tolist(), words.tolist(), strict=True)]
            scores = step(words, parents)
            visited.update(zip(rows, scores.log_softmax(-1), strict=True))
            return scores

        beam(spy, run["beam"], told["steps"], model.config.sep_id, stop_early=False, **options(run))
        for part in ("ids", "wids", "ptrs"):
            found[f"{name}.{part}"] = numbers[f"{name}.{part}"].short()
        found[f"{name}.scores"] = numbers[f"{name}.scores"]
    texts = np.full((len(visited), told["steps"] + 1), -1, dtype=np.int16)  # picture, words, −1 behind them
    for row, text in zip(texts, visited, strict=True):
        row[: len(text)] = text
    best, words = torch.stack(list(visited.values())).topk(WORDS)
    found |= {"texts": torch.from_numpy(texts), "words": words.short(), "log_probs": best}
    runs = {
        name: options(run) | {"width": run["beam"], "chosen": run["chosen_score"]}
        for name, run in told["runs"].items()
        if name != "greedy"
    }
    about = {
        "vocabulary": model.config.vocab_size,
        "sep": model.config.sep_id,
        "steps": told["steps"],
        "runs": runs,
    }
    save_file(found, FILE, {"about": json.dumps(about)})
    print(f"{FILE}: {len(visited)} texts, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    with torch.no_grad():
        main(Path(sys.argv[1]))
