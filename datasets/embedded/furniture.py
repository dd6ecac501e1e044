"""The contents of rooms: solids, pieces of furniture built from them, and their arrangement.

World: x, y along the walls, z up, metres. A piece is a list of solids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A shape is the intersection of unit balls over some of the axes: three slabs, a disc and a slab, or one ball.
SHAPES = {
    "box": (slice(0, 1), slice(1, 2), slice(2, 3)),
    "cylinder": (slice(0, 2), slice(2, 3)),
    "ellipsoid": (slice(0, 3),),
}


@dataclass(frozen=True)
class Solid:
    """A unit shape scaled by `half` (3,), turned by `yaw` (radians) about the vertical and moved to `centre` (3,)."""

    label: str
    shape: str
    centre: Floats
    half: Floats
    yaw: float = 0.0


def part(label: str, at: Sequence[float], size: Sequence[float] | Floats, shape: str = "box") -> Solid:
    """A solid of `size` (3,) with the centre of its base `at` (3,)."""
    half = np.asarray(size, dtype=np.float64) / 2
    return Solid(label, shape, np.array([at[0], at[1], at[2] + half[2]]), half)


def rotation(yaw: float) -> Floats:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def moved(piece: Sequence[Solid], to: Sequence[float] | Floats, yaw: float = 0.0) -> list[Solid]:
    turn = rotation(yaw)
    return [replace(solid, centre=turn @ solid.centre + to, yaw=solid.yaw + yaw) for solid in piece]


def things(rng: Generator, width: float, depth: float, height: float) -> list[Solid]:
    """Two to four objects on a surface of this size, centred on (0, 0, height)."""
    xs = np.linspace(-0.38, 0.38, rng.integers(2, 5)) * width
    places = [(x, rng.uniform(-0.25, 0.25) * depth, height) for x in xs]
    return [part("objects", at, rng.uniform(0.12, 0.32, 3), rng.choice(list(SHAPES))) for at in places]


def bed(rng: Generator) -> list[Solid]:
    w, d, h = rng.uniform((1.0, 1.9, 0.35), (1.8, 2.1, 0.6))
    pillows = [part("objects", (x, 0.3, h - 0.04), (0.5, 0.35, 0.2), "ellipsoid") for x in (-w / 4, w / 4)]
    return [part("bed", (0, d / 2, 0), (w, d, h)), part("furniture", (0, 0.04, 0), (w, 0.08, h + 0.45)), *pillows]


def sofa(rng: Generator) -> list[Solid]:
    w, d, h = rng.uniform((1.5, 0.8, 0.38), (2.3, 0.95, 0.48))
    arms = [part("sofa", (x, d / 2, 0), (0.2, d, h + 0.2)) for x in (0.1 - w / 2, w / 2 - 0.1)]
    cushion = part("sofa", (w / 5, 0.36, h), (0.45, 0.2, 0.4), "ellipsoid")
    return [part("sofa", (0, d / 2, 0), (w, d, h)), part("sofa", (0, 0.13, 0), (w, 0.26, h + 0.45)), *arms, cushion]


def on_legs(label: str, width: float, depth: float, height: float, thick: float) -> list[Solid]:
    x, y = (width - thick) / 2, (depth - thick) / 2
    corners = ((-x, -y, 0), (-x, y, 0), (x, -y, 0), (x, y, 0))
    legs = [part(label, corner, (thick, thick, height - thick), "cylinder") for corner in corners]
    return [part(label, (0, 0, height - thick), (width, depth, thick)), *legs]


def chair(rng: Generator) -> list[Solid]:
    h = rng.uniform(0.42, 0.5)
    return [*on_legs("chair", 0.48, 0.48, h, 0.07), part("chair", (0, 0.21, h), (0.46, 0.05, rng.uniform(0.4, 0.55)))]


def table(rng: Generator) -> list[Solid]:
    w, d, h = rng.uniform((1.1, 0.7, 0.68), (1.8, 1.0, 0.78))
    seats = []
    for x in (-w / 4, w / 4):
        for side, yaw in ((-1, np.pi), (1, 0.0)):
            if rng.random() < 0.5:
                seats += moved(chair(rng), (x, side * (d / 2 + 0.15), 0), yaw + rng.uniform(-0.3, 0.3))
    return [*on_legs("table", w, d, h, 0.07), *things(rng, w, d, h), *seats]


def desk(rng: Generator) -> list[Solid]:
    w, d, h = rng.uniform((1.0, 0.6, 0.7), (1.5, 0.75, 0.76))
    seat = moved(chair(rng), (rng.uniform(-0.2, 0.2), d + 0.2, 0), rng.uniform(-0.6, 0.6))
    screen = [part("tv", (0, 0.15, h + 0.06), (0.75, 0.05, 0.45)), part("objects", (0, 0.15, h), (0.25, 0.15, 0.06))]
    pile = part("books", (0.36 * w, 0.3, h), (0.22, 0.26, 0.24))
    return [*moved(on_legs("table", w, d, h, 0.07), (0, d / 2, 0)), *screen, pile, *seat]


def bookcase(rng: Generator) -> list[Solid]:
    w, d = rng.uniform((0.8, 0.28), (1.5, 0.36))
    levels, gap = int(rng.integers(3, 6)), 0.38
    sides = [part("furniture", (x, d / 2, 0), (0.04, d, levels * gap)) for x in (-w / 2, w / 2)]
    boards = [part("furniture", (0, d / 2, k * gap), (w, d, 0.04)) for k in range(levels + 1)]
    sizes = [rng.uniform((0.45 * w, 0.2, 0.22), (0.9 * w, 0.9 * d, 0.31)) for _ in range(levels)]
    rows = [part("books", ((w - size[0]) / 2 * (-1) ** k, d / 2, k * gap + 0.04), size) for k, size in enumerate(sizes)]
    return [part("furniture", (0, 0.01, 0), (w, 0.02, levels * gap)), *sides, *boards, *rows]


def cabinet(rng: Generator) -> list[Solid]:
    """A wardrobe, or a sideboard with a television or a few things on it."""
    w, d, h = rng.uniform((1.0, 0.4, 0.45), (1.8, 0.55, 0.9))
    body = part("furniture", (0, d / 2, 0), (w, d, h))
    kind = rng.choice(["wardrobe", "television", "things"], p=[0.3, 0.4, 0.3])
    if kind == "wardrobe":
        return [replace(body, centre=body.centre * (1, 1, 2.4), half=body.half * (1, 1, 2.4))]
    if kind == "television":
        return [body, part("tv", (0, d / 2, h), (rng.uniform(0.8, 1.15), 0.08, rng.uniform(0.5, 0.65)))]
    return [body, *moved(things(rng, w, d, h), (0, d / 2, 0))]


def lamp_or_plant(rng: Generator) -> list[Solid]:
    if rng.random() < 0.5:
        pole, shade = ((0.06, 0.06, 1.4), (0.45, 0.45, 0.3))
        return [part("objects", (0, 0, 0), pole, "cylinder"), part("objects", (0, 0, 1.2), shade, "cylinder")]
    leaves = rng.uniform((0.4, 0.4, 0.5), (0.6, 0.6, 0.9))
    return [part("objects", (0, 0, 0), (0.3, 0.3, 0.35), "cylinder"), part("objects", (0, 0, 0.3), leaves, "ellipsoid")]


def hanging(label: str, low: Sequence[float], high: Sequence[float]) -> Callable[[Generator], list[Solid]]:
    """A maker of thin rectangles on a wall: width, height and lower edge (3,) lie between `low` and `high`."""

    def hang(rng: Generator) -> list[Solid]:
        w, h, z = rng.uniform(low, high)
        return [part(label, (0, 0.02, z), (w, 0.04, h))]

    return hang


# The contents of a room: a maker, whether it needs a wall, and the maximum number. Earlier ones are placed first.
# A piece that needs a wall is made with the wall at y = 0 and extends into y > 0; others are made around the origin.
CATALOGUE = (
    (bed, True, 1),
    (sofa, True, 1),
    (bookcase, True, 2),
    (desk, True, 1),
    (cabinet, True, 2),
    (table, False, 2),
    (chair, False, 2),
    (lamp_or_plant, False, 2),
    (hanging("window", (0.8, 0.8, 0.9), (1.6, 1.2, 1.1)), True, 3),
    (hanging("picture", (0.4, 0.4, 1.3), (1.0, 0.8, 1.6)), True, 5),
    (hanging("tv", (0.9, 0.55, 1.1), (1.3, 0.75, 1.3)), True, 1),
)


def shell(size: Floats) -> list[Solid]:
    """Floor, ceiling and walls around the room [0, size] as slabs, so that every ray hits a solid."""
    slabs = []
    for axis, labels in enumerate((("wall", "wall"), ("wall", "wall"), ("floor", "ceiling"))):
        for label, side in zip(labels, (0.0, size[axis]), strict=True):
            centre, half = size / 2, size / 2 + 0.2
            centre[axis], half[axis] = side + np.sign(side - 0.1) * 0.1, 0.1
            slabs.append(Solid(label, "box", centre, half))
    return slabs


def extent(piece: Sequence[Solid]) -> tuple[Floats, Floats]:
    """Lowest and highest corner (3,) of the axis-aligned box around a piece."""
    reach = [np.abs(rotation(solid.yaw)) @ solid.half for solid in piece]
    low = np.min([solid.centre - r for solid, r in zip(piece, reach, strict=True)], axis=0)
    return low, np.max([solid.centre + r for solid, r in zip(piece, reach, strict=True)], axis=0)


def furnish(rng: Generator, size: Floats, eye: Floats) -> list[Solid]:
    """The room's shell, and pieces at random free places; none in front of the camera at `eye` (3,)."""
    solids = shell(size)
    taken = [(eye - np.array([0.8, 1, 2]), eye + np.array([0.8, 1.2, 1]))]
    wishes = [(make_piece, wall) for make_piece, wall, most in CATALOGUE for _ in range(rng.integers(most + 1))]
    for make_piece, at_wall in wishes:
        piece = make_piece(rng)
        low, high = extent(piece)
        middle, half = (low + high) / 2, (high - low) / 2
        for _ in range(30):
            x, y = rng.uniform((0, 0.2), (1, 1)) * size[:2]
            walls = ((x, size[1], np.pi), (0, y, -np.pi / 2), (size[0], y, np.pi / 2))
            x, y, yaw = walls[rng.integers(3)] if at_wall else (x, y, rng.uniform(0, 2 * np.pi))
            centre, reach = rotation(yaw) @ middle + (x, y, 0), np.abs(rotation(yaw)) @ half
            low, high = centre - reach, centre + reach
            inside = (low > -1e-6).all() and (high < size + 1e-6).all()
            if inside and not any((low < b).all() and (a < high).all() for a, b in taken):
                taken.append((low, high))
                solids += moved(piece, (x, y, 0), yaw)
                break
    return solids
