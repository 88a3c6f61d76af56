"""Writing with VLP: caches beside full recomputation, pictures read once, texts scored in one pass, words as text."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.vlp.small import CONFIG, REGIONS, R, inputs
from vlpnb.errors import UserError
from vlpnb.nn.beam import beam
from vlpnb.nn.decoding import Step, greedy, sample
from vlpnb.text.caption_table import text_of
from vlpnb.vlp.generating import VlpDecoder, log_probs_of
from vlpnb.vlp.heads import VlpForGeneration

CLOSE = {"atol": 1e-5, "rtol": 0}
STEPS = CONFIG.text_length
PICTURES = ("features", "geometry", "visual_mask")


def captioner(**fields) -> VlpForGeneration:
    torch.manual_seed(1)
    model = VlpForGeneration(replace(CONFIG, **fields)).eval()
    torch.nn.init.normal_(model.words.bias, std=0.5)
    model.words.bias.data[CONFIG.sep_id] = 1.0  # so that some texts end
    return model


def pictures(visual: bool = True) -> dict[str, Tensor]:
    return {
        k: v.float() if v.is_floating_point() else v
        for k, v in inputs(visual=visual).items()
        if k in PICTURES
    }


class Spy:
    """A step function that remembers what each row had written, and the scores it got."""

    def __init__(self, step: Step, pictures: int):
        self.step, self.rows = step, [(picture, ()) for picture in range(pictures)]
        self.seen: list[tuple[int, tuple[int, ...], Tensor]] = []

    def __call__(self, words: Tensor | None, parents: Tensor | None) -> Tensor:
        if words is not None:
            old = [self.rows[parent] for parent in parents.tolist()]
            self.rows = [(p, (*text, word)) for (p, text), word in zip(old, words.tolist(), strict=True)]
        scores = self.step(words, parents)
        self.seen += [(*row, own) for row, own in zip(self.rows, scores, strict=True)]
        return scores


def anew(model: VlpForGeneration, given: dict[str, Tensor], picture: int, text: tuple[int, ...]) -> Tensor:
    """Scores of the word after a text, by running the whole sequence with a [MASK] behind it."""
    one = {name: tensor[picture : picture + 1] for name, tensor in given.items()}
    ids = torch.tensor([[*text, model.config.mask_id]])
    out = model.backbone(**one, ids=ids, lengths=torch.tensor([len(text)]), s2s=torch.tensor([True]))
    return model.word_scores(out.last[0, -1])


@pytest.mark.parametrize(
    "slots", [{}, {"slots": 4}, {"slots": 4, "joint_norm": True}, {"segments": 2}], ids=str
)
@pytest.mark.parametrize("width", [0, 1, 3, 5])
@torch.no_grad()
def test_cached_steps_equal_full_recomputation(width, slots):
    model, given = captioner(**slots), pictures()
    decoder = VlpDecoder(model)
    spy = Spy(decoder.step(decoder.see(**given)), 3)
    if width:
        beam(spy, width, STEPS, CONFIG.sep_id, stop_early=False)
    else:
        greedy(spy, STEPS, CONFIG.sep_id, stop=False)
    assert len(spy.seen) == 3 + 3 * max(width, 1) * (STEPS - 1)
    for picture, text, scores in spy.seen:
        torch.testing.assert_close(scores, anew(model, given, picture, text), **CLOSE)


def test_one_beam_writes_what_greedy_writes():
    model, given = captioner(), pictures()
    decoder = VlpDecoder(model)
    prefix = decoder.see(**given)
    with torch.no_grad():
        drawn = greedy(decoder.step(prefix), STEPS, CONFIG.sep_id)
    for caption, ids in zip(decoder.captions(prefix, width=1), drawn.ids.tolist(), strict=True):
        assert [*caption.ids, *[CONFIG.pad_id] * (STEPS - len(caption.ids))] == ids
    assert {len(caption.ids) for caption in decoder.captions(prefix, width=1)} != {STEPS}


def test_pictures_with_fewer_regions_are_captioned_as_alone():
    model, given = captioner(), pictures()
    decoder = VlpDecoder(model)
    together = decoder.captions(decoder.see(**given), width=3, maps=True)
    for picture, regions in enumerate(REGIONS):
        alone = {name: tensor[picture : picture + 1, :regions] for name, tensor in given.items()}
        del alone["visual_mask"]
        (caption,) = decoder.captions(decoder.see(**alone), width=3, maps=True)
        assert caption.ids == together[picture].ids
        assert caption.score == pytest.approx(together[picture].score, abs=1e-4)
        steps = min(len(caption.looks), len(together[picture].looks))
        mine, theirs = caption.looks[:steps], together[picture].looks[:steps]
        torch.testing.assert_close(theirs[..., :regions], mine, **CLOSE)
        assert (theirs[..., regions:] == 0).all()


def test_a_text_alone_needs_no_regions():
    decoder = VlpDecoder(captioner())
    nothing = pictures(visual=False)
    captions = decoder.captions(
        decoder.see(nothing["features"][:, :0], nothing["geometry"][:, :0]), maps=True
    )
    assert len({caption.ids for caption in captions}) == 1
    assert captions[0].looks.shape[2] == 0


def test_a_picture_is_read_once_for_all_that_is_written_of_it(monkeypatch):
    model, given = captioner(), pictures()
    decoder = VlpDecoder(model)
    prefix = decoder.see(**given)
    monkeypatch.setattr(model.backbone, "look", None)
    widest = []
    encode = model.backbone.encode
    monkeypatch.setattr(
        model.backbone, "encode", lambda x, *a, **k: widest.append(x.shape[1]) or encode(x, *a, **k)
    )
    first = decoder.captions(prefix, width=5)
    assert [caption.ids for caption in decoder.captions(prefix, width=5)] == [
        caption.ids for caption in first
    ]
    sample(decoder.step(prefix), STEPS, CONFIG.sep_id, samples=4)
    assert set(widest) == {1, 2}  # the first [MASK]; a word and a [MASK]
    assert prefix.pictures == 3
    assert prefix.length == 0


def test_where_a_word_looked_is_seen_in_the_pass_that_chose_it():
    model, given = captioner(), pictures()
    decoder = VlpDecoder(model)
    prefix = decoder.see(**given)
    plain, mapped = decoder.captions(prefix, width=3), decoder.captions(prefix, width=3, maps=True)
    assert plain[0].looks is plain[0].trace is None
    for picture, (caption, other) in enumerate(zip(mapped, plain, strict=True)):
        assert caption.ids == other.ids
        steps, k = len(caption.trace.steps), caption.trace.texts[0].place[1]
        assert caption.looks.shape == (steps, 3, R)
        for s in reversed(range(len(caption.ids))):
            text = caption.ids[:s]
            one = {name: tensor[picture : picture + 1] for name, tensor in given.items()}
            ids = torch.tensor([[*text, CONFIG.mask_id]])
            with torch.no_grad():
                out = model.backbone(
                    **one, ids=ids, lengths=torch.tensor([s]), s2s=torch.tensor([True]), maps=True
                )
            expected = out.attentions[-1][0, :, -1, 1 : R + 1].mean(0)
            torch.testing.assert_close(caption.looks[s, k], expected, **CLOSE)
            k = caption.trace.steps[s].parents[k]


def scst_mask(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """A reference's training mask over places of text, and its segments."""
    place, n = torch.arange(STEPS), torch.tensor(lengths)[:, None, None]
    mask = (place <= place[:, None]) & (place[:, None] <= n) & (place <= n)
    return mask, torch.where(place <= n[:, 0], 5, 0)


@pytest.mark.parametrize("faithful", [False, True])
def test_log_probabilities_in_one_pass_equal_those_of_each_step_with_gradients(faithful):
    model, given = captioner(), pictures()
    decoder = VlpDecoder(model)
    mask, segments = scst_mask([3, 5, 8]) if faithful else (None, None)
    parameters = [p for p in model.parameters() if p.requires_grad]

    prefix = decoder.see(**given)
    step = decoder.step(prefix, mask=mask, segments=segments)
    random = torch.Generator().manual_seed(0)
    drawn = sample(step, STEPS, CONFIG.sep_id, samples=2, generator=random, stop=False)
    weight = torch.rand(drawn.ids.shape)
    wanted = torch.autograd.grad((weight * drawn.log_probs).sum(), parameters, allow_unused=True)

    found = log_probs_of(model, decoder.see(**given), drawn.ids, mask=mask, segments=segments)
    torch.testing.assert_close(found, drawn.log_probs, **CLOSE)
    gradients = torch.autograd.grad((weight * found).sum(), parameters, allow_unused=True)
    for (name, _), mine, theirs in zip(
        ((n, p) for n, p in model.named_parameters() if p.requires_grad), gradients, wanted, strict=True
    ):
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            torch.testing.assert_close(
                mine, theirs, atol=1e-4, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
            )


def test_places_that_do_not_count_are_zero():
    model, given = captioner(), pictures()
    decoder = VlpDecoder(model)
    prefix = decoder.see(**given)
    drawn = sample(decoder.step(prefix), STEPS, CONFIG.sep_id, generator=torch.Generator().manual_seed(3))
    counted = (drawn.ids != CONFIG.pad_id) & (torch.arange(STEPS) < 6)
    found = log_probs_of(model, prefix, drawn.ids, counted=counted)
    torch.testing.assert_close(found, drawn.log_probs * counted, **CLOSE)
    assert counted.sum() < counted.numel()


class Pieces:
    """A tokenizer of which only the pieces are asked."""

    def __init__(self, *pieces: str):
        self.pieces = ["[PAD]", "[SEP]", *pieces]

    def convert_ids_to_tokens(self, ids):
        return [self.pieces[i] for i in ids]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["a", "snow", "##board", "##er", "jumps", ".", "[SEP]", "x"], "a snowboarder jumps ."),
        (["##ing", "first"], "##ing first"),
        (["one", "[PAD]", "two"], "one"),
        (["[SEP]"], ""),
        (["don", "'", "t", "stop"], "don ' t stop"),
        (["play", "##ing", "##s", ",", "red", "##dish"], "playings , reddish"),
        ([], ""),
    ],
)
def test_pieces_become_words_and_end_at_the_first_end(pieces, text):
    tokenizer = Pieces(*pieces)
    assert text_of(tokenizer, [tokenizer.pieces.index(piece) for piece in pieces], sep_id=1, pad_id=0) == text


def test_captions_have_text_and_the_next_best_where_they_are_asked_for():
    model, given = captioner(), pictures()
    tokenizer = Pieces(*(f"w{i}" for i in range(2, CONFIG.vocab_size)))
    decoder = VlpDecoder(model, tokenizer, steps=6)
    captions = decoder.captions(decoder.see(**given), width=4, best=3, length_bonus=0.2, trace=True)
    for caption in captions:
        words = [tokenizer.pieces[i] for i in caption.ids if i != CONFIG.sep_id]
        assert caption.text.split() == words
        assert len(caption.others) == 2
        assert caption.score >= caption.others[0].score >= caption.others[1].score
        assert caption.trace.texts == (caption.trace.texts[0], *caption.others)


def test_what_does_not_fit_is_refused():
    model = captioner()
    with pytest.raises(UserError, match="do not fit"):
        VlpDecoder(model, steps=CONFIG.max_positions - CONFIG.regions - 1)
    decoder = VlpDecoder(model)
    with pytest.raises(UserError, match="width = 61 beams, but there are only 60 words"):
        decoder.captions(decoder.see(**pictures()), width=61)
    more = {name: torch.cat([tensor, tensor], dim=1) for name, tensor in pictures().items()}
    with pytest.raises(UserError, match="12 regions; this model takes at most 7"):
        decoder.see(**more)
