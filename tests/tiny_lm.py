"""A corpus of a few words with vokens, a descriptions of data and stage contexts, for the tests of this folder."""

import csv
import json
import random
from pathlib import Path

import numpy as np

from vlpnb.data.description import CaptionData, CaptionFiles, FolderData, TextData
from vlpnb.data.store import write_store
from vlpnb.stage import StageContext
from vlpnb.text.corpora import TokenCorpus, write_corpus
from vlpnb.text.tokenizers import train_wordpiece

COLOURS = {"banana": "yellow", "lemon": "yellow", "frog": "green", "cactus": "green"}
FREE = ("car", "ball", "box", "kite")
VOKENS = 20


def lines(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    said = []
    for _ in range(count):
        thing, colour = rng.choice(FREE), rng.choice(("yellow", "green", "red"))
        other = rng.choice((*COLOURS, *FREE))
        said.append(f"the {thing} is {colour} . the {other} is near the {colour} {thing} .")
    return said


def make(root: Path, count: int = 400) -> dict[str, Path]:
    """Folders of the stages that come before `pretraining`: data, corpus, vokens; and the data's files."""
    text = root / "text"
    text.mkdir()
    for split, n, seed in (("train", count, 0), ("valid", 40, 1)):
        (text / f"{split}.raw").write_text("".join(f"{line}\n" for line in lines(n, seed)))
    corpus = root / "corpus"
    tokenizer = train_wordpiece(lines(count), 120, corpus / "tokenizer")
    vokens = root / "vokens"
    vokens.mkdir()
    for split in ("train", "valid"):
        write_corpus(text / f"{split}.raw", corpus / f"{split}.hdf5", tokenizer, "wiki103")
        tokens = np.asarray(TokenCorpus(corpus / f"{split}.hdf5").tokens)
        with write_store(vokens / f"{split}.hdf5", "vokens") as file:
            file["vokens"] = (tokens % VOKENS).astype(np.int32)
        (vokens / f"{split}.ids").write_text("".join(f"universe/{i}\n" for i in range(VOKENS)))

    glue = root / "glue"
    rng = random.Random(5)
    for task, header in (("CoLA", None), ("RTE", "index\tsentence1\tsentence2\tlabel")):
        (glue / task).mkdir(parents=True)
        for split, n in (("train", 96), ("dev", 48)):
            rows = [header] if header else []
            for i in range(n):
                good = rng.random() < 0.5
                thing, colour = rng.choice(FREE), rng.choice(("yellow", "green"))
                if task == "CoLA":
                    sentence = f"the {thing} is {colour} ." if good else f"{colour} the is {thing} ."
                    rows.append(f"x\t{int(good)}\t\t{sentence}")
                else:
                    said = colour if good else {"yellow": "green", "green": "yellow"}[colour]
                    label = "entailment" if good else "not_entailment"
                    rows.append(f"{i}\tthe {thing} is {colour} .\tthe {said} {thing} .\t{label}")
            (glue / task / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    knowledge = root / "commonsense"
    knowledge.mkdir()
    items = [
        {
            "prompt": f"the {kind} is [MASK] .",
            "answer": colour,
            "candidates": ["yellow", "green"],
            "kind": kind,
            "attribute": "colour",
        }
        for kind, colour in COLOURS.items()
    ]
    (knowledge / "colour.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    dataset = root / "dataset"
    dataset.mkdir()
    CaptionData(root, CaptionFiles("coco", {}, str(root))).save(dataset)
    TextData(root, "wiki103", (text / "train.raw",), (text / "valid.raw",)).save(dataset)
    FolderData(root, glue, ("CoLA", "RTE")).save(dataset, "glue_data")
    FolderData(root, knowledge).save(dataset, "knowledge")
    data = dict.fromkeys(("captions", "text", "glue_data", "knowledge"), dataset)
    return {"corpus": corpus, "vokens": vokens, **data}


def squad_content(count: int, seed: int, impossible: bool) -> dict:
    """Passages "the car is green ." that are asked for the thing, for the colour, and (v2.0) for what is near."""
    rng, paragraphs = random.Random(seed), []
    for i in range(count):
        thing, colour = rng.choice(FREE), rng.choice(("yellow", "green", "red"))
        text = "." + " ." * rng.randrange(3) + f" the {thing} is {colour} ."
        qas = []
        for j, (question, said) in enumerate((("the ?", thing), ("is ?", colour), ("near ?", None))):
            found = [{"text": said, "answer_start": text.index(said)}] if said else []
            qa = {"id": f"{seed}-{i}-{j}", "question": question, "answers": found}
            if impossible:
                qas.append({**qa, "is_impossible": not found})
            elif found:
                qas.append(qa)
        paragraphs.append({"context": text, "qas": qas})
    return {"version": "v2.0" if impossible else "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}


def add_squad(root: Path, made: dict[str, Path]) -> None:
    """Write SQuAD v1.1 and v2.0 into `root`, and describe them among the inputs."""
    (root / "squad").mkdir()
    for version, impossible in (("1.1", False), ("2.0", True)):
        for split, count, seed in (("train", 96, 0), ("dev", 20, 1)):
            text = json.dumps(squad_content(count, seed, impossible))
            (root / "squad" / f"{split}-v{version}.json").write_text(text)
    FolderData(root, root / "squad").save(made["text"], "squad_data")
    made["squad_data"] = made["text"]


def add_swag(root: Path, made: dict[str, Path]) -> None:
    """Write SWAG into `root`, where the ending in the right order is right, and describe it among the inputs."""
    rng = random.Random(0)
    (root / "swag").mkdir()
    for name, count in (("train", 160), ("val", 48)):
        with (root / "swag" / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sent1", "sent2", *(f"ending{i}" for i in range(4)), "label"])
            for i in range(count):
                thing, colour = rng.choice(FREE), rng.choice(("yellow", "green", "red"))
                endings = [f"{colour} the {thing} .", f". {colour} .", f"the the {thing}", f"{colour} ."]
                endings.insert(i % 4, endings.pop())
                writer.writerow([f"the {thing} .", "it is", *endings, i % 4])
    FolderData(root, root / "swag").save(made["text"], "swag_data")
    made["swag_data"] = made["text"]


def context(config, folder: Path, inputs: dict[str, Path], said: list[str] | None = None) -> StageContext:
    """A stage's context that keeps its lines in `said`."""
    folder.mkdir(parents=True, exist_ok=True)
    return StageContext(config, folder, inputs, "cpu", say=(said if said is not None else []).append)
