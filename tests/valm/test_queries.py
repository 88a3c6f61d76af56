"""Stage `valm.queries`: tables equal live retrieval to the bit, whatever made them, and are refused elsewhere."""

import threading

import numpy as np
import pytest
import torch

from tests.valm.database import make
from vlpnb.errors import UserError
from vlpnb.foundations.blocks import load_corpus
from vlpnb.retrieval.store import VectorStore
from vlpnb.retrieval.tables import open_table
from vlpnb.stage import StageContext
from vlpnb.text.paragraphs import rows_of_pictures
from vlpnb.text.query_texts import SEARCHED
from vlpnb.valm.queries import QUERIES, QueriesConfig, open_retriever, own_rows, write_table

MODES = {
    **{mode: {} for mode in (*SEARCHED, "random", "none", "oracle")},
    "chunk": {"every": 4},
    "token_window": {"window": 6, "stride": 2},
}


@pytest.fixture(scope="module")
def made(small, tmp_path_factory):
    return make(small, tmp_path_factory.mktemp("database"))


def live(made, folder, split, numbers):
    """What live retrieval gives for some examples of a split, as a caller would ask."""
    corpus, find = load_corpus(made.corpus), open_retriever(made.root / folder)
    batch = corpus.blocks(split).batch(numbers)
    own = own_rows(batch, rows_of_pictures(corpus.pictures, find.store.ids))
    return find.rows(batch["ids"], own=own, given=own[:, :, None], keys=torch.tensor(numbers))


@pytest.mark.slow
@pytest.mark.parametrize("exclude_own", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_table_equals_live_retrieval_to_the_bit(made, mode, exclude_own):
    name = f"{mode}-{exclude_own}"
    made.queries(name, mode=mode, exclude_own=exclude_own, scores=True, **MODES[mode])
    for split in ("train", "captions", "text"):
        table = open_table(made.root / name, split)
        assert len(table) == len(load_corpus(made.corpus).blocks(split))
        for numbers in ([0], [3, 1], list(range(len(table)))):
            found = live(made, name, split, numbers)
            length = found.rows.shape[1]
            assert torch.equal(table.batch(numbers, length), found.rows)
            assert (table.batch(numbers)[:, length:] == -1).all()
            if mode != "chunk":
                scores = torch.from_numpy(table.scores[np.array(numbers), :length])
                assert torch.equal(scores, found.scores.half())


@pytest.mark.parametrize("mode", [mode for mode in SEARCHED if mode != "token_compat"])
def test_with_trained_towers_no_later_token_changes_what_is_retrieved(made, mode):
    made.queries(f"causal-{mode}", mode=mode, **MODES[mode])
    find, corpus = open_retriever(made.root / f"causal-{mode}"), load_corpus(made.corpus)
    ids = torch.randint(5, corpus.vocab_size, (8, 26), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[::2, 9] = corpus.end_id, corpus.end_id
    before = find.rows(ids).rows
    for at in (1, 8, 17, 25):
        other = ids.clone()
        other[:, at] = (other[:, at] + 3).clamp(max=corpus.vocab_size - 1)
        assert torch.equal(find.rows(other).rows[:, :at], before[:, :at])
        assert torch.equal(find.rows(ids[:, :at]).rows, before[:, :at])


def test_the_queries_themselves_are_the_table_of_mode_self(made):
    metrics = made.queries("self", mode="self")
    table, find = open_table(made.root / "self", "captions"), open_retriever(made.root / "self")
    ids = load_corpus(made.corpus).blocks("captions").batch([2, 0])["ids"]
    images, mask = find.images(ids)
    found = table.queries([2, 0], ids.shape[1])
    assert torch.equal(found, images[:, :, 0])
    assert torch.equal(found.any(2), mask[:, :, 0])
    assert "captions_pictures" not in metrics
    with pytest.raises(UserError, match="has vectors and no rows"):
        table.batch([0])


def test_metrics_say_how_much_is_seen(made):
    seen = made.queries("seen")
    table = open_table(made.root / "seen", "train")
    assert seen["train_examples"] == len(table)
    assert seen["train_pictures"] == len(np.unique(table.rows[table.rows >= 0])) == len(table.used)
    assert table.used.tolist() == np.unique(table.rows[table.rows >= 0]).tolist()
    assert 0 < seen["own_share"] < 1
    assert made.queries("unseen", exclude_own=True)["own_share"] == 0
    assert made.queries("given", mode="oracle", k=1)["own_share"] == 1


def content(folder, split="train") -> bytes:
    return (folder / f"{split}.hdf5").read_bytes()


def test_shards_of_any_size_and_two_processes_give_the_same_bytes(made, tmp_path):
    made.queries("one")
    find = open_retriever(made.root / "one")
    corpus = load_corpus(made.corpus)
    blocks, own = corpus.blocks("train"), rows_of_pictures(corpus.pictures, find.store.ids)

    def write(target, **more):
        write_table(blocks, find, target, "same work", length=corpus.block, own=own, **more)
        return target.read_bytes()

    one = write(tmp_path / "one.hdf5", tokens=10_000)
    assert write(tmp_path / "small.hdf5", tokens=10) == one
    together = threading.Barrier(2)
    results: list[bytes] = []

    def work(rank: int) -> None:
        results.append(write(tmp_path / "two.hdf5", tokens=30, rank=rank, world_size=2, wait=together.wait))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [one, one]


def test_a_kill_after_any_shard_changes_nothing(made, monkeypatch):
    made.queries("whole")
    from vlpnb.valm import queries

    real, calls = queries._arrays, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(queries, "_arrays", dies)
    with pytest.raises(KeyboardInterrupt):
        made.queries("killed")
    assert len(list((made.root / "killed" / "checkpoint-train").iterdir())) == 2
    calls.extend([1] * 9)
    made.queries("killed")
    for split in ("train", "captions", "text"):
        assert content(made.root / "killed", split) == content(made.root / "whole", split)
    made.queries("killed")  # finds everything there
    assert content(made.root / "killed") == content(made.root / "whole")


@pytest.mark.slow
def test_an_index_is_searched_and_its_recall_told(made):
    made.images("indexed", index="ivf", cells=3)
    metrics = made.queries("approximate", images="indexed", recall=1.0)
    assert metrics["recall"] == 1.0
    assert 1 <= metrics["probes"] <= 3
    numbers = list(range(5))
    found = live(made, "approximate", "train", numbers).rows
    assert torch.equal(open_table(made.root / "approximate", "train").batch(numbers, found.shape[1]), found)
    made.queries("exact")
    assert torch.equal(live(made, "exact", "train", numbers).rows.sort().values, found.sort().values)
    few = made.queries("few", images="indexed", probes=1)
    assert few["probes"] == 1
    assert 0 < few["recall"] <= 1


def test_a_table_of_another_store_is_refused(made):
    made.queries("here")
    made.images("few", max_images=3)
    table = open_table(made.root / "here", "train")
    table.check_store(VectorStore(made.root / "images"))
    with pytest.raises(UserError, match="rows are of a store with the hash"):
        table.check_store(VectorStore(made.root / "few"))
    with pytest.raises(UserError, match="has 3 pictures for each token, and 4 are asked for"):
        table.batch([0], k=4)
    assert torch.equal(table.batch([0], k=2), table.batch([0])[:, :, :2])
    with pytest.raises(UserError, match="has no rows of the text 'test'; there are captions, text, train"):
        open_table(made.root / "here", "test")


def test_a_store_of_other_towers_is_refused(made, small, tmp_path):
    from tests.valm.database import SIZE
    from vlpnb.foundations.towers import TOWERS, TowersConfig

    other = TowersConfig(tokenizer=str(small.root / "words"), updates=3, seed=7, **SIZE)
    small.run(TOWERS, other, tmp_path / "towers", captions=small.dataset, features=small.features)
    inputs = made.inputs() | {"towers": tmp_path / "towers"}
    context = StageContext(QueriesConfig(), tmp_path / "q", inputs, "cpu", say=lambda line: None)
    with pytest.raises(UserError, match="their vectors cannot be compared"):
        QUERIES.run(context)
