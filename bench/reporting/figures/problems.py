"""The figure over problems: the mean rank of each row, and its difference from EW on every problem."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.records.record import PERCENT
from bench.reporting.across import Across
from bench.reporting.figures.differences import span_of
from bench.reporting.figures.intervals import Span, draw_spans
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
        at = dict(zip(labels, places, strict=True))
        ranks = {label: Span(label, across.colours[label], of.value, of.low, of.high) for label, of in ranked.items()}
        draw_spans(panels[0], {at[label]: span for label, span in ranks.items()})
        panels[0].set_xlabel("Rank (1 is best)")
        for axes, problem in zip(panels[1:], across.problems, strict=True):
            _draw_problem(axes, across, problem, at)
        for axes in panels:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    return figure


def _draw_problem(axes: Axes, across: Across, problem: Analysis, at: Mapping[str, float]) -> None:
    """at: the height of each row."""
    axes.axvline(0, color=GREY, linewidth=0.8)
    spans = {}
    for label, place in at.items():
        row = across.row(problem, label)
        found = problem.contrasts.rows[row.label].over_ew if row else None
        if row is not None and found is not None:
            spans[place] = span_of(problem.comparison, row, found)
    draw_spans(axes, spans)
    unit = "points" if overall_unit(problem.comparison) == PERCENT else "log gain"
    axes.set_xlabel(f"Difference from EW\n({unit})")
