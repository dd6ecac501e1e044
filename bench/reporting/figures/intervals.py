"""Figures of estimates with their intervals, one per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.reporting.figures.rows import name_axis, rows_figure
from bench.reporting.figures.style import GREY, colour_of, paper_style

DOT = 4.2  # points, its diameter


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
        draw_spans(axes, dict(zip(places, ordered, strict=True)))
        name_axis(figure, axis)
    return figure


def draw_spans(axes: Axes, spans: Mapping[float, Span]) -> None:
    """At each height, a line along the interval and a dot at the estimate, filled if the interval leaves out 0."""
    colours = [colour_of(span.colour) for span in spans.values()]
    faces = [colour if span.filled else "white" for colour, span in zip(colours, spans.values(), strict=True)]
    lows, highs = [span.low for span in spans.values()], [span.high for span in spans.values()]
    axes.hlines(list(spans), lows, highs, colors=colours, linewidth=1.4, capstyle="butt")
    values = [span.value for span in spans.values()]
    axes.scatter(values, list(spans), s=DOT**2, c=faces, edgecolors=colours, linewidths=1.0, zorder=3)
