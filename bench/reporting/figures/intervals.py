"""Figures of estimates with their intervals, one per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.reporting.figures.rows import name_axis, rows_figure
from bench.reporting.figures.style import GREY, colour_of, paper_style


@dataclass(frozen=True)
class Span:
    """An estimate with its interval. colour: index, as of `Variant`. filled: whether the interval leaves out 0."""

    label: str
    colour: int
    value: float
    low: float
    high: float

    @property
    def filled(self) -> bool:
        return self.low > 0 or self.high < 0


def spans_figure(spans: Sequence[Span], axis: str) -> Figure | None:
    """A row for each span, the highest first: a dot, filled if its interval leaves out 0; None without spans."""
    if not spans:
        return None
    ordered = sorted(spans, key=lambda span: -span.value)
    with paper_style():
        figure, axes, places = rows_figure([span.label for span in ordered])
        axes.axvline(0, color=GREY, linewidth=0.8)
        for place, span in zip(places, ordered, strict=True):
            draw_span(axes, place, span)
        name_axis(figure, axis)
    return figure


def draw_span(axes: Axes, place: float, span: Span) -> None:
    """A line along the interval and a dot at the estimate, filled if the interval leaves out 0."""
    colour = colour_of(span.colour)
    axes.plot([span.low, span.high], [place, place], "-", color=colour, linewidth=1.4, solid_capstyle="butt")
    face = colour if span.filled else "white"
    axes.plot([span.value], [place], "o", color=colour, markerfacecolor=face, markersize=4.2)
