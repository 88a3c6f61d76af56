"""Caption metrics: the recorded numbers, words, controls, files, and what is said where something is missing."""

import json
import random
from pathlib import Path

import pytest

from vlpnb.data.submissions import read_caption_results
from vlpnb.errors import UserError
from vlpnb.metrics import captions, ptb
from vlpnb.metrics.caption_words import own_words
from vlpnb.metrics.captions import controls, ends_badly, evaluate, score, shuffled
from vlpnb.metrics.cider import Frequencies, Reference, cider
from vlpnb.metrics.overlap import bleu, common_words, rouge_l

RECORDED = json.loads((Path(__file__).parents[1] / "golden/vlp/captions.json").read_text())
CASES = ("all", "three_images", "one_image", "one_reference")


def needs_java(*names):
    """Skips, with the reason, where a program is not to be had."""
    for name in names:
        if (reason := getattr(ptb, f"why_no_{name}")()) is not None:
            pytest.skip(reason)


def recorded_words(case):
    rows = [RECORDED["captions"][i] for i in RECORDED[case].get("images", range(len(RECORDED["captions"])))]
    last = 1 if case == "one_reference" else None
    return [r["hypothesis"].split() for r in rows], [
        [t.split() for t in r["references"][:last]] for r in rows
    ]


@pytest.mark.parametrize("case", CASES)
def test_bleu_rouge_and_cider_are_the_recorded_ones(case):
    said, known = recorded_words(case)
    for name, (total, each) in {
        "bleu": bleu(said, known),
        "rouge_l": rouge_l(said, known),
        "cider": cider(said, known),
    }.items():
        assert total == pytest.approx(RECORDED[case][name], abs=1e-9)
        for ours, theirs in zip(each, RECORDED[case][f"{name}_each"], strict=True):
            assert ours == pytest.approx(theirs, abs=1e-9)


def test_the_scorers_of_the_package_agree_where_it_is_installed():
    pytest.importorskip("pycocoevalcap", reason=ptb.INSTALL)
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    rng = random.Random(3)
    text = lambda: [rng.choice("abcdef") for _ in range(rng.randint(1, 12))]  # noqa: E731
    said = [text() for _ in range(40)]
    known = [[text() for _ in range(rng.randint(1, 5))] for _ in said]
    names = ptb._named(said, known)
    assert cider(said, known)[0] == pytest.approx(Cider().compute_score(*names)[0], abs=1e-9)
    assert rouge_l(said, known)[0] == pytest.approx(Rouge().compute_score(*names)[0], abs=1e-9)
    totals, _ = Bleu(4).compute_score(*names, verbose=0)
    assert bleu(said, known)[0] == pytest.approx(totals, abs=1e-9)


def test_words_in_common_keep_their_order():
    assert common_words(list("abcde"), list("bxdce")) == 3
    assert common_words([], ["a"]) == common_words(["a"], []) == 0


def test_cider_of_one_picture_needs_stored_frequencies(tmp_path):
    said, known = recorded_words("all")
    assert cider(said[:1], known[:1])[0] == 0
    stored = Frequencies.of(known)
    _, each = cider(said, known)
    alone = [cider([h], [r], stored)[0] for h, r in zip(said, known, strict=True)]
    assert alone == pytest.approx(each, abs=1e-12)
    assert Reference(known[0], stored).score(said[0]) == pytest.approx(each[0], abs=1e-12)
    stored.save(tmp_path / "frequencies.json")
    assert Frequencies.load(tmp_path / "frequencies.json") == stored
    (tmp_path / "other.json").write_text('{"pictures": 0, "counts": {}}')
    with pytest.raises(UserError, match=r"other.json: expected whole numbers"):
        Frequencies.load(tmp_path / "other.json")


def test_a_caption_of_the_picture_itself_has_the_greatest_cider():
    known = [[own_words("a red boat on the lake")], [own_words("two dogs run in the grass")]]
    _, each = cider([rows[0] for rows in known], known)
    assert each == pytest.approx([10, 10])
    longer = cider([known[0][0] * 2, known[1][0]], known)[1]
    assert longer[0] < 6  # the penalty of length


def test_own_words_meet_people_and_word_pieces_alike():
    assert own_words("A man's T-shirt, isn't it?") == own_words("a man ' s t - shirt , isn ' t it ?")
    assert own_words("[CLS] {x} (y) “z” – $5 & 50%") == ["cls", *"xyz$5&", "50", "%"]
    assert own_words("Cafe\u0301!") == ["caf\u00e9"]
    assert own_words(" ... ") == []


def test_scores_name_their_words_and_count_different_captions():
    known = {1: ["A red boat on the lake."], 2: ["Two dogs run."], 3: ["Snow."]}
    said = {1: "a red boat on the lake", 2: "A red boat on the lake .", 3: "a boat on a"}
    found = score(said, known)
    assert found["tokens"] == "own"
    assert (found["images"], found["different"]) == (3, 2)
    assert found["bad_endings"] == pytest.approx(1 / 3)
    assert found["cider"] == pytest.approx(cider(
        [own_words(t) for t in said.values()], [[own_words(t) for t in those] for those in known.values()]
    )[0])  # fmt: skip
    with pytest.raises(UserError, match='tokens "moses" are unknown; expected "own" or "ptb"'):
        score(said, known, tokens="moses")


def test_pictures_without_a_caption_or_a_reference_are_refused_or_left_out():
    known = {1: ["a boat"], 2: ["a dog"], 3: []}
    with pytest.raises(
        UserError, match=r"1 of 3 pictures have no reference \(3 …; the other side has names like 1"
    ):
        score({1: "a boat", 2: "a cat", 3: "x"}, known)
    with pytest.raises(UserError, match=r"2 of 3 pictures have no caption to score \(2, 3"):
        score({1: "a boat"}, known)
    assert evaluate({1: "a boat", 3: "x"}, known, partial=True).overall["images"] == 1
    with pytest.raises(UserError, match="1 of 4 pictures have no reference"):
        evaluate({"1": "a boat"}, known, partial=True)
    with pytest.raises(UserError, match="there is no caption to score"):
        score({}, {})


def test_shuffling_gives_every_picture_the_caption_of_another_one():
    said = {i: f"caption {i}" for i in range(7)}
    moved = shuffled(said)
    assert sorted(moved.values()) == sorted(said.values())
    assert all(moved[i] != said[i] for i in said)
    known = {i: [text, text] for i, text in said.items()}
    found = controls(said, known, "caption 3")
    assert found.keys() == {"shuffled_cider", "constant_cider"}
    assert max(found.values()) < score(said, known)["cider"]


def test_endings_that_no_sentence_has_are_counted():
    assert [ends_badly(own_words(text)) for text in ("a dog with a", "a dog on the .", "", "a dog runs .")] == [
        True, True, True, False,
    ]  # fmt: skip


def test_the_penn_treebanks_words_are_the_recorded_ones():
    needs_java("words")
    found = ptb.ptb_words([row["raw"] for row in RECORDED["ptb"]])
    assert [" ".join(words) for words in found] == [row["tokens"] for row in RECORDED["ptb"]]


def test_scores_from_raw_sentences_are_the_recorded_ones():
    needs_java("words")
    raw = RECORDED["from_raw"]
    said, known = dict(enumerate(raw["hypotheses"])), dict(enumerate(raw["references"]))
    found = score(said, known, tokens="ptb")
    assert found["tokens"] == "ptb"
    assert [found[f"bleu_{n}"] for n in range(1, 5)] == pytest.approx(raw["bleu"], abs=1e-9)
    assert [found["rouge_l"], found["cider"]] == pytest.approx([raw["rouge_l"], raw["cider"]], abs=1e-9)


@pytest.mark.slow
def test_meteor_is_the_recorded_one():
    needs_java("meteor")
    rows = [RECORDED["captions"][i] for i in RECORDED["meteor"]["images"]]
    found = ptb.meteor(
        [row["hypothesis"].split() for row in rows], [[t.split() for t in row["references"]] for row in rows]
    )
    assert found[0] == pytest.approx(RECORDED["meteor"]["score"], abs=1e-9)
    assert found[1] == pytest.approx(RECORDED["meteor"]["each"], abs=1e-9)


def test_what_java_is_needed_for_is_skipped_with_its_reason(monkeypatch, tmp_path):
    said, known = {1: "a boat"}, {1: ["a boat"]}
    assert "Penn Treebank" in evaluate(said, known).skipped["meteor"]
    monkeypatch.setattr(ptb, "java_version", lambda: None)
    monkeypatch.setattr(ptb, "package_folder", lambda: tmp_path)
    with pytest.raises(UserError, match=r'there is no Java.*tokens="own"'):
        score(said, known, tokens="ptb")
    monkeypatch.setattr(ptb, "java_version", lambda: 21)
    assert "expected Java 8 or 11" in ptb.why_no_spice()
    monkeypatch.setattr(ptb, "java_version", lambda: 11)
    assert "models.jar is missing" in ptb.why_no_spice()
    assert ptb.why_no_meteor() is None
    monkeypatch.setattr(ptb, "package_folder", lambda: tmp_path / "my files")
    assert "a space in its path" in ptb.why_no_meteor()
    monkeypatch.setattr(ptb, "package_folder", lambda: None)
    assert all("not installed" in why() for why in (ptb.why_no_words, ptb.why_no_meteor, ptb.why_no_spice))


def test_files_of_captions_are_read_and_scores_written(tmp_path):
    results, references = tmp_path / "r.json", tmp_path / "c.json"
    results.write_text('[{"image_id": 7, "caption": "a boat"}]')
    references.write_text(
        '{"annotations": [{"image_id": 7, "caption": "A boat."}, {"image_id": 7, "caption": "x"}]}'
    )
    said, known = read_caption_results(results), captions.read_references(references)
    assert (said, known) == ({7: "a boat"}, {7: ["A boat.", "x"]})
    captions.write_scores(tmp_path / "s.json", evaluate(said, known), said)
    written = json.loads((tmp_path / "s.json").read_text())
    assert written["overall"]["tokens"] == "own"
    assert {"CIDEr", "Bleu_4", "ROUGE_L"} <= written["overall"].keys()
    assert written["imgToEval"]["7"]["caption"] == "a boat"
    assert written["skipped"].keys() == {"METEOR", "SPICE"} or written["skipped"].keys() == {
        "meteor",
        "spice",
    }


def test_a_damaged_file_of_references_is_named(tmp_path):
    for text, words in (
        ('{"images": []}', "field 'annotations' is missing"),
        ('{"annotations": [{}]}', "image_id"),
    ):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(UserError, match=rf"c\.json.*{words}"):
            captions.read_references(tmp_path / "c.json")
