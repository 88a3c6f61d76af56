"""Benchmark of a matcher: retrieval and diversity (spec section 5). Special tokens are left out of both.

Retrieval: for every word piece of every test caption, is the caption's own picture among the first k of all
test pictures? Counted over tokens, beside chance, k / number of pictures; and over sentences (mean token
score), which the original did not report.

Diversity: the top voken of every token of a corpus in the image universe; how many pictures does a token type
get?
"""

from collections.abc import Iterator

import numpy as np
import torch
from pydantic import Field

from vlpnb.config import Config
from vlpnb.data.description import load_dataset
from vlpnb.data.images import BrokenImage, open_rgb
from vlpnb.errors import UserError
from vlpnb.metrics.retrieval import RECALL_AT, diversity, mean_token_scores, ranks, recall
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.text.corpora import TokenCorpus
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization.keys import load_keys
from vlpnb.vokenization.matching import Matcher, load_matcher
from vlpnb.vokenization.revokenize import Revokeniser, for_tokenizer
from vlpnb.vokenization.vokenize import Vokeniser


class BenchmarkConfig(Config):
    """What is benchmarked."""

    split: str = "test"  # captions and pictures of the retrieval
    max_images: int | None = None  # only the first pictures of the split
    diversity_sentences: int = Field(20_000, ge=0)  # sentences of the valid corpus, and of the captions


def retrieval(matcher: Matcher, images, budget: int = 8192) -> dict[str, float]:
    """`token_r*`, `sentence_r*` and `chance_r*` of captioned pictures; broken pictures are left out and counted
    (`broken`). UserError when none can be read.
    """
    kept, vectors = [], []
    for image in images:
        try:
            vectors.append(matcher.keys([open_rgb(image.path)]).cpu())
            kept.append(image)
        except BrokenImage:
            continue
    if not kept:
        raise UserError(f"benchmark: none of the {len(images)} pictures can be read; see `dataset.captions`")
    pictures = torch.cat(vectors)
    vokenise = Vokeniser(matcher, pictures, token_budget=budget)
    tokens, sentences = [], []
    for first in range(0, len(kept), 64):
        texts = [(i, s) for i, image in enumerate(kept[first : first + 64], first) for s in image.sentences]
        language = matcher.language
        rows = [ids[len(language.prefix) : len(ids) - len(language.suffix)]
                for ids in language.encode([s for _, s in texts], matcher.max_length)]  # fmt: skip
        queries = [query.cpu() for query in vokenise.queries(rows)]
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
    """(token id, voken) of every token."""
    for first in range(0, len(sentences), block):
        part = sentences[first : first + block]
        yield from zip((i for ids in part for i in ids), vokenise(part).tolist(), strict=True)


def run_benchmark(context: StageContext) -> dict[str, float]:
    """Benchmark a matcher. Metrics: `token_r*`, `sentence_r*`, `chance_r*`,
    `diversity_{corpus,captions}_*`.
    """
    config: BenchmarkConfig = context.config
    dataset = load_dataset(context.inputs["dataset"])
    matcher = load_matcher(context.inputs["matching"], context.device)
    images = dataset.captioned(config.split)[: config.max_images]
    metrics = retrieval(matcher, images)
    context.progress(1, 3)
    vokenise = Vokeniser(matcher, load_keys(context.inputs["keys"]).vectors)
    corpus = TokenCorpus(context.inputs["corpus"] / "valid.hdf5")
    count = min(config.diversity_sentences, len(corpus.sentences) - 1)
    language = matcher.language
    captions = [s for image in images for s in image.sentences][: config.diversity_sentences]
    encoded = [
        ids[len(language.prefix) : len(ids) - len(language.suffix)] for ids in language.encode(captions, 128)
    ]
    texts = {"corpus": [corpus.sentence(s).tolist()[:128] for s in range(count)], "captions": encoded}
    tokenizer = load_tokenizer(context.inputs["corpus"] / "tokenizer")
    readers = {"corpus": for_tokenizer(vokenise, tokenizer), "captions": vokenise}
    for done, (name, sentences) in enumerate(texts.items(), start=2):
        kept = [ids for ids in sentences if ids]
        report = diversity(token_vokens(readers[name], kept))
        metrics |= {f"diversity_{name}_{key}": value for key, value in report.items()}
        context.progress(done, 3)
    for k in RECALL_AT:
        context.log(
            f"R@{k}: tokens {metrics[f'token_r{k}']:.3f}, sentences {metrics[f'sentence_r{k}']:.3f}, "
            f"chance {metrics[f'chance_r{k}']:.3f}"
        )
    return {name: float(np.float64(value)) for name, value in metrics.items()}


BENCHMARK = Stage(
    "benchmark", BenchmarkConfig, run_benchmark,
    lambda config: {name: Request(name) for name in ("matching", "keys", "corpus", "dataset")},
    doc="Retrieval and diversity of the matcher.",
)  # fmt: skip
