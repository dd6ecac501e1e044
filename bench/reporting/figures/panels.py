"""A figure of several panels of task positions, which can be told apart without colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from bench.reporting.figures.lines import LEGEND_LINE, Line, draw_lines, legend_columns, legend_depth, marked
from bench.reporting.figures.style import DASHES, WIDTH, colour_of, folded, paper_style
from bench.reporting.series import Band

PER_ROW = 2
BELOW_AXES = 27.0  # points, of an axis with numbers and a label


@dataclass(frozen=True)
class Panel:
    """One panel.

    lines: label and positions over steps of each task; if there are none, the panel has the text `empty` instead.
    """

    title: str
    lines: tuple[tuple[str, Band], ...]
    empty: str = ""


def panels_figure(panels: Sequence[Panel]) -> Figure:
    """Two panels a row, each with a legend of its own below."""
    with paper_style():
        rows = [panels[place : place + PER_ROW] for place in range(0, len(panels), PER_ROW)]
        heights = [1.75 + max(_legend_height(panel) for panel in row) for row in rows]
        figure = Figure(figsize=(2 * WIDTH + 0.2, sum(heights)))
        grid = figure.subplots(len(rows), PER_ROW, squeeze=False, height_ratios=heights)
        for place, axes in enumerate(grid.flat):
            if place < len(panels):
                _draw(axes, panels[place])
            else:
                axes.set_axis_off()
    return figure


def _legend_height(panel: Panel) -> float:
    """Inches, of a legend below the axes."""
    labels = [folded(label) for label, _ in panel.lines]
    return LEGEND_LINE * legend_depth(labels, legend_columns(labels)) if labels else 0.0


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize="medium")
    axes.set_xlabel("Training step")
    axes.set_ylabel("Task position")
    if not panel.lines:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.5, panel.empty, transform=axes.transAxes, ha="center", va="center", color="#555555")
        return
    lines = [
        Line(folded(label), colour_of(place), found, DASHES[place % len(DASHES)], marked(place))
        for place, (label, found) in enumerate(panel.lines)
    ]
    draw_lines(axes, lines)
    _draw_legend(axes)


def _draw_legend(axes: Axes) -> None:
    """Below the label of the axis, whatever the height of the panel."""
    figure = axes.get_figure(root=True)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=legend_columns(labels),
        bbox_transform=offset_copy(axes.transAxes, figure, y=-BELOW_AXES, units="points"), handlelength=3.0,
        columnspacing=1.2, borderaxespad=0.0,
    )  # fmt: skip
