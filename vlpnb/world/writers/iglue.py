"""IGLUE's five sets made of the world's scenes, in the layouts of the benchmark's files.

    XVNLI/annotations/<language>/…             train and dev (English), test, train_<pictures> (few-shot)
    XVNLI/annotations_machine-translate/…      test sets in other English words, as a translator would give them back
    gqa/annotations/…                          English questions to train on, and the answers
    xGQA/annotations/few_shot/<language>/…     dev, test, train_<pictures>; the questions translated, answers English
    nlvr2/annotations/…, marvl/…               statements about two pictures: English, and the four other languages
    flickr30k/annotations/…, xFlickrCO/…       captions to train on, and one of each test picture in every language
    wit/annotations/…, wit/image_pixels/…      captions of addresses, and the pictures of (most of) them in base64
    curtains/<split>/<image id>_curtain.png    the curtained pictures of XVNLI

Test sets are translations of each other, row by row. Few-shot sets are made of the split `universe`, whose pictures are
in no other set. What trips readers up in the benchmark is here on purpose: rows of XVNLI that nobody decided ("-"), an
empty caption in German and in Indonesian, ids that are texts and numbers, addresses without pixels, a concept before
the names of few-shot pictures. Everything is written below a folder of its own and leaves the world as it was; every
file is a pure function of the sizes and of the world.
"""

from collections.abc import Callable
from pathlib import Path

from vlpnb.world.writers.disk import write
from vlpnb.world.writers.iglue_files import iglue_files
from vlpnb.world.writers.iglue_sets import IglueSets, IglueSizes

__all__ = ["IglueSizes", "write_iglue"]


def write_iglue(
    sizes: IglueSizes,
    world: Path,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the sets into `folder`, or what of them is missing, from the world in `world`.

    `progress` is called with the number of finished and of all files.
    """
    made = IglueSets(sizes, Path(world))
    files = dict(iglue_files(made))
    jobs = {name: make for name, make in files.items() if not (folder / name).exists()}
    curtained = made.curtained()
    drawn = {name: h for name, h in curtained.items() if not (folder / name).exists()}
    total = len(jobs) + len(drawn)
    for done, (name, make) in enumerate(jobs.items(), start=1):
        write(folder / name, make())
        progress(done, total)
    for done, (name, hypothesis) in enumerate(drawn.items(), start=len(jobs) + 1):
        write(folder / name, made.curtained_picture(hypothesis))
        progress(done, total)
