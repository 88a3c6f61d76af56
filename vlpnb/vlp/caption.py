"""A picture of one's own in, a caption out: with the captioner of a finished run, and what found its regions.

    from vlpnb.vlp.caption import open_captioner
    captioner = open_captioner(run)
    print(captioner.caption("holiday.jpg").text)

The original has no way to do this: its captioner reads features that another program has made, on other machines. Here
a run knows its extractor, so that a new picture goes through exactly what the pictures of the training went through.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlpnb.data.images import open_rgb
from vlpnb.data.region_store import RegionStore
from vlpnb.downstream.seeds import kept_model
from vlpnb.errors import UserError, did_you_mean
from vlpnb.foundations.distinct_pictures import Picture
from vlpnb.foundations.regions import RegionsConfig, extract_regions, from_pictures, open_extractor
from vlpnb.stage import Run, StageResult
from vlpnb.stage.folder import read_manifest
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vision.extracting import RegionExtractor
from vlpnb.vlp.generating import Caption, VlpDecoder
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.original.weights import load_model
from vlpnb.vlp.pictures import Pictures

STAGES = ("vlp.captioning", "vlp.scst")  # whose models write captions
FROM_FILES = ("obj36", "vlp")  # sources that look at no picture


@dataclass(frozen=True)
class Seen:
    """A picture, the regions that were found in it, and what is said of it."""

    path: Path
    caption: Caption
    boxes: Float[Tensor, "R 4"]
    """Left, top, right, bottom, relative to the picture."""

    @property
    def text(self) -> str:
        """The caption."""
        return self.caption.text


@dataclass(frozen=True)
class Captioner:
    """A fine-tuned captioner, and what it takes to show it a picture."""

    model: VlpForGeneration
    tokenizer: PreTrainedTokenizerFast
    extractor: RegionExtractor
    regions: RegionsConfig
    estimated_sizes: bool
    device: str

    def caption(self, picture: str | Path, width: int = 5, **options: Any) -> Seen:
        """What it says of one picture; see `captions`."""
        return self.captions([picture], width, **options)[0]

    def captions(self, pictures: Sequence[str | Path], width: int = 5, **options: Any) -> list[Seen]:
        """What it says of some pictures.

        Args:
            pictures: files that hold pictures.
            width: beams.
            options: of `VlpDecoder.captions`, such as `length_bonus`, `trace` and `maps`.
        Raises:
            UserError: no picture, a file that is none, or a picture in which no region is found.
        """
        paths = [Path(path).expanduser() for path in pictures]
        if not paths:
            raise UserError("there is no picture to caption; expected one file or several")
        for path in paths:
            open_rgb(path)  # a file that is no picture is named before anything is computed
        with TemporaryDirectory(prefix="vlpnb-caption-") as folder:
            # through a store, so that a picture is rounded as those of the training were
            store = self._look(Path(folder), paths)
            shown = Pictures(store, self.estimated_sizes)
            decoder, found = VlpDecoder(self.model, self.tokenizer), []
            for number, path in enumerate(paths):
                rows = shown.rows([str(number)], "caption")
                given = shown.batch(rows)
                with torch.no_grad():
                    prefix = decoder.see(**{name: value.to(self.device) for name, value in given.items()})
                [caption] = decoder.captions(prefix, width=width, **options)
                found.append(Seen(path, caption, store.batch(rows).boxes[0]))
        return found

    def _look(self, folder: Path, paths: Sequence[Path]) -> RegionStore:
        pictures = [Picture([str(number)], path) for number, path in enumerate(paths)]
        about = self.extractor.provenance
        extract_regions(
            folder, pictures, from_pictures(self.extractor, pictures, 1), "captions",
            lambda objects, attributes: (self.extractor.objects, self.extractor.attributes),
            about, self.regions.probabilities,
        )  # fmt: skip
        store = RegionStore(folder)
        for number, path in enumerate(paths):
            if str(number) not in store:
                raise UserError(f"{path}: no region is found in this picture; expected one with things in it")
        return store


def open_captioner(
    run: Run, stage: str = STAGES[0], seed: int | None = None, variant: str | None = None
) -> Captioner:
    """The captioner of a finished run.

    Args:
        stage: `vlp.captioning`, or `vlp.scst`.
        seed: of the fine-tuning; None: the first that was kept.
        variant: which of several, as metrics name it, such as "scratch"; None: the run's own, else the first.
    Raises:
        UserError: the run has none, kept no model of that seed, or its regions come from files.
    """
    result = _finished(run, stage, variant)
    weights = kept_model(result.folder, seed)
    regions = run.folder / result.manifest["inputs"]["regions"]["folder"]
    about = read_manifest(regions)
    config = RegionsConfig.model_validate(about["config"])
    if config.source in FROM_FILES:
        raise UserError(
            f"{regions}: the regions of run '{run.name}' come from files (source '{config.source}'), so that nothing "
            "finds them in another picture; expected a run with source detector, torchvision or grid"
        )
    inputs = {role: run.folder / made["folder"] for role, made in about["inputs"].items()}
    return Captioner(
        load_model(weights, VlpForGeneration).to(run.device),
        load_tokenizer(weights),
        open_extractor(config, inputs, run.device),
        config,
        result.config.original.estimated_sizes,
        run.device,
    )


def _finished(run: Run, stage: str, variant: str | None) -> StageResult:
    """The result of a stage that captions."""
    if stage not in STAGES:
        raise UserError(f"stage {stage!r} writes no captions{did_you_mean(stage, STAGES)}")
    found = {result.label: result for result in run.results() if result.name == stage}
    if not found:
        raise UserError(
            f"run '{run.name}' has no captioner: no finished stage {stage}. Make one with `vlpnb stage {stage} "
            f"--profile {run.profile.name} --run {run.name}`"
        )
    if variant is None:
        own = run.plan(stage).label
        return found.get(own, next(iter(found.values())))
    if variant not in found:
        raise UserError(f"run '{run.name}' has no {stage} {variant!r}{did_you_mean(variant, found)}")
    return found[variant]


def caption_lines(found: Iterable[Seen]) -> list[str]:
    """The captions as lines: the file's name before each where there are several."""
    found = list(found)
    return [one.text if len(found) == 1 else f"{one.path}: {one.text}" for one in found]
