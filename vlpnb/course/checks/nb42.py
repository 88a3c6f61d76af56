"""Checks of notebook 42, object commonsense: prompts, balanced sizes, calibration, intervals, macro accuracy, bugs."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlpnb.course.checks import Wrong, compare, passed


def check_rendering(function: Callable[[str, str, str], str]) -> None:
    """Exercise 42.1: `function(template, descriptor, item)` is a prompt without a gap or a placeholder."""
    cases = (
        ("Q: What is the colour of {d} {x}? A: It is", "the inside of a", "pineapple"),
        ("The usual colour of {d} {x} is", "", "snow"),
        ("{d} {x} usually has the colour of", "", "grass"),
        ("{d} {x}, as {x} is, has the colour of", "a", "lemon"),
        ("What is the colour of {d} {x}? It is", "the", "{x}-ray"),
    )
    for template, descriptor, item in cases:
        given = "{d}" if descriptor else "{d} "
        right = template.replace("{x}", "\0").replace(given, descriptor).replace("\0", item)
        gap = template.replace("{x}", item).replace("{d}", descriptor)
        only = template.replace("{x}", item, 1)
        slips = {
            "two spaces in a row: an empty descriptor goes together with the space behind it.": gap,
            "a space is left at the beginning: an empty descriptor takes the space behind it along.": " "
            + right,
            "`{d}` is left in the prompt: an empty descriptor still has a place that must go.": (
                template.replace("{x}", item) if not descriptor else right
            ),
            "`{d}` is left in the prompt.": template.replace("{x}", item),
            "`{x}` is left in the prompt.": template.replace(given, descriptor),
            "a template may name the thing twice; only the first place is filled.": (
                only.replace(given, descriptor)
            ),
            "an item may hold a brace itself: fill the places of the *template*, and of nothing else.": (
                template.replace(given, descriptor).replace("{x}", item, 1).replace("{x}", item)
            ),
            "prompts are lower-cased by the tokenizer, not here.": right.lower(),
            "no full stop at the end: the next word is what is asked for.": right + ".",
            "no space at the end: the answer's own piece begins with it.": right + " ",
        }
        slips = {text: value for text, value in slips.items() if value != right}
        compare(
            f"“{template}” with “{descriptor}”, “{item}”", function(template, descriptor, item), right, slips
        )
    passed("a brace or a second space in a prompt costs points, and no score tells why.")


Sizes = Sequence[tuple[str, str]]


def check_size_questions(function: Callable[[Sizes, Sequence[str]], Sequence[tuple[str, str]]]) -> None:
    """Exercise 42.2: `function(pairs, templates)` are (question, answer) of every pair in both orders."""
    pairs = [("a whale", "a mouse"), ("a house", "a spoon")]
    templates = ["is {a} bigger than {b}?", "{a} is taller than {b}, is it true?"]

    def asked(orders: str, second: str = "no", used: Sequence[str] = templates) -> list[tuple[str, str]]:
        found = []
        for template in used:
            for big, small in pairs:
                if "1" in orders:
                    found.append((template.replace("{a}", big).replace("{b}", small), "yes"))
                if "2" in orders:
                    found.append((template.replace("{a}", small).replace("{b}", big), second))
        return found

    found = function(list(pairs), list(templates))
    if found is None or found is ...:
        compare("the questions", found, 0)
    right = asked("12")
    slips = {
        "the bigger one always comes first here, so that always saying yes scores 100 %. Ask both orders.": asked(
            "1"
        ),
        "the smaller one always comes first here, so that always saying no scores 100 %. Ask both orders.": asked(
            "2"
        ),
        "the things have changed places but not the answer: is a mouse bigger than a whale? No.": asked(
            "12", "yes"
        ),
        "every template is asked of every pair; this uses the first alone.": asked("12", used=templates[:1]),
        "every template is a question of its own; without a comma between them Python joins two into one.": asked(
            "12", used=["".join(templates)]
        ),
        "`{a}` and `{b}` have changed places in the text; the answers no longer fit.": [
            (question, {"yes": "no", "no": "yes"}[answer]) for question, answer in right
        ],
        "pairs with their answers turned around as well as their order stay the same question.": asked("11"),
    }
    given = [tuple(item) for item in found]
    if sorted(given) != sorted(right):
        for text, value in slips.items():
            if sorted(given) == sorted(value):
                raise Wrong(f"the questions: {text}")
        left = [question for question, _ in given if "{" in question]
        if left:
            raise Wrong(f"the questions: a placeholder is left in {left[0]!r}.")
        missing = [item for item in right if item not in given]
        more = [item for item in given if item not in right] or ["none twice"]
        said = f"{len(given)} questions, expected {len(right)}"
        raise Wrong(f"the questions: {said}; missing: {missing[:1]}, not expected: {more[0]}.")
    passed("whoever always says yes now scores exactly one half.")


def check_calibrated(function: Callable[[Float[Tensor, "P A"]], Int[Tensor, " P"]]) -> None:
    """Exercise 42.3: `function(log_probs)` are the chosen answers after each answer's own mean is taken off."""
    generator = torch.Generator().manual_seed(42)
    P, A = 60, 4
    prior = torch.tensor([0.0, -1.2, -2.5, -0.6])
    logits = 2.2 * torch.randn(P, A, generator=generator) + prior
    log_probs = logits.log_softmax(-1) - torch.rand(P, 1, generator=generator)  # of four words among many
    right = (log_probs - log_probs.mean(0)).argmax(1)
    slips = {
        "this is the raw choice: a frequent word wins everywhere. Take each word's own mean off first.": (
            log_probs.argmax(1)
        ),
        "a prompt's mean over the answers is taken off; that changes no choice. Average over *prompts*.": (
            (log_probs - log_probs.mean(1, keepdim=True)).argmax(1)
        ),
        "the mean is added; it must be taken off.": (log_probs + log_probs.mean(0)).argmax(1),
        "the mean of *log*-probabilities is wanted; here probabilities are averaged.": (
            (log_probs - log_probs.exp().mean(0).log()).argmax(1)
        ),
        "the lowest is chosen.": (log_probs - log_probs.mean(0)).argmin(1),
        "this divides log-probabilities by their mean; take it off.": (log_probs / log_probs.mean(0)).argmax(
            1
        ),
        "each word is compared with its own best prompt; its mean is wanted.": (
            (log_probs - log_probs.amax(0)).argmax(1)
        ),
        "this is the best *prompt* for each answer; the best answer for each prompt is wanted.": (
            (log_probs - log_probs.mean(0)).argmax(0)
        ),
    }
    found = function(log_probs.clone())
    if isinstance(found, Tensor) and found.shape == log_probs.shape:
        raise Wrong("the choices: one index a prompt is wanted, not a table of scores.")
    if isinstance(found, Tensor) and found.shape == (A,):
        raise Wrong(f"the choices: {list(slips)[-1]}")
    slips = {text: value for text, value in slips.items() if value.shape == right.shape}
    compare("the choices", found, right, {t: v for t, v in slips.items() if not torch.equal(v, right)})
    passed("what a word would have got anyway is no knowledge about the thing.")


def check_bootstrap(
    function: Callable[[Bool[np.ndarray, "N P"], int, np.random.Generator], tuple[float, float]],
) -> None:
    """Exercise 42.4: `function(right, draws, random)` is the 95 % interval of an accuracy, over things."""
    random = np.random.default_rng(42)
    N, P = 20, 9
    knows = random.random(N) < 0.5
    right = random.random((N, P)) < np.where(knows, 0.92, 0.08)[:, None]
    draws = 4000

    def interval(means: np.ndarray, low: float = 2.5, high: float = 97.5) -> tuple[float, float]:
        return tuple(np.percentile(means, [low, high]).tolist())

    def drawn(values: np.ndarray) -> np.ndarray:
        seeded = np.random.default_rng(1)
        return values[seeded.integers(len(values), size=(draws, len(values)))].mean(1)

    of_items, of_cells, of_prompts = (
        drawn(right.mean(1)),
        drawn(right.ravel().astype(float)),
        drawn(right.mean(0)),
    )
    wanted = interval(of_items)
    deviation = right.mean(1).std(ddof=1)
    mean = float(right.mean())
    slips = {
        "every answer is drawn on its own here. The nine answers about a thing stand or fall together: draw things.": (
            interval(of_cells)
        ),
        "prompts are drawn here; the same things are in every draw. Draw *things*, with all their prompts.": (
            interval(of_prompts)
        ),
        "drawn without replacement, every draw is the same set.": (mean, mean),
        "5 % are left out at each end: that is a 90 % interval.": interval(of_items, 5, 95),
        "this is the spread of things, not of their mean.": interval(right.mean(1)),
        "mean ± 1.96 standard deviations of *things*; the mean's own deviation is smaller by √N.": (
            mean - 1.96 * deviation,
            mean + 1.96 * deviation,
        ),
    }
    found = function(right.copy(), draws, np.random.default_rng(7))
    if found is None or found is ...:
        compare("the interval", found, 0)
    if not isinstance(found, tuple | list | np.ndarray) or len(found) != 2:
        raise Wrong(f"the interval: expected (low, high), found {type(found).__name__}.")
    low, high = map(float, found)
    if low > high:
        raise Wrong("the interval: the lower end comes first.")

    def far(one: tuple[float, float]) -> float:
        return max(abs(low - one[0]), abs(high - one[1]))

    # two bootstraps of the same kind differ by less than 0.02; things come in steps of 1 / (N · P)
    nearest = min(slips, key=lambda text: far(slips[text]))
    if far(wanted) > 0.02 or far(slips[nearest]) < far(wanted):
        if far(slips[nearest]) < 0.02:
            raise Wrong(f"the interval: {nearest}")
        if low < np.percentile(of_items, 0.1) and high > np.percentile(of_items, 99.9):
            raise Wrong(
                "the interval: this looks like the lowest and the highest of all draws; take the 2.5th and the 97.5th "
                "percentile."
            )
        said = f"expected about [{wanted[0]:.2f}, {wanted[1]:.2f}], found [{low:.2f}, {high:.2f}]"
        raise Wrong(f"the interval: {said}.")
    passed("nine prompts about one thing are not nine things.")


def check_macro(function: Callable[[Sequence[str], Sequence[str]], float]) -> None:
    """Exercise 42.5: `function(said, answers)` is the accuracy of each right answer, averaged over the answers."""
    answers = ["round"] * 8 + ["square"] * 2 + ["flat"] * 2 + ["star"]
    said = ["round"] * 7 + ["flat", "square", "round", "round", "cone", "round"]
    others = ["round"] * len(answers)
    for what, given in (("a model", said), ("always “round”", others)):
        pairs = list(zip(given, answers, strict=True))
        each = Counter(answers)
        hits = Counter(answer for guess, answer in pairs if guess == answer)
        named = Counter(given)
        recalls = {answer: hits[answer] / many for answer, many in each.items()}
        right = sum(recalls.values()) / len(recalls)
        precisions = {guess: hits[guess] / many for guess, many in named.items()}
        slips = {
            "this is micro accuracy: frequent answers decide. Average over the *answers*, each counted once.": sum(
                hits.values()
            )
            / len(pairs),
            "the share of what was *said* that is right is precision; of each right answer take the share found.": sum(
                precisions.values()
            )
            / len(precisions),
            "answers that nobody ever got right count, too: as 0.": sum(r for r in recalls.values() if r)
            / max(1, sum(r > 0 for r in recalls.values())),
            "average over the right answers that occur; what is only said is none.": sum(recalls.values())
            / len(set(answers) | set(given)),
            "these are added up; divide by how many answers there are.": sum(recalls.values()),
        }
        slips = {text: value for text, value in slips.items() if abs(value - right) > 1e-6}
        compare(f"the macro accuracy of {what}", function(list(given), list(answers)), right, slips)
    passed("“round” everywhere: 62 % micro, 25 % macro. One of the two says what was learnt.")


# line of the pseudo-code of exercise 42.6 → its remedy, and what to ask oneself there
BUGS: dict[int, tuple[str, str]] = {
    2: ("D", "how wide must a question to the index be?"),
    4: ("H", "what does the last layer of a classifier say, and what is it that looks alike?"),
    5: ("B", "whose numbers move, and what of all the others?"),
    9: ("G", "which axes has the stack, and which does the mixer expect?"),
    12: ("A", "has anything still to read these words?"),
    13: ("F", "what does `j` count, and what does that axis of `seen` count?"),
    14: ("C", "who guesses the hidden words here, and what has that one seen?"),
    15: ("E", "how wide is a fused state, and how many words are there to choose from?"),
}
_FINE = {
    1: "a frozen pair of eyes is what the real system has, too",
    3: "attention from words to pictures is a way to mix; the paper has another one",
    6: "batches are batches",
    7: "a state a word is what is wanted",
    8: "five rows a word: the search is right, if its question is",
    10: "the mixer is called as it wants to be",
    11: "15 % of the words: the share is a choice, not a mistake",
    16: "a sum of two losses is a choice",
}


def check_bugs(function: Callable[[], Mapping[int, str]]) -> None:
    """Exercise 42.6: `function()` maps each wrong line of the pseudo-code to the letter of its remedy."""
    found = function()
    if found is None or found is ...:
        compare("the bugs", found, 0)
    if not isinstance(found, Mapping):
        raise Wrong(f"the bugs: expected line → letter, found {type(found).__name__}.")
    for line, letter in found.items():
        if line not in BUGS:
            raise Wrong(f"line {line} is not wrong: {_FINE.get(line, 'there is no such line')}.")
        right, asked = BUGS[line]
        if str(letter).upper() != right:
            raise Wrong(f"line {line} is wrong, but {letter} is no remedy for it; {asked}")
    missing = sorted(BUGS.keys() - found.keys())
    if missing:
        raise Wrong(f"{len(missing)} more to find. Look at line {missing[0]}: {BUGS[missing[0]][1]}")
    passed("eight of sixteen lines, and it would have trained without an error message in most of them.")
