"""Toys, instruments, containers and furniture."""

from vlpnb.world.shapes.pen import GLOW, HOLE, INK, PAPER, SKY, STEEL, TIMBER, Pen, mix


def ball(p: Pen) -> None:
    p.oval(50, 50, 50, 50)
    p.line((8, 26), (34, 40), (66, 40), (92, 26), width=2.5)
    p.line((8, 74), (34, 60), (66, 60), (92, 74), width=2.5)
    p.dot(32, 22, 7, mix(p.body, PAPER, 0.7))


def kite(p: Pen) -> None:
    p.line((50, 64), (62, 74), (40, 84), (54, 98), width=3, fill=INK)
    for x, y in ((60, 74), (42, 84), (54, 96)):
        p.poly((x - 13, y - 3), (x, y), (x - 13, y + 4))
        p.poly((x + 13, y - 3), (x, y), (x + 13, y + 4))
    p.poly((50, 1), (98, 28), (50, 68), (2, 28))
    p.line((50, 2), (50, 66), width=3)
    p.line((4, 28), (96, 28), width=3)


def robot(p: Pen) -> None:
    p.line((50, 14), (50, 3), width=4, fill=STEEL)
    p.dot(50, 4, 6, (226, 60, 54))
    for s in (1, -1):
        p.tube((50 + s * 36, 50), (50 + s * 42, 70), width=14)
        p.rect(50 + s * 18 - 11, 82, 50 + s * 18 + 11, 99)
    p.rect(14, 44, 86, 86, radius=4)
    p.rect(20, 11, 80, 45, radius=4)
    p.dot(36, 25, 8, GLOW)
    p.dot(64, 25, 8, GLOW)
    p.dot(36, 25, 3.5)
    p.dot(64, 25, 3.5)
    p.line((36, 37), (64, 37), width=4, fill=INK)
    p.rect(34, 56, 66, 72, fill=SKY)
    p.line((38, 66), (46, 60), (52, 68), (62, 61), width=3, fill=INK)


def piano(p: Pen) -> None:
    p.rect(6, 84, 16, 99)
    p.rect(84, 84, 94, 99)
    p.rect(6, 1, 94, 86, radius=3)
    p.rect(32, 14, 68, 40, fill=PAPER)
    for y in (21, 27, 33):
        p.line((36, y), (64, y), width=1.5, fill=INK)
    p.rect(1, 50, 99, 70)
    p.rect(8, 53, 92, 65, fill=PAPER)
    for i in range(1, 10):
        p.line((8 + 8.4 * i, 53), (8 + 8.4 * i, 60 if i % 3 else 65), width=4 if i % 3 else 1.5, fill=INK)


def guitar(p: Pen) -> None:
    p.rect(43, 10, 57, 60, fill=TIMBER)
    p.rect(38, 1, 62, 13, fill=TIMBER)
    for y in (4, 9):
        p.dot(33, y, 5, STEEL)
        p.dot(67, y, 5, STEEL)
    p.curve(
        (50, 44), (72, 44), (82, 54), (76, 65), (96, 78), (88, 94), (50, 99), (12, 94), (4, 78),
        (24, 65), (18, 54), (28, 44),
    )  # fmt: skip
    p.ring(50, 66, 15, fill=HOLE)
    p.rect(34, 84, 66, 88, fill=TIMBER)
    for x in (47, 53):
        p.line((x, 12), (x, 85), width=1.5, fill=PAPER)


def drum(p: Pen) -> None:
    p.line((60, 22), (92, 2), width=5, fill=TIMBER)
    p.line((40, 22), (8, 2), width=5, fill=TIMBER)
    p.curve((4, 30), (50, 40), (96, 30), (97, 60), (95, 84), (50, 99), (5, 84), (3, 60))
    for i in range(4):
        p.line((8 + 21 * i, 44), (18.5 + 21 * i, 86), (29 + 21 * i, 44), width=2.5)
    p.oval(50, 30, 48, 13, fill=PAPER)


def bottle(p: Pen) -> None:
    p.rect(34, 1, 66, 11, fill=STEEL)
    p.curve(
        (36, 10), (64, 10), (65, 30), (92, 44), (97, 60), (97, 92), (86, 99), (14, 99), (3, 92),
        (3, 60), (8, 44), (35, 30),
    )  # fmt: skip
    p.rect(16, 62, 84, 80, fill=PAPER)
    p.line((26, 71), (74, 71), width=4, fill=STEEL)


def vase(p: Pen) -> None:
    p.curve((20, 4), (80, 4), (66, 22), (94, 44), (90, 74), (66, 99), (34, 99), (10, 74), (6, 44), (34, 22))
    p.oval(50, 6, 33, 5, fill=p.shade)
    p.line((33, 24), (67, 24), width=3)


def bucket(p: Pen) -> None:
    p.tube((8, 32), (22, 8), (50, 3), (78, 8), (92, 32), width=5, fill=STEEL)
    p.poly((3, 32), (97, 32), (82, 97), (18, 97))
    p.oval(50, 32, 48, 8, fill=p.shade)
    p.line((12, 74), (88, 74), width=3)


def box(p: Pen) -> None:
    p.poly((12, 4), (88, 4), (99, 26), (1, 26), fill=p.shade)
    p.rect(1, 26, 99, 99)
    p.poly((43, 4), (57, 4), (60, 26), (40, 26), fill=(226, 200, 150))
    p.rect(40, 26, 60, 50, fill=(226, 200, 150))


def lamp(p: Pen) -> None:
    p.poly((36, 62), (64, 62), (70, 66), (30, 66), fill=GLOW)
    p.rect(45, 64, 55, 94)
    p.oval(50, 94, 30, 5.5)
    p.poly((50, 1), (99, 62), (1, 62))
    p.line((50, 62), (50, 70), width=5, fill=GLOW)


def mirror(p: Pen) -> None:
    p.poly((34, 84), (66, 84), (82, 99), (18, 99))
    p.oval(50, 45, 49, 44)
    p.oval(50, 45, 27, 26, fill=SKY)
    p.line((36, 52), (56, 30), width=5, fill=PAPER)
    p.line((46, 58), (63, 38), width=3, fill=PAPER)


def bench(p: Pen) -> None:
    p.rect(4, 2, 96, 38, radius=4)
    p.rect(12, 36, 24, 58)
    p.rect(76, 36, 88, 58)
    p.rect(10, 66, 28, 99)
    p.rect(72, 66, 90, 99)
    p.rect(1, 52, 99, 72, radius=4)


def shelf(p: Pen) -> None:
    p.rect(1, 1, 99, 99)
    for y in (10, 40, 70):
        p.rect(10, y, 90, y + 20, fill=mix(p.body, (0, 0, 0), 0.1))
    for x, y, w, h in (
        (14, 10, 9, 20),
        (24, 13, 7, 17),
        (68, 10, 9, 20),
        (34, 40, 8, 20),
        (43, 44, 9, 16),
        (20, 73, 9, 17),
    ):
        p.rect(x, y, x + w, y + h, fill=PAPER)
    p.oval(66, 84, 9, 6, fill=STEEL)
    p.line((1, 35), (99, 35), width=2)
    p.line((1, 65), (99, 65), width=2)


def sofa(p: Pen) -> None:
    p.rect(8, 86, 15, 99, fill=TIMBER)
    p.rect(85, 86, 92, 99, fill=TIMBER)
    p.rect(10, 3, 51, 66, radius=14)
    p.rect(49, 3, 90, 66, radius=14)
    p.rect(12, 52, 51, 90, radius=8)
    p.rect(49, 52, 88, 90, radius=8)
    p.rect(1, 34, 17, 92, radius=12)
    p.rect(83, 34, 99, 92, radius=12)


SHAPES = (
    *(ball, kite, robot, piano, guitar, drum, bottle, vase, bucket, box),
    *(lamp, mirror, bench, shelf, sofa),
)
