"""Colours of figures on a dark page: as far from it as they are from white paper."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable

DARK_PAPER = "#16181d"
CONTRAST = 4.5  # of a line or a letter against the page, as WCAG 2.2 asks of text
_COLOUR = re.compile(r'(?:fill|stroke)="(#[0-9a-f]{6})"')
_GREY = 0.08  # saturation below which a colour has no hue to keep
_STEPS = 100


def dark_rules(drawings: Iterable[str]) -> str:
    """CSS for every colour in the drawings: as it is on a light page, and its counterpart on a dark one."""
    colours = sorted({colour for text in drawings for colour in _COLOUR.findall(text)})
    return "\n".join(
        f'svg [{name}="{colour}"] {{ {name}: light-dark({colour}, {on_dark(colour)}); }}'
        for colour in colours
        for name in ("fill", "stroke")
    )


def on_dark(colour: str) -> str:
    """The colour, light enough for a dark page; greys change places, so that white becomes the page."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*_shares(colour))
    if saturation < _GREY:
        _, lowest, _ = colorsys.rgb_to_hls(*_shares(DARK_PAPER))
        return _hex(hue, lowest + (1 - lightness) * (0.92 - lowest), saturation)
    for step in range(_STEPS + 1):
        lighter = _hex(hue, lightness + (1 - lightness) * step / _STEPS, saturation)
        if contrast(lighter, DARK_PAPER) >= CONTRAST:
            return lighter
    return "#ffffff"


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21.

    Source: WCAG 2.2. https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
    """
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in _shares(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _shares(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def _hex(hue: float, lightness: float, saturation: float) -> str:
    return "#" + "".join(f"{round(255 * share):02x}" for share in colorsys.hls_to_rgb(hue, lightness, saturation))
