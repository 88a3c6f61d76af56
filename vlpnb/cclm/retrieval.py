"""Stage `cclm.retrieval`: fine-tune on pictures and captions, and find pictures by sentences of many languages.

Paper: Zeng et al., "Cross-View Language Modeling" (ACL 2023), section 4 and its tables of Multi30K, COCO, xFlickr&CO
and WIT: fine-tuned on English and asked in every language (zero-shot), fine-tuned on one language or on all, with few
rows of the asked language (`fewshot: "de,10"`), and asked with sentences translated to English. Of 0 epochs the
pre-trained model is asked as it is.

Differs from the original:

* The epoch is chosen on the validation split; for Multi30K and COCO the original keeps the best on the *test* sets, and
  for few rows its validation file is the test file (CCL-46).
* Few rows make at least one step an epoch: an incomplete batch is learned from (CCL-47).
* Candidates are ranked again exactly and once (`downstream.reranking`); recalls before that are told beside them.
"""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from vlpnb.cclm.batches import ImageText, Reading
from vlpnb.cclm.model import Cclm
from vlpnb.cclm.objectives import CclmPretraining
from vlpnb.cclm.original.weights import save_model
from vlpnb.cclm.start import ABOUT, StartConfig, StartingPoint, start_inputs, starting_point
from vlpnb.config import Name
from vlpnb.data.multilingual import Picture
from vlpnb.downstream import finetuning
from vlpnb.downstream.finetuning import FineTuningConfig, Job, Trained
from vlpnb.downstream.image_retrieval import Asked, Found, ask, compare, look
from vlpnb.downstream.seeds import summary
from vlpnb.downstream.transfer_rows import FewShots, read_shots
from vlpnb.errors import UserError
from vlpnb.files import write_json
from vlpnb.foundations.captioned_sets import SetName, Sets, open_sets
from vlpnb.stage import Request, Stage, StageContext
from vlpnb.train.optim import Optimiser
from vlpnb.train.sampling import Update

RESULTS = "retrieval.json"


class RetrievalConfig(StartConfig, FineTuningConfig):
    """How to fine-tune for retrieval, and what is asked. Defaults: the paper's for Multi30K in English."""

    epochs: float = Field(10.0, ge=0)
    """Passes over the captions; 0: the model is asked as it starts."""
    trained_on: SetName = "multilingual"
    """Whose training split is learned from: the stage `multilingual`, or Flickr30k's or WIT's of the stage `iglue`."""
    trained_in: tuple[Name, ...] = ("en",)
    """Languages of the captions that are learned from; empty: all."""
    sets: tuple[SetName, ...] = Field(("multilingual",), min_length=1)
    """Whose test splits are asked."""
    asked_in: tuple[Name, ...] = ()
    """Languages that are asked; empty: all."""
    captions: int | None = Field(None, ge=1)
    """At most so many sentences of each picture are asked."""
    translated: bool = False
    """Also ask with the sentences that a machine translated to English."""
    fewshot: FewShots = ""
    """Language and file of few rows that the English model learns from before it is asked in it: "de,10"; several:
    "de,10 ja,100"."""
    fewshot_epochs: float = Field(60.0, gt=0)
    """Passes over the few rows."""
    fewshot_lr: float = Field(1e-6, gt=0)
    """Peak learning rate with few rows."""
    k: int = Field(128, ge=0)
    """Candidates that the matching head ranks again, 256 for COCO in the paper; 0: none, the vectors decide."""
    best: bool = True
    """Keep the weights of the epoch with the highest validation score; false: the last ones."""
    eval_pictures: int = Field(1000, ge=1)
    """At most so many pictures of the validation split."""
    lr: float = Field(3e-5, gt=0)
    """Peak learning rate."""
    batch: int = Field(128, ge=1)
    """Captions per update."""
    optimiser: Optimiser = "transformers_adamw"
    """The original's, or PyTorch's "adamw"."""
    weight_decay: float = Field(0.01, ge=0)
    """Decay of the weights, biases and norms spared."""
    clip: float = Field(1e9, gt=0)
    """Largest gradient norm; the original does not clip here."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of units and of attention weights left out in training."""
    max_words: int = Field(30, ge=1)
    """Words of a caption that are read; 80 for xFlickr&CO and WIT."""
    max_tokens: int = Field(40, ge=3)
    """Word pieces of a caption, special tokens included; 80 for xFlickr&CO and WIT."""


def inputs(config: RetrievalConfig) -> Mapping[str, Request]:
    """Where the model starts, and the pictures with sentences that are learned from and asked."""
    needed = start_inputs(config)
    used = {*config.sets, *([config.trained_on] if config.epochs else [])}
    if "multilingual" in used:
        needed["multilingual"] = Request("multilingual", config.pretraining.get("multilingual", {}))
    if used - {"multilingual"} or config.fewshot or config.translated:
        needed["iglue"] = Request("iglue")
    return needed


class Retrieval:
    """One fine-tuning and its questions, with one seed."""

    def __init__(self, context: StageContext, start: StartingPoint, sets: Sets):
        self.config: RetrievalConfig = context.config
        self.start, self.sets, self.device = start, sets, context.device
        self.left_out: dict[str, None] = {}

    def fit(self, config: RetrievalConfig, pictures: Sequence[Picture], languages: Sequence[str], model: Cclm,
            work: Path, seed: int, choose: bool) -> Trained[CclmPretraining]:  # fmt: skip
        """Train a model on captions in these languages; `choose` the epoch on the validation split."""
        reading = Reading(self.start.pieces, config.max_words, config.max_tokens, seed=seed)
        batches = ImageText(
            pictures,
            self.sets.store,
            reading,
            languages,
            each="caption",
            batch=min(config.batch, len(pictures)),
        )

        def update(number: int) -> Update:
            part = batches(number)
            return Update([part.batch], {name: part.counts[name] for name in ("itc", "itm")}, part.tokens)

        return finetuning.train_on(
            lambda: CclmPretraining(model, ("itc", "itm")), update, batches.per_epoch, config, work, seed, self.device,
            score=self.validate if choose else None, optimiser=config.optimiser,
            plan={"betas": (0.9, 0.98), "eps": 1e-8},
        )  # fmt: skip

    def validate(self, model: CclmPretraining) -> float:
        """Mean r_mean over the languages that are learned from, of the validation split."""
        found = self.answers(model.model, self.config.trained_on, "valid", self.languages)
        return sum(_judged(each.metrics) for each in found.values()) / len(found)

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that are learned from."""
        there = {name for p in self.training for name in p.captions}
        wanted = self.config.trained_in or tuple(sorted(there))
        missing = [name for name in wanted if name not in there]
        if missing:
            raise UserError(
                f"cclm.retrieval.trained_in: found {', '.join(missing)}; the training pictures of "
                f"`{self.config.trained_on}` have captions in {', '.join(sorted(there)) or 'no language'}"
            )
        return wanted

    @property
    def training(self) -> list[Picture]:
        """Pictures that are learned from."""
        found = self.sets.pictures(self.config.trained_on, "train")
        return next(iter(found.values()), [])

    def answers(
        self, model: Cclm, name: SetName, split: str, languages: Sequence[str] = ()
    ) -> dict[str, Found]:
        """Language → recalls on a split of a set."""
        found = {}
        pictures = self.sets.pictures(name, split)
        for language in languages or self.config.asked_in or pictures:
            if language not in pictures:
                raise UserError(
                    f"cclm.retrieval: nobody can be asked in {language!r} on `{name}`, split {split}; its languages: "
                    f"{', '.join(pictures) or 'none'}"
                )
            shown = (
                pictures[language][: self.config.eval_pictures] if split == "valid" else pictures[language]
            )
            found |= self.asked(model, shown, language)
        return found

    def asked(self, model: Cclm, pictures: Sequence[Picture], language: str) -> dict[str, Found]:
        """The recalls of pictures by their sentences in a language."""
        config = self.config
        about: Asked = ask(
            pictures, language, self.start.pieces, config.max_words, config.max_tokens, config.captions
        )
        self.left_out |= dict.fromkeys(about.left_out)
        gallery = look(model, self.sets.store, [p.id for p in pictures], self.device)
        return compare(model, gallery, {language: about}, config.k, self.device)

    def run(self, folder: Path, work: Path, seed: int) -> dict[str, Any]:
        """Fine-tune, ask, and for each few-shot setting go on from there."""
        config = self.config
        torch.manual_seed(seed)
        model = self.start.model(dropout=config.dropout)
        trained: Trained = Trained(CclmPretraining(model, ("itc", "itm")).to(self.device), [], "", 0)
        if config.epochs:
            trained = self.fit(config, self.training, self.languages, model, work, seed, config.best)
        backbone = trained.model.model.eval()
        splits: dict[str, Found] = {}
        for name in config.sets:
            prefix = "" if name == "multilingual" else f"{name}_"
            splits |= {f"{prefix}{lang}": each for lang, each in self.answers(backbone, name, "test").items()}
            if config.translated and name != "multilingual":
                splits |= self.translated(backbone, name)
        splits |= self.few_shots(backbone, work, seed)
        if config.keep_models:
            save_model(work / "model", backbone, self.start.pieces.tokenizer)
        valid = self.answers(backbone, config.sets[0], "valid", self.languages if config.epochs else ("en",))
        names = next(iter(valid.values())).metrics
        metrics = {name: sum(each.metrics[name] for each in valid.values()) / len(valid) for name in names}
        return {
            "seed": seed, "value": _judged(metrics), "majority": 0.0, "metrics": metrics,
            "splits": {name: dict(each.metrics) for name, each in splits.items()},
            "ranks": {name: each.kept() for name, each in splits.items()},
            "diverged": trained.reason, "note": "", "losses": list(trained.losses), "scores": dict(trained.scores),
            "kept": trained.kept, "left_out": list(self.left_out), **trained.summary(),
        }  # fmt: skip

    def translated(self, model: Cclm, name: SetName) -> dict[str, Found]:
        """Translate-test: recalls by the sentences that were translated to English."""
        found = {}
        for language in self.sets.iglue.languages(name):
            pictures = self.sets.rows(name, "test", language, translated=True) if language != "en" else []
            if pictures:
                found[f"{name}_{language}_translated"] = self.asked(model, pictures, language)[language]
        return found

    def few_shots(self, model: Cclm, work: Path, seed: int) -> dict[str, Found]:
        """Few-shot: the model goes on with few rows of a language, and is asked in it."""
        config, found = self.config, {}
        name = next((each for each in config.sets if each != "multilingual"), "xflickrco")
        for shots in read_shots(config.fewshot):
            language = shots.language
            fields = {"epochs": config.fewshot_epochs, "lr": config.fewshot_lr, "best": False}
            rows = self.sets.rows(name, "train", language, shots=shots.count)
            place = work / f"{language}-{shots.count}"
            place.mkdir(parents=True, exist_ok=True)
            start = copy.deepcopy(model)
            few = self.fit(config.model_copy(update=fields), rows, (language,), start, place, seed, False)
            asked = self.asked(few.model.model.eval(), self.sets.pictures(name, "test")[language], language)
            found[f"{name}_{shots.split}"] = asked[language]
        return found


def _judged(metrics: Mapping[str, float]) -> float:
    """The number that decides: r_mean, of the vectors where nothing is ranked again."""
    return metrics.get("r_mean", metrics["vectors_r_mean"])


def run(context: StageContext) -> dict[str, float]:
    """Fine-tune with every seed and ask; writes `retrieval.json`, and `left_out.txt` of sentences that say nothing.

    Metrics, means over the seeds with `_std`: of the validation split `<recall>` (mean over the languages that are
    learned from), of the test sets `<language>_<recall>`, `xflickrco_<language>_<recall>`, `wit_…`, with
    `_translated_` or `_<rows>_shots_` where so asked. Recalls: img_r1, img_r5, img_r10 (text→picture), txt_…
    (picture→text), img_mean, txt_mean, r_mean; before re-ranking with `vectors_` in front.
    """
    config: RetrievalConfig = context.config
    start = starting_point(context)
    task = Retrieval(context, start, open_sets(context.inputs, start.store()))
    context.log(f"starts from: {start.name}; {config.epochs:g} epochs")

    def job(seed: int) -> Job:
        return Job(f"seed-{seed}", lambda folder, work: [task.run(folder, work, seed)])

    def line(result: Mapping[str, Any]) -> str:
        told = {name: each.get("img_r10", each["vectors_img_r10"]) for name, each in result["splits"].items()}
        shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in told.items())
        return f"text to picture R@10, seed {result['seed']}: {shown}"

    seeds = config.seeds if config.epochs else config.seeds[:1]  # without a training nothing is drawn
    results = finetuning.run_jobs(context, [job(seed) for seed in seeds], line, RESULTS)
    if context.rank == 0:
        where = {name: os.path.relpath(path, context.folder) for name, path in context.inputs.items()}
        write_json(context.folder / ABOUT, {"inputs": where, "max_words": config.max_words,
                                            "max_tokens": config.max_tokens})  # fmt: skip
    silent = list(dict.fromkeys(line for result in results for line in result["left_out"]))
    context.list_left_out("left_out.txt", silent, "sentences say nothing and are not asked")
    metrics = summary(results)
    del metrics["majority"]
    return metrics


RETRIEVAL = Stage(
    name="cclm.retrieval",
    config=RetrievalConfig,
    run=run,
    inputs=inputs,
    variant=("start", "trained_in", "sets", "fewshot", "pretraining", "epochs", "seed"),
    doc="Find pictures by sentences in many languages, fine-tuned on some of them.",
    distributed=True,
)
