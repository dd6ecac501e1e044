"""Figures of estimates with their intervals, one per row: differences between methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from bench.reporting.figures.style import STYLE, WIDTH, colour_of, folded, paper_style

EXTRA_LINE = 0.7  # height of each extra line of a row's label, in rows


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
    """A row for each span: a dot at the estimate, filled if its interval leaves out 0; None without spans."""
    if not spans:
        return None
    with paper_style():
        labels = [folded(span.label) for span in spans]
        heights = [1 + EXTRA_LINE * label.count("\n") for label in labels]
        places = [sum(heights[:row]) + heights[row] / 2 for row in range(len(spans))]
        figure = Figure(figsize=(WIDTH, 0.75 + 0.2 * sum(heights)))
        axes = figure.subplots()
        axes.axvline(0, color="#777777", linewidth=0.8)
        for place, span in zip(places, spans, strict=True):
            colour = colour_of(span.colour)
            axes.plot([span.low, span.high], [place, place], "-", color=colour, linewidth=1.4, solid_capstyle="butt")
            face = colour if span.filled else "white"
            axes.plot([span.value], [place], "o", color=colour, markerfacecolor=face, markersize=4.2)
        axes.set_yticks(places, labels)
        axes.set_ylim(sum(heights), 0)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        # Below the whole figure: with long names, the axis is too short for it.
        figure.supxlabel(axis, fontsize=STYLE["axes.labelsize"])
    return figure
