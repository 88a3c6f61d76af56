"""Files of predictions as the official evaluations take them, to the byte as the original project writes them."""

import json
from collections.abc import Mapping
from pathlib import Path

from vlpnb.files import write_text


def vqa_submission(predictions: Mapping[int | str, str]) -> str:
    """VQA: a list of question_id and answer, in the predictions' order."""
    return _listed([{"question_id": name, "answer": answer} for name, answer in predictions.items()])


def gqa_submission(predictions: Mapping[str, str]) -> str:
    """GQA: a list of questionId and prediction, in the predictions' order."""
    return _listed([{"questionId": str(name), "prediction": answer} for name, answer in predictions.items()])


def nlvr2_submission(predictions: Mapping[str, bool]) -> str:
    """NLVR2: lines `identifier,True`, without a header, in the predictions' order."""
    return "".join(f"{name},{bool(label)}\n" for name, label in predictions.items())


def write_submission(path: Path, text: str) -> Path:
    """Write what one of the functions above made; the file appears whole or not at all."""
    write_text(path, text)
    return path


def _listed(rows: list[dict]) -> str:
    return json.dumps(rows, indent=4, sort_keys=True)
