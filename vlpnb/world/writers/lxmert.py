"""The world in LXMERT's own files: sentences by picture, answer tables, and its forms of VQA, GQA and NLVR2."""

from collections import defaultdict
from collections.abc import Iterable

from vlpnb.data.lxmert import AnswerTable, lxmert_pairs, normalise_answer
from vlpnb.data.nlvr2 import Nlvr2Example
from vlpnb.data.vqa_labels import soft_targets
from vlpnb.world.phrases import descriptions
from vlpnb.world.questions import Question
from vlpnb.world.scene import Scene, Split
from vlpnb.world.writers.content import World
from vlpnb.world.writers.layout import ASKED_SPLITS, coco_id
from vlpnb.world.writers.questions import gqa_named, pair_name

TASKS = ("vqa", "gqa")
LABELLED: tuple[Split, ...] = ("train", "valid")  # whose answers the tables hold, as "trainval" says


def region_phrases(scene: Scene) -> list[str]:
    """What is said of single things, each phrase once; no canonical colour, as everywhere in the world's text."""
    said = (phrase for thing in scene.things for phrase in descriptions(thing) if phrase != "thing")
    return list(dict.fromkeys(said))


def _vqa_rows(world: World, split: Split) -> Iterable[tuple[int, Question, dict[str, float]]]:
    for (i, q), people in zip(world.vqa(split), world.vqa_answers(split), strict=True):
        yield i, q, soft_targets([answer for answer, _ in people])


def sentences(world: World, split: Split) -> list[dict]:
    """The pre-training file of a split: captions and region phrases, and the questions about its own pictures."""
    asked: dict[str, dict[str, list[tuple[str, dict[str, float]]]]] = {
        task: defaultdict(list) for task in TASKS
    }
    if split in ASKED_SPLITS:
        for _, q, labels in _vqa_rows(world, split):
            asked["vqa"][q.image_id].append((q.text, labels))
        for _, q in world.gqa(split):
            asked["gqa"][q.image_id].append((q.text, {q.answer: 1.0}))
    rows = []
    for scene, captions in zip(world.scenes(split), world.captions(split), strict=True):
        said = {"mscoco": captions, "vg": region_phrases(scene)}
        answered = {}
        for task in TASKS:
            if pairs := asked[task].get(scene.image_id):
                said[task] = [text for text, _ in pairs]
                answered[task] = [labels for _, labels in pairs]
        rows.append({"img_id": scene.image_id, "labelf": answered, "sentf": said})
    return rows


def labels(world: World, task: str) -> list[str]:
    """The answers of a task over the labelled splits, in alphabetical order: class → answer."""
    found: set[str] = set()
    for split in LABELLED:
        if task == "vqa":
            found |= {answer for _, _, targets in _vqa_rows(world, split) for answer in targets}
        else:
            found |= {q.answer for _, q in world.gqa(split)}
    return sorted(found)


def classes(world: World, task: str) -> dict[str, int]:
    """Answer → class of a task."""
    return {answer: i for i, answer in enumerate(labels(world, task))}


def answer_table(world: World) -> list[dict]:
    """LXMERT's table: the answers of all tasks as it spells them, in alphabetical order, and who asks for them."""
    sources: dict[str, set[str]] = defaultdict(set)
    for task in TASKS:
        for answer in labels(world, task):
            sources[normalise_answer(answer)].add(task)
    answers = tuple(sorted(sources))
    return AnswerTable(answers, tuple(frozenset(sources[answer]) for answer in answers)).rows()


def vqa(world: World, split: Split) -> list[dict]:
    """VQA's questions of a split in LXMERT's form."""
    numbers = {scene.image_id: coco_id(scene) for scene in world.scenes(split)}
    return [
        {
            "img_id": q.image_id,
            "question_id": numbers[q.image_id] * 1000 + i,
            "question_type": q.family,
            "answer_type": q.answer_type,
            "sent": q.text,
            "label": targets,
        }
        for i, q, targets in _vqa_rows(world, split)
    ]


def gqa(world: World, split: Split) -> list[dict]:
    """GQA's questions of a split in LXMERT's form."""
    return [
        {"img_id": q.image_id, "question_id": name, "sent": q.text, "label": {q.answer: 1.0}}
        for name, q in gqa_named(world, split)
    ]


def nlvr2(world: World, split: Split) -> list[dict]:
    """Statements of a split in LXMERT's form."""
    examples = []
    for s in world.statements(split):
        name = pair_name(split, s)
        examples.append(Nlvr2Example(f"{name}-0", s.text, f"{name}-img0.png", f"{name}-img1.png", s.truth))
    return lxmert_pairs(examples, split)
