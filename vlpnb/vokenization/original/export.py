"""A finished stage's folder, written as the original project's files (`originals.py` describes them)."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from vlpnb.data.text_files import read_json_lines
from vlpnb.errors import UserError
from vlpnb.files import atomic, write_text
from vlpnb.text.corpora import TokenCorpus, export_original
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization.keys import key_files, load_keys
from vlpnb.vokenization.original.files import export_vokens, save_original
from vlpnb.vokenization.pretraining import snapshot_folders
from vlpnb.vokenization.visual_lm import load_snapshot

SPLITS = ("train", "valid")


def _corpus(source: Path, target: Path) -> list[Path]:
    return [
        export_original(TokenCorpus(source / f"{split}.hdf5"), target / f"{split}.raw.tok")
        for split in SPLITS
    ]


def _keys(source: Path, target: Path) -> list[Path]:
    made = []
    for path in key_files(source):
        keys = load_keys(source, [path.stem], source=None)  # complains if the files do not fit each other
        files = [target / f"{path.stem}{end}" for end in (".hdf5", ".ids", ".path")]
        for file in files[:2]:
            with atomic(file) as temporary:
                shutil.copyfile(path.with_suffix(file.suffix), temporary)
        write_text(files[2], "".join(f"{place}\n" for place in keys.paths))  # ours are relative to the data
        made += files
    return made


def _vokens(source: Path, target: Path) -> list[Path]:
    return [export_vokens(source / f"{split}.hdf5", target, f"{split}.raw.tok") for split in SPLITS]


def _pretraining(source: Path, target: Path) -> list[Path]:
    log = source / "metrics.jsonl"
    lines = [line for _, line in read_json_lines(log, "the lines of a training, an object each")]
    evaluated = {int(line["step"]): line for line in lines if "perplexity" in line}
    made = []
    for i, path in enumerate(snapshot_folders(source)):
        folder = target / f"checkpoint-epoch{i:04d}"
        made.append(save_original(folder, load_snapshot(path), load_tokenizer(path)))
        found = evaluated[int(path.name.removeprefix("snapshot-"))]
        shown = {name: found[name] for name in ("perplexity", "voken_loss") if name in found}
        write_text(folder / "eval_results.json", json.dumps(shown) + "\n")
    return made


EXPORTS: dict[str, Callable[[Path, Path], list[Path]]] = {
    "corpus": _corpus,
    "vokenization.keys": _keys,
    "vokenization.vokens": _vokens,
    "vokenization.pretraining": _pretraining,
}


def export_stage(name: str, source: Path, target: Path) -> list[Path]:
    """Write what the folder `source` of a stage holds into `target`; returns the main files or folders made.

    | stage | written |
    |---|---|
    | `corpus` | `<split>.raw.tok`, and with `.hdf5`, `.line` and `.sent` |
    | `vokenization.keys` | `<image set>.hdf5`, `.ids`, `.path` |
    | `vokenization.vokens` | `<split>.raw.tok.<image sets>[.<V>].hdf5` and `.ids` |
    | `vokenization.pretraining` | `checkpoint-epoch%04d`, one per snapshot, counted from 0, with `eval_results.json` |

    Give keys a folder of their own: every HDF5 file of the folder counts as an image set there.

    Raises:
        UserError: the stage has no counterpart in the original project, or its folder is damaged.
    """
    if name not in EXPORTS:
        raise UserError(f"stage '{name}' has no files in the original layout; expected {', '.join(EXPORTS)}")
    target.mkdir(parents=True, exist_ok=True)
    return EXPORTS[name](source, target)
