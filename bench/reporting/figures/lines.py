"""Figures of lines over training: all rows in one panel, or a panel for each row or task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.reporting.figures.style import DASHES, GREY, GRID, MARKERS, WIDTH, folded, paper_style
from bench.reporting.series import Band
from bench.reporting.spacing import evenly_spaced_places

# More lines than this in a panel can't be told apart.
MOST_LINES = 9
MOST_SHADED = 5  # lines in a panel, from the lowest to the highest seed; with more, the shades hide the lines
COLUMNS = 4  # of panels
MOST_PANELS = 24  # as many as fit on a page
# Inches: a panel's height, what is below all, a line of the legend, and a further line of a title.
PANEL, AXIS, LEGEND_LINE, TITLE_LINE = 1.25, 0.35, 0.175, 0.18
FOLDED = 0.25  # of a line of the legend, that a label of several lines takes beyond them
POINTS = 24  # of a line in a small panel: more can't be seen there, and make pages of many panels large
ROOM = 0.1  # beyond what an axis spans, as a share of it
MARKS = 7  # on a line, so that it is told from others in grey


@dataclass(frozen=True)
class Line:
    """A named line with its band. marker: empty for none."""

    label: str
    colour: str
    band: Band
    dashes: Any = DASHES[0]
    marker: str = ""


@dataclass(frozen=True)
class Panel:
    """Lines that share a panel.

    title: empty for none.
    factor: of the numbers, 100 for shares in per cent.
    """

    title: str
    lines: Sequence[Line]
    factor: float = 1.0


@dataclass(frozen=True)
class Scale:
    """The axes of all panels.

    shared: whether the panels have the same y axis.
    zoomed: whether it leaves out what lies beyond all means after a quarter of training.
    """

    x: str
    y: str
    shared: bool = True
    zoomed: bool = False


def marked(place: int) -> str:
    """The marker of a line by its place in the legend."""
    return MARKERS[place % len(MARKERS)]


def lines_figure(panels: Sequence[Panel], scale: Scale) -> Figure | None:
    """The panels in a grid, with one legend of all names below; None without lines.

    Lines of the same name must look alike.
    """
    panels = [panel for panel in panels if panel.lines]
    if not panels:
        return None
    columns = min(COLUMNS, len(panels))
    deep = -(-len(panels) // columns)
    named = {line.label: line for panel in panels for line in panel.lines}
    labels = [folded(label) for label in named]
    width = WIDTH if len(panels) == 1 else 2 * WIDTH
    across = legend_columns(labels, width)
    with paper_style():
        height = 1.65 if len(panels) == 1 else deep * PANEL + TITLE_LINE * _further_lines(panels, columns)
        figure = Figure(figsize=(width, height + AXIS + LEGEND_LINE * legend_depth(labels, across)))
        grid: list[Axes] = list(figure.subplots(deep, columns, squeeze=False).flatten())
        for axes in grid[len(panels) :]:
            axes.remove()
        grid = grid[: len(panels)]
        for axes, panel in zip(grid, panels, strict=True):
            _draw(axes, panel)
            if scale.zoomed:
                _zoom(axes, panels if scale.shared else [panel])
        _align(grid, columns, scale)
        figure.supylabel(scale.y, fontsize="medium")
        handles = [_handle(line) for line in named.values()]
        figure.legend(handles, labels, loc="outside lower center", ncols=across, handlelength=2.2, columnspacing=1.2)
    return figure


def _further_lines(panels: Sequence[Panel], columns: int) -> int:
    """Lines of titles beyond the first, of the longest title of each row of panels."""
    lines = [panel.title.count("\n") for panel in panels]
    return sum(max(lines[first : first + columns]) for first in range(0, len(lines), columns))


def _align(grid: Sequence[Axes], columns: int, scale: Scale) -> None:
    """Gives all panels the same limits, with numbers beside the first of a row and below the last of a column.

    Axes that share their limits in matplotlib take time that grows with the square of their number.
    """
    _same_limits(grid, "x")
    if scale.shared:
        _same_limits(grid, "y")
    for place, axes in enumerate(grid):
        last = place >= len(grid) - columns  # nothing is below
        axes.tick_params(labelbottom=last, labelleft=not scale.shared or place % columns == 0)
        axes.set_xlabel(scale.x if place // columns == (len(grid) - 1) // columns else "")


def _same_limits(grid: Sequence[Axes], axis: str) -> None:
    ends = [end for axes in grid for end in getattr(axes, f"get_{axis}lim")()]
    for axes in grid:
        getattr(axes, f"set_{axis}lim")(min(ends), max(ends))


def _draw(axes: Axes, panel: Panel) -> None:
    lines = [replace(line, band=_thinned(line.band)) for line in panel.lines] if panel.title else panel.lines
    draw_lines(axes, lines, panel.factor, shaded=len(lines) <= MOST_SHADED)
    if panel.title:
        axes.set_title(panel.title)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def draw_lines(axes: Axes, lines: Sequence[Line], factor: float = 1.0, shaded: bool = True) -> None:
    """Lines with their bands; markers of lines that lie on each other are at different places."""
    for place, line in enumerate(lines):
        at = line.band
        if shaded and (at.high > at.low).any():
            axes.fill_between(at.x, factor * at.low, factor * at.high, color=line.colour, alpha=0.13, linewidth=0)
        every = max(1, len(at.x) // MARKS)
        axes.plot(
            at.x, factor * at.mean, color=line.colour, linestyle=line.dashes, marker=line.marker, markersize=3,
            markevery=(place * every // len(lines), every), markeredgewidth=0, label=line.label,
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.margins(x=0.01)
    axes.grid(axis="y", **GRID)
    axes.set_axisbelow(True)


def _thinned(band: Band) -> Band:
    """At most POINTS places, evenly spaced, the first and the last among them."""
    kept = evenly_spaced_places(len(band.x), POINTS)
    return Band(band.x[kept], band.mean[kept], band.low[kept], band.high[kept])


def _zoom(axes: Axes, panels: Sequence[Panel]) -> None:
    """Ends the axis a little beyond the means of these panels after a quarter of training."""
    bands = [(panel.factor, line.band) for panel in panels for line in panel.lines]
    late = np.concatenate([factor * band.mean[band.x >= band.x[-1] / 4] for factor, band in bands])
    low, high = float(late.min()), float(late.max())
    if math.isfinite(low) and math.isfinite(high) and high > low:
        axes.set_ylim(low - ROOM * (high - low), high + ROOM * (high - low))


def _handle(line: Line) -> Line2D:
    look: dict[str, Any] = {"color": line.colour, "linestyle": line.dashes, "marker": line.marker}
    return Line2D([], [], **look, markersize=3, markeredgewidth=0)


def in_grey(band: Band, label: str) -> Line:
    """A line to compare others with: only the mean, dashed."""
    return Line(label, GREY, Band(band.x, band.mean, band.mean, band.mean), DASHES[1])


def legend_depth(labels: Sequence[str], columns: int) -> float:
    """Height of the deepest column of the legend, in lines of text."""
    rows = -(-len(labels) // columns)
    depths = [1 + label.count("\n") + FOLDED * ("\n" in label) for label in labels]
    return max(sum(depths[first : first + rows]) for first in range(0, len(depths), rows))


def legend_columns(labels: Sequence[str], width: float = WIDTH) -> int:
    """As many columns as fit below axes of this width, and no more than fill evenly."""
    longest = max(len(line) for label in labels for line in label.split("\n"))
    most = max(1, int(width * 17 / (longest + 6)))
    rows = -(-len(labels) // most)
    return -(-len(labels) // rows)
