"""The figure over problems: the mean rank of each row, and its difference from EW on every problem."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.records.record import PERCENT
from bench.reporting.across import Across
from bench.reporting.figures.differences import span_of
from bench.reporting.figures.intervals import Span, draw_span
from bench.reporting.figures.rows import panels_figure
from bench.reporting.figures.style import GREY, paper_style
from bench.reporting.overall import overall_unit
from bench.reporting.sections import Analysis

COLUMNS = 4  # panels side by side


def problems_figure(across: Across) -> Figure | None:
    """A line for each row, the best rank first; None if no row is ranked."""
    shown = across.shown
    ranked = {label: found for label in shown if (found := across.ranks[label].rank) is not None}
    if not ranked:
        return None
    labels = sorted(ranked, key=lambda label: ranked[label].value)
    labels += [label for label in shown if label not in ranked]
    titles = ["Mean rank", *(one.comparison.problem for one in across.problems)]
    with paper_style():
        figure, panels, places = panels_figure(labels, titles, COLUMNS)
        for place, label in zip(places, labels, strict=True):
            if label in ranked:
                found = ranked[label]
                draw_span(panels[0], place, Span(label, across.colours[label], found.value, found.low, found.high))
        panels[0].set_xlabel("Rank (1 is best)")
        for axes, problem in zip(panels[1:], across.problems, strict=True):
            _draw_problem(axes, across, problem, labels, places)
        for axes in panels:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    return figure


def _draw_problem(
    axes: Axes, across: Across, problem: Analysis, labels: Sequence[str], places: Sequence[float]
) -> None:
    axes.axvline(0, color=GREY, linewidth=0.8)
    for place, label in zip(places, labels, strict=True):
        row = across.row(problem, label)
        found = problem.contrasts.rows[row.label].over_ew if row else None
        if row is not None and found is not None:
            draw_span(axes, place, span_of(problem.comparison, row, found))
    unit = "points" if overall_unit(problem.comparison) == PERCENT else "log gain"
    axes.set_xlabel(f"Difference from EW\n({unit})")
