"""Figures of differences: every row from EW, and every method from its frozen twin."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison
from bench.reporting.contrasts import Contrasts
from bench.reporting.figures.intervals import Span, spans_figure
from bench.reporting.inference.describe import Estimate
from bench.reporting.overall import overall_unit


def differences_figure(comparison: Comparison, contrasts: Contrasts) -> Figure | None:
    """A row for each method: its difference from EW with its interval; None without any."""
    spans = [
        _span(comparison, variant.label, variant.colour, contrasts.rows[variant.label].over_ew)
        for variant in comparison.variants
        if contrasts.rows[variant.label].over_ew is not None
    ]
    return spans_figure([span for span in spans if span is not None], f"Difference from EW {_unit(comparison)}")


def twins_figure(comparison: Comparison, contrasts: Contrasts) -> Figure | None:
    """A row for each method with a twin: how much better it is than its mean weights kept constant."""
    spans = [_span(comparison, pair.variant.label, pair.variant.colour, pair.difference) for pair in contrasts.twins]
    axis = f"Difference from the frozen twin {_unit(comparison)}"
    return spans_figure([span for span in spans if span is not None], axis)


def _span(comparison: Comparison, label: str, colour: int, found: Estimate | None) -> Span | None:
    if found is None:
        return None
    scale = 100 if overall_unit(comparison) == PERCENT else 1
    return Span(label, colour, scale * found.value, scale * found.low, scale * found.high)


def _unit(comparison: Comparison) -> str:
    if overall_unit(comparison) == PERCENT:
        return "(points of mean test accuracy)"
    return "(mean test log gain)" if comparison.selection == "gain" else "(overall test score)"
