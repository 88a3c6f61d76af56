"""Asks the model of a finished pre-training, with pictures that are looked up live, in a setting of `shown.py`."""

from pathlib import Path

from vlpnb.downstream.scoring import LanguageScorer
from vlpnb.valm.original.weights import load_model
from vlpnb.valm.shown import MODEL, Live, Setting, load_looks


def open_scorer(folder: str | Path, setting: Setting = "trained", device: str = "cpu") -> LanguageScorer:
    """Asks the model of a finished pre-training, with the pictures of a setting.

    Raises:
        UserError: the folder holds no pre-training, or what it was shown is gone.
    """
    folder = Path(folder)
    looks, corpus = load_looks(folder, device)
    model = load_model(folder / MODEL)
    see = Live(looks, setting, max(model.config.pad_id, 0))
    return LanguageScorer(model, corpus.words, see, looks.rows_of, device)
