"""`vlpnb data`: the public datasets, listed, fetched, checked, and made of raw text."""

from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(help="Public datasets: list, fetch, check.", no_args_is_help=True)


@data.command("list")
def data_list(
    system: Annotated[
        str | None, typer.Option(help="Those of one paper: vokenization, lxmert, vlp, valm or cclm.")
    ] = None,
) -> None:
    """Name the public datasets: how to get them, size, the systems whose papers use them, what for, licence."""
    from vlpnb.course.pages import read_papers
    from vlpnb.data.catalog import DATASETS
    from vlpnb.errors import UserError, did_you_mean

    if system is not None and system not in read_papers():
        raise UserError(f"--system {system}: no such system{did_you_mean(system, read_papers())}")
    width = max(map(len, DATASETS))
    for name, entry in DATASETS.items():
        if system is None or system in entry.systems:
            how = "fetch  " if entry.remotes else "by hand"
            used = ", ".join(entry.systems) or "course"
            print(
                f"{name:<{width}}  {how} {_size(entry.megabytes):>7}  {used}: {entry.what} [{entry.licence}]"
            )


def _size(megabytes: float | None) -> str:
    if megabytes is None:
        return "?"
    return f"{megabytes / 1000:,.0f} GB" if megabytes >= 9500 else f"{megabytes:,.0f} MB"


@data.command("fetch")
def data_fetch(
    name: str, folder: Annotated[Path | None, typer.Option(help="Default: NAME in the data folder.")] = None
) -> None:
    """Download a dataset, checking hashes and continuing what broke off."""
    from vlpnb.course import data_root
    from vlpnb.data.fetching import fetch

    for path in fetch(name, folder or data_root() / name):
        print(path)


@data.command("check")
def data_check(
    name: str, folder: Annotated[Path | None, typer.Option(help="Default: NAME in the data folder.")] = None
) -> None:
    """Say what is missing or wrong in a folder that should hold a dataset."""
    from vlpnb.course import data_root
    from vlpnb.data.fetching import check_folder

    target = folder or data_root() / name
    problems = check_folder(target, name)
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)
    print(f"{target}: complete")


@data.command("wikipedia")
def data_wikipedia(
    source: Annotated[
        Path, typer.Argument(help="The output of WikiExtractor: a file, or a folder of files.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where en.train.raw, en.valid.raw and en.test.raw go.")],
    tokenised: Annotated[
        bool,
        typer.Option(
            "--tokenised/--untokenised",
            help="Words separated as Moses does; untokenised for RoBERTa's vocabulary.",
        ),
    ] = True,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Turn extracted Wikipedia articles into the three text files of the paper's large corpus."""
    from vlpnb.text.wikipedia import prepare_wikipedia

    counts = prepare_wikipedia(source, folder, tokenised=tokenised, workers=workers)
    print(f"{folder}: {', '.join(f'{lines:,} {split} lines' for split, lines in counts.items())}")


@data.command("labels")
def data_labels(
    folder: Annotated[Path, typer.Argument(help="Where <split>.json and the answers' files go.")],
    split: Annotated[
        list[str],
        typer.Option(
            help="NAME=QUESTIONS,ANNOTATIONS,IMAGES, several times: VQA v2's pair of files, and what a picture's "
            "number stands for, such as COCO_train2014_{:012d}. A test set has no annotations: test=QUESTIONS,,IMAGES."
        ),
    ],
    least: Annotated[
        int, typer.Option(min=1, help="Questions that an answer must be most people's answer to.")
    ] = 9,
    answers: Annotated[
        Path | None, typer.Option(help="Take these answers: the trainval_label2ans.json of a checkpoint.")
    ] = None,
) -> None:
    """Make LXMERT's files of questions with soft targets from VQA's raw annotations."""
    from vlpnb.data.vqa import numbered_picture
    from vlpnb.data.vqa_labels import SplitFiles, build_labels
    from vlpnb.errors import UserError

    splits = {}
    for entry in split:
        name, equals, places = entry.partition("=")
        questions, annotations, images, *more = [*places.split(","), "", ""]
        if not equals or not name or Path(name).name != name or not questions or any(more):
            raise UserError(
                f"--split {entry}: expected NAME=QUESTIONS,ANNOTATIONS,IMAGES (the last two may be empty), NAME "
                "without folders"
            )
        if name in splits:
            raise UserError(f"--split {entry}: '{name}' is named twice; expected each split once")
        numbered_picture(images or "{}", 1)  # a wrong pattern is told before the files are read
        splits[name] = SplitFiles(Path(questions), Path(annotations) if annotations else None, images or "{}")
    counts = build_labels(splits, folder, least, answers)
    print(f"{folder}: {', '.join(f'{count:,} {what}' for what, count in counts.items())}")
