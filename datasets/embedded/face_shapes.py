"""Drawing primitives for the parts of a face: a pen, shapes, colours, and common proportions.

Coordinates are pixels of the finished picture: x to the right of the middle of the face, y down from the top edge.
The whole face is rotated, scaled and shifted when its points are placed on the canvas.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

Attributes = Mapping[str, bool]
Points = NDArray[np.float64]  # (n, 2)
Colour = tuple[int, ...]  # red, green, blue and, if it is translucent, opacity

WHITE, INK = (255, 255, 255), (30, 24, 28)


@dataclass(frozen=True)
class Variation:
    """The random draws in which two pictures of the same attributes differ.

    turn: rotation of the face, in degrees.
    side: direction in which a crooked face leans, -1 or 1.
    """

    turn: float
    scale: float
    shift: Points
    side: int
    width: float
    skin: float
    hues: Points  # of background, clothes, hat, jewels, eyelids, irises
    backdrop: Points
    hair: float
    lips: int
    light: Points
    brightness: float
    speckles: Points
    noise: NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """Colours and proportions common to several parts of a face. outline: its right half, from top to chin."""

    skin: Colour
    hair: Colour
    whiskers: Colour
    half_width: float
    chin: float
    outline: Points


@dataclass(frozen=True)
class Pen:
    """Fills shapes on the canvas. slope: lowers the right side of a shape and raises the left."""

    canvas: ImageDraw.ImageDraw
    matrix: Points
    offset: Points
    slope: float = 0.0

    def fill(self, points: Points, colour: Colour) -> None:
        level = points + np.outer(points[:, 0], (0.0, self.slope))
        self.canvas.polygon((level @ self.matrix.T + self.offset).ravel().tolist(), fill=colour)

    def fill_both(self, points: Points, colour: Colour) -> None:
        self.fill(points, colour)
        self.fill(points * (-1, 1), colour)


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, n: int = 25) -> Points:
    """n points of an ellipse between two angles in degrees, clockwise from the right as seen in the picture."""
    angles = np.deg2rad(np.linspace(start, stop, n))
    return np.column_stack((x + rx * np.cos(angles), y + ry * np.sin(angles)))


def ellipse(x: float, y: float, rx: float, ry: float, n: int = 25) -> Points:
    return arc(x, y, rx, ry, 0, 360, n)


def mirrored(half: Sequence[tuple[float, float]]) -> Points:
    """The closed, symmetric shape with this right half, given from top to bottom."""
    left = [(-x, y) for x, y in reversed(half) if x > 0]
    return np.array([*half, *left], dtype=np.float64)


def smooth(corners: Points, n: int = 6) -> Points:
    """The closed Catmull-Rom curve through the corners, in n pieces between two of them."""
    before, after, second = (np.roll(corners, -step, axis=0)[:, None] for step in (-1, 1, 2))
    here, t = corners[:, None], np.linspace(0, 1, n, endpoint=False)[None, :, None]
    bend = (2 * before - 5 * here + 4 * after - second) * t**2 + (3 * here - before - 3 * after + second) * t**3
    curve: Points = here + 0.5 * ((after - before) * t + bend)
    return curve.reshape(-1, 2)


def band(line: Points, width: float) -> Points:
    """The outline of a line drawn with a flat brush of that width."""
    along = np.gradient(line, axis=0)
    across = along[:, ::-1] * (-1, 1) / np.linalg.norm(along, axis=1, keepdims=True) * width / 2
    return np.concatenate((line + across, (line - across)[::-1]))


def shade(colour: Colour, factor: float) -> Colour:
    return tuple(min(255, round(channel * factor)) for channel in colour)


def shadow(skin: Colour, factor: float) -> Colour:
    """Darker and redder skin; without red, shadows on pale skin look like dirt."""
    return tuple(round(channel * factor**depth) for channel, depth in zip(skin, (0.8, 1.15, 1.15), strict=True))


def mix(one: Colour, other: Colour, share: float) -> Colour:
    return tuple(round((1 - share) * a + share * b) for a, b in zip(one, other, strict=True))


def vivid(hue: float, saturation: float, value: float) -> Colour:
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
