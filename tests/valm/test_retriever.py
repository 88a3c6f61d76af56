"""Every query mode: what is asked, what comes back, and that no later token changes it."""

import numpy as np
import pytest
import torch

from tests.valm_retrieval import EOS, PAD, STOP, WORDS, DecayingTower, retriever, small_store, texts
from vlpnb.errors import UserError
from vlpnb.text.chunking import other_pieces
from vlpnb.text.query_texts import SEARCHED, Words
from vlpnb.valm.retriever import QueryRules, Retriever, rows_at

CAUSAL = [name for name in SEARCHED if name != "token_compat"]


@pytest.fixture(scope="module")
def tower():
    return DecayingTower()


@pytest.fixture(scope="module")
def store(tmp_path_factory, tower):
    return small_store(tmp_path_factory.mktemp("store"), tower)


def changed_before(find, ids: torch.Tensor, at: int) -> bool:
    """Whether another token at a position changes rows before it, for any of several tokens."""
    before = find(ids)[:, :at]
    for token in (5, 17, STOP, EOS):
        other = ids.clone()
        other[:, at] = token
        if not torch.equal(find(other)[:, :at], before):
            return True
    return False


def rules_of(mode: str) -> dict:
    return {"mode": mode, "every": 7, "window": 9, "stride": 4}


@pytest.mark.parametrize("close_at", ["eos", "sentence"])
@pytest.mark.parametrize("mode", CAUSAL)
def test_no_later_token_changes_what_an_earlier_one_retrieves(store, tower, mode, close_at):
    find = retriever(store, tower, close_at=close_at, **rules_of(mode))
    for at in (1, 3, 8, 20, 33):
        assert not changed_before(lambda ids: find.rows(ids).rows, texts(), at)


def test_no_later_token_changes_the_pictures_of_the_modes_without_a_search(store, tower):
    ids, own = texts(), torch.arange(12).view(6, 2)
    asks = {"self": lambda find, x: find.images(x)[0], "random": lambda find, x: find.rows(x).rows}
    asks["oracle"] = lambda find, x: find.rows(x, given=own).rows
    for mode, ask in asks.items():
        find = retriever(store, tower, mode=mode)
        for at in (1, 8, 33):
            assert not changed_before(lambda x, ask=ask, find=find: ask(find, x), ids, at)


def test_the_chunks_of_the_original_do_depend_on_later_tokens(store, tower):
    find = retriever(store, tower, mode="token_compat")
    assert any(changed_before(lambda ids: find.rows(ids).rows, texts(), at) for at in (20, 25, 33))


def test_a_text_cut_off_asks_what_the_whole_text_asks(store, tower):
    ids = texts()
    for mode in CAUSAL:
        find = retriever(store, tower, **rules_of(mode))
        whole = find.rows(ids).rows
        for length in (1, 7, 8, 21):
            assert torch.equal(find.rows(ids[:, :length]).rows, whole[:, :length]), mode


@pytest.mark.parametrize("mode", [*SEARCHED, "random"])
def test_what_a_text_retrieves_does_not_depend_on_its_batch(store, tower, mode):
    find, ids = retriever(store, tower, **rules_of(mode)), texts(9)
    whole = find.rows(ids, keys=torch.arange(9))
    for i in (0, 4, 8):
        alone = find.rows(ids[i : i + 1], keys=torch.tensor([i]))
        assert torch.equal(alone.rows[0], whole.rows[i])
        assert torch.equal(alone.scores[0], whole.scores[i])


def test_rows_are_the_nearest_of_the_state_at_the_token(store, tower):
    ids = torch.tensor([[EOS, 5, 6, STOP, 7, PAD]])
    found = retriever(store, tower, close_at="sentence").rows(ids)
    keys = torch.from_numpy(np.array(store.vectors))
    chunks = [[EOS], [5, 6, STOP], [7]]
    states = torch.cat([tower._states(np.array(chunk))[1:-1] for chunk in chunks])
    scores, rows = (states @ keys.T).sort(dim=1, descending=True)
    assert torch.equal(found.rows[0, :5], rows[:, :3].int())
    torch.testing.assert_close(found.scores[0, :5], scores[:, :3])
    assert (found.rows[0, 5] == -1).all()
    assert found.scores[0, 5].isneginf().all()


def test_one_query_is_asked_for_each_piece_of_the_text_before(store, tower):
    ids = torch.arange(4, 25)[None]
    find = retriever(store, tower, mode="chunk", every=8)
    rows = find.rows(ids).rows[0]
    assert (rows[:8] == -1).all()
    assert (rows[8:16] == rows[8]).all()
    assert (rows[16:] == rows[16]).all()
    keys = torch.from_numpy(np.array(store.vectors))
    assert rows[16, 0] == (keys @ tower._states(np.arange(12, 20))[-1]).argmax()


def test_a_sentence_is_asked_by_the_text_up_to_the_sentence_before_in_its_own_text(store, tower):
    ids = torch.tensor([[EOS, 5, STOP, 6, 7, STOP, 8, EOS, 9, 10]])
    find = retriever(store, tower, mode="sentence")
    tower.read.clear()
    rows = find.rows(ids).rows[0]
    assert tower.read == [[5, STOP], [5, STOP, 6, 7, STOP]]
    assert (rows[:3] == -1).all()
    assert (rows[8:] == -1).all()
    assert (rows[3:6] == rows[3]).all()
    assert (rows[6:8] == rows[6]).all()


def test_the_window_moves_on_and_never_reaches_into_the_text_before(store, tower):
    ids = torch.tensor([[EOS, *range(4, 17), EOS, 30, 31]])
    find = retriever(store, tower, mode="token_window", window=6, stride=3)
    reading = find.readings(ids.numpy())[0]
    read = [[EOS]] + [list(range(4, 17))[max(0, first - 3) : first + 3] for first in range(0, 13, 3)]
    read[-1] += [EOS]
    assert [text.tolist() for text in reading.texts] == [*read, [30, 31]]
    for at, (text, place) in enumerate(zip(reading.text, reading.place, strict=True)):
        assert reading.texts[text][place - 1] == ids[0, at]


def test_a_tower_that_sees_both_sides_reads_completed_prefixes_only(tmp_path):
    both = DecayingTower(causal=False)
    store = small_store(tmp_path, both)
    find = retriever(store, both)
    both.read.clear()
    find.rows(torch.tensor([[EOS, 5, 6, 7]]))
    assert both.read == [[EOS], [5], [5, 6], [5, 6, 7]]
    for at in (1, 8, 20):
        assert not changed_before(lambda ids: find.rows(ids).rows, texts(), at)
    with pytest.raises(UserError, match="token_compat: the original's rule needs a causal tower"):
        retriever(store, both, mode="token_compat")


def test_the_own_picture_does_not_come_when_it_is_excluded(store, tower):
    ids = texts()
    plain = retriever(store, tower).rows(ids).rows
    own = plain[:, 5, 0].long()
    found = retriever(store, tower, exclude_own=True).rows(ids, own=own)
    assert not (found.rows == own[:, None, None]).any()
    more = retriever(store, tower, k=4).rows(ids).rows
    for i, row in enumerate(own.tolist()):
        kept = [[r for r in rows if r != row][:3] for rows in more[i].tolist()]
        assert found.rows[i].tolist() == kept
    assert torch.equal(retriever(store, tower).rows(ids, own=own).rows, plain)
    by_place = retriever(store, tower, exclude_own=True).rows(ids, own=own[:, None].expand(ids.shape))
    assert torch.equal(by_place.rows, found.rows)


def test_fewer_pictures_than_places_leave_places_empty(tmp_path, tower):
    store = small_store(tmp_path, tower, count=2)
    ids = torch.tensor([[EOS, 5, 6]])
    rows = retriever(store, tower, k=4).rows(ids).rows
    assert (rows[..., 2:] == -1).all()
    assert (rows[..., :2].sort().values == torch.tensor([0, 1])).all()
    images, mask = retriever(store, tower, k=4).images(ids)
    assert torch.equal(mask, rows >= 0)
    assert (images[~mask] == 0).all()


def test_a_query_itself_is_the_picture_of_mode_self(store, tower):
    ids = torch.tensor([[EOS, 5, 6, PAD]])
    find = retriever(store, tower, mode="self")
    images, mask = find.images(ids)
    assert images.shape == (1, 4, 1, tower.width)
    assert find.value_width == tower.width
    assert mask[0, :, 0].tolist() == [True, True, True, False]
    torch.testing.assert_close(images[0, 1:3, 0], tower._states(np.array([5, 6]))[1:3], atol=1e-3, rtol=0)
    with pytest.raises(UserError, match="there are no rows"):
        find.rows(ids)


def test_random_rows_are_of_the_whole_store_and_of_the_number_of_the_text(store, tower):
    ids = texts(40, 30)
    find = retriever(store, None, mode="random", k=5)
    rows = find.rows(ids).rows
    there = rows[(ids != PAD)]
    assert there.min() == 0
    assert there.max() == len(store) - 1
    assert (rows[ids == PAD] == -1).all()
    again = find.rows(ids.flip(0), keys=torch.arange(40).flip(0)).rows
    assert torch.equal(again.flip(0), rows)
    assert not torch.equal(retriever(store, None, mode="random", k=5, seed=1).rows(ids).rows, rows)


def test_given_rows_are_seen_by_every_token(store, tower):
    ids = torch.tensor([[EOS, 5, PAD], [EOS, 6, 7]])
    find = retriever(store, None, mode="oracle")
    rows = find.rows(ids, given=torch.tensor([[4, 9], [1, -1]])).rows
    assert rows.tolist() == [[[4, 9, -1]] * 2 + [[-1] * 3], [[1, -1, -1]] * 3]
    with pytest.raises(UserError, match="must be given"):
        find.rows(ids)
    assert (retriever(store, None, mode="none").rows(ids).rows == -1).all()


def test_a_store_of_other_towers_is_refused(store):
    other = DecayingTower(seed=1)
    other.hash = "another"
    with pytest.raises(
        UserError, match=r"made by decaying \(0123456789ab, width 12\).*come from decaying \(another"
    ):
        retriever(store, other)


def test_another_tokenizer_is_read_as_a_writer_would_ask(store, tower):
    """The model's ids are letters, the tower's pieces are words: a word is cut in other pieces when it goes on."""
    letters = " abcdefghijklmnopqrstuvwxyz"

    def decode(ids):
        return "".join(letters[i - 10] for i in ids if i >= 10)

    def encode(lines):
        # A word of even length is one piece, of odd length two: what comes later changes how the word is cut.
        found = []
        for line in lines:
            pieces = []
            for word in line.split():
                parts = [word] if len(word) % 2 == 0 else [word[:1], word[1:]]
                pieces += [4 + sum(map(ord, part)) % (WORDS - 4) for part in parts if part]
            found.append(pieces)
        return found

    for causal in (True, False):
        mine = DecayingTower(causal=causal)
        words = Words(PAD, EOS, (STOP,), other_pieces(decode, encode, 6, causal), None)
        find = Retriever(store, mine, QueryRules(k=3), words)
        ids = torch.from_numpy(np.random.default_rng(0).integers(10, 37, (4, 18)))
        ids[:, ::4] = 10
        whole = find.rows(ids).rows
        for length in range(1, 18):
            assert torch.equal(find.rows(ids[:, :length]).rows, whole[:, :length])
        assert max(map(len, mine.read)) <= 6
    with pytest.raises(UserError, match="language model's own pieces"):
        Retriever(store, tower, QueryRules(mode="token_compat"), words)


def test_rows_for_the_positions_of_masked_words():
    rows = torch.arange(12).view(1, 4, 3)
    assert rows_at(rows, torch.tensor([[-1, 0, 0, 2]])).tolist() == [
        [[-1] * 3, [0, 1, 2], [0, 1, 2], [6, 7, 8]]
    ]


def test_masked_words_change_no_retrieved_row(store, tower):
    """The leak test of masked words: queries are made of the text without them, whatever they were."""
    ids, mask_id = texts(), 4
    hidden = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    find = retriever(store, tower)

    def rows(ids):
        seen = torch.where(hidden & (ids > STOP), mask_id, ids)
        kept = seen != mask_id
        index = kept.cumsum(1) - 1
        left = torch.full_like(seen, PAD)
        for row in range(len(seen)):
            some = seen[row][kept[row]]
            left[row, : len(some)] = some
        return rows_at(find.rows(left).rows, index)

    other = torch.where(hidden & (ids > STOP), 30 + ids % 20, ids)
    assert not torch.equal(other, ids)
    assert torch.equal(rows(other), rows(ids))


def test_rules_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="more than the window"):
        QueryRules(mode="token_window", window=8, stride=9)
