"""One small example of every view, from made-up numbers: used on a blank page and inside JupyterLab."""

import numpy as np
from PIL import Image, ImageDraw

from vlpnb.widgets.attention_explorer import AttentionExplorer
from vlpnb.widgets.embedding_map import EmbeddingMap
from vlpnb.widgets.region_explorer import RegionExplorer
from vlpnb.widgets.retrieval_explorer import RetrievalExplorer
from vlpnb.widgets.voken_explorer import VokenExplorer

COLOURS = ("red", "orange", "gold", "green", "teal", "blue", "purple", "brown")
NAMES = [f"a {colour} disc" for colour in COLOURS]
SENTENCE = "a red disc near gold ##en fields"


def disc(voken: int) -> Image.Image:
    """A coloured disc on grey."""
    picture = Image.new("RGB", (120, 90), "lightgrey")
    ImageDraw.Draw(picture).ellipse((25, 10, 95, 80), fill=COLOURS[voken])
    return picture


def retrieve(sentence: str, k: int = 4):
    """Colours named in the sentence come first at their token; "boom" fails as a callback may."""
    if "boom" in sentence:
        raise RuntimeError("the matcher fell over")
    tokens = sentence.split()
    scores = np.array([[((len(t) * 7 + 3 * v) % 11) / 20 for v in range(len(COLOURS))] for t in tokens])
    for i, token in enumerate(tokens):
        if token in COLOURS:
            scores[i, COLOURS.index(token)] = 0.9
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return tokens, order, np.take_along_axis(scores, order, axis=1)


def vokens() -> VokenExplorer:
    """Two models side by side, with contributions; the first token has no voken."""
    tokens, ids, scores = retrieve(SENTENCE)
    ids[0] = -1
    context = np.linspace(-0.1, 0.4, len(tokens) ** 2).reshape(len(tokens), -1)
    alone = (ids[:, ::-1].copy(), scores[:, ::-1].copy())
    return VokenExplorer(
        tokens, ids, scores, disc, NAMES, "Toy vokens", name="in context", compare={"alone": alone}, context=context
    )  # fmt: skip


def retrieval() -> RetrievalExplorer:
    """A retrieval that answers from the rules above."""
    return RetrievalExplorer(retrieve, disc, NAMES.__getitem__, SENTENCE, title="Toy retrieval")


SPOKEN = {"red": ("rot", "红色"), "green": ("grün", "绿色"), "blue": ("blau", "蓝色")}


def many_languages() -> RetrievalExplorer:
    """The same in three languages: one row of pictures for the whole sentence."""

    def search(sentence: str):
        if "boom" in sentence:
            raise RuntimeError("the model fell over")
        named = [c for c, words in SPOKEN.items() if any(word in sentence for word in (c, *words))]
        scores = np.array([[0.9 if colour in named else 0.1 for colour in COLOURS]])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :3]
        return ["the sentence"], order, np.take_along_axis(scores, order, axis=1)

    examples = {"en": "a red disc", "de": "eine grüne Scheibe", "zh": "一个蓝色的球"}
    return RetrievalExplorer(
        search, disc, NAMES.__getitem__, title="Toy search", noun="picture", examples=examples
    )


def attention() -> AttentionExplorer:
    """Made-up maps of three layers with four heads (without torch: a kernel in JupyterLab starts faster)."""
    tokens = ["[CLS]", *SENTENCE.split(), "[SEP]"]
    scores = np.random.default_rng(3).normal(scale=1.5, size=(3, 4, len(tokens), len(tokens)))
    maps = np.exp(scores)
    return AttentionExplorer(tokens, maps / maps.sum(-1, keepdims=True), title="Toy attention")


def embedding() -> EmbeddingMap:
    """Eight discs and the names of their colours in four dimensions."""
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(len(COLOURS), 4))
    words = pictures + 0.3 * rng.normal(size=pictures.shape)
    return EmbeddingMap(COLOURS, words, pictures, disc, NAMES, title="Toy map", neighbours=3)


BOXES = (
    (0.0, 0.0, 1.0, 1.0),
    (0.05, 0.2, 0.45, 0.8),
    (0.12, 0.35, 0.32, 0.65),
    (0.55, 0.02, 0.95, 0.6),
    (0.6, 0.6, 0.95, 0.98),
)
WORDS = ("[CLS]", "a", "red", "disc", "near", "gold", "##en", "fields", "[SEP]")
REGIONS = ("field", "red disc", "red disc's middle", "blue disc", "gold disc")


def scene() -> Image.Image:
    """Three discs on green."""
    picture = Image.new("RGB", (240, 160), "darkseagreen")
    pen = ImageDraw.Draw(picture)
    for colour, box in (("red", BOXES[1]), ("blue", BOXES[3]), ("gold", BOXES[4])):
        left, top, right, bottom = box
        pen.ellipse((left * 240, top * 160, right * 240, bottom * 160), fill=colour)
    return picture


def regions() -> RegionExplorer:
    """Made-up maps of two layers with three heads; two regions lie inside others."""
    rng = np.random.default_rng(5)
    to_regions = np.exp(rng.normal(scale=1.5, size=(2, 3, len(WORDS), len(BOXES))))
    to_words = np.exp(rng.normal(scale=1.5, size=(2, 3, len(BOXES), len(WORDS))))
    maps = (m / m.sum(-1, keepdims=True) for m in (to_regions, to_words))
    return RegionExplorer(scene(), BOXES, WORDS, *maps, names=REGIONS, title="Toy regions", word=2)


CAPTIONS = (  # scores of the next word by the word before, of a language with six words
    (0.0, 3.0, 0.5, 2.2, 0.0, 1.0),
    (0.0, 0.0, 2.4, 0.4, 1.6, 0.5),
    (0.5, 0.0, 0.0, 2.6, 0.0, 0.3),
    (1.9, 0.3, 0.0, 0.0, 0.9, 1.6),
    (0.0, 1.0, 2.0, 0.6, 0.0, 0.2),
    (0.0, 2.3, 0.0, 0.4, 1.1, 0.0),
)
PIECES = ("[SEP]", "a", "red", "disc", "big", "##s")


def stepper(width: int = 3, steps: int = 7):
    """Two settings of a search in that language, with made-up attention (torch is imported where it is needed)."""
    import torch

    from vlpnb.nn.beam import beam
    from vlpnb.widgets.caption_stepper import CaptionStepper

    table, rng = torch.tensor(CAPTIONS), np.random.default_rng(7)

    def step(words, _):
        return table[:1] if words is None else table[words]

    settings = {"three beams": {}, "a bonus of 1, no repeated pair": {"length_bonus": 1.0, "no_repeat": 2}}
    traces = {
        name: beam(step, width, steps, 0, best=4, min_length=2, trace=True, **more).traces[0]
        for name, more in settings.items()
    }
    looks = {n: rng.dirichlet(np.full(len(BOXES), 0.4), (len(t.steps), width)) for n, t in traces.items()}
    return CaptionStepper(
        scene(), BOXES, traces, PIECES.__getitem__, looks, names=REGIONS, title="Toy captions"
    )


def state(page, name):
    """A trait of the view that a page shows, as its own code holds it."""
    return page.evaluate(f"model.state.{name}")


def alts(locator):
    """What stands for the pictures of a part of a page, in order."""
    return [image.get_attribute("alt") for image in locator.locator("img").all()]
