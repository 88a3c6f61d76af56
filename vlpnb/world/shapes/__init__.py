"""How each kind of thing is drawn: one short function per kind, in a box of 100 × 100 units (y points down).

A `Pen` draws filled, outlined primitives. What is drawn in the body colour also goes into a mask: patterns and
materials are painted through it afterwards, so that details (eyes, wheels, leaves) stay. `DRAWINGS` maps the
name of a kind to its function; `vlpnb/world/render.py` decides colours, sizes and places.
"""

from collections.abc import Callable

from vlpnb.world.shapes import animals, plants, structures, things
from vlpnb.world.shapes.pen import Pen, mix

__all__ = ["DRAWINGS", "Pen", "mix"]

DRAWINGS: dict[str, Callable[[Pen], None]] = {
    draw.__name__: draw for module in (plants, animals, things, structures) for draw in module.SHAPES
}
