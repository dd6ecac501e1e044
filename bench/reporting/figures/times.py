"""Figures of time to target: steps of every seed of a problem, and the performance profile over problems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter, ScalarFormatter

from bench.reporting.comparison import Comparison
from bench.reporting.figures.lines import LEGEND_LINE, legend_columns, legend_depth
from bench.reporting.figures.rows import name_axis, rows_figure
from bench.reporting.figures.style import DASHES, GREY, GRID, WIDTH, colour_of, folded, paper_style
from bench.reporting.inference.targets import Reached
from bench.reporting.times import Times

WIDE = 8.0  # ratios up to this and beyond are on a logarithmic axis


def times_figure(comparison: Comparison, times: Times) -> Figure | None:
    """A row per method: a dot at the steps of each seed, a bar at the median, the fastest first; crosses: never."""
    rows = [(v, times.rows[v.key], times.median(v)) for v in comparison.shown if times.rows[v.key]]
    if not rows:
        return None
    longest = max(run.steps for v in comparison.variants for run in v.runs.values())
    never = 1.06 * longest
    rows.sort(key=lambda row: (row[2].steps if row[2] else math.inf, len(row[1])))
    with paper_style():
        figure, axes, places = rows_figure([variant.label for variant, _, _ in rows])
        for place, (variant, found, median) in zip(places, rows, strict=True):
            _draw_times(axes, place, colour_of(variant.colour), found, median, never)
        axes.axvline(1.03 * longest, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
        axes.set_xlim(0, 1.09 * longest)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        name_axis(figure, f"Steps until validation reaches what {times.reference.label} ends with\n(crosses: never)")
    return figure


def _draw_times(
    axes: Axes, place: float, colour: str, found: Mapping[int, Reached], median: Reached | None, never: float
) -> None:
    """Crosses of several seeds lie side by side, from top to bottom."""
    there = [one.steps for one in found.values() if math.isfinite(one.steps)]
    axes.plot(there, [place] * len(there), "o", color=colour, markersize=3.6, alpha=0.65, markeredgewidth=0)
    lacking = len(found) - len(there)
    offsets = np.linspace(-0.25, 0.25, lacking) if lacking > 1 else np.zeros(lacking)
    axes.plot([never] * lacking, place + offsets, "x", color=colour, markersize=2.6, markeredgewidth=0.8)
    if median is not None and math.isfinite(median.steps):
        axes.plot([median.steps], [place], "|", color=colour, markersize=11, markeredgewidth=1.6)


def profile_figure(ratios: Mapping[str, Sequence[float]], colours: Mapping[str, int]) -> Figure | None:
    """The performance profile: for each row, the share of problems on which its steps are within τ times the fewest.

    ratios: by row label, for each problem, its steps over the fewest of all rows; infinite if it never gets there.

    Source: Dolan, Moré, "Benchmarking optimization software with performance profiles" (2002).
    https://arxiv.org/abs/cs/0102001
    """
    finite = [ratio for values in ratios.values() for ratio in values if math.isfinite(ratio)]
    if not finite:
        return None
    last = 1.1 * max(1.5, *finite)
    with paper_style():
        names = [folded(label) for label in ratios]
        columns = legend_columns(names)
        figure = Figure(figsize=(WIDTH, 1.95 + LEGEND_LINE * legend_depth(names, columns)))
        axes = figure.subplots()
        for place, (label, values) in enumerate(ratios.items()):
            ordered = sorted(value for value in values if math.isfinite(value))
            at = [1.0, *ordered, last]
            shares = [sum(value <= x for value in ordered) / len(values) for x in at]
            style = DASHES[place % len(DASHES)]  # lines often coincide
            axes.step(at, shares, where="post", color=colour_of(colours[label]), linestyle=style, label=folded(label))
        if last >= WIDE:
            axes.set_xscale("log", base=2)
        axes.set_xlim(1, last)
        axes.set_ylim(-0.03, 1.03)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("Steps to target over the fewest of all rows, τ")
        axes.set_ylabel("Problems within τ")
        axes.grid(axis="y", **GRID)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=columns, handlelength=1.8, columnspacing=1.2)
    return figure
