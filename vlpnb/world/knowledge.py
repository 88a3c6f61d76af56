"""What a picture shows: commonsense probes, and which words of a sentence name something visible.

The probes ask for what pictures of the world always show and its text never states: colour, shape, material
and the order of size of kinds (after Norlund et al., 2021, "Transferring Knowledge from Vision to Language",
for colours, and Zhang et al., 2022, "Visual Commonsense in Pretrained Unimodal and Multimodal Models"). They
are balanced: within an attribute every candidate is equally often the answer of every prompt, so guessing is
at chance by construction; `text_only_baseline` shows that counting the corpus does no better.

The second half scores vokens: `visible_terms` finds the words of a sentence that name something a picture
can show and the noun that an adjective modifies; `shows` and `shows_bound` look into a scene's ground truth.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vlpnb.world.languages.english import NOUNS, PATTERNS, SIZES
from vlpnb.world.scene import CATEGORIES, COLOURS, KINDS, MATERIALS, SHAPES, Scene

ATTRIBUTES = ("colour", "shape", "material", "size")
CANDIDATES: dict[str, tuple[str, ...]] = {
    "colour": tuple(sorted({kind.colour for kind in KINDS.values() if kind.colour}, key=list(COLOURS).index)),
    "shape": SHAPES,
    "material": MATERIALS,
    "size": ("bigger", "smaller"),
}
_PROMPTS = {
    "colour": (
        "the {one} is [MASK] .",
        "the color of the {one} is [MASK] .",
        "the {many} are [MASK] .",
        "the {one} was [MASK] .",
    ),
    "shape": ("the {one} is [MASK] .", "the {one} has a [MASK] shape ."),
    "material": ("the {one} is made of [MASK] .", "people make the {one} out of [MASK] ."),
    "size": ("the {one} is [MASK] than the {other} .", "this {one} is [MASK] than that {other} ."),
}
_SIZE_STEPS = (12, 17, 22)  # differences of rank that are asked for, so large that nobody doubts the order


def knowledge_probes(attribute: str) -> list[dict]:
    """All cloze items of one attribute, in a fixed order: {prompt, answer, candidates, kind, attribute}.

    A size item also has `other`, the kind compared with; every pair is asked in both directions.
    Raises ValueError for an attribute that is not one of ATTRIBUTES.
    """
    if attribute not in ATTRIBUTES:
        raise ValueError(f"attribute {attribute!r} is not one of {', '.join(ATTRIBUTES)}")
    if attribute == "size":
        asked = [(kind, other, _comparison(kind, other)) for kind, other in _size_pairs()]
    else:
        asked = [(kind, "", answer) for kind in KINDS if (answer := getattr(KINDS[kind], attribute))]
    items = []
    for kind, other, answer in asked:
        one, many = NOUNS[kind][0]
        for prompt in _PROMPTS[attribute]:
            item = {
                "prompt": prompt.format(one=one, many=many, other=NOUNS[other][0][0] if other else ""),
                "answer": answer,
                "candidates": list(CANDIDATES[attribute]),
                "kind": kind,
                "attribute": attribute,
            }
            items.append({**item, "other": other} if other else item)
    return items


def _size_pairs() -> list[tuple[str, str]]:
    """Pairs of kinds whose order of size is beyond doubt, each in both directions."""
    names = list(KINDS)  # from the smallest to the largest
    pairs = [(names[i], names[i + d]) for d in _SIZE_STEPS for i in range(len(names) - d)]
    return [ordered for pair in pairs for ordered in (pair, pair[::-1])]


def _comparison(kind: str, other: str) -> str:
    return "bigger" if KINDS[kind].size_rank > KINDS[other].size_rank else "smaller"


def majority_baseline(probes: Sequence[dict]) -> float:
    """The accuracy of always giving the answer that is right most often."""
    return max(Counter(probe["answer"] for probe in probes).values()) / len(probes)


def text_only_baseline(lines: Iterable[str], probes: Sequence[dict]) -> float:
    """The accuracy of the candidate that goes best with the kind in the text: pointwise mutual information.

    Words that occur in one line are counted as going together, with add-one smoothing. For sizes, what goes
    with the other kind counts against a candidate. `lines` are lines of the corpus.
    """
    word_kind = {form: kind for kind in KINDS for forms in NOUNS[kind] for form in forms}
    candidates = {word for probe in probes for word in probe["candidates"]}
    n_lines = 0
    alone: Counter[str] = Counter()
    together: Counter[tuple[str, str]] = Counter()
    for line in lines:
        words = set(line.lower().split())
        kinds, found = {word_kind[word] for word in words & word_kind.keys()}, words & candidates
        n_lines += 1
        alone.update(kinds)
        alone.update(found)
        together.update((kind, word) for kind in kinds for word in found)

    def mutual_information(kind: str, word: str) -> float:
        expected = (alone[kind] + 1) * (alone[word] + 1) / (n_lines + 1)
        return math.log((together[kind, word] + 1) / expected)

    def score(probe: dict, word: str) -> float:
        other = probe.get("other")
        return mutual_information(probe["kind"], word) - (mutual_information(other, word) if other else 0.0)

    right = sum(
        max(probe["candidates"], key=lambda word, probe=probe: score(probe, word)) == probe["answer"]
        for probe in probes
    )
    return right / len(probes)


TermType = Literal["kind", "colour", "pattern", "size", "setting", "category"]


@dataclass(frozen=True)
class Term:
    """What a word names; of an adjective, `of` is the index of the noun that it modifies."""

    type: TermType
    value: str
    of: int | None = None


_NOUN_TERMS: dict[str, Term] = {
    form: Term("category" if name in CATEGORIES else "kind", name)
    for name, words in NOUNS.items()
    for forms in words
    for form in forms
    if " " not in form
}
_NOUN_TERMS["furniture"] = Term("category", "furniture")
_SETTING_WORDS = {"field": "field", "meadow": "field", "room": "room", "night": "night", "beach": "beach"}
_ADJECTIVES: dict[str, tuple[TermType, str]] = {
    **{word: ("colour", word) for word in COLOURS},
    **{word: ("pattern", name) for name, words in PATTERNS.items() for word in words},
    **{word: ("size", name) for name, words in SIZES.items() for word in words},
}
_LINKS = {"is", "are", "was", "were", "looks", "looked"}
_BETWEEN_ADJECTIVES = {"and", ",", "very", "not", "now"}
_PREPOSITIONS = {
    *("in", "on", "at", "of", "to", "near", "by", "with"),
    *("behind", "beside", "above", "over", "below", "under"),
}
_CLAUSE_ENDS = {".", "?", "!", ",", ";", ":", "but", "that", "so", "because", "when", "if"}


def visible_terms(words: Sequence[str]) -> list[Term | None]:
    """For each word of a lower-cased, tokenised English sentence the visible thing that it names, or None.

    An adjective of colour, pattern or size counts only where it is used as one: before a noun ("a small red
    car"), after a link ("the car on the beach is red"), or before "one" ("a red one", which stands for the
    last kind before it). An adjective of a thing that no picture shows ("a red coin") names nothing.
    """
    words = [word.lower() for word in words]
    terms: list[Term | None] = [None] * len(words)
    for i, word in enumerate(words):
        if word in _NOUN_TERMS:
            terms[i] = _NOUN_TERMS[word]
        elif word in _SETTING_WORDS:
            terms[i] = Term("setting", _SETTING_WORDS[word])
    for i, word in enumerate(words):
        if word in _ADJECTIVES:
            noun = _modified_noun(words, terms, i)
            if noun is not None:
                type_, value = _ADJECTIVES[word]
                terms[i] = Term(type_, value, noun)
    return terms


def _modified_noun(words: Sequence[str], terms: Sequence[Term | None], i: int) -> int | None:
    """The index of the noun that the adjective at i modifies, or None."""
    j = i + 1
    while j < len(words) and (words[j] in _ADJECTIVES or _joins_adjectives(words, j)):
        j += 1
    if j < len(words):
        if words[j] in ("piece", "pieces") and j + 2 < len(words):
            j += 2  # "a red piece of furniture"
        if _is_thing(terms[j]):
            return j
        if words[j] in ("one", "ones"):
            return _last_thing(terms, i)
    return _linked_subject(words, terms, i)


def _joins_adjectives(words: Sequence[str], j: int) -> bool:
    return words[j] == "and" and j + 1 < len(words) and words[j + 1] in _ADJECTIVES


def _is_thing(term: Term | None) -> bool:
    return term is not None and term.type in ("kind", "category")


def _last_thing(terms: Sequence[Term | None], i: int) -> int | None:
    return next((k for k in range(i - 1, -1, -1) if _is_thing(terms[k])), None)


def _linked_subject(words: Sequence[str], terms: Sequence[Term | None], i: int) -> int | None:
    """The subject of "… is ADJ (and ADJ)": the first thing of the clause that is not inside "in/on/near …".

    "the color of the car is red" names the car, too. "two cars , one red and one blue" has no link; there
    the last kind is meant.
    """
    k = i - 1
    if words[k : k + 1] == ["one"]:
        return _last_thing(terms, k)
    while k >= 0 and (words[k] in _ADJECTIVES or words[k] in _BETWEEN_ADJECTIVES):
        k -= 1
    if k < 0 or words[k] not in _LINKS:
        return None
    start = k
    while start > 0 and words[start - 1] not in _CLAUSE_ENDS:
        start -= 1
    if start == k and start > 1 and words[start - 1] == "that" and _is_thing(terms[start - 2]):
        return start - 2  # "the car that is red"
    if words[start : start + 2] == ["the", "color"]:
        start += 3
    inside = False
    for n in range(start, k):
        if words[n] in _PREPOSITIONS:
            inside = True
        elif _is_thing(terms[n]) and not inside:
            return n
    return None


def shows(scene: Scene, term: Term) -> bool:
    """Whether the picture of the scene shows what the term names (of an adjective: on anything)."""
    if term.type == "setting":
        return scene.setting == term.value
    if term.type == "category":
        return any(KINDS[thing.kind].category == term.value for thing in scene.things)
    return any(getattr(thing, term.type) == term.value for thing in scene.things)


def shows_bound(scene: Scene, kind: str, attribute: str) -> bool:
    """Whether the scene has a thing of this kind (or category) with this colour, pattern or size."""
    return any(
        kind in (thing.kind, KINDS[thing.kind].category)
        and attribute in (thing.colour, thing.pattern, thing.size)
        for thing in scene.things
    )


def bound_attributes(terms: Sequence[Term | None]) -> dict[int, list[str]]:
    """Index of every noun that adjectives modify, and the colours, patterns and sizes said of it."""
    found: dict[int, list[str]] = defaultdict(list)
    for term in terms:
        if term is not None and term.of is not None:
            found[term.of].append(term.value)
    return dict(found)
