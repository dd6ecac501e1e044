"""The figure of scores: a dot per seed, a bar at the mean, and the dummy baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.figures.rows import name_axis, rows_figure
from bench.reporting.figures.style import GREY, colour_of, metric_name, paper_style
from bench.reporting.statistics import mean
from bench.reporting.tables.score_columns import ScoreColumn, finite, headline
from bench.reporting.tables.score_rows import DUMMY_BASELINE, show


def scores_figure(comparison: Comparison) -> Figure | None:
    """A row of dots per method, one dot per seed, a bar at the mean, the best first; None if no run is done."""
    column = headline(comparison)
    scale = 100 if column.unit == PERCENT else 1
    rows = [(v, finite(column.values({s: r.test for s, r in v.scored.items()}))) for v in comparison.shown]
    if not any(values for _, values in rows):
        return None
    sign = 1.0 if column.direction == "higher" else -1.0
    rows.sort(key=lambda row: -sign * mean(row[1].values()) if row[1] else math.inf)
    with paper_style():
        figure, axes, places = rows_figure([variant.label for variant, _ in rows])
        for place, (variant, values) in zip(places, rows, strict=True):
            _draw_row(axes, place, variant, [scale * value for value in values.values()])
        remark = _draw_dummy(axes, comparison, column, scale)
        text = "\n".join(filter(None, (_axis_label(comparison), remark)))
        name_axis(figure, text, parse_math=comparison.selection == "gain")
    return figure


def _draw_row(axes: Axes, place: float, variant: Variant, dots: Sequence[float]) -> None:
    """The bar at the mean only if every finished seed has a dot."""
    colour = colour_of(variant.colour)
    axes.plot(dots, [place] * len(dots), "o", color=colour, markersize=3.6, alpha=0.65, markeredgewidth=0)
    if dots and len(dots) == len(variant.scored):
        axes.plot([mean(dots)], [place], "|", color=colour, markersize=11, markeredgewidth=1.6)


def _draw_dummy(axes: Axes, comparison: Comparison, column: ScoreColumn, scale: float) -> str:
    """The dummy baseline as a dashed line if it is near the dots; returns a remark that gives its value."""
    values = finite(column.values(comparison.dummies))
    if not values:
        return ""
    value = scale * mean(values.values())
    low, high = axes.get_xlim()
    near = (high - low) / 2
    if low - near <= value <= high + near:
        axes.axvline(value, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
        where = "dashed line"
    else:
        where = f"off scale to the {'left' if value < low else 'right'}"
    return f"{DUMMY_BASELINE}: {show(value / scale, column.unit)} ({where})".replace("-", "−")


def _axis_label(comparison: Comparison) -> str:
    if comparison.selection == "gain":
        return r"$\Delta_b$ on test (%)"
    metric = comparison.tasks[0].metrics[0]
    return f"Average test {metric_name(metric)}"
