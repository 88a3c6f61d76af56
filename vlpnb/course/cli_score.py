"""`vlpnb score`: predictions that lie in a file, scored apart from what made them."""

from pathlib import Path
from typing import Annotated

import typer

score = typer.Typer(help="Score files of predictions.", no_args_is_help=True)


@score.callback()
def _commands() -> None:
    """Keeps `captions` a command of its own while it is the only one."""


@score.command("captions")
def score_captions(
    results: Annotated[
        Path, typer.Argument(help='The official result file: [{"image_id": …, "caption": …}].')
    ],
    references: Annotated[Path, typer.Option(help="COCO's captions: {annotations: [{image_id, caption}]}.")],
    tokens: Annotated[
        str,
        typer.Option(
            help="own: without Java, not comparable with published scores; ptb: the literature's words, with "
            "METEOR and SPICE where they run."
        ),
    ] = "own",
    frequencies: Annotated[
        Path | None,
        typer.Option(
            help="Document frequencies of CIDEr, stored from a training split (default: of REFERENCES)."
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Score the pictures that both files have, and say how many.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write `overall` and `imgToEval` to this JSON file.")
    ] = None,
) -> None:
    """BLEU, ROUGE-L and CIDEr of captions; METEOR and SPICE where Java is."""
    from vlpnb.data.submissions import read_caption_results
    from vlpnb.metrics import captions as module
    from vlpnb.metrics.cider import Frequencies

    said, known = read_caption_results(results), module.read_references(references)
    stored = Frequencies.load(frequencies) if frequencies is not None else None
    scores = module.evaluate(said, known, tokens, frequencies=stored, partial=partial)
    if out is not None:
        module.write_scores(out, scores, said)
    comparable = "" if scores.tokens == "ptb" else "; not comparable with published scores"
    print(f"tokens = {scores.tokens}{comparable}")
    for name, value in scores.overall.items():
        print(f"{name} = {value:.6g}")
    for name, reason in scores.skipped.items():
        print(f"{name} skipped: {reason}")
    for missing, what in (
        (known.keys() - said.keys(), "captions"),
        (said.keys() - known.keys(), "references"),
    ):
        if missing:
            print(f"{len(missing):,} pictures left out: they have no {what}")
