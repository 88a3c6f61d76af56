"""Configurations: text is read as what the field wants, everything unknown or ill-typed is refused in words."""

import pytest

from vlpnb.config import Config, merge, nest, parse_config, parse_settings
from vlpnb.errors import UserError
from vlpnb.stage.profiles import load_profile, profile_names


class Schedule(Config):
    rate: float = 1e-3
    warmup: int = 10


class Training(Config):
    epochs: int = 3
    fast: bool = False
    name: str = "a"
    limit: int | None = 5
    tasks: tuple[str, ...] = ("x",)
    schedule: Schedule = Schedule()


def test_text_is_read_as_the_field_wants():
    values = {"epochs": "1e2", "fast": "true", "name": 7, "limit": "none", "tasks": "RTE,MRPC"}
    config = parse_config(Training, {**values, "schedule.rate": "1e-4"})
    assert config == Training(
        epochs=100, fast=True, name="7", limit=None, tasks=("RTE", "MRPC"), schedule=Schedule(rate=1e-4)
    )


@pytest.mark.parametrize(
    "text", ["RTE,MRPC", "[RTE, MRPC]", "[RTE,MRPC]", '["RTE", "MRPC"]', " [ RTE , MRPC ] "]
)
def test_lists_may_be_written_with_brackets(text):
    assert parse_config(Training, {"tasks": text}).tasks == ("RTE", "MRPC")
    assert parse_config(Training, parse_settings(f"training.tasks={text}")["training"]).tasks == (
        "RTE",
        "MRPC",
    )


@pytest.mark.parametrize("text", ["[RTE", "[RTE]]", "[RTE], MRPC", '["RTE", MRPC]'])
def test_brackets_that_do_not_fit_are_refused(text):
    with pytest.raises(UserError, match=r"training\.tasks"):
        parse_config(Training, {"tasks": text}, "training")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epoch": 3}, ["training.epoch", "unknown", "did you mean 'epochs'"]),
        ({"schedule": {"rat": 3}}, ["training.schedule.rat", "did you mean 'rate'"]),
        ({"epochs": "many"}, ["training.epochs", "'many'", "integer"]),
        ({"epochs": 1.5}, ["training.epochs", "1.5", "integer"]),
        ({"fast": "perhaps"}, ["training.fast", "'perhaps'", "boolean"]),
        ({"schedule.rate": "nan"}, ["training.schedule.rate", "finite"]),
        ({"schedule": 3}, ["training.schedule", "3"]),
    ],
)
def test_bad_values_are_refused_in_words(values, words):
    with pytest.raises(UserError) as error:
        parse_config(Training, values, "training")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_frozen_and_mergeable():
    config = Training()
    with pytest.raises(ValueError, match="frozen"):
        config.epochs = 4
    base = {"a": {"b": 1}}
    assert merge(base, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}
    assert base == {"a": {"b": 1}}
    assert nest({"a.b": 1, "a": {"c": {"d": 2}}}) == {"a": {"b": 1, "c": {"d": 2}}}


def test_settings_from_text_json_and_list():
    expected = {"vlm": {"steps": "3"}, "glue": {"tasks": "RTE,MRPC"}}
    assert parse_settings("vlm.steps=3,glue.tasks=RTE,MRPC") == expected
    assert parse_settings(["vlm.steps=3", "glue.tasks=RTE,MRPC"]) == expected
    assert parse_settings('{"vlm.steps": 3}') == {"vlm": {"steps": 3}}
    assert parse_settings(['{"vlm": {"steps": "3"}}', "glue.tasks=RTE,MRPC"]) == expected
    assert parse_settings("") == {}
    for bad in ("steps=3", "vlm.steps", '{"a": '):
        with pytest.raises(UserError):
            parse_settings(bad)


def test_profiles(tmp_path):
    assert {"smoke", "laptop", "photos", "paper"} <= set(profile_names())
    for name in profile_names():
        profile = load_profile(name)
        assert profile.description
        assert profile.notebooks
    with pytest.raises(UserError, match="did you mean 'laptop'"):
        load_profile("labtop")
    path = tmp_path / "mine.yaml"
    path.write_text("description: d\nnotebooks: [00, 01, 16]\nvlm: {rate: 1e-4}\n")
    profile = load_profile(path)
    assert profile.notebooks == ("00", "01", "16")
    assert profile.stages == {"vlm": {"rate": "1e-4"}}
    for text in ("a: [", "vlm: 3\n", "- a\n", "notebooks: all\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"mine\.yaml"):
            load_profile(path)
