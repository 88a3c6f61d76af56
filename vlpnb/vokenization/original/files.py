"""The original project's files: vokens and checkpoints; read, checked and written.

As the public code `airsplay/vokenization` writes them. Keys and image-id lists have the same
layout here (`keys.py`), corpora are in `vlpnb.text.original`; a finished stage is written in these
layouts by `export.py`.

| file | holds |
|---|---|
| `<corpus>.<sets>[.<V>].hdf5` | `vokens`, int32 [N]; −v−1 marks the later tokens of a sentence with voken v |
| `<corpus>.<sets>[.<V>].ids` | line j names voken j: `<image set>/<image id>` |
| `checkpoint-epoch%04d/` | a HuggingFace folder; `pytorch_model.bin` also holds the voken heads |
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from vlpnb.config import NAME
from vlpnb.data.store import attributes, open_checked, write_store
from vlpnb.data.text_files import lines_of, read_json
from vlpnb.errors import UserError
from vlpnb.files import atomic, write_text
from vlpnb.nn.checkpoints import save_hf
from vlpnb.stage import StageContext
from vlpnb.text.original_import import refuse_other_numbers
from vlpnb.text.token_corpus import TokenCorpus
from vlpnb.text.tokenizers import save_tokenizer
from vlpnb.train.distributed import barrier
from vlpnb.vokenization.original.heads import original_names
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM
from vlpnb.vokenization.voken_heads import OBJECTIVES

PUBLISHED_V = 50_000  # voken files of this size do not name it
CHUNK = 1 << 22  # vokens in memory at a time


def voken_ids(path: Path) -> list[str]:
    """The `.ids` beside a voken file: `<image set>/<image id>` of each voken. UserError names a wrong line."""
    names = []
    for number, text in lines_of(path, "<image set>/<image id> of each voken"):
        group, slash, name = text.partition("/")
        if not (NAME.fullmatch(group) and slash and name):
            raise UserError(f"{path}:{number}: expected <image set>/<image id>, found {text[:60]!r}")
        names.append(text)
    return names


def import_vokens(source: Path, target: Path, tokens: int, granularity: str) -> int:
    """Check a voken file and store it with its `.ids` at `target`; returns V.

    Args:
        source: `….hdf5`, with `….ids` beside it. tokens: N of the corpus.
        granularity: what it holds is not written in the file (VOK-10); only "sentence" has marks.
    Raises:
        UserError: the file is no such file, has another length, a voken that the list does not name, or marks
            where none are expected, or the other way round.
    """
    names = voken_ids(Path(source).with_suffix(".ids"))
    with open_checked(source, ["vokens"]) as file:
        vokens = file["vokens"]
        refuse_other_numbers(vokens, source)
        if len(vokens) != tokens:
            raise UserError(
                f"{source} has {len(vokens):,} vokens; expected one for each of {tokens:,} tokens"
            )
        about = {"granularity": granularity, "size": len(names), "source": Path(source).name}
        with write_store(target, "vokens", about) as out:
            stored, marks = out.create_dataset("vokens", (tokens,), "int32"), False
            for at in range(0, tokens, CHUNK):
                part = vokens[at : at + CHUNK]
                wrong = np.flatnonzero((part < -len(names)) | (part >= len(names)))
                if len(wrong):
                    raise UserError(
                        f"{source}: voken {at + wrong[0]:,} is {part[wrong[0]]}, but "
                        f"{Path(source).with_suffix('.ids')} names {len(names):,} images"
                    )
                marked = np.flatnonzero(part < 0)
                if len(marked) and granularity != "sentence":
                    raise UserError(
                        f"{source}: voken {at + marked[0]:,} is {part[marked[0]]}, the mark of a sentence; "
                        "set vokenization.vokens.granularity to sentence"
                    )
                marks = marks or len(marked) > 0
                stored[at : at + len(part)] = part
            if granularity == "sentence" and not marks:
                raise UserError(
                    f"{source}: no mark of a sentence; set vokenization.vokens.granularity to what the file holds"
                )
    write_text(target.with_suffix(".ids"), "".join(f"{name}\n" for name in names))
    return len(names)


def import_stage(context: StageContext) -> dict[str, float]:
    """The stage `vokens` from the files that its configuration names, instead of a matcher's vokens."""
    config, metrics = context.config, {}
    for split in ("train", "valid") if context.rank == 0 else ():
        corpus = TokenCorpus(context.inputs["corpus"] / f"{split}.hdf5")
        source, target = Path(getattr(config.original, split)), context.folder / f"{split}.hdf5"
        metrics["size"] = float(import_vokens(source, target, len(corpus), config.granularity))
        metrics[f"{split}_tokens"] = float(len(corpus))
    barrier(context.world_size)
    return metrics


def voken_name(corpus: str, names: list[str]) -> str:
    """`<corpus>.<sets joined by _>[.<V>]`: the name of a voken file without `.hdf5`."""
    sets = "_".join(sorted({name.partition("/")[0] for name in names}))
    return f"{corpus}.{sets}" + ("" if len(names) == PUBLISHED_V else f".{len(names)}")


def export_vokens(path: Path, folder: Path, corpus: str) -> Path:
    """Copy a stage's `<split>.hdf5` and `.ids` under the original's name for the corpus `<file>.<tok>`."""
    names = voken_ids(path.with_suffix(".ids"))
    target = folder / f"{voken_name(corpus, names)}.hdf5"
    folder.mkdir(parents=True, exist_ok=True)
    with open_checked(path, ["vokens"]) as file:
        vokens = file["vokens"]
        with write_store(
            target, "vokens", {"granularity": attributes(path).get("granularity", "token")}
        ) as out:
            stored = out.create_dataset("vokens", vokens.shape, "int32")
            for at in range(0, len(vokens), CHUNK):
                stored[at : at + CHUNK] = vokens[at : at + CHUNK]
    write_text(target.with_suffix(".ids"), "".join(f"{name}\n" for name in names))
    return target


def save_original(folder: Path, model: VisuallySupervisedLM, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write a model as the original saves it: `pytorch_model.bin` with the voken heads, config, vocabulary.

    `load_snapshot` reads it back, and transformers reads the language model.
    """
    heads = {head.objective: head for head in model.heads.values()}
    save_tokenizer(tokenizer, folder)
    save_hf(folder, model.encoder, mlm=model.mlm)
    tensors = load_file(folder / "model.safetensors")
    settings = read_json(folder / "config.json", "a model's settings")
    settings |= {f"do_voken_{name}": name in heads for name in OBJECTIVES}
    settings["shared_head"] = model.shared and bool(heads)
    for objective, head in heads.items():
        state, names = head.state_dict(), original_names(head)
        tensors |= {names[ours]: value.detach().cpu() for ours, value in state.items()}
        if objective == "cls":
            settings["voken_size"] = len(head.table()[0])
        else:
            settings["voken_size"], settings["voken_dim"] = state["features"].shape
    with atomic(folder / "pytorch_model.bin") as temporary:
        torch.save(tensors, temporary)
    write_text(folder / "config.json", json.dumps(settings, indent=2) + "\n")
    (folder / "model.safetensors").unlink()
    return folder
