"""Files of predictions as the official evaluations take them, to the byte as the original project writes them."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

from vlpnb.data.captions import CaptionedImage
from vlpnb.data.fields import as_list, id_field, text_field
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError
from vlpnb.files import write_text

COCO_ID = re.compile("COCO_[A-Za-z0-9]+_([0-9]+)")


def vqa_submission(predictions: Mapping[int | str, str]) -> str:
    """VQA: a list of question_id and answer, in the predictions' order."""
    return _listed([{"question_id": name, "answer": answer} for name, answer in predictions.items()])


def gqa_submission(predictions: Mapping[str, str]) -> str:
    """GQA: a list of questionId and prediction, in the predictions' order."""
    return _listed([{"questionId": str(name), "prediction": answer} for name, answer in predictions.items()])


def nlvr2_submission(predictions: Mapping[str, bool]) -> str:
    """NLVR2: lines `identifier,True`, without a header, in the predictions' order."""
    return "".join(f"{name},{bool(label)}\n" for name, label in predictions.items())


def official_id(image: CaptionedImage) -> int | str:
    """How official evaluations of captions call a picture: the number that its annotations say, or its name holds.

    COCO's are the last part of `COCO_val2014_000000000042`, Flickr30k's the file's stem; a name that is no number, as
    in Flickr8k, stands for itself.
    """
    if image.number is not None:
        return image.number
    coco = COCO_ID.fullmatch(PurePath(image.image_id).name)
    if coco:
        return int(coco[1])
    return int(image.image_id) if image.image_id.isascii() and image.image_id.isdigit() else image.image_id


def caption_results(captions: Mapping[str, str], images: Iterable[CaptionedImage] = ()) -> str:
    """COCO's result file: a list of image_id and caption, in the captions' order.

    Args:
        captions: image id → caption.
        images: the pictures with what their annotations call them; others are called by their names (`official_id`).
    Raises:
        UserError: two pictures have one official id.
    """
    known = {image.image_id: image for image in images}
    rows: dict[int | str, tuple[str, str]] = {}
    for name, caption in captions.items():
        number = official_id(known.get(name, CaptionedImage(name, Path(), ())))
        if number in rows:
            raise UserError(
                f"pictures '{rows[number][0]}' and '{name}' have one official id, {number}; expected one each. Give "
                "annotations that number them, or rename one"
            )
        rows[number] = name, caption
    return json.dumps([{"image_id": number, "caption": text} for number, (_, text) in rows.items()])


def read_caption_results(path: Path) -> dict[int | str, str]:
    """Official id → caption of a result file. UserError names the file, the entry, and an id that comes twice."""
    found: dict[int | str, str] = {}
    for i, row in enumerate(as_list(read_json(path, "a list of {image_id, caption}"), f"{path}")):
        where = f"{path}: [{i}]"
        number = id_field(row, "image_id", where)
        if number in found:
            raise UserError(f"{where}: image_id {number} has a caption already; expected one a picture.")
        found[number] = text_field(row, "caption", where)
    if not found:
        raise UserError(f"{path}: holds no caption; expected a list of {{image_id, caption}}.")
    return found


def write_submission(path: Path, text: str) -> Path:
    """Write what one of the functions above made; the file appears whole or not at all."""
    write_text(path, text)
    return path


def _listed(rows: list[dict]) -> str:
    return json.dumps(rows, indent=4, sort_keys=True)
