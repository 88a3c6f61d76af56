"""The public datasets of the course: what they are, where they live, and how a folder that holds them looks.

Nothing is fetched unless asked for (`fetching.py`). Hashes are given where copies of the file agree on them;
where none is known the table says None, and `fetch` reports the hash it found so that it can be written down.
Sizes are for planning disk space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vlpnb.data.captions import FLICKR_CAPTIONS, CaptionFormat, read_captions
from vlpnb.data.flickr_tables import read_flickr_lines
from vlpnb.data.glue import GLUE_TASKS, read_glue
from vlpnb.data.images import IMAGE_SUFFIXES
from vlpnb.data.text_files import lines_of, read_json, read_json_lines
from vlpnb.data.vqa import read_lxmert_questions
from vlpnb.errors import UserError, did_you_mean

Check = Callable[[Path], object]


@dataclass(frozen=True)
class Remote:
    """One file to download: `urls` in order of preference, `name` inside the dataset's folder."""

    urls: tuple[str, ...]
    name: str
    sha256: str | None = None
    megabytes: float | None = None
    unpack: bool = False

    @property
    def verified(self) -> str:
        """ "sha256 …", or that none is known."""
        return f"sha256 {self.sha256[:12]}…" if self.sha256 else "not verified"


@dataclass(frozen=True)
class Expected:
    """One path of the finished folder: what it holds, a reader that must accept it, or a number of pictures."""

    path: str
    holds: str
    read: Check | None = None
    pictures: int = 0
    suffixes: frozenset[str] = IMAGE_SUFFIXES  # of the pictures
    optional: bool = False
    also: tuple[str, ...] = ()  # other names under which people have it

    def place(self, folder: Path) -> Path:
        """Where it lies in the folder: under the first of its names that exists, else under its own."""
        found = (folder / name for name in (self.path, *self.also) if (folder / name).exists())
        return next(found, folder / self.path)


@dataclass(frozen=True)
class PublicDataset:
    """A dataset: what for, under which licence, which files, and the layout of its folder."""

    name: str
    what: str
    licence: str
    remotes: tuple[Remote, ...]
    layout: tuple[Expected, ...]
    note: str = ""


def _one(*urls: str, name: str = "", **more) -> Remote:
    """One file under each of the addresses, unpacked if it is a zip."""
    return Remote(urls, name or urls[0].rpartition("/")[2], unpack=urls[0].endswith(".zip"), **more)


def _json(path: Path) -> object:
    return read_json(path, "JSON")


def _text(path: Path) -> object:
    return next(iter(lines_of(path, "text")))


def _json_lines(path: Path) -> object:
    return next(read_json_lines(path, "JSON lines"))


def _flickr(path: Path) -> object:
    return list(read_flickr_lines(path))


def _captions(format: CaptionFormat) -> Check:
    return lambda path: read_captions(format, path, path.parent)


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


def _wikitext(number: int, what: str, **archive) -> PublicDataset:
    name = f"wikitext-{number}-raw"
    return PublicDataset(
        f"wikitext{number}",
        what,
        "CC BY-SA 3.0",
        (_one(*(f"{base}/{name}-v1.zip" for base in _WIKITEXT), **archive),),
        tuple(Expected(f"{name}/wiki.{s}.raw", f"the {s} text", _text) for s in ("train", "valid", "test")),
    )


_COCO = "http://images.cocodataset.org"
_GLUE = "https://dl.fbaipublicfiles.com/glue/data"
_SENTEVAL = "https://dl.fbaipublicfiles.com/senteval/senteval_data"
_LXMERT = (
    "https://nlp.cs.unc.edu/data/lxmert_data/lxmert",
    "https://nlp1.cs.unc.edu/data/lxmert_data/lxmert",
)
_VG = "https://cs.stanford.edu/people/rak248/VG_100K_2"
_VQA = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa"
_WIKITEXT = ("https://wikitext.smerity.com", "https://s3.amazonaws.com/research.metamind.io/wikitext")
_LXMERT_CODE = "https://raw.githubusercontent.com/airsplay/lxmert/master"
_LXMERT_QUESTIONS = tuple(f"vqa/{split}.json" for split in ("train", "nominival", "minival", "test")) + tuple(
    f"gqa/{split}.json" for split in ("train", "valid", "testdev")
)
_LXMERT_ANSWERS = ("lxmert/all_ans.json", "vqa/trainval_label2ans.json", "gqa/trainval_label2ans.json")
_LXMERT_FILES = ("mscoco_train", "mscoco_nominival", "mscoco_minival", "vgnococo")

DATASETS: Mapping[str, PublicDataset] = MappingProxyType(
    {
        dataset.name: dataset
        for dataset in (
            PublicDataset(
                "coco2014",
                "COCO 2014 photographs and captions: training of the token-image matcher",
                "annotations CC BY 4.0; photographs under the Flickr terms",
                (
                    _one(f"{_COCO}/zips/train2014.zip", name="images/train2014.zip", megabytes=13511),
                    _one(f"{_COCO}/zips/val2014.zip", name="images/val2014.zip", megabytes=6645),
                    _one(f"{_COCO}/annotations/annotations_trainval2014.zip", megabytes=253),
                ),
                (
                    Expected("images/train2014", "the 82,783 training photographs", pictures=82783),
                    Expected("images/val2014", "the 40,504 validation photographs", pictures=40504),
                    Expected("annotations/captions_train2014.json", "captions", _captions("coco")),
                    Expected("annotations/captions_val2014.json", "captions", _captions("coco")),
                ),
            ),
            PublicDataset(
                "karpathy",
                "Karpathy's splits of COCO, Flickr8k and Flickr30k with their captions",
                "captions as in each dataset; no licence stated for the splits",
                (
                    _one(
                        "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
                        megabytes=37,
                    ),
                ),
                tuple(
                    Expected(f"dataset_{name}.json", f"captions and splits of {name}", _captions("karpathy"))
                    for name in ("coco", "flickr8k", "flickr30k")
                ),
            ),
            PublicDataset(
                "flickr8k",
                "Flickr8k photographs with five captions each",
                "non-commercial research and education only; photographs under the Flickr terms",
                (),
                (
                    Expected(
                        "Flickr8k.token.txt",
                        "captions of pictures",
                        _flickr,
                        also=("captions.txt", "results.csv"),
                    ),
                    Expected("Flickr_8k.trainImages.txt", "names of the training pictures", _text),
                    Expected("Flickr_8k.devImages.txt", "names of the validation pictures", _text),
                    Expected("Flickr_8k.testImages.txt", "names of the test pictures", _text),
                    Expected(
                        "images", "the photographs (8,091 in the whole set)", pictures=1, also=("Images",)
                    ),
                ),
                "Given out on request by the University of Illinois; put the files into the folder by hand.",
            ),
            PublicDataset(
                "flickr30k",
                "Flickr30k photographs with five captions each",
                "non-commercial research and education only; photographs under the Flickr terms",
                (),
                (
                    Expected(FLICKR_CAPTIONS[1], "captions of pictures", _flickr, also=FLICKR_CAPTIONS[2:]),
                    *(Expected(f"{s}.txt", f"picture names of {s}", _text) for s in ("train", "val", "test")),
                    Expected(
                        "images",
                        "the 31,783 photographs",
                        pictures=31783,
                        also=("flickr30k_images", "Images"),
                    ),
                ),
                "Given out on request by the University of Illinois; put the files into the folder by hand.",
            ),
            PublicDataset(
                "lxmert",
                "LXMERT's aggregated captions: the splits that the matcher and the voken universe use",
                "MIT (the project); captions as in COCO and Visual Genome (CC BY 4.0)",
                tuple(_one(*(f"{base}/{name}.json" for base in _LXMERT)) for name in _LXMERT_FILES),
                tuple(
                    Expected(f"{name}.json", "pictures with sentences by source", _captions("lxmert"))
                    for name in _LXMERT_FILES
                ),
            ),
            PublicDataset(
                "lxmert_questions",
                "LXMERT's form of VQA v2 and GQA, its answer table, and the tasks' answers by class",
                "MIT (the project); questions CC BY 4.0",
                (
                    *(
                        _one(*(f"{base.rpartition('/')[0]}/{name}" for base in _LXMERT), name=name)
                        for name in _LXMERT_QUESTIONS
                    ),
                    *(_one(f"{_LXMERT_CODE}/data/{name}", name=name) for name in _LXMERT_ANSWERS),
                ),
                (
                    *(
                        Expected(name, "questions with scored answers", read_lxmert_questions)
                        for name in _LXMERT_QUESTIONS
                    ),
                    *(Expected(name, "the table, or a task's answers", _json) for name in _LXMERT_ANSWERS),
                ),
            ),
            PublicDataset(
                "conceptual_captions",
                "Conceptual Captions: alt texts of web pictures, a second set of the benchmark",
                "captions free for any use, naming Google as their source; pictures under their owners' terms",
                (),
                (
                    Expected("training.tsv", "lines caption<TAB>image id", _captions("conceptual")),
                    Expected("validation.tsv", "lines caption<TAB>image id", _captions("conceptual")),
                    *(
                        Expected(
                            f"images/{s}", f"pictures {s}_<n>, no suffix", None, 1, IMAGE_SUFFIXES | {""}
                        )
                        for s in ("training", "validation")
                    ),
                ),
                "Google gives out captions with addresses, of which some are dead: download the pictures as "
                "<split>_<n>, and replace each address by that id.",
            ),
            PublicDataset(
                "visual_genome",
                "Visual Genome photographs: the 50,000 vokens are those that are not in COCO",
                "CC BY 4.0; photographs under the Flickr terms",
                (
                    _one(f"{_VG}/images.zip", megabytes=9731),
                    _one(f"{_VG}/images2.zip", megabytes=5471),
                ),
                (
                    Expected("VG_100K", "photographs, part 2 of the release", pictures=1),
                    Expected("VG_100K_2", "photographs, part 1 of the release", pictures=1),
                ),
                "The original project keeps all of them in one folder `images`; move or link them there.",
            ),
            _wikitext(
                103,
                "WikiText-103 raw: pre-training corpus of the small model (about 100 M tokens)",
                sha256="91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
                megabytes=192.0,
            ),
            _wikitext(
                2,
                "WikiText-2 raw: a small corpus with the same valid and test articles",
                sha256="ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
                megabytes=4.7,
            ),
            PublicDataset(
                "wikipedia",
                "The latest English Wikipedia dump: pre-training corpus of the base model (2.8 B word pieces)",
                "CC BY-SA 4.0 and GFDL",
                (
                    _one(
                        "https://dumps.wikimedia.org/enwiki/latest/enwiki-latest-pages-articles.xml.bz2",
                        megabytes=24000,
                    ),
                ),
                (
                    Expected("en.train.raw", "plain text, one paragraph a line", _text),
                    Expected("en.valid.raw", "5,000 lines", _text),
                    Expected("en.test.raw", "5,000 lines", _text),
                ),
                "The dump changes every month, so it has no fixed hash. Extract plain text with WikiExtractor; "
                "`vlpnb data wikipedia TEXT FOLDER` makes the three files of it.",
            ),
            PublicDataset(
                "glue",
                "GLUE: nine tasks on which pre-trained language models are compared",
                "each task its own; see gluebenchmark.com/tasks (QQP: Quora terms, non-commercial)",
                (
                    _one(
                        f"{_GLUE}/CoLA.zip",
                        sha256="f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff",
                        megabytes=0.4,
                    ),
                    _one(f"{_GLUE}/SST-2.zip", megabytes=7.4),
                    _one(
                        f"{_SENTEVAL}/msr_paraphrase_train.txt",
                        name="MRPC/msr_paraphrase_train.txt",
                        sha256="60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89",
                        megabytes=1.0,
                    ),
                    _one(
                        f"{_SENTEVAL}/msr_paraphrase_test.txt",
                        name="MRPC/msr_paraphrase_test.txt",
                        sha256="a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784",
                        megabytes=0.4,
                    ),
                    _one(
                        f"{_GLUE}/QQP-clean.zip",
                        sha256="40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0",
                        megabytes=41.7,
                    ),
                    _one(f"{_GLUE}/STS-B.zip", megabytes=0.8),
                    _one(f"{_GLUE}/MNLI.zip", megabytes=312.8),
                    _one(
                        f"{_GLUE}/QNLIv2.zip",
                        sha256="e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5",
                        megabytes=10.6,
                    ),
                    _one(f"{_GLUE}/RTE.zip", megabytes=0.7),
                    _one(
                        f"{_GLUE}/WNLI.zip",
                        sha256="ae0e8e4d16f4d46d4a0a566ec7ecceccfd3fbfaa4a7a4b4e02848c0f2561ac46",
                        megabytes=0.03,
                    ),
                ),
                _glue_layout(),
                "MRPC comes unsplit: its dev.tsv is the part of msr_paraphrase_train.txt that the benchmark's "
                "dev_ids.tsv lists, its train.tsv the rest.",
            ),
            PublicDataset(
                "vqa2",
                "VQA v2 questions and ten answers each, on COCO photographs",
                "CC BY 4.0",
                tuple(
                    _one(f"{_VQA}/v2_{kind}_{split}_mscoco.zip")
                    for kind in ("Questions", "Annotations")
                    for split in ("Train", "Val")
                ),
                tuple(
                    Expected(name.format(split), "questions or answers", _json)
                    for split in ("train", "val")
                    for name in (
                        "v2_OpenEnded_mscoco_{}2014_questions.json",
                        "v2_mscoco_{}2014_annotations.json",
                    )
                ),
            ),
            PublicDataset(
                "gqa",
                "GQA: compositional questions on Visual Genome photographs",
                "CC BY 4.0",
                (_one("https://downloads.cs.stanford.edu/nlp/data/gqa/questions1.2.zip", megabytes=1400),),
                tuple(
                    Expected(f"{s}_balanced_questions.json", f"the {s} questions", _json)
                    for s in ("train", "val", "testdev")
                ),
            ),
            PublicDataset(
                "nlvr2",
                "NLVR2: is the sentence true of two photographs?",
                "CC BY 4.0 for sentences and labels; photographs on request",
                tuple(
                    _one(f"https://raw.githubusercontent.com/lil-lab/nlvr/master/nlvr2/data/{s}.json")
                    for s in ("train", "dev", "test1")
                ),
                tuple(
                    Expected(f"{s}.json", f"the {s} statements", _json_lines)
                    for s in ("train", "dev", "test1")
                ),
            ),
        )
    }
)


def dataset(name: str) -> PublicDataset:
    """The entry of that name; UserError suggests the nearest."""
    if name not in DATASETS:
        raise UserError(f"dataset '{name}' is unknown{did_you_mean(name, DATASETS)}")
    return DATASETS[name]
