"""The figure of cost against quality: a point for each row over the time and the memory of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.figures.lines import LEGEND_LINE, legend_columns, legend_depth
from bench.reporting.figures.points import draw_point
from bench.reporting.figures.style import GRID, WIDTH, colour_of, folded, paper_style
from bench.reporting.overall import overall_unit, score_matrix
from bench.reporting.statistics import mean
from bench.reporting.tables.cost import ADDED_MEMORY, SECONDS, WHOLE_PROCESS, Cost, adds

LOG_FROM = 8  # an axis whose largest number is so many times its smallest is logarithmic


# A cost of a run, and what its numbers are multiplied by.
Measure: TypeAlias = tuple[Cost, float]
STEP: dict[str, Measure] = {"Median step (ms)": (SECONDS, 1e3)}
MEMORY: dict[str, Measure] = {"Memory added by the run (MiB)": (ADDED_MEMORY, 1.0)}
PROCESS: dict[str, Measure] = {"Memory of the whole process (MiB)": (WHOLE_PROCESS, 1.0)}


def cost_figure(comparison: Comparison) -> Figure | None:
    """A panel for each cost that was measured; None without rows that have both costs and scores."""
    measures = STEP | (MEMORY if adds(comparison) else PROCESS)
    panels = {name: _points(comparison, *measure) for name, measure in measures.items()}
    panels = {name: points for name, points in panels.items() if points}
    if not panels:
        return None
    shown = {row.label: row for points in panels.values() for row, _, _ in points}
    labels = [folded(label) for label in shown]
    columns = legend_columns(labels, 2 * WIDTH)
    percent = overall_unit(comparison) == PERCENT
    with paper_style():
        figure = Figure(figsize=(2 * WIDTH, 2.1 + LEGEND_LINE * legend_depth(labels, columns)))
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (name, points) in zip(grid, panels.items(), strict=True):
            _draw(axes, points, list(shown), 100.0 if percent else 1.0)
            axes.set_xlabel(name)
        grid[0].set_ylabel(f"Overall test score{' (%)' if percent else ''}")
        handles = {line.get_label(): line for axes in grid for line in axes.lines}
        figure.legend(
            [handles[label] for label in shown], labels, loc="outside lower center", ncols=columns,
            handlelength=1.0, columnspacing=1.2,
        )  # fmt: skip
    return figure


def _points(comparison: Comparison, cost: Cost, factor: float) -> list[tuple[Variant, float, float]]:
    """Each row whose runs all have the cost and a score: the row, its mean cost, its mean score."""
    points = []
    for row in comparison.shown:
        costs = [cost.read(run) for run in row.scored.values()]
        known = [factor * value for value in costs if value]
        scores = score_matrix([row], tuple(row.scored))[0]
        if known and len(known) == len(costs) and np.isfinite(scores).all():
            points.append((row, mean(known), mean(scores.tolist())))
    return points


def _draw(axes: Axes, points: Sequence[tuple[Variant, float, float]], order: Sequence[str], factor: float) -> None:
    for row, cost, score in points:
        draw_point(axes, cost, factor * score, order.index(row.label), colour_of(row.colour), row.label)
    costs = [cost for _, cost, _ in points]
    if max(costs) >= LOG_FROM * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.margins(0.08)
    axes.grid(**GRID)
    axes.set_axisbelow(True)
