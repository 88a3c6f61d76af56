"""Training the matcher: batches, validation, the best epoch, and retrieval over the whole test set.

Frozen backbones are read from the cache of `features.py`; a backbone that is fine-tuned runs on every batch:
the language backbone over cached pictures, which is cheap, the vision backbone over the pictures themselves.
The original's validation, recall within random batches of 256 pictures, is kept, and sentence → picture
retrieval over the whole pool added: a sentence's score is the mean of its tokens' scores, special tokens left
out.

Differs from the original with several processes: a sentence's partner is the one it has on one process, and
processes weigh by their tokens (there each process paired its own share, and all weighed the same), so that the
number of processes changes neither loss nor gradient. The losses with many negatives take them from the process's
own share, and do depend on it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import pad

from vlpnb.data.captions import CaptionedImage
from vlpnb.data.description import load_captions
from vlpnb.data.images import all_decoded, readable
from vlpnb.errors import UserError
from vlpnb.files import atomic, write_text
from vlpnb.foundations.captions import splits_only
from vlpnb.foundations.feature_store import FeatureStore
from vlpnb.foundations.features import SPLITS, read_backbones
from vlpnb.metrics.retrieval import mean_token_scores, ranks, recall, token_batch_ranks
from vlpnb.nn.checkpoints import fill_module, read_weights
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.train.loop import fit
from vlpnb.train.pretraining import plan_of
from vlpnb.train.sampling import EpochSampler, Update, seed_of, share_pairs
from vlpnb.vokenization.matcher import (
    Matcher,
    MatchingConfig,
    MatchingLoss,
    content_mask,
    loss_function,
    new_matcher,
    picture_vectors,
    save_matcher,
    trainable_state,
)
from vlpnb.vokenization.original.weights import load_weights, weights_file


class CaptionBatches:
    """Where batches come from: the cache, or, when a backbone trains, the pictures and sentences
    themselves.
    """

    def __init__(
        self, store: FeatureStore | None, images: Sequence[CaptionedImage], matcher: Matcher, config, scale
    ):
        self.store, self.images, self.matcher, self.config, self.scale = store, images, matcher, config, scale
        if store is None:
            self.pairs = [(i, s) for i, image in enumerate(images) for s in image.sentences]
        self.size = len(self.pairs) if store is None else len(store)

    def tokens(self, rows: np.ndarray) -> int:
        """How many tokens of some captions the loss counts."""
        if self.store is not None:
            about = self.store.attributes
            lengths = self.store.offsets[rows + 1] - self.store.offsets[rows]
            specials = about["prefix"] + about["suffix"]
        else:
            language = self.matcher.language
            sentences = [self.pairs[row][1] for row in rows]
            lengths = np.array([len(ids) for ids in language.encode(sentences, self.matcher.max_length)])
            specials = len(language.prefix) + len(language.suffix)
        return int((lengths if self.config.special_tokens else lengths - specials).sum())

    def training(self, batch: np.ndarray, update: int, mine: np.ndarray) -> dict[str, Tensor]:
        """The arguments of `MatchingLoss` for the captions `batch[mine]` of an update; the view of each picture
        is a function of the update, and of its place in the batch.
        """
        random = np.random.default_rng([self.config.seed, 1, update])
        rows = batch[mine]
        if self.store is not None:
            text, mask, content = self._stored(rows)
            view = random.integers(0, self.store.views.shape[1], len(batch))[mine]
            return {
                "text": text,
                "mask": mask if self.config.special_tokens else content,
                "ids_mask": mask,
                "picture": self.store.pictures(self.store.owner[rows], view)[:, 0],
            }
        language, vision = self.matcher.language, self.matcher.vision
        encoded = language.encode([self.pairs[row][1] for row in rows], self.matcher.max_length)
        ids, mask = language.pad(encoded)
        paths = [self.images[self.pairs[row][0]].path for row in rows]

        def view(position: int, picture: Image.Image) -> Tensor:
            generator = torch.Generator().manual_seed(seed_of(self.config.seed, update, int(rows[position])))
            return vision.train_pixels(picture, generator, self.scale)

        pixels = list(all_decoded(paths, view))
        counted = mask if self.config.special_tokens else content_mask(language, mask)
        return {"text": ids, "mask": counted, "ids_mask": mask, "picture": torch.stack(pixels)}

    def _stored(self, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Captions of the cache: hidden states, or ids where the language backbone trains; and both masks."""
        language = self.matcher.language
        if language is None:
            return self.store.captions(rows)
        return self.store.ids(rows, language.tokenizer.pad_token_id or 0)

    @torch.no_grad()
    def encoded(self, device: str) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor, Tensor]:
        """All captions in joint space in blocks (vectors, mask, mask without specials), pictures [N, d],
        owners [S].
        """
        matcher, blocks = self.matcher, []
        for first in range(0, self.size, 256):
            rows = np.arange(first, min(first + 256, self.size))
            if self.store is not None:
                text, mask, content = self._stored(rows)
                if matcher.language is not None:
                    text = matcher.language(text.to(device), mask.to(device)).float()
                text = matcher.f(text.to(device))
            else:
                sentences = [self.pairs[row][1] for row in rows]
                text, mask = matcher.queries(matcher.language.encode(sentences, matcher.max_length))
                content = content_mask(matcher.language, mask)
            blocks.append((text.float().cpu(), mask.cpu(), content.cpu()))
        if self.store is not None:
            pictures = [
                picture_vectors(matcher.g, self.store.pictures(part).to(device)).cpu()
                for part in np.array_split(
                    np.arange(len(self.store.views)), max(1, len(self.store.views) // 1024)
                )
            ]
            owner = torch.from_numpy(self.store.owner).long()
        else:
            paths = [image.path for image in self.images]
            views = all_decoded(paths, lambda _, picture: matcher.pixels(picture))
            pictures = [matcher.keys_of([pixels]).cpu() for pixels in views]
            owner = torch.tensor([i for i, _ in self.pairs])
        return blocks, torch.cat(pictures), owner


def validate(captions: CaptionBatches, config: MatchingConfig, device: str) -> dict[str, float]:
    """Loss and token recall within random batches, and sentence recall over the whole split.

    The batches are the same every time (shuffled once by the seed). `r*`: tokens, among the pictures of
    their batch; `sentence_r*`: sentences, among all pictures of the split; `legacy_r*`, if configured: `r*` as
    the original counts them (VOK-06).
    """
    blocks, pictures, owner = captions.encoded(device)
    order = torch.from_numpy(np.random.default_rng(config.seed).permutation(captions.size))
    batch = min(config.batch, captions.size) // 2 * 2
    longest = max(text.shape[1] for text, _, _ in blocks)
    text = torch.cat([pad(text, (0, 0, 0, longest - text.shape[1])) for text, _, _ in blocks])
    mask = torch.cat([pad(mask, (0, longest - mask.shape[1])) for _, mask, _ in blocks])
    loss, losses, found = loss_function(config), [], []
    for rows in order[: len(order) // batch * batch].split(batch):
        part = text[rows], pictures[owner[rows]], mask[rows]
        losses.append(loss(*part))
        found.append(token_batch_ranks(*part))
    scores = torch.cat([mean_token_scores(t, content, pictures) for t, _, content in blocks])
    sentences = recall(ranks(scores, owner), prefix="sentence_r")
    tokens = torch.cat(found)
    legacy = recall(tokens, prefix="legacy_r", legacy=True) if config.original.recall else {}
    return {"loss": torch.stack(losses).mean().item(), **recall(tokens), **sentences, **legacy}


def pool_recall(captions: CaptionBatches, device: str) -> dict[str, float]:
    """Retrieval among all pictures of a split: `r*` of sentences (mean token score), `token_r*` of single
    tokens.
    """
    blocks, pictures, owner = captions.encoded(device)
    sentence, token, first = [], [], 0
    for text, _, content in blocks:
        own = owner[first : first + len(text)]
        first += len(text)
        sentence.append(ranks(mean_token_scores(text, content, pictures), own))
        token.append(ranks(text[content] @ pictures.T, own[:, None].expand(content.shape)[content]))
    return recall(torch.cat(sentence)) | recall(torch.cat(token), prefix="token_r")


def train_matcher(
    captions: Mapping[str, CaptionBatches],
    matcher: Matcher,
    config: MatchingConfig,
    folder: Path,
    device: str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[..., None] = lambda done, total, **values: None,
) -> dict[str, float]:
    """Train, leave the best epoch's weights in `matcher` and `folder/best.safetensors`, and return all
    metrics.

    Continues from the folder's checkpoint. Loaded weights are validated first: metrics
    `start_valid_*`, no candidate for the best epoch; with `test_only` they are the result. Raises Diverged for a
    loss that is no number.
    """
    train, valid = captions["train"], captions["valid"]
    batch = min(config.batch, train.size) // 2 * 2
    if batch < 2 * world_size:  # every process needs a pair
        raise UserError(f"matching: {train.size} training captions do not fill a batch of {world_size} pairs")
    sampler = EpochSampler(train.size, batch, config.seed, drop_last=True)

    def batches(update: int) -> Update:
        rows = sampler(update)
        micro = train.training(rows, update, share_pairs(rows, rank, world_size))
        tokens = train.tokens(rows)
        return Update([micro], {"matching": tokens}, tokens)

    best = folder / "best.safetensors"

    def evaluate(update: int) -> dict[str, float]:
        values = validate(valid, config, device)
        score = values["loss"] if config.select == "loss" else -values["sentence_r10"]
        found = (
            json.loads(best.with_suffix(".json").read_text()) if best.with_suffix(".json").is_file() else None
        )
        better = found is None or (score, update) < (found["score"], found["update"])
        if rank == 0 and better and (update or config.test_only):
            with atomic(best) as temporary:
                save_file(trainable_state(matcher), temporary)
            about = {"score": score, "update": update, "valid": values}
            write_text(best.with_suffix(".json"), json.dumps(about))
        return {f"valid_{name}": value for name, value in values.items()}

    updates = 0 if config.test_only else config.epochs * sampler.per_epoch
    epochs = range(0 if config.load else 1, 1 if config.test_only else config.epochs + 1)
    plan = plan_of(
        config, updates, eps=1e-8, log_every=sampler.per_epoch,
        warmup=config.warmup if config.warmup_share is None else round(config.warmup_share * updates),
        evaluate_at=frozenset(epoch * sampler.per_epoch for epoch in epochs),
    )  # fmt: skip
    model = MatchingLoss(matcher, loss_function(config))
    records = fit(
        model, batches, plan, folder, device=device, rank=rank, world_size=world_size,
        evaluate=evaluate, progress=progress, keep=True,
    )  # fmt: skip
    fill_module(matcher, read_weights(best), best, optional=("language.", "vision."))
    matcher.eval()
    chosen = json.loads(best.with_suffix(".json").read_text())
    metrics = {f"valid_{name}": value for name, value in chosen["valid"].items()}
    metrics["best_epoch"] = chosen["update"] / sampler.per_epoch
    if config.load and not config.test_only:
        metrics |= {f"start_{name}": value for name, value in records[0].items() if name != "step"}
    return metrics | {f"test_{name}": value for name, value in pool_recall(captions["test"], device).items()}


def run_matching(context: StageContext) -> dict[str, float]:
    """Train a matcher on the captioned pictures and leave it in the stage's folder."""
    config: MatchingConfig = context.config
    features = context.inputs["features"]
    source = read_backbones(features)
    if source.config.splice and (config.train_language or config.train_vision):
        trained = "train_language" if config.train_language else "train_vision"
        raise UserError(
            f"vokenization.matching.{trained}: expected false, because features.splice is {source.config.splice} in "
            f"{features}: a backbone that trains reads whole captions. Set features.splice to 0"
        )
    language = source.open_language().freeze(False) if config.train_language else None
    if config.train_vision:
        language = language or source.open_language()
        vision = source.open_vision().freeze(False)
        matcher = new_matcher(config, features, language, vision)
        data = load_captions(context.inputs["captions"])
        images = {
            split: readable(data.captioned(split), lambda image: image.path, "a split", context.log)
            for split in SPLITS
        }
        images["train"] = images["train"][: source.config.max_images]
        stores = dict.fromkeys(SPLITS)
    else:
        matcher = new_matcher(config, features, language)
        images = dict.fromkeys(SPLITS, ())
        stores = {split: FeatureStore(features, split) for split in SPLITS}
    if config.load:
        for line in load_weights(matcher, config.load, source):
            context.log(line)
    captions = {
        split: CaptionBatches(stores[split], images[split], matcher, config, source.config.crop_scale)
        for split in SPLITS
    }
    metrics = train_matcher(
        captions, matcher, config, context.folder, context.device, context.rank, context.world_size, context.progress
    )  # fmt: skip
    if context.rank == 0:
        save_matcher(context.folder, matcher, config, features)
    shown = ", ".join(f"R@{k} {metrics[f'test_r{k}']:.3f}" for k in (1, 5, 10))
    context.log(f"sentence → picture on the test split, best epoch {metrics['best_epoch']:.0f}: {shown}")
    return metrics


def _inputs(config: MatchingConfig) -> dict[str, Request]:
    features = Request("features", {"cache": False} if config.train_vision else {})
    return {"features": features, **({"captions": splits_only} if config.train_vision else {})}


def _outside(config: MatchingConfig) -> dict[str, Path]:
    """Loaded weights: of a folder the one file that is read."""
    return {"load": weights_file(config.load)} if config.load else {}


MATCHING = Stage(
    "vokenization.matching", MatchingConfig, run_matching, _inputs, variant=("loss", "test_only", "seed"), version=2,
    distributed=True, outside=_outside, doc="Train the contextual token–picture matcher.",
)  # fmt: skip
