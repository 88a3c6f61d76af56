"""The model of a folder of recorded numbers, for the checks of `verify.py` and `verify_search.py`."""

from collections.abc import Mapping

from torch import Tensor

from vlpnb.data.recorded import RecordedFolder
from vlpnb.valm.objectives import ValmLM
from vlpnb.valm.original.weights import fill_original, original_config


def recorded_model(
    folder: RecordedFolder, state: Mapping[str, Tensor] | None = None, **changes: object
) -> ValmLM:
    """The recorded decoder, or one of its sizes with another state, in eval mode."""
    about = folder.json("model.json")["decoder"]
    if state is None:
        state = folder.tensors("decoder.safetensors").below("param.")
    given = {
        "heads": about["H"],
        "pad_id": about["pad"],
        "eos_id": about["eos"],
        "norm_eps": about["norm_eps"],
    }
    config = original_config(state, "decoder.safetensors", **(given | changes))
    lm = ValmLM(config).eval()
    fill_original(lm, state, "decoder.safetensors")
    return lm
