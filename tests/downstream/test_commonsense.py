"""Object commonsense: tasks, what blind predictors get, both orders, calibration, pictures that show a thing."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.small import run_stage
from vlpnb.data.description import load_captions
from vlpnb.downstream.asking import Question, Task, ask, label_task, results, trivial, without_liking
from vlpnb.downstream.commonsense import (
    asked,
    load_tasks,
    pictures_by_kind,
    pictures_by_word,
    read_answers,
    showing,
)
from vlpnb.downstream.object_tasks import LISTS, load_task
from vlpnb.downstream.prompting import load_prompts
from vlpnb.errors import UserError
from vlpnb.foundations.captions import CAPTIONS, CaptionsConfig
from vlpnb.valm.commonsense import COMMONSENSE, CommonsenseConfig
from vlpnb.world.knowledge import knowledge_probes
from vlpnb.world.writers import load_scenes


class Says:
    """A scorer that always prefers one answer, or the answer of a table by prompt."""

    rows_of = None

    def __init__(
        self, answer: str = "", table: dict[str, str] | None = None, liking: dict[str, float] | None = None
    ):
        self.answer, self.table, self.liking, self.seen = answer, table or {}, liking or {}, None

    def __call__(self, prompts, answers, pictures=None):
        self.seen = pictures
        each = [answers] * len(prompts) if isinstance(answers[0], str) else answers
        wanted = [self.table.get(prompt, self.answer) for prompt in prompts]
        return np.array(
            [
                [-1.0 * (a != w) + self.liking.get(a, 0.0) for a in row]
                for row, w in zip(each, wanted, strict=True)
            ]
        )

    def nats(self, texts):
        return [np.ones(len(text.split()) + 1) for text in texts]

    def follows(self, texts, words):
        return [[word in text.split()] for text, word in zip(texts, words, strict=True)]


@pytest.fixture(scope="module")
def lists(shared_data):
    return shared_data / "commonsense"


@pytest.fixture(scope="module")
def recorded(shared_data):
    """Scores of blind predictors as another program counted them."""
    path = shared_data.parent / "golden" / "valm" / "prompts.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return json.loads(path.read_text())


@pytest.fixture
def world_lists(tmp_path):
    for attribute in ("colour", "shape", "material", "size"):
        lines = map(json.dumps, knowledge_probes(attribute))
        (tmp_path / f"{attribute}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def score(task: Task, answer: str) -> dict[str, float]:
    return results(task, ask(Says(answer), task))


def test_always_yes_is_half_right_here_and_always_in_the_release(lists, recorded):
    task = load_task("relative_size", lists)
    found, blind = score(task, "yes"), trivial(task)
    assert (found["accuracy"], found["yes_rate"]) == (0.5, 1.0)
    assert (found["accuracy_bigger_first"], found["accuracy_smaller_first"]) == (1.0, 0.0)
    assert (blind["always_yes"], blind["always_no"], blind["uniform"]) == (0.5, 0.5, 0.5)
    about = recorded["relative_size"]["compat"]
    original = load_task("relative_size", lists, one_order=True)
    assert len(original.questions) == about["prompts"]
    assert about["example"] in {q.prompt for q in original.questions}
    assert score(original, "yes")["accuracy"] == about["always_yes"] == 1.0
    assert score(original, "no")["accuracy"] == about["always_no"] == 0.0


def test_rules_of_the_two_nouns_alone_get_what_was_recorded(lists, recorded):
    about = recorded["relative_size"]["default"]
    task = load_task("relative_size", lists)
    assert len(task.questions) == about["prompts"]
    for name, rule in (
        ("first_noun_alphabetically_first", lambda a, b: a < b),
        ("first_noun_longer", lambda a, b: len(a) > len(b)),
    ):
        table = {}
        for template in task.prompts.templates:
            for q in task.questions:
                one, other = q.item.split()
                for a, b in ((one, other), (other, one)):
                    table[template.format(a=a, b=b)] = "yes" if rule(a, b) else "no"
        found = results(task, ask(Says(table=table), task))
        want = about[name]
        assert found["accuracy_bigger_first"] == pytest.approx(want["bigger_first"])
        assert found["accuracy_smaller_first"] == pytest.approx(want["smaller_first"])
        assert (found["accuracy"], found["yes_rate"]) == pytest.approx((want["both"], want["yes_rate"]))


def test_always_round_is_right_for_most_shapes_and_printed_beside_every_model(lists, recorded):
    task = load_task("shape", lists)
    about = recorded["vicomte_shape"]
    said: list[str] = []
    found = asked(Says("round"), [task], log=said.append)
    assert found["tasks"]["shape"]["metrics"]["accuracy"] == pytest.approx(about["majority_score"])
    blind = found["trivial"]["shape"]
    assert blind["always_round"] == blind["majority"] == pytest.approx(about["majority_score"])
    assert blind["majority_macro"] == pytest.approx(about["macro_accuracy_of_majority"])
    assert "always_round 0.736" in said[0]


@pytest.mark.parametrize(
    ("task", "name", "file"),
    [
        ("memory_colour", "memory_colors", ""),
        ("colour_terms", "color_terms", ""),
        ("vicomte_colour", "vicomte_color", ""),
        ("vicomte_colour", "vicomte_color_single", "vicomte/db/color/single/test.jsonl"),
        ("vicomte_material", "vicomte_material", ""),
        ("shape", "vicomte_shape_single", "vicomte/db/shape/single/test.jsonl"),
    ],
)
def test_majorities_of_the_published_lists_are_as_recorded(lists, recorded, task, name, file):
    made, about = load_task(task, lists, file=file), recorded[name]
    found = trivial(made)
    assert len({(q.item, q.prompt) for q in made.questions if q.template == 0}) <= about["rows"]
    assert found["majority"] == pytest.approx(about["majority_score"])
    for label, share in about.get("always", {}).items():
        assert found[f"always_{label}"] == pytest.approx(share)
    assert found["majority_macro"] == pytest.approx(about.get("macro_accuracy_of_majority"))


def test_a_place_of_no_task_is_right_more_often(lists):
    for name in ("vicomte_larger", "vicomte_smaller", "relative_size_choice"):
        found = trivial(load_task(name, lists))
        assert (found["first"], found["uniform"]) == (pytest.approx(0.5), 0.5)


def test_the_release_leaves_a_placeholder_and_we_do_not(lists):
    left = load_task("colour_terms", lists, placeholder_left=True)
    assert all("[DESCRIPTOR]" in q.prompt for q in left.questions)
    assert not any("[" in q.prompt for q in load_task("colour_terms", lists).questions)
    assert not any(
        "[" in q.prompt for q in load_task("memory_colour", lists, placeholder_left=True).questions
    )


def test_the_worlds_colours_are_eighty_prompts_at_chance_a_tenth(world_lists):
    task = load_task("world_colour", world_lists)
    assert (len(task.questions), len({q.item for q in task.questions})) == (80, 20)
    blind = trivial(task)
    assert len(blind) == 13
    assert all(value == pytest.approx(0.1) for value in blind.values())
    assert {"the banana is", "the bananas are", "the color of the banana is"} <= {
        q.prompt for q in task.questions
    }
    assert {q.label for q in task.questions if q.item == "banana"} == {"yellow"}


def test_the_worlds_other_attributes_are_balanced_too(world_lists):
    for name, chance in (("world_shape", 1 / 4), ("world_material", 1 / 5), ("world_size", 1 / 2)):
        assert trivial(load_task(name, world_lists))["majority"] == pytest.approx(chance)
    sizes = load_task("world_size", world_lists)
    assert sizes.questions[0].answers == ("bigger than the bottle .", "smaller than the bottle .")
    assert sizes.questions[0].label == "smaller than the bottle ."


def test_calibration_finds_what_a_habit_hides(world_lists):
    task = load_task("world_colour", world_lists)
    table = {q.prompt: q.label for q in task.questions}
    found = results(task, ask(Says(table=table, liking={"red": 3.0}), task))
    assert (found["accuracy"], found["calibrated"]) == (pytest.approx(0.1), 1.0)
    assert found["calibrated_low"] == found["calibrated_high"] == 1.0
    assert found["accuracy_low"] <= 0.1 <= found["accuracy_high"]


def test_names_of_things_are_calibrated_by_name(lists):
    task = load_task("relative_size_choice", lists)
    scores = ask(Says(liking={"apple": 5.0}), task)
    apples = [i for i, q in enumerate(task.questions) if "apple" in q.answers]
    better = without_liking(task, scores)
    assert np.allclose(better[apples], 0.0)


def test_intervals_are_over_things_not_prompts(world_lists):
    task = load_task("world_colour", world_lists)
    kinds = sorted({q.item for q in task.questions})[:10]
    table = {q.prompt: q.label if q.item in kinds else "none" for q in task.questions}
    found = results(task, ask(Says(table=table), task))
    width = found["accuracy_high"] - found["accuracy_low"]
    assert width > 0.3  # of 20 things; of 80 prompts it would be 0.2


@pytest.fixture(scope="module")
def captions(small_world):
    folder = small_world.world.parent / "commonsense-captions"
    run_stage(CAPTIONS, CaptionsConfig(), folder, world=small_world.world)
    return load_captions(folder)


def test_the_oracle_shows_pictures_of_the_thing(world_lists, captions):
    known = pictures_by_kind(captions, ("train",))
    scenes = load_scenes(captions.scenes)
    for kind, names in known.items():
        sizes = [len(scenes[name].things) for name in names]
        assert sizes == sorted(sizes)
        assert all(kind in {t.kind for t in scenes[name].things} for name in names)
    banned = {names[0] for names in known.values()}
    (task,) = showing(
        [load_task("world_colour", world_lists)], captions, ("train",), lambda n: n not in banned, 2
    )
    scorer = Says()
    ask(scorer, task, oracle=True)
    assert [tuple(s) for s in scorer.seen] == [task.pictured[q.about] for q in task.questions]
    assert all(len(s) <= 2 and not banned & set(s) for s in scorer.seen)
    with pytest.raises(UserError, match="no picture is known"):
        ask(scorer, load_task("world_colour", world_lists), oracle=True)


@pytest.mark.slow
def test_of_two_things_pictures_come_in_turn(world_lists, captions):
    (task,) = showing([load_task("world_size", world_lists)], captions, ("train",), lambda n: True, 4)
    scenes = load_scenes(captions.scenes)
    seen = 0
    for question in task.questions:
        kinds = [{t.kind for t in scenes[name].things} for name in task.pictured[question.about][:2]]
        known = pictures_by_kind(captions, ("train",)).keys()
        if set(question.things) <= known and len(kinds) == 2:
            assert question.things[0] in kinds[0]
            seen += 1
    assert seen


def test_captions_name_things_in_one_or_many(captions):
    found = pictures_by_word(captions, ("train",), ["bucket", "car", "ca"])
    assert "ca" not in found
    for name in found.get("car", []):
        said = " ".join(next(i.sentences for i in captions.annotated("train") if i.image_id == name)).lower()
        assert "car " in said or "cars" in said or "car." in said


def test_the_stage_writes_every_answer(monkeypatch, world_lists, tmp_path):
    from vlpnb.data.description import FolderData

    scorer = Says("red")
    monkeypatch.setattr("vlpnb.valm.commonsense.open_scorer", lambda folder, setting, device: scorer)
    (tmp_path / "knowledge").mkdir()
    FolderData(world_lists, world_lists).save(tmp_path / "knowledge", "knowledge")
    config = CommonsenseConfig(tasks=("world_colour", "world_size"), setting="hidden")
    metrics = run_stage(
        COMMONSENSE, config, tmp_path / "made", model=tmp_path, knowledge=tmp_path / "knowledge"
    )
    assert metrics["world_colour_accuracy"] == metrics["world_colour_always_red"] == pytest.approx(0.1)
    found = read_answers(tmp_path / "made")
    colour = found["world_colour"]
    assert colour.log_probs.shape == (80, 10)
    assert (colour.log_probs.argmax(1) == colour.right).mean() == pytest.approx(0.1)
    assert colour.prompts[0] == load_task("world_colour", world_lists).questions[0].prompt
    assert found["world_size"].candidates is None
    about = json.loads((tmp_path / "made" / "commonsense.json").read_text())
    assert about["setting"] == "hidden"
    assert about["tasks"]["world_colour"]["prompts"]["sha256"] == load_prompts("world_colour").sha256


def test_unknown_tasks_and_answers_are_refused(world_lists):
    with pytest.raises(UserError, match="no task 'color_terms'; did you mean 'colour_terms'"):
        load_task("color_terms", world_lists)
    with pytest.raises(UserError, match="'shape' is none of the tasks world_colour"):
        load_tasks(CommonsenseConfig(tasks=("world_colour",), prompts={"shape": "shape"}), world_lists)
    with pytest.raises(UserError, match="the answer 'red' of 'x' is none of blue"):
        label_task("t", load_prompts("shape"), [{"x": "x", "item": "x", "answer": "red"}], ["blue"])
    with pytest.raises(UserError, match="the list of the task 'shape'"):
        load_task("shape", Path(world_lists))
    assert set(LISTS) >= set(CommonsenseConfig().tasks)
    assert Question("p", ("a", "b"), 1, "i", 0).label == "b"
