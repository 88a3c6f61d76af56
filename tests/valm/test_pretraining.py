"""Stage `valm.pretraining`: what each variant is shown, what it leaves, resuming, processes, input that is wrong."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.dying import dying_at
from tests.valm.database import make
from vlpnb.config import parse_config
from vlpnb.errors import UserError
from vlpnb.files import read_back
from vlpnb.foundations.blocks import BLOCKS, BlocksConfig, load_corpus
from vlpnb.retrieval.readers import standardised
from vlpnb.retrieval.store import VectorStore
from vlpnb.retrieval.tables import open_table
from vlpnb.stage import StageContext
from vlpnb.train.distributed import spawn
from vlpnb.train.loop import TrainingPlan
from vlpnb.valm.config import size_config
from vlpnb.valm.examples import Batches
from vlpnb.valm.objectives import ValmLM
from vlpnb.valm.original.weights import load_gpt2_lm, load_model, save_gpt2_lm
from vlpnb.valm.pretraining import PRETRAINING, PretrainingConfig, training_plan
from vlpnb.valm.scoring import open_scorer
from vlpnb.valm.shown import Live, Look, load_looks, read_looks

FIELDS = {
    "size": "tiny", "updates": 6, "batch": 8, "micro_batch": 8, "lr": 1e-3, "warmup": 2, "dropout": 0.1, "log_every": 1,
    "evaluations": 2, "word_rate": 0.15, "words_width": 16, "checkpoint_seconds": 60, "asked": ("red", "green"),
}  # fmt: skip
WITH_PICTURES = ("random", "self", "captions", "oracle", "retrieved")


@pytest.fixture(scope="module")
def made(small, tmp_path_factory):
    database = make(small, tmp_path_factory.mktemp("database"))
    database.queries("queries")
    database.queries("self", mode="self")
    return database


def folders(made, variant: str) -> dict[str, Path]:
    if variant == "none":
        return {"corpus": made.corpus}
    return {
        "corpus": made.corpus,
        "images": made.root / "images",
        "queries": made.root / ("self" if variant == "self" else "queries"),
    }


def context(made, folder: Path, **fields) -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    config = PretrainingConfig(**(FIELDS | fields))
    return StageContext(
        config, folder, folders(made, config.variant), "cpu", name="valm", say=lambda line: None
    )


def pretrain(made, folder: Path, **fields) -> dict[str, float]:
    return dict(PRETRAINING.run(context(made, folder, **fields)))


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "model").state_dict()


@pytest.fixture(scope="module")
def trained(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder, pretrain(made, folder)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["none", *WITH_PICTURES])
def test_every_variant_learns_and_can_be_asked(made, tmp_path, variant):
    metrics = pretrain(made, tmp_path, variant=variant, updates=30, lr=3e-3)
    found = losses(tmp_path)
    assert np.mean(found[-5:]) < np.mean(found[:5]) - 0.3
    settings = {"captions_loss", "text_loss", "asked_loss"}
    assert settings < metrics.keys()
    assert (f"{min(settings)}_hidden" in metrics) == (variant != "none")
    assert all(math.isfinite(value) for value in metrics.values())
    assert read_back(tmp_path / "held_out.json") == {
        name: value for name, value in metrics.items() if "_loss" in name
    }
    scorer = open_scorer(tmp_path)
    scores = scorer(["the red thing is", "everything is"], ["red", "green", "blue"])
    assert scores.shape == (2, 3)
    assert (scores < 0).all()


def test_variants_differ_in_nothing_but_what_is_shown(made, tmp_path):
    text = {}
    for variant in ("none", "random", "retrieved"):
        corpus = load_corpus(made.corpus)
        looks = read_looks(folders(made, variant), Look(variant, 16), corpus, "cpu")
        config = PretrainingConfig(**FIELDS, variant=variant)
        batches = Batches(
            corpus.blocks("train"), corpus.words, looks.shown("train"), config.hiding, batch=8, micro_batch=8
        )
        text[variant] = batches(3).micro[0]
    for variant in ("random", "retrieved"):
        assert torch.equal(text["none"]["ids"], text[variant]["ids"])
        assert torch.equal(text["none"]["targets"], text[variant]["targets"])
    assert not torch.equal(text["random"]["rows"], text["retrieved"]["rows"])


def test_pictures_are_those_of_the_table(made):
    corpus, store = load_corpus(made.corpus), VectorStore(made.root / "images")
    looks = read_looks(folders(made, "retrieved"), Look("retrieved"), corpus, "cpu")
    numbers = np.array([4, 0, 7])
    batch = corpus.blocks("train").batch(numbers)
    shown = looks.shown("train")(numbers, batch, (1, 2))
    rows = open_table(made.root / "queries", "train").batch(numbers, batch["ids"].shape[1])
    there = rows >= 0
    assert torch.equal(shown["rows"] >= 0, there)
    assert torch.equal(shown["images"][shown["rows"][there]], store.gather(rows[there]))


def test_a_caption_is_shown_its_own_picture_by_the_oracle(made):
    corpus = load_corpus(made.corpus)
    looks = read_looks(folders(made, "oracle"), Look("oracle"), corpus, "cpu")
    blocks = corpus.blocks("train")
    numbers = np.arange(len(blocks))
    batch = blocks.batch(numbers)
    shown = looks.shown("train")(numbers, batch, (0,))
    store = VectorStore(made.root / "images")
    for text, places in zip(batch["own"], shown["rows"], strict=True):
        for own, row in zip(text.tolist(), places, strict=True):
            if own >= 0 and (known := looks.own[own]) >= 0:
                assert torch.equal(shown["images"][row], store.gather(np.full(len(row), known)))
    assert (batch["own"] >= 0).any()
    assert (batch["own"] < 0).any()


def test_live_pictures_are_those_of_training(made, trained):
    looks, corpus = load_looks(trained[0])
    blocks = corpus.blocks("captions")
    numbers = np.arange(len(blocks))
    batch = blocks.batch(numbers)
    table = looks.shown("captions")(numbers, batch, (0,))
    live = Live(looks, "trained", corpus.pad_id)(batch["ids"])
    for there, place, found in zip(table["rows"] >= 0, table["rows"], live["rows"], strict=True):
        assert torch.equal(found >= 0, there)
        assert torch.equal(live["images"][found[there]], table["images"][place[there]])


def test_random_pictures_of_a_word_depend_on_no_later_word(made, trained):
    looks, corpus = load_looks(trained[0])
    see = Live(looks, "random", corpus.pad_id)
    ids = corpus.blocks("text").batch([0, 1])["ids"]
    other = ids.clone()
    other[:, 5] = (other[:, 5] + 1) % corpus.vocab_size
    one, two = see.rows(ids), see.rows(other)
    assert np.array_equal(one[:, :5], two[:, :5])
    assert not np.array_equal(one[:, 5], two[:, 5])


def test_a_hidden_picture_is_no_picture(made, trained):
    text = ["the red thing is here ."]
    hidden = open_scorer(trained[0], "hidden")
    (nats,) = hidden.nats(text)
    ids = hidden.words.encode(text)[0].tolist()
    row = torch.tensor([[hidden.words.end_id, *ids]])
    logs = hidden.model.logits(row)[0].log_softmax(-1).detach()
    expected = [-float(logs[i, piece]) for i, piece in enumerate([*ids, hidden.words.end_id])]
    np.testing.assert_allclose(nats, expected, atol=1e-5)
    assert np.abs(nats - open_scorer(trained[0]).nats(text)[0]).max() > 1e-5


def test_standardised_vectors_have_mean_0_and_spread_1_and_are_read_alike_when_asked(made, tmp_path):
    store = VectorStore(made.root / "images")
    values = standardised(store)(np.arange(len(store)))
    assert torch.allclose(values.mean(0), torch.zeros(values.shape[1]), atol=1e-4)
    varied = torch.from_numpy(np.asarray(store.values, np.float32).std(0)) > 1e-5
    assert torch.allclose(values[:, varied].std(0, correction=0), torch.ones(int(varied.sum())), atol=1e-3)
    pretrain(made, tmp_path, standardise=True, updates=0)
    looks, corpus = load_looks(tmp_path)
    seen = Live(looks, "trained", corpus.pad_id)(corpus.blocks("text").batch([0])["ids"])
    assert all(((values - row).abs().amax(1) < 1e-5).any() for row in seen["images"])


@pytest.mark.parametrize("objective", ["masked", "both"])
def test_masked_words_are_guessed_with_pictures_found_without_them(made, tmp_path, objective, monkeypatch):
    asked = []
    from vlpnb.valm.retriever import Retriever

    whole = Retriever.rows

    def rows(self, ids, **about):
        asked.append(ids.clone())
        return whole(self, ids, **about)

    monkeypatch.setattr(Retriever, "rows", rows)
    metrics = pretrain(made, tmp_path, objective=objective, updates=2, evaluations=1)
    assert math.isfinite(metrics["captions_loss"])
    mask = load_corpus(made.corpus).mask_id
    assert asked
    assert not any((ids == mask).any() for ids in asked)


def test_a_killed_run_continues_to_the_bit(made, trained, tmp_path):
    with dying_at(Batches, 4):
        pretrain(made, tmp_path, checkpoint_seconds=0)
    metrics = pretrain(made, tmp_path, checkpoint_seconds=0)
    assert losses(tmp_path) == losses(trained[0])
    same = set(metrics) - {"tokens_per_second"}
    assert {name: metrics[name] for name in same} == {name: trained[1][name] for name in same}
    one, other = weights(tmp_path), weights(trained[0])
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("variant", ["random", "retrieved"])
def test_micro_batches_change_nothing(made, tmp_path, variant):
    settings = {"variant": variant, "dropout": 0.0, "image_rate": 0.3, "all_rate": 0.2}
    for name, micro in (("whole", 8), ("parts", 3)):
        pretrain(made, tmp_path / name, micro_batch=micro, **settings)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def _part(rank: int, processes: int, root: str, out: str, variant: str) -> None:
    database = type("Database", (), {"root": Path(root), "corpus": Path(root) / "corpus"})
    PRETRAINING.run(
        replace(context(database, Path(out), variant=variant, dropout=0.0), rank=rank, world_size=processes)
    )


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["none", "random", "retrieved"])
def test_two_processes_learn_what_one_learns(made, tmp_path, variant):
    pretrain(made, tmp_path / "one", variant=variant, dropout=0.0)
    spawn(_part, 2, str(tmp_path / "store"), str(made.root), str(tmp_path / "two"), variant)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def test_an_untrained_model_can_be_asked_for(made, tmp_path):
    for name in ("one", "other"):
        assert pretrain(made, tmp_path / name, updates=0)["updates"] == 0
    one, other = weights(tmp_path / "one"), weights(tmp_path / "other")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def gpt2(made, tmp_path_factory):
    """A GPT-2 over the corpus's words."""
    corpus = load_corpus(made.corpus)
    sizes = {"hidden": 16, "layers": 2, "heads": 2, "ffn": 32, "max_positions": 12, "fusion": ()}
    torch.manual_seed(3)
    lm = ValmLM(size_config("gpt2", vocab_size=corpus.vocab_size, **sizes, eos_id=corpus.end_id, mask_id=0))
    return save_gpt2_lm(tmp_path_factory.mktemp("gpt2"), lm, corpus.tokenizer)


def test_a_gpt2_can_be_the_start_and_keep_its_words(made, gpt2, tmp_path):
    pretrain(made, tmp_path, start=str(gpt2), frozen=True, updates=5)
    before, after = load_gpt2_lm(gpt2).state_dict(), weights(tmp_path)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    pretrain(made, tmp_path / "all", start=str(gpt2), updates=5)
    assert not torch.equal(weights(tmp_path / "all")["model.norm.weight"], before["model.norm.weight"])
    assert open_scorer(tmp_path)(["the red thing is"], ["red", "green"]).shape == (1, 2)


def test_a_gpt2_of_other_words_is_refused(made, tmp_path):
    lm = ValmLM(
        size_config(
            "gpt2", vocab_size=70, hidden=16, layers=2, heads=2, ffn=32, fusion=(), eos_id=1, mask_id=0
        )
    )
    with pytest.raises(UserError, match=r"has 70 word pieces .* Make the corpus with its tokenizer"):
        pretrain(made, tmp_path / "out", start=str(save_gpt2_lm(tmp_path / "gpt2", lm)))


def test_a_model_whose_pictures_are_gone_says_where_they_were(made, tmp_path):
    whole = tmp_path / "run"
    shutil.copytree(made.root, whole)
    moved = type("Database", (), {"root": whole, "corpus": whole / "corpus"})
    pretrain(moved, whole / "model", updates=0)
    open_scorer(whole / "model")  # what it names is there
    shutil.move(whole, tmp_path / "elsewhere")
    open_scorer(tmp_path / "elsewhere" / "model")  # and moves with it
    shutil.rmtree(tmp_path / "elsewhere" / "images")
    with pytest.raises(
        UserError, match=r"looks\.json: names .*images.*run the stage `picture_vectors` again"
    ):
        open_scorer(tmp_path / "elsewhere" / "model")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": "tin"}, "expected one of base"),
        ({"projection": "own"}, "expected one of shared_bias"),
        ({"variant": "none", "image_rate": 0.5}, "no pictures to hide"),
        ({"fusion": ()}, "no block looks at pictures"),
        ({"frozen": True}, "needs a `start` whose words are kept"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields, said):
    with pytest.raises(UserError, match=said):
        parse_config(PretrainingConfig, fields, "valm.pretraining")


def test_tables_of_another_database_are_refused(made, tmp_path):
    made.images("others", max_images=5)
    wrong = replace(
        context(made, tmp_path), inputs={**folders(made, "retrieved"), "images": made.root / "others"}
    )
    with pytest.raises(UserError, match=r"rows are of a store with the hash"):
        PRETRAINING.run(wrong)


def test_tables_of_another_text_are_refused(made, tmp_path):
    config = BlocksConfig(tokenizer=str(made.small.root / "words"), sets=("train",), block=7, by_line=True)
    made.small.run(BLOCKS, config, tmp_path / "corpus", **made.small.data)
    wrong = replace(
        context(made, tmp_path / "out"), inputs={**folders(made, "retrieved"), "corpus": tmp_path / "corpus"}
    )
    with pytest.raises(UserError, match=r"train\.hdf5: has pictures for .* they are of another text"):
        PRETRAINING.run(wrong)


def test_the_plan_is_the_papers():
    plan = training_plan(PretrainingConfig())
    assert isinstance(plan, TrainingPlan)
    assert (plan.updates, plan.lr, plan.warmup, plan.schedule, plan.clip) == (
        500_000,
        5e-4,
        4000,
        "inverse_sqrt",
        2.0,
    )
    assert (plan.betas, plan.eps, plan.weight_decay, plan.optimiser) == (
        (0.9, 0.98),
        1e-8,
        0.01,
        "fairseq_adam",
    )
