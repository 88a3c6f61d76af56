"""Buildings and vehicles."""

from vlpnb.world.shapes.pen import BEAK, GLOW, HOLE, INK, PAPER, SKY, STEEL, TIMBER, Pen, mix


def tent(p: Pen) -> None:
    p.line((50, 14), (50, 2), width=3, fill=TIMBER)
    p.poly((50, 1), (66, 5), (50, 10), fill=BEAK)
    p.poly((50, 12), (99, 99), (1, 99))
    p.poly((50, 44), (66, 99), (34, 99), fill=HOLE)
    p.poly((50, 44), (40, 99), (28, 99), fill=p.shade)


def igloo(p: Pen) -> None:
    p.curve((1, 99), (4, 60), (26, 14), (50, 3), (74, 14), (96, 60), (99, 99), (50, 99))
    line = mix(p.body, (80, 120, 160), 0.6)
    for y, half in ((30, 33), (54, 43), (78, 47)):
        p.line((50 - half, y), (50 + half, y), width=2.5, fill=line)
    for x, y in ((50, 5), (34, 31), (66, 31), (20, 56), (44, 31), (80, 56), (10, 80), (90, 80), (60, 31)):
        p.line((x, y), (x, y + 22), width=2.5, fill=line)
    p.curve((28, 99), (30, 66), (50, 52), (70, 66), (72, 99), (50, 99))
    p.curve((37, 99), (39, 76), (50, 66), (61, 76), (63, 99), (50, 99), fill=(50, 62, 92))


def house(p: Pen) -> None:
    p.rect(70, 6, 82, 30, fill=STEEL)
    p.rect(7, 36, 93, 99)
    p.poly((50, 1), (99, 40), (1, 40), fill=mix(p.body, INK, 0.25))
    p.rect(42, 64, 60, 99, fill=TIMBER)
    p.dot(56, 82, 2.2, GLOW)
    for x in (16, 68):
        p.rect(x, 52, x + 18, 70, fill=SKY)
        p.line((x + 9, 52), (x + 9, 70), width=2, fill=PAPER)
        p.line((x, 61), (x + 18, 61), width=2, fill=PAPER)


def barn(p: Pen) -> None:
    p.poly((6, 99), (6, 42), (24, 16), (50, 3), (76, 16), (94, 42), (94, 99))
    p.line((2, 46), (22, 16), (50, 3), (78, 16), (98, 46), width=7, fill=(112, 114, 120))
    p.rect(40, 20, 60, 36, fill=PAPER)
    p.rect(43, 23, 57, 33, fill=HOLE)
    for left in (26, 50):
        p.rect(left, 54, left + 24, 99)
        p.line((left, 54), (left + 24, 99), width=3, fill=PAPER)
        p.line((left + 24, 54), (left, 99), width=3, fill=PAPER)
    p.line((26, 99), (26, 54), (74, 54), (74, 99), width=4, fill=PAPER)
    p.line((50, 54), (50, 99), width=4, fill=PAPER)


def tower(p: Pen) -> None:
    p.poly((50, 1), (92, 22), (8, 22), fill=mix(p.body, INK, 0.25))
    p.rect(24, 22, 76, 34, fill=GLOW)
    for x in (38, 62):
        p.line((x, 22), (x, 34), width=4, fill=INK)
    p.poly((22, 36), (78, 36), (92, 99), (8, 99))
    p.rect(8, 33, 92, 39)
    p.rect(40, 84, 60, 99, fill=TIMBER)
    for y in (46, 64):
        p.rect(43, y, 57, y + 9, fill=SKY)


def castle(p: Pen) -> None:
    def battlement(left: float, right: float, top: float, bottom: float, teeth: int) -> None:
        step, points = (right - left) / (2 * teeth - 1), [(left, bottom)]
        for i in range(2 * teeth - 1):
            y = top if i % 2 == 0 else top + 7
            points += [(left + i * step, y), (left + (i + 1) * step, y)]
        p.poly(*points, (right, bottom))

    for x in (15, 85):
        p.line((x, 22), (x, 3), width=2.5, fill=INK)
        p.poly((x, 2), (x + 12, 7), (x, 12), fill=BEAK)
    battlement(20, 80, 40, 99, 5)
    battlement(1, 29, 20, 99, 3)
    battlement(71, 99, 20, 99, 3)
    p.curve((38, 99), (38, 74), (50, 62), (62, 74), (62, 99), (50, 99), fill=TIMBER)
    for x in (15, 85):
        p.rect(x - 4, 38, x + 4, 52, fill=HOLE)


def car(p: Pen) -> None:
    p.curve((22, 46), (34, 4), (66, 4), (84, 46), (50, 52))
    p.poly((29, 42), (37, 14), (49, 14), (49, 42), fill=SKY)
    p.poly((54, 42), (54, 14), (65, 14), (76, 42), fill=SKY)
    p.curve((1, 58), (8, 44), (50, 40), (92, 46), (99, 60), (98, 82), (50, 84), (3, 82))
    p.line((51, 44), (51, 80), width=2)
    p.line((56, 54), (62, 54), width=4)
    p.dot(5, 60, 5, GLOW)
    for x in (23, 77):
        p.ring(x, 80, 19.5, fill=INK)
        p.dot(x, 80, 9, STEEL)


def boat(p: Pen) -> None:
    p.rect(47, 1, 52, 72, fill=TIMBER)
    p.poly((54, 6), (92, 58), (54, 58))
    p.poly((45, 16), (45, 58), (14, 58))
    p.poly((1, 66), (99, 66), (82, 99), (18, 99))
    p.line((4, 75), (95, 75), width=4, fill=PAPER)


def balloon(p: Pen) -> None:
    p.line((24, 58), (42, 86), width=2.5, fill=INK)
    p.line((76, 58), (58, 86), width=2.5, fill=INK)
    p.curve((50, 1), (84, 10), (99, 36), (80, 62), (60, 74), (40, 74), (20, 62), (1, 36), (16, 10))
    for s in (1, -1):
        p.line((50 + s * 4, 2), (50 + s * 24, 20), (50 + s * 26, 44), (50 + s * 8, 74), width=3)
    p.rect(38, 85, 62, 99, fill=TIMBER, radius=3)
    p.line((39, 91), (61, 91), width=2, fill=INK)


def rocket(p: Pen) -> None:
    p.curve((36, 84), (64, 84), (60, 94), (50, 99), (40, 94), fill=BEAK)
    p.curve((42, 84), (58, 84), (50, 95), fill=GLOW)
    p.poly((26, 52), (1, 84), (28, 82), fill=p.shade)
    p.poly((74, 52), (99, 84), (72, 82), fill=p.shade)
    p.curve((50, 1), (68, 18), (78, 44), (72, 84), (50, 87), (28, 84), (22, 44), (32, 18))
    p.ring(50, 38, 17, fill=STEEL)
    p.ring(50, 38, 11, fill=SKY)
    p.line((27, 72), (73, 72), width=4)


SHAPES = (tent, igloo, house, barn, tower, castle, car, boat, balloon, rocket)
