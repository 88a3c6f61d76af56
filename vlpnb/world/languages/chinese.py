"""Chinese captions: a measure word for every noun, attributes before the noun, no spaces."""

from vlpnb.world.languages.sentence_plan import Phrase, SentencePlan, enumerated, pick

# Of every kind and category its words as (noun, measure word).
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "strawberry": (("草莓", "颗"),),
    "butterfly": (("蝴蝶", "只"),),
    "plum": (("李子", "颗"),),
    "mouse": (("老鼠", "只"),),
    "potato": (("土豆", "个"), ("马铃薯", "个")),
    "frog": (("青蛙", "只"),),
    "banana": (("香蕉", "根"),),
    "carrot": (("胡萝卜", "根"),),
    "tulip": (("郁金香", "朵"),),
    "eggplant": (("茄子", "个"),),
    "ball": (("球", "个"), ("皮球", "个")),
    "fish": (("鱼", "条"),),
    "bottle": (("瓶子", "个"),),
    "vase": (("花瓶", "个"),),
    "bucket": (("桶", "只"), ("水桶", "个")),
    "drum": (("鼓", "面"),),
    "box": (("箱子", "个"), ("盒子", "个")),
    "crow": (("乌鸦", "只"),),
    "lamp": (("灯", "盏"), ("台灯", "盏")),
    "cactus": (("仙人掌", "棵"),),
    "fox": (("狐狸", "只"),),
    "mirror": (("镜子", "面"),),
    "kite": (("风筝", "只"),),
    "guitar": (("吉他", "把"),),
    "snake": (("蛇", "条"),),
    "swan": (("天鹅", "只"),),
    "robot": (("机器人", "个"),),
    "pig": (("猪", "头"),),
    "sunflower": (("向日葵", "朵"),),
    "bench": (("板凳", "张"),),
    "shelf": (("架子", "个"), ("书架", "个")),
    "piano": (("钢琴", "架"),),
    "bear": (("熊", "只"),),
    "sofa": (("沙发", "张"),),
    "tent": (("帐篷", "顶"),),
    "igloo": (("冰屋", "座"),),
    "car": (("汽车", "辆"), ("轿车", "辆")),
    "boat": (("船", "艘"), ("船", "条")),
    "elephant": (("大象", "头"),),
    "house": (("房子", "座"), ("房屋", "座")),
    "barn": (("谷仓", "座"),),
    "balloon": (("热气球", "个"),),
    "tower": (("塔", "座"),),
    "rocket": (("火箭", "枚"),),
    "castle": (("城堡", "座"),),
    "animal": (("动物", "只"),),
    "building": (("建筑", "座"),),
    "container": (("容器", "个"),),
    "fruit": (("水果", "个"),),
    "furniture": (("家具", "件"),),
    "instrument": (("乐器", "件"),),
    "plant": (("植物", "株"),),
    "toy": (("玩具", "个"),),
    "vegetable": (("蔬菜", "种"),),
    "vehicle": (("交通工具", "种"),),
}
COLOURS = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "pink": "粉色",
    "brown": "棕色",
    "black": "黑色",
    "white": "白色",
    "gray": "灰色",
}
PATTERNS = {"plain": "纯色", "striped": "条纹", "dotted": "波点", "checked": "格子"}
SIZES = {"small": "小", "big": "大"}
PLACES = {"field": "田野里", "room": "房间里", "night": "夜里", "beach": "海滩上"}
RELATIONS = {
    "left of": ("左边", "左侧"),
    "right of": ("右边", "右侧"),
    "above": ("上方", "上面"),
    "below": ("下方", "下面"),
}
NUMBERS = {1: "一", 2: "两", 3: "三", 4: "四"}


def sized_noun(phrase: Phrase) -> str:
    """The noun with its size. The elephant's own name begins with "big", so its size is said another way."""
    word = pick(NOUNS[phrase.kind], phrase.synonym)[0]
    if phrase.size is None:
        return word
    if word == "大象":
        return "小象" if phrase.size == "small" else "很大的象"
    return SIZES[phrase.size] + word


def measure(phrase: Phrase) -> str:
    """The measure word of the noun."""
    return pick(NOUNS[phrase.kind], phrase.synonym)[1]


def noun_phrase(phrase: Phrase) -> str:
    """一辆红色条纹的小汽车, 两只狐狸."""
    colour = COLOURS[phrase.colour] if phrase.colour else ""
    pattern = PATTERNS[phrase.pattern] if phrase.pattern else ""
    of = "的" if colour or pattern else ""
    return f"{NUMBERS[phrase.count]}{measure(phrase)}{colour}{pattern}{of}{sized_noun(phrase)}"


def realise(plan: SentencePlan) -> str:
    """The Chinese sentence of a plan."""
    first, wording = plan.phrases[0], plan.wording
    place = PLACES[plan.setting] if plan.setting else ""
    phrases = [noun_phrase(phrase) for phrase in plan.phrases]
    listed = enumerated(phrases, "和", comma="、")
    match plan.form:
        case "bare":
            return f"{place}的{listed}。" if place else f"{listed}。"
        case "there":
            return f"{place or '这里'}有{listed}。"
        case "see":
            return f"{place}{pick(('可以看到', '我们看到', '能看见', '我看见'), wording)}{listed}。"
        case "picture":
            if wording % 3 == 0:
                return f"一张{place + '的' if place else ''}{listed}的图片。"
            shown = f"{place}的{listed}" if place else listed
            return f"{pick(('图片', '照片'), wording)}里是{shown}。"
        case "front":
            return f"{place}{pick(('有', '可以看到', '出现了'), wording)}{listed}。"
        case "relation":
            side = pick(RELATIONS[plan.relation or ""], wording)
            return f"{place + '，' if place else ''}{phrases[0]}在{phrases[1]}的{side}。"
        case "beside":
            if wording % 2:
                return f"{place + '，' if place else ''}{phrases[0]}在{phrases[1]}旁边。"
            return f"{place + '，' if place else ''}{phrases[1]}旁边有{phrases[0]}。"
        case "predicate":
            where = f"{place}的" if place else ""
            subject = f"{where}这{measure(first)}{pick(NOUNS[first.kind], first.synonym)[0]}"
            look = (COLOURS[first.colour] if first.colour else "") + (
                PATTERNS[first.pattern] if first.pattern else ""
            )
            said = [f"很{SIZES[first.size]}"] if first.size else []
            return f"{subject}{'，'.join([*said, *([f'是{look}的'] if look else [])])}。"
        case "contrast":
            one, other = (f"一{measure(first)}{COLOURS[colour]}的" for colour in plan.colours)
            return f"{place + '的' if place else ''}{listed}，{one}，{other}。"
    raise ValueError(f"unknown form {plan.form!r}")
