"""The examples of pre-training: the flat table, and the draws of an update, as statistics and one by one."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.lxmert.regions import ANSWERS, COLOURS, KINDS, Image, MemoryStore, images, prune
from vlpnb.errors import UserError
from vlpnb.lxmert.examples import Batches, Masking, Wanted, draw, target_counts, tensors
from vlpnb.lxmert.sentence_table import flat_table
from vlpnb.nn.losses import IGNORE
from vlpnb.text.tokenizers import encode_lines, train_wordpiece

LENGTH = 10


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    words = " ".join((*COLOURS, *KINDS, "a the is here what ? ."))
    return train_wordpiece([words] * 5, 200, tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def store():
    return MemoryStore()


def table(store, tokenizer, **changes):
    rows = {name: i for i, name in enumerate(store.ids)}
    return flat_table(**{"images": images(store), "rows": rows, "tokenizer": tokenizer, "prune": prune,
                         "length": LENGTH, **changes})  # fmt: skip


@pytest.fixture(scope="module")
def examples(store, tokenizer):
    return table(store, tokenizer)


def drawn(examples, store, tokenizer, rows=None, masking=None, seed=(0, 0)):
    rows = np.arange(len(examples)) if rows is None else rows
    return draw(examples, rows, store.counts, tokenizer, masking or Masking(), LENGTH, *seed)


def test_the_table_lies_picture_by_picture_and_source_by_source(examples, tokenizer):
    assert examples.sources == ("mscoco", "vqa")
    assert examples.pictures[:8].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert examples.source[:4].tolist() == [0, 0, 1, 1]
    assert examples.asked[:4].tolist() == [False, False, True, True]
    ids, mask = examples.text(np.arange(4), LENGTH, tokenizer)
    read = [
        tokenizer.decode(row[real], skip_special_tokens=True) for row, real in zip(ids, mask, strict=True)
    ]
    assert read == ["the cat is red", "a red cat is here.", "is the cat red?", "what is red?"]
    assert (ids[:, 0] == tokenizer.cls_token_id).all()
    assert [int(row[mask_row][-1]) for row, mask_row in zip(ids, mask, strict=True)] == [
        tokenizer.sep_token_id
    ] * 4
    answers, scores = examples.answer_scores(np.arange(4))
    assert answers.tolist() == [[0, 0], [0, 0], [0, 1], [0, 0]]
    np.testing.assert_allclose(scores, [[0, 0], [0, 0], [1, 0.3], [0, 0]])


def test_long_sentences_are_cut_and_empty_ones_stay(store, tokenizer):
    made = [Image("p0", {"mscoco": ("the cat is red " * 9, "  ")}, {})]
    long = table(store, tokenizer, images=made)
    ids, mask = long.text(np.arange(2), LENGTH, tokenizer)
    assert mask.sum(1).tolist() == [LENGTH, 2]
    assert ids[0, -1] == tokenizer.sep_token_id
    assert ids[1, :2].tolist() == [tokenizer.cls_token_id, tokenizer.sep_token_id]


def test_pictures_without_regions_are_dropped_and_listed(store, tokenizer):
    made = [Image("elsewhere", {"mscoco": ("a cat",)}, {}), *images(store)]
    assert table(store, tokenizer, images=made).without_regions == ("elsewhere",)
    with pytest.raises(
        UserError, match=r"train.json: found 1 pictures, 1 of them without regions.*elsewhere"
    ):
        table(store, tokenizer, images=made[:1], where="train.json")
    with pytest.raises(UserError, match="found no picture; expected sentences about pictures"):
        table(store, tokenizer, images=[])


def test_labels_that_do_not_belong_to_the_sentences_are_an_error(store, tokenizer):
    made = [Image("p0", {"vqa": ("what is red ?", "is it ?")}, {"vqa": ({"cat": 1.0},)})]
    with pytest.raises(UserError, match="p0 has 2 sentences of the source 'vqa' and 1 labels"):
        table(store, tokenizer, images=made)


def within(hits, n, share, what):
    """Six standard deviations of a binomial."""
    assert abs(hits - n * share) < 6 * (n * share * (1 - share)) ** 0.5 + 1, (what, hits / n, share)


def test_masking_has_the_papers_shares(examples, store, tokenizer):
    rows = np.tile(np.arange(len(examples)), 200)
    got = drawn(examples, store, tokenizer, rows)
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    original, _ = examples.text(got.sentences, LENGTH, tokenizer)
    ordinary = ~torch.isin(original, torch.tensor(sorted(special)))
    guessed = got.word_labels != IGNORE
    assert not (guessed & ~ordinary).any()
    assert (got.word_labels[guessed] == original[guessed]).all()
    assert (got.ids[~guessed] == original[~guessed]).all()
    n, m = int(ordinary.sum()), int(guessed.sum())
    within(m, n, 0.15, "words")
    within(int((got.ids[guessed] == tokenizer.mask_token_id).sum()), m, 0.8 + 0.1 / len(tokenizer), "[MASK]")
    within(int((got.ids[guessed] == original[guessed]).sum()), m, 0.1 + 0.1 / len(tokenizer), "kept")

    inside = np.arange(got.hidden.shape[1]) < store.counts(examples.pictures[rows])[:, None]
    assert not (got.hidden & ~inside).any()
    assert not ((got.zeroed | got.replaced) & ~got.hidden).any()
    assert not (got.zeroed & got.replaced).any()
    n, m = int(inside.sum()), int(got.hidden.sum())
    within(m, n, 0.15, "objects")
    within(int(got.zeroed.sum()), m, 0.8, "zeroed")
    within(int(got.replaced.sum()), m, 0.1, "replaced")

    within(int((~got.matched).sum()), len(rows), 0.5, "mismatched")


def test_a_mismatched_sentence_is_about_another_picture_and_has_no_answer(examples, store, tokenizer):
    rows = np.tile(np.arange(len(examples)), 50)
    got = drawn(examples, store, tokenizer, rows)
    assert (got.sentences[got.matched] == rows[got.matched]).all()
    swapped = examples.pictures[got.sentences[~got.matched]]
    assert (swapped != examples.pictures[rows[~got.matched]]).all()
    assert (got.answer[~got.matched] == IGNORE).all()
    first = np.flatnonzero(examples.pictures[rows] == 0)  # uniform over the examples about the other pictures
    counts = np.bincount(examples.pictures[got.sentences[first]][~got.matched[first]], minlength=len(store))
    assert counts[0] == 0
    assert (counts[1:] > 0).all()


def test_answers_are_drawn_by_their_scores_anew_each_time(examples, store, tokenizer):
    rows = np.full(4000, 2)
    got = drawn(examples, store, tokenizer, rows, Masking(mismatched=0))
    assert got.matched.all()
    within(int((got.answer == ANSWERS.index("yes")).sum()), 4000, 1 / 1.3, "yes")
    assert set(got.answer) == {ANSWERS.index("yes"), ANSWERS.index("no")}
    caption, pruned = 0, 3
    nothing = drawn(examples, store, tokenizer, np.array([caption, pruned]), Masking(mismatched=0))
    assert nothing.answer.tolist() == [IGNORE, IGNORE]


def test_one_picture_alone_cannot_be_mismatched(store, tokenizer):
    alone = table(store, tokenizer, images=images(store)[:1])
    with pytest.raises(UserError, match=r"only one picture.*leave `match` out"):
        drawn(alone, store, tokenizer)
    assert drawn(alone, store, tokenizer, masking=Masking(mismatched=0)).matched.all()


def test_targets_and_boxes_stay_and_features_change_as_drawn(examples, store, tokenizer):
    masking = Masking(objects=0.6)
    got = drawn(examples, store, tokenizer, masking=masking)
    made = tensors(examples, got, np.arange(len(got.rows)), store, Wanted())
    plain = store.batch(examples.pictures)
    assert torch.equal(made["targets"], plain.features)
    assert torch.equal(made["boxes"], plain.boxes)
    assert torch.equal(made["object_masked"], torch.from_numpy(got.hidden))
    assert made["features"][torch.from_numpy(got.zeroed)].abs().sum() == 0
    assert got.replaced.any()
    for b, r in np.argwhere(got.replaced):
        value = float(made["features"][b, r, 0])  # picture + region / 100
        picture, region = got.other_pictures[b, r], got.other_regions[b, r]
        assert value == pytest.approx(picture + region / 100, abs=1e-5)
        assert region < store.counts(np.array([picture]))[0]
    changed = torch.from_numpy(got.zeroed | got.replaced)
    assert torch.equal(made["features"][~changed], plain.features[~changed])


def test_labels_without_an_id_are_ignored_and_stay_in_the_mean(examples, store, tokenizer):
    got = drawn(examples, store, tokenizer)
    made = tensors(examples, got, np.arange(len(got.rows)), store, Wanted())
    plain = store.batch(examples.pictures)
    assert ((made["object_ids"] == IGNORE) == (plain.object_ids < 0)).all()
    assert ((made["attribute_ids"] == IGNORE) == (plain.attribute_ids < 0)).all()
    regions = int(store.counts(examples.pictures).sum())
    counts = target_counts(got, Wanted())
    assert counts["objects"] == counts["attributes"] == counts["features"] == regions
    assert counts["words"] == int((made["word_labels"] != IGNORE).sum())
    assert counts["match"] == len(examples)
    assert counts["answers"] == int((made["answer"] != IGNORE).sum())


def test_labels_of_masked_regions_alone_are_a_choice(examples, store, tokenizer):
    got = drawn(examples, store, tokenizer)
    made = tensors(examples, got, np.arange(len(got.rows)), store, Wanted(labels_of="masked"))
    assert ((made["object_conf"] > 0) == torch.from_numpy(got.hidden)).all()


@pytest.mark.parametrize(
    ("wanted", "left_out", "losses"),
    [
        (Wanted(tasks=("words",)), {"matched", "answer", "object_ids", "targets"}, {"words"}),
        (
            Wanted(visual=("features",)),
            {"object_ids", "attribute_ids"},
            {"words", "match", "answers", "features"},
        ),
        (
            Wanted(tasks=("objects",), visual=("objects", "attributes")),
            {"word_labels", "targets"},
            {"objects", "attributes"},
        ),
    ],
)
def test_tasks_and_visual_losses_can_be_left_out(examples, store, tokenizer, wanted, left_out, losses):
    got = drawn(examples, store, tokenizer)
    assert not left_out & tensors(examples, got, np.arange(4), store, wanted).keys()
    assert target_counts(got, wanted).keys() == losses


def joined(micro):
    """The rows of micro-batches with the paddings of their widths taken away."""
    rows = []
    for part in micro:
        for i in range(len(part["ids"])):
            words = part["mask"][i]
            boxes = (
                part["visual_mask"][i]
                if "visual_mask" in part
                else torch.ones(part["boxes"].shape[1], dtype=bool)
            )
            rows.append(
                {
                    name: (value[i][words] if name in ("ids", "word_labels") else value[i][boxes]).tolist()
                    for name, value in part.items()
                    if value[i].ndim and name not in ("mask", "visual_mask")
                }
                | {name: value[i].item() for name, value in part.items() if not value[i].ndim}
            )
    return sorted(rows, key=str)


def test_neither_processes_nor_micro_batches_change_what_is_drawn(examples, store, tokenizer):
    def made(micro, rank=0, world_size=1):
        batches = Batches(
            examples, store, tokenizer, Wanted(), Masking(), batch=24, micro_batch=micro, length=LENGTH, seed=3,
            rank=rank, world_size=world_size,
        )  # fmt: skip
        return batches(5)

    whole = made(24)
    assert len(whole.micro) == 1
    assert len(joined(whole.micro)) == 24
    small = made(5)
    assert len(small.micro) == 5
    assert joined(small.micro) == joined(whole.micro)
    both = [made(12, rank, 2) for rank in range(2)]
    assert joined(both[0].micro + both[1].micro) == joined(whole.micro)
    assert both[0].counts == small.counts == whole.counts
    assert both[1].tokens == whole.tokens


def test_updates_differ_and_repeat(examples, store, tokenizer):
    batches = Batches(examples, store, tokenizer, Wanted(), Masking(), batch=16, length=LENGTH)
    again = Batches(examples, store, tokenizer, Wanted(), Masking(), batch=16, length=LENGTH)
    assert joined(batches(1).micro) == joined(again(1).micro)
    epoch = batches.sampler.per_epoch  # the same examples come back with other masks
    assert joined(batches(0).micro) != joined(batches(epoch).micro)


GOLDEN = (
    Path(os.environ.get("VLPNB_SHARED_GOLDEN", Path(__file__).parents[3] / "shared" / "golden")) / "lxmert"
)


@pytest.mark.parametrize("variant", ["all", "vqa", "gqa+visual7w"])
def test_the_recorded_flat_table_and_its_answers(shared_data, tokenizer, variant):
    from vlpnb.data.lxmert import AnswerTable

    if not (GOLDEN / "examples.json").is_file():
        pytest.skip(f"recorded examples not found at {GOLDEN}")
    recorded = json.loads((GOLDEN / "examples.json").read_text())
    expected = recorded["variants"][variant]
    answers = AnswerTable.read(shared_data / "lxmert" / "all_ans.json")
    if variant != "all":
        answers = answers.restricted(variant.split("+"))
    assert len(answers) == expected["answers"]
    made = [
        Image(item["img_id"], item["sentf"], item["labelf"])
        for name in recorded["features"]
        for item in recorded["files"][name]
    ]
    rows = {name: i for i, name in enumerate(dict.fromkeys(row["img_id"] for row in expected["examples"]))}
    got = flat_table(made, rows, tokenizer, answers.prune)
    assert len(got) == len(expected["examples"])
    names = list(rows)
    for i, row in enumerate(expected["examples"]):
        assert names[got.pictures[i]] == row["img_id"]
        assert got.sources[got.source[i]] == row["uid"].removeprefix(f"{row['img_id']}_").rpartition("_")[0]
        pieces = encode_lines(tokenizer, [row["sent"]])[0]
        assert got.tokens[got.starts[i] : got.starts[i + 1]].tolist() == pieces[:18].tolist()
        assert got.asked[i] == (row["label"] is not None)
        inside = slice(got.answer_starts[i], got.answer_starts[i + 1])
        found = list(zip(got.answers[inside].tolist(), got.scores[inside].round(6).tolist(), strict=True))
        assert found == [(answer, pytest.approx(score)) for answer, score in row["label_ids"] or []]
