"""Animals."""

from vlpnb.world.shapes.pen import BEAK, BLUSH, HOLE, INK, PAPER, STEEL, Pen, mix


def butterfly(p: Pen) -> None:
    for s in (1, -1):
        p.curve(*((50 + s * x, y) for x, y in ((2, 52), (18, 54), (40, 66), (36, 94), (20, 98), (4, 74))))
        p.curve(*((50 + s * x, y) for x, y in ((2, 54), (8, 28), (30, 6), (48, 8), (46, 40), (30, 56))))
        p.line((50, 34), (50 + s * 10, 12), width=2.5, fill=INK)
        p.dot(50 + s * 10, 12, 3)
    p.oval(50, 58, 4.5, 28, fill=INK)


def mouse(p: Pen) -> None:
    p.tube((78, 84), (92, 80), (97, 60), (90, 40), width=6, fill=BLUSH)
    p.curve((3, 78), (16, 56), (34, 40), (60, 34), (84, 54), (86, 84), (70, 95), (24, 95))
    for x in (26, 46):
        p.ring(x, 30, 25)
        p.ring(x, 31, 14, fill=BLUSH)
    p.eye(20, 68, 5)
    p.dot(4, 79, 6, BLUSH)
    p.line((12, 84), (2, 94), width=2)


def frog(p: Pen) -> None:
    for s in (1, -1):
        p.oval(50 + s * 36, 78, 14, 20)
        p.oval(50 + s * 36, 94, 13, 5.5)
        p.ring(50 + s * 22, 20, 20)
    p.curve((50, 18), (82, 26), (90, 52), (74, 90), (50, 96), (26, 90), (10, 52), (18, 26))
    for s in (1, -1):
        p.dot(50 + s * 22, 18, 12, PAPER)
        p.dot(50 + s * 22, 18, 6.5)
    p.oval(50, 78, 20, 16, fill=mix(p.body, PAPER, 0.45))
    p.line((18, 46), (34, 56), (50, 58), (66, 56), (82, 46), width=4)


def fish(p: Pen) -> None:
    p.poly((72, 50), (99, 10), (92, 50), (99, 90))
    p.curve((30, 22), (44, 2), (62, 4), (66, 26))
    p.curve((1, 52), (18, 22), (48, 12), (76, 40), (80, 52), (76, 64), (48, 92), (18, 82))
    p.line((28, 22), (34, 50), (28, 82), width=3)
    p.poly((44, 56), (62, 66), (46, 74), fill=p.shade)
    p.eye(16, 44, 7)


def crow(p: Pen) -> None:
    for x in (46, 56):
        p.line((x, 76), (x, 98), (x - 6, 98), width=4, fill=STEEL)
    p.poly((66, 60), (99, 82), (92, 94), (60, 78))
    p.curve((14, 26), (24, 4), (42, 8), (50, 30), (76, 48), (84, 72), (58, 86), (32, 76), (22, 50))
    p.poly((18, 16), (1, 30), (20, 32), fill=STEEL)
    p.curve((42, 46), (62, 46), (82, 66), (92, 80), (58, 72), fill=mix(p.body, PAPER, 0.22))
    p.eye(27, 18, 4.5)


def fox(p: Pen) -> None:
    p.curve((66, 74), (78, 50), (74, 20), (90, 4), (99, 30), (96, 64), (80, 84))
    p.curve((86, 14), (92, 2), (99, 26), (96, 34), fill=PAPER)
    for x in (32, 42, 62, 70):
        p.rect(x, 68, x + 8, 99)
        p.rect(x, 88, x + 8, 99, fill=INK)
    p.curve((28, 54), (50, 46), (74, 50), (80, 70), (66, 84), (38, 84))
    p.poly((4, 42), (6, 3), (22, 20), (34, 20), (48, 3), (50, 42), (27, 76))
    p.poly((4, 42), (20, 44), (27, 60), (34, 44), (50, 42), (27, 76), fill=PAPER)
    p.dot(27, 73, 5)
    p.eye(17, 38, 3.8)
    p.eye(37, 38, 3.8)


def snake(p: Pen) -> None:
    p.tube((98, 74), (84, 88), (70, 70), (60, 34), (46, 34), (38, 74), (24, 78), (18, 50), (16, 24), width=25)
    p.line((10, 20), (1, 24), width=3, fill=(210, 40, 50))
    p.curve((4, 20), (12, 4), (26, 6), (28, 24), (16, 36))
    p.eye(15, 16, 5)


def swan(p: Pen) -> None:
    p.curve((16, 64), (40, 56), (66, 58), (99, 40), (92, 76), (70, 97), (36, 97), (18, 86))
    p.tube((26, 78), (14, 56), (24, 34), (30, 18), (20, 10), width=15)
    p.poly((22, 6), (1, 20), (20, 22), fill=BEAK)
    p.line((21, 4), (17, 20), width=5, fill=INK)
    p.dot(25, 10, 2.8)
    p.curve((40, 66), (62, 62), (96, 46), (84, 74), (60, 86), fill=mix(p.body, INK, 0.13))


def pig(p: Pen) -> None:
    p.tube((86, 52), (95, 44), (97, 54), (92, 50), (98, 38), width=6)
    for x in (30, 44, 64, 76):
        p.rect(x, 74, x + 10, 99)
    p.oval(58, 58, 35, 32)
    p.poly((6, 8), (24, 14), (10, 34))
    p.poly((50, 8), (32, 14), (46, 34))
    p.ring(28, 42, 34)
    p.oval(27, 52, 12, 13, fill=mix(p.body, (190, 60, 110), 0.35))
    p.dot(23, 52, 3.5, HOLE)
    p.dot(31, 52, 3.5, HOLE)
    p.eye(17, 32, 4)
    p.eye(38, 32, 4)


def bear(p: Pen) -> None:
    tan = mix(p.body, PAPER, 0.5)
    for s in (1, -1):
        p.ring(50 + s * 26, 12, 14)
        p.dot(50 + s * 26, 12, 7, tan)
        p.oval(50 + s * 38, 62, 11, 18)
    p.oval(50, 70, 36, 29)
    p.oval(50, 74, 21, 19, fill=tan)
    for s in (1, -1):
        p.oval(50 + s * 28, 90, 17, 9.5)
        p.dot(50 + s * 30, 90, 6, tan)
    p.oval(50, 28, 35, 25)
    p.oval(50, 38, 16, 12, fill=tan)
    p.oval(50, 33, 6, 4, fill=INK)
    p.eye(36, 22, 4)
    p.eye(64, 22, 4)


def elephant(p: Pen) -> None:
    p.line((92, 44), (98, 66), width=4)
    for x in (36, 50, 70, 82):
        p.rect(x, 66, x + 13, 99)
    p.oval(64, 50, 33, 33)
    p.tube((16, 46), (8, 64), (8, 84), (16, 92), width=15)
    p.oval(24, 38, 20, 25)
    p.poly((18, 60), (30, 66), (20, 78), (24, 68), fill=PAPER)
    p.curve((28, 12), (48, 4), (60, 24), (54, 56), (40, 64), (30, 46), fill=p.shade)
    p.eye(17, 36, 3.8)


SHAPES = (butterfly, mouse, frog, fish, crow, fox, snake, swan, pig, bear, elephant)
