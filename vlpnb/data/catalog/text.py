"""Raw text, and text in several languages."""

from vlpnb.data.catalog.entry import Expected, PublicDataset, one, text
from vlpnb.data.commonsense import read_colours, read_sizes, read_vicomte
from vlpnb.data.multilingual import read_image_list
from vlpnb.data.parallel import PAIRS

_WIKITEXT = ("https://wikitext.smerity.com", "https://s3.amazonaws.com/research.metamind.io/wikitext")
_MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data"
_MATRIX = "https://dl.fbaipublicfiles.com/laser/WikiMatrix/v1"
_WITH_ENGLISH = (  # CCLM's text: English beside each language of IGLUE
    *(
        "ar-en",
        "bg-en",
        "bn-en",
        "da-en",
        "de-en",
        "el-en",
        "en-es",
        "en-et",
        "en-fr",
        "en-id",
        "en-ja",
        "en-ko",
    ),
    *("en-pt", "en-ru", "en-sw", "en-ta", "en-tr", "en-vi", "en-zh"),
)


def _wikitext(number: int, what: str, *systems: str, **archive) -> PublicDataset:
    name = f"wikitext-{number}-raw"
    return PublicDataset(
        f"wikitext{number}",
        what,
        "CC BY-SA 3.0",
        (one(*(f"{base}/{name}-v1.zip" for base in _WIKITEXT), **archive),),
        tuple(Expected(f"{name}/wiki.{s}.raw", f"the {s} text", text) for s in ("train", "valid", "test")),
        systems=systems,
    )


def _multi30k_files() -> tuple[tuple[str, str], ...]:
    """Each file with what it holds: translations (task 1), five descriptions a picture (task 2), lists of pictures."""
    found = []
    for split in ("train", "val", "test_2016_flickr"):
        found += [(f"task1/raw/{split}.{name}.gz", "a caption a line") for name in ("en", "de", "fr", "cs")]
        found.append((f"task1/image_splits/{split}.txt", "pictures"))
    for split in ("train", "val", "test_2016"):
        found += [
            (f"task2/raw/{split}.{i}.{name}.gz", "a description a line")
            for i in range(1, 6)
            for name in ("en", "de")
        ]
        found.append((f"task2/image_splits/{split}_images.txt", "pictures"))
    return tuple(found)


TEXTS = (
    _wikitext(
        103,
        "WikiText-103 raw: pre-training corpus of the small model (about 100 M tokens)",
        "vokenization",
        "valm",
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
            one(
                "https://dumps.wikimedia.org/enwiki/latest/enwiki-latest-pages-articles.xml.bz2",
                megabytes=24000,
            ),
        ),
        (
            Expected("en.train.raw", "plain text, one paragraph a line", text),
            Expected("en.valid.raw", "5,000 lines", text),
            Expected("en.test.raw", "5,000 lines", text),
        ),
        "The dump changes every month, so it has no fixed hash. Extract plain text with WikiExtractor; "
        "`vlpnb data wikipedia TEXT FOLDER` makes the three files of it.",
        systems=("vokenization",),
    ),
    PublicDataset(
        "bookcorpus",
        "BookCorpus: beside Wikipedia the text of BERT, from which LXMERT and VLP may start",
        "none; the books belong to their authors",
        (),
        (
            Expected(
                "books.txt",
                "plain text, one sentence or paragraph a line",
                text,
                also=("books_large_p1.txt",),
            ),
        ),
        "No longer given out; others have collected books of the kind. BERT's published weights stand for it here.",
        ("lxmert", "vlp"),
    ),
    PublicDataset(
        "cc100",
        "CC-100, English: the web text that VaLM is trained on",
        "as Common Crawl's terms of use say; the texts belong to their authors",
        (one("https://data.statmt.org/cc-100/en.txt.xz", megabytes=82000),),
        (Expected("en.txt.xz", "plain text, empty lines between documents", text, also=("en.txt",)),),
        "It is read compressed as it is; fairseq's binary files of the paper's shards are read, too.",
        ("valm",),
    ),
    PublicDataset(
        "wikimatrix",
        "WikiMatrix: sentences of one meaning mined from Wikipedia, English beside each language of IGLUE",
        "CC BY-SA (the texts of Wikipedia)",
        tuple(one(f"{_MATRIX}/WikiMatrix.{pair}.tsv.gz") for pair in _WITH_ENGLISH),
        tuple(
            Expected(f"WikiMatrix.{pair}.tsv.gz", "score, sentence, sentence", text, also=(f"{pair}.jsonl",))
            for pair in _WITH_ENGLISH
        ),
        f"CCLM's authors give out a filtered part as {PAIRS}; write the pairs above a margin of 1.04 so.",
        ("cclm",),
    ),
    PublicDataset(
        "multi30k",
        "Multi30k: Flickr30k's captions translated to German, French and Czech, and described anew in German",
        "non-commercial research and education only; photographs under the Flickr terms",
        tuple(one(f"{_MULTI30K}/{name}", name=name) for name, _ in _multi30k_files()),
        tuple(
            Expected(name, holds, read_image_list if name.endswith(".txt") else text)
            for name, holds in _multi30k_files()
        ),
        systems=("cclm",),
        size=10,
    ),
    PublicDataset(
        "lambada",
        "LAMBADA: the last word of a passage",
        "CC BY 4.0",
        (one("https://zenodo.org/records/2630551/files/lambada-dataset.tar.gz", megabytes=335),),
        (
            Expected(
                "lambada_test_plain_text.txt",
                "a passage a line, or JSON lines {text}",
                text,
                also=("lambada_test.jsonl", "test.jsonl"),
            ),
        ),
        systems=("valm",),
    ),
    PublicDataset(
        "commonsense",
        "What everybody knows of things: MemoryColor, ColorTerms, RelativeSize; ViComTe's colours, shapes, materials",
        "none stated; another copy of MemoryColor Apache-2.0, Visual Genome behind ViComTe CC BY 4.0",
        (),
        (
            Expected("valm/memory_color_data.csv", "MemoryColor, 109 things", read_colours),
            Expected("valm/color-concrete-objects.csv", "ColorTerms, 52 things", read_colours),
            Expected("valm/sizePairsFull.txt", "RelativeSize, 486 pairs", read_sizes),
            *(
                Expected(f"vicomte/db/{name}/test.jsonl", f"ViComTe's {name}", read_vicomte)
                for name in ("color", "shape", "material", "size_larger", "size_smaller")
            ),
        ),
        "Copy `data/object_color` and `data/object_size` of the project Victorwz/VaLM to valm/, and `mine-data` of "
        "ChenyuHeidiZhang/VL-commonsense to vicomte/.",
        ("valm",),
        2,
    ),
)
