"""A picture of one's own in, a caption out: with the captioner of a finished run, and what found its regions.

    from vlpnb.vlp.caption import open_captioner
    captioner = open_captioner(run)
    print(captioner.caption("holiday.jpg").text)

The original has no way to do this: its captioner reads features that another program has made. Here a run knows what
found them (`vlpnb.foundations.own_pictures`).
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

from vlpnb.downstream.seeds import kept_model
from vlpnb.errors import UserError, did_you_mean
from vlpnb.foundations.own_pictures import RegionFinder, finder_of
from vlpnb.stage import Run
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vlp.generating import Caption, VlpDecoder
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.original.weights import load_model
from vlpnb.vlp.pictures import Pictures

STAGES = ("vlp.captioning", "vlp.scst")  # whose models write captions


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
    finder: RegionFinder
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
        with TemporaryDirectory(prefix="vlpnb-caption-") as folder:
            store = self.finder.store(Path(folder), paths)
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
    if stage not in STAGES:
        raise UserError(f"stage {stage!r} writes no captions{did_you_mean(stage, STAGES)}")
    result = run.one_of(stage, variant, "captioner")
    weights = kept_model(result.folder, seed)
    regions = run.folder / result.manifest["inputs"]["regions"]["folder"]
    return Captioner(
        load_model(weights, VlpForGeneration).to(run.device),
        load_tokenizer(weights),
        finder_of(run, regions),
        result.config.original.estimated_sizes,
        run.device,
    )


def caption_lines(found: Iterable[Seen]) -> list[str]:
    """The captions as lines: the file's name before each where there are several."""
    found = list(found)
    return [one.text if len(found) == 1 else f"{one.path}: {one.text}" for one in found]
