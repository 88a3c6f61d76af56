"""Scenes to pictures: a background for the setting, then every thing, far to near.

Things are drawn on a canvas three times as large and reduced, so that edges are smooth. What the words of
a scene say is what the pixels show: body colours vary by a few per cent only; patterns and materials (wood
grain, joints of stone, stitches, gloss) cover less than half of the body; the drawing fills its box.
`render` is a pure function of its arguments.
"""

import math
import random
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw

from vlpnb.world.scene import COLOURS, KINDS, RGB, Scene, Thing
from vlpnb.world.shapes import DRAWINGS, Pen, mix

_OVERSAMPLE = 3
_BACKGROUNDS = 24  # different backgrounds per setting (each also mirrored); few enough to cache
_HORIZON = 0.47
_WHITE: RGB = (255, 255, 255)
_CONTRAST: RGB = (74, 70, 78)  # pattern colour on bodies too light for white
_CLOTHS: tuple[RGB, ...] = (
    (92, 120, 122),
    (110, 110, 128),
    (120, 116, 104),
)  # no colour that a thing is said to have
_FOLDS = (11, 16)  # of a curtain over a whole picture


@dataclass(frozen=True)
class Curtain:
    """A curtain over part of a picture, from top to bottom; its sides are relative to the picture's width."""

    left: float
    right: float


def render(scene: Scene, size: int = 128, seed: int = 0, curtain: Curtain | None = None) -> Image.Image:
    """The picture of a scene: RGB, `size` × `size` pixels.

    What the scene does not decide (background, shades, direction) follows from `seed` and the scene's id. A curtain is
    drawn over the finished picture: what is not behind it is the same to the pixel.
    """
    rng = random.Random(f"{seed}/{scene.image_id}")
    picture = _background(scene.setting, rng.randrange(_BACKGROUNDS), size)
    picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else picture.copy()
    for thing in sorted(scene.things, key=lambda thing: thing.y + thing.h / 2):
        left, top, right, bottom = pixel_box(thing, size)
        sprite = _sprite(thing, right - left, bottom - top, rng)
        if thing.y + thing.h / 2 > _HORIZON + 0.04 and not KINDS[thing.kind].flies:
            shadow = _shadow((right - left, max(3, size // 32)))
            picture.paste((30, 28, 40), (left, bottom - shadow.height * 2 // 3), shadow)
        picture.paste(sprite, (left, top), sprite)
    if curtain is not None:
        left, right = round(curtain.left * size), round(curtain.right * size)
        cloth = _cloth(max(1, right - left), size, random.Random(f"{seed}/{scene.image_id}/curtain"))
        picture.paste(cloth, (left, 0))
    return picture


def _cloth(width: int, height: int, rng: random.Random) -> Image.Image:
    """A curtain of this size: cloth in folds below a rail. Its draws are its own: a picture's stay as they were."""
    base, folds, start = rng.choice(_CLOTHS), rng.uniform(*_FOLDS), rng.uniform(0, math.tau)
    light = [math.sin(start + math.tau * folds * x / height) for x in range(width)]
    row = Image.new("RGB", (width, 1))
    row.putdata([mix(base, _WHITE if wave > 0 else (0, 0, 0), 0.34 * abs(wave)) for wave in light])
    cloth = row.resize((width, height))
    rail = max(2, height // 24)
    ImageDraw.Draw(cloth).rectangle((0, 0, width, rail), fill=(70, 58, 50))
    return cloth


def pixel_box(thing: Thing, size: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels of a picture: the drawing touches all four sides."""
    left, top, right, bottom = (round(side * size) for side in thing.box)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _sprite(thing: Thing, width: int, height: int, rng: random.Random) -> Image.Image:
    """The thing alone: RGBA, exactly width × height pixels."""
    tone = rng.uniform(-0.05, 0.05)
    body = mix(COLOURS[thing.colour], _WHITE if tone > 0 else (0, 0, 0), abs(tone))
    pen = Pen(_OVERSAMPLE * width, _OVERSAMPLE * height, body)
    DRAWINGS[thing.kind](pen)
    paint = _paint(thing, body, pen.image.size, rng)
    if paint is not None:
        paint.putalpha(255)
        pen.image.paste(paint, (0, 0), pen.mask)
    small = pen.image.resize((width, height), Image.Resampling.BOX, box=pen.image.getbbox(alpha_only=True))
    shaded = ImageChops.multiply(small, _shading((width, height)))
    if rng.random() < 0.5:
        shaded = shaded.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return shaded


@lru_cache(maxsize=4096)
def _shading(size: tuple[int, int]) -> Image.Image:
    """Light from above: RGBA to multiply with, alpha 255."""
    ramp = (
        Image.linear_gradient("L")
        .resize(size, Image.Resampling.BILINEAR)
        .point(lambda v: 255 - v * 26 // 255)
    )
    return Image.merge("RGBA", (ramp, ramp, ramp, Image.new("L", size, 255)))


@lru_cache(maxsize=1024)
def _shadow(size: tuple[int, int]) -> Image.Image:
    """A soft flat ellipse as an alpha mask."""
    large = Image.new("L", (size[0] * 3, size[1] * 3), 0)
    ImageDraw.Draw(large).ellipse((0, 0, large.width - 1, large.height - 1), fill=90)
    return large.resize(size, Image.Resampling.BOX)


def _paint(thing: Thing, body: RGB, size: tuple[int, int], rng: random.Random) -> Image.Image | None:
    """What shows through the body mask: pattern and material; None where it is the plain colour."""
    material = KINDS[thing.kind].material
    if thing.pattern == "plain" and not material:
        return None
    paint = Image.new("RGB", size, body)
    draw, unit = ImageDraw.Draw(paint), min(size) / 100
    _draw_pattern(draw, thing, size, unit, rng)
    if material:
        _draw_material(draw, material, body, size, unit)
    return paint


def _draw_pattern(
    draw: ImageDraw.ImageDraw, thing: Thing, size: tuple[int, int], unit: float, rng: random.Random
) -> None:
    """Stripes, dots or checks, over less than half of the area; at least five target pixels apart."""
    width, height = size
    second = _CONTRAST if thing.colour in ("white", "yellow") else (246, 244, 240)
    step = max(24 * unit, 5 * _OVERSAMPLE)
    start = rng.uniform(0, step)
    columns, rows = int(width / step) + 2, int(height / step) + 2
    if thing.pattern == "striped":
        for i in range(-1, columns):
            x = i * step + start
            draw.rectangle((x, 0, x + 0.3 * step, height), fill=second)
    elif thing.pattern == "dotted":
        r = 0.26 * step
        for j in range(-1, rows):
            for i in range(-1, columns):
                x, y = i * step + (step / 2 if j % 2 else 0) + start, j * step + start / 2
                draw.ellipse((x - r, y - r, x + r, y + r), fill=second)
    elif thing.pattern == "checked":
        r = 0.64 * step
        for j in range(-1, int(height / r) + 2):
            for i in range(-2 + j % 2, int(width / r) + 2, 2):
                x, y = i * r + start / 2, j * r + start / 2
                draw.rectangle((x, y, x + 0.76 * r, y + 0.76 * r), fill=second)


def _draw_material(
    draw: ImageDraw.ImageDraw, material: str, body: RGB, size: tuple[int, int], unit: float
) -> None:
    """Marks that tell the material, in a darker or lighter shade of the body."""
    width, height = size
    line = max(2, round(1.8 * unit))
    dark = mix(body, (0, 0, 0), 0.3) if sum(body) > 200 else mix(body, _WHITE, 0.25)
    light = mix(body, _WHITE, 0.55)
    if material == "wood":  # planks with grain
        for i in range(1, 8):
            y = height * i / 8
            draw.line((0, y, width, y), fill=dark, width=line)
            x = width * (0.15 + 0.37 * i % 0.8)
            draw.arc((x, y - 9 * unit, x + 22 * unit, y - 3 * unit), 0, 360, fill=dark, width=line)
    elif material == "stone":  # courses of blocks with joints
        rows, columns = 8, max(3, round(4 * width / height))
        for j in range(rows):
            y, shift = height * j / rows, (j % 2) / 2
            draw.line((0, y, width, y), fill=dark, width=line)
            for i in range(columns + 1):
                x = width * (i + shift) / columns
                draw.line((x, y, x, y + height / rows), fill=dark, width=line)
    elif material == "metal":  # a band of gloss and rivets
        draw.polygon(
            [(0.16 * width, 0), (0.26 * width, 0), (0.2 * width, height), (0.1 * width, height)], fill=light
        )
        draw.line((0.31 * width, 0, 0.25 * width, height), fill=light, width=line)
        for x, y in ((0.5, 0.55), (0.65, 0.55), (0.8, 0.55), (0.5, 0.85), (0.65, 0.85), (0.8, 0.85)):
            r = 2.2 * unit
            draw.ellipse((x * width - r, y * height - r, x * width + r, y * height + r), fill=dark)
    elif material == "cloth":  # stitched seams
        for i in range(-4, 9):
            for k in range(24):
                x, y = width * (i / 4 + k / 24), height * k / 24
                draw.line((x, y, x + width / 48, y + height / 48), fill=dark, width=line)
    elif material == "glass":  # reflections
        for left, breadth in ((0.2, 0.08), (0.34, 0.03), (0.72, 0.04)):
            x = left * width
            points = [(x, height), (x + breadth * width, height), (x + (breadth + 0.2) * width, 0)]
            draw.polygon([*points, (x + 0.2 * width, 0)], fill=mix(body, _WHITE, 0.7))


@lru_cache(maxsize=4 * _BACKGROUNDS)
def _background(setting: str, variant: int, size: int) -> Image.Image:
    """A background with small things that are no kinds: clouds, tufts, stars, shells. Shared, so copy it."""
    rng = random.Random(f"{setting}/{variant}")
    image = Image.new("RGB", (2 * size, 2 * size))
    draw = ImageDraw.Draw(image)
    _SETTINGS[setting](image, draw, 2 * size, rng)
    return image.reduce(2)


def _ramp(image: Image.Image, top: float, bottom: float, first: RGB, last: RGB) -> None:
    """A vertical gradient over the full width between two heights (shares of the side)."""
    side = image.width
    start, height = round(top * side), round((bottom - top) * side)
    ramp = Image.linear_gradient("L").resize((side, height), Image.Resampling.BILINEAR)
    image.paste(
        Image.composite(Image.new("RGB", ramp.size, last), Image.new("RGB", ramp.size, first), ramp),
        (0, start),
    )


def _hills(draw: ImageDraw.ImageDraw, side: int, rng: random.Random, colours: tuple[RGB, ...]) -> None:
    for colour in colours:
        for _ in range(2):
            x, r, lift = (
                rng.uniform(0, 1) * side,
                rng.uniform(0.3, 0.6) * side,
                rng.uniform(0.05, 0.17) * side,
            )
            base = _HORIZON * side
            draw.ellipse((x - r, base - lift, x + r, base + lift), fill=colour)


def _clouds(draw: ImageDraw.ImageDraw, side: int, rng: random.Random, colour: RGB) -> None:
    for _ in range(rng.randint(1, 3)):
        x, y, r = rng.uniform(0.1, 0.9) * side, rng.uniform(0.06, 0.26) * side, rng.uniform(0.03, 0.05) * side
        for dx, dy, s in ((-1.5, 0.2, 0.8), (0, -0.3, 1.1), (1.4, 0.2, 0.9), (0.3, 0.4, 1.0)):
            s *= r
            draw.ellipse(
                (x + dx * r - s, y + dy * r - s * 0.8, x + dx * r + s, y + dy * r + s * 0.8), fill=colour
            )


def _tufts(draw: ImageDraw.ImageDraw, side: int, rng: random.Random, colour: RGB) -> None:
    for _ in range(rng.randint(6, 12)):
        x, y, h = (
            rng.random() * side,
            rng.uniform(_HORIZON + 0.06, 0.98) * side,
            rng.uniform(0.015, 0.03) * side,
        )
        for lean in (-0.6, 0, 0.6):
            draw.line((x, y, x + lean * h, y - h), fill=colour, width=2)


def _field(image: Image.Image, draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    _ramp(image, 0, _HORIZON, mix((150, 200, 238), (180, 205, 235), rng.random()), (226, 240, 246))
    _clouds(draw, side, rng, (250, 252, 253))
    _hills(draw, side, rng, ((182, 208, 190), (164, 200, 152)))
    grass = mix((172, 208, 124), (196, 212, 134), rng.random())
    _ramp(image, _HORIZON, 1, mix(grass, _WHITE, 0.12), mix(grass, (0, 0, 0), 0.1))
    _tufts(draw, side, rng, mix(grass, (30, 90, 20), 0.35))
    for _ in range(rng.randint(2, 6)):
        x, y, r = rng.random() * side, rng.uniform(_HORIZON + 0.06, 0.96) * side, 0.008 * side
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(250, 248, 236))


def _room(image: Image.Image, draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    wall = rng.choice(((240, 228, 206), (222, 232, 226), (228, 224, 238), (238, 222, 220), (216, 228, 240)))
    floor = rng.choice(((206, 180, 148), (190, 164, 134), (214, 196, 170)))
    line = _HORIZON + rng.uniform(-0.02, 0.02)
    _ramp(image, 0, line, mix(wall, (0, 0, 0), 0.04), wall)
    _ramp(image, line, 1, mix(floor, (0, 0, 0), 0.08), mix(floor, _WHITE, 0.15))
    seam = mix(floor, (0, 0, 0), 0.16)
    for i in range(-6, 17):
        draw.line(
            (side * (0.5 + (i - 5) * 0.07), line * side, side * (0.5 + (i - 5) * 0.2), side),
            fill=seam,
            width=1,
        )
    draw.rectangle((0, (line - 0.02) * side, side, line * side), fill=mix(wall, _WHITE, 0.6))
    left, top = rng.choice((0.06, 0.36, 0.64)) * side, 0.06 * side
    right, bottom = left + 0.3 * side, top + rng.uniform(0.2, 0.26) * side
    draw.rectangle(
        (left, top, right, bottom), fill=(190, 220, 240), outline=(250, 250, 248), width=side // 50
    )
    middle = (left + right) / 2, (top + bottom) / 2
    draw.line((middle[0], top, middle[0], bottom), fill=(250, 250, 248), width=side // 64)
    draw.line((left, middle[1], right, middle[1]), fill=(250, 250, 248), width=side // 64)
    if rng.random() < 0.6:
        x, y, r = rng.uniform(0.25, 0.75) * side, rng.uniform(0.7, 0.85) * side, rng.uniform(0.2, 0.34) * side
        rug = rng.choice(((222, 206, 210), (206, 214, 220), (226, 218, 194)))
        draw.ellipse(
            (x - r, y - r * 0.36, x + r, y + r * 0.36), fill=rug, outline=mix(rug, (0, 0, 0), 0.15), width=3
        )


def _night(image: Image.Image, draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    _ramp(image, 0, _HORIZON, mix((44, 50, 98), (58, 52, 104), rng.random()), (104, 106, 158))
    for _ in range(rng.randint(14, 26)):
        x, y, r = (
            rng.random() * side,
            rng.uniform(0, _HORIZON - 0.08) * side,
            rng.uniform(0.003, 0.008) * side,
        )
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(246, 242, 214))
    x, y, r = rng.uniform(0.12, 0.88) * side, rng.uniform(0.1, 0.2) * side, rng.uniform(0.05, 0.075) * side
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(244, 238, 206))
    for dx, dy, s in ((-0.3, -0.2, 0.22), (0.35, 0.1, 0.16), (-0.05, 0.45, 0.18)):
        cx, cy, s = x + dx * r, y + dy * r, s * r
        draw.ellipse((cx - s, cy - s, cx + s, cy + s), fill=(224, 216, 184))
    _hills(draw, side, rng, ((82, 88, 132), (72, 88, 116)))
    ground = mix((82, 108, 112), (88, 104, 124), rng.random())
    _ramp(image, _HORIZON, 1, ground, mix(ground, (0, 0, 0), 0.2))
    _tufts(draw, side, rng, mix(ground, (10, 30, 40), 0.4))


def _beach(image: Image.Image, draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    _ramp(image, 0, 0.36, (164, 212, 242), (232, 242, 244))
    _clouds(draw, side, rng, (252, 252, 250))
    if rng.random() < 0.6:
        x, r = rng.uniform(0.1, 0.9) * side, 0.055 * side
        draw.ellipse((x - r, 0.08 * side, x + r, 0.08 * side + 2 * r), fill=(254, 240, 176))
    sea = mix((104, 178, 204), (120, 188, 218), rng.random())
    _ramp(image, 0.36, _HORIZON + 0.08, mix(sea, (0, 0, 60), 0.12), mix(sea, _WHITE, 0.2))
    for _ in range(rng.randint(5, 9)):
        x, y, w = rng.random() * side, rng.uniform(0.38, _HORIZON) * side, rng.uniform(0.04, 0.1) * side
        draw.arc((x - w, y, x + w, y + 0.02 * side), 200, 340, fill=(236, 246, 248), width=2)
    sand = mix((240, 224, 180), (234, 212, 168), rng.random())
    edge = (_HORIZON + 0.05) * side
    _ramp(image, _HORIZON + 0.06, 1, mix(sand, _WHITE, 0.15), mix(sand, (90, 60, 20), 0.1))
    for i in range(7):
        x = (i + rng.uniform(-0.2, 0.2)) * side / 6
        draw.ellipse(
            (x - 0.11 * side, edge - 0.01 * side, x + 0.11 * side, edge + 0.025 * side), fill=(246, 250, 250)
        )
        draw.ellipse(
            (x - 0.12 * side, edge + 0.008 * side, x + 0.12 * side, edge + 0.05 * side),
            fill=mix(sand, _WHITE, 0.15),
        )
    for _ in range(rng.randint(3, 7)):
        x, y, r = (
            rng.random() * side,
            rng.uniform(_HORIZON + 0.14, 0.97) * side,
            rng.uniform(0.008, 0.014) * side,
        )
        shell = rng.choice(((250, 236, 222), (214, 190, 158), (226, 204, 196)))
        draw.pieslice((x - r, y - r, x + r, y + r), 180, 360, fill=shell, outline=mix(shell, (0, 0, 0), 0.25))


_SETTINGS = {"field": _field, "room": _room, "night": _night, "beach": _beach}
