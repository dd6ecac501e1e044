"""Points of rows in a plane, which can be told apart without colours."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes

# Shapes that don't look like each other when they are small; a further round of them is open, and one is half open.
SHAPES = "osD^vPX*"
FILLS: tuple[Literal["full", "none", "right"], ...] = ("full", "none", "right")
LARGER = 1.5  # a star of the same size is smaller


def draw_point(axes: Axes, x: float, y: float, place: int, colour: str, label: str) -> None:
    """The point of the row at this place in the legend."""
    shape, fill = SHAPES[place % len(SHAPES)], FILLS[place // len(SHAPES) % len(FILLS)]
    full = fill == "full"
    axes.plot(
        [x], [y], shape, color=colour, label=label, fillstyle=fill, markerfacecoloralt="white", zorder=2,
        markersize=5 * (LARGER if shape == "*" else 1), markeredgewidth=0.4 if full else 0.9,
        markeredgecolor="white" if full else colour,
    )  # fmt: skip
