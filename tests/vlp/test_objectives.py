"""Every word asked at once and captions packed behind one picture: the plain way, computed once. Losses, gradients."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.vlp import small_captions as small
from tests.vlp.small import CONFIG
from vlpnb.nn.losses import IGNORE
from vlpnb.text.caption_table import caption_table
from vlpnb.text.masking import Words
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vlp.examples import Batches, Hiding, lay_out, tensors
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.masks import EDGES, caption_mask, sequence_mask
from vlpnb.vlp.model import VlpConfig
from vlpnb.vlp.objectives import Guessing
from vlpnb.vlp.pictures import Pictures

IDS = [f"train{i}" for i in range(6)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    words = " ".join((*small.COLOURS, *small.KINDS, "the is a here ."))
    return train_wordpiece([words] * 5, 200, tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return Pictures(small.store(tmp_path_factory.mktemp("store"), IDS))


@pytest.fixture(scope="module")
def table(tokenizer, pictures):
    said = [(name, [*small.sentences(name), "a " * (1 + i)]) for i, name in enumerate(IDS)]
    return caption_table(said, pictures.by_name(), tokenizer, 9)


@pytest.fixture(scope="module")
def model(tokenizer, pictures):
    torch.manual_seed(0)
    ids = {
        f"{name}_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "unk", "cls", "sep", "mask")
    }
    shape = {
        name: getattr(CONFIG, name)
        for name in ("hidden", "layers", "heads", "ffn", "max_positions", "regions")
    }
    config = VlpConfig(
        **shape, **ids, vocab_size=len(tokenizer), text_length=9, feature_width=pictures.feature_width,
        classes=pictures.classes, init_std=0.3, dropout=0,
    )  # fmt: skip
    return Guessing(VlpForGeneration(config)).double()


def batch(table, pictures, tokenizer, hiding, packed=False, units=None):
    groups = table.together() if packed else np.arange(len(table) + 1)
    units = np.arange(len(groups) - 1) if units is None else np.asarray(units)
    layout = lay_out(table, groups, units, Words.of(tokenizer), hiding, None, 1, 2)
    made = tensors(layout, np.arange(len(units)), pictures, tokenizer.pad_token_id)
    return {name: value.double() if value.is_floating_point() else value for name, value in made.items()}


def loss_and_gradients(model, **given):
    model.zero_grad()
    loss = model(**given)["words"]
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-12)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], rtol=1e-9, atol=1e-11, msg=name)


def test_one_caption_has_the_plain_mask():
    lengths, s2s, visual = torch.tensor([5, 2, 3]), torch.tensor([True, False, True]), torch.rand(3, 4) > 0.3
    at = torch.arange(6).expand(3, 6)
    owner = torch.where(at <= lengths[:, None], 0, -1)
    found = caption_mask(owner, at, s2s, 4 + EDGES, None, visual)
    expected = sequence_mask(lengths, s2s, 4 + EDGES, 6, visual)
    real = torch.cat(
        [torch.ones(3, 6, dtype=torch.bool), owner >= 0], 1
    )  # rows of padding are read by nobody
    assert torch.equal(found[:, 0][real], expected[:, 0][real])


def packed_mask(lengths, prefix, length):
    """One position after the other: captions of one picture, `length` columns each, and behind them their queries."""
    size = len(lengths) * length
    seen = torch.zeros(prefix + 2 * size, prefix + 2 * size, dtype=torch.bool)
    seen[:, :prefix] = True
    for caption, n in enumerate(lengths):
        for i in range(n + 1):
            word = prefix + caption * length + i
            first = prefix + caption * length
            seen[word, first : word + 1] = True
            seen[word + size, first:word] = True
            seen[word + size, word + size] = True
    return seen


def test_packed_captions_with_queries_have_the_packed_mask():
    lengths, length, captions = torch.tensor([[3, 1, -1], [2, 4, 0]]), 5, 3
    place = torch.arange(length).repeat(2 * captions).expand(2, -1)
    owner = torch.arange(captions).repeat_interleave(length).repeat(2).expand(2, -1)
    owner = torch.where(place <= lengths.gather(1, owner), owner, -1)
    query = (torch.arange(2 * captions * length) >= captions * length).expand(2, -1)
    found = caption_mask(owner, place, torch.tensor([True, True]), 4, query)
    expected = torch.stack([packed_mask(row, 4, length) for row in lengths.tolist()])
    real = torch.cat([torch.ones(2, 4, dtype=torch.bool), owner >= 0], 1)
    assert torch.equal(found[:, 0][real], expected[real])


def test_every_word_at_once_is_every_word_by_itself(model, table, pictures, tokenizer):
    """Each word asked as in decoding: the words before it, one [MASK], nothing behind it."""
    at_once = batch(table, pictures, tokenizer, Hiding(1.0, targets="every"))
    words, counts = table.words(np.arange(len(table)))
    rows = []
    for caption in range(len(table)):
        said = [*words[caption, : counts[caption]], tokenizer.sep_token_id]
        for i, wanted in enumerate(said):
            rows.append((caption, [*said[:i], tokenizer.mask_token_id], wanted))
    width = max(len(ids) for _, ids, _ in rows)
    regions = pictures.batch(table.pictures[[caption for caption, _, _ in rows]])
    one_by_one = {
        "ids": torch.tensor([[*ids, *[0] * (width - len(ids))] for _, ids, _ in rows]),
        "place": torch.arange(width).expand(len(rows), -1),
        "owner": torch.tensor([[0] * len(ids) + [-1] * (width - len(ids)) for _, ids, _ in rows]),
        "labels": torch.tensor(
            [[*[IGNORE] * (len(ids) - 1), wanted, *[IGNORE] * (width - len(ids))] for _, ids, wanted in rows]
        ),
        "s2s": torch.ones(len(rows), dtype=torch.bool),
        **{name: value.double() if value.is_floating_point() else value for name, value in regions.items()},
    }  # fmt: skip
    same(loss_and_gradients(model, **at_once), loss_and_gradients(model, **one_by_one))
    assert (at_once["labels"] != IGNORE).sum() == len(rows)


@pytest.mark.parametrize("targets", ["every", "masked"])
def test_packed_captions_are_the_plain_way_computed_once(model, table, pictures, tokenizer, targets):
    hiding = Hiding(1.0, rate=0.4, targets=targets)
    packed = batch(table, pictures, tokenizer, hiding, packed=True)
    plain = batch(table, pictures, tokenizer, hiding)
    assert len(packed["s2s"]) == 6
    assert len(plain["s2s"]) == 18
    if targets == "masked":  # the same draw on other rows hides other words: take the packed ones apart
        plain = apart(packed, plain)
    same(loss_and_gradients(model, **packed), loss_and_gradients(model, **plain))


def apart(packed, plain):
    """Each packed caption as a row of its own."""
    rows = [(b, c) for b in range(len(packed["owner"])) for c in range(int(packed["owner"][b].max()) + 1)]
    width = max(int((packed["owner"][b] == c).sum()) for b, c in rows)
    made = {
        name: torch.zeros(len(rows), width, dtype=torch.long) for name in ("ids", "place", "owner", "labels")
    }
    made["owner"] -= 1
    made["labels"] += IGNORE
    for row, (b, c) in enumerate(rows):
        mine = packed["owner"][b] == c
        for name in ("ids", "place", "labels"):
            made[name][row, : mine.sum()] = packed[name][b][mine]
        made["owner"][row, : mine.sum()] = 0
    return {**plain, **made}


def test_it_is_the_cross_entropy_of_the_plain_forward(model, table, pictures, tokenizer):
    """Mixed modes, masked: every row of every block, and scores of all words at all places."""
    given = batch(table, pictures, tokenizer, Hiding(0.5, rate=0.4))
    assert 0 < given["s2s"].sum() < len(given["s2s"])
    plain = {name: value for name, value in given.items() if name not in ("place", "owner", "labels")}
    lengths = (given["owner"] >= 0).sum(1) - 1
    states = model.model.backbone(**plain, lengths=lengths).last[:, given["features"].shape[1] + EDGES :]
    scores = model.model.word_scores(states).flatten(0, 1)
    expected = cross_entropy(scores, given["labels"].flatten(), ignore_index=IGNORE, reduction="sum")
    assert model(**given)["words"].item() == pytest.approx(expected.item(), rel=1e-12)


def test_both_ways_and_from_left_to_right_stand_in_one_batch(model, table, pictures, tokenizer):
    mixed = batch(table, pictures, tokenizer, Hiding(0.5, targets="every"))
    parts = []
    for rows in (mixed["s2s"], ~mixed["s2s"]):
        given = {name: value[rows] for name, value in mixed.items()}
        parts.append(model(**given)["words"].item())
    assert model(**mixed)["words"].item() == pytest.approx(sum(parts), rel=1e-12)


def test_text_alone_has_no_regions(model, tokenizer):
    table = caption_table([("", ["the cat is red", "a dog"])], None, tokenizer, 9)
    config = VlpConfig(**{**vars(model.model.config), "feature_width": 1, "classes": 1})
    blind = Guessing(VlpForGeneration(config))
    made = Batches(table, None, tokenizer, Hiding(1.0, targets="every"), batch=2)(0)
    assert made.micro[0]["features"].shape == (2, 0, 1)
    assert torch.isfinite(blind(**made.micro[0])["words"])
    assert made.counts == {"words": 8}


def test_hidden_regions_have_a_loss_of_their_own_and_are_seen_by_nobody(model, table, pictures, tokenizer):
    config = model.model.config
    torch.manual_seed(0)
    pretext = Guessing(VlpForGeneration(config, regions="hidden")).double()
    given = batch(table, pictures, tokenizer, Hiding(0.0))
    hidden = torch.zeros(given["features"].shape[:2], dtype=torch.bool)
    hidden[:, 0] = True
    losses = pretext(**given, hidden_regions=hidden)
    assert set(losses) == {"words", "regions"}
    changed = {**given, "features": given["features"] + 5 * hidden[..., None]}
    assert pretext(**changed, hidden_regions=hidden)["words"].item() == pytest.approx(
        losses["words"].item(), rel=1e-12
    )
    assert pretext(**changed)["words"].item() != pytest.approx(pretext(**given)["words"].item(), rel=1e-6)


def test_the_worst_rows_are_left_out(model, table, pictures, tokenizer):
    given = batch(table, pictures, tokenizer, Hiding(1.0, targets="every"))
    each = [
        (model(**{name: value[[row]] for name, value in given.items()})["words"].item(), int(count))
        for row, count in enumerate((given["labels"] != IGNORE).sum(1))
    ]
    kept = sorted(each)[:9]
    expected = sum(loss for loss, _ in kept) / sum(count for _, count in kept)
    total = sum(count for _, count in each)
    found = model(**given, drop=torch.tensor(0.5))["words"].item()
    assert found / total == pytest.approx(expected, rel=1e-6)
