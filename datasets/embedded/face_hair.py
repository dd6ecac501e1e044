"""The hair of a drawn face, and its hat: hair behind and in front of the head, beard, mustache.

Each function draws one part with `pen`, by the attributes that the face `has`.
"""

from __future__ import annotations

import numpy as np

from datasets.embedded.face_shapes import (
    WHITE,
    Attributes,
    Look,
    Pen,
    Variation,
    arc,
    band,
    ellipse,
    mirrored,
    mix,
    shade,
    smooth,
    vivid,
)


def behind(pen: Pen, has: Attributes, look: Look) -> None:
    if has["Bald"] or has["Male"]:
        return
    side = look.half_width + 7
    top, length = arc(0, 40, side, 34, 180, 360), 98.0
    if has["Straight_Hair"]:
        fall = np.array(((side + 1, 102), (10, 102), (-10, 102), (-side - 1, 102)))
    elif has["Wavy_Hair"]:
        fall = np.array(((side, 92), (-side, 92)))
        length = 92.0
        for step, y in enumerate(range(30, 96, 9)):
            pen.fill_both(ellipse(side - 1 + 3 * (step % 2), y, 6, 6), look.hair)
    else:
        fall = arc(0, 58, side, 17, 0, 180)
    pen.fill(np.concatenate((top, fall)), look.hair)
    _strands(pen, has, look, (side - 5.5, side - 1.5), (36, length))


def in_front(pen: Pen, has: Attributes, look: Look) -> None:
    width = look.half_width
    if has["Sideburns"]:
        y = np.linspace(44, 71, 8)
        edge = np.interp(y, look.outline[:, 1], look.outline[:, 0])
        pen.fill_both(np.column_stack((np.r_[edge + 1, edge[::-1] - 6.5], np.r_[y, y[::-1]])), look.whiskers)
    if has["Bald"]:
        pen.fill(ellipse(-8, 25, 6, 4), (*WHITE, 170))
        return
    out = width + (5 if has["Male"] else 6)
    foot = 55 if has["Straight_Hair"] else 50
    line: tuple[tuple[float, float], ...]
    if has["Receding_Hairline"]:
        line = ((width - 0.5, 40), (width - 2, 29), (width * 0.62, 17), (width * 0.36, 22), (0, 24))
    else:
        line = ((width - 2.5, 42), (width - 5, 34), (width * 0.5, 29.5), (width * 0.25, 29), (0, 29))
    inner = np.array([*line, *((-x, y) for x, y in reversed(line[:-1]))])
    feet = np.array(((out - 0.5, foot), (width - 1, foot)))
    top = arc(0, 40, out, 33, 180, 360)
    pen.fill(np.concatenate((top, feet, inner, feet[::-1] * (-1, 1))), look.hair)
    if has["Wavy_Hair"]:
        for angle in np.linspace(-np.pi, 0, 13):
            pen.fill(ellipse(out * np.cos(angle), 40 + 31 * np.sin(angle), 5, 5), look.hair)
        pen.fill_both(ellipse(out, 47, 4.5, 5), look.hair)
    if has["Bangs"]:
        for middle in np.linspace(-width * 0.66, width * 0.66, 5):
            lock = ((middle - 5, 26), (middle + 5, 26), (middle + 4, 35), (middle - 1, 39))
            pen.fill(smooth(np.array(lock)), look.hair)
    if not has["Receding_Hairline"]:
        for foot_x in (-0.6, -0.2, 0.2, 0.6):
            _strand(pen, has, look, (foot_x * 0.55 * width, 10.5), (foot_x * width, 26.5))
    if has["Male"]:
        _strands(pen, has, look, (out - 2.5,), (30, foot - 1))


def _strands(pen: Pen, has: Attributes, look: Look, xs: tuple[float, ...], rows: tuple[float, float]) -> None:
    for x in xs:
        for side in (-1, 1):
            _strand(pen, has, look, (side * x, rows[0]), (side * x, rows[1]))


def _strand(pen: Pen, has: Attributes, look: Look, start: tuple[float, float], end: tuple[float, float]) -> None:
    """A bright strand: straight or wavy like the hair; none if the hair is neither."""
    if not (has["Straight_Hair"] or has["Wavy_Hair"]):
        return
    along = np.linspace(0, 1, 16)[:, None]
    points = np.array(start) + along * (np.array(end) - np.array(start))
    if has["Wavy_Hair"]:
        points[:, 0] += 1.8 * np.sin(points[:, 1] * 2 * np.pi / 11)
    pen.fill(band(points, 1.7), mix(look.hair, WHITE, 0.4))


def beard(pen: Pen, has: Attributes, look: Look, variation: Variation) -> None:
    """Stubble over the lower face, or a band of beard along the jaw where no other growth says that there is one."""
    jaw = look.outline[look.outline[:, 1] > 59]
    if has["5_o_Clock_Shadow"]:
        pen.fill(np.concatenate((jaw, jaw[::-1] * (-1, 1), arc(0, 58, jaw[0, 0], 7, 180, 0))), (70, 76, 90, 120))
        y = 66 + variation.speckles[:, 1] * (look.chin - 67)
        x = (2 * variation.speckles[:, 0] - 1) * np.interp(y, jaw[:, 1], jaw[:, 0] - 1)
        for dot in np.column_stack((x, y)):
            pen.fill(ellipse(dot[0], dot[1], 0.65, 0.65, 7), (44, 44, 56))
    elif not (has["No_Beard"] or has["Goatee"] or has["Mustache"]):
        rim = (jaw - (0, 60)) * (1.04, 1.14) + (0, 60)
        pen.fill(np.concatenate((rim, rim[::-1] * (-1, 1), arc(0, 60, jaw[0, 0] - 5, 19, 180, 0))), look.whiskers)
    if has["Goatee"]:
        tuft = ((0, 78.5), (6, 78), (8.5, look.chin), (4.5, look.chin + 7), (0, look.chin + 9))
        pen.fill(smooth(mirrored(tuft)), look.whiskers)


def mustache(pen: Pen, has: Attributes, look: Look) -> None:
    if has["Mustache"]:
        growth = ((0, 65.5), (6, 64.5), (13, 69.5), (17, 75.5), (8, 71.5), (0, 70.5))
        pen.fill(smooth(mirrored(growth)), look.whiskers)


def hat(pen: Pen, has: Attributes, look: Look, variation: Variation) -> None:
    if not has["Wearing_Hat"]:
        return
    width, felt = look.half_width, vivid(variation.hues[2], 0.75, 0.8)
    pen.fill(arc(0, 27, width + 5, 32, 180, 360), felt)
    pen.fill(mirrored(((0, 19), (width + 4.5, 19), (width + 6, 26), (0, 26))), shade(felt, 0.45))
    pen.fill(smooth(mirrored(((0, 24), (width + 9, 24), (width + 13, 26.5), (width + 9, 29), (0, 28.5)))), felt)
