"""Chinese questions and statements: 吗 closes what is answered by yes or no, 还是 stands between choices."""

from vlpnb.world.languages.chinese import (
    COLOURS,
    NUMBERS,
    PATTERNS,
    PLACES,
    measure,
    noun_phrase,
    sized_noun,
)
from vlpnb.world.languages.sentence_plan import Phrase, QuestionPlan, StatementPlan

SIDES = {"left of": "左边", "right of": "右边", "above": "上方", "below": "下方"}
CHOICES = {"left of": ("左边", "右边"), "above": ("上方", "下方")}


def plain(phrase: Phrase) -> str:
    """红色的汽车: nothing counts it and nothing points at it."""
    look = (COLOURS[phrase.colour] if phrase.colour else "") + (
        PATTERNS[phrase.pattern] if phrase.pattern else ""
    )
    return f"{look}的{sized_noun(phrase)}" if look else sized_noun(phrase)


def the(phrase: Phrase) -> str:
    """这辆红色的汽车."""
    return f"这{measure(phrase)}{plain(phrase)}"


def look(value: str) -> str:
    """A colour or pattern as a predicate has it, before 的."""
    return COLOURS[value] if value in COLOURS else PATTERNS[value]


def question(plan: QuestionPlan) -> str:
    """The Chinese question of a plan."""
    phrases, values = plan.phrases, plan.values
    first, last = (phrases[0], phrases[-1]) if phrases else (None, None)
    match plan.form:
        case "exists":
            return f"有{noun_phrase(first)}吗？"
        case "exists in the picture":
            return f"图片里有{noun_phrase(first)}吗？"
        case "colour of":
            return f"{the(first)}是什么颜色的？"
        case "colour is" | "pattern is":
            return f"{the(first)}是{look(values[0])}的吗？"
        case "pattern of":
            return f"{the(first)}是什么图案的？"
        case "which":
            return f"图片里有什么{sized_noun(first)}？"
        case "how many":
            return f"有几{measure(first)}{plain(first)}？"
        case "choose colour":
            return f"{the(first)}是{look(values[0])}的还是{look(values[1])}的？"
        case "both attributes":
            return f"{the(first)}既是{look(values[0])}的又是{look(values[1])}的吗？"
        case "same colour":
            return f"{the(first)}和{the(last)}的颜色一样吗？"
        case "both there":
            return f"既有{noun_phrase(first)}又有{noun_phrase(last)}吗？"
        case "either there":
            return f"有{noun_phrase(first)}或者{noun_phrase(last)}吗？"
        case "setting is":
            return f"这张图片是在{PLACES[values[0]]}拍的吗？"
        case "choose setting":
            return f"这张图片是在{PLACES[values[0]]}还是在{PLACES[values[1]]}拍的？"
        case "choose relation":
            one, other = CHOICES[plan.relation]
            return f"{the(first)}在{the(last)}的{one}还是{other}？"
    place = f"{the(last)}{SIDES[plan.relation]}"
    match plan.form:
        case "neighbour":
            return f"{place}是什么？"
        case "neighbour exists":
            return f"{place}有{noun_phrase(first)}吗？"
        case "neighbour colour":
            return f"{place}的东西是什么颜色的？"
        case "neighbour colour is":
            return f"{place}的东西是{look(values[0])}的吗？"
        case "relation is":
            return f"{the(first)}在{the(last)}的{SIDES[plan.relation]}吗？"
    raise ValueError(f"unknown form {plan.form!r}")


def statement(plan: StatementPlan) -> str:
    """The Chinese statement of a plan."""
    one, other = (noun_phrase(plan.phrases[0]), noun_phrase(plan.phrases[-1])) if plan.phrases else ("", "")
    place = f"在{PLACES[plan.setting]}" if plan.setting else ""
    match plan.form:
        case "both":
            return f"两张图片里都有{one}。"
        case "one":
            return f"恰好有一张图片里有{one}。"
        case "neither":
            return f"两张图片里都没有{plain(plan.phrases[0])}。"
        case "some":
            return f"至少有一张图片里有{one}。"
        case "left":
            return f"左边的图片里有{one}。"
        case "right":
            return f"右边的图片里有{one}。"
        case "one each":
            return f"一张图片里有{one}，另一张图片里有{other}。"
        case "left and right":
            return f"左边的图片里有{one}，右边的图片里有{other}。"
        case "count":
            phrase = plan.phrases[0]
            return f"两张图片里一共恰好有{NUMBERS[plan.number]}{measure(phrase)}{plain(phrase)}。"
        case "more":
            return f"左边图片里的{plain(plan.phrases[0])}比右边图片里的多。"
        case "setting left":
            return f"只有左边的图片是{place}拍的。"
        case "setting both":
            return f"两张图片都是{place}拍的。"
        case "setting and":
            return f"右边的图片是{place}拍的，里面有{one}。"
        case "more things":
            return "左边图片里的东西比右边图片里的多。"
        case "total":
            return f"两张图片里一共有{plan.number}个东西。"
    raise ValueError(f"unknown form {plan.form!r}")
