"""Pre-training line by line: what an example is, and that padding changes nothing."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests import tiny_lm
from vlpnb.data.store import mapped, write_store
from vlpnb.text.corpora import TokenCorpus
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.train.sampling import seed_of
from vlpnb.vokenization import pretraining
from vlpnb.vokenization.pretraining import PretrainingConfig
from vlpnb.vokenization.supervision import training_data

LINES = {
    "size": "micro",
    "updates": 6,
    "warmup": 1,
    "lr": 1e-3,
    "examples": "lines",
    "block": 12,
    "batch": 12,
    "micro_batch": 12,
    "objective": "cls+reg",
}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Lines of 1 to 15 word pieces, every second one cut after 12; and their vokens."""
    root = tmp_path_factory.mktemp("uneven")
    made = tiny_lm.make(root, count=60)
    for split in ("train", "valid"):
        tokens = np.asarray(TokenCorpus(made["corpus"] / f"{split}.hdf5").tokens)[:400]
        offsets = np.minimum(
            np.cumsum([0, *itertools.islice(itertools.cycle((14, 1, 15, 6)), 45)]), len(tokens)
        )
        about = TokenCorpus(made["corpus"] / f"{split}.hdf5").attributes
        vokens = np.asarray(mapped(made["vokens"] / f"{split}.hdf5", "vokens"))[:400]
        with write_store(root / f"{split}.hdf5", "corpus", {"vocabulary": about["vocabulary"]}) as file:
            file["tokens"], file["lines"], file["sentences"] = tokens, offsets, offsets
        (root / f"{split}.hdf5").replace(made["corpus"] / f"{split}.hdf5")
        with write_store(root / f"{split}.hdf5", "vokens") as file:
            file["vokens"] = vokens
        (root / f"{split}.hdf5").replace(made["vokens"] / f"{split}.hdf5")
    return made


def train(inputs, folder, settings):
    return pretraining.run(tiny_lm.context(PretrainingConfig(**settings), folder, inputs))


def update_of_lines(inputs, tmp_path, number=1, rank=0, world_size=1, **settings):
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    config = PretrainingConfig(**{**LINES, **settings})
    data = training_data(tiny_lm.context(config, tmp_path, inputs), "train", tokenizer)
    return pretraining.Batches(config, data, tokenizer, tiny_lm.VOKENS, rank, world_size)(number)


def test_lines_are_examples(uneven, tmp_path):
    """Line by line, each cut to the block's length; labels and counts only where there are tokens."""
    update = update_of_lines(uneven, tmp_path, voken_labels="all")
    [micro] = update.micro
    corpus = TokenCorpus(uneven["corpus"] / "train.hdf5")
    vokens = np.asarray(mapped(uneven["vokens"] / "train.hdf5", "vokens"))
    for row, number in enumerate(range(12, 24)):  # the second update, in the corpus's order
        first = corpus.lines[number]
        body = corpus.line(number)[:12]
        n = len(body)
        kept = micro["mlm_labels"][row, 1 : n + 1] == -100
        assert torch.equal(micro["ids"][row, 1 : n + 1][kept], torch.from_numpy(body.astype(np.int64))[kept])
        assert micro["voken_labels"][row, 1 : n + 1].tolist() == vokens[first : first + n].tolist()
        assert micro["mask"][row].tolist() == [i < n + 2 for i in range(14)]
        assert micro["ids"][row, [0, n + 1]].tolist() == [2, 3]
        for name in ("mlm_labels", "voken_labels"):
            assert set(micro[name][row, n + 1 :].tolist()) == {-100}
    lengths = np.minimum(np.diff(corpus.lines), 12)[12:24]
    assert update.counts["voken_cls"] == update.counts["voken_reg"] == lengths.sum()
    assert update.counts["mlm"] == (micro["mlm_labels"] != -100).sum()
    assert update.tokens == lengths.sum() + 2 * 12
    everywhere = update_of_lines(uneven, tmp_path, original={"mean_over_all": True})
    assert everywhere.counts["voken_reg"] == update.tokens


def test_padding_changes_no_loss_and_no_gradient(uneven, tmp_path):
    """Whatever is padded, how far, and with what: the sums over the update's counts and their gradients are equal."""
    tokenizer = load_tokenizer(uneven["corpus"] / "tokenizer")
    torch.manual_seed(3)
    config = pretraining.language_model_config("micro", tokenizer, 0.0)
    features = torch.randn(tiny_lm.VOKENS, 4)
    model = pretraining.VisuallySupervisedLM(config, tiny_lm.VOKENS, "cls+reg", False, features).double()
    whole = update_of_lines(uneven, tmp_path)
    pad = {"ids": tokenizer.pad_token_id, "mlm_labels": -100, "voken_labels": -100, "mask": 0}

    def padded(batch, more):
        made = {k: F.pad(v.long(), (0, more), value=pad[k]) for k, v in batch.items()}
        return made | {"mask": made["mask"].bool()}

    def measured(micro):
        model.zero_grad()
        losses: dict[str, float] = {}
        for part in micro:
            means = {name: value / whole.counts[name] for name, value in model(**part).items()}
            sum(means.values()).backward()
            losses = {name: losses.get(name, 0.0) + value.item() for name, value in means.items()}
        return losses, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    losses, gradients = measured(whole.micro)
    assert set(losses) == {"mlm", "voken_cls", "voken_reg"}
    alone = update_of_lines(uneven, tmp_path, micro_batch=1)
    assert sorted({part["ids"].shape[1] for part in alone.micro}) == [3, 8, 14]  # each as long as its line
    ranks = [update_of_lines(uneven, tmp_path, rank=r, world_size=5, micro_batch=2) for r in range(5)]
    assert all(update.counts == whole.counts for update in (alone, *ranks))
    further = [padded(part, 5) for part in whole.micro]
    other = {k: v.clone() for k, v in whole.micro[0].items()}
    other["ids"][~other["mask"]] = 7
    for micro in (alone.micro, [m for update in ranks for m in update.micro], further, [other]):
        found, own = measured(micro)
        assert found == pytest.approx(losses, rel=1e-9)
        for one, expected in zip(own, gradients, strict=True):
            torch.testing.assert_close(one, expected, rtol=1e-7, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("supervision", ["mlm", "vokens", "random", "shuffle", "reverse", "token"])
def test_lines_train_with_any_supervision(uneven, tmp_path, supervision):
    """Also the plain baseline; the micro-batch, and so the padding, changes nothing."""
    settings = {**LINES, "objective": "cls", "supervision": supervision, "dropout": 0.0, "shuffle": True}
    one = train(uneven, tmp_path / "one", settings)
    many = train(uneven, tmp_path / "many", {**settings, "micro_batch": 2})
    expected = 0
    for number in range(6):
        expected += update_of_lines(uneven, tmp_path, number, shuffle=True).tokens
    assert one["tokens"] == expected
    for name in {"perplexity", "voken_loss"} & one.keys():
        assert many[name] == pytest.approx(one[name], rel=1e-4)
    assert ("voken_loss" in one) == (supervision != "mlm")


def test_evaluating_lines_does_not_depend_on_the_padding(uneven, tmp_path):
    tokenizer = load_tokenizer(uneven["corpus"] / "tokenizer")
    torch.manual_seed(0)
    model = pretraining.VisuallySupervisedLM(
        pretraining.language_model_config("micro", tokenizer, 0.1), tiny_lm.VOKENS
    ).eval()
    config = PretrainingConfig(**{**LINES, "objective": "cls"})
    data = training_data(tiny_lm.context(config, tmp_path, uneven), "valid", tokenizer)
    batches = pretraining.Batches(config, data, tokenizer, tiny_lm.VOKENS, 0, 1)
    found = pretraining.evaluate(model, batches, "cpu", 24)
    made = batches.examples(
        np.arange(24), torch.Generator().manual_seed(seed_of(pretraining.EVALUATION_SEED, 0))
    )
    totals = {"loss": 0.0, "count": 0}
    for row in range(24):  # one by one, without any padding
        n = int(made["mask"][row].sum())
        alone = {name: made[name][row : row + 1, :n] for name in ("ids", "mlm_labels", "voken_labels")}
        sums = model.measure(**alone)
        totals = {"loss": totals["loss"] + sums["voken"], "count": totals["count"] + sums["voken_count"]}
    assert found["voken_loss"] == pytest.approx(totals["loss"] / totals["count"], rel=1e-5)
