"""Configurations: text is read as what the field wants, everything unknown or ill-typed is refused in words."""

import importlib
import pkgutil
import types
import typing

import pytest

import vlpnb
from vlpnb.config import Config, check_name, merge, nest, parse_config, parse_settings
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
    with pytest.raises(UserError, match="did you mean 'laptop'"):
        load_profile("labtop")
    path = tmp_path / "mine.yaml"
    path.write_text("description: d\nnotebooks: [00, 01, 16]\nvlm: {rate: 1e-4}\n")
    profile = load_profile(path)
    assert profile.notebooks == ("00", "01", "16")
    assert load_profile("laptop").notebooks == ()  # all there are
    assert load_profile("photos").notebooks == ("1", "2", "3", "4", "5")  # all of every part
    assert profile.stages == {"vlm": {"rate": "1e-4"}}
    for text in ("a: [", "vlm: 3\n", "- a\n", "notebooks: all\n", "parts: 1\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"mine\.yaml"):
            load_profile(path)


def configs(cls=Config):
    """Every configuration class of the package."""
    for module in pkgutil.walk_packages(vlpnb.__path__, "vlpnb."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = set()
    waiting = [cls]
    while waiting:
        more = waiting.pop().__subclasses__()
        found |= {c for c in more if c.__module__.startswith("vlpnb.")}
        waiting += more
    return sorted(found, key=lambda c: (c.__module__, c.__qualname__))


def numbers(annotation, metadata=()):
    """(type, constraints) of every number inside a field's type: `int | None`, `tuple[Seed, …]`, `dict[str, int]`."""
    kind, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if kind is typing.Annotated:
        more = [m for item in inside[1:] for m in getattr(item, "metadata", [item])]
        yield from numbers(inside[0], (*metadata, *more))
    elif kind in (typing.Union, types.UnionType):
        for option in inside:
            yield from numbers(option, metadata)
    elif inside:
        for item in inside:
            yield from numbers(item)
    elif annotation in (int, float):
        yield annotation, metadata


def without_bound(cls):
    """The fields of a configuration that take any number."""
    return [
        name
        for name, field in cls.model_fields.items()
        for _, constraints in numbers(field.annotation, tuple(field.metadata))
        if not any(hasattr(c, "ge") or hasattr(c, "gt") for c in constraints)
    ]


def test_every_number_of_every_configuration_has_a_bound():
    assert without_bound(Schedule) == ["rate", "warmup"]  # the test sees what is missing
    found = configs()
    assert len(found) > 15
    assert {f"{c.__module__}.{c.__qualname__}": names for c in found if (names := without_bound(c))} == {}


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        ("vokenization.pretraining.PretrainingConfig", {"updates": 0}),
        ("vokenization.pretraining.PretrainingConfig", {"original.exclude": "5,3"}),
        ("vokenization.pretraining.PretrainingConfig", {"seed": -1}),
        ("FeaturesConfig", {"max_images": -1}),
        ("FeaturesConfig", {"layers": (1,)}),
        ("FeaturesConfig", {"crop_scale": (0.9, 0.1)}),
        ("GlueConfig", {"seeds": ()}),
        ("ResultsConfig", {"seeds": "1,-2"}),
    ],
)
def test_numbers_out_of_their_bounds_are_refused_by_name(cls, values):
    (found,) = (c for c in configs() if f".{c.__module__}.{c.__name__}".endswith(f".{cls}"))
    with pytest.raises(UserError, match=next(iter(values))):
        parse_config(found, values, "stage")


@pytest.mark.parametrize(
    "name", ["../secret", "a/b", "", ".", "..", ".hidden", "a\nb", "<b>x</b>", "a" * 200, "-x", "a "]
)
def test_a_name_stays_in_its_folder_and_on_its_page(name):
    with pytest.raises(UserError, match=r"the run is called .*expected letters, digits"):
        check_name(name, "the run")
    with pytest.raises(UserError, match="not found"):
        load_profile(name)


@pytest.mark.parametrize("name", ["laptop", "my run 2", "VG_100K.v2", "Bilder-für-später", "图片"])
def test_ordinary_names_are_names(name):
    assert check_name(name, "the run") == name
