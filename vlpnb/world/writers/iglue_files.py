"""The files of the world's IGLUE (see `iglue`), by task: their names, and the functions that give their content."""

import base64
import gzip
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from vlpnb.world.grammar import LANGUAGES, plan_caption
from vlpnb.world.languages.asking import translated
from vlpnb.world.languages.sentence_plan import Phrase, SentencePlan
from vlpnb.world.questions import Question, Statement
from vlpnb.world.questions.entailment_pictures import PictureHypothesis, visible
from vlpnb.world.scene import Scene
from vlpnb.world.writers.disk import json_lines, json_text
from vlpnb.world.writers.iglue_sets import IglueSets
from vlpnb.world.writers.layout import coco_id

SHOTS = (1, 5, 10, 20, 25, 48)  # pictures of few-shot sets, of XVNLI and xGQA
CAPTION_SHOTS = (1, 5, 10, 25, 50, 100)
STATEMENT_SHOTS = {
    "1": 1,
    "2": 2,
    "4": 4,
    "10": 10,
    "10x2": 20,
}  # statements, with four pairs of pictures each
UNMATCHED = 40  # one of so many addresses has no pixels

Content = bytes | Iterable[str]
File = tuple[str, Callable[[], Content]]


def iglue_files(made: IglueSets) -> Iterable[File]:
    """(file name, function that gives its content) of every file."""
    yield from _xvnli_files(made)
    yield from _xgqa_files(made)
    yield from _marvl_files(made)
    yield from _captions_files(made)
    yield from _wit_files(made)


def reworded(plan: SentencePlan) -> str:
    """A plan in other English words than it has in the English set: what a translator gives back."""
    phrases = tuple(replace(phrase, synonym=phrase.synonym + 1) for phrase in plan.phrases)
    return LANGUAGES["en"].realise(replace(plan, phrases=phrases))


def _realised(plan: SentencePlan, language: str, again: bool) -> str:
    return reworded(plan) if again else LANGUAGES[language].realise(plan)


def _xvnli_files(made: IglueSets) -> Iterable[File]:
    def rows(split: str, language: str, again: bool = False) -> Iterable[str]:
        everything = [
            *((h, h.label) for h in made.hypotheses(split)),
            *((h, "-") for h in made.undecided(split)),
        ]
        return json_lines(_xvnli_row(i, h, label, language, again) for i, (h, label) in enumerate(everything))

    def few(language: str, shots: int) -> Iterable[str]:
        chosen = first_units(made.hypotheses("universe"), shots)
        return json_lines(_xvnli_row(i, h, h.label, language) for i, h in enumerate(chosen))

    root = "XVNLI/annotations"
    yield f"{root}/en/train.jsonl", lambda: rows("train", "en")
    yield f"{root}/en/dev.jsonl", lambda: rows("valid", "en")
    for language in LANGUAGES:
        yield f"{root}/{language}/test.jsonl", lambda language=language: rows("test", language)
        if language != "en":
            name = f"{root}_machine-translate/{language}/test.jsonl"
            yield name, lambda language=language: rows("test", language, again=True)
        for shots in SHOTS:
            name = f"{root}/{language}/train_{shots}.jsonl"
            yield name, lambda language=language, shots=shots: few(language, shots)


def first_units(rows: Sequence[PictureHypothesis], pictures: int) -> list[PictureHypothesis]:
    """The first whole units of three about at least so many pictures, or all."""
    chosen: list[PictureHypothesis] = []
    for start in range(0, len(rows), 3):
        if len({h.image_id for h in chosen}) >= pictures:
            break
        chosen += rows[start : start + 3]
    return chosen


def _xvnli_row(number: int, h: PictureHypothesis, label: str, language: str, again: bool = False) -> dict:
    shown = visible(h.scene, h.curtain)
    kinds = tuple(Phrase(kind) for kind in dict.fromkeys(thing.kind for thing in shown))
    premise = SentencePlan("there", kinds, h.scene.setting) if kinds else None
    return {
        "gold_label": label,
        # what can be seen, and nothing of what a curtain hides
        "sentence1": _realised(premise, language, again) if premise else "",
        "sentence2": _realised(h.plan, language, again),
        "captionID": f"{h.image_id}.png#{h.group}",
        "pairID": f"{h.image_id}.png#{h.group}r{number}{label[0]}",
        "Flikr30kID": h.image_id,  # spelt as the public files spell it
    }


def _xgqa_files(made: IglueSets) -> Iterable[File]:
    def listed(split: str) -> Iterable[str]:
        rows = [
            {"img_id": q.image_id, "label": {q.answer: 1.0}, "question_id": name, "sent": q.text}
            for name, q in named(made.questions(split))
        ]
        return json_text(rows)

    def own(split: str, language: str, pictures: int | None = None) -> Iterable[str]:
        rows = named(made.questions(split))
        names = list(dict.fromkeys(q.image_id for _, q in rows))[:pictures]
        kept = set(names)
        return json_text({name: _xgqa_row(q, language) for name, q in rows if q.image_id in kept})

    def answers() -> list[str]:
        return sorted({q.answer for split in ("train", "valid") for q in made.questions(split)})

    yield "gqa/annotations/train.json", lambda: listed("train")
    yield "gqa/annotations/valid.json", lambda: listed("valid")
    yield "gqa/annotations/trainval_label2ans.json", lambda: json_text(answers())
    yield (
        "gqa/annotations/trainval_ans2label.json",
        lambda: json_text({a: i for i, a in enumerate(answers())}),
    )
    root = "xGQA/annotations/few_shot"
    for language in LANGUAGES:
        yield f"{root}/{language}/dev.json", lambda language=language: own("valid", language)
        yield f"{root}/{language}/test.json", lambda language=language: own("test", language)
        if language != "en":
            yield f"xGQA/annotations_machine-translate/{language}/test.json", lambda: own("test", "en")
        for shots in SHOTS:
            name = f"{root}/{language}/train_{shots}.json"
            yield name, lambda language=language, shots=shots: own("universe", language, shots)


def named(questions: Sequence[Question]) -> list[tuple[str, Question]]:
    """Questions with their ids: the picture's, and a number."""
    return [(f"{q.image_id}_{i:05d}", q) for i, q in enumerate(questions)]


def _xgqa_row(q: Question, language: str) -> dict:
    steps = [{"operation": op, "dependencies": list(needs), "argument": arg} for op, needs, arg in q.program]
    return {
        "semantic": steps,
        "entailed": [],
        "equivalent": [],
        "question": translated(q.text, q.plan, language),
        "imageId": q.image_id,
        "isBalanced": True,
        "groups": {"global": q.plan.form, "local": q.text},
        "answer": q.answer,
        "semanticStr": "",
        "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
        "types": {"detailed": q.plan.form, "semantic": q.types[1], "structural": q.types[0]},
        "fullAnswer": q.full_answer,
    }


def _marvl_files(made: IglueSets) -> Iterable[File]:
    def nlvr2(split: str, public: str) -> Iterable[str]:
        return json_lines(_nlvr2_row(s, split, public) for s in made.statements(split))

    def marvl(split: str, language: str, count: int | None = None, again: bool = False) -> Iterable[str]:
        chosen = made.statements(split)[: None if count is None else 4 * count]
        rows = (_marvl_row(i, s, language, count is not None, again) for i, s in enumerate(chosen))
        return json_lines(rows)

    for split, public in (("train", "train"), ("valid", "dev"), ("test", "test")):
        yield f"nlvr2/annotations/{public}.jsonl", lambda s=split, p=public: nlvr2(s, p)
    for language in LANGUAGES:
        if language == "en":
            continue
        yield f"marvl/zero_shot/annotations/marvl-{language}.jsonl", lambda la=language: marvl("test", la)
        name = f"marvl/zero_shot/annotations_machine-translate/marvl-{language}_gmt.jsonl"
        yield name, lambda la=language: marvl("test", la, again=True)
        for shots, count in STATEMENT_SHOTS.items():
            name = f"marvl/few_shot/annotations/marvl-{language}_train{shots}.jsonl"
            yield name, lambda la=language, n=count: marvl("universe", la, n)


def _nlvr2_row(s: Statement, split: str, public: str) -> dict:
    truth = str(s.truth)
    return {
        "identifier": f"{public}-{s.group}-{s.pair}-0",
        "sentence": s.text,
        "label": truth,
        "left_url": f"images/{split}/{s.left}.png",
        "right_url": f"images/{split}/{s.right}.png",
        "writer": "0",
        "validation": {"0": truth},
        "synset": s.subject,
        "query": s.subject,
    }


def _marvl_row(number: int, s: Statement, language: str, few_shot: bool, again: bool) -> dict:
    concept = f"{s.group}-{s.subject.replace(' ', '_')}"
    before = f"{concept}/" if few_shot else ""
    return {
        "concept": concept,
        "language": language,
        "caption": s.text if again else translated(s.text, s.plan, language),
        "left_img": f"{before}{s.left}.png",
        "right_img": f"{before}{s.right}.png",
        "chapter": "World",
        "id": f"{language}-{number}",
        "label": s.truth,
    }


def _captions_files(made: IglueSets) -> Iterable[File]:
    def english(split: str) -> Iterable[str]:
        return json_lines(
            _captioned_row(scene, [_caption(scene, "en", v) for v in range(5)], number=False)
            for scene in made.scenes(split)
        )

    def tested(language: str, again: bool = False) -> Iterable[str]:
        scenes = made.scenes("test")
        for i, scene in enumerate(scenes):
            said = _caption(scene, language, 0, again)
            if i == min(7, len(scenes) - 1) and language in ("de", "id") and not again:
                said = ""  # the benchmark has one each
            yield from json_lines([_captioned_row(scene, [said], number=i % 2 == 1)])

    def few(language: str, shots: int, each: int = 1) -> Iterable[str]:
        for scene in made.scenes("universe")[:shots]:
            said = [_caption(scene, language, v) for v in range(each)]
            yield from json_lines([_captioned_row(scene, said, number=False)])

    for split, public in (("train", "train"), ("valid", "valid"), ("test", "test")):
        yield f"flickr30k/annotations/{public}_ann.jsonl", lambda split=split: english(split)
    root = "xFlickrCO/annotations"
    for language in LANGUAGES:
        yield f"{root}/{language}/test.jsonl", lambda la=language: tested(la)
        if language == "en":
            continue
        yield (
            f"{root}_machine-translate/{language}/test_gmt.jsonl",
            lambda la=language: tested(la, again=True),
        )
        for shots in CAPTION_SHOTS:
            yield f"{root}/{language}/train_{shots}.jsonl", lambda la=language, n=shots: few(la, n)
        yield f"{root}/{language}/train_100x5.jsonl", lambda la=language: few(la, 100, 5)


def _caption(scene: Scene, language: str, variant: int, again: bool = False) -> str:
    return _realised(plan_caption(scene, variant), language, again)


def _captioned_row(scene: Scene, sentences: list[str], number: bool) -> dict:
    name: int | str = coco_id(scene) if number else scene.image_id
    return {"sentences": sentences, "id": name, "img_path": f"{scene.image_id}.png"}


def _wit_files(made: IglueSets) -> Iterable[File]:
    def scenes(split: str) -> list[Scene]:
        return made.scenes(split)[-made.sizes.wit :]

    def rows(split: str, language: str, again: bool = False) -> Iterable[str]:
        number = 0
        for i, scene in enumerate(scenes(split)):
            for variant in range(2):
                said = _caption(scene, language, variant, again)
                about = {"image_idx": i, "meta_url": f"{_url(scene)}#page"} if split == "test" else {}
                row = {
                    **about,
                    "image_url": _url(scene),
                    "caption_reference_description": said,
                    "language": language,
                    "page_url": f"http://{language}.world.invalid/{scene.image_id}",
                    "wit_ix": f"wit-{split}_{number}",
                }
                number += 1
                yield from json_lines([row])

    def pixels() -> bytes:
        kept = [s for split in ("train", "valid", "test") for s in scenes(split)]
        lines = [
            f"{_url(scene)}\t{base64.b64encode(made.picture(scene)).decode()}\t{_url(scene)}#page\n"
            for i, scene in enumerate(kept)
            if i % UNMATCHED != UNMATCHED // 2
        ]
        return gzip.compress("".join(lines).encode(), mtime=0)  # no time stamp: equal bytes every time

    root = "wit/annotations"
    yield f"{root}/train_en.jsonl", lambda: rows("train", "en")
    yield f"{root}/val_en.jsonl", lambda: rows("valid", "en")
    for language in LANGUAGES:
        yield f"{root}/test_{language}.jsonl", lambda la=language: rows("test", la)
        if language != "en":
            name = f"{root}_machine-translate/test_{language}_gmt.jsonl"
            yield name, lambda la=language: rows("test", la, again=True)
    yield "wit/image_pixels/part-00000.csv.gz", pixels


def _url(scene: Scene) -> str:
    return f"http://world.invalid/{scene.split}/{scene.image_id}.png"
