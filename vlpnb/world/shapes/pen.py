"""The pen that shapes are drawn with, its colours, and the mask of what shows the body colour."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

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
