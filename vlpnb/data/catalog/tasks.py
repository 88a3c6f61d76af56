"""Tasks of language, and questions, statements and captions in several languages about pictures."""

from collections.abc import Callable
from pathlib import Path

from vlpnb.data.catalog.entry import Check, Expected, PublicDataset, json_file, json_lines, one, text
from vlpnb.data.easy_vqa import read_easy_vqa
from vlpnb.data.glue import GLUE_TASKS, read_glue
from vlpnb.data.iglue import read_captions_by_picture, read_entailment, read_pair_rows
from vlpnb.data.labelled import read_labelled
from vlpnb.data.nlvr import read_nlvr
from vlpnb.data.squad import read_squad_file
from vlpnb.data.swag import read_swag
from vlpnb.data.vqa import read_lxmert_questions
from vlpnb.data.xgqa import read_xgqa

_GLUE = "https://dl.fbaipublicfiles.com/glue/data"
_SENTEVAL = "https://dl.fbaipublicfiles.com/senteval/senteval_data"
_SQUAD = "https://rajpurkar.github.io/SQuAD-explorer/dataset"
_SWAG = "https://raw.githubusercontent.com/rowanz/swagaf/master/data"
_NEWS = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
_LXMERT = ("https://nlp.cs.unc.edu/data/lxmert_data", "https://nlp1.cs.unc.edu/data/lxmert_data")
_VQA = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa"
_LXMERT_CODE = "https://raw.githubusercontent.com/airsplay/lxmert/master"
_LXMERT_QUESTIONS = tuple(f"vqa/{split}.json" for split in ("train", "nominival", "minival", "test")) + tuple(
    f"gqa/{split}.json" for split in ("train", "valid", "testdev")
)
_LXMERT_ANSWERS = ("lxmert/all_ans.json", "vqa/trainval_label2ans.json", "gqa/trainval_label2ans.json")
_IGLUE: tuple[tuple[str, str, Callable], ...] = (  # a test file of each task, as the clone has it
    ("XVNLI/annotations/ar/test.jsonl", "XVNLI", read_entailment),
    ("xGQA/annotations/few_shot/de/test.json", "xGQA", read_xgqa),
    ("marvl/zero_shot/annotations/marvl-id.jsonl", "MaRVL", read_pair_rows),
    ("xFlickrCO/annotations/de/test.jsonl", "xFlickr&CO", read_captions_by_picture),
    ("wit/annotations/test_ar.jsonl", "WIT", json_lines),
)


def _glue(name: str, split: str) -> Check:
    return lambda path: read_glue(path.parents[1], name, split)


def _glue_layout() -> tuple[Expected, ...]:
    rows = []
    for task in GLUE_TASKS.values():
        for split in ("train", "valid"):
            if not (task.name == "MNLI-MM" and split == "train"):
                path = f"{task.folder}/{task.file(split)}"
                rows.append(Expected(path, f"the {split} split of {task.name}", _glue(task.name, split)))
    return tuple(rows)


def _swag(split: str) -> Check:
    return lambda path: read_swag(path.parent, split)


def _classes(number: int) -> Check:
    return lambda path: read_labelled(path, number)


def _squad(path: Path) -> object:
    return read_squad_file(path)


TASKS = (
    PublicDataset(
        "glue",
        "GLUE: nine tasks on which pre-trained language models are compared",
        "each task its own; see gluebenchmark.com/tasks (QQP: Quora terms, non-commercial)",
        (
            one(
                f"{_GLUE}/CoLA.zip",
                sha256="f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff",
                megabytes=0.4,
            ),
            one(f"{_GLUE}/SST-2.zip", megabytes=7.4),
            one(
                f"{_SENTEVAL}/msr_paraphrase_train.txt",
                name="MRPC/msr_paraphrase_train.txt",
                sha256="60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89",
                megabytes=1.0,
            ),
            one(
                f"{_SENTEVAL}/msr_paraphrase_test.txt",
                name="MRPC/msr_paraphrase_test.txt",
                sha256="a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784",
                megabytes=0.4,
            ),
            one(
                f"{_GLUE}/QQP-clean.zip",
                sha256="40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0",
                megabytes=41.7,
            ),
            one(f"{_GLUE}/STS-B.zip", megabytes=0.8),
            one(f"{_GLUE}/MNLI.zip", megabytes=312.8),
            one(
                f"{_GLUE}/QNLIv2.zip",
                sha256="e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5",
                megabytes=10.6,
            ),
            one(f"{_GLUE}/RTE.zip", megabytes=0.7),
            one(
                f"{_GLUE}/WNLI.zip",
                sha256="ae0e8e4d16f4d46d4a0a566ec7ecceccfd3fbfaa4a7a4b4e02848c0f2561ac46",
                megabytes=0.03,
            ),
        ),
        _glue_layout(),
        "MRPC comes unsplit: its dev.tsv is the part of msr_paraphrase_train.txt that the benchmark's "
        "dev_ids.tsv lists, its train.tsv the rest.",
        systems=("vokenization", "valm"),
    ),
    PublicDataset(
        "squad",
        "SQuAD 1.1 and 2.0: answers as spans of a paragraph",
        "CC BY-SA 4.0",
        tuple(
            one(f"{_SQUAD}/{split}-v{version}.json", megabytes=size)
            for version, split, size in (
                ("1.1", "train", 30),
                ("1.1", "dev", 5),
                ("2.0", "train", 42),
                ("2.0", "dev", 4),
            )
        ),
        tuple(
            Expected(f"{split}-v{version}.json", "paragraphs with questions", _squad)
            for version in ("1.1", "2.0")
            for split in ("train", "dev")
        ),
        systems=("vokenization",),
    ),
    PublicDataset(
        "swag",
        "SWAG: which of four endings continues a sentence",
        "MIT",
        tuple(one(f"{_SWAG}/{name}.csv") for name in ("train", "val", "test")),
        (
            Expected("train.csv", "73,546 examples", _swag("train")),
            Expected("val.csv", "20,006 examples", _swag("valid")),
            Expected("test.csv", "examples without labels", _swag("test"), optional=True),
        ),
        systems=("vokenization",),
        size=37,
    ),
    PublicDataset(
        "ag_news",
        "AG News: four kinds of news, asked zero-shot",
        "non-commercial use, naming the source",
        (one(f"{_NEWS}/test.csv", megabytes=1.9),),
        (Expected("test.csv", "7,600 texts with their class", _classes(4)),),
        "--set valm.language_tasks.classes.news=ag_news/test.csv, with `folder` the folder above it.",
        ("valm",),
    ),
    PublicDataset(
        "dbpedia",
        "DBPedia: fourteen kinds of encyclopedia articles, asked zero-shot",
        "CC BY-SA 3.0 and GFDL",
        (one("https://s3.amazonaws.com/fast-ai-nlp/dbpedia_csv.tgz", megabytes=68),),
        (
            Expected(
                "test.csv", "70,000 texts with their class", _classes(14), also=("dbpedia_csv/test.csv",)
            ),
        ),
        systems=("valm",),
    ),
    PublicDataset(
        "vqa2",
        "VQA v2 questions and ten answers each, on COCO photographs",
        "CC BY 4.0",
        tuple(
            one(f"{_VQA}/v2_{kind}_{split}_mscoco.zip")
            for kind in ("Questions", "Annotations")
            for split in ("Train", "Val")
        ),
        tuple(
            Expected(name.format(split), "questions or answers", json_file)
            for split in ("train", "val")
            for name in (
                "v2_OpenEnded_mscoco_{}2014_questions.json",
                "v2_mscoco_{}2014_annotations.json",
            )
        ),
        systems=("lxmert", "vlp"),
    ),
    PublicDataset(
        "lxmert_questions",
        "LXMERT's form of VQA v2 and GQA, its answer table, and the tasks' answers by class",
        "MIT (the project); questions CC BY 4.0",
        (
            *(one(*(f"{base}/{name}" for base in _LXMERT), name=name) for name in _LXMERT_QUESTIONS),
            *(one(f"{_LXMERT_CODE}/data/{name}", name=name) for name in _LXMERT_ANSWERS),
        ),
        (
            *(
                Expected(name, "questions with scored answers", read_lxmert_questions)
                for name in _LXMERT_QUESTIONS
            ),
            *(Expected(name, "the table, or a task's answers", json_file) for name in _LXMERT_ANSWERS),
        ),
        systems=("lxmert",),
    ),
    PublicDataset(
        "gqa",
        "GQA: compositional questions on Visual Genome photographs",
        "CC BY 4.0",
        (one("https://downloads.cs.stanford.edu/nlp/data/gqa/questions1.2.zip", megabytes=1400),),
        tuple(
            Expected(f"{s}_balanced_questions.json", f"the {s} questions", json_file)
            for s in ("train", "val", "testdev")
        ),
        systems=("lxmert", "cclm"),
    ),
    PublicDataset(
        "gqa_images",
        "GQA's photographs, of Visual Genome and COCO: for models that read pixels",
        "CC BY 4.0; photographs under the Flickr terms",
        (one("https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip", megabytes=20300),),
        (Expected("images", "the 148,854 photographs", pictures=148854),),
        systems=("lxmert", "cclm"),
    ),
    PublicDataset(
        "nlvr2",
        "NLVR2: is the sentence true of two photographs?",
        "CC BY 4.0 for sentences and labels; photographs on request",
        tuple(
            one(f"https://raw.githubusercontent.com/lil-lab/nlvr/master/nlvr2/data/{s}.json")
            for s in ("train", "dev", "test1")
        ),
        tuple(Expected(f"{s}.json", f"the {s} statements", json_lines) for s in ("train", "dev", "test1")),
        systems=("lxmert", "cclm"),
    ),
    PublicDataset(
        "coco_languages",
        "COCO's captions in Japanese (STAIR) and Chinese (COCO-CN): retrieval across languages",
        "STAIR CC BY 4.0; COCO-CN for research, on request",
        (),
        (
            Expected("stair_captions_v1.2_train.json", "Japanese captions", json_file),
            Expected("stair_captions_v1.2_val.json", "Japanese captions", json_file),
            Expected("imageid.human-written-caption.txt", "Chinese captions", text, optional=True),
        ),
        "STAIR-captions is a repository of stair-lab-cit; COCO-CN's authors send a link after a request.",
        ("cclm",),
    ),
    PublicDataset(
        "iglue",
        "IGLUE: XVNLI, xGQA, MaRVL, xFlickr&CO and WIT, asked in twenty languages",
        "MIT (the benchmark); MaRVL, xGQA CC BY 4.0, WIT CC BY-SA 3.0, SNLI CC BY-SA 4.0, Flickr30k and COCO as there",
        (),
        tuple(
            Expected(f"datasets/{path}", f"the test rows of {name}", read, also=(path,))
            for path, name, read in _IGLUE
        ),
        "git clone https://github.com/e-bug/iglue, and unpack the archives in its folders. Pictures: those of "
        "flickr30k, coco2014, gqa_images and nlvr2, and of marvl_images and wit.",
        ("cclm",),
    ),
    PublicDataset(
        "marvl_images",
        "MaRVL's photographs, by language and concept",
        "CC BY 4.0 for sentences; photographs under their owners' terms",
        (),
        tuple(Expected(f"{name}/images", "a folder a concept") for name in ("id", "sw", "ta", "tr", "zh")),
        "The benchmark's page names where they are given out.",
        ("cclm",),
    ),
    PublicDataset(
        "wit",
        "WIT's pixels: the pictures of Wikipedia that its captions name by their address",
        "CC BY-SA 3.0; pictures as Wikimedia Commons says of each",
        (),
        (
            Expected(
                "image_pixels",
                "files of addresses and pictures in base64, compressed",
                also=("image_data_test",),
            ),
        ),
        "Wikimedia gives them out for research (image_data_train, image_data_test); rows that IGLUE names are read.",
        ("cclm",),
    ),
    PublicDataset(
        "snli_ve",
        "e-SNLI-VE: does a photograph of Flickr30k entail a sentence? XVNLI's training rows in another form",
        "none stated; SNLI CC BY-SA 4.0, e-SNLI MIT",
        (),
        (
            Expected("esnlive_train.csv", "training rows", text, optional=True),
            Expected("esnlive_dev.csv", "validation rows", text),
            Expected("esnlive_test.csv", "test rows", text),
        ),
        "Files of the project maximek3/e-ViL.",
        ("cclm",),
    ),
    PublicDataset(
        "easy_vqa",
        "easy-VQA: questions about drawn shapes, for the profile `photos`",
        "MIT",
        (),
        (
            Expected("train", "questions and pictures", read_easy_vqa),
            Expected("test", "the same", read_easy_vqa),
        ),
        "The package easy-vqa of the package index holds them.",
    ),
    PublicDataset(
        "nlvr",
        "NLVR, the first: statements about drawn boxes, for the profile `photos`",
        "CC BY 4.0",
        (),
        tuple(Expected(f"{s}/{s}.json", "statements", read_nlvr) for s in ("dev", "test")),
        "Folders of the repository lil-lab/nlvr, with their pictures.",
    ),
)
