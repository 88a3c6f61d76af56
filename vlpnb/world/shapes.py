"""How each kind of thing is drawn: one short function per kind, in a box of 100 × 100 units (y points down).

A `Pen` draws filled, outlined primitives. What is drawn in the body colour also goes into
a mask: patterns and materials are painted through it afterwards, so that details (eyes, wheels, leaves) stay.
`DRAWINGS` maps the name of a kind to its function; `render` decides colours, sizes and places.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import cos, pi, sin

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

INK: RGB = (34, 32, 38)
PAPER: RGB = (250, 248, 240)
LEAF: RGB = (70, 150, 58)
SKY: RGB = (196, 226, 244)
GLOW: RGB = (255, 238, 150)
STEEL: RGB = (150, 156, 164)
TIMBER: RGB = (136, 92, 56)
BEAK: RGB = (240, 168, 50)
BLUSH: RGB = (240, 170, 176)
HOLE: RGB = (58, 48, 52)


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """The colour `share` of the way from a to b."""
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b, strict=True))  # type: ignore[return-value]


@dataclass
class Pen:
    """Draws on a canvas of `width` × `height` pixels; coordinates are in hundredths of its sides."""

    width: int
    height: int
    body: RGB
    image: Image.Image = field(init=False)
    mask: Image.Image = field(init=False)  # 255 where the body colour shows

    def __post_init__(self) -> None:
        self.outline = mix(self.body, (0, 0, 0), 0.5)
        self.shade = mix(self.body, (0, 0, 0), 0.2)
        self.image = Image.new("RGBA", (self.width, self.height), (*self.outline, 0))
        self.mask = Image.new("L", (self.width, self.height), 0)
        self._draw = (ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask))
        self._unit = min(self.width, self.height) / 100
        self._sx, self._sy = (self.width - 1) / 100, (self.height - 1) / 100
        self.stroke = max(2, round(1.6 * self._unit))

    def _styles(self, fill: RGB | None) -> Iterable[tuple[ImageDraw.ImageDraw, RGB | int, RGB | int]]:
        colour = self.body if fill is None else fill
        edge = self.outline if fill is None else mix(fill, (0, 0, 0), 0.42)
        return zip(self._draw, (colour, 255 if fill is None else 0), (edge, 0), strict=True)

    def _scale(self, points: Points) -> list[tuple[float, float]]:
        return [(x * self._sx, y * self._sy) for x, y in points]

    def poly(self, *points: tuple[float, float], fill: RGB | None = None) -> None:
        """A filled polygon."""
        scaled = self._scale(points)
        for draw, colour, edge in self._styles(fill):
            draw.polygon(scaled, fill=colour)
            draw.line([*scaled, scaled[0], scaled[1]], fill=edge, width=self.stroke, joint="curve")

    def curve(self, *points: tuple[float, float], fill: RGB | None = None) -> None:
        """A filled closed Catmull–Rom curve through the points."""
        n, smooth = len(points), []
        for i in range(n):
            a, b, c, d = (points[(i + k) % n] for k in (-1, 0, 1, 2))
            for t in (0.0, 0.2, 0.4, 0.6, 0.8):
                smooth.append(tuple(_catmull_rom(a[k], b[k], c[k], d[k], t) for k in (0, 1)))
        self.poly(*smooth, fill=fill)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: RGB | None = None) -> None:
        """An ellipse with centre (x, y) and radii in units of either side."""
        (left, top), (right, bottom) = self._scale(((x - rx, y - ry), (x + rx, y + ry)))
        for draw, colour, edge in self._styles(fill):
            draw.ellipse((left, top, right, bottom), fill=colour, outline=edge, width=self.stroke)

    def dot(self, x: float, y: float, r: float, fill: RGB = INK) -> None:
        """A round detail without an outline; the radius is in units of the shorter side."""
        (cx, cy), r = self._scale(((x, y),))[0], r * self._unit
        for draw, colour in zip(self._draw, (fill, 0), strict=True):
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=colour)

    def ring(self, x: float, y: float, r: float, fill: RGB | None = None) -> None:
        """A circle (round whatever the aspect of the box); the radius is in units of the shorter side."""
        self.oval(x, y, r * self._unit / self._sx, r * self._unit / self._sy, fill)

    def rect(
        self, left: float, top: float, right: float, bottom: float, fill: RGB | None = None, radius: float = 0
    ) -> None:
        """A rectangle, with rounded corners where a radius is given (units of the shorter side)."""
        (x0, y0), (x1, y1) = self._scale(((left, top), (right, bottom)))
        for draw, colour, edge in self._styles(fill):
            draw.rounded_rectangle(
                (x0, y0, x1, y1), radius * self._unit, fill=colour, outline=edge, width=self.stroke
            )

    def line(self, *points: tuple[float, float], width: float = 2.0, fill: RGB | None = None) -> None:
        """A line in a detail colour (default: the outline's); the width is in units of the shorter side."""
        scaled, pixels = self._scale(points), max(2, round(width * self._unit))
        for draw, colour in zip(self._draw, (fill or self.outline, 0), strict=True):
            draw.line(scaled, fill=colour, width=pixels, joint="curve")

    def tube(self, *points: tuple[float, float], width: float, fill: RGB | None = None) -> None:
        """A thick smooth outlined line with round ends: a neck, a tail, an arm."""
        smooth = []
        ends = (points[0], *points, points[-1])
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
            for t in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
                smooth.append(tuple(_catmull_rom(a[k], b[k], c[k], d[k], t) for k in (0, 1)))
        scaled, outer = self._scale(smooth), max(width * self._unit, 2 * self.stroke + 2)
        for draw, colour, edge in self._styles(fill):
            for paint, pixels in ((edge, outer), (colour, outer - 2 * self.stroke)):
                draw.line(scaled, fill=paint, width=max(1, round(pixels)), joint="curve")
                for x, y in (scaled[0], scaled[-1]):
                    r = pixels / 2
                    draw.ellipse((x - r, y - r, x + r, y + r), fill=paint)

    def eye(self, x: float, y: float, r: float = 4.0) -> None:
        """An eye that also shows on dark bodies."""
        self.dot(x, y, r * 1.4, PAPER)
        self.dot(x, y, r * 0.85, INK)


def _catmull_rom(a: float, b: float, c: float, d: float, t: float) -> float:
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


# Fruit, vegetables and plants


def strawberry(p: Pen) -> None:
    p.curve((50, 99), (22, 74), (4, 40), (18, 17), (50, 20), (82, 17), (96, 40), (78, 74))
    for x, y in ((30, 40), (52, 38), (74, 42), (38, 58), (62, 58), (50, 76), (20, 50), (82, 54)):
        p.dot(x, y, 2.6, GLOW)
    p.poly(
        (50, 28),
        (38, 20),
        (20, 26),
        (26, 12),
        (42, 10),
        (50, 1),
        (58, 10),
        (74, 12),
        (80, 26),
        (62, 20),
        fill=LEAF,
    )


def plum(p: Pen) -> None:
    p.line((52, 22), (58, 2), width=6, fill=TIMBER)
    p.curve((52, 20), (22, 18), (3, 55), (24, 94), (50, 99), (76, 94), (97, 55), (80, 20))
    p.curve((58, 14), (78, 2), (96, 8), (78, 19), fill=LEAF)
    p.line((51, 20), (44, 40), (44, 62), width=3)
    p.dot(26, 48, 6, mix(p.body, PAPER, 0.5))


def banana(p: Pen) -> None:
    p.curve(
        (3, 22),
        (12, 20),
        (28, 52),
        (56, 62),
        (88, 38),
        (90, 4),
        (97, 4),
        (99, 46),
        (76, 88),
        (44, 98),
        (14, 72),
    )
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


# Animals


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


# Toys, instruments, containers and furniture


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
        (50, 44),
        (72, 44),
        (82, 54),
        (76, 65),
        (96, 78),
        (88, 94),
        (50, 99),
        (12, 94),
        (4, 78),
        (24, 65),
        (18, 54),
        (28, 44),
    )
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
        (36, 10),
        (64, 10),
        (65, 30),
        (92, 44),
        (97, 60),
        (97, 92),
        (86, 99),
        (14, 99),
        (3, 92),
        (3, 60),
        (8, 44),
        (35, 30),
    )
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


# Buildings and vehicles


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


_FUNCTIONS: tuple[Callable[[Pen], None], ...] = (
    *(strawberry, plum, banana, carrot, potato, eggplant, sunflower, cactus, tulip),
    *(butterfly, mouse, frog, fish, crow, fox, snake, swan, pig, bear, elephant),
    *(ball, kite, robot, piano, guitar, drum, bottle, vase, bucket, box, lamp, mirror, bench, shelf, sofa),
    *(tent, igloo, house, barn, tower, castle, car, boat, balloon, rocket),
)
DRAWINGS: dict[str, Callable[[Pen], None]] = {function.__name__: function for function in _FUNCTIONS}
