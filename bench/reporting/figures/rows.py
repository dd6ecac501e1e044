"""The frame of figures in which every row of a table has a line of its own."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.reporting.figures.style import GRID, STYLE, WIDTH, folded

# Inches, of a row, of the axis below, and of a title above.
ROW, AXIS, TITLE = 0.2, 0.75, 0.15
EXTRA_LINE = 0.9  # height of each further line of a label, in rows


def rows_figure(labels: Sequence[str]) -> tuple[Figure, Axes, list[float]]:
    """A figure of one panel with a line for each label, and the height of each line; to be called in `paper_style`."""
    names, places, end = _lines(labels)
    figure = Figure(figsize=(WIDTH, AXIS + ROW * end))
    axes = figure.subplots()
    _prepare(axes, names, places, end)
    return figure, axes, places


def name_axis(figure: Figure, text: str, parse_math: bool = False) -> None:
    """Names the axis below the whole figure: with long labels, the axis is too short for it."""
    figure.supxlabel(text, fontsize=STYLE["axes.labelsize"], parse_math=parse_math)


def panels_figure(labels: Sequence[str], titles: Sequence[str], columns: int) -> tuple[Figure, list[Axes], list[float]]:
    """The same with a panel for each title, at most `columns` side by side."""
    names, places, end = _lines(labels)
    columns = min(columns, len(titles))
    deep = -(-len(titles) // columns)
    figure = Figure(figsize=(2 * WIDTH, deep * (AXIS + TITLE + ROW * end)))
    grid = list(figure.subplots(deep, columns, squeeze=False).flatten())
    for place, (axes, title) in enumerate(zip(grid, titles, strict=False)):
        _prepare(axes, names if place % columns == 0 else [""] * len(names), places, end)
        axes.set_title(title)
    for axes in grid[len(titles) :]:
        axes.remove()
    return figure, grid[: len(titles)], places


def _lines(labels: Sequence[str]) -> tuple[list[str], list[float], float]:
    """What is written beside the lines, their heights from the top, and that of the end."""
    names = [folded(label) for label in labels]
    heights = [1 + EXTRA_LINE * name.count("\n") for name in names]
    places = [sum(heights[:row]) + heights[row] / 2 for row in range(len(names))]
    return names, places, sum(heights)


def _prepare(axes: Axes, names: Sequence[str], places: Sequence[float], end: float) -> None:
    axes.set_yticks(places, names)
    axes.set_ylim(end, 0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", **GRID)
    axes.set_axisbelow(True)
