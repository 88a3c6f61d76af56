"""A picture of one's own in, a caption out: the regions of the run's extractor, several pictures, clear refusals."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from vlpnb.course import report
from vlpnb.course.cli import main
from vlpnb.course.cli_finished import caption_lines
from vlpnb.errors import UserError
from vlpnb.foundations.distinct_pictures import Picture
from vlpnb.foundations.regions import RegionsConfig, from_pictures, open_extractor
from vlpnb.stage import Run
from vlpnb.stage.folder import write_manifest
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vision.backbones import save_backbone
from vlpnb.vision.small import SmallResNet
from vlpnb.vlp.caption import open_captioner
from vlpnb.vlp.captioning import CaptioningConfig
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.model import VlpConfig
from vlpnb.vlp.original.weights import save_model

GRID = RegionsConfig(source="grid", vision="stage", grid=(1, 2), short=32, long=48)


@pytest.fixture
def run(tmp_path):
    """What a finished run looks like to `open_captioner`: a backbone, regions, captioners of two seeds."""
    torch.manual_seed(0)
    (tmp_path / "vision-1").mkdir()
    save_backbone(tmp_path / "vision-1", SmallResNet((4, 4, 8, 8), 3).eval(), (4, 4, 8, 8), 32, list("abc"))
    (tmp_path / "regions-1").mkdir()
    inputs = {"vision": {"folder": "vision-1"}}
    write_manifest(tmp_path / "regions-1", {"config": GRID.model_dump(mode="json"), "inputs": inputs})
    tokenizer = train_wordpiece(["the red cat is here ."] * 5, 60, tmp_path / "words")
    config = VlpConfig(
        vocab_size=len(tokenizer), hidden=32, layers=1, heads=2, ffn=32, regions=5, text_length=8, feature_width=8,
        classes=1, max_positions=40, init_std=0.5,
        **{f"{name}_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "unk", "cls", "sep", "mask")},
    )  # fmt: skip
    captioning = tmp_path / "vlp.captioning-1"
    for seed in (1, 2):
        torch.manual_seed(seed)
        save_model(captioning / f"seed-{seed}/model", VlpForGeneration(config), tokenizer)
    made = SimpleNamespace(
        name="vlp.captioning", label="", folder=captioning, config=CaptioningConfig(),
        manifest={"inputs": {"regions": {"folder": "regions-1"}}},
    )  # fmt: skip
    run = SimpleNamespace(
        name="small", folder=tmp_path, device="cpu", profile=SimpleNamespace(name="laptop"),
        results=lambda: [made], plan=lambda stage: SimpleNamespace(label=""), made=made,
    )  # fmt: skip
    run.one_of = partial(Run.one_of, run)
    return run


@pytest.fixture
def pictures(tmp_path):
    """Three files of different sizes."""
    paths = []
    for i, colour in enumerate(("red", "green", "white")):
        paths.append(tmp_path / f"{colour}.png")
        Image.new("RGB", (50 + 20 * i, 40), colour).save(paths[-1])
    return paths


def test_a_picture_goes_through_what_found_the_runs_regions(run, pictures):
    captioner = open_captioner(run)
    seen = captioner.caption(pictures[0], width=3, trace=True)
    assert seen.text == seen.caption.text
    assert seen.text
    assert seen.caption.trace is not None
    expected = open_extractor(GRID, {"vision": run.folder / "vision-1"}, "cpu")
    [(_, regions)] = from_pictures(expected, [Picture(["x"], pictures[0])], 1)([0])[0]
    assert torch.equal(seen.boxes, torch.from_numpy(regions.relative_boxes()))


def test_a_picture_is_captioned_alike_alone_and_among_others(run, pictures):
    captioner = open_captioner(run)
    together = captioner.captions(pictures)
    assert [one.path for one in together] == pictures
    assert [one.caption.ids for one in together] == [captioner.caption(p).caption.ids for p in pictures]
    assert caption_lines(together)[0] == f"{pictures[0]}: {together[0].text}"
    assert caption_lines(together[:1]) == [together[0].text]


def test_each_seed_has_a_captioner(run, pictures):
    one, two, first = (open_captioner(run, seed=seed) for seed in (1, 2, None))
    assert torch.equal(one.model.backbone.word_weight, first.model.backbone.word_weight)
    assert not torch.equal(one.model.backbone.word_weight, two.model.backbone.word_weight)
    with pytest.raises(UserError, match="no fine-tuned model of seed 3"):
        open_captioner(run, seed=3)


def test_what_is_no_picture_is_named_before_anything_is_computed(run, pictures, tmp_path):
    captioner = open_captioner(run)
    (tmp_path / "letter.txt").write_text("Dear reader")
    with pytest.raises(UserError, match=r"letter\.txt: cannot be decoded: no JPEG"):
        captioner.captions([*pictures, tmp_path / "letter.txt"])
    with pytest.raises(UserError, match=r"gone\.png: the file does not exist"):
        captioner.caption(tmp_path / "gone.png")
    with pytest.raises(UserError, match="no picture to caption"):
        captioner.captions([])
    with pytest.raises(UserError, match="beams, but there are only"):
        captioner.caption(pictures[0], width=5000)


def test_a_run_without_a_captioner_says_how_to_make_one(run):
    with pytest.raises(
        UserError, match=r"run 'small' has no captioner.*vlpnb stage vlp\.scst --profile laptop --run small"
    ):
        open_captioner(run, "vlp.scst")
    with pytest.raises(UserError, match=r"'vlp\.vqa' writes no captions"):
        open_captioner(run, "vlp.vqa")
    with pytest.raises(UserError, match=r"has no vlp\.captioning 'scratch'"):
        open_captioner(run, variant="scratch")


def test_regions_from_files_cannot_be_found_in_another_picture(run, tmp_path):
    (tmp_path / "regions-2").mkdir()
    about = {"config": RegionsConfig(source="vlp", of=("captions",)).model_dump(mode="json"), "inputs": {}}
    write_manifest(tmp_path / "regions-2", about)
    run.made.manifest["inputs"]["regions"]["folder"] = "regions-2"
    with pytest.raises(
        UserError, match=r"come from files \(source 'vlp'\).*expected a run with source detector"
    ):
        open_captioner(run)


def test_the_command_prints_a_line_for_each_picture(run, pictures, capsys, monkeypatch):
    monkeypatch.setattr(report, "reopen", lambda name: run)
    with pytest.raises(SystemExit) as caught:
        main(["caption", *map(str, pictures), "--run", "small", "--seed", "2", "--beam", "2"])
    assert caught.value.code in (0, None)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == list(map(str, pictures))
    with pytest.raises(SystemExit):
        main(["caption", str(pictures[0]), "--seed", "2", "--beam", "2"])
    assert capsys.readouterr().out.strip() == lines[0].partition(": ")[2]
