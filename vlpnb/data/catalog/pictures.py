"""Pictures with captions, and files of their regions."""

from vlpnb.data.captions import FLICKR_CAPTIONS
from vlpnb.data.catalog.entry import Expected, PublicDataset, captions, json_file, one, text
from vlpnb.data.flickr_tables import read_flickr_lines
from vlpnb.data.images import IMAGE_SUFFIXES
from vlpnb.data.valid_images import read_valid_images

_COCO = "http://images.cocodataset.org"
_LXMERT = ("https://nlp.cs.unc.edu/data/lxmert_data", "https://nlp1.cs.unc.edu/data/lxmert_data")
_VG = "https://cs.stanford.edu/people/rak248/VG_100K_2"
_VG_TEXT = (
    "https://homes.cs.washington.edu/~ranjay/visualgenome/data/dataset",
    "https://visualgenome.org/static/data/dataset",
)
_LXMERT_FILES = ("mscoco_train", "mscoco_nominival", "mscoco_minival", "vgnococo")
_LXMERT_REGIONS = {  # archive → megabytes; the two of Visual Genome and GQA are 30 GB together
    "mscoco_imgfeat/train2014_obj36": 17000,
    "mscoco_imgfeat/val2014_obj36": 8000,
    "mscoco_imgfeat/test2015_obj36": 16000,
    "vg_gqa_imgfeat/vg_gqa_obj36": None,
    "vg_gqa_imgfeat/gqa_testdev_obj36": None,
    "nlvr2_imgfeat/train_obj36": 21000,
    "nlvr2_imgfeat/valid_obj36": 1600,
    "nlvr2_imgfeat/test_obj36": 1600,
}


def _flickr(path):
    return list(read_flickr_lines(path))


def _web_captions(name: str, what: str, licence: str, *systems: str, note: str) -> PublicDataset:
    return PublicDataset(
        name,
        what,
        licence,
        (),
        (
            Expected("training.tsv", "lines caption<TAB>image id", captions("conceptual")),
            Expected("images/training", "pictures training_<n>, no suffix", None, 1, IMAGE_SUFFIXES | {""}),
        ),
        note,
        systems,
    )


_NUMBERED = (
    "Download the pictures as training_<n>, and write a line caption<TAB>training_<n> for each that is there."
)

PICTURES = (
    PublicDataset(
        "coco2014",
        "COCO 2014 photographs and captions: training of the token-image matcher",
        "annotations CC BY 4.0; photographs under the Flickr terms",
        (
            one(f"{_COCO}/zips/train2014.zip", name="images/train2014.zip", megabytes=13511),
            one(f"{_COCO}/zips/val2014.zip", name="images/val2014.zip", megabytes=6645),
            one(f"{_COCO}/annotations/annotations_trainval2014.zip", megabytes=253),
        ),
        (
            Expected("images/train2014", "the 82,783 training photographs", pictures=82783),
            Expected("images/val2014", "the 40,504 validation photographs", pictures=40504),
            Expected("annotations/captions_train2014.json", "captions", captions("coco")),
            Expected("annotations/captions_val2014.json", "captions", captions("coco")),
        ),
        systems=("vokenization", "lxmert", "vlp", "cclm"),
    ),
    PublicDataset(
        "karpathy",
        "Karpathy's splits of COCO, Flickr8k and Flickr30k with their captions",
        "captions as in each dataset; no licence stated for the splits",
        (
            one(
                "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
                megabytes=37,
            ),
        ),
        tuple(
            Expected(f"dataset_{name}.json", f"captions and splits of {name}", captions("karpathy"))
            for name in ("coco", "flickr8k", "flickr30k")
        ),
        systems=("vlp", "cclm"),
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
            Expected("Flickr_8k.trainImages.txt", "names of the training pictures", text),
            Expected("Flickr_8k.devImages.txt", "names of the validation pictures", text),
            Expected("Flickr_8k.testImages.txt", "names of the test pictures", text),
            Expected("images", "the photographs (8,091 in the whole set)", pictures=1, also=("Images",)),
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
            *(Expected(f"{s}.txt", f"picture names of {s}", text) for s in ("train", "val", "test")),
            Expected(
                "images",
                "the 31,783 photographs",
                pictures=31783,
                also=("flickr30k_images", "Images"),
            ),
        ),
        "Given out on request by the University of Illinois; put the files into the folder by hand.",
        systems=("vlp", "cclm"),
    ),
    PublicDataset(
        "lxmert",
        "LXMERT's aggregated captions: the splits that the matcher and the voken universe use",
        "MIT (the project); captions as in COCO and Visual Genome (CC BY 4.0)",
        tuple(one(*(f"{base}/lxmert/{name}.json" for base in _LXMERT)) for name in _LXMERT_FILES),
        tuple(
            Expected(f"{name}.json", "pictures with sentences by source", captions("lxmert"))
            for name in _LXMERT_FILES
        ),
        systems=("vokenization", "lxmert"),
    ),
    PublicDataset(
        "lxmert_features",
        "LXMERT's regions of COCO, Visual Genome, GQA and NLVR2: 36 boxes with 2,048 numbers each",
        "MIT (the project); photographs as in each dataset",
        tuple(
            one(*(f"{base}/{name}.zip" for base in _LXMERT), name=f"{name}.zip", megabytes=size)
            for name, size in _LXMERT_REGIONS.items()
        ),
        tuple(
            Expected(
                f"{name}.tsv",
                "regions, a picture a line",
                text,
                also=tuple(
                    f"{folder}/{name}.tsv" for folder in ("mscoco_imgfeat", "vg_gqa_imgfeat", "nlvr2_imgfeat")
                ),
            )
            for name in _LXMERT_REGIONS
        ),
        "Name the folder with --set regions.source=obj36 --set regions.files=FOLDER.",
        ("lxmert",),
        112000,
    ),
    PublicDataset(
        "vlp_features",
        "VLP's regions of COCO, Flickr30k and Conceptual Captions (100 boxes with class probabilities) and its lists",
        "Apache-2.0 (the project); photographs as in each dataset",
        (),
        (
            Expected("dataset_coco.json", "captions and splits of COCO", captions("karpathy")),
            Expected("dataset_cc.json", "captions of Conceptual Captions", captions("karpathy")),
            Expected(
                "dataset_flickr30k.json",
                "captions and splits of Flickr30k",
                captions("karpathy"),
                optional=True,
            ),
            Expected(
                "cc_valid_jpgs.json", "pictures of Conceptual Captions that could be had", read_valid_images
            ),
            *(
                Expected(f"{name}/{part}", what)
                for name in ("coco", "cc")
                for part, what in (
                    ("feat_cls", "HDF5 files of features and probabilities"),
                    ("boxes.h5", "boxes"),
                )
            ),
        ),
        "The project's page has the archives behind share links (COCO 174 GB, Flickr30k 27 GB, Conceptual Captions "
        "983 GB); unpack them, and name the folders as here.",
        ("vlp",),
        1184000,
    ),
    PublicDataset(
        "conceptual_captions",
        "Conceptual Captions: alt texts of web pictures, a second set of the benchmark",
        "captions free for any use, naming Google as their source; pictures under their owners' terms",
        (),
        (
            Expected("training.tsv", "lines caption<TAB>image id", captions("conceptual")),
            Expected("validation.tsv", "lines caption<TAB>image id", captions("conceptual")),
            *(
                Expected(f"images/{s}", f"pictures {s}_<n>, no suffix", None, 1, IMAGE_SUFFIXES | {""})
                for s in ("training", "validation")
            ),
        ),
        "Google gives out captions with addresses, of which some are dead: download the pictures as "
        "<split>_<n>, and replace each address by that id.",
        systems=("vokenization", "vlp", "cclm"),
    ),
    _web_captions(
        "conceptual_12m",
        "Conceptual 12M: a larger set of the same form, in none of the five papers' main results",
        "captions free for any use, naming Google as their source; pictures under their owners' terms",
        note=f"cc12m.tsv of Google has addresses and captions. {_NUMBERED}",
    ),
    _web_captions(
        "sbu",
        "SBU Captioned Photos: a million photographs of Flickr with what their owners wrote",
        "none stated; photographs under the Flickr terms",
        "cclm",
        note=f"The University of Virginia gives out addresses and captions. {_NUMBERED}",
    ),
    PublicDataset(
        "visual_genome",
        "Visual Genome photographs: the 50,000 vokens are those that are not in COCO",
        "CC BY 4.0; photographs under the Flickr terms",
        (
            one(f"{_VG}/images.zip", megabytes=9731),
            one(f"{_VG}/images2.zip", megabytes=5471),
        ),
        (
            Expected("VG_100K", "photographs, part 2 of the release", pictures=1),
            Expected("VG_100K_2", "photographs, part 1 of the release", pictures=1),
        ),
        "The original project keeps all of them in one folder `images`; move or link them there.",
        systems=("vokenization", "lxmert", "cclm"),
    ),
    PublicDataset(
        "visual_genome_regions",
        "Visual Genome's phrases and objects with their boxes: the regions of pre-training",
        "CC BY 4.0",
        tuple(
            one(*(f"{base}/{name}.json.zip" for base in _VG_TEXT))
            for name in ("region_descriptions", "objects", "image_data")
        ),
        tuple(
            Expected(f"{name}.json", what, json_file)
            for name, what in (
                ("region_descriptions", "phrases with boxes"),
                ("objects", "objects with boxes"),
                ("image_data", "sizes of the pictures"),
            )
        ),
        "The stage `region_text` reads the JSON lines that CCLM's authors made of these (`cclm_text`).",
        ("lxmert", "cclm"),
    ),
    PublicDataset(
        "cclm_text",
        "CCLM's translations of captions, objects and regions into six languages, without pictures",
        "as stated by the authors; captions as in each dataset",
        (),
        (
            Expected("captions", "folders or files of JSON lines with `binary` and `caption`"),
            Expected("regions", "the same with `elems`: boxes and what is said of them", optional=True),
        ),
        "Given out by the authors behind share links. Pictures come from their owners: write their paths into "
        "`binary`.",
        ("cclm",),
    ),
    PublicDataset(
        "laion",
        "LAION: addresses and alt texts of web pictures; 191 million of them are VaLM's database",
        "texts and addresses CC BY 4.0; pictures under their owners' terms",
        (),
        (
            Expected("keys", "map of the pictures' vectors, half precision, 768 each", also=("keys.npy",)),
            Expected("vals", "map of the pictures' numbers", also=("vals.npy",)),
        ),
        "Pictures are downloaded from their addresses (img2dataset) and run through CLIP's RN50x16; the two maps "
        "take 296 GB. Smaller: the stage `picture_vectors` makes a database of any folder of pictures "
        "(--set picture_vectors.source=pictures).",
        ("valm",),
        296000,
    ),
)
