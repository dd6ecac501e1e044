"""The figure of the front of scalarisations: a panel for each pair of tasks."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.records.plain_text import one_line
from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison
from bench.reporting.figures.points import draw_point
from bench.reporting.figures.style import GREY, WIDTH, colour_of, metric_name, paper_style
from bench.reporting.front import Front, non_dominated

COLUMNS = 3


def front_figure(comparison: Comparison, front: Front) -> Figure | None:
    """Test scores of all rows, the fixed weights that no other dominates joined; None without pairs to show.

    The front is that of all fixed weights, whatever is shown.
    """
    methods = [point for point in front.methods if point.row.label not in comparison.hidden]
    if not front.pairs or not methods:
        return None
    columns = min(COLUMNS, len(front.pairs))
    lines = math.ceil(len(front.pairs) / columns)
    legend_lines = math.ceil((len(methods) + 2) / 4)
    with paper_style():
        figure = Figure(figsize=(max(WIDTH, 2.35 * columns), 2.2 * lines + 0.17 * legend_lines + 0.1))
        panels = figure.subplots(lines, columns, squeeze=False).flatten()
        for axes, pair in zip(panels, front.pairs, strict=False):
            _draw(axes, comparison, front, pair)
        for axes in panels[len(front.pairs) :]:
            axes.remove()
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _draw(axes: Axes, comparison: Comparison, front: Front, pair: tuple[int, int]) -> None:
    """One panel: x the first task of the pair, y the second."""
    percent = comparison.selection == "accuracy" and front.tasks[0].metrics[0].unit == PERCENT
    scale = 100 if percent else 1
    fixed = [[scale * point.scores[task] for task in pair] for point in front.fixed]
    best = [fixed[place] for place in non_dominated(fixed)]
    shown = [at for at, point in zip(fixed, front.fixed, strict=True) if point.row.label not in comparison.hidden]
    if shown:
        axes.plot(*zip(*shown, strict=True), ".", color=GREY, markersize=5, label="Fixed weights", zorder=1)
    axes.plot(*zip(*best, strict=True), "-", color=GREY, linewidth=0.9, label="Their front", zorder=1)
    for place, point in enumerate(front.methods):
        if point.row.label in comparison.hidden:
            continue
        x, y = (scale * point.scores[task] for task in pair)
        draw_point(axes, x, y, place, colour_of(point.row.colour), one_line(point.row.label))
    what = metric_name(front.tasks[0].metrics[0]) if comparison.selection == "accuracy" else "log gain"
    axes.set_xlabel(f"{one_line(front.tasks[pair[0]].label)}, {what}")
    axes.set_ylabel(f"{one_line(front.tasks[pair[1]].label)}, {what}")
    axes.margins(0.12)
