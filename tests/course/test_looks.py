"""What finished models make of pictures and sentences, as the explorer shows it: small random models."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.lxmert.small import CONFIG as LXMERT
from tests.regions import region_store
from tests.vlp.small import CONFIG as VLP
from vlpnb.course.looks import LIKELIEST, CclmLook, LxmertLook, Offered, VlpLook, finished, likeliest
from vlpnb.errors import UserError
from vlpnb.lxmert import LxmertForPretraining
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vlp import VlpForGeneration
from vlpnb.vlp.generating import VlpDecoder
from vlpnb.vlp.pictures import Pictures
from vlpnb.widgets.caption_stepper import CaptionStepper
from vlpnb.widgets.region_explorer import RegionExplorer
from vlpnb.widgets.retrieval_explorer import RetrievalExplorer

LINES = ["the red cat is here .", "a blue car ."]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_wordpiece(LINES * 5, 60, tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two pictures with four regions each, and what people say of them."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = {}
    for name, colour in (("one", "red"), ("two", "blue")):
        paths[name] = folder / f"{name}.png"
        Image.new("RGB", (40, 30), colour).save(paths[name])
    store = region_store(
        folder / "store", ["one", "two"], width=12, objects=4, attributes=3, probabilities=True
    )
    return Offered(store, dict(zip(paths, LINES, strict=True)), paths)


@pytest.fixture(scope="module")
def lxmert(tokenizer, pictures):
    torch.manual_seed(0)
    look = object.__new__(LxmertLook)
    look.model = LxmertForPretraining(replace(LXMERT, vocab_size=len(tokenizer))).eval()
    look.tokenizer, look.offered = tokenizer, pictures
    return look


def test_a_sentence_is_looked_at_with_the_attention_of_its_own_pass(lxmert, tokenizer, pictures):
    view = RegionExplorer(**lxmert("one", "the [MASK] is here ."))
    ids = torch.tensor([tokenizer("the [MASK] is here .")["input_ids"]])
    found = pictures.store.batch(pictures.store.rows(["one"]))
    with torch.no_grad():
        out = lxmert.model.backbone(ids, None, found.features, found.boxes, found.mask, maps=True)
    np.testing.assert_allclose(view.from_words[-1], out.maps.cross_text[-1][0].numpy(), atol=1e-6)
    assert view.words[view.word] == "[MASK]"
    best = tokenizer.convert_ids_to_tokens(int(lxmert.model.word_scores(out.text[0, view.word]).argmax()))
    assert f"[MASK]: {best} " in view.title
    assert "belongs to the picture: " in view.title
    assert view.labels[0].split(": ")[1].split() == [
        f"attribute{int(found.attribute_ids[0, 0])}", f"object{int(found.object_ids[0, 0])}"
    ]  # fmt: skip


def test_without_a_sentence_it_is_what_people_say_and_a_long_one_is_refused(lxmert):
    assert RegionExplorer(**lxmert("two")).title.startswith("a blue car .")
    with pytest.raises(UserError, match=r"more than the model reads \(16\)"):
        lxmert("one", "the red cat " * 8)


def test_a_caption_is_searched_with_the_beams_that_were_asked_for(tokenizer, pictures):
    torch.manual_seed(0)
    special = {f"{n}_id": getattr(tokenizer, f"{n}_token_id") for n in ("pad", "unk", "cls", "sep", "mask")}
    model = VlpForGeneration(replace(VLP, vocab_size=len(tokenizer), **special)).eval()
    look = object.__new__(VlpLook)
    look.tokenizer, look.decoder = tokenizer, VlpDecoder(model, tokenizer)
    look.offered, look.pictures = pictures, Pictures(pictures.store)
    for width in (1, 3):
        view = CaptionStepper(**look("one", width, 0.5))
        [trace] = view.traces.values()
        assert len(trace.steps[0].words) == width
        assert trace.length_bonus == 0.5
        assert view.title.startswith(view.text(trace, *trace.texts[0].place))
        assert "people say: the red cat" in view.title


def test_a_search_shows_both_orders_of_the_same_pictures(pictures):
    cosines, chances = np.array([0.9, 0.5, 0.1]), np.array([0.2, 0.7, 0.4])
    hits = [
        SimpleNamespace(id=f"p{i}", similarity=c, match=m)
        for i, (c, m) in enumerate(zip(cosines, chances, strict=True))
    ]
    look = object.__new__(CclmLook)
    paths = [*pictures.paths.values(), pictures.paths["one"]]
    said = [{"de": "ein Auto"}, {"de": "ein Ball", "en": "a ball"}, {"en": "a cat"}]
    look.shown = [
        SimpleNamespace(id=f"p{i}", path=path, captions={k: (v,) for k, v in says.items()})
        for i, (path, says) in enumerate(zip(paths, said, strict=True))
    ]
    look.scorer = SimpleNamespace(gallery=lambda ids: ids, find=lambda sentence, gallery, ids, k: hits[::-1])
    names, rows, scores = look.find("ein Ball", k=2)
    assert list(names) == ["by the vectors", "read closely"]
    assert rows.tolist() == [[0, 1], [1, 2]]
    np.testing.assert_allclose(scores, [[0.9, 0.5], [0.7, 0.4]])
    view = RetrievalExplorer(**look.view())
    assert [example["code"] for example in view.examples] == ["en", "de"], "of the picture that has the most"


def test_the_likeliest_words_come_first_with_their_probabilities():
    scores = torch.log(torch.tensor([0.1, 0.6, 0.3]))
    assert likeliest(scores, "abc".__getitem__) == "b 60%, c 30%, a 10%"
    assert likeliest(torch.zeros(9), str).count("11%") == LIKELIEST


def test_what_is_not_finished_is_named_and_not_trained():
    run = SimpleNamespace(name="x", find=lambda name: None)
    with pytest.raises(UserError, match=r"run x: lxmert\.pretraining is not finished; `vlpnb run --run x`"):
        finished(run, "lxmert.pretraining")
