"""Benchmark of a matcher: retrieval and diversity. Special tokens are left out of both.

Retrieval, for each set of captioned pictures: for every word piece of every caption, is the caption's own
picture among the first k of all pictures of the set? Counted over tokens, beside chance, k / number of pictures;
and over sentences (mean token score), which the original did not report. Where a sentence has one voken, only its
first token is scored.

Diversity, for each text: the top voken of every token in the image universe; how many pictures does a token type
get? Texts are the captions of the same sets, and the corpus.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from vlpnb.config import Config
from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import CaptionData, load_captions
from vlpnb.data.images import BrokenImage, decoded
from vlpnb.errors import UserError
from vlpnb.metrics.retrieval import RECALL_AT, diversity, mean_token_scores, ranks, recall
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.corpora import TokenCorpus
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization.keys import load_keys
from vlpnb.vokenization.matcher import Matcher, load_matcher
from vlpnb.vokenization.revokeniser import Revokeniser, for_tokenizer
from vlpnb.vokenization.vokeniser import Granularity, Vokeniser, decode_marks


class BenchmarkConfig(Config):
    """What is benchmarked."""

    split: str = "test"
    """Captions and pictures of the first set; its metrics have no prefix."""
    sets: tuple[str, ...] | None = None
    """Further sets, `<set>_*` in the metrics: splits or `captions.sets`; none: all of the latter."""
    max_images: int | None = Field(None, ge=1)
    """Only the first pictures of each set."""
    max_length: int | None = Field(None, ge=3)
    """Word pieces of a caption that retrieval reads, special tokens included; none: as many as in
    training; the original reads captions as it reads a corpus, up to 130.
    """
    corpora: tuple[Literal["valid", "train"], ...] = ("valid",)
    """Texts of the diversity beside the sets' captions, `corpus_train_*` for the training part."""
    diversity_lines: int | None = Field(None, ge=0)
    """Only the first lines of a corpus (the original: 95,000)."""
    diversity_sentences: int | None = Field(20_000, ge=0)
    """Then sentences of a corpus, captions of a set."""
    granularity: Granularity = "token"
    """Contextual tokens, whole sentences, or types without context."""


def scored_queries(vokenise: Vokeniser, sentences: Sequence[Sequence[int]]) -> list[Float[Tensor, "_ d"]]:
    """Unit vectors of the tokens that retrieval scores: all of a sentence, or its first alone (n = 1) where the
    sentence has one voken.
    """
    if vokenise.granularity == "term":
        types = sorted({i for ids in sentences for i in ids})
        alone = dict(zip(types, vokenise.queries([[i] for i in types]), strict=True))
        nothing = vokenise.keys[:0]
        return [torch.cat([nothing, *(alone[i] for i in ids)]) for ids in sentences]
    found = vokenise.queries(sentences)
    if vokenise.granularity == "sentence":
        return [normalize(rows.mean(0, keepdim=True), dim=-1) if len(rows) else rows for rows in found]
    return found


def retrieval(
    matcher: Matcher,
    images: Sequence[CaptionedImage],
    budget: int = 8192,
    granularity: Granularity = "token",
    max_length: int | None = None,
) -> dict[str, float]:
    """`token_r*`, `sentence_r*` and `chance_r*` of captioned pictures; broken pictures are left out and counted
    (`broken`); `tokens` are those scored. Captions end after `max_length` word pieces, by default as in training.
    UserError when none can be read.
    """
    kept, vectors = [], []
    found = decoded([image.path for image in images], lambda _, picture: matcher.pixels(picture))
    for image, pixels in zip(images, found, strict=True):
        if not isinstance(pixels, BrokenImage):
            vectors.append(matcher.keys_of([pixels]).cpu())
            kept.append(image)
    if not kept:
        raise UserError(f"benchmark: none of the {len(images)} pictures can be read; see `captions`")
    pictures = torch.cat(vectors)
    vokenise = Vokeniser(matcher, pictures, granularity, budget)
    tokens, sentences = [], []
    for first in range(0, len(kept), 64):
        texts = [(i, s) for i, image in enumerate(kept[first : first + 64], first) for s in image.sentences]
        language = matcher.language
        rows = [ids[len(language.prefix) : len(ids) - len(language.suffix)]
                for ids in language.encode([s for _, s in texts], max_length or matcher.max_length)]  # fmt: skip
        queries = [query.cpu() for query in scored_queries(vokenise, rows)]
        own = torch.tensor([i for i, _ in texts])
        lengths = torch.tensor([len(query) for query in queries])
        tokens.append(ranks(torch.cat(queries) @ pictures.T, own.repeat_interleave(lengths)))
        padded = torch.nn.utils.rnn.pad_sequence(queries, batch_first=True)
        mask = torch.arange(padded.shape[1]) < lengths[:, None]
        sentences.append(ranks(mean_token_scores(padded, mask, pictures), own))
    chance = {f"chance_r{k}": min(1.0, k / len(pictures)) for k in RECALL_AT}
    found = recall(torch.cat(tokens), prefix="token_r") | recall(torch.cat(sentences), prefix="sentence_r")
    return {
        **found,
        **chance,
        "pictures": float(len(pictures)),
        "broken": float(len(images) - len(kept)),
        "tokens": float(sum(map(len, tokens))),
    }


def token_vokens(
    vokenise: Vokeniser | Revokeniser, sentences: list[list[int]], block: int = 512
) -> Iterator[tuple[int, int]]:
    """(token id, voken) of every token; all tokens of a sentence with one voken have that one."""
    for first in range(0, len(sentences), block):
        part = sentences[first : first + block]
        vokens = decode_marks(vokenise(part), "all")
        yield from zip((i for ids in part for i in ids), vokens.tolist(), strict=True)


def _sets(config: BenchmarkConfig, data: CaptionData) -> dict[str, str]:
    """Set → prefix of its metrics. UserError when two groups of metrics would have one name."""
    further = config.sets
    if further is None:
        further = tuple(name for name in data.sets if name != config.split)
    taken = [config.split, "captions", "corpus", "corpus_train"]
    for name in further:
        if name in taken:
            raise UserError(
                f"vokenization.benchmark.sets: '{name}' is there already; name other splits or captions.sets than "
                f"{', '.join(taken)}"
            )
        taken.append(name)
    return {config.split: "", **{name: f"{name}_" for name in further}}


def run_benchmark(context: StageContext) -> dict[str, float]:
    """Benchmark a matcher. Metrics: `token_r*`, `sentence_r*`, `chance_r*`, `pictures`, `broken` and `tokens` of
    the split, and under `<set>_*` of each further set; `diversity_{corpus,captions,<set>}_*`.
    """
    config: BenchmarkConfig = context.config
    data = load_captions(context.inputs["captions"])
    prefixes = _sets(config, data)
    sets = {name: data.captioned(name)[: config.max_images] for name in prefixes}
    matcher = load_matcher(context.inputs["matching"], context.device)
    steps = 2 * len(sets) + len(config.corpora)
    metrics: dict[str, float] = {}
    for done, (name, images) in enumerate(sets.items(), start=1):
        found = retrieval(matcher, images, granularity=config.granularity, max_length=config.max_length)
        metrics |= {f"{prefixes[name]}{key}": value for key, value in found.items()}
        shown = f"{name}, {found['pictures']:,.0f} pictures, {found['tokens']:,.0f} scored tokens"
        for k in RECALL_AT:
            context.log(
                f"{shown}: R@{k} tokens {found[f'token_r{k}']:.3f}, sentences {found[f'sentence_r{k}']:.3f}, "
                f"chance {found[f'chance_r{k}']:.3f}"
            )
        context.progress(done, steps)

    vokenise = Vokeniser(matcher, load_keys(context.inputs["keys"]).vectors, config.granularity)
    revokenise = for_tokenizer(vokenise, load_tokenizer(context.inputs["corpus"] / "tokenizer"))
    limits = config.diversity_lines, config.diversity_sentences
    texts: dict[str, tuple[Vokeniser | Revokeniser, list[list[int]]]] = {}
    for name in config.corpora:
        corpus = TokenCorpus(context.inputs["corpus"] / f"{name}.hdf5")
        label = "corpus" if name == "valid" else f"corpus_{name}"
        texts[label] = revokenise, corpus.first_sentences(*limits)
    language = matcher.language
    for name, images in sets.items():
        captions = [s for image in images for s in image.sentences][: config.diversity_sentences]
        encoded = [
            ids[len(language.prefix) : len(ids) - len(language.suffix)]
            for ids in language.encode(captions, 128)
        ]
        texts[name if prefixes[name] else "captions"] = vokenise, encoded
    for done, (label, (reader, sentences)) in enumerate(texts.items(), start=len(sets) + 1):
        report = diversity(token_vokens(reader, [ids for ids in sentences if ids]))
        metrics |= {f"diversity_{label}_{key}": value for key, value in report.items()}
        shown = ", ".join(f"{key} {value:,.2f}" for key, value in report.items())
        context.log(f"diversity of {label}, {len(sentences):,} sentences: {shown}")
        context.progress(done, steps)
    return {name: float(np.float64(value)) for name, value in metrics.items()}


BENCHMARK = Stage(
    "vokenization.benchmark", BenchmarkConfig, run_benchmark,
    lambda config: {
        "matching": Request("vokenization.matching"),
        "keys": Request("vokenization.keys"),
        "corpus": Request("corpus"),
        "captions": Request("captions"),
    },
    variant=("granularity",), doc="Retrieval and diversity of the matcher.",
)  # fmt: skip
