"""Re-ranking: equal to the plain way, each pair once, any k, ties in order, several processes; errors are named."""

import pytest
import torch
from torch import Tensor

from tests.cclm.small import close, model, patches
from vlpnb.cclm.model import Cclm
from vlpnb.downstream.reranking import (
    BEHIND,
    Captions,
    Gallery,
    first_look,
    match_logits,
    nearest,
    read,
    rerank,
    rerank_plainly,
    score_pairs,
    see,
)
from vlpnb.errors import UserError
from vlpnb.nn.masks import padding_mask
from vlpnb.train.distributed import spawn

PICTURES, SENTENCES, LONGEST = 6, 11, 9


def sentences(seed: int = 4, count: int = SENTENCES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, LONGEST + 1, (count,), generator=generator).tolist()
    lengths[0] = LONGEST
    return [
        torch.cat([torch.tensor([0]), torch.randint(4, 39, (n - 2,), generator=generator), torch.tensor([2])])
        for n in lengths
    ]


def shown(cclm: Cclm, pictures: int = PICTURES) -> Gallery:
    seen = patches(3, pictures)
    return see(cclm, lambda part: seen[part], pictures, batch=4)


def read_all(cclm: Cclm, **changes) -> Captions:
    return read(cclm, sentences(**changes), "cpu", batch=4)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 3, 100])
def test_the_fast_way_gives_the_scores_of_the_plain_one(layers, k):
    cclm = model(fusion_layers=layers)
    gallery, captions = shown(cclm), read_all(cclm)
    fast = rerank(cclm, gallery, captions, k, batch=5)
    plain = rerank_plainly(cclm, gallery, captions, k, max_tokens=12)
    close(fast.pictures_to_captions, plain.pictures_to_captions, 1e-5)
    close(fast.captions_to_pictures, plain.captions_to_pictures, 1e-5)
    assert fast.scored <= plain.scored
    if k == 100:
        assert (fast.scored, plain.scored) == (PICTURES * SENTENCES, 2 * PICTURES * SENTENCES)


def test_a_pair_in_both_lists_is_scored_once():
    cclm = model()
    gallery, captions = shown(cclm), read_all(cclm)
    similarity = gallery.vectors @ captions.vectors.T
    found = rerank(cclm, gallery, captions, 2)
    both = nearest(similarity, 2) | nearest(similarity.T, 2).T
    assert found.scored == int(both.sum()) < 2 * (PICTURES + SENTENCES)
    forth = found.pictures_to_captions > BEHIND / 2
    assert torch.equal(forth, nearest(similarity, 2))


def test_what_is_not_near_comes_last_in_the_order_of_the_vectors():
    cclm = model()
    gallery, captions = shown(cclm), read_all(cclm)
    similarity = gallery.vectors @ captions.vectors.T
    found = rerank(cclm, gallery, captions, 3).pictures_to_captions
    for row, near in zip(found, similarity, strict=True):
        order = row.argsort(descending=True)
        assert set(order[:3].tolist()) == set(near.argsort(descending=True)[:3].tolist())
        rest = order[3:]
        assert torch.equal(near[rest], near[rest].sort(descending=True).values)


def test_of_equal_similarities_the_first_is_nearer():
    same = torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]])
    assert nearest(same, 2).tolist() == [[False, True, True, False, False]]
    assert nearest(same, 9).all()


def test_pairs_may_come_in_any_order_and_in_small_passes():
    cclm = model()
    gallery, captions = shown(cclm), read_all(cclm)
    pictures = torch.randint(PICTURES, (40,), generator=torch.Generator().manual_seed(1))
    asked = torch.randint(SENTENCES, (40,), generator=torch.Generator().manual_seed(2))
    whole = score_pairs(cclm, gallery, captions, pictures, asked)
    close(score_pairs(cclm, gallery, captions, pictures, asked, batch=3), whole, 1e-5)
    for number in (0, 17, 39):
        states, mask = captions.padded(asked[number : number + 1])
        fused = cclm.fuse(states, mask, gallery.views[pictures[number : number + 1]])
        close(whole[number : number + 1], cclm.match(fused).float(), 1e-5)


def test_sentences_are_read_as_if_each_stood_alone():
    cclm = model()
    captions = read_all(cclm)
    for row, ids in enumerate(sentences()):
        alone = cclm.text(ids[None])
        states, mask = captions.padded(torch.tensor([row]))
        assert mask.all()
        close(states, alone)
        close(captions.vectors[row], cclm.text_vector(alone)[0])


@pytest.mark.parametrize("padded", [0, 4])
def test_the_first_position_alone_sees_what_it_sees_among_all(padded):
    cclm = model()
    layer = cclm.fusion_layers[1].look
    states, mask = read_all(cclm).padded(torch.arange(5), LONGEST + padded)
    whole, _ = layer(states, padding_mask(mask))
    close(first_look(layer, states, mask), whole[:, :1])
    close(first_look(layer, states, None), layer(states)[0][:, :1])


def test_padding_changes_no_score():
    cclm = model()
    gallery, captions = shown(cclm), read_all(cclm)
    rows = torch.arange(3)
    keys = cclm.memory_keys(gallery.views[rows])
    scores = []
    for length in (LONGEST, LONGEST + 4):
        states, mask = captions.padded(rows, length)
        first, _ = cclm.fusion_layers[0](states, padding_mask(mask), cached=keys.layers[0])
        scores.append(match_logits(cclm, first, mask, keys.layers))
    close(*scores)


def share(rank: int, world_size: int, folder: str) -> None:
    cclm = model()
    found = rerank(cclm, shown(cclm), read_all(cclm), 3, rank=rank, world_size=world_size)
    torch.save((found.pictures_to_captions, found.captions_to_pictures), f"{folder}/{rank}.pt")


@pytest.mark.slow
def test_two_processes_share_the_pairs_and_both_get_all_scores(tmp_path):
    spawn(share, 2, str(tmp_path / "store"), str(tmp_path))
    cclm = model()
    alone = rerank(cclm, shown(cclm), read_all(cclm), 3)
    for rank in range(2):
        forth, back = torch.load(tmp_path / f"{rank}.pt")
        close(forth, alone.pictures_to_captions, 1e-6)
        close(back, alone.captions_to_pictures, 1e-6)


def test_nothing_to_rank_is_named():
    cclm = model()
    with pytest.raises(UserError, match="no picture to rank"):
        see(cclm, lambda part: patches(3, 1)[part], 0)
    with pytest.raises(UserError, match="no sentence to rank"):
        read(cclm, [], "cpu")
    with pytest.raises(UserError, match="k = 0: expected at least 1"):
        rerank(cclm, shown(cclm), read_all(cclm), 0)
