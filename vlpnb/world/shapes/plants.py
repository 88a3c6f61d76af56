"""Fruit, vegetables and plants."""

from math import cos, pi, sin

from vlpnb.world.shapes.pen import GLOW, LEAF, PAPER, TIMBER, Pen, mix


def strawberry(p: Pen) -> None:
    p.curve((50, 99), (22, 74), (4, 40), (18, 17), (50, 20), (82, 17), (96, 40), (78, 74))
    for x, y in ((30, 40), (52, 38), (74, 42), (38, 58), (62, 58), (50, 76), (20, 50), (82, 54)):
        p.dot(x, y, 2.6, GLOW)
    p.poly(
        (50, 28), (38, 20), (20, 26), (26, 12), (42, 10), (50, 1), (58, 10), (74, 12), (80, 26),
        (62, 20), fill=LEAF,
    )  # fmt: skip


def plum(p: Pen) -> None:
    p.line((52, 22), (58, 2), width=6, fill=TIMBER)
    p.curve((52, 20), (22, 18), (3, 55), (24, 94), (50, 99), (76, 94), (97, 55), (80, 20))
    p.curve((58, 14), (78, 2), (96, 8), (78, 19), fill=LEAF)
    p.line((51, 20), (44, 40), (44, 62), width=3)
    p.dot(26, 48, 6, mix(p.body, PAPER, 0.5))


def banana(p: Pen) -> None:
    p.curve(
        (3, 22), (12, 20), (28, 52), (56, 62), (88, 38), (90, 4), (97, 4), (99, 46), (76, 88),
        (44, 98), (14, 72),
    )  # fmt: skip
    p.poly((89, 12), (89, 1), (98, 1), (98, 12), fill=TIMBER)
    p.poly((2, 18), (12, 16), (13, 26), (4, 30), fill=TIMBER)
    p.line((18, 50), (38, 76), (60, 80), (82, 64), width=3)


def carrot(p: Pen) -> None:
    for x, y in ((18, 6), (50, 1), (82, 6)):
        p.curve((44, 34), (x - 13, y + 10), (x, y), (x + 13, y + 10), (56, 34), fill=LEAF)
    p.curve((50, 99), (30, 72), (6, 40), (20, 28), (50, 26), (80, 28), (94, 40), (70, 72))
    for x, y in ((22, 42), (60, 50), (34, 62), (54, 76)):
        p.line((x, y), (x + 17, y + 1), width=3.5)


def potato(p: Pen) -> None:
    p.curve((8, 60), (6, 30), (30, 6), (56, 10), (84, 4), (97, 34), (92, 72), (66, 92), (40, 88), (22, 92))
    for x, y in ((28, 36), (52, 28), (74, 40), (42, 60), (66, 68), (24, 66)):
        p.line((x, y), (x + 6, y + 4), width=5)


def eggplant(p: Pen) -> None:
    p.curve((50, 24), (72, 30), (76, 50), (96, 76), (78, 97), (50, 99), (22, 97), (4, 76), (24, 50), (28, 30))
    p.tube((52, 22), (50, 12), (62, 5), width=13, fill=LEAF)
    p.poly((24, 40), (30, 22), (50, 18), (70, 22), (76, 40), (62, 32), (50, 44), (38, 32), fill=LEAF)
    p.line((28, 62), (22, 76), (28, 86), width=5, fill=mix(p.body, PAPER, 0.55))


def sunflower(p: Pen) -> None:
    p.line((50, 50), (50, 99), width=8, fill=LEAF)
    p.curve((50, 92), (22, 84), (8, 70), (36, 74), fill=LEAF)
    p.curve((50, 92), (78, 84), (92, 70), (64, 74), fill=LEAF)
    for i in range(12):
        a, b, c = (2 * pi * (i + d) / 12 for d in (-0.42, 0, 0.42))
        p.poly(
            (50 + 22 * cos(a), 33 + 14.5 * sin(a)),
            (50 + 44 * cos(a), 33 + 29 * sin(a)),
            (50 + 50 * cos(b), 33 + 33 * sin(b)),
            (50 + 44 * cos(c), 33 + 29 * sin(c)),
            (50 + 22 * cos(c), 33 + 14.5 * sin(c)),
        )
    p.ring(50, 33, 23, fill=(92, 56, 30))
    for x, y in ((42, 30), (58, 30), (50, 36), (44, 38), (56, 38), (50, 26)):
        p.dot(x, y, 2.2, TIMBER)


def cactus(p: Pen) -> None:
    p.tube((12, 34), (12, 56), (22, 63), (48, 63), width=20)
    p.tube((88, 24), (88, 42), (78, 50), (52, 50), width=20)
    p.rect(34, 1, 66, 99, radius=16)
    p.line((50, 8), (50, 96), width=2)
    for x, y in ((42, 16), (42, 34), (42, 74), (58, 26), (58, 64), (58, 84), (12, 44), (88, 34)):
        p.line((x - 3, y - 2), (x + 3, y + 2), width=2.5, fill=PAPER)
        p.line((x - 3, y + 2), (x + 3, y - 2), width=2.5, fill=PAPER)


def tulip(p: Pen) -> None:
    p.line((50, 50), (50, 99), width=8, fill=LEAF)
    p.curve((50, 99), (20, 84), (12, 56), (36, 72), fill=LEAF)
    p.curve((50, 99), (80, 84), (90, 60), (64, 74), fill=LEAF)
    p.curve((50, 60), (16, 52), (2, 30), (10, 2), (30, 20), (50, 1), (70, 20), (90, 2), (98, 30), (84, 52))
    p.line((30, 20), (32, 38), (40, 52), width=3)
    p.line((70, 20), (68, 38), (60, 52), width=3)


SHAPES = (strawberry, plum, banana, carrot, potato, eggplant, sunflower, cactus, tulip)
