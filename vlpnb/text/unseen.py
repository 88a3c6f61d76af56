"""Text for a model that is to caption photographs later: without the sentences about these.

Text alone is where UniLM, from which VLP starts, learned. Collections name the same photograph differently.
"""

from collections.abc import Iterator
from pathlib import Path

from vlpnb.data.description import CaptionData, TextData
from vlpnb.data.evaluated import photo_key
from vlpnb.data.text_files import lines_of
from vlpnb.errors import UserError
from vlpnb.text.lines import keeps


def held_out(data: CaptionData) -> set[str]:
    """The photographs to be captioned: the `photo_key` of those of every split but `train`."""
    splits = (name for name in data.splits.annotations if name != "train")
    return {photo_key(image.image_id) for split in splits for image in data.annotated(split)}


def unseen_sentences(text: TextData, split: str, unseen: set[str], most: int | None = None) -> Iterator[str]:
    """The lines of some text, at most `most`, but those about `unseen` photographs (`photo_key`).

    Its lists of images say what a line is about.

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
            if not keeps(line, text.rules) or (about is not None and photo_key(about[count - 1]) in unseen):
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
