"""The order of the examples: a new permutation each epoch, equal lengths together, shares that tile."""

import numpy as np
import pytest

from vlpnb.train.sampling import EpochSampler, Update, seed_of, share, updates


@pytest.mark.parametrize("lengths", [None, np.arange(23) % 7])
@pytest.mark.parametrize("drop_last", [False, True])
def test_each_epoch_is_a_new_permutation(lengths, drop_last):
    sampler = EpochSampler(23, 4, seed=3, drop_last=drop_last, lengths=lengths)
    assert sampler.per_epoch == (5 if drop_last else 6)
    epochs = [
        np.concatenate([sampler(e * sampler.per_epoch + i) for i in range(sampler.per_epoch)])
        for e in range(3)
    ]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == (20 if drop_last else 23)
    assert not np.array_equal(epochs[0], epochs[1])
    again = EpochSampler(23, 4, seed=3, drop_last=drop_last, lengths=lengths)
    np.testing.assert_array_equal(again(sampler.per_epoch), sampler(sampler.per_epoch))  # needs no history


def test_lengths_put_similar_examples_together():
    lengths = np.random.default_rng(0).integers(1, 100, 640)
    waste = {}
    for name, given in {"plain": None, "buckets": lengths}.items():
        sampler = EpochSampler(640, 16, lengths=given)
        waste[name] = sum(
            lengths[sampler(i)].max() * 16 - lengths[sampler(i)].sum() for i in range(sampler.per_epoch)
        )
    assert waste["buckets"] < 0.3 * waste["plain"]


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="do not fill one batch of 4"):
        EpochSampler(3, 4, drop_last=True)


@pytest.mark.parametrize(("world_size", "micro"), [(1, 1), (2, 2), (3, 1)])
def test_shares_tile_the_update(world_size, micro):
    rows = np.arange(17)
    parts = [part for rank in range(world_size) for part in share(rows, rank, world_size, micro)]
    assert sorted(np.concatenate(parts)) == list(rows)


def test_prefetching_changes_nothing():
    def batches(step):
        return Update([], {"loss": step})

    plain, threaded = (list(updates(batches, 2, 9, ahead)) for ahead in (False, True))
    assert plain == threaded
    assert [u.counts["loss"] for u in plain] == list(range(2, 9))


def test_seeds_depend_on_every_number():
    assert len({seed_of(a, b) for a in range(5) for b in range(5)}) == 25
