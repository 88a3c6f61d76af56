"""Regions of pictures of one's own, found as those of a run's pictures were.

Originals read features that another program has made, on other machines. Here a run knows its extractor, so that a new
picture goes through exactly what the pictures of the training went through.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlpnb.data.images import open_rgb
from vlpnb.data.region_store import RegionStore
from vlpnb.errors import UserError
from vlpnb.foundations.distinct_pictures import Picture
from vlpnb.foundations.regions import RegionsConfig, extract_regions, from_pictures, open_extractor
from vlpnb.stage import Run
from vlpnb.stage.folder import read_manifest
from vlpnb.vision.extracting import RegionExtractor

FROM_FILES = ("obj36", "vlp")  # sources that look at no picture


@dataclass(frozen=True)
class RegionFinder:
    """An extractor, and how the stage `regions` has used it."""

    extractor: RegionExtractor
    config: RegionsConfig

    def store(self, folder: Path, paths: Sequence[Path]) -> RegionStore:
        """The regions of some pictures, in a store in `folder`, which rounds as that of the training did; picture i has
        the id `str(i)`. UserError: a file is no picture, or nothing is found in one.
        """
        for path in paths:
            open_rgb(path)  # a file that is no picture is named before anything is computed
        pictures = [Picture([str(number)], path) for number, path in enumerate(paths)]
        extract_regions(
            folder, pictures, from_pictures(self.extractor, pictures, 1), "pictures",
            lambda objects, attributes: (self.extractor.objects, self.extractor.attributes),
            self.extractor.provenance, self.config.probabilities,
        )  # fmt: skip
        store = RegionStore(folder)
        for number, path in enumerate(paths):
            if str(number) not in store:
                raise UserError(f"{path}: no region is found in this picture; expected one with things in it")
        return store


def finder_of(run: Run, regions: Path) -> RegionFinder:
    """What found the regions of a run, of the folder of a finished stage `regions`.

    UserError: they come from files.
    """
    about = read_manifest(regions)
    config = RegionsConfig.model_validate(about["config"])
    if config.source in FROM_FILES:
        raise UserError(
            f"{regions}: the regions of run '{run.name}' come from files (source '{config.source}'), so that nothing "
            "finds them in another picture; expected a run with source detector, torchvision or grid"
        )
    inputs = {role: run.folder / made["folder"] for role, made in about["inputs"].items()}
    return RegionFinder(open_extractor(config, inputs, run.device), config)
