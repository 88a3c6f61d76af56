"""A store of regions written as the files that LXMERT's own code reads: an obj36 TSV and the lists of classes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vlpnb.data.obj36 import write_obj36
from vlpnb.data.region_store import RegionStore
from vlpnb.data.regions import PictureRegions
from vlpnb.files import write_text


def export_regions(source: Path, target: Path) -> list[Path]:
    """Write `regions_obj36.tsv`, `objects_vocab.txt` and `attributes_vocab.txt` from the folder of stage `regions`.

    A line for every id of a picture, because other code looks for it under that id. Features have the half
    precision of the store. The lists are left out where the regions have no classes.
    """
    store = RegionStore(source)

    def lines() -> Iterator[PictureRegions]:
        for name, row in zip(store.ids, store.rows(store.ids), strict=True):
            yield replace(store.picture(int(row)), image_id=name)

    made = [Path(target) / "regions_obj36.tsv"]
    write_obj36(made[0], lines())
    for file, names in (("objects_vocab.txt", store.objects), ("attributes_vocab.txt", store.attributes)):
        if names:
            made.append(Path(target) / file)
            write_text(made[-1], "".join(f"{name}\n" for name in names))
    return made
