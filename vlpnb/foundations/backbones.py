"""Backbones kept with what was trained on them, so that a matcher's folder needs no other.

What lies in a folder is copied: the world's small networks, a few megabytes each, and a model or a weights file of
one's own, because a matcher without its backbones cannot be used. What has a name (of the hub, of torchvision, of a
package) is the same on every machine, and stays a name.
"""

import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from vlpnb.files import atomic
from vlpnb.foundations.features import Backbones, write_backbones
from vlpnb.text.backbones import local_language
from vlpnb.vision.backbones import DESCRIPTION, WEIGHTS

KEPT = "backbones"
LANGUAGE_FILES = ("*.json", "*.txt", "*.model", "tokenizer*")  # beside the weights


PARTS = ("language", "vision", "vision_weights")


def keep_backbones(folder: Path, source: Backbones, parts: Collection[str] = PARTS) -> None:
    """Copy the backbones that are folders or files below `folder/backbones`, and describe all in `backbones.json`.

    Of `parts` that are left out nothing is copied: what the description says of them holds on this machine alone.
    """
    kept: dict[str, Path] = {}
    for role, files in _files(source).items():
        if role not in parts:
            continue
        kept[role] = folder / KEPT / role
        with atomic(kept[role]) as temporary:
            temporary.mkdir(parents=True)
            for file in files:
                shutil.copyfile(file, temporary / file.name)
        if role == "vision_weights":
            kept[role] /= files[0].name
    write_backbones(folder, replace(source, inputs=kept))


def _files(source: Backbones) -> dict[str, list[Path]]:
    """What has to be copied, by the part that it plays."""
    config = source.config
    found: dict[str, list[Path]] = {}
    if language := local_language(source.inputs.get("language", config.language)):
        found["language"] = list(_language_files(language))
    vision = Path(source.inputs.get("vision", config.vision))
    if (vision / DESCRIPTION).is_file():
        found["vision"] = [vision / DESCRIPTION, vision / WEIGHTS]
    weights = source.inputs.get("vision_weights", config.vision_weights)
    if weights is not None and Path(weights).is_file():
        found["vision_weights"] = [Path(weights)]
    return found


def _language_files(folder: Path) -> Iterator[Path]:
    weights = list(folder.glob("*.safetensors")) or list(folder.glob("pytorch_model*.bin"))
    yield from sorted({*weights, *(path for kind in LANGUAGE_FILES for path in folder.glob(kind))})
