"""The world's backbone and the measures of grounding, on a few rendered scenes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vlpnb.data.description import CaptionData, CaptionFiles
from vlpnb.downstream.grounding import grounding_rates
from vlpnb.errors import UserError
from vlpnb.foundations import vision
from vlpnb.foundations.vision import VISION, VisionConfig, label_names, labels_of
from vlpnb.text.corpora import TokenCorpus, write_corpus
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vision.backbones import load_backbone
from vlpnb.world.knowledge import shows_bound
from vlpnb.world.render import render
from vlpnb.world.scene import HELD_OUT, KINDS, make_scene


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The folder of the captions and scenes of 12 train, 8 valid and 30 universe pictures."""
    import json

    root = tmp_path_factory.mktemp("scenes")
    made = {
        s: [make_scene(0, s, i) for i in range(n)] for s, n in (("train", 12), ("valid", 8), ("universe", 30))
    }
    for split in ("train", "valid"):
        (root / split).mkdir()
        for scene in made[split]:
            render(scene, 48).save(root / split / f"{scene.image_id}.png")
        images = [{"id": i, "file_name": f"{s.image_id}.png"} for i, s in enumerate(made[split])]
        captions = [{"image_id": i, "caption": "a picture"} for i in range(len(images))]
        (root / f"{split}.json").write_text(json.dumps({"images": images, "annotations": captions}))
    (root / "scenes.jsonl").write_text("".join(s.to_json() + "\n" for split in made.values() for s in split))
    annotations = {split: (root / f"{split}.json",) for split in ("train", "valid")}
    files = CaptionFiles("coco", annotations, str(root / "{split}"))
    CaptionData(root, files, scenes=root / "scenes.jsonl").save(root)
    return root, made


def test_labels_name_what_a_scene_shows_and_never_a_held_out_pair(scenes):
    names = label_names()
    assert len(names) == len(set(names))
    assert not {f"pair:{colour} {kind}" for colour, kind in HELD_OUT} & set(names)
    assert sum(name.startswith("kind:") for name in names) == len(KINDS)
    for scene in scenes[1]["train"]:
        assert labels_of(scene) <= set(names)  # training never shows a held-out pair


def test_the_stage_trains_resumes_and_leaves_a_backbone(small, scenes, tmp_path, monkeypatch):
    config = VisionConfig(image_size=32, widths=(8, 8, 16), epochs=2, batch=4, shift=2, checkpoint_seconds=0)
    whole = small.run(VISION, config, tmp_path / "whole", captions=scenes[0])
    assert {"kind_accuracy", "colour_accuracy", "kind_map", "pair_map"} <= whole.keys()
    save = vision.save_backbone
    monkeypatch.setattr(vision, "save_backbone", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        small.run(VISION, config, tmp_path / "killed", captions=scenes[0])
    monkeypatch.setattr(vision, "save_backbone", save)
    assert small.run(VISION, config, tmp_path / "killed", captions=scenes[0]) == whole
    backbone = load_backbone(tmp_path / "whole")
    assert (backbone.width, backbone.image_size) == (32, 32)
    with torch.no_grad():
        assert backbone(torch.randn(1, 3, 32, 32)).shape == (1, 32)


def test_data_without_scenes_is_refused(small, tmp_path):
    with pytest.raises(UserError, match=r"features\.vision"):
        small.run(VISION, VisionConfig(), tmp_path, captions=small.dataset)


def test_grounding_rates_of_known_vokens(scenes, tmp_path):
    root, made = scenes
    universe = made["universe"]
    target = next(
        s for s in universe if s.things[0].pattern == "plain" and KINDS[s.things[0].kind].colour is None
    )
    kind, colour = target.things[0].kind, target.things[0].colour
    line = f"the {colour} {kind} is here ."
    (tmp_path / "text").write_text(line + "\n")
    tokenizer = train_wordpiece([line] * 4, 200, tmp_path / "words")
    write_corpus(tmp_path / "text", tmp_path / "corpus.hdf5", tokenizer, "none")
    corpus = TokenCorpus(tmp_path / "corpus.hdf5")
    right = universe.index(target)
    wrong = next(
        i for i, s in enumerate(universe)
        if not shows_bound(s, kind, colour) and all(t.kind != kind and t.colour != colour for t in s.things)
    )  # fmt: skip
    ids = [scene.image_id for scene in universe]
    rates = grounding_rates(
        root, corpus, tokenizer, ids, np.full(len(corpus), right), lambda rows: np.full(len(rows[0]), wrong)
    )
    assert rates["named_rate"] == rates["contextual_rate"] == 1.0
    assert rates["named_rate_context_free"] == rates["contextual_rate_context_free"] == 0.0
    assert rates["named_tokens"] == rates["bound_tokens"] >= 2
    marked = np.full(len(corpus), -right - 1)  # as a sentence-level voken is stored
    assert (
        grounding_rates(root, corpus, tokenizer, ids, marked, lambda r: np.full(len(r[0]), right))[
            "named_rate"
        ]
        == 1.0
    )


def test_drawn_pictures_go_on_where_the_written_ones_end(tmp_path):
    (tmp_path / "world.json").write_text('{"seed": 3, "train": 7, "image_size": 48}', encoding="utf-8")
    captions = SimpleNamespace(scenes=tmp_path / "scenes.jsonl")
    drawn = list(vision.draw_pictures(captions, 2, 32))
    assert [scene.index for scene, _ in drawn] == [7, 8]
    assert {scene.split for scene, _ in drawn} == {"train"}
    assert all(picture.shape == (32, 32, 3) for _, picture in drawn)
    assert list(vision.draw_pictures(captions, 0, 32)) == []
