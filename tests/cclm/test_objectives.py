"""What CCLM learns from: losses by hand, what is left out, and that no parameter is without a gradient."""

import pytest
import torch
from torch.nn import functional as F

from tests.cclm.small import B, P, close, image_batch, model, parallel_batch
from vlpnb.cclm.config import size_config
from vlpnb.cclm.model import Cclm
from vlpnb.cclm.objectives import LOSSES, CclmPretraining, counts, split
from vlpnb.errors import UserError
from vlpnb.nn.boxes import giou
from vlpnb.nn.losses import IGNORE
from vlpnb.train.distributed import replicate, spawn

NEGATIVES = {"negative_view": torch.tensor([1, 2, 3, 0]), "negative_text": torch.tensor([2, 0, 1, 1])}
IDENTITY = torch.tensor([4, 1, 4, 2])


def by_hand(cclm, view, view_mask, ids, mask, vectors):
    """Contrastive and matching sums, one pair at a time."""
    f, g = vectors
    scores = f @ g.T / cclm.temperature
    own = torch.arange(B)
    find = (
        F.cross_entropy(scores, own, reduction="sum") + F.cross_entropy(scores.T, own, reduction="sum")
    ) / 2
    states, match = cclm.text(ids, mask), 0.0
    pairs = [(i, i, 1) for i in range(B)]
    pairs += [(int(NEGATIVES["negative_view"][i]), i, 0) for i in range(B)]
    pairs += [(i, int(NEGATIVES["negative_text"][i]), 0) for i in range(B)]
    for v, t, label in pairs:
        seen = None if view_mask is None else view_mask[v : v + 1]
        fused = cclm.fuse(states[t : t + 1], mask[t : t + 1], view[v : v + 1], seen)
        match = match - cclm.match(fused).log_softmax(1)[0, label]
    return find, match


def words_by_hand(cclm, ids, mask, places, labels, memory, memory_mask=None):
    scores = cclm.words(cclm.fuse(cclm.text(ids, mask), mask, memory, memory_mask))
    total = 0.0
    for row in range(B):
        for place, label in zip(places[row].tolist(), labels[row].tolist(), strict=True):
            if label != IGNORE:
                total = total - scores[row, place].log_softmax(0)[label]
    return total


def test_losses_of_pictures_are_their_formulas():
    cclm, batch = model(), image_batch(**NEGATIVES)
    found = CclmPretraining(cclm).eval()(**batch)
    view, states = cclm.pictures(batch["patches"]), cclm.text(batch["ids"], batch["mask"])
    vectors = cclm.image_vector(view), cclm.text_vector(states)
    find, match = by_hand(cclm, view, None, batch["ids"], batch["mask"], vectors)
    close(found["itc"], find)
    close(found["itm"], match)
    fields = (batch[name] for name in ("masked_ids", "mask", "masked_places", "masked_labels"))
    close(found["words"], words_by_hand(cclm, *fields, view))
    assert set(found) == {"itc", "itm", "words"}


def test_losses_of_sentence_pairs_use_the_first_as_view_and_the_second_as_memory_of_words():
    cclm, batch = model(), parallel_batch(**NEGATIVES)
    found = CclmPretraining(cclm).eval()(**batch)
    _, pair = split(batch)
    one, other = cclm.text(pair["ids"], pair["mask"]), cclm.text(pair["other_ids"], pair["other_mask"])
    vectors = cclm.text_vector(one), cclm.text_vector(other)
    find, match = by_hand(cclm, one, pair["mask"], pair["other_ids"], pair["other_mask"], vectors)
    close(found["ttc"], find)
    close(found["ttm"], match)
    fields = (pair[name] for name in ("masked_ids", "mask", "masked_places", "masked_labels"))
    close(found["parallel_words"], words_by_hand(cclm, *fields, other, pair["other_mask"]))
    assert set(found) == {"ttc", "ttm", "parallel_words"}


def region_fields():
    seen = torch.rand(B, 1 + P, generator=torch.Generator().manual_seed(2)) > 0.4
    seen[:, :2] = True
    boxes = torch.rand(B, 4, generator=torch.Generator().manual_seed(3)).double() * 0.5 + 0.1
    return {
        "group": torch.tensor([0, 0, 1, 1]), "patch_mask": seen, "boxes": boxes,
        "whole": torch.tensor([False, True, False, False]),
    }  # fmt: skip


def test_a_region_is_found_and_matched_by_its_own_patches_and_its_box_by_all():
    cclm, fields = model(), region_fields()
    batch = image_batch(**NEGATIVES, **fields)
    batch["patches"] = batch["patches"][:2]
    found = CclmPretraining(cclm).eval()(**batch)
    full, seen = cclm.pictures(batch["patches"])[fields["group"]], fields["patch_mask"]
    view = full.clone()
    for row in range(B):
        view[row, 0] = full[row, 1:][seen[row, 1:]].mean(0)
    states = cclm.text(batch["ids"], batch["mask"])
    vectors = cclm.image_vector(view), cclm.text_vector(states)
    find, match = by_hand(cclm, view, seen, batch["ids"], batch["mask"], vectors)
    close(found["itc"], find)
    close(found["itm"], match)
    words = (batch[name] for name in ("masked_ids", "mask", "masked_places", "masked_labels"))
    close(found["words"], words_by_hand(cclm, *words, view, seen))
    predicted = cclm.boxes(cclm.fuse(states, batch["mask"], full))
    counted = [0, 2, 3]
    close(found["boxes"], (predicted - fields["boxes"])[counted].abs().sum())
    close(found["giou"], sum(1 - giou(predicted[[i]], fields["boxes"][[i]])[0] for i in counted))


def test_a_batch_without_boxes_costs_nothing():
    batch = image_batch(**(region_fields() | {"whole": torch.ones(B, dtype=torch.bool)}))
    batch["patches"] = batch["patches"][:2]
    found = CclmPretraining(model()).train()(**batch)
    assert found["boxes"] == found["giou"] == 0
    sum(found.values()).backward()


def test_pictures_and_sentence_pairs_in_one_pass_are_both():
    cclm = CclmPretraining(model()).eval()
    pictures, parallel = image_batch(**NEGATIVES), parallel_batch(**NEGATIVES)
    both = cclm(**pictures, **parallel)
    alone = cclm(**pictures) | cclm(**parallel)
    assert both.keys() == alone.keys()
    for name, value in both.items():
        close(value, alone[name])


def test_no_masked_word_at_all_costs_nothing():
    batch = image_batch()
    batch["masked_labels"] = torch.full_like(batch["masked_labels"], IGNORE)
    found = CclmPretraining(model())(**batch)
    assert found["words"] == 0
    sum(found.values()).backward()
    assert counts(batch)["words"] == 0


def test_the_same_thing_is_no_negative_of_itself():
    cclm, batch = model(), image_batch(identity=IDENTITY)
    pretraining = CclmPretraining(cclm).eval()
    drawn = []
    pretraining.matches = lambda views, texts, view, text: drawn.append((view, text)) or torch.zeros(3 * B, 2)
    torch.manual_seed(0)
    for _ in range(40):
        pretraining(**batch)
    for negatives in drawn:
        for rows in negatives:
            assert not (IDENTITY[rows] == IDENTITY).any()
    assert len({tuple(view.tolist()) for view, _ in drawn}) > 1


def test_a_batch_of_one_thing_is_refused_where_negatives_are_drawn():
    batch = image_batch(identity=torch.zeros(B, dtype=torch.long))
    with pytest.raises(UserError, match="4 of the 4 rows of a batch have no negative"):
        CclmPretraining(model())(**batch)
    assert set(CclmPretraining(model(), ("itc", "words"))(**batch)) == {"itc", "words"}


@pytest.mark.parametrize("losses", [LOSSES, ("itc", "ttc"), ("itm", "words"), ("words",), ("ttm",)])
@pytest.mark.parametrize("parts", ["pictures", "parallel", "both"])
def test_in_training_every_parameter_has_a_gradient(losses, parts):
    batch = image_batch() if parts != "parallel" else {}
    batch |= parallel_batch() if parts != "pictures" else {}
    pretraining = CclmPretraining(model(), losses).train()
    if not counts(batch, losses):
        with pytest.raises(UserError, match="asks for none of the losses"):
            pretraining(**batch)
        return
    found = pretraining(**batch)
    assert found.keys() == counts(batch, losses).keys()
    sum(found.values()).backward()
    assert [name for name, p in pretraining.named_parameters() if p.grad is None] == []


def test_touching_changes_no_loss_and_no_gradient():
    gradients = []
    for training in (True, False):
        pretraining = CclmPretraining(model()).train(training)
        sum(pretraining(**image_batch(**NEGATIVES)).values()).backward()
        gradients.append({name: p.grad for name, p in pretraining.named_parameters()})
    for name, found in gradients[0].items():
        other = gradients[1][name]
        close(found, torch.zeros_like(found) if other is None else other)


def test_losses_that_are_switched_off_are_not_computed():
    batch = image_batch(**NEGATIVES)
    everything = CclmPretraining(model()).eval()(**batch)
    for name in ("itc", "itm", "words"):
        (only,) = CclmPretraining(model(), (name,)).eval()(**batch).items()
        assert only[0] == name
        close(only[1], everything[name])


@pytest.mark.parametrize("kind", ["pictures", "parallel"])
def test_only_the_first_rows_are_fused_where_only_they_have_masked_words(kind):
    batch, prefix = (image_batch(), "") if kind == "pictures" else (parallel_batch(), "parallel_")
    find, match, words = ("itc", "itm", "words") if kind == "pictures" else ("ttc", "ttm", "parallel_words")
    swapped = {f"{prefix}{name}": torch.tensor([1, 0]) for name in NEGATIVES}
    few = {name: value[:2] if "masked" in name else value for name, value in batch.items()} | swapped
    small = {name: value[:2] for name, value in batch.items()} | swapped
    found, all_found, alone = (CclmPretraining(model()).eval()(**one) for one in (few, batch, small))
    close(found[find], all_found[find])
    close(found[match], alone[match])
    close(found[words], alone[words])
    assert counts(few) == {find: B, match: 6, words: counts(small)[words]}


def test_counts_are_rows_pairs_and_masked_words():
    batch = image_batch() | parallel_batch()
    real = int((batch["masked_labels"] != IGNORE).sum())
    other = int((batch["parallel_masked_labels"] != IGNORE).sum())
    assert counts(batch) == {
        "itc": B, "itm": 3 * B, "words": real, "ttc": B, "ttm": 3 * B, "parallel_words": other,
    }  # fmt: skip
    regions = {"boxes": torch.zeros(B, 4), "whole": torch.tensor([True, False, False, False])}
    assert counts(image_batch(**regions), ("boxes", "giou")) == {"boxes": 3, "giou": 3}


def test_a_loss_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="CCLM has no loss 'itn'; did you mean 'itm'"):
        CclmPretraining(model(), ("itn",))
    with pytest.raises(UserError, match="nothing to learn from"):
        CclmPretraining(model(), ())


def test_the_contrastive_gradient_of_the_encoders_alone_can_be_the_originals_share():
    gradients = []
    for encoders in (1.0, 0.125):
        pretraining = CclmPretraining(model(), ("itc",), encoders=encoders).eval()
        pretraining(**image_batch())["itc"].backward()
        gradients.append(pretraining.model)
    full, share = gradients
    close(share.temperature.grad, full.temperature.grad)
    close(share.image_projection.weight.grad, full.image_projection.weight.grad / 8)
    close(share.embeddings.words.weight.grad, full.embeddings.words.weight.grad / 8)


def test_half_precision_products_leave_losses_in_float32():
    cclm = model().float()
    training = CclmPretraining(cclm).eval()
    batch = image_batch(**NEGATIVES, **region_fields()) | parallel_batch(**NEGATIVES)
    batch["patches"] = batch["patches"][:2]
    batch = {name: t.float() if t.is_floating_point() else t for name, t in batch.items()}
    exact = training(**batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = training(**batch)
        drawn = training(**{name: t for name, t in batch.items() if "negative" not in name})
    assert found.keys() == exact.keys() == drawn.keys()
    for name, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.15, atol=0.15)


def halves(batch, rank, world):
    """The rows of one of several processes, with the numbers that negatives have there."""
    rows = torch.arange(B)[rank::world]
    return {name: t[rows] // world if "negative" in name else t[rows] for name, t in batch.items()}


def two_batches():
    """One whose negatives are rows of the same process, when two processes take every other row."""
    negatives = dict.fromkeys(NEGATIVES, torch.tensor([2, 3, 0, 1]))
    identity = {"identity": torch.tensor([7, 7, 3, 1])}
    return image_batch(**negatives, **identity) | parallel_batch(**negatives)


def one_process(rank, world, folder):
    training = CclmPretraining(model()).train()
    replica = replicate(training, world)
    batch, targets = two_batches(), counts(two_batches())
    sums = replica(**halves(batch, rank, world))
    (sum(value / targets[name] for name, value in sums.items()) * world).backward()
    gradients = {name: p.grad for name, p in training.named_parameters()}
    torch.save(
        {"sums": {k: v.detach() for k, v in sums.items()}, "gradients": gradients}, f"{folder}/{rank}.pt"
    )


@pytest.mark.slow
def test_two_processes_have_the_losses_and_gradients_of_one(tmp_path):
    spawn(one_process, 2, str(tmp_path / "store"), str(tmp_path))
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    training = CclmPretraining(model()).train()
    sums, targets = training(**two_batches()), counts(two_batches())
    sum(value / targets[name] for name, value in sums.items()).backward()
    for name, value in sums.items():
        close(found[0]["sums"][name] + found[1]["sums"][name], value.detach())
    for name, parameter in training.named_parameters():
        close(found[0]["gradients"][name], parameter.grad)
        close(found[1]["gradients"][name], parameter.grad)


@pytest.mark.slow
def test_two_threads_give_the_same_gradients_every_time():
    # gradients of rows that are taken several times add up, where threads are let, in the order in which they come
    torch.manual_seed(0)
    cclm = Cclm(size_config("tiny", vocab_size=300, image_width=24)).train()
    rows, length, group = 48, 14, torch.arange(48) // 3
    ids = torch.randint(5, 299, (rows, length))
    batch = {
        "patches": torch.randn(16, 17, 24), "ids": ids, "mask": torch.ones(rows, length).bool(), "masked_ids": ids,
        "masked_places": torch.randint(1, length, (rows, 4)), "masked_labels": torch.randint(5, 299, (rows, 4)),
        "group": group, "patch_mask": torch.ones(rows, 17).bool(), "identity": group,
        "negative_view": (torch.arange(rows) + 7) % rows, "negative_text": (torch.arange(rows) + 5) // 2 % rows,
    }  # fmt: skip
    task, threads = CclmPretraining(cclm), torch.get_num_threads()

    def gradients():
        torch.manual_seed(1)  # of dropout
        cclm.zero_grad()
        sum(task(**batch).values()).backward()
        return torch.cat([p.grad.flatten() for p in cclm.parameters() if p.grad is not None])

    try:
        torch.set_num_threads(2)
        first = gradients()
        assert all(torch.equal(first, gradients()) for _ in range(4))
    finally:
        torch.set_num_threads(threads)
