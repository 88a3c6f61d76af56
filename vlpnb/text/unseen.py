"""Text for a model that is to caption photographs later: without the sentences about these.

Text alone is where UniLM, from which VLP starts, learned. Flickr30k calls a photograph of Flickr8k by another name.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from vlpnb.data.description import CaptionData, TextData
from vlpnb.data.text_files import lines_of
from vlpnb.errors import UserError
from vlpnb.text.lines import keeps

FLICKR8K = re.compile(r"(\d+)_[0-9a-f]+")  # Flickr30k calls the same photograph by the number alone


def held_out(data: CaptionData) -> set[str]:
    """The photographs to be captioned: ids of the splits but `train`, and Flickr30k's names of Flickr8k's."""
    found = set()
    for split in (name for name in data.splits.annotations if name != "train"):
        for image in data.annotated(split):
            same = FLICKR8K.fullmatch(image.image_id)
            found |= {image.image_id, same[1]} if same else {image.image_id}
    return found


def unseen_sentences(text: TextData, split: str, unseen: set[str], most: int | None = None) -> Iterator[str]:
    """The lines of some text, but those about `unseen` photographs, which its lists of images name; `most` of them.

    UserError where a list does not go with its file.
    """
    lists = text.images if split == "train" else ()
    given = 0
    for number, path in enumerate(getattr(text, split)):
        about = (
            [Path(line.text.strip()).stem for line in lines_of(lists[number], "images")] if lists else None
        )
        count = 0
        for count, line in lines_of(path, "sentences, one a line"):
            if about is not None and count > len(about):
                break
            if not keeps(line, text.rules) or (about is not None and about[count - 1] in unseen):
                continue
            if given == most:
                return
            given += 1
            yield line
        if about is not None and count != len(about):
            raise UserError(
                f"{path}: has {'more than ' if count > len(about) else ''}{min(count, len(about)):,} lines, and "
                f"{lists[number]} names {len(about):,} images; expected an image for each line"
            )
