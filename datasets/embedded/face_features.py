"""The parts of a drawn face except its hair: neck and clothes, head, cheeks, mouth, nose, eyes, glasses, earrings.

Each function draws one part with `pen`, by the attributes that the face `has`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.embedded.face_shapes import (
    INK,
    WHITE,
    Attributes,
    Colour,
    Look,
    Pen,
    Points,
    Variation,
    arc,
    band,
    ellipse,
    mirrored,
    mix,
    shade,
    shadow,
    smooth,
    vivid,
)

LIPSTICKS: Sequence[Colour] = ((228, 0, 32), (240, 16, 136), (160, 16, 160))


def body(pen: Pen, has: Attributes, look: Look, variation: Variation) -> None:
    neck, shoulder = (15.0, 46.0) if has["Male"] else (10.0, 37.0)
    skin = shadow(look.skin, 0.86)
    clothes = vivid(variation.hues[1], 0.45, 0.55)
    pen.fill(mirrored(((0, 91), (neck + 2, 91), (shoulder * 0.85, 97), (shoulder, 106), (shoulder, 130))), clothes)
    pen.fill(mirrored(((0, 70), (neck, 70), (neck, 89), (neck + 3, 93), (neck * 0.6, 102), (0, 104))), skin)
    if has["Wearing_Necktie"]:
        tie = vivid(variation.hues[2], 0.95, 0.75)
        pen.fill(mirrored(((0, 95), (neck + 1, 88), (neck + 5, 95), (7, 130), (0, 130))), WHITE)
        pen.fill(mirrored(((0, 93), (6, 93), (3.5, 99), (8.5, 130), (0, 130))), shade(tie, 0.8))
        pen.fill(mirrored(((0, 93), (6, 93), (3.5, 99), (0, 99))), tie)
    if has["Wearing_Necklace"]:
        pearl = vivid(variation.hues[3], 0.25, 1.0)
        for x, y in arc(0, 86, neck + 4, 13, 15, 165, 8):
            pen.fill(ellipse(x, y, 3.1, 3.1), INK)
            pen.fill(ellipse(x, y, 2.5, 2.5), pearl)


def head(pen: Pen, has: Attributes, look: Look) -> None:
    rim = shadow(look.skin, 0.58)
    if has["Double_Chin"]:
        pen.fill(ellipse(0, look.chin - 2, look.half_width * 0.8, 12.5), rim)
        pen.fill(ellipse(0, look.chin - 2, look.half_width * 0.8 - 1.3, 11.2), look.skin)
    pen.fill_both(ellipse(look.half_width + 0.5, 53, 4.5, 7), rim)
    pen.fill_both(ellipse(look.half_width + 0.5, 53, 3.3, 5.8), look.skin)
    face = np.concatenate((look.outline, look.outline[::-1] * (-1, 1)))
    around = (0, 50)
    pen.fill((face - around) * (1.03, 1.045) + around, rim)
    pen.fill(face, look.skin)


def cheeks(pen: Pen, has: Attributes, look: Look) -> None:
    width = look.half_width
    if has["High_Cheekbones"]:
        pen.fill_both(ellipse(width - 7, 55.5, 5, 3), (*WHITE, 130))
        hollow = np.array(((width - 1.5, 57.5), (width - 7, 60.5), (width - 11, 66)))
        pen.fill_both(band(hollow, 3.2), shadow(look.skin, 0.55))
    if has["Rosy_Cheeks"]:
        pen.fill_both(ellipse(width - 9.5, 64, 5.8, 5.2), (246, 70, 110, 200))


def wrinkles(pen: Pen, has: Attributes, look: Look) -> None:
    if has["Young"]:
        return
    crease = shadow(look.skin, 0.58)
    x = np.linspace(-12, 12, 9)
    for y in (31.0, 34.5):
        pen.fill(band(np.column_stack((x, y + np.cos(x / 3))), 1.3), crease)
    for fold in (((5.5, 63), (10, 66), (14.5, 71.5), (15.5, 77)), ((18.5, 50), (24, 47)), ((18.5, 52), (24, 54))):
        pen.fill_both(band(np.array(fold, dtype=np.float64), 1.6), crease)


def mouth(pen: Pen, has: Attributes, look: Look, variation: Variation) -> None:
    half, lift = (12.0, 6.0) if has["Smiling"] else (9.0, -1.2)
    plump = 2.8 if has["Big_Lips"] else 1.1
    gap = 2.4 if has["Mouth_Slightly_Open"] else 0.0
    lips = LIPSTICKS[variation.lips] if has["Wearing_Lipstick"] else mix(look.skin, (112, 40, 44), 0.62)
    x = np.linspace(-1, 1, 17)
    middle, fullness = 72.5 + lift * (0.4 - x**2), np.sqrt(1 - x**2)
    bow = 1.5 - 0.5 * np.exp(-((x / 0.15) ** 2))  # of the upper lip, dipping below the nose

    def between(upper: float | NDArray[np.float64], lower: float, share: float) -> Points:
        """The part of the mouth from `upper` above its middle line to `lower` below, over a `share` of its width."""
        rows = np.r_[middle - fullness * upper, (middle + fullness * lower)[::-1]]
        return np.column_stack((share * half * np.r_[x, x[::-1]], rows))

    pen.fill(between(gap + plump * bow, gap + plump * 1.9, 1.0), lips)
    if has["Mouth_Slightly_Open"]:
        pen.fill(between(gap, gap, 0.84), (52, 10, 18))
        pen.fill(between(gap, -0.1 * gap, 0.7), WHITE)
    else:
        pen.fill(band(np.column_stack((half * x, middle)), 1.0), shade(lips, 0.5))


def nose(pen: Pen, has: Attributes, look: Look) -> None:
    broad = 2.1 if has["Big_Nose"] else 1.0
    dark, light = shadow(look.skin, 0.6), mix(look.skin, WHITE, 0.4)
    if has["Pointy_Nose"]:
        pen.fill(mirrored(((0, 43), (1.4, 45), (5.4 * broad, 62), (0, 70))), dark)
        pen.fill(mirrored(((0, 47), (2.8 * broad, 61), (0, 65))), light)
        return
    bulb = ((0, 54.5), (2.8 * broad, 56.5), (5.4 * broad, 61), (3.8 * broad, 65), (0, 66))
    pen.fill(smooth(mirrored(bulb)), dark)
    pen.fill(smooth(mirrored(((0, 56), (2.2 * broad, 57.5), (3.6 * broad, 60.5), (0, 63)))), light)
    pen.fill_both(ellipse(2.3 * broad, 63.5, 1.4 * broad, 1.4), shadow(look.skin, 0.25))


def eyes(pen: Pen, has: Attributes, variation: Variation) -> None:
    height = 1.6 if has["Narrow_Eyes"] else 4.6
    if has["Heavy_Makeup"]:
        powder = vivid(0.45 + 0.4 * variation.hues[4], 0.8, 0.75)
        lid = ((3.2, 50.5), (5, 44), (11, 41.5), (17.5, 43), (21, 48), (17, 52), (9, 53))
        pen.fill_both(smooth(np.array(lid)), powder)
    if has["Bags_Under_Eyes"]:
        pen.fill_both(band(arc(11, 50, 7, 8, 15, 165), 3.2), (88, 60, 104, 215))
    pen.fill_both(ellipse(11, 50, 6.2, height), WHITE)
    iris = min(3.3, height)
    pen.fill_both(ellipse(11, 50, 3.3, iris), vivid(variation.hues[5], 0.7, 0.5))
    pen.fill_both(ellipse(11, 50, 1.7, min(1.7, height)), INK)
    pen.fill_both(band(arc(11, 50, 6.6, height + 0.3, 180, 360), 1.3), INK)
    if not has["Male"]:
        pen.fill_both(band(np.array(((16.5, 49 - height / 2), (20.5, 46.5 - height / 2))), 1.6), INK)


def eyebrows(pen: Pen, has: Attributes, look: Look) -> None:
    x = np.linspace(4.5, 18.5, 9)
    arched, flat = 42.5 - 7.5 * (1 - np.abs(x - 12.5) / 8) ** 0.8, 42 - np.cos((x - 11.5) / 5)
    y = arched if has["Arched_Eyebrows"] else flat
    pen.fill_both(band(np.column_stack((x, y)), 5.2 if has["Bushy_Eyebrows"] else 2.0), shade(look.hair, 0.6))


def glasses(pen: Pen, has: Attributes, look: Look) -> None:
    if has["Eyeglasses"]:
        pen.fill_both(ellipse(11, 50.5, 9.2, 8.6), (*WHITE, 45))
        pen.fill_both(band(arc(11, 50.5, 9.4, 8.8, 0, 360), 2.2), INK)
        pen.fill_both(band(np.array(((0, 49), (2, 49))), 2.2), INK)
        pen.fill_both(band(np.array(((20, 49), (look.half_width + 2, 48))), 2.2), INK)


def earrings(pen: Pen, has: Attributes, look: Look, variation: Variation) -> None:
    width = look.half_width
    if has["Wearing_Earrings"]:
        pen.fill_both(ellipse(width + 3, 65, 5, 5), INK)
        pen.fill_both(ellipse(width + 3, 65, 4, 4), vivid(variation.hues[3], 0.9, 1.0))
        pen.fill_both(ellipse(width + 2, 63.8, 1.5, 1.5), WHITE)
