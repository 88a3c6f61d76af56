"""The check of every exercise: right answers pass, stubs are told apart, and each typical slip is named."""

import itertools
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.course.slips import Exercise, nb02, nb14
from vlpnb.course import checks
from vlpnb.course.checks import Wrong

NOTEBOOKS = sorted(path.stem for path in Path(checks.__file__).parent.glob("nb*.py"))
EXERCISES: dict[str, Exercise] = {
    f"{name}.{exercise.check.__name__}": exercise
    for name in NOTEBOOKS
    for exercise in import_module(f"tests.course.slips.{name}").EXERCISES
}
MISTAKES = [(name, *mistake) for name, exercise in EXERCISES.items() for mistake in exercise.mistakes]


def test_every_check_is_here_with_two_mistakes_or_more():
    found = [
        f"{name}.{check}"
        for name in NOTEBOOKS
        for check in vars(import_module(f"vlpnb.course.checks.{name}"))
        if check.startswith("check_")
    ]
    assert sorted(EXERCISES) == sorted(found)
    assert all(len(exercise.mistakes) >= 2 for exercise in EXERCISES.values())


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_right_answers_pass(exercise, capsys):
    for answer in (exercise.right, *exercise.also_right):
        exercise.check(answer)
        said = capsys.readouterr().out
        assert said.startswith("Correct: ")
        assert exercise.said in said


@pytest.mark.parametrize("stub", [None, ...])
@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_stubs_fail(exercise, stub):
    with pytest.raises(Wrong, match="nothing came back yet"):
        exercise.check(lambda *arguments, **named: stub)


@pytest.mark.parametrize(
    ("name", "answer", "message"), MISTAKES, ids=[f"{name}: {text}" for name, _, text in MISTAKES]
)
def test_mistakes_are_named(name, answer, message):
    with pytest.raises(Wrong, match=message):
        EXERCISES[name].check(answer)


def test_the_receptive_field_is_where_the_gradient_lands():
    layers = [(3, 2), (5, 1), (3, 2)]
    net = torch.nn.Sequential(*(torch.nn.Conv1d(1, 1, k, s, padding=k // 2) for k, s in layers))
    for layer in net:
        torch.nn.init.ones_(layer.weight)
    pixels = torch.ones(1, 1, 128, requires_grad=True)
    net(pixels)[0, 0, 16].backward()
    assert int((pixels.grad != 0).sum()) == nb02.receptive_field(layers)


def test_chance_is_what_random_lists_give():
    lists = itertools.combinations(range(7), 3)
    hits = [any(picture < 2 for picture in chosen) for chosen in lists]
    assert nb14.chance(7, 2, 3) == pytest.approx(sum(hits) / len(hits))
